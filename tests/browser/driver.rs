//! As much of the WebDriver protocol as the browser test needs: JSON over HTTP, to a chromedriver of its own.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::dashboard::client::Address;

/// No state of the page takes a tenth of it, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(90);

/// What WebDriver calls the reference to an element.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";

/// A headless browser with one window; it ends with this value.
pub struct Browser {
    driver: Child,
    address: Address,
    session: String,
}

impl Browser {
    /// Starts one; nothing if there is no chromedriver on this machine.
    pub fn start() -> Option<Self> {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut lines = BufReader::new(driver.stdout.take().unwrap());
        let port: u16 = loop {
            let mut line = String::new();
            assert!(lines.read_line(&mut line).unwrap() > 0, "chromedriver ended");
            if let Some((_, port)) = line.trim_end().trim_end_matches('.').split_once("successfully on port ")
            {
                break port.parse().unwrap();
            }
        };
        // Whatever else it says must not fill its pipe.
        std::thread::spawn(move || lines.read_to_string(&mut String::new()));
        let address = Address::from(SocketAddr::from(([127, 0, 0, 1], port)));
        let options = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--no-first-run",
            "--window-size=1280,1000",
        ];
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": { "args": options },
            "goog:loggingPrefs": { "browser": "ALL", "performance": "ALL" },
        } } });
        let mut browser = Self { driver, address, session: String::new() };
        let answer = browser.post("/session", &capabilities);
        browser.session = format!("/session/{}", answer["sessionId"].as_str().unwrap());
        Some(browser)
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let answer = self.address.post(path, body.to_string().as_bytes());
        let value: Value =
            serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{}", answer.text()));
        assert_eq!(answer.status, 200, "{path} {body}: {value}");
        value["value"].clone()
    }

    fn command(&self, name: &str, body: &Value) -> Value {
        self.post(&format!("{}/{name}", self.session), body)
    }

    pub fn open(&self, url: &str) {
        self.command("url", &json!({ "url": url }));
    }

    /// What a script returns.
    pub fn run(&self, script: &str) -> Value {
        self.command("execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Waits until an expression is true.
    pub fn wait_for(&self, expression: &str) {
        let end = Instant::now() + PATIENCE;
        while self.run(&format!("return Boolean({expression});")) != true {
            assert!(
                Instant::now() < end,
                "{expression} is not so after {PATIENCE:?}; the page says: {}",
                self.run("return document.body.innerText.slice(0, 3000);")
            );
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    /// Draws a line over an element with a `mouse` or by `touch`, through points of its own, from its middle.
    pub fn drag(&self, pointer: &str, selector: &str, points: &[(i32, i32)]) {
        let found = self.command("element", &json!({ "using": "css selector", "value": selector }));
        let origin = json!({ ELEMENT: found[ELEMENT] });
        let move_to = |(x, y): (i32, i32)| json!({ "type": "pointerMove", "duration": 20, "x": x, "y": y, "origin": origin });
        let mut actions = vec![move_to(points[0]), json!({ "type": "pointerDown", "button": 0 })];
        actions.extend(points[1..].iter().map(|point| move_to(*point)));
        actions.push(json!({ "type": "pointerUp", "button": 0 }));
        let pointer = json!({ "type": "pointer", "id": pointer, "parameters": { "pointerType": pointer }, "actions": actions });
        self.command("actions", &json!({ "actions": [pointer] }));
    }

    /// Presses keys one after the other.
    pub fn keys(&self, keys: &[&str]) {
        let actions: Vec<Value> = keys
            .iter()
            .flat_map(|key| {
                [json!({ "type": "keyDown", "value": key }), json!({ "type": "keyUp", "value": key })]
            })
            .collect();
        self.command(
            "actions",
            &json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": actions }] }),
        );
    }

    /// What the browser has logged: `browser` (its console) or `performance` (requests among others).
    pub fn log(&self, kind: &str) -> Vec<Value> {
        let entries = self.command("se/log", &json!({ "type": kind }));
        entries.as_array().unwrap().clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() {
            let path = self.session.clone();
            self.address.delete(&path);
        }
        // It may have ended.
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

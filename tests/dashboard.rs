//! The dashboard over plain HTTP: what it serves, that it ends with the run, and that no page harms a run.

pub mod client;

use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{
    END_BY_SIGNAL, PATIENT, Running, SMALL, coordinator, kill_with_checkpoints, run_small, start, wait_until,
};
use client::{Address, Answer, Events, request};

/// Long enough to look at: some thousand steps.
const EPOCHS: [&str; 2] = ["--epochs", "150"];

/// A run that goes on until it is told to end.
const ENDLESS: [&str; 2] = ["--epochs", "100000"];

fn start_with(folder: &Path, arguments: &[&str]) -> (Running, Address) {
    let mut command = coordinator(folder);
    command.args(["--json", "--run-dir", "run"]).args(arguments).args(&SMALL[..6]);
    let mut run = start(&mut command);
    let address = dashboard_of(&mut run);
    (run, address)
}

/// The address of the page that `run` serves.
pub fn dashboard_of(run: &mut Running) -> Address {
    let address =
        |line: &str| line.strip_prefix("dashboard http://")?.strip_suffix('/')?.parse::<SocketAddr>().ok();
    run.wait_for(address).into()
}

#[test]
fn the_page_is_served_with_a_policy_that_lets_nothing_else_in() {
    let folder = tempfile::tempdir().unwrap();
    let (mut run, address) = start_with(folder.path(), &ENDLESS);
    run.wait_for_line("epoch      1/100000");
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/dashboard.css", "text/css; charset=utf-8"),
        ("/dashboard.js", "text/javascript; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
        ("/api/filters", "application/json"),
        ("/files/config.toml", "text/plain; charset=utf-8"),
    ] {
        let answer = address.get(path);
        assert_eq!((answer.status, answer.header("content-type")), (200, content_type), "{path}");
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'self';") && !policy.contains("unsafe"), "{path}: {policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
    }
    let nothing = address.get("/nothing");
    assert_eq!(nothing.status, 404);
    assert!(nothing.header("content-security-policy").starts_with("default-src 'self'"));
    // A page elsewhere may have its own name point here.
    let foreign =
        request(address, "GET / HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n".as_bytes());
    assert_eq!(foreign.status, 421);
}

#[test]
fn events_tell_the_run_and_end_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let (run, address) = start_with(folder.path(), &[EPOCHS[0], EPOCHS[1], "--stay"]);
    let mut page = Events::open(address);
    let mut events: Vec<Value> = Vec::new();
    let told = |events: &[Value]| {
        events.iter().any(|event| event["ended"].is_object())
            && events.iter().any(|event| event["predictions"]["step"] == 2100)
    };
    while !told(&events) {
        events.push(page.next().unwrap());
    }
    run.signal(Signal::INT);
    events.extend(page);
    let finished = run.finish().done();
    let summary = finished.summary();
    let facts = events.iter().find_map(|event| event["facts"].as_object()).unwrap();
    assert_eq!((&facts["steps"], &facts["epochs"]), (&2100.into(), &150.into()));
    assert_eq!(facts["run_id"], summary["run_id"]);
    let last = events.last().unwrap();
    assert_eq!((&last["progress"]["step"], &last["progress"]["epoch"]), (&2100.into(), &150.into()));
    assert_eq!((&last["ended"]["how"], &last["stays"]), (&"done".into(), &true.into()), "{last}");
    assert_eq!(events.iter().filter(|event| event["ended"].is_object()).count(), 1);
    // At the end the rate is that of the whole run, as the summary has it, and not of its last moment.
    let [shown, meant] = [&last["progress"], &summary].map(|of| of["examples_per_second"].as_f64().unwrap());
    assert!((shown - meant).abs() <= meant * 1e-6, "{shown} and {meant}");

    // A page that follows has every step in its points, once.
    let mut points = Vec::new();
    for curve in events.iter().filter_map(|event| event["curve"].as_object()) {
        if curve["replace"] == true {
            points.clear();
        }
        let width = curve["width"].as_u64().unwrap();
        points.extend(curve["points"].as_array().unwrap().iter().map(|point| (point[0].clone(), width)));
    }
    assert!((1000..2100).contains(&points.len()), "{}", points.len());
    assert!(points.iter().enumerate().all(|(index, (step, width))| *step == (index as u64 + 1) * width));
    let epochs = events.iter().rev().find_map(|event| event["epochs"].as_array()).unwrap();
    assert_eq!(epochs.len(), 150);
    assert_eq!(epochs[149]["weights_digest"], summary["weights_digest"]);
    let test = events.iter().rev().find_map(|event| event["test"].as_object()).unwrap();
    assert_eq!(test["accuracy"].to_string(), summary["test_accuracy"].to_string());
    let workers = events.iter().rev().find_map(|event| event["workers"]["workers"].as_array()).unwrap();
    let names: Vec<&str> = workers.iter().map(|worker| worker["name"].as_str().unwrap()).collect();
    assert_eq!(workers.len(), 4, "{names:?}");
    assert!(names.contains(&"local-3"));
    assert!(workers.iter().all(|worker| worker["examples"].as_u64().unwrap() > 0), "{workers:?}");
    let joined = events.iter().filter_map(|event| event["events"].as_array()).flatten();
    assert!(joined.filter(|event| event["kind"] == "worker_joined").count() >= 4);
    // The last predictions are those of the last weights.
    let predictions = events.iter().rev().find_map(|event| event["predictions"].as_object()).unwrap();
    assert_eq!((&predictions["step"], &predictions["examples"]), (&2100.into(), &1000.into()));
    assert_eq!(predictions["shown"].as_array().unwrap().len(), 100);
}

#[test]
fn a_worker_that_dies_is_marked_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [&ENDLESS[..], &["--max-restarts", "0"]].concat();
    let (mut run, address) = start_with(folder.path(), &arguments);
    let workers = run.wait_for_workers(4);
    run.wait_for_line("epoch      1/100000");
    let mut page = Events::open(address);
    page.find(|event| event["workers"]["workers"].as_array().is_some_and(|workers| workers.len() == 4))
        .unwrap();
    crate::harness::send_signal(workers[1], Signal::KILL);
    let end = Instant::now() + Duration::from_secs(60);
    let gone = page.take_while(|_| Instant::now() < end).find_map(|event| {
        let workers = event["workers"]["workers"].as_array()?;
        workers.iter().find(|worker| worker["state"] == "gone").cloned()
    });
    let gone = gone.unwrap();
    assert_eq!(gone["pid"], workers[1]);
    assert!(!gone["reason"].as_str().unwrap().is_empty(), "{gone}");
}

#[test]
fn only_the_known_files_of_the_run_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let (mut run, address) = start_with(folder.path(), &ENDLESS);
    // The first epoch is written before the line of the second.
    run.wait_for_line("epoch      2/100000");
    let config = std::fs::read_to_string(folder.path().join("run/config.toml")).unwrap();
    assert_eq!(address.get("/files/config.toml").text(), config);
    let metrics = address.get("/files/metrics.jsonl").text();
    assert!(metrics.starts_with("{\"kind\":\"header\"") && metrics.contains("\"kind\":\"epoch\""));
    assert_eq!(address.get("/files/logs/local-1.log").status, 200);
    assert_eq!(address.get("/files/summary.json").status, 404, "it is not there yet");

    std::fs::write(folder.path().join("secret"), "SECRET").unwrap();
    std::fs::write(folder.path().join("run/token"), "SECRET").unwrap();
    std::fs::write(folder.path().join("run/logs/other.log"), "SECRET").unwrap();
    let secret = folder.path().join("secret");
    let absolute = format!("/files/{}", secret.display());
    let encoded = format!("/files/{}", secret.to_str().unwrap().replace('/', "%2f"));
    for path in [
        "/files/token",
        "/files/lock",
        "/files/logs/other.log",
        "/files/logs/local-5.log",
        "/files/logs/../token",
        "/files/../secret",
        "/files/%2e%2e/secret",
        "/files/..%2fsecret",
        "/files/%2e%2e%2fsecret",
        "/files/logs/..%2f..%2fsecret",
        "/files//etc/passwd",
        "/files/config.toml%00",
        "/files/",
        "/files",
        "/../secret",
        &absolute,
        &encoded,
    ] {
        let answer = address.get(path);
        assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.status);
        assert!(!answer.text().contains("SECRET"), "{path}");
    }
}

#[test]
fn pages_that_stall_or_vanish_or_read_change_neither_the_end_nor_a_bit() {
    let quiet = run_small(&["--no-dashboard", EPOCHS[0], EPOCHS[1]]).0.done();
    assert!(!quiet.stderr.contains("dashboard"), "{quiet}");
    let folder = tempfile::tempdir().unwrap();
    let (run, address) = start_with(folder.path(), &EPOCHS);
    // These never read, or say only half of what they want.
    let stalled: Vec<_> =
        (0..3).map(|_| address.send(b"GET /api/stream HTTP/1.1\r\nhost: localhost\r\n\r\n")).collect();
    let halves: Vec<_> = (0..3).map(|_| address.send(b"GET / HTTP/1.1\r\nho")).collect();
    drop(address.send(b"GET /api/stream HTTP/1.1\r\nhost: localhost\r\n\r\n"));
    let readers: Vec<_> = (0..3)
        .map(|_| {
            std::thread::spawn(move || {
                let mut looks = 0;
                for event in Events::open(address) {
                    // Looks into the network while it is trained.
                    if event["ended"].is_null()
                        && address.try_get("/api/look/7").is_some_and(|answer| answer.status == 200)
                    {
                        looks += 1;
                    }
                }
                looks
            })
        })
        .collect();
    let finished = run.finish().done();
    let looks: usize = readers.into_iter().map(|reader| reader.join().unwrap()).sum();
    assert!(looks > 0, "{finished}");
    assert_eq!(finished.digest(), quiet.digest(), "{finished}");
    drop((stalled, halves));
}

#[test]
fn a_page_too_many_is_refused_until_another_one_goes() {
    let folder = tempfile::tempdir().unwrap();
    let (_run, address) = start_with(folder.path(), &ENDLESS);
    let mut pages: Vec<Events> = (0..16).map(|_| Events::open(address)).collect();
    pages.iter_mut().for_each(|page| drop(page.next().unwrap()));
    let refused = address.get("/api/stream");
    assert_eq!(refused.status, 503);
    assert_eq!(refused.text(), "16 pages look at this run already, and it takes no more; close one\n");
    assert_eq!(address.get("/").status, 200);
    pages.pop();
    wait_until(|| Events::try_open(address).is_some());
}

#[test]
fn a_connection_too_many_is_refused_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let (_run, address) = start_with(folder.path(), &ENDLESS);
    let mut idle: Vec<_> = (0..64).map(|_| address.send(b"GET / HTTP/1.1\r\nho")).collect();
    let refused = address.get("/");
    assert_eq!(refused.status, 503);
    assert_eq!(refused.text(), "the dashboard has 64 connections, and takes no more; close some pages\n");
    // Whoever watches over the run has no part in that.
    assert_eq!(address.get("/healthz").text(), "ok\n");
    assert!(address.get("/metrics").text().contains("\nlockstep_"));
    idle.pop();
    wait_until(|| address.get("/").status == 200);
}

/// Asks for the page by the name of `host`.
fn by_name(address: Address, host: &str) -> Answer {
    request(address, format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").as_bytes())
}

#[test]
fn where_other_machines_reach_it_its_own_names_are_answered_and_those_vouched_for() {
    let folder = tempfile::tempdir().unwrap();
    let mine =
        ["--dashboard-host", "lockstep.example.org,other.example.org", "--dashboard-host", "third.example"];
    let arguments = [&ENDLESS[..], &["--dashboard", "0.0.0.0:0", "--insecure"], &mine].concat();
    let (_run, address) = start_with(folder.path(), &arguments);
    let machine = rustix::system::uname().nodename().to_str().unwrap().to_string();
    for (host, status) in [
        ("127.0.0.1:1", 200),
        ("[::1]", 200),
        ("localhost", 200),
        ("coordinator:1", 200),
        ("lockstep.default.svc.cluster.local", 200),
        (&*machine, 200),
        ("lockstep.example.org", 200),
        ("other.example.org:443", 200),
        ("third.example", 200),
        ("evil.example", 421),
        ("localhost.evil.example:1", 421),
        ("127.0.0.1.evil.example", 421),
    ] {
        assert_eq!(by_name(address, host).status, status, "{host}");
    }
    let told = Events::open(address).find(|told| told["facts"]["configuration"].is_array()).unwrap();
    let configuration = told["facts"]["configuration"].to_string();
    assert!(
        configuration.contains("third.example"),
        "it is kept for a process that resumes: {configuration}"
    );
}

#[test]
fn on_loopback_a_name_is_answered_that_the_operator_vouches_for() {
    let (finished, folder) = run_small(&["--max-steps", "1", "--no-dashboard"]);
    finished.done();
    let (_show, address) = show(folder.path(), &["--dashboard-host", "lockstep.example.org"]);
    assert_eq!(by_name(address, "lockstep.example.org").status, 200);
    let refused = by_name(address, "gpu-1.example.org:8080");
    assert_eq!(refused.status, 421);
    assert_eq!(
        refused.text(),
        "this server answers to localhost and to addresses, and not to gpu-1.example.org; if the name is yours, start \
         the coordinator with --dashboard-host gpu-1.example.org\n"
    );
    let slip =
        start(coordinator(folder.path()).args(["show", "run", "--dashboard-host", "http://a/"])).finish();
    assert_eq!(slip.code(), Some(2), "{slip}");
    assert!(slip.stderr.contains("'http://a/' is no name of a host"), "{slip}");
}

/// What balancers and monitors ask with: they send no host, ask for less than the whole, and speak HTTP/1.0.
#[test]
fn every_route_answers_whoever_watches_over_it() {
    let folder = tempfile::tempdir().unwrap();
    let (mut run, address) = start_with(folder.path(), &ENDLESS);
    run.wait_for_line("epoch      1/100000");
    for (path, methods) in [
        ("/", "GET,HEAD,OPTIONS"),
        ("/dashboard.css", "GET,HEAD,OPTIONS"),
        ("/dashboard.js", "GET,HEAD,OPTIONS"),
        ("/icon.svg", "GET,HEAD,OPTIONS"),
        ("/api/stream", "GET,HEAD,OPTIONS"),
        ("/api/look", "POST,OPTIONS"),
        ("/api/look/3", "GET,HEAD,OPTIONS"),
        ("/api/filters", "GET,HEAD,OPTIONS"),
        ("/api/digits", "GET,HEAD,OPTIONS"),
        ("/files/config.toml", "GET,HEAD,OPTIONS"),
        ("/metrics", "GET,HEAD,OPTIONS"),
        ("/healthz", "GET,HEAD,OPTIONS"),
        ("/readyz", "GET,HEAD,OPTIONS"),
        ("/version", "GET,HEAD,OPTIONS"),
    ] {
        for (version, host) in
            [("1.0", ""), ("1.0", "host: localhost\r\n"), ("1.1", ""), ("1.1", "host: localhost\r\n")]
        {
            let ask = |method: &str| {
                let text = format!("{method} {path} HTTP/{version}\r\n{host}connection: close\r\n\r\n");
                whole_answer(address, text.as_bytes())
            };
            let case = format!("{path}, HTTP/{version}, {host:?}");
            let options = ask("OPTIONS");
            assert!(options.starts_with(" 204 "), "{case}: {options}");
            assert!(options.contains(&format!("\r\nallow: {methods}\r\n")), "{case}: {options}");
            assert!(options.ends_with("\r\n\r\n"), "{case}: {options}");
            let head = ask("HEAD");
            let status = if methods.contains("HEAD") { " 200 " } else { " 405 " };
            assert!(head.starts_with(status) && head.ends_with("\r\n\r\n"), "{case}: {head}");
            if methods.contains("GET") && path != "/api/stream" {
                assert!(ask("GET").starts_with(" 200 "), "{case}");
            }
        }
    }
    let of_all = whole_answer(address, b"OPTIONS * HTTP/1.0\r\n\r\n");
    assert!(of_all.starts_with(" 204 "), "{of_all}");
    // A page of another name still hears nothing, whatever it asks with.
    let foreign = whole_answer(address, b"OPTIONS /healthz HTTP/1.0\r\nhost: evil.example\r\n\r\n");
    assert!(foreign.starts_with(" 421 "), "{foreign}");
}

/// All that comes back on a connection that the server ends, behind the version.
fn whole_answer(address: Address, ask: &[u8]) -> String {
    let mut answer = Vec::new();
    address.send(ask).read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (version, rest) = answer.split_at("HTTP/1.x".len());
    assert!(version.starts_with("HTTP/1."), "{answer}");
    rest.to_string()
}

#[test]
fn nobody_between_keeps_the_stream_of_events() {
    let (finished, folder) = run_small(&["--max-steps", "1", "--no-dashboard"]);
    finished.done();
    let (_show, address) = show(folder.path(), &[]);
    // As a proxy asks that speaks HTTP/1.0 to its servers.
    let mut stream = BufReader::new(address.send(b"GET /api/stream HTTP/1.0\r\nhost: 127.0.0.1\r\n\r\n"));
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(stream.read_line(&mut head).unwrap() > 0, "{head}");
    }
    for header in
        ["x-accel-buffering: no", "cache-control: no-store, no-transform", "content-type: text/event-stream"]
    {
        assert!(head.contains(&format!("\r\n{header}\r\n")), "{header} in {head}");
    }
    assert!(!head.contains("transfer-encoding"), "{head}");
    let mut first = String::new();
    stream.read_line(&mut first).unwrap();
    assert!(first.starts_with("data: {"), "{first}");
}

#[test]
fn an_address_in_use_is_one_clear_line_and_leaves_nothing() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut command = coordinator(folder.path());
    command.args(["--run-dir", "run", "--dashboard", &address.to_string()]).args(SMALL);
    let finished = start(&mut command).finish();
    assert_eq!(finished.code(), Some(1), "{finished}");
    assert_eq!(
        finished.stderr,
        format!(
            "error: cannot serve the dashboard on {address}: Address already in use (os error 98); choose another \
             address with --dashboard (port 0 takes a free one)\n"
        )
    );
    assert!(!folder.path().join("run").exists());
}

#[test]
fn a_signal_ends_the_run_in_time_whoever_looks() {
    let folder = tempfile::tempdir().unwrap();
    let (mut run, address) = start_with(folder.path(), &ENDLESS);
    run.wait_for_line("epoch      1/100000");
    let _stalled = address.send(b"GET /api/stream HTTP/1.1\r\nhost: localhost\r\n\r\n");
    // The server waits for this drawing, and would for longer than the run has to end.
    let _half = address.send(b"POST /api/look HTTP/1.1\r\nhost: localhost\r\ncontent-length: 784\r\n\r\n");
    let mut page = Events::open(address);
    page.next().unwrap();
    let begin = Instant::now();
    run.signal(Signal::TERM);
    let finished = run.finish();
    assert!(begin.elapsed() < END_BY_SIGNAL, "{finished}");
    assert_eq!(finished.code(), Some(143), "{finished}");
    let last = page.last().unwrap();
    assert_eq!(last["ended"]["how"], "ended: the operator sent SIGTERM", "{last}");
    assert_eq!(last["stays"], false, "{last}");
}

#[test]
fn a_drawing_is_looked_at_layer_by_layer() {
    let folder = tempfile::tempdir().unwrap();
    let (_run, address) = start_with(folder.path(), &ENDLESS);
    let mut events = Events::open(address);
    events.find(|event| event["progress"]["step"].as_u64().is_some_and(|step| step > 0)).unwrap();
    let mut drawing = vec![0; 140 * 140];
    (20..120).for_each(|y| drawing[y * 140 + 65..y * 140 + 75].fill(255));
    let answer = address.post("/api/look", &drawing);
    assert_eq!(answer.status, 200, "{}", answer.text());
    let end = answer.body.iter().position(|byte| *byte == b'\n').unwrap();
    let head: Value = serde_json::from_slice(&answer.body[..end]).unwrap();
    let probabilities: f64 =
        head["probabilities"].as_array().unwrap().iter().map(|share| share.as_f64().unwrap()).sum();
    assert!((probabilities - 1.0).abs() < 1e-5, "{head}");
    // 784 of the input, and all that the layers hold.
    assert_eq!(answer.body.len() - end - 1, 784 + 10_816 + 2_704 + 3_872 + 800 + 288 + 64);
    // The stroke stands in the middle, 20 pixels high.
    let input = &answer.body[end + 1..end + 1 + 784];
    assert_eq!((input[14 * 28 + 14], input[3 * 28 + 14], input[14 * 28 + 2]), (255, 0, 0));
    assert_eq!(address.get("/api/look/999").status, 200);
    for (path, status) in [("/api/look/1000", 404), ("/api/look/-1", 400), ("/api/look/x", 400)] {
        assert_eq!(address.get(path).status, status, "{path}");
    }
    for (size, status) in
        [(0, 400), (783, 400), (27 * 27, 400), (784, 200), (280 * 280, 200), (281 * 281, 413)]
    {
        assert_eq!(address.post("/api/look", &vec![0; size]).status, status, "{size}");
    }
    assert_eq!(address.get("/api/digits").body.len(), 784_000);
}

#[test]
fn a_dashboard_that_stays_shows_the_end_until_it_is_told_to_go() {
    let folder = tempfile::tempdir().unwrap();
    let (mut run, address) = start_with(folder.path(), &["--stay", "--epochs", "2"]);
    run.wait_for_line("the dashboard stays at http://");
    let written = std::fs::read_to_string(folder.path().join("run/summary.json")).unwrap();
    let summary: Value = serde_json::from_str(&written).unwrap();
    let mut page = Events::open(address);
    let told = page.next().unwrap();
    assert_eq!((&told["ended"]["how"], &told["stays"]), (&"done".into(), &true.into()), "{told}");
    assert_eq!(told["test"]["confusion"].as_array().unwrap().len(), 100);
    assert_eq!(told["predictions"]["step"], summary["steps"]);
    assert_eq!(address.get("/files/summary.json").text(), written);
    run.signal(Signal::INT);
    let finished = run.finish().done();
    assert_eq!(finished.summary(), summary);
    assert!(page.next().is_none(), "its stream ends with it");
}

#[test]
fn a_finished_run_is_shown_from_its_files() {
    let (finished, folder) = run_small(&[PATIENT[0], PATIENT[1], "--no-dashboard"]);
    let summary = finished.done().summary();
    let (show, address) = show(folder.path(), &["--dashboard", "127.0.0.1:0"]);
    let told =
        Events::open(address).find(|told| told["facts"].is_object() && told["ended"].is_object()).unwrap();
    assert_eq!((&told["ended"]["how"], &told["stays"]), (&"done".into(), &true.into()));
    assert_eq!((&told["progress"]["step"], &told["facts"]["steps"]), (&28.into(), &28.into()));
    assert_eq!(told["facts"]["dataset_fallback"], false);
    assert_eq!(told["facts"]["run_id"], summary["run_id"]);
    assert_eq!(told["curve"]["points"].as_array().unwrap().len(), 28);
    assert_eq!(told["epochs"][1]["weights_digest"], summary["weights_digest"]);
    assert_eq!(told["test"]["accuracy"].to_string(), summary["test_accuracy"].to_string());
    assert_eq!(told["predictions"]["step"], 28);
    assert!(told["events"].as_array().unwrap().iter().any(|event| event["kind"] == "finish"));
    // What each worker did: all examples of two epochs, and of the evaluations.
    let workers = told["workers"]["workers"].as_array().unwrap();
    assert_eq!(workers.iter().map(|worker| worker["examples"].as_u64().unwrap()).sum::<u64>(), 2 * 425);
    assert!(workers.iter().all(|worker| worker["examples_per_second"].as_f64().unwrap() > 0.0), "{told}");
    let shares: f64 = workers.iter().map(|worker| worker["share"].as_f64().unwrap()).sum();
    assert!((shares - 1.0).abs() < 1e-9, "{told}");
    assert_eq!(address.get("/api/look/3").status, 200);
    // Its files are those that there are.
    let files = told["facts"]["files"].as_array().unwrap();
    for file in ["model.safetensors", "summary.json", "logs/local-4.log"] {
        assert!(files.iter().any(|name| name == file), "{file}: {told}");
    }
    for file in files {
        assert_eq!(address.get(&format!("/files/{}", file.as_str().unwrap())).status, 200, "{file}");
    }
    show.signal(Signal::INT);
    show.finish().done();
}

#[test]
fn a_killed_run_is_shown_as_far_as_its_files_go() {
    let folder = tempfile::tempdir().unwrap();
    let (mut run, _) = start_with(folder.path(), &[ENDLESS[0], ENDLESS[1], "--checkpoint-every", "0"]);
    run.wait_for_line("epoch      3/100000");
    // The disk may be behind what was printed.
    let metrics = folder.path().join("run/metrics.jsonl");
    wait_until(|| std::fs::read_to_string(&metrics).unwrap().matches(r#""kind":"epoch""#).count() >= 2);
    kill_with_checkpoints(run, &folder.path().join("run"), 1);
    let (_show, address) = show(folder.path(), &[]);
    let told =
        Events::open(address).find(|told| told["facts"].is_object() && told["ended"].is_object()).unwrap();
    assert_eq!((&told["ended"]["well"], &told["test"]), (&false.into(), &Value::Null));
    assert!(told["epochs"].as_array().unwrap().len() >= 2, "{told}");
    let filters: Value = serde_json::from_str(&address.get("/api/filters").text()).unwrap();
    assert!(filters["step"].as_u64().unwrap() > 0, "its newest checkpoint: {filters}");
    assert_ne!(filters["now"], filters["start"]);

    let nothing = start(coordinator(folder.path()).args(["show", "nowhere"])).finish();
    assert_eq!((nothing.code(), nothing.stderr.lines().count()), (Some(1), 1), "{nothing}");
    assert!(nothing.stderr.starts_with("error: there is no run directory nowhere"), "{nothing}");
}

#[test]
fn a_run_on_other_data_than_meant_says_so_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = coordinator(folder.path());
    command.args([
        "--run-dir",
        "run",
        "--dataset",
        "auto",
        "--examples",
        "500",
        "--max-steps",
        "1",
        "--stay",
    ]);
    let mut run = start(&mut command);
    let address = dashboard_of(&mut run);
    run.wait_for_line("the dashboard stays at http://");
    let told = |address| Events::open(address).find(|told| told["facts"].is_object()).unwrap();
    assert_eq!(told(address)["facts"]["dataset_fallback"], true);
    run.signal(Signal::INT);
    run.finish().done();
    let (_show, address) = show(folder.path(), &[]);
    assert_eq!(told(address)["facts"]["dataset_fallback"], true);
}

#[test]
fn what_the_disk_does_not_take_is_a_line_until_it_does() {
    let folder = tempfile::tempdir().unwrap();
    let (mut run, address) = start_with(folder.path(), &[ENDLESS[0], ENDLESS[1], "--checkpoint-every", "0"]);
    run.wait_for_line("epoch      1/100000");
    let [place, away] = ["checkpoints", "away"].map(|name| folder.path().join("run").join(name));
    let mut page = Events::open(address);
    let end = Instant::now() + Duration::from_secs(60);
    let mut line = |over: bool, part: &str| {
        page.by_ref()
            .take_while(|_| Instant::now() < end)
            .find(|told| {
                let notices = told["notices"].as_array().into_iter().flatten();
                notices.into_iter().any(|notice| {
                    notice["over"] == over && notice["sentence"].as_str().unwrap().contains(part)
                })
            })
            .unwrap()
    };
    std::fs::rename(&place, &away).unwrap();
    line(false, "is not saved: ");
    std::fs::rename(&away, &place).unwrap();
    line(true, "checkpoints are written again: ");
}

#[test]
fn steps_without_a_record_are_named() {
    /// Of a record in the log of steps.
    const RECORD_BYTES: u64 = 92;
    let (finished, folder) = run_small(&["--no-dashboard"]);
    finished.done();
    let told = || {
        let (_show, address) = show(folder.path(), &[]);
        Events::open(address).find(|told| told["facts"].is_object()).unwrap()
    };
    assert!(told()["notices"].as_array().is_none_or(Vec::is_empty));
    let log = std::fs::File::options().write(true).open(folder.path().join("run/steps.log")).unwrap();
    log.set_len(log.metadata().unwrap().len() - 3 * RECORD_BYTES).unwrap();
    let told = told();
    let sentence =
        "steps 26 to 28 have no record in the log: `coordinator verify` has nothing to compare with there";
    assert_eq!(told["notices"], serde_json::json!([{ "sentence": sentence, "over": true }]), "{told}");
}

/// `coordinator show run`, in `folder`.
pub fn show(folder: &Path, arguments: &[&str]) -> (Running, Address) {
    let mut show = start(coordinator(folder).args(["show", "run"]).args(arguments));
    let address = dashboard_of(&mut show);
    show.wait_for_line("shows the run in run until Ctrl-C");
    (show, address)
}

#[test]
fn a_resumed_run_shows_the_steps_before() {
    let (finished, folder) = run_small(&["--max-steps", "10"]);
    finished.done();
    let mut command = coordinator(folder.path());
    command.args(["--json", "--resume", "run", "--max-steps", "20", "--stay"]);
    let mut run = start(&mut command);
    let address = dashboard_of(&mut run);
    run.wait_for_line("the dashboard stays at http://");
    let told = Events::open(address).next().unwrap();
    let steps: Vec<u64> =
        told["curve"]["points"].as_array().unwrap().iter().map(|point| point[0].as_u64().unwrap()).collect();
    assert_eq!(steps, (1..=20).collect::<Vec<u64>>());
}

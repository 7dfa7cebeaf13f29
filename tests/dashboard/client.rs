//! As much of an HTTP client as the tests of the dashboard need, and no more: each request has its own connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// No answer takes a tenth of it, however busy the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where a dashboard is.
#[derive(Clone, Copy)]
pub struct Address(SocketAddr);

pub struct Answer {
    pub status: u16,
    head: String,
    pub body: Vec<u8>,
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self(address)
    }
}

impl Answer {
    /// A header's value; empty if it is absent.
    pub fn header(&self, name: &str) -> &str {
        let value = self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(value.trim())
        });
        value.unwrap_or_default()
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Address {
    /// Of the page.
    pub fn url(self) -> String {
        format!("http://{}/", self.0)
    }

    /// Sends bytes on a connection of their own.
    pub fn send(self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.0).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(bytes).unwrap();
        stream
    }

    pub fn get(self, path: &str) -> Answer {
        self.try_get(path).unwrap_or_else(|| panic!("no answer to {path}"))
    }

    /// The answer, if the server is still there.
    pub fn try_get(self, path: &str) -> Option<Answer> {
        let mut stream = TcpStream::connect(self.0).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).ok()?;
        read(stream)
    }

    pub fn post(self, path: &str, body: &[u8]) -> Answer {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        request(self, &[head.as_bytes(), body].concat())
    }
}

impl Address {
    /// Whatever the answer.
    pub fn delete(self, path: &str) {
        let text = format!("DELETE {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let _ = read(self.send(text.as_bytes()));
    }
}

/// Sends a whole request and reads the answer.
pub fn request(address: Address, bytes: &[u8]) -> Answer {
    read(address.send(bytes)).unwrap()
}

fn read(mut stream: TcpStream) -> Option<Answer> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        let mut more = [0; 4096];
        let count = stream.read(&mut more).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&more[..count]);
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut answer =
        Answer { status: head.split(' ').nth(1)?.parse().unwrap(), head, body: bytes.split_off(end + 4) };
    // Not every server closes the connection when it is asked to.
    match answer.header("content-length").parse::<usize>() {
        Ok(length) => {
            let mut rest = vec![0; length - answer.body.len()];
            stream.read_exact(&mut rest).ok()?;
            answer.body.extend(rest);
        }
        Err(_) => drop(stream.read_to_end(&mut answer.body).ok()?),
    }
    if answer.header("transfer-encoding") == "chunked" {
        answer.body = unchunk(&answer.body);
    }
    Some(answer)
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = &rest[(end + 2 + size + 2).min(rest.len())..];
    }
    body
}

/// The messages of an event stream, until its end.
pub struct Events(BufReader<TcpStream>);

impl Events {
    pub fn open(address: Address) -> Self {
        Self::try_open(address).expect("a place for a page")
    }

    /// A stream, unless it is refused.
    pub fn try_open(address: Address) -> Option<Self> {
        let stream = address.send(b"GET /api/stream HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        line.contains(" 200 ").then_some(Self(reader))
    }
}

impl Iterator for Events {
    type Item = Value;

    fn next(&mut self) -> Option<Value> {
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            // Sizes of chunks, comments and empty lines stand between.
            if let Some(data) = line.strip_prefix("data: ") {
                return Some(serde_json::from_str(data).unwrap());
            }
        }
    }
}

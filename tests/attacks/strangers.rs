//! Attacks of peers that have no token.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::frames;

/// An attack on an address, until it is told to stop.
pub struct Attack {
    /// What it is called.
    pub name: &'static str,
    /// How many threads do it.
    pub threads: usize,
    /// What each does.
    pub run: fn(SocketAddr, &AtomicBool),
}

/// All of them; sizes are those of the full form, of which a short time does a part.
pub const ATTACKS: &[Attack] = &[
    Attack { name: "20,000 calls without Hello on each of 10 connections", threads: 10, run: silent_calls },
    Attack {
        name: "WINDOW_UPDATE flood",
        threads: 1,
        run: |to, stop| flood(to, stop, |_| frames::window_update()),
    },
    Attack {
        name: "PRIORITY flood",
        threads: 1,
        run: |to, stop| flood(to, stop, |n| frames::priority(odd(n))),
    },
    Attack {
        name: "flood of unknown frames",
        threads: 1,
        run: |to, stop| flood(to, stop, |_| frames::frame(77, 0, 0, &[])),
    },
    Attack {
        name: "PING flood, answers not read",
        threads: 1,
        run: |to, stop| flood(to, stop, |_| frames::frame(6, 0, 0, &[0; 8])),
    },
    Attack {
        name: "SETTINGS flood, answers not read",
        threads: 1,
        run: |to, stop| flood(to, stop, |_| frames::frame(4, 0, 0, &[])),
    },
    Attack {
        name: "rapid reset",
        threads: 4,
        run: |to, stop| flood(to, stop, |n| [frames::headers(odd(n)), frames::reset(odd(n))].concat()),
    },
    Attack {
        name: "CONTINUATION flood",
        threads: 4,
        run: |to, stop| flood(to, stop, |n| frames::continuation(1, n == 0)),
    },
    Attack { name: "1,000 idle connections at a time", threads: 1, run: |to, stop| idle(to, stop, &[]) },
    Attack {
        name: "1,000 greetings at a time",
        threads: 1,
        run: |to, stop| idle(to, stop, &frames::greeting()),
    },
    Attack { name: "1,000 half Hellos at a time", threads: 1, run: |to, stop| idle(to, stop, &half_hello()) },
    Attack { name: "connections as fast as they come", threads: 4, run: connections },
    Attack { name: "wrong tokens", threads: 4, run: wrong_tokens },
    Attack { name: "TLS, HTTP/1.1 and noise", threads: 4, run: noise },
];

fn odd(n: u32) -> u32 {
    2 * n + 1
}

fn connect(to: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, Duration::from_secs(1)).ok()?;
    stream.set_write_timeout(Some(Duration::from_millis(200))).ok()?;
    stream.set_read_timeout(Some(Duration::from_millis(200))).ok()?;
    Some(stream)
}

/// Sends frame after frame on one connection after another.
fn flood(to: SocketAddr, stop: &AtomicBool, next: impl Fn(u32) -> Vec<u8>) {
    while !stop.load(Ordering::Relaxed) {
        let Some(mut stream) = connect(to) else { continue };
        let mut sent = stream.write_all(&frames::greeting());
        let mut frame = 0;
        while sent.is_ok() && !stop.load(Ordering::Relaxed) {
            let many: Vec<u8> = (frame..frame + 2_000).flat_map(&next).collect();
            frame += 2_000;
            sent = stream.write_all(&many);
        }
    }
}

/// Calls that say nothing, on a connection that is kept as long as the coordinator keeps it.
fn silent_calls(to: SocketAddr, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let Some(mut stream) = connect(to) else { continue };
        let calls: Vec<u8> = (0..20_000).flat_map(|n| frames::headers(odd(n))).collect();
        if stream.write_all(&frames::greeting()).and_then(|()| stream.write_all(&calls)).is_ok() {
            keep(&mut stream, stop);
        }
    }
}

/// Reads until the other end closes.
fn keep(stream: &mut TcpStream, stop: &AtomicBool) {
    let mut buffer = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return,
            Ok(_) | Err(_) => {}
        }
    }
}

/// Connections that say `bytes` and nothing more; the oldest is given up for each new one.
fn idle(to: SocketAddr, stop: &AtomicBool, bytes: &[u8]) {
    let mut open = std::collections::VecDeque::new();
    while !stop.load(Ordering::Relaxed) {
        let Some(mut stream) = connect(to) else { continue };
        // It may be closed by now, which is what is tested.
        let _ = stream.write_all(bytes);
        open.push_back(stream);
        if open.len() > 1_000 {
            open.pop_front();
        }
    }
}

fn half_hello() -> Vec<u8> {
    let mut bytes = frames::greeting();
    bytes.extend(frames::headers(1));
    let mut message = frames::message(1, &[0x0a; 100], false);
    message.truncate(60);
    bytes.extend(message);
    bytes
}

fn connections(to: SocketAddr, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        drop(connect(to));
    }
}

/// Hellos that are well formed, each on a connection of its own: more than one is not answered.
fn wrong_tokens(to: SocketAddr, stop: &AtomicBool) {
    let hello = crate::members::hello("stranger", "wrong-wrong-wrong-wrong");
    let hello = crate::members::encoded(hello);
    while !stop.load(Ordering::Relaxed) {
        let Some(mut stream) = connect(to) else { continue };
        let calls: Vec<u8> = (0..50)
            .flat_map(|n| [frames::headers(odd(n)), frames::message(odd(n), &hello, true)].concat())
            .collect();
        if stream.write_all(&frames::greeting()).and_then(|()| stream.write_all(&calls)).is_ok() {
            keep(&mut stream, stop);
        }
    }
}

fn noise(to: SocketAddr, stop: &AtomicBool) {
    let noises: [&[u8]; 3] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        &[0x5a; 60_000],
    ];
    for noise in noises.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let Some(mut stream) = connect(to) else { continue };
        if stream.write_all(noise).is_ok() {
            // One answer, or the end.
            let _ = stream.read(&mut [0; 1024]);
        }
    }
}

//! Workers with a wrong address or token.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use tonic::transport::server::TcpIncoming;

use super::{TOKEN, Waiting, assert_parts, nobody_s_address, refused};
use crate::harness::worker;

const REFUSED: i32 = 1;
const USAGE: i32 = 2;
const UNREACHABLE: i32 = 75;

/// The line with which a worker ends that `arrange` gave its arguments.
fn line(code: i32, arrange: impl FnOnce(&mut Command)) -> String {
    let folder = tempfile::tempdir().unwrap();
    let mut command = worker(folder.path());
    arrange(&mut command);
    refused(&mut command, folder.path(), code)
}

fn dial(url: &str, code: i32) -> String {
    // Only who finds nobody waits for it.
    let timeout = if code == UNREACHABLE { "1" } else { "60" };
    line(code, |worker| {
        worker.args(["--coordinator", url, "--token", TOKEN, "--threads", "1", "--connect-timeout", timeout]);
    })
}

/// A server on this machine that is no coordinator; it ends with the tests.
fn serve(answer: impl Fn(TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.unwrap());
        }
    });
    format!("http://{address}")
}

#[test]
fn nobody_there_is_said_after_the_timeout() {
    let url = format!("http://{}", nobody_s_address());
    let begin = Instant::now();
    let line = dial(&url, UNREACHABLE);
    assert_parts(&line, &[&url, "within 1s", "refused", "--external", "port"]);
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
}

#[test]
fn servers_of_something_else_are_no_coordinators() {
    let web = serve(|mut stream| {
        // The client may be gone already.
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    });
    let garbage = serve(|mut stream| {
        let _ = stream.write_all(&[0x5a; 4096]);
        let _ = stream.read(&mut [0; 1024]);
    });
    let slammed = serve(drop);
    let silent = serve(std::mem::forget);
    for url in [web, garbage, slammed, silent] {
        let begin = Instant::now();
        assert_parts(&dial(&url, UNREACHABLE), &["no coordinator answers", &url, "within 1s", "port"]);
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
    }
}

#[test]
fn a_grpc_server_of_something_else_is_no_coordinator() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let nothing = tonic::transport::Server::builder().add_routes(tonic::service::Routes::default());
        // It ends with the tests.
        runtime.block_on(nothing.serve_with_incoming(TcpIncoming::from(listener)))
    });
    assert_parts(&dial(&url, REFUSED), &[&url, "no Lockstep coordinator"]);
}

#[test]
fn addresses_that_are_none_are_usage() {
    for url in
        ["127.0.0.1", "localhost", "http://localhost", "ftp://localhost:1", "http://a b:1", "http://:1", ""]
    {
        assert_parts(&dial(url, USAGE), &["--coordinator", "HOST:PORT"]);
    }
    assert_parts(&line(USAGE, |_| {}), &["--coordinator", "--help"]);
    let no_threads = line(USAGE, |worker| {
        worker.args(["--threads", "0"]);
    });
    assert_parts(&no_threads, &["--threads", "'0'"]);
}

#[test]
fn a_worker_needs_the_token_of_the_run() {
    let run = Waiting::for_workers(1);
    let with = |token: &[&str], code| {
        line(code, |worker| {
            worker.args(["--coordinator", &run.url, "--threads", "1"]).args(token);
        })
    };
    assert_parts(&with(&["--token", "another"], REFUSED), &[&run.url, "join token", "--token"]);
    assert_parts(&with(&[], USAGE), &["no join token", "--token", "LOCKSTEP_TOKEN"]);
    assert_parts(&with(&["--token", ""], USAGE), &["--token", "1 to 128 characters"]);
    assert_parts(&with(&["--token", "a b"], USAGE), &["--token", "blanks"]);
}

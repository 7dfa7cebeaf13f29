//! Bad input gets one clear line with cause and remedy, the right exit code, and leaves nothing half-written.

pub mod data;
mod dialling;
mod divergence;
mod hostile;
mod joining;
mod member;
mod scaling;
mod settings;

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::harness::{Finished, PATIENT, Running, SMALL, coordinator, run_small, start, worker};

const TOKEN: &str = "a-token-for-tests";

/// Everything below a folder: the content of files, `None` for folders.
pub fn listing(folder: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path.clone());
                found.insert(path, None);
            } else {
                found.insert(path.clone(), Some(fs::read(path).unwrap()));
            }
        }
    }
    found
}

/// Asserts that `command`, run in `folder`, ends with `code`, one line on standard error and nothing anywhere else;
/// returns that line.
fn refused(command: &mut Command, folder: &Path, code: i32) -> String {
    let before = listing(folder);
    let finished = start(command).finish();
    assert_eq!(finished.code(), Some(code), "{finished}");
    assert_eq!(finished.stdout, "", "{finished}");
    assert_eq!(finished.stderr.lines().count(), 1, "{finished}");
    assert!(listing(folder) == before, "the refused start changed files: {finished}");
    finished.stderr.trim_end().to_string()
}

/// The same for a `coordinator` with `arguments` in an empty folder.
fn refused_arguments(arguments: &[&str], code: i32) -> String {
    let folder = tempfile::tempdir().unwrap();
    refused(coordinator(folder.path()).args(arguments), folder.path(), code)
}

/// Asserts that a message has every part.
fn assert_parts(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

/// An address of this machine at which nobody listens.
fn nobody_s_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// The digest that the small run has when nobody disturbs it.
fn undisturbed_digest() -> &'static str {
    static DIGEST: OnceLock<String> = OnceLock::new();
    DIGEST.get_or_init(|| run_small(&["--workers", "1"]).0.done().digest())
}

/// A small run that waits for external workers.
struct Waiting {
    folder: TempDir,
    coordinator: Running,
    /// `http://HOST:PORT`.
    url: String,
}

impl Waiting {
    fn for_workers(count: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = coordinator(folder.path());
        command
            .args(["--json", "--run-dir", "run", "--external", "--token", TOKEN])
            .args(SMALL)
            .args(PATIENT);
        let mut coordinator = start(command.args(["--workers", &count.to_string()]));
        let url = coordinator.wait_for(|line| {
            let (_, after) = line.split_once("--coordinator ")?;
            after.split(' ').next().map(str::to_string)
        });
        Self { folder, coordinator, url }
    }

    /// A worker without fault, once the coordinator has let it in.
    fn honest_worker(&mut self) -> Running {
        let mut command = worker(self.folder.path());
        command.args(["--coordinator", &self.url, "--token", TOKEN, "--threads", "1", "--name", "honest"]);
        let worker = start(&mut command);
        self.coordinator.wait_for_line(" joined: honest ");
        worker
    }

    /// Asserts that the run ends as if nobody had disturbed it; returns its events, a line of JSON each.
    fn ends_undisturbed(self) -> Vec<String> {
        let finished: Finished = self.coordinator.finish().done();
        assert_eq!(finished.digest(), undisturbed_digest(), "{finished}");
        let events = fs::read_to_string(self.folder.path().join("run/events.jsonl")).unwrap();
        events.lines().map(str::to_string).collect()
    }
}

/// The reason of the one event of a kind.
fn only_reason(events: &[String], kind: &str) -> String {
    let mark = format!("\"kind\":\"{kind}\"");
    let found: Vec<&String> = events.iter().filter(|event| event.contains(&mark)).collect();
    assert_eq!(found.len(), 1, "one {kind} in {events:#?}");
    let event: serde_json::Value = serde_json::from_str(found[0]).unwrap();
    event["reason"].as_str().unwrap().to_string()
}

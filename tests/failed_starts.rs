//! A start that comes to nothing leaves the disk as it was, whichever of its steps it is that fails.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::bad_input::{data, listing};
use crate::harness::{self, coordinator, start};

/// A run that has begun waits for its one worker.
const EXTERNAL: [[&str; 2]; 6] = [
    ["--data-dir", "data"],
    ["--batch-size", "8"],
    ["--workers", "1"],
    ["--timeline", "trace.json"],
    ["--init", "begin.safetensors"],
    ["--external=true", "--no-progress"],
];

/// What a run writes into its own files as soon as it goes on: its next term, that it has begun, and no records beyond
/// the checkpoint that it goes on from.
const MAY_CHANGE: [&str; 5] = ["term", "steps.log", "lock", "metrics.jsonl", "events.jsonl"];

/// What fails, what makes it fail in the folder that the run is to have, and the flags for that.
type Case<'a> = (&'a str, fn(&Path), &'a [&'a str]);

/// Limits of the shell, from one within which nothing starts to one that is enough.
fn limits() -> [Vec<String>; 2] {
    // Every call that needs a descriptor, one after the other; and what may be written of a file, in blocks of 512 bytes.
    let descriptors = (4..200).map(|most| format!("-n {most}"));
    let blocks = [0, 1, 2, 4, 8, 32, 256, 1024].map(|most| format!("-f {most}"));
    [descriptors.collect(), blocks.into()]
}

/// A folder with data and initial weights.
fn folder() -> TempDir {
    let folder = data::folder();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/killed_run/checkpoints");
    let weights = fixtures.join("step-00000009-term-1-validation.safetensors");
    fs::copy(weights, folder.path().join("begin.safetensors")).unwrap();
    folder
}

/// The same with a run that was killed.
fn killed() -> TempDir {
    let folder = folder();
    let mut command = coordinator(folder.path());
    command.args(["--data-dir", "data", "--batch-size", "8", "--workers", "1", "--run-dir", "run"]);
    command.args(["--init", "begin.safetensors", "--epochs", "20", "--threads-per-worker", "1"]);
    harness::killed(&mut command);
    folder
}

/// `command` within a limit of the shell, such as `-n 12`; a write beyond it fails and kills nobody.
fn limited(command: &Command, limit: &str, folder: &Path) -> Command {
    let mut limited = Command::new("sh");
    limited.arg("-c").arg(format!("trap '' XFSZ; ulimit {limit} && exec \"$@\"")).arg("sh");
    limited.arg(command.get_program()).args(command.get_args()).current_dir(folder);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited
}

/// Whether a start within the limit fails; it has to leave the disk as it was then. A run that begins is killed.
fn fails(arguments: &[&str], limit: &str, folder: &Path) -> bool {
    let before = listing(folder);
    let mut command = coordinator(folder);
    command.args(arguments);
    let mut running = start(&mut limited(&command, limit, folder));
    if running.says("start it with") {
        running.signal(Signal::KILL);
        running.finish();
        return false;
    }
    let finished = running.finish();
    assert!(!finished.status.success(), "{limit}: {finished}");
    let after = listing(folder);
    // A run that goes on has the claim of its newest term.
    let resumed = before.contains_key(&folder.join("run/config.toml"));
    let is_claim = |path: &Path| {
        resumed && path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"term-"))
    };
    let names = |listing: &std::collections::BTreeMap<PathBuf, Option<Vec<u8>>>| -> Vec<PathBuf> {
        listing.keys().filter(|path| !is_claim(path)).cloned().collect()
    };
    assert_eq!(names(&after), names(&before), "{limit}: {finished}");
    for (path, content) in before.iter().filter(|(path, _)| !is_claim(path)) {
        let may_change =
            path.parent() == Some(&folder.join("run")) && MAY_CHANGE.iter().any(|name| path.ends_with(name));
        assert!(may_change || after[path] == *content, "{} has changed, {limit}: {finished}", path.display());
    }
    true
}

#[test]
fn whichever_step_of_a_start_fails_the_disk_is_as_it_was() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let nothing: fn(&Path) = |_| {};
    // In the order of a start. What is in the way lies in a folder that counts as empty.
    let cases: [Case; 10] = [
        ("dashboard", nothing, &["--run-dir", "deep/run", "--dashboard", &taken]),
        ("listen", nothing, &["--run-dir", "deep/run", "--listen", &taken]),
        ("timeline", nothing, &["--run-dir", "deep/run", "--timeline", "nowhere/trace.json"]),
        ("initial weights", nothing, &["--run-dir", "deep/run", "--init", "nowhere"]),
        ("data", nothing, &["--run-dir", "deep/run", "--data-dir", "nowhere"]),
        ("folder", |run| fs::write(run.join("thesis.tex"), "").unwrap(), &["--run-dir", "run"]),
        ("lock", |run| fs::create_dir(run.join("lock")).unwrap(), &["--run-dir", "run"]),
        ("journal", |run| fs::write(run.join("term"), "no term").unwrap(), &["--resume-or-start", "run"]),
        ("token", |run| fs::create_dir(run.join("token")).unwrap(), &["--run-dir", "run"]),
        // The folder of a worker's log is a file.
        (
            "spawn",
            |run| fs::write(run.join("logs"), "").unwrap(),
            &["--run-dir", "run", "--external=false", "--max-restarts", "0", "--patience", "0"],
        ),
    ];
    for (name, prepare, arguments) in cases {
        let folder = folder();
        fs::create_dir(folder.path().join("run")).unwrap();
        fs::create_dir(folder.path().join("run/lost+found")).unwrap();
        prepare(&folder.path().join("run"));
        let local = arguments.contains(&"--external=false");
        let rest = EXTERNAL
            .iter()
            .filter(|flag| !(arguments.contains(&flag[0]) || local && flag[0].starts_with("--external")));
        let rest: Vec<&str> = rest.flatten().copied().collect();
        assert!(fails(&[arguments, &rest].concat(), "-n 256", folder.path()), "{name}");
    }

    for new in ["deep/run", "run"] {
        for limits in limits() {
            let folder = folder();
            fs::create_dir(folder.path().join("run")).unwrap();
            fs::create_dir(folder.path().join("run/lost+found")).unwrap();
            let arguments = [&["--run-dir", new][..], EXTERNAL.as_flattened()].concat();
            let failed = limits.iter().take_while(|limit| fails(&arguments, limit, folder.path())).count();
            assert!((1..limits.len()).contains(&failed), "{failed} of {limits:?}");
        }
    }
    for limits in limits() {
        let folder = killed();
        let arguments = ["--resume", "run", "--external", "--timeline", "trace.json"];
        let failed = limits.iter().take_while(|limit| fails(&arguments, limit, folder.path())).count();
        assert!((1..limits.len()).contains(&failed), "{failed} of {limits:?}");
        // And it goes on, whatever came to nothing in between.
        start(coordinator(folder.path()).args(["--resume", "run", "--external=false"])).finish().done();
    }
}

#[test]
fn whoever_is_told_to_end_before_it_has_begun_leaves_the_disk_as_it_was() {
    let folder = folder();
    fs::create_dir(folder.path().join("run")).unwrap();
    // The start waits here until somebody writes.
    let token = folder.path().join("run/token");
    assert!(Command::new("mkfifo").arg(&token).status().unwrap().success());
    let names = || -> Vec<PathBuf> {
        let names = fs::read_dir(folder.path().join("run")).unwrap();
        names.map(|entry| entry.unwrap().path()).collect()
    };
    let mut command = coordinator(folder.path());
    let mut running = start(command.args(["--run-dir", "run"]).args(EXTERNAL.as_flattened()));
    running.wait_for_line("training on ");
    harness::wait_until(|| names().len() > 5);
    running.signal(Signal::TERM);
    fs::write(&token, "a-token\n").unwrap();
    let finished = running.finish();
    assert_eq!(finished.code(), Some(143), "{finished}");
    assert_eq!(names(), [token]);
    assert!(!folder.path().join("trace.json").exists());
}

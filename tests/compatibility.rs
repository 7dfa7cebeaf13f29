//! A run that an earlier version of this program left behind is still one: it is read by every command, and goes on.
//!
//! `fixtures/killed_run` was written by version 0.1.0 of 2026-11-30 (numerics version 2): three epochs of nine steps,
//! killed after it had logged step 14, with its one checkpoint behind the validation of step 9. Its logs are left out.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::dashboard::{client::Events, show};
use crate::harness::{Finished, coordinator, picture_of_a_digit, start};

/// What that version trains the run to if nothing disturbs it.
const DIGEST: &str = "019cf7d51e458d9ff4589721e549bf1448cb964e7672884d5e81fe426691bfed";

/// The weights after its step 9.
const CHECKPOINTED: &str = "f6ed6bb2a6f33d01d21726ed4af696ba00e112805051808a9e69d3c16f5caebb";

/// The settings of the run, as flags.
const SETTINGS: [&str; 10] =
    ["--dataset", "digits", "--examples", "200", "--batch-size", "20", "--epochs", "3", "--workers", "2"];

/// A folder that holds a copy of the killed run as `run`.
pub fn killed_run() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/killed_run");
    copy(&fixture, &folder.path().join("run"));
    folder
}

/// Copies a folder of folders and files.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let from: PathBuf = entry.unwrap().path();
        let to = to.join(from.file_name().unwrap());
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).unwrap();
        }
    }
}

fn run(folder: &Path, arguments: &[&str]) -> Finished {
    start(coordinator(folder).args(arguments)).finish()
}

#[test]
fn a_run_of_the_version_before_goes_on_to_the_bits_of_an_undisturbed_one() {
    let folder = killed_run();
    let resumed = run(folder.path(), &["--resume", "run", "--json"]).done();
    assert!(resumed.stderr.contains("in term 2 after step 9; steps up to 14 are replayed"), "{resumed}");
    // Its settings have the port that every run had then; one of local workers has none now.
    assert!(!resumed.stderr.contains("more workers can join"), "{resumed}");
    let undisturbed =
        run(folder.path(), &[&["--run-dir", "undisturbed", "--json"], &SETTINGS[..]].concat()).done();
    assert_eq!((resumed.digest(), undisturbed.digest()), (DIGEST.to_owned(), DIGEST.to_owned()));
    let verified = run(folder.path(), &["verify", "run"]).done();
    assert!(verified.stdout.contains("steps 1 to 27: 27 digests computed again"), "{verified}");
    let compared = run(folder.path(), &["compare", "run", "undisturbed", "--json"]).done().summary();
    let digests = [0, 1].map(|at| &compared["runs"][at]["weights_digest"]);
    assert_eq!(digests, [DIGEST; 2], "{compared}");
}

#[test]
fn a_run_of_the_version_before_is_read_by_every_command() {
    let folder = killed_run();
    let verified = run(folder.path(), &["verify", "run"]).done();
    assert!(verified.stdout.contains("steps 1 to 14: 14 digests computed again"), "{verified}");

    let evaluated = run(folder.path(), &["evaluate", "run", "--json"]).done().summary();
    assert_eq!((&evaluated["weights_digest"], &evaluated["step"]), (&CHECKPOINTED.into(), &9.into()));
    run(folder.path(), &["export", "run", "--format", "onnx", "--out", "net.onnx"]).done();
    fs::write(folder.path().join("one.pgm"), picture_of_a_digit()).unwrap();
    let predicted = run(folder.path(), &["predict", "one.pgm", "--model", "run", "--json"]).done();
    assert_eq!(predicted.summary()["weights_digest"], CHECKPOINTED, "{predicted}");

    run(folder.path(), &["report", "run"]).done();
    let report = fs::read_to_string(folder.path().join("run/report.html")).unwrap();
    assert!(report.contains(CHECKPOINTED), "its newest weights");

    let (shown, address) = show(folder.path(), &[]);
    let told = Events::open(address).next().unwrap();
    let (facts, progress) = (&told["facts"], &told["progress"]);
    assert_eq!((&facts["steps"], &facts["no_digits"]), (&27.into(), &Value::Null), "{told}");
    assert!(progress["step"].as_u64() >= Some(14), "{told}");
    shown.signal(Signal::INT);
    shown.finish().done();

    // With its own settings, which the older config.toml has in the older form.
    let again = run(folder.path(), &["--config", "run/config.toml", "--run-dir", "again", "--json"]).done();
    assert_eq!(again.digest(), DIGEST);
    let compared = run(folder.path(), &["compare", "run", "again", "--json"]).done().summary();
    assert_eq!(compared["runs"][0]["status"], "unfinished", "{compared}");
}

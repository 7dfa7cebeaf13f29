//! What is written to a stream is only what was asked for: a result on standard output has it to itself.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::harness::{coordinator, picture_of_a_digit, run_small};

/// Every command that writes a result where a flag says, up to that place.
const RESULTS: [&[&str]; 7] = [
    &["export", "run", "--format", "safetensors", "--out"],
    &["export", "run", "--format", "onnx", "--out"],
    &["evaluate", "run", "--predictions"],
    &["compare", "run", "again", "--svg"],
    &["report", "run", "--out"],
    &["data", "picture", "--dataset", "digits", "--out"],
    &["export", "run/model.safetensors", "--format", "onnx", "--out"],
];

/// What is said of it on standard output is the same wherever the result goes to.
const MODEL: [&str; 2] = ["--model", "run"];

/// A folder with two runs, trained once and only read.
fn trained() -> &'static Path {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            let (finished, folder) = run_small(&["--max-steps", "5", "--workers", "1"]);
            finished.done();
            let mut again = coordinator(folder.path());
            again.args(["--config", "run/config.toml", "--run-dir", "again", "--seed", "7"]);
            assert!(again.output().unwrap().status.success());
            folder
        })
        .path()
}

fn run(arguments: &[&str], place: &str) -> Output {
    let output = coordinator(trained()).args(arguments).arg(place).stdin(Stdio::null()).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?} {place}: {stderr}");
    output
}

#[test]
fn a_result_has_standard_output_to_itself() {
    let scratch = tempfile::tempdir().unwrap();
    for arguments in RESULTS {
        let file = scratch.path().join("file");
        let to_file = run(arguments, file.to_str().unwrap());
        let expected = fs::read(&file).unwrap();
        assert!(!expected.is_empty() && !to_file.stdout.is_empty(), "{arguments:?}");
        for place in ["-", "/dev/stdout"] {
            // A pipe.
            let piped = run(arguments, place);
            assert!(piped.stdout == expected, "{arguments:?} {place}: {} bytes", piped.stdout.len());
            assert!(!piped.stderr.is_empty(), "{arguments:?}: what was beside it is told elsewhere");
            // A file that has something in it already.
            let target = scratch.path().join("target");
            let mut stream = File::create(&target).unwrap();
            stream.write_all(b"before").unwrap();
            let mut command = coordinator(trained());
            command.args(arguments).arg(place).stdin(Stdio::null()).stdout(stream);
            assert!(command.output().unwrap().status.success(), "{arguments:?} {place}");
            let found = fs::read(&target).unwrap();
            assert!(found == [b"before", &expected[..]].concat(), "{arguments:?} {place} into a file");
        }
        // On standard error it is alone as well, and what is said of it is on standard output.
        let to_stderr = run(arguments, "/dev/stderr");
        assert!(
            to_stderr.stderr == expected && !to_stderr.stdout.is_empty(),
            "{arguments:?} on standard error"
        );
    }
    assert!(!trained().join("-").exists());
}

#[test]
fn an_object_has_standard_output_to_itself() {
    fs::write(trained().join("one.pgm"), picture_of_a_digit()).unwrap();
    let commands: [&[&str]; 4] = [
        &["evaluate", "run", "--json"],
        &["compare", "run", "again", "--json"],
        &["predict", "one.pgm", MODEL[0], MODEL[1], "--json"],
        &["--resume", "run", "--json"],
    ];
    for arguments in commands {
        let output = coordinator(trained()).args(arguments).output().unwrap();
        let object: Result<serde_json::Value, _> = serde_json::from_slice(&output.stdout);
        assert!(object.is_ok_and(|object| object.is_object()), "{arguments:?}");
    }
    // Two results cannot have it both.
    for arguments in [
        &["evaluate", "run", "--json", "--predictions", "-"][..],
        &["evaluate", "run", "--json", "--predictions", "/dev/stdout"],
        &["compare", "run", "again", "--json", "--svg", "-"],
    ] {
        let output = coordinator(trained()).args(arguments).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{arguments:?}: {stderr}");
        assert!(stderr.contains("both write to standard output; name a file with --"), "{stderr}");
    }
}

#[test]
fn what_no_stream_can_take_is_refused() {
    for (arguments, part) in [
        (&["export", "run", "--format", "tfjs", "--out", "-"][..], "is a folder of two files"),
        (&["--dataset", "digits", "--run-dir", "none", "--timeline", "-"], "takes a new file of its own"),
        (&["--dataset", "digits", "--run-dir", "none", "--timeline", "/dev/stdout"], "takes a new file"),
    ] {
        let output = coordinator(trained()).args(arguments).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{arguments:?}: {stderr}");
        assert!(stderr.contains(part), "{stderr}");
    }
    assert!(!trained().join("-").exists() && !trained().join("none").exists());
}

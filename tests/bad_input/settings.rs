//! Flags, environment, configuration file, address and run directory.

use std::fs;
use std::net::TcpListener;

use super::{assert_parts, refused, refused_arguments};
use crate::harness::{SMALL, coordinator, start};

const FAILED: i32 = 1;
const USAGE: i32 = 2;

#[test]
fn values_out_of_bounds_are_refused_with_the_bounds() {
    let cases: [(&[&str], &[&str]); 20] = [
        (&["--workers", "0"], &["--workers is 0", "1 to 1024"]),
        (&["--workers", "1025"], &["--workers is 1025", "1 to 1024"]),
        (&["--threads-per-worker", "0"], &["--threads-per-worker is 0", "1 to"]),
        (&["--epochs", "0"], &["--epochs is 0", "at least 1"]),
        (&["--max-steps", "0"], &["--max-steps is 0", "at least 1"]),
        (&["--examples", "0"], &["--examples is 0", "at least 1"]),
        (&["--batch-size", "0"], &["--batch-size is 0", "at least 1"]),
        (&["--batch-size", "-1"], &["--batch-size", "-1"]),
        (&["--micro-shards", "0"], &["--micro-shards is 0", "power of two", "65536"]),
        (&["--micro-shards", "12"], &["--micro-shards is 12", "power of two", "for example 16"]),
        (&["--micro-shards", "131072"], &["--micro-shards is 131072", "from 1 to 65536"]),
        (&["--learning-rate", "0"], &["--learning-rate is 0", "above 0", "for example 0.01"]),
        (&["--learning-rate", "-0.01"], &["--learning-rate is -0.01", "above 0"]),
        (&["--learning-rate", "nan"], &["--learning-rate is NaN", "finite"]),
        (&["--learning-rate", "inf"], &["--learning-rate is inf", "finite"]),
        (&["--validation-split", "-0.1"], &["--validation-split is -0.1", "0 to 0.9"]),
        (&["--validation-split", "0.91"], &["--validation-split is 0.91", "0 to 0.9"]),
        (&["--validation-split", "nan"], &["--validation-split is NaN", "0 to 0.9"]),
        (&["--dataset", "cifar"], &["'cifar'", "--dataset", "mnist"]),
        (&["--token", "with a blank"], &["--token", "blanks"]),
    ];
    for (arguments, parts) in cases {
        assert_parts(&refused_arguments(arguments, USAGE), parts);
    }
}

#[test]
fn what_only_the_data_can_tell_is_usage_too() {
    let line = refused_arguments(&["--dataset", "digits", "--examples", "100", "--batch-size", "86"], USAGE);
    assert_parts(&line, &["--batch-size is 86", "85 training examples", "lower it", "--examples"]);
    let line = refused_arguments(&["--dataset", "digits", "--examples", "60001"], USAGE);
    assert_parts(&line, &["--examples is 60001", "60000", "lower it"]);
    let arguments =
        ["--dataset", "digits", "--examples", "1", "--validation-split", "0.5", "--batch-size", "1"];
    assert_parts(
        &refused_arguments(&arguments, USAGE),
        &["--validation-split 0.5", "no example", "--examples"],
    );
}

#[test]
fn unknown_flags_are_refused_with_the_nearest_known_one() {
    let line = refused_arguments(&["--wrokers", "4"], USAGE);
    assert_parts(&line, &["error: ", "'--wrokers'", "'--workers'", "--help"]);
    assert_parts(&refused_arguments(&["--momentum=0.9"], USAGE), &["'--momentum'", "--help"]);
    assert_parts(&refused_arguments(&["train"], USAGE), &["'train'", "--help"]);
    assert_parts(&refused_arguments(&["--epochs", "many"], USAGE), &["'many'", "--epochs", "--help"]);
}

#[test]
fn a_wrong_configuration_file_is_refused_by_line_or_key() {
    let cases: [(&str, &[&str]); 8] = [
        ("epochs = 2\nepoch = 3\n", &["unknown key 'epoch'", "did you mean 'epochs'"]),
        ("momentum = 0.9\n", &["unknown key 'momentum'", "--help"]),
        ("[training]\nepochs = 2\n", &["unknown key 'training'"]),
        ("epochs = 2\nbatch-size = = 3\n", &["line 2: "]),
        ("epochs = 2\n\nbatch-size = \"three\"\n", &["line 3: ", "three"]),
        ("epochs = 2\nepochs = 3\n", &["line 2: ", "duplicate key"]),
        ("workers = 0\n", &["--workers is 0", "1 to 1024"]),
        ("learning-rate = nan\n", &["--learning-rate is NaN"]),
    ];
    for (text, parts) in cases {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("run.toml"), text).unwrap();
        let line = refused(coordinator(folder.path()).args(["--config", "run.toml"]), folder.path(), USAGE);
        assert_parts(&line, parts);
        assert!(line.contains("run.toml") || line.contains("--"), "no culprit in {line}");
    }
    assert_parts(&refused_arguments(&["--config", "none.toml"], USAGE), &["none.toml", "--config"]);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("run.toml"), [0xff, 0xfe, 0]).unwrap();
    let line = refused(coordinator(folder.path()).args(["--config", "run.toml"]), folder.path(), USAGE);
    assert_parts(&line, &["run.toml", "UTF-8"]);
}

#[test]
fn a_wrong_value_in_the_environment_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let line = refused(coordinator(folder.path()).env("LOCKSTEP_WORKERS", "0"), folder.path(), USAGE);
    assert_parts(&line, &["LOCKSTEP_WORKERS is 0"]);
    let line = refused(coordinator(folder.path()).env("LOCKSTEP_EPOCHS", "ten"), folder.path(), USAGE);
    assert_parts(&line, &["LOCKSTEP_EPOCHS", "'ten'"]);
}

#[test]
fn an_unknown_variable_warns_and_the_run_succeeds() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = coordinator(folder.path());
    command.env("LOCKSTEP_EPOCH", "9").args(SMALL).args(["--workers", "1", "--max-steps", "1"]);
    let finished = start(&mut command).finish().done();
    let warnings: Vec<&str> = finished.stderr.lines().filter(|line| line.contains("LOCKSTEP_")).collect();
    assert_eq!(warnings.len(), 1, "{finished}");
    assert_parts(warnings[0], &["WARN", "LOCKSTEP_EPOCH is unknown and ignored", "LOCKSTEP_EPOCHS"]);
}

#[test]
fn an_address_off_loopback_needs_consent() {
    for address in ["0.0.0.0:0", "[::]:29400"] {
        let line = refused_arguments(&["--dataset", "digits", "--listen", address], USAGE);
        assert_parts(&line, &[&format!("--listen {address}"), "--insecure", "127.0.0.1"]);
    }
    assert_parts(&refused_arguments(&["--listen", "localhost"], USAGE), &["'localhost'", "--listen"]);
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let line = refused_arguments(&["--dataset", "digits", "--examples", "500", "--listen", &address], FAILED);
    assert_parts(&line, &["error: ", &address, "in use", "--listen"]);
}

#[test]
fn an_existing_run_directory_is_never_touched() {
    let folder = tempfile::tempdir().unwrap();
    let earlier = folder.path().join("earlier");
    fs::create_dir(&earlier).unwrap();
    for (name, part) in [
        ("summary.json", "the folder earlier has no run but summary.json in it"),
        ("config.toml", "run directory earlier exists already"),
    ] {
        fs::write(earlier.join(name), "").unwrap();
        let mut command = coordinator(folder.path());
        let line = refused(command.args(SMALL).args(["--run-dir", "earlier"]), folder.path(), FAILED);
        assert_parts(&line, &[part, "never overwritten"]);
    }
}

#[test]
fn a_run_directory_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "kept").unwrap();
    // Not even root may make a folder below a file, or in /proc.
    for place in ["file/run", "file/deeper/run", "/proc/lockstep/run", "/proc/lockstep-run"] {
        let mut command = coordinator(folder.path());
        let line = refused(command.args(SMALL).args(["--run-dir", place]), folder.path(), FAILED);
        assert_parts(&line, &["cannot create the run directory", place, "--run-dir"]);
    }
}

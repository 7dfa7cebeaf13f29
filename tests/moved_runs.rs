//! What a run keeps for later means the same from another folder, and names what has to be told anew on another machine.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::bad_input::data;
use crate::harness::{self, Finished, coordinator, start};

fn run(folder: &Path, arguments: &[&str]) -> Finished {
    start(coordinator(folder).args(arguments)).finish()
}

/// Whether nothing was amiss with the data but that they are not MNIST's.
fn has_its_data(finished: &Finished) -> bool {
    let is_of_data = |line: &str| line.contains(" is not MNIST's file: ");
    finished.stderr.lines().filter(|line| line.contains("WARN")).all(is_of_data)
}

#[test]
fn a_run_is_gone_on_with_and_read_from_another_folder() {
    let folder = data::folder();
    let mut command = coordinator(folder.path());
    command.args(["--data-dir", "data", "--batch-size", "8", "--workers", "1", "--run-dir", "run"]);
    harness::killed(command.args(["--epochs", "20"]));
    let elsewhere = folder.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    for arguments in [
        &["evaluate", "../run"][..],
        &["report", "../run"],
        &["verify", "../run"],
        &["--resume", "../run", "--epochs", "21"],
    ] {
        let finished = run(&elsewhere, arguments).done();
        assert!(has_its_data(&finished), "{arguments:?}: {finished}");
    }
    let text = fs::read_to_string(folder.path().join("run/config.toml")).unwrap();
    let again = ["--config", "../run/config.toml", "--run-dir", "again", "--max-steps", "1"];
    run(&elsewhere, &again).done();
    assert!(!text.contains("threads-per-worker"), "another machine has other processors: {text}");

    // On another machine the data lie elsewhere.
    fs::rename(folder.path().join("data"), folder.path().join("moved")).unwrap();
    let gone = format!("there is no {}", folder.path().join("data").display());
    for arguments in [&["evaluate", "../run"][..], &["--resume", "../run", "--epochs", "22"]] {
        let refused = run(&elsewhere, arguments);
        assert_eq!(refused.code(), Some(1), "{arguments:?}: {refused}");
        assert!(refused.stderr.contains(&gone) && refused.stderr.contains("with --data-dir"), "{refused}");
        run(&elsewhere, &[arguments, &["--data-dir", "../moved"]].concat()).done();
    }
    let report = run(&elsewhere, &["report", "../run", "--data-dir", "../moved"]).done();
    assert!(has_its_data(&report), "{report}");
}

#[test]
fn a_run_that_fell_back_to_digits_knows_it_when_it_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = coordinator(folder.path());
    command.args(["--run-dir", "run", "--examples", "200", "--batch-size", "20", "--epochs", "20"]);
    let killed = harness::killed(&mut command);
    assert!(killed.stderr.contains("TRAINING ON GENERATED DIGITS"), "{killed}");
    let identity = |text: &str| text.split("[identity]").nth(1).map(str::to_owned);
    let path = folder.path().join("run/config.toml");
    let before = fs::read_to_string(&path).unwrap();
    assert!(before.contains("dataset-fallback = ") && before.contains("--offline forbids"), "{before}");
    assert!(!identity(&before).unwrap().contains("fallback"), "it does not decide the bits");
    let resumed = run(folder.path(), &["--resume", "run", "--json"]).done().summary();
    assert_eq!(resumed["dataset_fallback"], true, "{resumed}");
    assert!(fs::read_to_string(&path).unwrap().contains("dataset-fallback = "));
    let evaluated: Value = run(folder.path(), &["evaluate", "run", "--json"]).done().summary();
    assert_eq!(evaluated["dataset_fallback"], true, "{evaluated}");
}

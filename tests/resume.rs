//! A coordinator may be killed at any moment: the run goes on where it was, and no bit changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::harness::{
    self, Running, SMALL, coordinator, json_lines, manifests, run_small, start, wait_until_gone,
};

const EPOCHS: [&str; 2] = ["--epochs", "60"];
const STEPS: u64 = 60 * 14;

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = coordinator(folder);
    command.args(["--json", "--run-dir", "run"]).args(arguments);
    let rest = [&EPOCHS[..], &SMALL[..6]].concat();
    command.args(rest.chunks(2).filter(|flag| !arguments.contains(&flag[0])).flatten());
    command
}

fn resume(folder: &Path, arguments: &[&str]) -> Running {
    start(coordinator(folder).args(["--json", "--resume", "run"]).args(arguments))
}

fn killed(folder: &Path, arguments: &[&str]) {
    harness::killed(&mut command(folder, arguments));
}

fn undisturbed() -> String {
    run_small(&[EPOCHS[0], EPOCHS[1], "--workers", "1"]).0.done().digest()
}

/// The newest checkpoint's files, weights and manifest.
fn newest(folder: &Path) -> [PathBuf; 2] {
    let manifest = manifests(&folder.join("run")).pop().unwrap();
    [manifest.with_extension("safetensors"), manifest]
}

fn assert_each_step_once(folder: &Path) {
    let metrics = json_lines(&folder.join("run/metrics.jsonl"));
    let numbers = |kind: &str, key: &str| -> Vec<u64> {
        metrics.iter().filter(|line| line["kind"] == kind).map(|line| line[key].as_u64().unwrap()).collect()
    };
    assert_eq!(numbers("step", "step"), (1..=STEPS).collect::<Vec<_>>());
    assert_eq!(numbers("epoch", "epoch"), (1..=60).collect::<Vec<_>>());
}

#[test]
fn a_killed_run_goes_on_to_the_same_bits_with_other_workers() {
    let folder = tempfile::tempdir().unwrap();
    killed(folder.path(), &["--workers", "3"]);
    let finished = resume(folder.path(), &["--workers", "2", "--threads-per-worker", "2"]).finish().done();
    assert_eq!(finished.digest(), undisturbed(), "{finished}");
    let summary = finished.summary();
    assert_eq!((&summary["steps"], &summary["terms"]), (&STEPS.into(), &2.into()), "{finished}");
    assert_eq!(summary["examples"], 60 * 425, "examples of all processes: {finished}");
    assert!(finished.stderr.contains("in term 2 after step"), "{finished}");
    assert_each_step_once(folder.path());

    // Once more: there is nothing left to do.
    let again = resume(folder.path(), &[]).finish().done();
    assert_eq!(again.stdout, finished.stdout);
    // Its log proves itself.
    let verified = start(coordinator(folder.path()).args(["verify", "run", "--from", "30"])).finish().done();
    assert!(verified.stdout.contains("steps 30 to 840: 811 digests computed again"), "{verified}");
}

/// What the first line of an epoch says of it, up to the rate.
fn first_epoch(finished: &harness::Finished) -> (u64, String) {
    let line = finished.stderr.lines().find(|line| line.starts_with("epoch ")).unwrap();
    let (epoch, rest) = line.trim_start_matches("epoch").split_once('/').unwrap();
    (epoch.trim().parse().unwrap(), rest.split_once("val loss").unwrap().0.to_string())
}

#[test]
fn an_epoch_s_line_is_of_all_its_steps_or_says_of_how_many() {
    let folder = tempfile::tempdir().unwrap();
    // In the middle of an epoch, on any disk.
    let mut first = command(folder.path(), &["--checkpoint-every", "0"]);
    start(first.env("LOCKSTEP_CRASH_AT", "coordinator/logged:7")).finish();
    assert!(!manifests(&folder.path().join("run")).is_empty());
    let resumed = resume(folder.path(), &["--max-steps", "14", "--epochs", "60"]).finish().done();
    let (whole, _) = run_small(&["--epochs", "60", "--max-steps", "14"]);
    assert_eq!(first_epoch(&resumed), first_epoch(&whole.done()));
    assert!(!first_epoch(&resumed).1.contains("of its"), "{resumed}");

    let folder = tempfile::tempdir().unwrap();
    let fault = "coordinator/logged:7";
    let flags = ["--checkpoint-every", "0", "--no-metrics", "--validation-split", "0.15"];
    let mut command = coordinator(folder.path());
    command.args(["--json", "--run-dir", "run"]).args(SMALL).args(flags);
    start(command.env("LOCKSTEP_CRASH_AT", fault)).finish();
    assert!(!manifests(&folder.path().join("run")).is_empty());
    let resumed = resume(folder.path(), &[]).finish().done();
    assert!(first_epoch(&resumed).1.contains(" of its 14 steps)"), "{resumed}");
}

#[test]
fn a_finished_run_goes_on_for_more_epochs() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = coordinator(folder.path());
    start(command.args(["--json", "--run-dir", "run"]).args(SMALL)).finish().done();
    let longer = resume(folder.path(), &EPOCHS).finish().done();
    assert_eq!(longer.digest(), undisturbed());
    assert_each_step_once(folder.path());
    let fewer = resume(folder.path(), &["--epochs", "3"]).finish();
    assert_eq!(fewer.code(), Some(2), "{fewer}");
    assert!(fewer.stderr.contains("--epochs"), "{fewer}");
}

#[test]
fn a_rotten_checkpoint_and_a_torn_log_are_fallen_back_over() {
    let folder = tempfile::tempdir().unwrap();
    killed(folder.path(), &[]);
    let [weights, _] = newest(folder.path());
    let mut bytes = fs::read(&weights).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&weights, bytes).unwrap();
    let log = folder.path().join("run/steps.log");
    let bytes = fs::read(&log).unwrap();
    fs::write(&log, &bytes[..bytes.len() - 5]).unwrap();
    let finished = resume(folder.path(), &[]).finish().done();
    assert_eq!(finished.digest(), undisturbed(), "{finished}");
    assert!(finished.stderr.contains("its weights file is torn or rotten"), "{finished}");
    assert!(finished.stderr.contains("is torn: "), "{finished}");
    assert_each_step_once(folder.path());
}

#[test]
fn a_run_without_any_checkpoint_begins_anew_and_is_held_against_its_log() {
    let folder = tempfile::tempdir().unwrap();
    killed(folder.path(), &[]);
    fs::remove_dir_all(folder.path().join("run/checkpoints")).unwrap();
    let finished = resume(folder.path(), &[]).finish().done();
    assert_eq!(finished.digest(), undisturbed(), "{finished}");
    assert!(finished.stderr.contains("after step 0; steps up to"), "{finished}");
    assert_each_step_once(folder.path());
}

#[test]
fn what_decides_the_bits_cannot_be_changed() {
    let folder = tempfile::tempdir().unwrap();
    killed(folder.path(), &[]);
    for (flag, value, was) in
        [("--seed", "7", "42"), ("--batch-size", "64", "32"), ("--learning-rate", "0.1", "0.01")]
    {
        let refused = resume(folder.path(), &[flag, value]).finish();
        assert_eq!(refused.code(), Some(2), "{refused}");
        for part in [flag, value, was] {
            assert!(refused.stderr.contains(part), "{part} in {refused}");
        }
    }
}

#[test]
fn only_one_coordinator_has_a_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = start(&mut command(folder.path(), &["--epochs", "100000"]));
    run.wait_for_workers(4);
    let second = resume(folder.path(), &[]).finish();
    assert_eq!(second.code(), Some(1), "{second}");
    assert!(second.stderr.contains(&format!("is in use by process {}", run.pid())), "{second}");
    run.signal(Signal::INT);
    assert_eq!(run.finish().code(), Some(130));
}

#[test]
fn a_scheduler_starts_and_resumes_with_the_same_command() {
    let folder = tempfile::tempdir().unwrap();
    let command = || {
        let mut command = coordinator(folder.path());
        command.args(["--json", "--resume-or-start", "run", "--checkpoint-every", "0"]).args(EPOCHS);
        command.args(SMALL.chunks(2).filter(|flag| flag[0] != EPOCHS[0]).flatten());
        command
    };
    let mut first = start(&mut command());
    let workers = first.wait_for_workers(4);
    first.wait_for_line("epoch  2/60");
    first.signal(Signal::TERM);
    assert_eq!(first.finish().code(), Some(143));
    workers.iter().for_each(|worker| wait_until_gone(*worker, std::time::Duration::ZERO));
    let second = start(&mut command()).finish().done();
    assert_eq!(second.digest(), undisturbed(), "{second}");
    assert_eq!(second.summary()["terms"], 2);
    assert_each_step_once(folder.path());
}

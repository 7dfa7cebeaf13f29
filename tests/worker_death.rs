//! A worker may die, hang or come back at any moment: the step goes on without it, and no bit changes.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{
    PATIENT, Running, SMALL, coordinator, json_lines, run_small, send_signal, start, wait_until_gone,
};

/// Long enough that a kill after the first epoch comes in mid-run.
const LONG: [&str; 2] = ["--epochs", "60"];

const STEPS: u64 = 60 * 14;

fn start_long(folder: &Path, arguments: &[&str]) -> Running {
    start(&mut command(folder, arguments))
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = coordinator(folder);
    command.args(["--json", "--run-dir", "run"]).args(arguments);
    let rest = [&LONG[..], &SMALL[..6]].concat();
    command.args(rest.chunks(2).filter(|flag| !arguments.contains(&flag[0])).flatten());
    command
}

fn events(folder: &Path, kind: &str) -> Vec<Value> {
    let lines = json_lines(&folder.join("run/events.jsonl"));
    lines.into_iter().filter(|line| line["kind"] == kind).collect()
}

#[test]
fn killed_workers_change_no_bit() {
    let undisturbed = run_small(&[LONG[0], LONG[1], "--workers", "1"]).0.done().digest();
    for killed in 1..=3 {
        let folder = tempfile::tempdir().unwrap();
        let mut run = start_long(folder.path(), &["--max-restarts", "0", PATIENT[0], PATIENT[1]]);
        let workers = run.wait_for_workers(4);
        for (epoch, worker) in workers.iter().take(killed).enumerate() {
            run.wait_for_line(&format!("epoch  {}/60", epoch + 1));
            send_signal(*worker, Signal::KILL);
        }
        let finished = run.finish().done();
        assert_eq!(finished.digest(), undisturbed, "{killed} of 4 killed: {finished}");
        assert_eq!(finished.summary()["steps"], STEPS);
        assert_eq!(events(folder.path(), "worker_dropped").len(), killed, "they died in mid-run: {finished}");
        // The last line of metrics shows who was left.
        let metrics = json_lines(&folder.path().join("run/metrics.jsonl"));
        let last = metrics.iter().rfind(|line| line["kind"] == "step").unwrap();
        assert_eq!(last["workers"], 4 - killed);
    }
}

#[test]
fn shards_of_a_dead_worker_go_to_others_within_the_step() {
    let folder = tempfile::tempdir().unwrap();
    // It dies as it begins to compute, and so holds shards; nobody else has copies of them.
    let mut command = command(folder.path(), &PATIENT);
    let finished = start(command.env("LOCKSTEP_CRASH_AT", "local-1/compute:20")).finish().done();
    assert_eq!(finished.summary()["steps"], STEPS, "no step was skipped or repeated");
    let metrics = json_lines(&folder.path().join("run/metrics.jsonl"));
    let reassigned = events(folder.path(), "reassigned");
    let left = |event: &Value| event["reason"].as_str().unwrap().contains(" (local-1) left ");
    assert!(reassigned.iter().any(left), "{reassigned:?} {finished}");
    for event in reassigned {
        let reason = event["reason"].as_str().unwrap();
        assert!(reason.starts_with("worker ") && reason.contains(" gets "), "{reason}");
        // The step that was under way says it, too.
        let step = event["step"].as_u64().unwrap() + 1;
        let line = metrics.iter().find(|line| line["kind"] == "step" && line["step"] == step).unwrap();
        assert!(line["decisions"].as_array().unwrap().contains(&event["reason"]), "{line}");
    }
    let steps: Vec<u64> = metrics
        .iter()
        .filter(|line| line["kind"] == "step")
        .map(|line| line["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, (1..=STEPS).collect::<Vec<u64>>());
}

#[test]
fn when_all_local_workers_die_for_good_the_run_says_which_and_how() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = start_long(folder.path(), &["--max-restarts", "0"]);
    let workers = run.wait_for_workers(4);
    run.wait_for_line("epoch  1/60");
    workers.iter().for_each(|worker| send_signal(*worker, Signal::KILL));
    let finished = run.finish();
    assert_eq!(finished.code(), Some(75), "{finished}");
    assert_eq!(finished.stdout, "", "no result, no summary");
    assert!(finished.stderr.contains("no worker is left"), "{finished}");
    for worker in workers {
        let how = format!("(process {worker}) was killed by signal 9");
        assert!(finished.stderr.contains(&how), "{finished}");
    }
    // The last lines of a worker's output are there.
    assert!(
        finished.stderr.contains("its last output: ") && finished.stderr.contains("joined"),
        "{finished}"
    );
    assert!(!folder.path().join("run/summary.json").exists());
}

#[test]
fn local_workers_that_die_are_started_again() {
    let undisturbed = run_small(&[LONG[0], LONG[1], "--workers", "1"]).0.done().digest();
    let folder = tempfile::tempdir().unwrap();
    let mut run = start_long(folder.path(), &[]);
    let workers = run.wait_for_workers(4);
    run.wait_for_line("epoch  1/60");
    // All of them at once, as the coordinator sees it: for a moment nobody is there.
    run.signal(Signal::STOP);
    for worker in &workers {
        send_signal(*worker, Signal::KILL);
        wait_until_gone(*worker, Duration::from_secs(60));
    }
    run.signal(Signal::CONT);
    let again = run.wait_for_workers(4);
    assert!(again.iter().all(|worker| !workers.contains(worker)));
    let finished = run.finish().done();
    assert_eq!(finished.digest(), undisturbed, "{finished}");
    assert_eq!(finished.summary()["faults"]["worker_restarts"], 4, "{finished}");
    assert!(finished.stderr.contains("is started again in 50 ms (1 of 10 in a row)"), "{finished}");
    assert!(finished.stderr.contains("for a worker to join: "), "it says that it waits: {finished}");
}

#[test]
fn a_stopped_worker_is_copied_dropped_and_comes_back() {
    let undisturbed = run_small(&[LONG[0], LONG[1], "--workers", "1"]).0.done().digest();
    let folder = tempfile::tempdir().unwrap();
    let mut run = start_long(folder.path(), &["--epochs", "100000"]);
    let joined = run.wait_for_line("worker 2 joined: ");
    let process = joined.split_once("(process ").unwrap().1.split_once(')').unwrap().0;
    let worker: u32 = process.parse().unwrap();
    run.wait_for_line("epoch      1/100000");
    send_signal(worker, Signal::STOP);
    // The run goes on without it, and says why.
    run.wait_for_line(") is dropped: nothing was heard of it for");
    run.wait_for_line("/100000 ");
    send_signal(worker, Signal::CONT);
    // It finds its stream ended, and joins anew.
    run.wait_for_line(&format!("(process {process})"));
    if !run.has_said("epoch     60/100000") {
        run.wait_for_line("epoch     60/100000");
    }
    run.signal(Signal::TERM);
    let finished = run.finish();
    assert_eq!(finished.code(), Some(143), "{finished}");
    assert!(!events(folder.path(), "copied").is_empty(), "{finished}");
    // What is told is for people: no numbers of assignments, no addresses in the tree.
    for event in json_lines(&folder.path().join("run/events.jsonl")) {
        let reason = event["reason"].as_str().unwrap_or_default();
        assert!(!reason.contains('#') && !reason.contains("node ("), "{event}");
    }
    let metrics = json_lines(&folder.path().join("run/metrics.jsonl"));
    let line = metrics.iter().find(|line| line["kind"] == "epoch" && line["epoch"] == 60).unwrap();
    assert_eq!(line["weights_digest"], undisturbed, "{finished}");
    let verified = start(coordinator(folder.path()).args(["verify", "run", "--to", "100"])).finish().done();
    assert!(verified.stdout.contains("100 digests computed again, all as logged"), "{verified}");
}

#[test]
fn a_spare_that_was_stopped_misses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = coordinator(folder.path());
    command.args(["--json", "--run-dir", "run", "--workers", "3", "--micro-shards", "2"]).args(LONG);
    command.args(["--deadline", "60s"]);
    command.args(SMALL.chunks(2).filter(|flag| flag[0] != LONG[0]).flatten());
    let mut run = start(&mut command);
    // The last to join gets no leaves of a batch, only weights.
    let workers = run.wait_for_workers(3);
    // By then it has heard that it is welcome.
    run.wait_for_line("epoch  1/60");
    send_signal(workers[2], Signal::STOP);
    run.wait_for_line("epoch 50/60");
    send_signal(workers[2], Signal::CONT);
    let finished = run.finish().done();
    assert!(events(folder.path(), "worker_dropped").is_empty(), "{finished}");
}

//! However a run ends, nothing is left running, and what was written is readable.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::{
    END_BY_SIGNAL, Running, SMALL, coordinator, json_lines, send_signal, start, wait_until_gone,
};

/// The kernel kills orphans at once; this is for a busy machine.
const ORPHANS_GONE: Duration = Duration::from_secs(10);

fn start_endless(folder: &Path) -> Running {
    let mut command = coordinator(folder);
    let flags =
        ["--json", "--run-dir", "run", "--dataset", "digits", "--examples", "500", "--epochs", "100000"];
    start(command.args(flags))
}

#[test]
fn signals_end_a_run_in_time_with_readable_files() {
    for (signal, name, code) in
        [(Signal::INT, "SIGINT", 130), (Signal::TERM, "SIGTERM", 143), (Signal::HUP, "SIGHUP", 129)]
    {
        let folder = tempfile::tempdir().unwrap();
        let mut run = start_endless(folder.path());
        let workers = run.wait_for_workers(4);
        run.wait_for_line("epoch      1/100000");
        // A stopped worker must not hold up the end.
        send_signal(workers[2], Signal::STOP);
        let begin = Instant::now();
        run.signal(signal);
        let finished = run.finish();
        let took = begin.elapsed();
        assert_eq!(finished.code(), Some(code), "{finished}");
        assert!(took < END_BY_SIGNAL, "{name} took {took:?}");
        workers.iter().for_each(|worker| wait_until_gone(*worker, Duration::ZERO));

        let summary = finished.summary();
        assert_eq!((&summary["status"], &summary["interrupted_by"]), (&"interrupted".into(), &name.into()));
        let written = std::fs::read_to_string(folder.path().join("run/summary.json")).unwrap();
        assert_eq!(written, finished.stdout);
        let metrics = json_lines(&folder.path().join("run/metrics.jsonl"));
        let steps = metrics.iter().filter(|line| line["kind"] == "step").count();
        assert_eq!(summary["steps"], steps, "every step that counts is written");
        // The model is the one that the summary names.
        let model = lockstep_checkpoint::read_model(&folder.path().join("run/model.safetensors")).unwrap();
        let weights: Vec<f32> = lockstep_model::TENSORS
            .iter()
            .flat_map(|tensor| model.tensor(tensor.name).unwrap().values.clone())
            .collect();
        assert_eq!(lockstep_model::digest(&weights).to_string(), summary["weights_digest"].as_str().unwrap());
    }
}

#[test]
fn a_signal_before_the_first_step_ends_the_run_too() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = coordinator(folder.path());
    command.args(["--json", "--external", "--token", "t", "--dataset", "digits", "--examples", "100"]);
    command.args(["--batch-size", "10"]);
    let mut run = start(&mut command);
    run.wait_for_line("waiting for 4 workers");
    run.wait_for_line("worker --coordinator http://127.0.0.1:");
    run.signal(Signal::INT);
    let finished = run.finish();
    assert_eq!(finished.code(), Some(130), "{finished}");
    assert_eq!(finished.summary()["steps"], 0);
}

#[test]
fn a_killed_coordinator_leaves_no_worker_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = start_endless(folder.path());
    let workers = run.wait_for_workers(4);
    run.wait_for_line("epoch      1/100000");
    // One is stopped: it reads no end of a pipe and no reset stream.
    send_signal(workers[1], Signal::STOP);
    run.signal(Signal::KILL);
    let finished = run.finish();
    assert_eq!(finished.code(), None, "{finished}");
    workers.iter().for_each(|worker| wait_until_gone(*worker, ORPHANS_GONE));
    // What was flushed is whole lines.
    assert!(!json_lines(&folder.path().join("run/metrics.jsonl")).is_empty());
}

#[test]
fn a_finished_run_leaves_no_worker_behind_and_says_where_everything_is() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = coordinator(folder.path());
    command.args(["--dataset", "digits", "--examples", "200", "--epochs", "1"]);
    let mut run = start(&mut command);
    let workers = run.wait_for_workers(4);
    let finished = run.finish().done();
    workers.iter().for_each(|worker| wait_until_gone(*worker, Duration::ZERO));
    let line = finished.stdout.lines().find_map(|line| line.strip_prefix("run ")).unwrap();
    let run = folder.path().join(line.trim());
    for file in ["model.safetensors", "summary.json", "metrics.jsonl", "events.jsonl", "config.toml", "logs"]
    {
        assert!(run.join(file).exists(), "{file} is missing in {}", run.display());
    }
}

#[test]
fn a_summary_that_cannot_be_printed_is_a_failure_that_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = coordinator(folder.path());
    command.args(["--json", "--run-dir", "run"]).args(SMALL);
    let status = command.stdin(Stdio::null()).stdout(full).stderr(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(1));
    let summary = std::fs::read_to_string(folder.path().join("run/summary.json")).unwrap();
    assert!(summary.contains("\"status\":\"done\""), "{summary}");
    assert!(folder.path().join("run/model.safetensors").exists());
}

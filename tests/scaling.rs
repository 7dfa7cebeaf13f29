//! `coordinator bench scaling` runs real trainings, compares their bits, and leaves tables and no processes.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{Running, coordinator, send_signal, start, wait_until_gone};

/// Processes appear and go at once; this is for a busy machine.
const SOON: Duration = Duration::from_secs(20);

fn scaling(folder: &Path, flags: &str) -> Command {
    let mut command = coordinator(folder);
    command.args(["bench", "scaling", "--out", "results"]).args(flags.split_whitespace());
    command
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn every_number_of_workers_is_measured_and_has_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let flags = "--workers 1,2 --rounds 1 --steps 5 --examples 100 --batch-size 30 --micro-shards 4 --json";
    // Flags in the environment are for trainings that a user starts.
    let mut command = scaling(folder.path(), flags);
    let finished = start(command.env("LOCKSTEP_LEARNING_RATE", "0.5")).finish().done();
    let report = finished.summary();

    let rows = report["rows"].as_array().unwrap();
    let workers: Vec<&Value> = rows.iter().map(|row| &row["workers"]).collect();
    assert_eq!(workers, [1, 2]);
    for row in rows {
        assert_eq!((&row["batch_size"], &row["threads"]), (&30.into(), &row["workers"]));
        let speed = ["min", "median", "max"].map(|part| row["examples_per_second"][part].as_f64().unwrap());
        assert!(speed[0] > 0.0 && speed[0] == speed[1] && speed[1] == speed[2], "one round: {row}");
        let step = |part: &str| row["step"][part].as_f64().unwrap();
        assert!(step("seconds") > 0.0 && step("wait_seconds") < step("seconds"), "{row}");
        assert!(step("compute_seconds_median") > 0.0 && step("bytes_received") > 0.0, "{row}");
        let cpu = |whose: &str| row["cpu_seconds"][whose].as_f64().unwrap();
        assert!(cpu("coordinator") > 0.0 && cpu("workers") > 0.0, "{row}");
    }
    let sent = |row: usize| rows[row]["step"]["bytes_sent"].as_f64().unwrap();
    assert!(sent(1) > sent(0), "each worker gets the weights: {report}");
    assert_eq!(rows[0]["efficiency"], 1.0);
    assert!(report["coordinator_costs"][0]["seconds"]["slope"].is_number(), "{report}");

    // The weights are those of a training with the same settings, and nothing of the environment.
    let mut command = coordinator(folder.path());
    command.args("--dataset digits --examples 100 --batch-size 30 --micro-shards 4 --max-steps 5".split(' '));
    command.args("--validation-split 0 --workers 3 --json --run-dir run".split(' '));
    let digest = start(&mut command).finish().done().digest();
    let weights = report["weights"].as_array().unwrap();
    let of_steps = |steps: u32| weights.iter().find(|weights| weights["steps"] == steps).unwrap();
    assert_eq!((&of_steps(5)["digest"], &of_steps(5)["runs"]), (&digest.as_str().into(), &2.into()));
    assert_eq!((weights.len(), &of_steps(1)["runs"]), (2, &2.into()));

    let results = folder.path().join("results");
    assert_eq!(names(&results), ["scaling.csv", "scaling.json", "scaling.md", "scaling.svg"]);
    assert_eq!(fs::read_to_string(results.join("scaling.json")).unwrap(), finished.stdout);
    let csv = fs::read_to_string(results.join("scaling.csv")).unwrap();
    let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines.len(), 3, "{csv}");
    assert_eq!(lines[0][..4], ["workers", "threads", "oversubscribed", "batch_size"]);
    for (line, workers) in lines[1..].iter().zip(["1", "2"]) {
        assert_eq!((line.len(), line[0], *line.last().unwrap()), (lines[0].len(), workers, digest.as_str()));
    }
    let markdown = fs::read_to_string(results.join("scaling.md")).unwrap();
    assert!(markdown.contains("| workers |") && markdown.contains(&digest), "{markdown}");
    assert!(fs::read_to_string(results.join("scaling.svg")).unwrap().contains("</svg>"));
}

#[test]
fn a_weak_batch_grows_with_the_workers_and_runs_are_kept_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let flags = "--workers 1,2 --rounds 1 --steps 2 --examples 100 --batch-size 8 --weak --keep-runs";
    let finished = start(&mut scaling(folder.path(), flags)).finish().done();
    assert!(finished.stdout.starts_with("# Weak scaling"), "{finished}");
    let csv = fs::read_to_string(folder.path().join("results/scaling.csv")).unwrap();
    let batch_sizes: Vec<&str> = csv.lines().skip(1).map(|line| line.split(',').nth(3).unwrap()).collect();
    assert_eq!(batch_sizes, ["8", "16"]);
    for run in
        ["round-1-workers-1-batch-8", "round-1-workers-2-batch-16", "round-1-workers-2-batch-16-one-step"]
    {
        let run = folder.path().join("results/runs").join(run);
        assert!(run.join("summary.json").exists() && run.with_extension("log").exists(), "{}", run.display());
    }
}

/// A measurement whose run of several steps is under way, and the process of that run's coordinator.
fn under_way(folder: &Path) -> (Running, u32) {
    let flags = "--workers 2 --rounds 1 --steps 1000000 --examples 100 --batch-size 8";
    let mut command = scaling(folder, flags);
    let mut bench = start(command.env("RUST_LOG", "debug"));
    let coordinator = bench.wait_for(|line| {
        let (_, process) = line.split_once("round-1-workers-2-batch-8 is process ")?;
        process.trim().parse().ok()
    });
    (bench, coordinator)
}

/// Processes of workers that a coordinator has started.
fn workers_of(coordinator: u32) -> Vec<u32> {
    let mark = format!("--parent\0{coordinator}\0");
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    processes
        .filter(|process: &u32| {
            fs::read(format!("/proc/{process}/cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&mark))
        })
        .collect()
}

#[test]
fn a_signal_ends_the_measurement_its_run_and_the_workers() {
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let folder = tempfile::tempdir().unwrap();
        let (bench, coordinator) = under_way(folder.path());
        let deadline = Instant::now() + SOON;
        let workers = loop {
            let workers = workers_of(coordinator);
            if workers.len() == 2 {
                break workers;
            }
            assert!(Instant::now() < deadline, "the workers never came: {workers:?}");
            std::thread::park_timeout(Duration::from_millis(5));
        };
        bench.signal(signal);
        let finished = bench.finish();
        assert_eq!((finished.code(), finished.stdout.as_str()), (Some(code), ""), "{finished}");
        assert!(!finished.stderr.contains("error: "), "{finished}");
        for process in workers.into_iter().chain([coordinator]) {
            wait_until_gone(process, Duration::ZERO);
        }
        assert!(names(folder.path()).iter().all(|name| name != "results"), "nothing was measured");
    }
}

#[test]
fn a_run_that_fails_is_named_with_its_last_lines() {
    let folder = tempfile::tempdir().unwrap();
    let (bench, coordinator) = under_way(folder.path());
    let log = folder.path().join("results/runs/round-1-workers-2-batch-8.log");
    let deadline = Instant::now() + SOON;
    while !fs::read_to_string(&log).unwrap().contains("training on 100 digits") {
        assert!(Instant::now() < deadline, "the run never began");
        std::thread::park_timeout(Duration::from_millis(5));
    }
    send_signal(coordinator, Signal::KILL);
    let finished = bench.finish();
    assert_eq!((finished.code(), finished.stdout.as_str()), (Some(1), ""), "{finished}");
    let (_, message) =
        finished.stderr.split_once("error: round-1-workers-2-batch-8 failed (signal: 9").unwrap();
    assert!(message.contains("results/runs/round-1-workers-2-batch-8.log"), "{finished}");
    let log = fs::read_to_string(log).unwrap();
    let last = log.lines().rfind(|line| !line.trim().is_empty()).unwrap();
    assert!(message.contains(last), "{last:?} is not in {finished}");
    assert_eq!(names(&folder.path().join("results")), ["runs"], "what may explain it stays");
}

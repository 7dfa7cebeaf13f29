//! What Prometheus and probes read of a run is what the run's own records say.

use std::net::SocketAddr;
use std::path::Path;

use rustix::process::Signal;
use serde_json::Value;

use crate::dashboard::client::Address;
use crate::harness::{PATIENT, Running, SMALL, coordinator, json_lines, start, wait_until, worker};

fn start_with(folder: &Path, arguments: &[&str]) -> (Running, Address) {
    let mut command = coordinator(folder);
    command.args(["--json", "--run-dir", "run"]).args(arguments).args(&SMALL[..6]);
    let mut run = start(&mut command);
    let address =
        |line: &str| line.strip_prefix("dashboard http://")?.strip_suffix('/')?.parse::<SocketAddr>().ok();
    let address = run.wait_for(address).into();
    (run, address)
}

/// The value of a sample, if there is one.
fn sample(address: Address, name: &str) -> Option<f64> {
    let text = address.get("/metrics").text();
    let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))?;
    Some(line.rsplit(' ').next().unwrap().parse().unwrap())
}

#[test]
fn the_metrics_are_those_of_the_records() {
    let folder = tempfile::tempdir().unwrap();
    let (mut run, address) = start_with(folder.path(), &["--stay", "--epochs", "2", PATIENT[0], PATIENT[1]]);
    run.wait_for_line("the dashboard stays at http://");
    let answer = address.get("/metrics");
    let open_metrics = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!((answer.status, answer.header("content-type")), (200, open_metrics));
    let summary = &json_lines(&folder.path().join("run/summary.json"))[0];
    let lines = json_lines(&folder.path().join("run/metrics.jsonl"));
    let steps: Vec<&Value> = lines.iter().filter(|line| line["kind"] == "step").collect();
    let sum = |field: &str| steps.iter().map(|step| step[field].as_f64().unwrap()).sum::<f64>();
    let last = |field: &str| steps.last().unwrap()[field].as_f64().unwrap();
    let of_run = |field: &str| summary[field].as_f64().unwrap();
    for (name, value) in [
        ("lockstep_steps_total", of_run("steps")),
        ("lockstep_step", of_run("steps")),
        ("lockstep_planned_steps", of_run("steps")),
        ("lockstep_epochs_total", 2.0),
        ("lockstep_examples_total", of_run("examples")),
        ("lockstep_sent_bytes_total", sum("bytes_sent")),
        ("lockstep_received_bytes_total", sum("bytes_received")),
        ("lockstep_step_duration_seconds_count", of_run("steps")),
        ("lockstep_step_duration_seconds_sum", sum("seconds")),
        ("lockstep_step_part_seconds_total{part=\"wait\"}", sum("wait_seconds")),
        ("lockstep_loss", last("loss")),
        ("lockstep_accuracy_ratio", last("accuracy")),
        ("lockstep_validation_loss", of_run("val_loss")),
        ("lockstep_workers", 4.0),
        ("lockstep_decisions_total{kind=\"worker_joined\"}", 4.0),
    ] {
        let shown = sample(address, name).unwrap_or_else(|| panic!("no {name} in {}", answer.text()));
        // The file has the shortest digits of an f32, the metrics those of the same number as f64.
        assert!((shown - value).abs() <= value.abs() * 1e-6, "{name} is {shown}, the records say {value}");
    }
    let run_id = format!("lockstep_run_info{{run_id={}", summary["run_id"]);
    assert!(answer.text().contains(&run_id), "{run_id} in {}", answer.text());
    run.signal(Signal::INT);
    run.finish().done();
}

#[test]
fn a_run_is_ready_while_it_trains_and_not_while_it_waits_for_a_worker() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--epochs", "100000", "--external", "--token", "secret", "--workers", "1"];
    let (mut run, address) = start_with(folder.path(), &arguments);
    let url = run.wait_for(|line| {
        let (_, after) = line.split_once("--coordinator ")?;
        after.split_whitespace().next().map(str::to_string)
    });
    let ready = address.get("/readyz");
    assert_eq!((ready.status, &ready.text()[..]), (503, "before the first step\n"));
    let one =
        start(worker(folder.path()).args(["--coordinator", &url, "--token", "secret", "--name", "one"]));
    wait_until(|| address.get("/readyz").status == 200);
    wait_until(|| sample(address, "lockstep_worker_share_ratio{worker=\"one\"}") == Some(1.0));
    assert_eq!(address.get("/healthz").status, 200);
    let versions: Value = serde_json::from_str(&address.get("/version").text()).unwrap();
    assert_eq!(versions["version"], env!("CARGO_PKG_VERSION"));
    one.signal(Signal::KILL);
    wait_until(|| address.get("/readyz").status == 503);
    assert_eq!(address.get("/readyz").text(), "waiting for a worker\n");
    assert_eq!(address.get("/healthz").status, 200, "it lives");
    assert!(sample(address, "lockstep_faults_total{kind=\"worker_dropped\"}") >= Some(1.0));
    run.signal(Signal::INT);
    assert_eq!(run.finish().code(), Some(130));
}

//! Tests of the metrics, as their readers see them.

use super::*;
use lockstep_records::{TensorNorms, examples};

fn facts() -> RunFacts {
    RunFacts { run_id: "0011".to_owned(), version: "1.2.3", numerics_version: 4, steps: 100, done: 7 }
}

/// The value of a sample, if there is one.
fn sample(exposition: &Exposition, name: &str) -> Option<f64> {
    let text = exposition.open_metrics();
    let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))?;
    Some(line.rsplit(' ').next().unwrap().parse().unwrap())
}

#[test]
fn before_the_first_step_nothing_is_made_up() {
    let (sink, exposition) = PrometheusSink::new();
    sink.describe(&facts());
    let text = exposition.open_metrics();
    for line in [
        "lockstep_run_info{run_id=\"0011\",version=\"1.2.3\",numerics_version=\"4\"} 1.0",
        "lockstep_step 7.0",
        "lockstep_planned_steps 100.0",
        "lockstep_steps_total 0",
        "lockstep_faults_total{kind=\"worker_dropped\"} 0",
    ] {
        assert!(text.lines().any(|other| other == line), "{line} is not in\n{text}");
    }
    for name in ["lockstep_loss", "lockstep_validation_loss", "lockstep_examples_per_second"] {
        assert_eq!(sample(&exposition, name), None);
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn records_move_the_metrics() {
    let (mut sink, exposition) = PrometheusSink::new();
    let step = examples::step();
    sink.step(&StepRecord { step: 8, ..step.clone() });
    sink.step(&StepRecord { step: 9, loss: 1.5, workers: 3, ..step });
    sink.epoch(&examples::epoch());
    for kind in ["copied", "worker_dropped", "copied"] {
        sink.event(&EventRecord { kind: kind.into(), ..examples::event() });
    }
    let tensors = vec![TensorNorms { name: "conv1.kernel", weights: 3.0, gradient: 0.5 }];
    sink.norms(&NormsRecord { step: 8, tensors });
    for (name, value) in [
        ("lockstep_step", 9.0),
        ("lockstep_epoch", 1.0),
        ("lockstep_workers", 3.0),
        ("lockstep_loss", 1.5),
        ("lockstep_accuracy_ratio", 0.125),
        ("lockstep_validation_loss", f64::from(0.1123_f32)),
        ("lockstep_validation_accuracy_ratio", f64::from(0.967_f32)),
        ("lockstep_examples_per_second", 16_000.0),
        ("lockstep_weight_norm", 3.0),
        ("lockstep_gradient_norm", 0.5),
        ("lockstep_steps_total", 2.0),
        ("lockstep_epochs_total", 1.0),
        ("lockstep_examples_total", 128.0),
        ("lockstep_sent_bytes_total", 1_062_208.0),
        ("lockstep_received_bytes_total", 265_552.0),
        ("lockstep_step_duration_seconds_sum", 0.008),
        ("lockstep_step_duration_seconds_count", 2.0),
        ("lockstep_step_duration_seconds_bucket{le=\"0.002\"}", 0.0),
        ("lockstep_step_duration_seconds_bucket{le=\"0.004\"}", 2.0),
        ("lockstep_step_part_seconds_total{part=\"send\"}", 0.001),
        ("lockstep_step_part_seconds_total{part=\"wait\"}", 0.004),
        ("lockstep_step_part_seconds_total{part=\"reduce\"}", 0.0005),
        ("lockstep_step_part_seconds_total{part=\"update\"}", 0.00002),
        ("lockstep_node_compute_seconds{of=\"median\"}", 0.001),
        ("lockstep_node_compute_seconds{of=\"max\"}", 0.0015),
        ("lockstep_decisions_total{kind=\"copied\"}", 2.0),
        ("lockstep_decisions_total{kind=\"worker_dropped\"}", 1.0),
        ("lockstep_faults_total{kind=\"worker_dropped\"}", 1.0),
    ] {
        assert_eq!(sample(&exposition, name), Some(value), "{name} in\n{}", exposition.open_metrics());
    }
    assert_eq!(sample(&exposition, "lockstep_faults_total{kind=\"copied\"}"), None);
}

fn worker(number: u32, name: &str) -> WorkerRecord {
    WorkerRecord {
        worker: number,
        name: name.to_owned(),
        host: "host".to_owned(),
        pid: 1,
        threads: 1,
        cpu: "avx2".to_owned(),
        state: WorkerState::Working,
        reason: String::new(),
        straggler: number == 2,
        share: 0.25,
        examples_per_second: 100.0,
        latency_seconds: Some(0.5),
        compute_share: 0.5,
        transfer_share: 0.125,
        wait_share: 0.375,
        examples: 0,
        evaluated: 0,
        answers: 0,
        compute_seconds: 0.0,
        transfer_seconds: 0.0,
    }
}

fn workers(workers: Vec<WorkerRecord>) -> WorkersRecord {
    WorkersRecord { seconds: 1.0, step: 1, window_seconds: 0.25, workers }
}

#[test]
fn members_have_their_series_and_lose_them_when_they_leave() {
    let (mut sink, exposition) = PrometheusSink::new();
    sink.workers(&workers(vec![worker(1, "a"), worker(2, "b")]));
    for (name, value) in [
        ("lockstep_worker_share_ratio{worker=\"a\"}", 0.25),
        ("lockstep_worker_examples_per_second{worker=\"a\"}", 100.0),
        ("lockstep_worker_latency_seconds{worker=\"b\"}", 0.5),
        ("lockstep_worker_straggler{worker=\"a\"}", 0.0),
        ("lockstep_worker_straggler{worker=\"b\"}", 1.0),
        ("lockstep_worker_time_ratio{worker=\"b\",part=\"compute\"}", 0.5),
        ("lockstep_worker_time_ratio{worker=\"b\",part=\"transfer\"}", 0.125),
        ("lockstep_worker_time_ratio{worker=\"b\",part=\"wait\"}", 0.375),
    ] {
        assert_eq!(sample(&exposition, name), Some(value), "{name} in\n{}", exposition.open_metrics());
    }
    // One left, and one of the same name as another came.
    let gone = WorkerRecord { state: WorkerState::Gone, ..worker(1, "a") };
    sink.workers(&workers(vec![worker(2, "b"), worker(3, "b"), gone]));
    let text = exposition.open_metrics();
    assert!(!text.contains("worker=\"a\"") && !text.contains("worker=\"b\""), "{text}");
    assert!(text.contains("worker=\"b#2\"") && text.contains("worker=\"b#3\""), "{text}");
    sink.workers(&workers(Vec::new()));
    assert!(!exposition.open_metrics().contains("worker=\""));
}

#[test]
fn every_query_of_the_dashboard_is_of_a_metric_that_there_is() {
    let (mut sink, exposition) = PrometheusSink::new();
    sink.describe(&facts());
    sink.step(&examples::step());
    sink.epoch(&examples::epoch());
    sink.event(&EventRecord { kind: "copied".into(), ..examples::event() });
    let tensors = vec![TensorNorms { name: "conv1.kernel", weights: 3.0, gradient: 0.5 }];
    sink.norms(&NormsRecord { step: 8, tensors });
    sink.workers(&workers(vec![worker(1, "a")]));
    let text = exposition.open_metrics();
    let samples: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split(['{', ' ']).next().unwrap())
        .collect();

    let board = include_str!("../../../../deploy/grafana/lockstep.json");
    let board: serde_json::Value = serde_json::from_str(board).unwrap();
    let panels = board["panels"].as_array().unwrap().iter();
    let queries: Vec<&str> = panels
        .filter_map(|panel| panel["targets"].as_array())
        .flatten()
        .map(|target| target["expr"].as_str().unwrap())
        .collect();
    assert!(queries.len() >= 15, "{} queries", queries.len());
    let mut named = 0;
    for query in queries {
        let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for name in words.filter(|word| word.starts_with("lockstep_")) {
            assert!(samples.contains(&name), "{name}, of {query}, is not in\n{text}");
            named += 1;
        }
    }
    assert!(named >= 15);
}

#[test]
fn the_rate_is_that_of_the_newest_second() {
    let (mut sink, exposition) = PrometheusSink::new();
    let mut rate = |seconds: f64| {
        sink.step(&StepRecord { seconds, examples: 60, ..examples::step() });
        sample(&exposition, "lockstep_examples_per_second")
    };
    assert_eq!(rate(0.25), Some(240.0), "the first step, which is all there is");
    assert_eq!(rate(0.5), Some(240.0));
    assert_eq!(rate(0.5), Some(120.0), "120 examples in a second");
    assert_eq!(rate(2.0), Some(30.0));
}

#[test]
fn both_formats_have_the_same_samples() {
    let (mut sink, exposition) = PrometheusSink::new();
    sink.step(&examples::step());
    let samples = |text: String| -> Vec<String> {
        let mut samples: Vec<String> =
            text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect();
        samples.sort();
        samples
    };
    assert_eq!(samples(exposition.open_metrics()), samples(exposition.plain_text()));
    let plain = exposition.plain_text();
    assert!(plain.contains("# TYPE lockstep_steps_total counter\n") && !plain.contains("# EOF"), "{plain}");
}

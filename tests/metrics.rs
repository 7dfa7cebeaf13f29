//! What a run writes about itself: a line per step and per epoch, a summary, all with the documented fields.

use lockstep_records::examples;
use serde_json::Value;

use crate::harness::{PATIENT, json_lines, run_small};

fn fields(line: &Value) -> Vec<&str> {
    line.as_object().unwrap().keys().map(String::as_str).collect()
}

/// The fields of a record as the one type of it has them; `crates/records` holds their names.
fn fields_of(record: &impl serde::Serialize) -> Vec<String> {
    let record = serde_json::to_value(record).unwrap();
    fields(&record).into_iter().map(str::to_owned).collect()
}

#[test]
fn every_step_and_epoch_has_its_line() {
    let (finished, folder) = run_small(&PATIENT);
    let summary = finished.done().summary();
    let lines = json_lines(&folder.path().join("run/metrics.jsonl"));
    assert_eq!(lines[0]["kind"], "header");
    assert_eq!((&lines[0]["schema_version"], &lines[0]["run_id"]), (&1.into(), &summary["run_id"]));
    let steps: Vec<&Value> = lines.iter().filter(|line| line["kind"] == "step").collect();
    let epochs: Vec<&Value> = lines.iter().filter(|line| line["kind"] == "epoch").collect();
    assert_eq!((steps.len(), epochs.len(), lines.len()), (28, 2, 31));
    let decisions = steps[0]["decisions"].to_string();
    assert_eq!(decisions.matches(" joined: ").count(), 4, "who came before the first step: {decisions}");
    let (step_fields, epoch_fields) = (fields_of(&examples::step()), fields_of(&examples::epoch()));
    for (index, step) in steps.iter().enumerate() {
        let fields: Vec<&str> = fields(step).into_iter().filter(|field| *field != "decisions").collect();
        assert_eq!(fields, step_fields);
        assert_eq!(step["step"], index + 1);
        assert_eq!(step["epoch"], index / 14 + 1);
        assert_eq!(step["examples"], if index % 14 == 13 { 9 } else { 32 });
        assert_eq!(step["workers"], 4);
        let seconds = |name: &str| step[name].as_f64().unwrap();
        assert!(seconds("compute_seconds_max") >= seconds("compute_seconds_median"), "{step}");
        let parts = ["send_seconds", "wait_seconds", "reduce_seconds", "update_seconds"];
        let parts: f64 = parts.iter().map(|part| seconds(part)).sum();
        assert!(parts > 0.0 && parts <= seconds("seconds") * 1.001, "the parts are of the step: {step}");
        // Four workers get the weights and send a gradient each, some two.
        assert!(step["bytes_received"].as_u64().unwrap() >= 4 * 132_776 || index % 14 == 13, "{step}");
        assert!(step["bytes_sent"].as_u64().unwrap() > 0, "{step}");
    }
    for (index, epoch) in epochs.iter().enumerate() {
        assert_eq!(fields(epoch), epoch_fields);
        assert_eq!((&epoch["epoch"], &epoch["step"]), (&(index + 1).into(), &((index + 1) * 14).into()));
    }
    assert_eq!(epochs[1]["weights_digest"], summary["weights_digest"]);
    assert_eq!(epochs[1]["val_loss"], summary["val_loss"]);
}

#[test]
fn the_summary_is_what_the_run_found() {
    let (finished, folder) = run_small(&["--max-steps", "20"]);
    let summary = finished.done().summary();
    let expected = [
        ("schema_version", Value::from(1)),
        ("status", "done".into()),
        ("epochs", 1.into()),
        ("steps", 20.into()),
        ("examples", (425 + 6 * 32).into()),
        ("workers", 4.into()),
        ("dataset", "digits".into()),
        ("dataset_fallback", false.into()),
        ("seed", 42.into()),
        ("batch_size", 32.into()),
        ("micro_shards", 16.into()),
        ("numerics_version", lockstep_model::NUMERICS_VERSION.into()),
    ];
    for (name, value) in expected {
        assert_eq!(summary[name], value, "{name}");
    }
    assert_eq!(summary["dataset_sha256"].as_str().unwrap().len(), 64);
    assert!(summary["val_loss"].is_number(), "a run that ends within an epoch is evaluated too");
    let confusion: Vec<Vec<u64>> = serde_json::from_value(summary["confusion_matrix"].clone()).unwrap();
    let all: u64 = confusion.iter().flatten().sum();
    let right: u64 = (0..10).map(|class| confusion[class][class]).sum();
    assert_eq!((all, confusion.len()), (10_000, 10));
    assert_eq!(summary["test_accuracy"].to_string().parse::<f32>().unwrap(), right as f32 / 10_000.0);
    let text = std::fs::read_to_string(folder.path().join("run/summary.json")).unwrap();
    assert!(!text.contains(": ") && !text.contains(", "), "no spaces after colons and commas");
}

#[test]
fn a_run_without_validation_has_nulls_instead() {
    let (finished, folder) = run_small(&["--validation-split", "0"]);
    let summary = finished.done().summary();
    assert!(summary["val_loss"].is_null() && summary["val_accuracy"].is_null());
    let lines = json_lines(&folder.path().join("run/metrics.jsonl"));
    let epochs: Vec<&Value> = lines.iter().filter(|line| line["kind"] == "epoch").collect();
    assert_eq!(epochs.len(), 2);
    assert!(epochs.iter().all(|epoch| epoch["val_loss"].is_null()));
    assert_eq!(epochs[1]["weights_digest"], summary["weights_digest"]);
}

#[test]
fn every_batch_is_an_event_of_the_log_with_named_fields() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = crate::harness::coordinator(folder.path());
    command.args(["--json", "--no-metrics", "--max-steps", "5"]).args(crate::harness::SMALL);
    let finished = crate::harness::start(command.env("RUST_LOG", "lockstep::step=debug")).finish().done();
    let lines: Vec<&str> = finished.stderr.lines().filter(|line| line.contains(" step=")).collect();
    assert_eq!(lines.len(), 5, "{finished}");
    for field in ["loss=", "accuracy=", "examples_per_second=", "wait_seconds=", "bytes_sent=", "workers=4"] {
        assert!(lines.iter().all(|line| line.contains(field)), "{field}: {finished}");
    }
}

//! A learning rate so large that training diverges: not a fault, and nothing that is not a number is written.

use std::fs;
use std::path::Path;

use lockstep_model::{PARAMETERS, TENSORS};
use serde_json::Value;

use super::{assert_parts, listing};
use crate::harness::{coordinator, json_lines, run_small, start};

/// The weights of a model file, in the canonical order.
fn weights(path: &Path) -> Vec<f32> {
    let bytes = fs::read(path).unwrap();
    let (length, rest) = bytes.split_at(8);
    let (header, data) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
    let header: Value = serde_json::from_slice(header).unwrap();
    let mut weights = Vec::with_capacity(PARAMETERS);
    for tensor in &TENSORS {
        let offsets = &header[tensor.name]["data_offsets"];
        let place = |at: usize| offsets[at].as_u64().unwrap() as usize;
        let values = data[place(0)..place(1)].chunks_exact(4);
        weights.extend(values.map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())));
    }
    weights
}

/// Asserts that every file of JSON in a run directory is JSON, which NaN and infinities are not.
fn assert_json(run: &Path) {
    let files: Vec<_> = listing(run).into_keys().collect();
    let of_kind = |extension: &str| {
        files.iter().filter(|path| path.extension().is_some_and(|e| e == extension)).count()
    };
    // The summary, what the workers did, and the manifest of the last checkpoint.
    assert_eq!((of_kind("json"), of_kind("jsonl")), (3, 2), "{files:?}");
    for path in files {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("json") => drop(serde_json::from_slice::<Value>(&fs::read(&path).unwrap()).unwrap()),
            Some("jsonl") => assert!(json_lines(&path).len() > 1, "{path:?}"),
            Some("tmp") => panic!("{path:?} was left behind"),
            _ => {}
        }
    }
}

#[test]
fn divergence_ends_the_run_with_the_last_finite_weights() {
    let rate = ["--workers", "2", "--learning-rate", "1e30"];
    let (finished, folder) = run_small(&rate);
    let run = folder.path().join("run");
    assert_eq!(finished.code(), Some(1), "{finished}");
    let errors: Vec<&str> = finished.stderr.lines().filter(|line| line.contains("ERROR")).collect();
    assert_eq!(errors.len(), 1, "{finished}");
    assert_parts(
        errors[0],
        &["training diverged in step 2", "1e30", "lower --learning-rate", "model.safetensors"],
    );
    assert!(!finished.stderr.contains("is dropped"), "no worker is at fault: {finished}");

    let summary = finished.summary();
    assert_eq!(summary["status"], "diverged");
    assert_eq!((&summary["diverged_at_step"], &summary["steps"]), (&2.into(), &1.into()));
    assert_eq!((&summary["test_loss"], &summary["val_loss"]), (&Value::Null, &Value::Null));
    let written: Value = serde_json::from_slice(&fs::read(run.join("summary.json")).unwrap()).unwrap();
    assert_eq!(written, summary);
    assert_json(&run);

    let weights = weights(&run.join("model.safetensors"));
    assert!(weights.iter().all(|weight| weight.is_finite()));
    assert_eq!(summary["weights_digest"], lockstep_model::digest(&weights).to_string());
}

#[test]
fn finite_weights_whose_evaluation_is_not_finite_are_no_end_that_is_done() {
    let rate = ["--workers", "2", "--learning-rate", "1e30"];
    // The test, the validation, and the validation of an epoch that others were to follow.
    for more in [
        &["--max-steps", "1", "--validation-split", "0"][..],
        &["--max-steps", "1"],
        &["--batch-size", "425", "--micro-shards", "64"],
    ] {
        let (finished, folder) = run_small(&[&rate[..], more].concat());
        assert_eq!(finished.code(), Some(1), "{finished}");
        let errors: Vec<&str> = finished.stderr.lines().filter(|line| line.contains("ERROR")).collect();
        assert_eq!(errors.len(), 1, "{finished}");
        let words = [
            "training diverged by step 1",
            "evaluation",
            "1e30",
            "lower --learning-rate",
            "model.safetensors",
        ];
        assert_parts(errors[0], &words);
        let summary = finished.summary();
        assert_eq!(summary["status"], "diverged", "{finished}");
        assert_eq!((&summary["diverged_at_step"], &summary["steps"]), (&1.into(), &1.into()));
        for field in ["test_loss", "test_accuracy", "val_loss", "val_accuracy", "confusion_matrix"] {
            assert_eq!(summary[field], Value::Null, "{field}");
        }
        assert!(!finished.stderr.contains("drop worker"), "no worker is at fault: {finished}");
        let run = folder.path().join("run");
        assert!(weights(&run.join("model.safetensors")).iter().all(|weight| weight.is_finite()));
        assert_json(&run);
        let resumed = start(coordinator(folder.path()).args(["--resume", "run"])).finish();
        assert_eq!(resumed.code(), Some(1), "nor by a later process: {resumed}");
    }
}

//! The promise of the name: one digest, and one set of values, whatever the number of workers and threads.

use lockstep_dataset::{Choice, Dataset, Source};
use serde_json::Value;

use crate::harness::{SMALL, coordinator, json_lines, mnist, run_small, start};
use crate::oracle::{self, Recipe, Trained};

const WORKERS: [u32; 7] = [1, 2, 3, 4, 5, 7, 8];
const THREADS: [u32; 3] = [1, 2, 3];

fn dataset(choice: Choice, examples: usize, folder: Option<std::path::PathBuf>) -> Dataset {
    let mut source = Source::new(choice);
    source.examples = Some(examples);
    source.data_dir = folder;
    source.offline = true;
    lockstep_dataset::load(&source, &mut |_| {}).unwrap()
}

/// What must be equal of a line of metrics: all but times, rates, bytes and the number of workers.
fn values(mut line: Value) -> Value {
    let fields = line.as_object_mut().unwrap();
    fields.retain(|name, _| {
        !(name.contains("seconds")
            || name.contains("per_second")
            || name.starts_with("bytes_")
            || name == "workers"
            || name == "decisions")
    });
    line
}

fn metrics(folder: &std::path::Path) -> Vec<Value> {
    let lines = json_lines(&folder.join("run/metrics.jsonl"));
    lines.into_iter().filter(|line| line["kind"] != "header").map(values).collect()
}

/// The f32 that a JSON number was printed from.
fn bits(value: &Value) -> u32 {
    value.to_string().parse::<f32>().unwrap().to_bits()
}

/// Asserts that a run's metrics and summary are the oracle's, step by step and epoch by epoch.
fn assert_like_oracle(metrics: &[Value], summary: &Value, oracle: &Trained) {
    let of_kind = |kind: &'static str| metrics.iter().filter(move |line| line["kind"] == kind);
    assert_eq!(of_kind("step").count(), oracle.steps.len());
    for (line, means) in of_kind("step").zip(&oracle.steps) {
        assert_eq!(bits(&line["loss"]), means.loss.to_bits(), "{line}");
        assert_eq!(bits(&line["accuracy"]), means.accuracy.to_bits(), "{line}");
    }
    assert_eq!(of_kind("epoch").count(), oracle.epochs.len());
    for (line, (digest, validation)) in of_kind("epoch").zip(&oracle.epochs) {
        assert_eq!(line["weights_digest"], **digest, "{line}");
        match validation {
            Some(means) => {
                assert_eq!(bits(&line["val_loss"]), means.loss.to_bits(), "{line}");
                assert_eq!(bits(&line["val_accuracy"]), means.accuracy.to_bits(), "{line}");
            }
            None => assert!(line["val_loss"].is_null() && line["val_accuracy"].is_null(), "{line}"),
        }
    }
    assert_eq!(summary["weights_digest"], *oracle.epochs.last().unwrap().0);
    assert_eq!(bits(&summary["test_loss"]), oracle.test.loss.to_bits());
    assert_eq!(bits(&summary["test_accuracy"]), oracle.test.accuracy.to_bits());
}

#[test]
fn workers_and_threads_change_no_bit_of_the_oracle_s() {
    let recipe = Recipe {
        seed: 42,
        epochs: 2,
        batch_size: 32,
        shards: 16,
        learning_rate: 0.01,
        validation_split: 0.15,
    };
    let oracle = oracle::train(&dataset(Choice::Digits, 500, None), &recipe);
    assert_eq!((oracle.epochs.len(), oracle.steps.len()), (2, 28), "the last batch of an epoch is short");

    let mut first: Option<(Value, Vec<Value>)> = None;
    for workers in WORKERS {
        for threads in THREADS {
            let shape = format!("{workers} workers of {threads} threads");
            let (workers, threads) = (workers.to_string(), threads.to_string());
            let (finished, folder) = run_small(&["--workers", &workers, "--threads-per-worker", &threads]);
            let finished = finished.done();
            assert_eq!(finished.digest(), oracle.epochs[1].0, "{shape}");
            let metrics = metrics(folder.path());
            assert_like_oracle(&metrics, &finished.summary(), &oracle);
            let mut summary = finished.summary();
            let fields = summary.as_object_mut().unwrap();
            fields.retain(|name, _| {
                // A busy machine may have made some work late, which changes no bit.
                !["run_id", "train_seconds", "examples_per_second", "workers", "threads_per_worker", "faults"]
                    .contains(&name.as_str())
            });
            match &first {
                None => first = Some((summary, metrics)),
                Some((first_summary, first_metrics)) => {
                    assert_eq!(&summary, first_summary, "{shape}");
                    assert_eq!(&metrics, first_metrics, "{shape}");
                }
            }
        }
    }
}

#[test]
fn the_run_s_identity_changes_the_bits() {
    let digest = |arguments: &[&str]| run_small(arguments).0.done().digest();
    let plain = digest(&[]);
    assert_eq!(plain, digest(&["--workers", "2"]));
    let changes = [
        ["--seed", "43"],
        ["--micro-shards", "8"],
        ["--batch-size", "31"],
        ["--learning-rate", "0.011"],
        ["--examples", "499"],
        ["--validation-split", "0.2"],
    ];
    for change in changes {
        assert_ne!(plain, digest(&change), "{change:?}");
    }
}

#[test]
fn odd_shapes_equal_the_oracle() {
    // More workers than shards, one shard, more shards than examples, no validation.
    let shapes = [("3", "2", 16, 0.15), ("2", "1", 7, 0.15), ("4", "64", 5, 0.0)];
    let data = dataset(Choice::Digits, 60, None);
    for (workers, shards, batch_size, validation_split) in shapes {
        let recipe = Recipe {
            seed: 7,
            epochs: 1,
            batch_size,
            shards: shards.parse().unwrap(),
            learning_rate: 0.05,
            validation_split,
        };
        let oracle = oracle::train(&data, &recipe);
        let (batch, split) = (batch_size.to_string(), validation_split.to_string());
        let (finished, folder) = run_small(&[
            "--workers",
            workers,
            "--micro-shards",
            shards,
            "--batch-size",
            &batch,
            "--validation-split",
            &split,
            "--learning-rate",
            "0.05",
            "--seed",
            "7",
            "--examples",
            "60",
            "--epochs",
            "1",
        ]);
        assert_like_oracle(&metrics(folder.path()), &finished.done().summary(), &oracle);
    }
}

#[test]
fn real_mnist_equals_the_oracle() {
    let Some(mnist) = mnist("real_mnist_equals_the_oracle") else { return };
    let recipe = Recipe {
        seed: 42,
        epochs: 2,
        batch_size: 64,
        shards: 16,
        learning_rate: 0.01,
        validation_split: 0.15,
    };
    let oracle = oracle::train(&dataset(Choice::Mnist, 2000, Some(mnist.clone())), &recipe);
    let folder = tempfile::tempdir().unwrap();
    let mut command = coordinator(folder.path());
    command
        .args(["--json", "--run-dir", "run", "--examples", "2000", "--epochs", "2"])
        .arg("--data-dir")
        .arg(mnist);
    let summary = start(&mut command).finish().done().summary();
    assert_like_oracle(&metrics(folder.path()), &summary, &oracle);
}

#[test]
fn what_is_shown_and_written_changes_no_bit() {
    let plain = run_small(&[]).0.done().digest();
    assert_eq!(run_small(&["--no-metrics", "--no-progress"]).0.done().digest(), plain);
    let folder = tempfile::tempdir().unwrap();
    let mut command = coordinator(folder.path());
    command.args(["--json"]).args(SMALL).env("RUST_LOG", "trace");
    assert_eq!(start(&mut command).finish().done().digest(), plain);
}

//! What TensorBoard shows of a run is what the run's own records say, also after a restart.

use std::path::Path;

use serde_json::Value;

use crate::event_files::{self, EventFiles};
use crate::harness::{SMALL, coordinator, json_lines, killed, run_small, start};

/// The curves of training, and the fields of `metrics.jsonl` that they draw.
const CURVES: [(&str, &str); 13] = [
    ("loss", "loss"),
    ("accuracy", "accuracy"),
    ("speed/examples_per_second", "examples_per_second"),
    ("speed/step_seconds", "seconds"),
    ("time/send_seconds", "send_seconds"),
    ("time/compute_seconds_median", "compute_seconds_median"),
    ("time/compute_seconds_max", "compute_seconds_max"),
    ("time/wait_seconds", "wait_seconds"),
    ("time/reduce_seconds", "reduce_seconds"),
    ("time/update_seconds", "update_seconds"),
    ("traffic/bytes_sent", "bytes_sent"),
    ("traffic/bytes_received", "bytes_received"),
    ("workers", "workers"),
];

fn train(run: &Path) -> EventFiles {
    event_files::read(&run.join("tensorboard/train"))
}

fn validation(run: &Path) -> EventFiles {
    event_files::read(&run.join("tensorboard/validation"))
}

/// Asserts that every line of `metrics.jsonl` is a point of every curve, once and in order, and that there are no others.
fn assert_like_metrics(run: &Path) {
    let lines = json_lines(&run.join("metrics.jsonl"));
    let points = |kind: &str, field: &str| -> Vec<(u64, f32)> {
        let lines = lines.iter().filter(|line| line["kind"] == kind);
        lines.map(|line| (line["step"].as_u64().unwrap(), as_f32(&line[field]))).collect()
    };
    let train = train(run);
    for (tag, field) in CURVES {
        assert_eq!(train.scalars[tag], points("step", field), "{tag}");
    }
    let validation = validation(run);
    let curves = ["accuracy", "loss", "test/accuracy", "test/loss"];
    assert_eq!(validation.scalars.keys().collect::<Vec<_>>(), curves);
    let summary = &json_lines(&run.join("summary.json"))[0];
    let test = |field: &str| vec![(summary["steps"].as_u64().unwrap(), as_f32(&summary[field]))];
    assert_eq!(validation.scalars["test/loss"], test("test_loss"));
    assert_eq!(validation.scalars["test/accuracy"], test("test_accuracy"));
    assert_eq!(validation.scalars["loss"], points("epoch", "val_loss"));
    assert_eq!(validation.scalars["accuracy"], points("epoch", "val_accuracy"));
}

/// A number as it was before it was written down.
fn as_f32(value: &Value) -> f32 {
    match value.as_u64() {
        Some(whole) => whole as f32,
        None => value.as_f64().unwrap() as f32,
    }
}

#[test]
fn the_curves_are_those_of_the_metrics() {
    let (finished, folder) = run_small(&[]);
    let digest = finished.done().digest();
    let run = folder.path().join("run");
    assert_like_metrics(&run);
    let train = train(&run);
    assert_eq!(train.names, ["events.out.tfevents.0000000001.lockstep"]);
    assert!(train.restarts.is_empty());
    assert!(train.wall_times.is_sorted(), "{:?}", train.wall_times);
    // A point may be ahead by the step that was under way when the time was last known.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let times = &train.wall_times;
    assert!(times.iter().all(|time| (now - 3600.0..now + 1.0).contains(time)), "{now} is after {times:?}");

    let norms: Vec<&String> = train.scalars.keys().filter(|tag| tag.contains("_norm/")).collect();
    assert_eq!(norms.len(), 22, "ten tensors and all of them, weights and gradients: {norms:?}");
    for norm in norms {
        let steps: Vec<u64> = train.scalars[norm].iter().map(|(step, _)| *step).collect();
        assert_eq!(steps, [10, 20, 28], "{norm}");
    }
    // The last ones are those of the model.
    let bytes = std::fs::read(run.join("model.safetensors")).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let squares = bytes[header..].chunks_exact(4).map(|value| {
        let value = f64::from(f32::from_le_bytes(value.try_into().unwrap()));
        value * value
    });
    let norm = squares.sum::<f64>().sqrt() as f32;
    let (_, written) = train.scalars["weight_norm/total"][2];
    assert!((written - norm).abs() <= norm * 1e-6, "{written} is written, and the model's norm is {norm}");
    let gradients = &train.scalars["gradient_norm/total"];
    assert!(gradients.iter().all(|(_, norm)| (0.01..100.0).contains(norm)), "{gradients:?}");

    let images = &validation(&run).images["predictions"];
    let places: Vec<_> =
        images.iter().map(|(step, image)| (*step, image.width, image.height, image.colorspace)).collect();
    assert_eq!(places, [(14, 604, 604, 3), (28, 604, 604, 3)]);
    assert!(images.iter().all(|(_, image)| image.png.starts_with(b"\x89PNG\r\n\x1a\n")));

    // No bit depends on it.
    let (without, folder) = run_small(&["--no-tensorboard"]);
    assert_eq!(without.done().digest(), digest);
    assert!(!folder.path().join("run/tensorboard").exists());
}

#[test]
fn a_restart_repeats_no_step_and_leaves_none_out() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let mut command = coordinator(folder.path());
    command.args(["--json", "--run-dir", "run", "--epochs", "60"]).args(&SMALL[..6]);
    killed(&mut command);
    let written = train(&run).scalars["loss"].len() as u64;

    start(coordinator(folder.path()).args(["--json", "--resume", "run"])).finish().done();
    let files = train(&run);
    assert_eq!(
        files.names,
        ["events.out.tfevents.0000000001.lockstep", "events.out.tfevents.0000000002.lockstep"]
    );
    let [restart] = files.restarts[..] else { panic!("{:?}", files.restarts) };
    assert!(restart > 1 && restart <= written + 1, "{restart} follows what was written, {written}");
    assert_like_metrics(&run);
}

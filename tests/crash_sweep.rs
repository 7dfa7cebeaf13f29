//! Every process is killed at every point of a step and of the commit sequence, one run each, and no bit changes.

use std::path::Path;

use rustix::process::Signal;
use std::os::unix::process::ExitStatusExt;

use crate::harness::{Finished, PATIENT, coordinator, json_lines, start};

/// Two epochs of four steps, the last one of a short batch.
const TINY: [&str; 10] =
    ["--dataset", "digits", "--examples", "120", "--batch-size", "32", "--epochs", "2", "--workers", "2"];
const STEPS: [u64; 4] = [1, 4, 5, 8];

/// Points of the loop and of the journal's thread, in the order of a step.
const COORDINATOR: [&str; 12] = [
    "assigned",
    "received",
    "combined",
    "commit",
    "updated",
    "journaled",
    "log",
    "logged",
    "recorded",
    "weights",
    "save",
    "evaluate",
];

/// Points of a worker.
const WORKER: [&str; 4] = ["compute", "leaf", "computed", "sent"];

fn begin(folder: &Path, crash_at: Option<&str>) -> Finished {
    let mut command = coordinator(folder);
    command.args(["--json", "--run-dir", "run", "--checkpoint-every", "0"]).args(TINY).args(PATIENT);
    if let Some(place) = crash_at {
        command.env("LOCKSTEP_CRASH_AT", place);
    }
    start(&mut command).finish()
}

fn undisturbed() -> (String, Vec<serde_json::Value>) {
    let folder = tempfile::tempdir().unwrap();
    let digest = begin(folder.path(), None).done().digest();
    (digest, values(folder.path()))
}

/// All that `metrics.jsonl` says besides times and bytes.
fn values(folder: &Path) -> Vec<serde_json::Value> {
    let mut lines = json_lines(&folder.join("run/metrics.jsonl"));
    lines.remove(0);
    for line in &mut lines {
        let fields = line.as_object_mut().unwrap();
        fields.retain(|name, _| {
            [
                "kind",
                "step",
                "epoch",
                "loss",
                "accuracy",
                "examples",
                "val_loss",
                "val_accuracy",
                "weights_digest",
            ]
            .contains(&name.as_str())
        });
    }
    lines
}

/// A run whose coordinator dies at `place`, and is resumed; `None` if it never came there.
fn survives(place: &str, expected: &(String, Vec<serde_json::Value>)) -> Option<()> {
    let folder = tempfile::tempdir().unwrap();
    let first = begin(folder.path(), Some(place));
    if first.status.success() {
        return None;
    }
    assert_eq!(first.status.signal(), Some(Signal::KILL.as_raw()), "{place}: {first}");
    let resumed = start(coordinator(folder.path()).args(["--json", "--resume", "run"])).finish().done();
    assert_eq!(resumed.digest(), expected.0, "{place}: {resumed}");
    assert_eq!(values(folder.path()), expected.1, "{place}");
    Some(())
}

#[test]
fn the_coordinator_dies_at_every_point_of_a_step() {
    let expected = undisturbed();
    let mut points = 0;
    for name in COORDINATOR {
        for step in STEPS {
            let place = format!("coordinator/{name}:{step}");
            let came_there = survives(&place, &expected).is_some();
            // Only the last step of an epoch is validated, and a save may be left out while others are under way.
            let may_miss = match name {
                "evaluate" => ![4, 8].contains(&step),
                "save" => step != 1,
                _ => false,
            };
            assert!(came_there || may_miss, "{place}");
            points += u64::from(came_there);
        }
    }
    assert!(points >= 44, "{points} points");
}

#[test]
fn the_coordinator_dies_before_every_operation_on_its_journal() {
    let expected = undisturbed();
    // Until the run ends without having come to the operation.
    let points =
        (1..).take_while(|number| survives(&format!("coordinator/disk:{number}"), &expected).is_some());
    let points = points.count();
    assert!(points >= 40, "{points} points");
}

#[test]
fn a_worker_dies_at_every_point_of_a_step() {
    let (digest, values_of) = undisturbed();
    for name in WORKER {
        for step in STEPS {
            let place = format!("local-1/{name}:{step}");
            let folder = tempfile::tempdir().unwrap();
            let finished = begin(folder.path(), Some(&place)).done();
            assert_eq!(finished.digest(), digest, "{place}: {finished}");
            assert_eq!(values(folder.path()), values_of, "{place}");
            let restarts = finished.summary()["faults"]["worker_restarts"].as_u64().unwrap();
            // The run may be over before it is started again, and after its last answer even before it is missed.
            assert!(restarts == 1 || step == 8, "{place}: {finished}");
            let events = json_lines(&folder.path().join("run/events.jsonl"));
            let dropped = events.iter().filter(|event| event["kind"] == "worker_dropped").count();
            assert!(dropped == 1 || (step == 8 && name == "sent"), "{place}: {finished}");
        }
    }
}

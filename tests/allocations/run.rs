//! A training of so many steps: what its processes allocated, and what went to and fro.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::role::FOLDER;

/// Bytes of a gradient, or of the weights.
pub const TENSOR: f64 = 132_776.0;

/// What was allocated.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub allocations: f64,
    pub bytes: f64,
}

/// What a training took, from the start of its processes to their end.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    pub coordinator: Counts,
    /// Of all workers together.
    pub workers: Counts,
    /// Payload of the steps.
    pub sent: f64,
    pub received: f64,
    /// Assignments, weights and nodes of the steps.
    pub messages: f64,
}

impl Counted {
    /// What a step takes, by a shorter run.
    pub fn per_step_beyond(&self, few: &Self, steps: u32) -> Self {
        let step = |many: f64, few: f64| (many - few) / f64::from(steps);
        let counts = |many: Counts, few: Counts| Counts {
            allocations: step(many.allocations, few.allocations),
            bytes: step(many.bytes, few.bytes),
        };
        Self {
            coordinator: counts(self.coordinator, few.coordinator),
            workers: counts(self.workers, few.workers),
            sent: step(self.sent, few.sent),
            received: step(self.received, few.received),
            messages: step(self.messages, few.messages),
        }
    }
}

/// Trains with the defaults for batch and micro-shards, without checkpoints, which come by the clock.
pub fn run(workers: u32, steps: u32) -> Counted {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LOCKSTEP_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command
        .args(["--workers", &workers.to_string(), "--max-steps", &steps.to_string()])
        .args(["--dataset", "digits", "--offline", "--validation-split", "0"])
        .args(["--epochs", "1000000", "--checkpoint-every", "1h", "--threads-per-worker", "1"])
        .args(["--no-progress", "--json", "--run-dir", "run"])
        .env(FOLDER, folder.path())
        .current_dir(folder.path())
        .stdin(Stdio::null());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let coordinators = counts(folder.path(), "coordinator-");
    let all = counts(folder.path(), "worker-");
    assert_eq!((coordinators.len(), all.len()), (1, workers as usize), "processes that left their counts");
    let metrics = lines(&folder.path().join("run/metrics.jsonl"));
    let sum = |field: &str| metrics.iter().filter_map(|line| line[field].as_u64()).sum::<u64>() as f64;
    let (sent, received) = (sum("bytes_sent"), sum("bytes_received"));
    let events = lines(&folder.path().join("run/events.jsonl"));
    // Each is one more assignment, and one or two more nodes.
    let copies = events.iter().filter(|event| event["kind"] == "copied").count() as f64;
    Counted {
        coordinator: coordinators[0],
        workers: Counts {
            allocations: all.iter().map(|counts| counts.allocations).sum(),
            bytes: all.iter().map(|counts| counts.bytes).sum(),
        },
        sent,
        // A copy's answer comes too, though a step does not count it.
        received: received + TENSOR * copies,
        messages: received / TENSOR + 2.0 * f64::from(workers * steps) + 3.0 * copies,
    }
}

fn counts(folder: &Path, role: &str) -> Vec<Counts> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    files
        .filter(|file| file.file_name().to_string_lossy().starts_with(role))
        .map(|file| {
            let text = std::fs::read_to_string(file.path()).unwrap();
            let (allocations, bytes) = text.trim().split_once(' ').unwrap();
            Counts { allocations: allocations.parse().unwrap(), bytes: bytes.parse().unwrap() }
        })
        .collect()
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

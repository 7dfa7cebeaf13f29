//! The records of a step, an epoch and an event, as plain data; the order of fields is the order in the JSON lines.
//!
//! Value fields (loss, accuracy, digests, counts of examples) do not depend on the number of workers; times, rates,
//! bytes, `workers` and `decisions` do. Nothing here computes anything.

use serde::Serialize;

/// Version of the shape of `metrics.jsonl`, `events.jsonl` and `summary.json`; raised when a field changes meaning or
/// goes away, not when one is added.
pub const SCHEMA_VERSION: u32 = 1;

/// One training step, from the first assignment sent to the weights updated.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename = "step")]
pub struct StepRecord {
    /// Step of the run, from 1.
    pub step: u64,
    /// Epoch the step belongs to, from 1.
    pub epoch: u32,
    /// Mean loss over the batch, before the update.
    pub loss: f32,
    /// Share of the batch classified correctly, 0 to 1, before the update.
    pub accuracy: f32,
    /// Examples in the batch.
    pub examples: u32,
    /// Length of the whole step.
    pub seconds: f64,
    /// `examples` over `seconds`.
    pub examples_per_second: f64,
    /// Time spent encoding and handing over weights and assignments.
    pub send_seconds: f64,
    /// Median over the nodes of the time workers say they computed.
    pub compute_seconds_median: f64,
    /// The longest of those times.
    pub compute_seconds_max: f64,
    /// Time the coordinator had nothing to do but wait for nodes.
    pub wait_seconds: f64,
    /// Time spent adding nodes.
    pub reduce_seconds: f64,
    /// Time spent on the weights' update.
    pub update_seconds: f64,
    /// Payload bytes sent to workers.
    pub bytes_sent: u64,
    /// Payload bytes received from workers.
    pub bytes_received: u64,
    /// Workers that were members when the step ended.
    pub workers: u32,
    /// The sentences of the events since the last step ended, as in `events.jsonl`; absent if there were none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub decisions: Vec<String>,
}

/// The end of one epoch.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename = "epoch")]
pub struct EpochRecord {
    /// Epoch, from 1.
    pub epoch: u32,
    /// Last step of the epoch.
    pub step: u64,
    /// Mean loss over the validation set; absent without one.
    pub val_loss: Option<f32>,
    /// Share of the validation set classified correctly, 0 to 1; absent without one.
    pub val_accuracy: Option<f32>,
    /// SHA-256 of the weights after `step`, as 64 hex digits.
    pub weights_digest: String,
}

/// Something that happened to the run: a worker joined, left or was refused, work was given to another one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EventRecord {
    /// Seconds since the run began.
    pub seconds: f64,
    /// Steps committed by then.
    pub step: u64,
    /// What happened, in snake_case.
    pub kind: &'static str,
    /// Name of the worker it happened to.
    pub worker: Option<String>,
    /// The sentence that explains it, the same as in the log.
    pub reason: String,
}

#[cfg(test)]
pub(crate) mod examples {
    //! Fixed records for the tests of this crate.

    use super::*;

    pub fn step() -> StepRecord {
        StepRecord {
            step: 1,
            epoch: 1,
            loss: 2.25,
            accuracy: 0.125,
            examples: 64,
            seconds: 0.004,
            examples_per_second: 16_000.0,
            send_seconds: 0.0005,
            compute_seconds_median: 0.001,
            compute_seconds_max: 0.0015,
            wait_seconds: 0.002,
            reduce_seconds: 0.00025,
            update_seconds: 0.00001,
            bytes_sent: 531_104,
            bytes_received: 132_776,
            workers: 4,
            decisions: Vec::new(),
        }
    }

    pub fn epoch() -> EpochRecord {
        EpochRecord {
            epoch: 3,
            step: 2391,
            val_loss: Some(0.1123),
            val_accuracy: Some(0.967),
            weights_digest: "1a2b3c4d5e6f7890".repeat(4),
        }
    }

    pub fn event() -> EventRecord {
        EventRecord {
            seconds: 1.5,
            step: 12,
            kind: "worker_lost",
            worker: Some("local-2".to_owned()),
            reason: "stream reset".to_owned(),
        }
    }
}

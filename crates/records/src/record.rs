//! The records of a step, an epoch and an event; the order of fields is the order in the JSON lines.
//!
//! Value fields (loss, accuracy, digests, counts of examples) do not depend on the number of workers; times, rates,
//! bytes, `workers` and `decisions` do. Nothing here computes anything.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{
    EvaluationRecord, NormsRecord, PictureRecord, WorkersRecord,
    number::{nan, or_nan},
};

/// Version of the shape of `metrics.jsonl`, `events.jsonl` and `summary.json`; raised when a field changes meaning or
/// goes away, not when one is added.
pub const SCHEMA_VERSION: u32 = 1;

/// One training step, from the first assignment sent to the weights updated.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename = "step")]
pub struct StepRecord {
    /// Step of the run, from 1.
    pub step: u64,
    /// Epoch the step belongs to, from 1.
    pub epoch: u32,
    /// Mean loss over the batch, before the update.
    #[serde(default = "nan", deserialize_with = "or_nan")]
    pub loss: f32,
    /// Share of the batch classified correctly, 0 to 1, before the update.
    #[serde(default = "nan", deserialize_with = "or_nan")]
    pub accuracy: f32,
    /// Examples in the batch.
    pub examples: u32,
    /// Length of the whole step.
    #[serde(deserialize_with = "or_nan")]
    pub seconds: f64,
    /// `examples` over `seconds`.
    #[serde(default = "nan", deserialize_with = "or_nan")]
    pub examples_per_second: f64,
    /// Time spent encoding and handing over weights and assignments.
    #[serde(deserialize_with = "or_nan")]
    pub send_seconds: f64,
    /// Median over the nodes of the time workers say they computed.
    #[serde(default = "nan", deserialize_with = "or_nan")]
    pub compute_seconds_median: f64,
    /// The longest of those times.
    #[serde(default = "nan", deserialize_with = "or_nan")]
    pub compute_seconds_max: f64,
    /// Time the coordinator had nothing to do but wait for nodes.
    #[serde(deserialize_with = "or_nan")]
    pub wait_seconds: f64,
    /// Time spent adding nodes.
    #[serde(deserialize_with = "or_nan")]
    pub reduce_seconds: f64,
    /// Time spent on the weights' update.
    #[serde(deserialize_with = "or_nan")]
    pub update_seconds: f64,
    /// Payload bytes sent to workers.
    pub bytes_sent: u64,
    /// Payload bytes received from workers.
    pub bytes_received: u64,
    /// Workers that were members when the step ended.
    pub workers: u32,
    /// The sentences of the events since the last step ended, as in `events.jsonl`; absent if there were none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decisions: Vec<String>,
}

/// The end of one epoch.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
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
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct EventRecord {
    /// Seconds since the run began.
    pub seconds: f64,
    /// Steps committed by then.
    pub step: u64,
    /// What happened, in snake_case.
    pub kind: Cow<'static, str>,
    /// Name of the worker it happened to.
    pub worker: Option<String>,
    /// The sentence that explains it, the same as in the log.
    pub reason: String,
}

/// Any record, for sinks that take it on another thread, and for who reads it back.
#[derive(Clone, Debug)]
pub enum Record {
    /// Of one step.
    Step(StepRecord),
    /// Of one epoch's end.
    Epoch(EpochRecord),
    /// Of one event.
    Event(EventRecord),
    /// Norms at a step.
    Norms(NormsRecord),
    /// A picture of predictions.
    Picture(PictureRecord),
    /// The state of the workers.
    Workers(WorkersRecord),
    /// The result of an evaluation.
    Evaluation(EvaluationRecord),
}

pub mod examples {
    //! Fixed records, the data of tests: nothing else builds a record that nobody measured.

    use super::*;

    /// A first step.
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

    /// The end of a third epoch.
    pub fn epoch() -> EpochRecord {
        EpochRecord {
            epoch: 3,
            step: 2391,
            val_loss: Some(0.1123),
            val_accuracy: Some(0.967),
            weights_digest: "1a2b3c4d5e6f7890".repeat(4),
        }
    }

    /// The loss of a worker.
    pub fn event() -> EventRecord {
        EventRecord {
            seconds: 1.5,
            step: 12,
            kind: "worker_lost".into(),
            worker: Some("local-2".to_owned()),
            reason: "stream reset".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: &str = concat!(
        r#"{"kind":"step","step":1,"epoch":1,"loss":2.25,"accuracy":0.125,"examples":64,"seconds":0.004,"#,
        r#""examples_per_second":16000.0,"send_seconds":0.0005,"compute_seconds_median":0.001,"#,
        r#""compute_seconds_max":0.0015,"wait_seconds":0.002,"reduce_seconds":0.00025,"update_seconds":0.00001,"#,
        r#""bytes_sent":531104,"bytes_received":132776,"workers":4}"#,
    );

    #[test]
    fn lines_are_exactly_these_and_read_back() {
        let digest = "1a2b3c4d5e6f7890".repeat(4);
        let epoch = format!(
            r#"{{"kind":"epoch","epoch":3,"step":2391,"val_loss":0.1123,"val_accuracy":0.967,"weights_digest":"{digest}"}}"#
        );
        let event =
            r#"{"seconds":1.5,"step":12,"kind":"worker_lost","worker":"local-2","reason":"stream reset"}"#;
        assert_eq!(serde_json::to_string(&examples::step()).unwrap(), STEP);
        assert_eq!(serde_json::to_string(&examples::epoch()).unwrap(), epoch);
        assert_eq!(serde_json::to_string(&examples::event()).unwrap(), event);
        assert_eq!(serde_json::from_str::<StepRecord>(STEP).unwrap(), examples::step());
        assert_eq!(serde_json::from_str::<EpochRecord>(&epoch).unwrap(), examples::epoch());
        assert_eq!(serde_json::from_str::<EventRecord>(event).unwrap(), examples::event());
        let decided = StepRecord { decisions: vec!["w1 joined".to_owned()], ..examples::step() };
        let line = serde_json::to_string(&decided).unwrap();
        assert!(line.ends_with(r#","decisions":["w1 joined"]}"#), "{line}");
        assert_eq!(serde_json::from_str::<StepRecord>(&line).unwrap(), decided);
    }

    #[test]
    fn what_is_not_finite_is_null_and_reads_back_as_nan() {
        let step = StepRecord { loss: f32::NAN, examples_per_second: f64::INFINITY, ..examples::step() };
        let line = serde_json::to_string(&step).unwrap();
        assert!(
            line.contains(r#""loss":null,"#) && line.contains(r#""examples_per_second":null,"#),
            "{line}"
        );
        let read: StepRecord = serde_json::from_str(&line).unwrap();
        assert!(read.loss.is_nan() && read.examples_per_second.is_nan());
        let epoch = EpochRecord { val_loss: Some(f32::NAN), val_accuracy: None, ..examples::epoch() };
        let line = serde_json::to_string(&epoch).unwrap();
        assert!(line.contains(r#""val_loss":null,"val_accuracy":null,"#), "{line}");
        assert_eq!(serde_json::from_str::<EpochRecord>(&line).unwrap().val_loss, None);
    }

    #[test]
    fn floats_keep_their_bits() {
        for bits in [0x3e99_999a, 0x0000_0001, 0x7f7f_ffff, 0x3f80_0001] {
            let loss = f32::from_bits(bits);
            let line = serde_json::to_string(&StepRecord { loss, ..examples::step() }).unwrap();
            let shown = line.split(r#""loss":"#).nth(1).unwrap().split(',').next().unwrap();
            assert_eq!(shown.parse::<f32>().unwrap().to_bits(), bits, "{shown}");
            assert_eq!(serde_json::from_str::<StepRecord>(&line).unwrap().loss.to_bits(), bits);
        }
    }
}

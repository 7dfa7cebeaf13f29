//! The result of an evaluation over the validation set or the test set.

use serde::Serialize;

/// A whole evaluation.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename = "evaluation")]
pub struct EvaluationRecord {
    /// What was evaluated on.
    pub of: EvaluationKind,
    /// Steps committed by then.
    pub step: u64,
    /// Mean loss.
    pub loss: f32,
    /// Share classified correctly, 0 to 1.
    pub accuracy: f32,
    /// Counts, `[label * 10 + predicted]`.
    pub confusion: Vec<u32>,
}

/// What an evaluation was on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EvaluationKind {
    /// The examples held back.
    Validation,
    /// The test set.
    Test,
}

//! What one tree sums up: a training step, or an evaluation.

use std::fmt;

/// What is computed in a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TaskKind {
    /// The gradient of one batch, and with it one step.
    Train,
    /// Loss and predictions of the validation set.
    Validate,
    /// Loss and predictions of the test set.
    Test,
}

/// One tree of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Task {
    /// What is computed.
    pub kind: TaskKind,
    /// Training: the step, from 1. Evaluation: the step after which it stands.
    pub step: u64,
}

impl Task {
    /// The step whose weights the task needs.
    pub fn weights(self) -> u64 {
        match self.kind {
            TaskKind::Train => self.step - 1,
            TaskKind::Validate | TaskKind::Test => self.step,
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TaskKind::Train => write!(f, "step {}", self.step),
            TaskKind::Validate => write!(f, "the validation after step {}", self.step),
            TaskKind::Test => write!(f, "the test after step {}", self.step),
        }
    }
}

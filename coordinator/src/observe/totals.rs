//! Counts and results of a run so far, over all of its processes.

use std::time::Duration;

use lockstep_checkpoint::{Manifest, Progress};
use lockstep_control::RejectReason;
use lockstep_records::{FaultCounts, WorkersRecord};

use crate::trainer::{Confusion, Means};
use crate::transport::process_exit::Exit;

/// Ends of local workers that are kept, for the errors of a run that lost all of them.
const MAX_EXITS: usize = 64;

/// Counts and results of a run so far.
#[derive(Clone, Debug, Default)]
pub struct RunTotals {
    /// Steps committed.
    pub steps: u64,
    /// Epochs completed.
    pub epochs: u32,
    /// Examples trained on.
    pub examples: u64,
    /// Seconds of all steps; evaluation is not counted.
    pub train_seconds: f64,
    /// Seconds of earlier processes of the run.
    pub earlier_seconds: f64,
    /// The last validation.
    pub validation: Option<Means>,
    /// The test.
    pub test: Option<(Means, Confusion)>,
    /// Local workers that ended, in order; the last ones.
    pub exits: Vec<Exit>,
    /// What went wrong, and did no harm.
    pub faults: FaultCounts,
    /// Why the log may end before the run does, as far as is known by now.
    pub log_ends_early: Option<String>,
    /// The workers of this process over their whole time, once it is over.
    pub workers: Option<WorkersRecord>,
}

impl RunTotals {
    /// The totals of earlier processes of the run, from their checkpoint.
    pub fn resumed(manifest: &Manifest) -> Self {
        let Progress { examples, train_seconds, seconds, epochs, val_loss, val_accuracy, counts } =
            manifest.progress.clone();
        let validation = val_loss.zip(val_accuracy);
        let validation = validation.map(|(loss, accuracy)| Means { examples: 0, loss, accuracy });
        Self {
            steps: manifest.step,
            epochs,
            examples,
            train_seconds,
            earlier_seconds: seconds,
            validation,
            // Of a later version of this program, perhaps: then they begin anew.
            faults: serde_json::from_value(counts).unwrap_or_default(),
            ..Self::default()
        }
    }

    /// The totals as a checkpoint keeps them, `elapsed` after the start of this process.
    pub(super) fn progress(&self, elapsed: Duration) -> Progress {
        Progress {
            examples: self.examples,
            train_seconds: self.train_seconds,
            seconds: self.earlier_seconds + elapsed.as_secs_f64(),
            epochs: self.epochs,
            val_loss: self.validation.map(|means| means.loss),
            val_accuracy: self.validation.map(|means| means.accuracy),
            counts: serde_json::to_value(self.faults).unwrap_or_default(),
        }
    }

    /// Notes the end of a local worker.
    pub(super) fn exited(&mut self, exit: Exit) {
        if self.exits.len() == MAX_EXITS {
            self.exits.remove(0);
        }
        self.exits.push(exit);
    }
}

/// Counts a node that was rejected: one that came too late to be compared stays unchecked.
pub(super) fn count_rejected(faults: &mut FaultCounts, reason: RejectReason) {
    match reason {
        RejectReason::TaskOver | RejectReason::Overlaps => faults.copies_unchecked += 1,
        _ => faults.nodes_rejected += 1,
    }
}

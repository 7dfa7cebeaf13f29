//! Observes results: of steps, of evaluations, of epochs, and of comparisons between two answers.

use bytes::Bytes;
use lockstep_control::{Task, TaskKind, WorkerId};
use lockstep_failpoints::crash;
use lockstep_model::digest_of_bytes;
use lockstep_records::{EpochRecord, EvaluationKind, EvaluationRecord};

use super::Observers;
use super::step_times::StepPhase;
use crate::trainer::{Comparison, Confusion, Means};

impl Observers {
    /// The weights of a step are updated, and not yet handed to the journal.
    pub(crate) fn updated(&mut self, step: u64) {
        self.times.add(StepPhase::Update, self.since);
        crash::point("updated", step);
    }

    /// A step that the journal has is over; it changed the weights from `before` to `after`.
    pub(crate) fn step_committed(&mut self, step: u64, means: Means, before: &Bytes, after: &Bytes) {
        self.probe.stepped(step, before, after);
        self.recorder.weights(step, after);
        crash::point("journaled", step);
        // At most as many as may join.
        let workers = self.workers.len() as u32;
        let record = self.times.end_step(step, self.epoch(step), means, workers);
        if let Some(timeline) = &mut self.timeline {
            if let Some(sliced) = self.times.take_sliced() {
                timeline.step_ended(step, sliced);
            }
            self.times.slice(timeline.wants(step + 1));
        }
        self.totals.steps = step;
        self.totals.examples += u64::from(means.examples);
        self.totals.train_seconds += record.seconds;
        self.recorder.step(&record);
        crash::point("recorded", step);
        if self.tasks.ends_epoch(step) && self.tasks.validate.is_none() {
            self.epoch_ended(step, None, after);
        }
    }

    /// An evaluation of these weights has a result.
    pub(crate) fn evaluated(&mut self, task: Task, means: Means, confusion: &Confusion, weights: &Bytes) {
        let of = if task.kind == TaskKind::Test { EvaluationKind::Test } else { EvaluationKind::Validation };
        let Means { loss, accuracy, .. } = means;
        let counts = confusion.to_vec();
        self.recorder.evaluation(&EvaluationRecord {
            of,
            step: task.step,
            loss,
            accuracy,
            confusion: counts,
        });
        if task.kind == TaskKind::Validate {
            self.totals.validation = Some(means);
            self.epoch_ended(task.step, Some(means), weights);
        } else {
            self.totals.test = Some((means, *confusion));
        }
        self.times.restart();
    }

    /// An evaluation gave a loss that is not finite. The validation of other weights would be taken for theirs.
    pub(crate) fn evaluation_not_finite(&mut self) {
        self.totals.validation = None;
    }

    /// A node of a worker was compared with what was counted for the same leaves.
    pub(crate) fn compared(&mut self, worker: WorkerId, task: Task, comparison: &Comparison) {
        match comparison {
            Comparison::Equal => self.totals.faults.copies_equal += 1,
            Comparison::Unchecked => self.totals.faults.copies_unchecked += 1,
            Comparison::Differs(counted) => {
                let others: Vec<String> = counted.iter().map(|other| self.name_of(other.sender)).collect();
                let sentence = format!(
                    "a result of {} for {task} differs from what {} sent: one of them computes wrongly",
                    self.name_of(worker),
                    others.join(", ")
                );
                self.record("copies_differ", Some(worker), sentence);
            }
        }
    }

    fn epoch_ended(&mut self, step: u64, validation: Option<Means>, weights: &Bytes) {
        let epoch = self.epoch(step);
        if step.is_multiple_of(self.tasks.steps_per_epoch) {
            self.totals.epochs = epoch;
        }
        self.recorder.epoch(&EpochRecord {
            epoch,
            step,
            val_loss: validation.map(|means| means.loss),
            val_accuracy: validation.map(|means| means.accuracy),
            weights_digest: digest_of_bytes(weights).to_string(),
        });
        self.probe.epoch_ended(epoch, step, weights);
    }

    /// The epoch of a step, from 1.
    fn epoch(&self, step: u64) -> u32 {
        // At most the number of epochs, a u32.
        (step.saturating_sub(1) / self.tasks.steps_per_epoch) as u32 + 1
    }
}

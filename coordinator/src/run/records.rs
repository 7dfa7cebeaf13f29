//! What is recorded of a run, for whoever watches. Nothing depends on it.

use std::time::Instant;

use lockstep_control::{Command, Event, Task, TaskKind, WorkerId};
use lockstep_records::{EpochRecord, EvaluationKind, EvaluationRecord, EventRecord};

use super::{Run, sentences};
use crate::observe::weight_norms::Measured;
use crate::trainer::{Confusion, Means};

/// Events of one kind that a process records: a hostile or broken peer must not fill the disk.
const MAX_EVENTS_OF_A_KIND: u32 = 100_000;

impl Run {
    pub(super) fn record_evaluation(&mut self, task: Task, means: Means, confusion: &Confusion) {
        let of = if task.kind == TaskKind::Test { EvaluationKind::Test } else { EvaluationKind::Validation };
        let Means { loss, accuracy, .. } = means;
        let confusion = confusion.to_vec();
        self.recorder.evaluation(&EvaluationRecord { of, step: task.step, loss, accuracy, confusion });
    }

    /// Has the state of the workers recorded, a few times a second.
    pub(super) fn sample_workers(&mut self, now: Instant) {
        if let Some(record) = self.roster.sample(now, self.seconds(now), self.results.steps) {
            self.recorder.workers(&record);
        }
    }

    pub(super) fn end_epoch(&mut self, step: u64, validation: Option<Means>) {
        let epoch = self.batches.epoch(step);
        if step.is_multiple_of(self.plan.steps_per_epoch) {
            self.results.epochs = epoch;
        }
        self.recorder.epoch(&EpochRecord {
            epoch,
            step,
            val_loss: validation.map(|means| means.loss),
            val_accuracy: validation.map(|means| means.accuracy),
            weights_digest: self.trainer.digest().to_string(),
        });
        self.gauge.epoch_ended(epoch, step, &self.values);
    }

    /// A decision as a sentence for people; its own words go to the log.
    pub(super) fn told(&self, command: &Command) -> String {
        tracing::debug!("{command}");
        sentences::of_command(command, |worker| self.name_of(worker))
    }

    /// A worker for people, also one that has just left.
    pub(super) fn name_of(&self, worker: WorkerId) -> String {
        sentences::worker(worker, self.roster.name(worker))
    }

    /// Has a decision recorded with its sentence. However many a peer causes, only so many of a kind are.
    pub(super) fn record(&mut self, kind: &'static str, worker: Option<WorkerId>, reason: String) {
        let recorded = self.recorded.entry(kind).or_insert(0);
        *recorded += 1;
        let reason = match *recorded {
            MAX_EVENTS_OF_A_KIND => format!("{reason} (events of this kind are no longer recorded)"),
            many if many > MAX_EVENTS_OF_A_KIND => return,
            _ => reason,
        };
        let worker = worker.and_then(|worker| self.members.get(&worker)).map(|member| member.name.clone());
        let seconds = self.seconds(Instant::now());
        self.times.decided(&reason);
        self.recorder.event(&EventRecord {
            seconds,
            step: self.results.steps,
            kind: kind.into(),
            worker,
            reason,
        });
    }

    pub(super) fn record_measured(&mut self, measured: Measured) -> Option<Event> {
        match measured {
            Measured::Norms(record) => self.recorder.norms(&record),
            Measured::Picture(record) => self.recorder.picture(&record),
        }
        None
    }
}

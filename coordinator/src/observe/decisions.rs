//! Observes decisions: counts, events and statistics before one is carried out, its time after.

use std::time::Instant;

use lockstep_control::{AssignReason, Command, DropReason, Recipient, Task, TaskKind, WorkerId};
use lockstep_failpoints::crash;
use lockstep_model::PARAMETER_BYTES;

use super::step_times::StepPhase;
use super::totals::count_rejected;
use super::{Observers, sentences};
use crate::transport::arrived::Arrived;

impl Observers {
    /// A decision is about to be carried out; it follows from what `arrived`.
    pub(crate) fn decided(&mut self, command: &Command, arrived: &Arrived) {
        self.since = Instant::now();
        match command {
            Command::Assign { worker, assignment, task, leaves, reason } => {
                if !self.training {
                    self.training = true;
                    self.times.restart();
                }
                self.assigning(*worker, reason, command);
                let (leaves, steps) = (leaves.clone(), self.totals.steps);
                self.workers.assigned(self.since, *worker, *assignment, *task, leaves, steps);
            }
            Command::Revoke { worker, assignment, .. } => {
                self.totals.faults.assignments_revoked += 1;
                self.workers.revoked(*worker, *assignment);
                self.record("revoked", Some(*worker), self.sentence_of(command));
            }
            Command::SendWeights { to, step } => {
                let receivers = match to {
                    Recipient::One(worker) => usize::from(self.workers.member_name(*worker).is_some()),
                    Recipient::All => self.workers.len(),
                };
                self.times.sent(PARAMETER_BYTES * receivers);
                self.workers.weights(self.since, *step);
            }
            Command::Combine { task, worker, .. } => self.counting(*task, *worker, arrived),
            Command::Commit { task, .. } => {
                let point = if task.kind == TaskKind::Train { "commit" } else { "evaluate" };
                crash::point(point, task.step);
            }
            Command::RollBack { .. } => self.record("roll_back", None, self.sentence_of(command)),
            Command::Reject { worker, reason, .. } => {
                count_rejected(&mut self.totals.faults, *reason);
                self.record("node_rejected", Some(*worker), self.sentence_of(command));
            }
            Command::DropMember { worker, reason } => self.dropping(*worker, reason, command, arrived),
            Command::Wait { .. } => self.record("waiting", None, self.sentence_of(command)),
            Command::Stall { .. } => self.record("stalled", None, self.sentence_of(command)),
            Command::Save { .. } => tracing::debug!("{command}"),
            Command::SetTimer { .. } => tracing::trace!("{command}"),
            Command::Finish { .. } => {
                self.record("finish", None, self.sentence_of(command));
                let now = Instant::now();
                let workers = self.workers.whole_run(now, self.seconds(now), self.totals.steps);
                self.totals.workers = Some(workers);
            }
            // Its result is an event, not the decision: `compared`.
            Command::Compare { .. } => {}
        }
    }

    /// The decision is carried out.
    pub(crate) fn carried_out(&mut self, command: &Command) {
        match command {
            Command::Assign { task, .. } => {
                self.times.add(StepPhase::Send, self.since);
                crash::point("assigned", task.step);
            }
            Command::SendWeights { step, .. } => {
                self.times.add(StepPhase::Send, self.since);
                crash::point("weights", *step);
            }
            Command::Combine { task, .. } => {
                self.times.add(StepPhase::Reduce, self.since);
                crash::point("combined", task.step);
            }
            Command::Save { after, .. } => crash::point("save", after.step),
            // The time of a commit ends with the update of the weights: `updated`.
            _ => {}
        }
    }

    fn assigning(&mut self, worker: WorkerId, reason: &AssignReason, command: &Command) {
        match reason {
            AssignReason::Share { .. } => {}
            AssignReason::Reassigned { .. } => {
                self.record("reassigned", Some(worker), self.sentence_of(command));
            }
            AssignReason::Copy { holder, waited_ms, expected_ms, .. } => {
                let reason = format!(
                    "it has had its work for {waited_ms} ms, {expected_ms} ms were expected, and {} got it, too",
                    self.name_of(worker)
                );
                self.workers.late(self.since, *holder, reason);
                self.totals.faults.assignments_copied += 1;
                self.record("copied", Some(worker), self.sentence_of(command));
            }
        }
    }

    fn counting(&mut self, task: Task, worker: WorkerId, arrived: &Arrived) {
        crash::point("received", task.step);
        let value = arrived.value.as_ref();
        let bytes = value.map_or(0, |value| value.gradient.len() + value.confusion.len());
        self.times.received(bytes, arrived.compute);
        self.workers.counted(worker, task.kind, value.map_or(0, |value| value.examples));
        if let Some(after) = self.workers.first_result(worker) {
            let reason = format!(
                "{} takes part: its first result, for {task}, counts; it joined after step {after}",
                self.name_of(worker)
            );
            self.record("worker_contributes", Some(worker), reason);
        }
    }

    fn dropping(&mut self, worker: WorkerId, reason: &DropReason, command: &Command, arrived: &Arrived) {
        self.totals.faults.workers_dropped += 1;
        let detail = arrived.detail_after_colon();
        self.record("worker_dropped", Some(worker), self.sentence_of(command) + &detail);
        let why = sentences::of_drop(reason, |worker| self.name_of(worker)) + &detail;
        self.workers.left(Instant::now(), worker, why);
    }
}

//! What goes out to workers: assignments, weights, and the end of a membership.

use std::ops::Range;

use lockstep_control::{AssignmentId, DropReason, Event, LeaveCause, Recipient, Task, WorkerId};
use lockstep_proto::{self as proto, Assignment, Encoded, ToWorker};

use super::Run;
use crate::observe::sentences;
use crate::transport::arrived::Arrived;
use crate::transport::encode;

impl Run {
    /// Sends leaves and their data to a worker.
    pub(super) fn assign(
        &mut self,
        worker: WorkerId,
        id: AssignmentId,
        task: Task,
        leaves: Range<u32>,
    ) -> Option<Event> {
        let mut message = self.assignment(id, task, leaves);
        self.observers.sending(worker, task, &mut message);
        self.members.get(&worker).and_then(|member| stalled(worker, member.outbound.assign(message)))
    }

    /// Takes an assignment back from a worker.
    pub(super) fn revoke(&mut self, worker: WorkerId, id: AssignmentId) -> Option<Event> {
        let message = proto::Revoke { fence: self.fence, assignment_id: id.0 };
        self.send(worker, ToWorker::Revoke(message).into())
    }

    /// Sends the weights after a step; those for all are encoded once.
    pub(super) fn send_weights(&mut self, to: Recipient, step: u64) {
        match to {
            Recipient::One(worker) => {
                if let Some(member) = self.members.get(&worker) {
                    member.outbound.send_weights(self.weights.clone());
                }
            }
            Recipient::All => {
                let weights = encode::weights(self.fence, step, self.values.clone());
                self.weights = ToWorker::Weights(weights).into();
                self.members.values().for_each(|member| member.outbound.send_weights(self.weights.clone()));
            }
        }
    }

    /// Ends a membership; a worker at fault is told why.
    pub(super) fn drop_member(&mut self, worker: WorkerId, reason: &DropReason, arrived: &mut Arrived) {
        let detail = arrived.detail_after_colon();
        // It belongs to the first worker that is dropped for what arrived.
        arrived.detail.clear();
        if let Some(member) = self.members.remove(&worker)
            && let DropReason::WrongNode { .. } | DropReason::Left { cause: LeaveCause::Protocol } = reason
        {
            let why = sentences::of_drop(reason, |worker| self.observers.name_of(worker));
            member.outbound.refuse(&(why + &detail));
        }
    }

    /// The message that gives a worker leaves of a task.
    pub(super) fn assignment(&mut self, id: AssignmentId, task: Task, leaves: Range<u32>) -> Assignment {
        let first_leaf = leaves.start;
        let data = self.batches.leaves(task, leaves);
        encode::assignment(self.fence, id, task, first_leaf, data)
    }

    fn send(&self, worker: WorkerId, message: Encoded) -> Option<Event> {
        self.members.get(&worker).and_then(|member| stalled(worker, member.outbound.send(message)))
    }
}

/// What follows if a worker does not read what it is sent.
fn stalled(worker: WorkerId, sent: bool) -> Option<Event> {
    (!sent).then_some(Event::Left { worker, cause: LeaveCause::Stalled })
}

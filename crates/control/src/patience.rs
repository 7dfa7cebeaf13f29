//! How long a run goes on without progress, no matter which workers come and leave.
//!
//! What counts is work that nobody had done before: one more leaf counted, or more examples of what is left than
//! anybody has done of it. Computing the same again is no progress. But nobody who came in time is given up: a member
//! is waited for, however slow it is, until it leaves, falls silent or is stuck.

use crate::control::{Control, milliseconds};
use crate::deadlines::{Deadline, Patience};
use crate::{Command, DropReason, Outcome, Time, WorkerId};

impl Control {
    /// Something was computed that nobody had computed before.
    pub(crate) fn new_progress(&mut self, now: Time) {
        self.patience = Patience::new(now, self.settings.patience);
    }

    /// A member that had joined at `joined` has left: is there still somebody to wait for?
    pub(crate) fn wait_or_finish(
        &mut self,
        now: Time,
        worker: WorkerId,
        joined: Time,
        reason: DropReason,
        commands: &mut Vec<Command>,
    ) {
        if joined <= self.patience.progress_at {
            // Somebody may come in its place. For those who came since, nobody may: or the run would last for as long
            // as workers come and break.
            self.patience.await_joins(now, self.settings.patience);
        } else {
            self.patience.joined_and_left = true;
        }
        let until = self.patience.until;
        let nobody_may_come = self.settings.patience.is_zero() || self.local_workers == Some(0);
        if self.members.is_empty() && nobody_may_come {
            self.finish(now, Outcome::LostWorkers { last: worker, reason }, commands);
        } else if until <= now && self.members.values().all(|member| member.joined > until) {
            let outcome = self.out_of_patience(now, worker, reason);
            self.finish(now, outcome, commands);
        } else if self.members.is_empty() {
            let patience_ms = milliseconds(until.since(now));
            commands.push(Command::Wait { patience_ms, last: worker });
            self.deadlines.set(Deadline::Patience, until, commands);
        }
    }

    /// How a run ends that nobody is left to wait for.
    pub(crate) fn out_of_patience(&self, now: Time, last: WorkerId, reason: DropReason) -> Outcome {
        match self.window.front().filter(|_| self.patience.joined_and_left) {
            Some(front) => {
                let waited_ms = milliseconds(self.patience.waited(now));
                Outcome::NoProgress { task: front.task, waited_ms, last, reason }
            }
            None => Outcome::LostWorkers { last, reason },
        }
    }

    /// Says once that the run does not get on although it has members.
    pub(crate) fn report_stall(&mut self, now: Time, commands: &mut Vec<Command>) {
        let Patience { until, stall_reported, .. } = self.patience;
        let waited = self.patience.waited(now);
        if let Some(front) = self.window.front().filter(|front| !front.committed)
            && !self.members.is_empty()
            && !stall_reported
            && until <= now
            && waited >= self.least_stuck()
        {
            let waited_ms = milliseconds(waited);
            let members = self.members.values().filter(|member| member.joined <= until).count() as u32;
            self.patience.stall_reported = true;
            commands.push(Command::Stall { task: front.task, waited_ms, members });
        }
    }
}

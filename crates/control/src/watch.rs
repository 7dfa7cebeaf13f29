//! Time: who is silent, what is stuck, and the one timer for all of it.

use std::time::Duration;

use crate::control::{Control, Phase, milliseconds};
use crate::{Command, DropReason, TaskKind, Time, TimerReason, WorkerId};

/// A timer that is late by this part of the deadline means that the coordinator itself did not run: the silence is
/// its own.
const OWN_PAUSE: u32 = 4;

/// A member may be silent for so many of its own leaves: a machine that takes long for one is slow in everything.
const SILENT_LEAVES: u32 = 3;

/// A member that is alive may take so many deadlines, or times what was expected of it, before it counts as stuck.
const STUCK_DEADLINES: u32 = 8;
const STUCK_TIMES: u32 = 16;

impl Control {
    pub(crate) fn timer(&mut self, now: Time, commands: &mut Vec<Command>) {
        let Some(armed) = self.armed.take() else { return };
        if now < armed {
            // The caller's clock was early: ask again.
            return self.watch_on(now, commands);
        }
        if now.since(armed) >= self.settings.deadline / OWN_PAUSE {
            self.forgive(now);
        }
        if let Some((at, reason)) = self.end
            && at <= now
        {
            return self.end_for(now, reason, commands);
        }
        while let Some((worker, reason)) = self.overdue_member(now) {
            self.drop_member(now, worker, reason, commands);
            if self.phase == Phase::Finished {
                return;
            }
        }
        self.dispatch(now, commands);
        self.watch_on(now, commands);
    }

    /// After a pause of its own the coordinator has heard nobody, and nobody is to blame.
    fn forgive(&mut self, now: Time) {
        self.members.values_mut().for_each(|member| member.heard = now);
        if let Some(front) = self.window.front_mut() {
            front.open(now);
        }
    }

    fn overdue_member(&self, now: Time) -> Option<(WorkerId, DropReason)> {
        let silent = self.members.iter().find_map(|(worker, member)| {
            let silence = now.since(member.heard);
            let silent = silence >= self.silence(*worker);
            silent.then_some((*worker, DropReason::Silent { silence_ms: milliseconds(silence) }))
        });
        let stuck = || {
            let front = self.window.front()?;
            front.held().iter().find_map(|assignment| {
                let waited = now.since(assignment.since?);
                let limit = self.stuck_after(assignment.worker, front.task.kind, assignment.leaves);
                let reason = DropReason::Stuck { assignment: assignment.id, waited_ms: milliseconds(waited) };
                (waited >= limit).then_some((assignment.worker, reason))
            })
        };
        silent.or_else(stuck)
    }

    /// How long a member may be silent.
    fn silence(&self, worker: WorkerId) -> Duration {
        let pace = self.members.get(&worker).and_then(|member| member.pace(TaskKind::Train));
        let leaves = pace.map_or(0, |pace| pace.mean().saturating_mul(SILENT_LEAVES.into()));
        self.settings.deadline.max(Duration::from_nanos(leaves).min(self.longest_silence()))
    }

    /// However slow a member is.
    fn longest_silence(&self) -> Duration {
        self.settings.deadline * STUCK_DEADLINES
    }

    fn stuck_after(&self, worker: WorkerId, kind: TaskKind, leaves: u32) -> Duration {
        let expected = self.expected(worker, kind, leaves).saturating_mul(STUCK_TIMES);
        expected.max(self.settings.deadline * STUCK_DEADLINES)
    }

    /// Sets the timer for whatever comes next.
    fn watch_on(&mut self, now: Time, commands: &mut Vec<Command>) {
        let silence =
            self.members.iter().map(|(worker, member)| member.heard.after(self.silence(*worker))).min();
        let stuck = self.window.front().and_then(|front| {
            let limits = front.held().iter().filter_map(|assignment| {
                let limit = self.stuck_after(assignment.worker, front.task.kind, assignment.leaves);
                Some(assignment.since?.after(limit))
            });
            limits.min()
        });
        let late = self.late_from.filter(|late_from| now < *late_from);
        if let Some(at) = [silence, stuck, late].into_iter().flatten().min() {
            self.watch(at, commands);
        }
        if let Some((at, reason)) = self.end {
            self.arm(at, reason, commands);
        }
    }

    /// Has `Timer` reported at `at` or before.
    pub(crate) fn watch(&mut self, at: Time, commands: &mut Vec<Command>) {
        self.arm(at, TimerReason::Watch, commands);
    }

    pub(crate) fn arm(&mut self, at: Time, reason: TimerReason, commands: &mut Vec<Command>) {
        if self.armed.is_none_or(|armed| at < armed) {
            self.armed = Some(at);
            commands.push(Command::SetTimer { at, reason });
        }
    }
}

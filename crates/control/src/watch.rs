//! Time: who is silent, who is stuck, and the one timer for all of it.
//!
//! Slow and stuck are told apart by what members say that they have done: whoever does example after example is not
//! stuck, however long its leaves take.

use std::time::Duration;

use crate::control::{Control, Phase, milliseconds};
use crate::member::Member;
use crate::{Command, DropReason, TaskKind, Time, TimerReason, WorkerId};

/// A timer that is late by this part of the deadline means that the coordinator itself did not run: the silence is
/// its own.
const OWN_PAUSE: u32 = 4;

/// A member may be silent for so many of its own leaves: a machine that takes long for one is slow in everything.
const SILENT_LEAVES: u32 = 3;

/// A member that is alive and does no example of its work for so many deadlines counts as stuck.
const STUCK_DEADLINES: u32 = 8;

/// Or, where examples have been seen to take long, for so many times the longest that anybody took.
const STUCK_TIMES: u32 = 2;

impl Control {
    pub(crate) fn timer(&mut self, now: Time, commands: &mut Vec<Command>) {
        let Some(armed) = self.armed.take() else { return };
        if now < armed {
            // The caller's clock was early: ask again.
            return self.watch_on(now, commands);
        }
        if now.since(armed) >= self.settings.deadline / OWN_PAUSE {
            self.forgive(now);
            self.excuse(now, now.since(armed));
        }
        if let Some((at, reason)) = self.end
            && at <= now
        {
            return self.end_for(now, reason, commands);
        }
        while let Some((worker, reason)) = self.overdue_member(now) {
            if let DropReason::Stuck { waited_ms, .. } = reason
                && let Some(front) = self.window.front_mut()
            {
                // Whoever gets its leaves next is given longer.
                front.longest_stuck = front.longest_stuck.max(Duration::from_millis(waited_ms));
            }
            self.drop_member(now, worker, reason, commands);
            if self.phase == Phase::Finished {
                return;
            }
        }
        self.tell_stall(now, commands);
        self.dispatch(now, commands);
        self.watch_on(now, commands);
    }

    /// A member got on with its work, after `pause`.
    pub(crate) fn paused(&mut self, worker: WorkerId, pause: Duration) {
        let known = self.members.get(&worker).map_or(pause, Member::longest_pause);
        // One that paused for longer would have been dropped: it was this process that paused.
        if pause > known
            && pause < self.stuck_after()
            && let Some(member) = self.members.get_mut(&worker)
        {
            member.got_on_after(pause);
        }
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
            let limit = self.stuck_after();
            self.window.front()?.held().iter().find_map(|assignment| {
                let waited = now.since(assignment.got_on?);
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

    /// How long a member may do no example of its work.
    fn stuck_after(&self) -> Duration {
        let of_members = self.members.values().map(Member::longest_pause).max().unwrap_or_default();
        let of_dropped = self.window.front().map_or(Duration::ZERO, |front| front.longest_stuck);
        self.least_stuck().max(of_members.max(of_dropped).saturating_mul(STUCK_TIMES))
    }

    /// However fast the members are.
    pub(crate) fn least_stuck(&self) -> Duration {
        self.settings.deadline * STUCK_DEADLINES
    }

    /// Sets the timer for whatever comes next.
    fn watch_on(&mut self, now: Time, commands: &mut Vec<Command>) {
        let silence =
            self.members.iter().map(|(worker, member)| member.heard.after(self.silence(*worker))).min();
        let limit = self.stuck_after();
        let stuck = self.window.front().and_then(|front| {
            front.held().iter().filter_map(|assignment| Some(assignment.got_on?.after(limit))).min()
        });
        let late = self.late_from().filter(|late_from| now < *late_from);
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

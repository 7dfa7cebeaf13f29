//! Who gets which leaves: the one mechanism behind shares, the leaves of dead workers, late joiners, portions of an
//! evaluation, and copies of what is late.

use crate::control::{Control, Phase, Scratch};
use crate::deadlines::Late;
use crate::shares::{leaf_times, shares};
use crate::{AssignReason, AssignmentId, Command, RevokeReason, Time, WorkerId};

/// A member this much slower than the fastest gets leaves only if its share says so.
const CLEARLY_SLOWER: u64 = 2;

impl Control {
    /// Gives free leaves to members that hold nothing of the same task, then offers what is late to those that are
    /// left idle, and sets the timer for what will be late next.
    ///
    /// Called whenever anything has changed; what is late is found anew each time, as what could not be copied before
    /// may be now.
    pub(crate) fn dispatch(&mut self, now: Time, commands: &mut Vec<Command>) {
        self.share_out_all(now, commands);
        let mut next_late = self.next_late();
        if next_late.is_some_and(|(at, _)| at <= now) {
            if self.offer_late(now, commands) {
                self.share_out_all(now, commands);
            }
            next_late = self.next_late();
        }
        // What is late already waits for somebody to be idle, not for a time.
        if let Some((at, deadline)) = next_late.filter(|(at, _)| now < *at) {
            self.deadlines.arm(deadline, at, commands);
        }
    }

    fn share_out_all(&mut self, now: Time, commands: &mut Vec<Command>) {
        for at in 0..self.window.len() {
            self.share_out(at, now, commands);
        }
    }

    /// Shares out the free leaves of one task of the window.
    fn share_out(&mut self, at: usize, now: Time, commands: &mut Vec<Command>) {
        let task_leaves = &mut self.window[at];
        let free = task_leaves.free_leaves();
        if free == 0 {
            return;
        }
        let fresh = free == task_leaves.leaves();
        let Scratch { workers, candidates, times, shares: parts } = &mut self.scratch;
        workers.clear();
        candidates.clear();
        for (&worker, member) in self.members.iter().filter(|(_, member)| member.is_trusted(now)) {
            workers.push(worker);
            candidates.push(member.candidate(task_leaves.task.kind));
        }
        shares(candidates, free, times, parts);
        let fastest = times.iter().min().copied().unwrap_or(1);
        let members = workers.len() as u32;
        let per_assignment = self.settings.tasks.leaves(task_leaves.task.kind).per_assignment;
        for ((&worker, &share), &time) in workers.iter().zip(parts.iter()).zip(times.iter()) {
            if task_leaves.holds(worker) {
                continue;
            }
            let too_slow = share == 0 && time > fastest.saturating_mul(CLEARLY_SLOWER);
            if too_slow {
                let member = self.members.get_mut(&worker);
                if !fresh || !member.is_some_and(|member| member.passed_over()) {
                    continue;
                }
            }
            // Nothing stays free while somebody is idle.
            let share = share.max(1).min(per_assignment);
            let assignment = AssignmentId(self.last_assignment.0 + 1);
            let since = (at == 0).then_some(now);
            let Some((leaves, reason)) = task_leaves.assign(assignment, worker, share, since, too_slow)
            else {
                break;
            };
            self.last_assignment = assignment;
            let reason = reason.unwrap_or(AssignReason::Share { members });
            commands.push(Command::Assign { worker, assignment, task: task_leaves.task, leaves, reason });
        }
    }

    /// Offers what is late in the current task to members that are idle there; what its holder has not begun goes to
    /// others. Says whether there is anything to share out.
    fn offer_late(&mut self, now: Time, commands: &mut Vec<Command>) -> bool {
        let mut offered = false;
        while let Some(Late { worker, assignment, leaves, waited, expected, first_noticed }) =
            self.late_assignment(now)
        {
            let front = &mut self.window[0];
            let kind = front.task.kind;
            offered |= front.offer(assignment, waited, expected);
            for task_leaves in self.window.iter_mut().skip(1) {
                task_leaves.release(worker, |ahead| {
                    let reason = RevokeReason::Late { with: assignment };
                    commands.push(Command::Revoke { worker, assignment: ahead, reason });
                    offered = true;
                });
            }
            let deadline = self.settings.deadline;
            if let Some(member) = self.members.get_mut(&worker).filter(|_| first_noticed) {
                member.was_late(now, kind, waited, leaves, deadline);
            }
        }
        offered
    }

    /// Work that is known to be late, that nobody else has, and a member that is idle beside it, though fast enough and
    /// trusted: there is none after any event that changes who is there. For invariants.
    pub fn uncopied(&self, now: Time) -> Option<(AssignmentId, WorkerId)> {
        let front = self.window.front().filter(|_| self.phase == Phase::Running)?;
        let late = front.held().iter().find(|held| held.late.is_some() && front.holds_alone(held))?;
        let trusted = || self.members.iter().filter(|(_, member)| member.is_trusted(now));
        let candidates: Vec<_> = trusted().map(|(_, member)| member.candidate(front.task.kind)).collect();
        let mut times = Vec::new();
        leaf_times(&candidates, &mut times);
        let slowest = times.iter().min()?.saturating_mul(CLEARLY_SLOWER);
        let idle =
            trusted().zip(&times).find(|((worker, _), time)| !front.holds(**worker) && **time <= slowest);
        idle.map(|((worker, _), _)| (late.id, *worker))
    }
}

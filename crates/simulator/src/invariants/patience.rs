//! A run that does not get on ends: who joins after the patience is over, or breaks before anything new is computed,
//! keeps no run alive.

use std::collections::BTreeMap;

use lockstep_control::{AssignmentId, Command, Event, Task, WorkerId};

use super::{Invariant, View};
use crate::observed::{CoordinatorId, Observed};

/// What each coordinator has seen.
#[derive(Debug, Default)]
pub struct Patience(BTreeMap<CoordinatorId, Run>);

#[derive(Debug, Default)]
struct Run {
    /// When each member joined.
    members: BTreeMap<WorkerId, u64>,
    held: BTreeMap<AssignmentId, (WorkerId, Task)>,
    /// Leaves counted of the current task, the most that ever were, and the most examples done of one assignment since.
    counted: u32,
    most_counted: u32,
    most_done: u32,
    /// When something new was computed last; `None` before the first step.
    got_on_us: Option<u64>,
    /// Who joined by then is waited for.
    until_us: u64,
    paused_us: Option<u64>,
}

impl Run {
    fn got_on(&mut self, view: &View) {
        self.got_on_us = Some(view.now);
        self.until_us = view.now + view.knobs.patience_us;
    }

    fn observe(&mut self, observed: &Observed, view: &View) {
        match observed {
            Observed::Told { event: Event::Joined { worker, .. }, .. } => {
                self.members.insert(*worker, view.now);
            }
            Observed::Told { event: Event::Heard { worker, progress: Some(progress) }, .. } => {
                let held = self.held.get(&progress.assignment);
                if held.is_some_and(|(holder, _)| holder == worker) && progress.examples > self.most_done {
                    self.most_done = progress.examples;
                    self.got_on(view);
                }
            }
            Observed::Decided { command, .. } => self.decided(command, view),
            Observed::Combined { node, .. } => {
                self.counted += node.leaf_count();
                if self.counted > self.most_counted {
                    (self.most_counted, self.most_done) = (self.counted, 0);
                    self.got_on(view);
                }
            }
            Observed::Done { task, .. } => {
                (self.counted, self.most_counted, self.most_done) = (0, 0, 0);
                self.held.retain(|_, (_, of)| of != task);
            }
            // It may be stopped twice before it goes on.
            Observed::Paused { .. } => self.paused_us = self.paused_us.or(Some(view.now)),
            // A jump of its clock lets nobody go on.
            Observed::Resumed { jumped_us: 0, .. } => {
                // Nobody could come meanwhile.
                self.until_us += self.paused_us.take().map_or(0, |paused_us| view.now - paused_us);
            }
            _ => {}
        }
    }

    fn decided(&mut self, command: &Command, view: &View) {
        match command {
            Command::Assign { worker, assignment, task, .. } => {
                self.held.insert(*assignment, (*worker, *task));
                if self.got_on_us.is_none() {
                    self.got_on(view);
                }
            }
            Command::Revoke { assignment, .. } => drop(self.held.remove(assignment)),
            Command::RollBack { .. } => self.counted = 0,
            Command::DropMember { worker, .. } => {
                self.held.retain(|_, (holder, _)| holder != worker);
                let joined_us = self.members.remove(worker);
                if joined_us.zip(self.got_on_us).is_some_and(|(joined_us, got_on_us)| joined_us <= got_on_us)
                {
                    self.until_us = view.now + view.knobs.patience_us;
                }
            }
            _ => {}
        }
    }
}

impl Invariant for Patience {
    fn name(&self) -> &'static str {
        "a run that does not get on ends"
    }

    fn observe(&mut self, observed: &Observed, view: &View) -> Result<(), String> {
        let coordinator = match observed {
            Observed::Told { coordinator, .. }
            | Observed::Decided { coordinator, .. }
            | Observed::Combined { coordinator, .. }
            | Observed::Done { coordinator, .. }
            | Observed::Paused { coordinator }
            | Observed::Resumed { coordinator, .. } => coordinator,
            Observed::Ended { coordinator, .. } => {
                self.0.remove(coordinator);
                return Ok(());
            }
            _ => return Ok(()),
        };
        self.0.entry(*coordinator).or_default().observe(observed, view);
        Ok(())
    }

    fn after_event(&mut self, view: &View) -> Result<(), String> {
        // A timer of the coordinator may be a moment late.
        let slack_us = view.knobs.deadline_us / 4;
        for (coordinator, run) in &self.0 {
            let in_time = || run.members.values().any(|joined_us| *joined_us <= run.until_us + slack_us);
            if let Some(got_on_us) = run.got_on_us
                && run.paused_us.is_none()
                && view.now > run.until_us + slack_us
                && !in_time()
            {
                let (waited_ms, members) = ((view.now - got_on_us) / 1000, run.members.len());
                return Err(format!(
                    "coordinator {coordinator} goes on, although nothing new was computed for {waited_ms} ms and \
                     {members} members came too late"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use lockstep_control::{DropReason, LeaveCause, Progress};

    use super::super::testing::{assign, decided, disk, judge_on, knobs, told};
    use super::*;

    #[test]
    fn a_run_that_only_joiners_keep_alive_is_seen() {
        let (disk, knobs) = (disk(), knobs());
        let (patience_us, moment_us) = (knobs.patience_us, knobs.deadline_us);
        let joined = |worker| told(Event::Joined { worker: WorkerId(worker), threads: 1 });
        let left = |worker| {
            let reason = DropReason::Left { cause: LeaveCause::Reset };
            decided(Command::DropMember { worker: WorkerId(worker), reason })
        };
        let heard = |worker, assignment, examples| {
            let progress = Some(Progress { assignment: AssignmentId(assignment), examples });
            told(Event::Heard { worker: WorkerId(worker), progress })
        };
        let outcome = |examples| {
            let mut patience = Patience::default();
            let mut judge = |now, observed: Observed| judge_on(&mut patience, &disk, now, &observed);
            judge(0, joined(1))?;
            judge(0, assign(1, 1, 0..4))?;
            judge(1, heard(1, 1, 5))?;
            judge(2, left(1))?;
            judge(3, joined(2))?;
            judge(3, assign(2, 2, 0..4))?;
            judge(patience_us, heard(2, 2, examples))?;
            judge(patience_us + moment_us, joined(3))?;
            judge(patience_us + 2 * moment_us, left(2))
        };
        assert_eq!(outcome(6), Ok(()), "the second one got further");
        let error = outcome(5).unwrap_err();
        assert!(error.ends_with("ms and 1 members came too late"), "{error}");
    }
}

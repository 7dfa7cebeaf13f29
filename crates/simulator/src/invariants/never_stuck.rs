//! Slow is not stuck: nobody is dropped for being stuck who has got on with its work within the time that everybody has
//! for an example.

use std::collections::BTreeMap;

use lockstep_control::{AssignmentId, Command, DropReason, Event, Task};

use super::{Invariant, View};
use crate::observed::{CoordinatorId, Observed};

/// A worker that does nothing for less is not stuck.
const STUCK_DEADLINES: u64 = 8;

/// When the holder of each assignment got on with it.
#[derive(Debug, Default)]
pub struct NeverStuck(BTreeMap<(CoordinatorId, AssignmentId), Held>);

#[derive(Debug, Default)]
struct Held {
    /// It was given, a node of it was counted, or more examples were done than before.
    got_on_us: u64,
    /// By how much the coordinator's clock jumped since.
    jumped_us: u64,
    done: u32,
    task: Option<Task>,
}

impl Invariant for NeverStuck {
    fn name(&self) -> &'static str {
        "slow is not stuck"
    }

    fn observe(&mut self, observed: &Observed, view: &View) -> Result<(), String> {
        let new = |task, done| Held { got_on_us: view.now, jumped_us: 0, done, task };
        match observed {
            Observed::Decided { coordinator, command: Command::Assign { assignment, task, .. } } => {
                self.0.insert((*coordinator, *assignment), new(Some(*task), 0));
            }
            Observed::Told { coordinator, event: Event::Heard { progress: Some(progress), .. } } => {
                if let Some(held) = self.0.get_mut(&(*coordinator, progress.assignment))
                    && progress.examples > held.done
                {
                    *held = new(held.task, progress.examples);
                }
            }
            Observed::Combined { coordinator, assignment, .. } => {
                if let Some(held) = self.0.get_mut(&(*coordinator, *assignment)) {
                    *held = new(held.task, held.done);
                }
            }
            Observed::Resumed { coordinator, jumped_us, .. } => {
                let held = self.0.iter_mut().filter(|((of, _), _)| of == coordinator);
                held.for_each(|(_, held)| held.jumped_us += jumped_us);
            }
            Observed::Decided {
                coordinator,
                command: Command::DropMember { worker, reason: DropReason::Stuck { assignment, waited_ms } },
            } => {
                let held = self.0.remove(&(*coordinator, *assignment)).unwrap_or_default();
                let idle_us = view.now - held.got_on_us + held.jumped_us;
                if idle_us < STUCK_DEADLINES * view.knobs.deadline_us {
                    return Err(format!(
                        "{worker} is dropped as stuck for {waited_ms} ms, and it got on {idle_us} us ago"
                    ));
                }
            }
            Observed::Done { coordinator, task, .. } => {
                self.0.retain(|(of, _), held| of != coordinator || held.task != Some(*task));
            }
            Observed::Ended { coordinator, .. } => self.0.retain(|(of, _), _| of != coordinator),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use lockstep_control::{Progress, WorkerId};

    use super::super::testing::{assign, decided, disk, judge_on, knobs, told};
    use super::*;

    #[test]
    fn a_member_that_gets_on_and_is_dropped_as_stuck_is_seen() {
        let (disk, deadline_us) = (disk(), knobs().deadline_us);
        let heard = |examples| {
            let progress = Some(Progress { assignment: AssignmentId(1), examples });
            told(Event::Heard { worker: WorkerId(1), progress })
        };
        let reason = DropReason::Stuck { assignment: AssignmentId(1), waited_ms: 9 };
        let drop = decided(Command::DropMember { worker: WorkerId(1), reason });
        let dropped_after_saying = |examples| {
            let mut stuck = NeverStuck::default();
            judge_on(&mut stuck, &disk, 0, &assign(1, 1, 0..4))?;
            judge_on(&mut stuck, &disk, deadline_us, &heard(3))?;
            judge_on(&mut stuck, &disk, 8 * deadline_us, &heard(examples))?;
            judge_on(&mut stuck, &disk, 9 * deadline_us, &drop)
        };
        assert_eq!(dropped_after_saying(3), Ok(()), "it did not get on");
        let error = dropped_after_saying(4).unwrap_err();
        assert!(error.starts_with("worker 1 is dropped as stuck for 9 ms, and it got on"), "{error}");
    }
}

//! Silence is noticed, and never imagined: a member of which nothing comes is dropped in time, and nobody is dropped for
//! silence of whom something has arrived that a coordinator, stopped itself for a while, has not looked at. A stop too
//! short to be told from a busy machine does not count. Nor is anybody dropped because a clock jumped far.

use std::collections::BTreeMap;

use lockstep_control::{Command, DropReason, Event, WorkerId};

use super::{Invariant, View};
use crate::observed::{CoordinatorId, Observed};

/// The silence of a slow machine is tolerated for so many deadlines, with one more for the timers.
const NOTICED_WITHIN_DEADLINES: u64 = 8 + 1;

/// A stop of this part of the deadline counts.
const SHORTEST_STOP: u64 = 32;

/// A clock that jumps so far ahead is beyond every silence that is tolerated, and cannot be taken for one.
const FAR_DEADLINES: u64 = NOTICED_WITHIN_DEADLINES;

/// Whom the coordinators have heard.
#[derive(Debug, Default)]
pub struct Silence(BTreeMap<CoordinatorId, Ears>);

#[derive(Debug, Default)]
struct Ears {
    heard_us: BTreeMap<WorkerId, u64>,
    /// It was stopped, or its clock jumped, until then.
    resumed_us: u64,
    unread: Vec<WorkerId>,
    paused_us: Option<u64>,
    /// Its clock jumped far, then.
    jumped_far_us: Option<u64>,
}

impl Invariant for Silence {
    fn name(&self) -> &'static str {
        "silence is noticed and never imagined"
    }

    fn observe(&mut self, observed: &Observed, view: &View) -> Result<(), String> {
        match observed {
            Observed::Told { coordinator, event } => {
                let ears = self.0.entry(*coordinator).or_default();
                match event {
                    Event::Joined { worker, .. } => drop(ears.heard_us.insert(*worker, view.now)),
                    Event::Heard { worker, .. } | Event::NodeReceived { worker, .. } => {
                        ears.heard_us.entry(*worker).and_modify(|heard_us| *heard_us = view.now);
                        ears.unread.retain(|unread| unread != worker);
                    }
                    _ => {}
                }
            }
            Observed::Decided { coordinator, command: Command::DropMember { worker, reason } } => {
                let ears = self.0.entry(*coordinator).or_default();
                let heard_us = ears.heard_us.remove(worker).unwrap_or(0);
                let DropReason::Silent { silence_ms } = reason else { return Ok(()) };
                if ears.unread.contains(worker) {
                    return Err(format!(
                        "{worker} is dropped for a silence of {silence_ms} ms, and what it said is unread"
                    ));
                }
                let truly_us = view.now - heard_us;
                let jumped = ears.jumped_far_us.is_some_and(|jumped_us| heard_us <= jumped_us);
                if jumped && truly_us < view.knobs.deadline_us / 2 {
                    return Err(format!(
                        "{worker} is dropped for a silence of {silence_ms} ms, and it was heard {truly_us} us ago"
                    ));
                }
            }
            // It was looked at, and ignored.
            Observed::Stale { coordinator, worker } => {
                self.0.entry(*coordinator).or_default().unread.retain(|unread| unread != worker);
            }
            Observed::Paused { coordinator } => {
                self.0.entry(*coordinator).or_default().paused_us = Some(view.now)
            }
            Observed::Resumed { coordinator, unread, jumped_us } => {
                let ears = self.0.entry(*coordinator).or_default();
                if *jumped_us > 0 {
                    // A smaller jump may be a silence.
                    let far = *jumped_us >= FAR_DEADLINES * view.knobs.deadline_us;
                    ears.jumped_far_us = far.then_some(view.now);
                }
                ears.resumed_us = view.now;
                let stop_us = ears.paused_us.take().map_or(0, |paused_us| view.now - paused_us);
                if stop_us >= view.knobs.deadline_us / SHORTEST_STOP {
                    ears.unread.clone_from(unread);
                }
            }
            Observed::Ended { coordinator, .. } => drop(self.0.remove(coordinator)),
            _ => {}
        }
        Ok(())
    }

    fn after_event(&mut self, view: &View) -> Result<(), String> {
        let limit_us = NOTICED_WITHIN_DEADLINES * view.knobs.deadline_us;
        for (coordinator, ears) in self.0.iter().filter(|(_, ears)| ears.paused_us.is_none()) {
            let silent = ears
                .heard_us
                .iter()
                .find(|(_, heard_us)| view.now.saturating_sub((**heard_us).max(ears.resumed_us)) > limit_us);
            if let Some((worker, heard_us)) = silent {
                let silence_ms = (view.now - heard_us) / 1000;
                return Err(format!(
                    "coordinator {coordinator} has not noticed that {worker} says nothing for {silence_ms} ms"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{decided, disk, judge_on, knobs, told};
    use super::*;

    const WORKER: WorkerId = WorkerId(1);

    #[test]
    fn silence_that_nobody_notices_is_seen() {
        let (disk, deadline_us) = (disk(), knobs().deadline_us);
        let mut silence = Silence::default();
        let heard = told(Event::Heard { worker: WORKER, progress: None });
        judge_on(&mut silence, &disk, 0, &told(Event::Joined { worker: WORKER, threads: 1 })).unwrap();
        assert_eq!(judge_on(&mut silence, &disk, 9 * deadline_us, &Observed::Repaired), Ok(()));
        assert_eq!(judge_on(&mut silence, &disk, 9 * deadline_us, &heard), Ok(()));
        let error = judge_on(&mut silence, &disk, 18 * deadline_us + 1, &Observed::Repaired).unwrap_err();
        assert!(error.contains("has not noticed that worker 1 says nothing"), "{error}");
    }

    #[test]
    fn silence_that_is_the_coordinators_own_is_seen() {
        let (disk, deadline_us) = (disk(), knobs().deadline_us);
        let drop =
            decided(Command::DropMember { worker: WORKER, reason: DropReason::Silent { silence_ms: 9 } });
        let after_a_stop_of = |stop_us, unread: &[WorkerId]| {
            let mut silence = Silence::default();
            judge_on(&mut silence, &disk, 0, &told(Event::Joined { worker: WORKER, threads: 1 }))?;
            judge_on(&mut silence, &disk, 1, &Observed::Paused { coordinator: 0 })?;
            let resumed = Observed::Resumed { coordinator: 0, unread: unread.to_vec(), jumped_us: 0 };
            judge_on(&mut silence, &disk, 1 + stop_us, &resumed)?;
            judge_on(&mut silence, &disk, 1 + stop_us, &drop)
        };
        let error = after_a_stop_of(deadline_us, &[WORKER]).unwrap_err();
        assert_eq!(error, "worker 1 is dropped for a silence of 9 ms, and what it said is unread");
        assert_eq!(after_a_stop_of(deadline_us, &[]), Ok(()), "it had said nothing");
        let mut silence = Silence::default();
        for (now, observed) in [
            (0, told(Event::Joined { worker: WORKER, threads: 1 })),
            (1, Observed::Paused { coordinator: 0 }),
            (deadline_us, Observed::Resumed { coordinator: 0, unread: vec![WORKER], jumped_us: 0 }),
            (deadline_us, Observed::Stale { coordinator: 0, worker: WORKER }),
            (2 * deadline_us, drop.clone()),
        ] {
            assert_eq!(
                judge_on(&mut silence, &disk, now, &observed),
                Ok(()),
                "what it said was of another term"
            );
        }
        assert_eq!(after_a_stop_of(deadline_us / 64, &[WORKER]), Ok(()), "too short to be noticed");
    }

    #[test]
    fn a_clock_that_jumped_far_is_no_silence() {
        let (disk, deadline_us) = (disk(), knobs().deadline_us);
        let drop =
            decided(Command::DropMember { worker: WORKER, reason: DropReason::Silent { silence_ms: 9 } });
        let after_a_jump_of = |jumped_us, then_us| {
            let mut silence = Silence::default();
            judge_on(&mut silence, &disk, 0, &told(Event::Joined { worker: WORKER, threads: 1 }))?;
            judge_on(
                &mut silence,
                &disk,
                1,
                &Observed::Resumed { coordinator: 0, unread: Vec::new(), jumped_us },
            )?;
            judge_on(&mut silence, &disk, then_us, &drop)
        };
        let error = after_a_jump_of(9 * deadline_us, 2).unwrap_err();
        assert_eq!(error, "worker 1 is dropped for a silence of 9 ms, and it was heard 2 us ago");
        assert_eq!(after_a_jump_of(9 * deadline_us, deadline_us), Ok(()), "it is silent in truth");
        assert_eq!(after_a_jump_of(deadline_us, 2), Ok(()), "that may be a silence");
    }
}

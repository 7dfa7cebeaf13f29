//! A step that is done again after a restart is held against its record, and gives what that says.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_checkpoint::Proof;

use super::{Invariant, View};
use crate::disk::Loss;
use crate::observed::{CoordinatorId, Observed};
use crate::rng::{Rng, Subject};
use crate::storage;

/// The steps that have to be proved, by coordinator.
#[derive(Debug, Default)]
pub struct ReplaysProved {
    recorded: BTreeMap<CoordinatorId, BTreeSet<u64>>,
    /// They were held while they began, and have not read what others wrote meanwhile.
    held: BTreeSet<CoordinatorId>,
    /// They wait, and are not proved yet.
    due: BTreeSet<(CoordinatorId, u64)>,
    /// Calls of the disk that had failed when a step was recorded last.
    failed_calls: u64,
}

impl Invariant for ReplaysProved {
    fn name(&self) -> &'static str {
        "a replayed step equals its record"
    }

    fn observe(&mut self, observed: &Observed, view: &View) -> Result<(), String> {
        match observed {
            Observed::Held { coordinator, .. } => drop(self.held.insert(*coordinator)),
            Observed::Started { coordinator, done, .. } if !self.held.contains(coordinator) => {
                let rng = &mut Rng::new(view.knobs.seed, Subject::Probe);
                // A copy, on which no call fails.
                let disk = view.disk.after_crash(Loss::Nothing, rng);
                let history = storage::history_on(&disk, view.knobs)?;
                let from = done.map_or(0, |done| done.step);
                let steps = from + 1..=history.last_step();
                let recorded = steps.filter(|step| history.digest_of(*step).is_some()).collect();
                self.recorded.insert(*coordinator, recorded);
            }
            Observed::StepWaits { coordinator, step, lost, .. } => {
                let recorded = self.recorded.get_mut(coordinator);
                if recorded.is_some_and(|recorded| recorded.remove(step)) && !lost {
                    self.due.insert((*coordinator, *step));
                }
            }
            Observed::Recorded { coordinator, step, proof } => {
                let failed_calls = view.disk.failed_calls();
                // A record that could not be read proves nothing, which people are told.
                let unread = *proof == Proof::Unrecorded && failed_calls > self.failed_calls;
                self.failed_calls = failed_calls;
                if *proof == Proof::Proved || unread {
                    self.due.remove(&(*coordinator, *step));
                }
                return self.nothing_due(*coordinator, *step);
            }
            Observed::Saved { coordinator, after, .. } => return self.nothing_due(*coordinator, after.step),
            Observed::NotProved { step, reason, .. } => return Err(format!("step {step}: {reason}")),
            // Killed in between, it has not gone on.
            Observed::Ended { coordinator, .. } => self.due.retain(|(of, _)| of != coordinator),
            _ => {}
        }
        Ok(())
    }
}

impl ReplaysProved {
    /// The journal has come to this step, in order.
    fn nothing_due(&self, coordinator: CoordinatorId, step: u64) -> Result<(), String> {
        match self.due.range((coordinator, 0)..=(coordinator, step)).next() {
            Some((_, step)) => {
                Err(format!("coordinator {coordinator} did not hold step {step} against its record"))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{disk, judge_on, knobs, started, storage};
    use super::*;
    use crate::oracle::Oracle;

    #[test]
    fn a_replay_that_is_not_held_against_its_record_is_seen() {
        let (disk, oracle) = (disk(), Oracle::train(&knobs()));
        storage(&disk).committed(1, oracle.weights(1).unwrap()).unwrap();
        let mut invariant = ReplaysProved::default();
        judge_on(&mut invariant, &disk, 0, &started(2)).unwrap();
        let waits = |step, lost| Observed::StepWaits { coordinator: 0, step, bytes: 32, lost };
        let recorded = |step, proof| Observed::Recorded { coordinator: 0, step, proof };
        judge_on(&mut invariant, &disk, 1, &waits(1, false)).unwrap();
        let error = judge_on(&mut invariant, &disk, 2, &recorded(1, Proof::Unrecorded)).unwrap_err();
        assert_eq!(error, "coordinator 0 did not hold step 1 against its record");
        assert!(judge_on(&mut invariant, &disk, 2, &recorded(2, Proof::Appended)).is_err(), "nor before");
        assert_eq!(judge_on(&mut invariant, &disk, 3, &recorded(1, Proof::Proved)), Ok(()));
        judge_on(&mut invariant, &disk, 4, &waits(2, false)).unwrap();
        assert_eq!(judge_on(&mut invariant, &disk, 4, &recorded(2, Proof::Appended)), Ok(()), "it had none");
        let contradiction = Observed::NotProved { coordinator: 0, step: 2, reason: "other bits".to_string() };
        assert_eq!(judge_on(&mut invariant, &disk, 3, &contradiction).unwrap_err(), "step 2: other bits");
    }
}

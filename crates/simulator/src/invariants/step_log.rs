//! The step log is a valid chain, says only what is true, and covers every step up to the newest durable checkpoint,
//! but for those that the queue has lost, the next one, which the log goes on with, and those of which the journal says
//! that they are not durable; unless a bit has flipped, or a second coordinator has taken over.

use std::collections::BTreeSet;

use lockstep_checkpoint::Proof;

use super::{Invariant, View};
use crate::disk::Loss;
use crate::observed::Observed;
use crate::rng::{Rng, Subject};
use crate::storage;

/// What the log may be expected to hold.
#[derive(Debug)]
pub struct StepLog {
    /// Records may be missing.
    excused: bool,
    /// Steps that have no record, as is known: the queue has lost them, or they came after such, or the log could not be
    /// written.
    lost: BTreeSet<u64>,
    rng: Rng,
}

impl StepLog {
    /// Before the first record.
    pub fn new(seed: u64) -> Self {
        Self { excused: false, lost: BTreeSet::new(), rng: Rng::new(seed ^ 0x106, Subject::Probe) }
    }
}

impl Invariant for StepLog {
    fn name(&self) -> &'static str {
        "the step log is whole and true"
    }

    fn observe(&mut self, observed: &Observed, view: &View) -> Result<(), String> {
        match observed {
            Observed::Fault { class: "bit flipped at rest" | "second coordinator", .. } => {
                self.excused = true;
                Ok(())
            }
            Observed::StepWaits { step, lost: true, .. } => {
                self.lost.insert(*step);
                Ok(())
            }
            Observed::Recorded { step, proof: Proof::Resumed { missing }, .. } => {
                let known = (*missing.start()..*step).all(|missing| self.lost.contains(&missing));
                self.lost.insert(*step);
                // Of two coordinators, each has its own gaps.
                if known || self.excused {
                    Ok(())
                } else {
                    Err(format!("steps {missing:?} are left out, and not all are lost"))
                }
            }
            Observed::Recorded { step, proof: Proof::Unrecorded, .. } => {
                // An earlier process was killed before it could say that it had gone on with this step.
                if self.lost.contains(&(step - 1)) {
                    self.lost.insert(*step);
                }
                Ok(())
            }
            // A process before was killed with a checkpoint in the middle of its save, and records only in memory.
            Observed::Started { done: Some(done), .. } if view.disk.failed_calls() > 0 => {
                let history =
                    storage::history_on(&view.disk.after_crash(Loss::Nothing, &mut self.rng), view.knobs)?;
                self.lost.extend((1..=done.step).filter(|step| history.digest_of(*step).is_none()));
                Ok(())
            }
            Observed::NotDurable { steps, .. } => {
                self.lost.extend(steps.clone());
                Ok(())
            }
            Observed::Recorded { step, .. } => {
                self.lost.remove(step);
                Ok(())
            }
            Observed::Saved { after, failure: None, .. } => {
                let crashed = view.disk.after_crash(Loss::Everything, &mut self.rng);
                let history = storage::history_on(&crashed, view.knobs)
                    .map_err(|error| format!("after a crash now it cannot be read: {error}"))?;
                for record in history.records() {
                    let expected = view.oracle.weights(record.step).map(|weights| weights.digest());
                    if expected != Some(record.weights_digest) {
                        return Err(format!("it has another digest for step {}", record.step));
                    }
                }
                if self.excused {
                    return Ok(());
                }
                let failed = view.disk.failed_calls() > 0;
                if let Some(damage) = history.damage().filter(|_| !failed) {
                    return Err(format!("nothing has damaged it, and it is: {damage}"));
                }
                let mut steps = 1..=after.step;
                let missing =
                    steps.find(|step| history.digest_of(*step).is_none() && !self.lost.contains(step));
                match missing {
                    Some(step) => Err(format!("{after} is saved, and step {step} has no record")),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{disk, judge_on, knobs, step, storage};
    use super::*;
    use crate::oracle::Oracle;

    fn saved(step_number: u64) -> Observed {
        Observed::Saved { coordinator: 0, after: step(step_number), failure: None }
    }

    #[test]
    fn a_record_that_is_missing_or_wrong_is_seen() {
        let (disk, oracle) = (disk(), Oracle::train(&knobs()));
        let mut storage = storage(&disk);
        storage.committed(1, oracle.weights(1).unwrap()).unwrap();
        let error = judge_on(&mut StepLog::new(1), &disk, 0, &saved(1)).unwrap_err();
        assert_eq!(error, "step 1 is saved, and step 1 has no record", "it is not synced yet");
        storage.save(step(1), oracle.weights(1).unwrap(), 8).unwrap();
        assert_eq!(judge_on(&mut StepLog::new(1), &disk, 1, &saved(1)), Ok(()));
        let mut excused = StepLog { excused: true, ..StepLog::new(1) };
        assert_eq!(judge_on(&mut excused, &disk, 2, &saved(2)), Ok(()));
        storage.committed(2, oracle.weights(1).unwrap()).unwrap();
        storage.save(step(2), oracle.weights(2).unwrap(), 16).unwrap();
        let error = judge_on(&mut excused, &disk, 3, &saved(2)).unwrap_err();
        assert_eq!(error, "it has another digest for step 2");
    }

    #[test]
    fn a_gap_where_nothing_was_lost_is_seen() {
        let (disk, oracle) = (disk(), Oracle::train(&knobs()));
        let mut storage = storage(&disk);
        // The queue has lost step 1, so the log begins again with step 2.
        storage.committed(2, oracle.weights(2).unwrap()).unwrap();
        storage.save(step(2), oracle.weights(2).unwrap(), 16).unwrap();
        let lost = Observed::StepWaits { coordinator: 0, step: 1, bytes: 32, lost: true };
        let after = Observed::Recorded { coordinator: 0, step: 2, proof: Proof::Resumed { missing: 1..=2 } };
        let mut told = StepLog::new(1);
        for observed in [&lost, &after, &saved(2)] {
            assert_eq!(judge_on(&mut told, &disk, 0, observed), Ok(()));
        }
        let error = judge_on(&mut StepLog::new(1), &disk, 0, &saved(2)).unwrap_err();
        assert_eq!(error, "step 2 is saved, and step 1 has no record");
        let mut half_told = StepLog::new(1);
        judge_on(&mut half_told, &disk, 0, &lost).unwrap();
        let error = judge_on(&mut half_told, &disk, 0, &saved(2)).unwrap_err();
        assert_eq!(error, "step 2 is saved, and step 2 has no record");
    }
}

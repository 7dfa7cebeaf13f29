//! A checkpoint that was reported saved is readable after any crash, with the right weights: a run never goes back
//! behind it. A rotten one is fallen back over.

use std::collections::BTreeSet;

use lockstep_checkpoint::MIN_KEPT;
use lockstep_control::Task;

use super::{Invariant, View};
use crate::disk::Loss;
use crate::observed::{CoordinatorId, Observed};
use crate::rng::{Rng, Subject};
use crate::storage;

/// The newest states reported saved.
#[derive(Debug)]
pub struct DurableCheckpoints {
    /// Oldest first, as many as are kept at least.
    saved: Vec<Task>,
    rotten: bool,
    /// They were held while they began, and have not read what others saved meanwhile.
    held: BTreeSet<CoordinatorId>,
    rng: Rng,
}

impl DurableCheckpoints {
    /// Before any.
    pub fn new(seed: u64) -> Self {
        Self { saved: Vec::new(), rotten: false, held: BTreeSet::new(), rng: Rng::new(!seed, Subject::Probe) }
    }

    /// The state that must be found, or a later one.
    fn promised(&self) -> Option<Task> {
        match &self.saved[..] {
            // It may be the only one of which this is known.
            [_] if self.rotten => None,
            saved if self.rotten => saved.first().copied(),
            saved => saved.last().copied(),
        }
    }

    fn try_a_crash(&mut self, loss: Loss, view: &View) -> Result<(), String> {
        let Some(promised) = self.promised() else { return Ok(()) };
        let found = storage::newest_on(&view.disk.after_crash(loss, &mut self.rng))
            .map_err(|error| format!("after a crash now the checkpoints cannot be read: {error}"))?;
        let Some(found) = found else {
            return Err(format!("after a crash now there is no checkpoint, {promised} was saved"));
        };
        if order(found.after) < order(promised) {
            return Err(format!(
                "after a crash now the run goes on after {}, {promised} was saved",
                found.after
            ));
        }
        if view.oracle.weights(found.after.step) != Some(&found.weights) {
            return Err(format!("after a crash now the weights after {} are others", found.after));
        }
        Ok(())
    }
}

impl Invariant for DurableCheckpoints {
    fn name(&self) -> &'static str {
        "a saved checkpoint is readable after any crash"
    }

    fn observe(&mut self, observed: &Observed, view: &View) -> Result<(), String> {
        match observed {
            Observed::Saved { after, failure: None, .. } => {
                self.saved.push(*after);
                self.saved.sort_by_key(|task| order(*task));
                if self.saved.len() > MIN_KEPT {
                    self.saved.remove(0);
                }
                let kept = storage::kept_on(view.disk);
                if kept < self.saved.len() {
                    return Err(format!("{kept} checkpoints are kept, {} could be", self.saved.len()));
                }
                self.try_a_crash(Loss::Everything, view)?;
                self.try_a_crash(Loss::Some, view)
            }
            // Whatever it was in the middle of.
            Observed::Ended { .. } | Observed::Saved { .. } => self.try_a_crash(Loss::Some, view),
            Observed::Fault { class: "bit flipped at rest", .. } => {
                self.rotten = true;
                Ok(())
            }
            Observed::Held { coordinator, .. } => {
                self.held.insert(*coordinator);
                Ok(())
            }
            Observed::Started { coordinator, done, .. } if !self.held.contains(coordinator) => {
                let calls_fail = view.knobs.disk_errors > 0;
                match (self.promised(), done) {
                    // A checkpoint that could not be read just now is fallen back over, too.
                    (Some(promised), done) if !calls_fail && done.map(order) < Some(order(promised)) => {
                        Err(format!("the run goes on behind {promised}, which was saved"))
                    }
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

/// A validation stands after its step.
fn order(task: Task) -> (u64, bool) {
    (task.step, task.kind != lockstep_control::TaskKind::Train)
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
    fn saying_saved_without_saving_is_seen() {
        let (disk, oracle) = (disk(), Oracle::train(&knobs()));
        let mut invariant = DurableCheckpoints::new(1);
        let mut storage = storage(&disk);
        storage.save(step(1), oracle.weights(1).unwrap(), 8).unwrap();
        assert_eq!(judge_on(&mut invariant, &disk, 0, &saved(1)), Ok(()));
        let error = judge_on(&mut invariant, &disk, 1, &saved(2)).unwrap_err();
        assert_eq!(error, "1 checkpoints are kept, 2 could be");
        storage.save(step(2), oracle.weights(1).unwrap(), 16).unwrap();
        let error = judge_on(&mut DurableCheckpoints::new(1), &disk, 2, &saved(2)).unwrap_err();
        assert_eq!(error, "after a crash now the weights after step 2 are others");
    }

    #[test]
    fn a_checkpoint_that_a_crash_takes_away_is_seen() {
        let (disk, oracle) = (disk(), Oracle::train(&knobs()));
        let mut storage = storage(&disk);
        disk.set_faults(0, 1000);
        storage.save(step(1), oracle.weights(1).unwrap(), 8).unwrap_err();
        let mut invariant = DurableCheckpoints { saved: vec![step(1)], ..DurableCheckpoints::new(1) };
        let failed = Observed::Saved { coordinator: 0, after: step(1), failure: Some(String::new()) };
        let error = judge_on(&mut invariant, &disk, 0, &failed).unwrap_err();
        assert_eq!(error, "after a crash now there is no checkpoint, step 1 was saved");
    }
}

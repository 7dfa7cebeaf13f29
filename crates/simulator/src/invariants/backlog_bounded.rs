//! What waits for the disk keeps its bounds, however long the disk takes: steps in number and in bytes, and all together.

use std::collections::{BTreeMap, VecDeque};

use super::{Invariant, View};
use crate::observed::{CoordinatorId, Observed};

/// Saves that wait at most: two that the control plane has under way, and the one at the end.
const MAX_SAVES: usize = 3;

/// The bytes of the steps that wait, by coordinator.
#[derive(Debug, Default)]
pub struct BacklogBounded(BTreeMap<CoordinatorId, VecDeque<usize>>);

impl Invariant for BacklogBounded {
    fn name(&self) -> &'static str {
        "what waits for the disk is bounded"
    }

    fn observe(&mut self, observed: &Observed, view: &View) -> Result<(), String> {
        let limits = view.knobs.backlog;
        match observed {
            Observed::StepWaits { coordinator, bytes, lost: false, .. } => {
                let steps = self.0.entry(*coordinator).or_default();
                steps.push_back(*bytes);
                let (count, bytes) = (steps.len(), steps.iter().sum::<usize>());
                // One may wait, however large it is.
                if count > limits.steps || (count > 1 && bytes > limits.step_bytes) {
                    return Err(format!(
                        "{count} steps of {bytes} bytes wait for the disk, bounds are {limits:?}"
                    ));
                }
            }
            Observed::StepTaken { coordinator, .. } => {
                self.0.entry(*coordinator).or_default().pop_front();
            }
            Observed::LineWaits { waiting, .. } => {
                let most = limits.steps + limits.records + MAX_SAVES;
                if *waiting > most {
                    return Err(format!("{waiting} entries wait for the disk, {most} at most"));
                }
            }
            Observed::Ended { coordinator, .. } => drop(self.0.remove(coordinator)),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::judge;
    use super::*;

    fn waits(step: u64, bytes: usize) -> Observed {
        Observed::StepWaits { coordinator: 0, step, bytes, lost: false }
    }

    #[test]
    fn more_than_may_wait_is_seen() {
        let mut observations: Vec<Observed> = (1..=4).map(|step| waits(step, 32)).collect();
        assert_eq!(judge(&mut BacklogBounded::default(), &observations), Ok(()));
        observations.push(waits(5, 32));
        let error = judge(&mut BacklogBounded::default(), &observations).unwrap_err();
        assert!(error.starts_with("5 steps of 160 bytes wait"), "{error}");
        observations.insert(4, Observed::StepTaken { coordinator: 0, step: 1 });
        assert_eq!(judge(&mut BacklogBounded::default(), &observations), Ok(()));
        assert_eq!(judge(&mut BacklogBounded::default(), &[waits(1, 2000)]), Ok(()), "one may be large");
        assert!(judge(&mut BacklogBounded::default(), &[waits(1, 999), waits(2, 2)]).is_err());
        let lines = Observed::LineWaits { coordinator: 0, waiting: 12 };
        let error = judge(&mut BacklogBounded::default(), &[lines]).unwrap_err();
        assert_eq!(error, "12 entries wait for the disk, 11 at most");
    }
}

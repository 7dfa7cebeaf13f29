//! The disk never holds up the training: what is done is done for the control plane at the same instant, whatever waits
//! for the disk and however long a call of it takes.

use std::collections::BTreeSet;

use lockstep_control::{Event, Task};

use super::{Invariant, View};
use crate::observed::{CoordinatorId, Observed};

/// Tasks that are done, of which the control plane does not know.
#[derive(Debug, Default)]
pub struct TrainingGoesOn(BTreeSet<(CoordinatorId, Task)>);

impl Invariant for TrainingGoesOn {
    fn name(&self) -> &'static str {
        "the disk never holds up the training"
    }

    fn observe(&mut self, observed: &Observed, _view: &View) -> Result<(), String> {
        match observed {
            Observed::Done { coordinator, task, .. } => drop(self.0.insert((*coordinator, *task))),
            Observed::Told { coordinator, event: Event::Updated { task } } => {
                self.0.remove(&(*coordinator, *task));
            }
            Observed::Ended { coordinator, .. } => self.0.retain(|(of, _)| of != coordinator),
            _ => {}
        }
        Ok(())
    }

    fn after_event(&mut self, _view: &View) -> Result<(), String> {
        match self.0.first() {
            Some((coordinator, task)) => {
                Err(format!("coordinator {coordinator} has done {task}, and does not go on with it"))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{done, judge_events, step, told};
    use super::*;

    #[test]
    fn a_step_that_is_done_and_waits_is_seen() {
        let updated = told(Event::Updated { task: step(1) });
        let at_once = [vec![done(step(1)), updated.clone()]];
        assert_eq!(judge_events(&mut TrainingGoesOn::default(), &at_once), Ok(()));
        let later = [vec![done(step(1))], vec![updated]];
        let error = judge_events(&mut TrainingGoesOn::default(), &later).unwrap_err();
        assert_eq!(error, "coordinator 0 has done step 1, and does not go on with it");
    }
}

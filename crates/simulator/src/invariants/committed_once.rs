//! A task is done at most once in a term, and no two processes of the coordinator have one term.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_control::Task;

use super::{Invariant, View};
use crate::observed::{CoordinatorId, Observed};

/// What was done in which term.
#[derive(Debug, Default)]
pub struct CommittedOnce {
    terms: BTreeMap<CoordinatorId, u64>,
    done: BTreeSet<(u64, Task)>,
}

impl Invariant for CommittedOnce {
    fn name(&self) -> &'static str {
        "a step is committed at most once in a term"
    }

    fn observe(&mut self, observed: &Observed, _view: &View) -> Result<(), String> {
        match observed {
            Observed::Started { coordinator, term, .. } => {
                if self.terms.values().any(|other| other == term) {
                    return Err(format!("two coordinators have term {term}"));
                }
                self.terms.insert(*coordinator, *term);
            }
            Observed::Done { coordinator, task, .. } => {
                let term = self.terms.get(coordinator).copied().ok_or("a coordinator has no term")?;
                if !self.done.insert((term, *task)) {
                    return Err(format!("{task} is done twice in term {term}"));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{done, judge, started, step};
    use super::*;

    #[test]
    fn a_step_twice_in_a_term_and_a_term_twice_are_seen() {
        let error =
            judge(&mut CommittedOnce::default(), &[started(3), done(step(1)), done(step(1))]).unwrap_err();
        assert_eq!(error, "step 1 is done twice in term 3");
        let again = [started(3), done(step(1)), started(4), done(step(1))];
        assert_eq!(judge(&mut CommittedOnce::default(), &again), Ok(()));
        let error = judge(&mut CommittedOnce::default(), &[started(3), started(3)]).unwrap_err();
        assert_eq!(error, "two coordinators have term 3");
    }
}

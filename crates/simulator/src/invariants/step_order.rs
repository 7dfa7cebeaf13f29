//! No task is skipped or repeated: each process of the coordinator does the tasks of the run in their order, from the
//! state that it began with, and ends as done only after the last.

use std::collections::BTreeMap;

use lockstep_control::Outcome;

use super::{Invariant, View};
use crate::observed::{CoordinatorId, Observed};

/// The place in the run's order that each coordinator has come to.
#[derive(Debug, Default)]
pub struct StepOrder(BTreeMap<CoordinatorId, usize>);

impl Invariant for StepOrder {
    fn name(&self) -> &'static str {
        "no task is skipped or repeated"
    }

    fn observe(&mut self, observed: &Observed, view: &View) -> Result<(), String> {
        let tasks = view.oracle.tasks();
        match observed {
            Observed::Started { coordinator, done, .. } => {
                let next = match done {
                    Some(done) => {
                        1 + tasks.iter().position(|task| task == done).ok_or(format!("{done} is no task"))?
                    }
                    None => 0,
                };
                self.0.insert(*coordinator, next);
            }
            Observed::Done { coordinator, task, .. } => {
                let next = self.0.entry(*coordinator).or_default();
                if tasks.get(*next) != Some(task) {
                    let due = tasks.get(*next).map_or("nothing".to_string(), ToString::to_string);
                    return Err(format!("{task} is done where {due} is due"));
                }
                *next += 1;
            }
            Observed::Ended { coordinator, outcome: Some(Outcome::Done), .. }
                if self.0.get(coordinator) != Some(&tasks.len()) =>
            {
                return Err("the run is called done, and it is not".to_string());
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use lockstep_control::{Task, TaskKind};

    use super::super::testing::{done, judge, started, step};
    use super::*;

    #[test]
    fn a_task_left_out_repeated_or_missing_at_the_end_is_seen() {
        let validation = |step| Task { kind: TaskKind::Validate, step };
        let test = Task { kind: TaskKind::Test, step: 2 };
        let mut observations = vec![started(1)];
        observations.extend([step(1), validation(1), step(2), validation(2), test].map(done));
        let end = Observed::Ended { coordinator: 0, outcome: Some(Outcome::Done), point: "" };
        observations.push(end.clone());
        assert_eq!(judge(&mut StepOrder::default(), &observations), Ok(()));
        let skipped = [started(1), done(step(1)), done(step(2))];
        let error = judge(&mut StepOrder::default(), &skipped).unwrap_err();
        assert_eq!(error, "step 2 is done where the validation after step 1 is due");
        let repeated = [started(1), done(step(1)), done(step(1))];
        assert!(judge(&mut StepOrder::default(), &repeated).is_err());
        let early = [started(1), done(step(1)), end];
        assert_eq!(
            judge(&mut StepOrder::default(), &early).unwrap_err(),
            "the run is called done, and it is not"
        );
    }
}

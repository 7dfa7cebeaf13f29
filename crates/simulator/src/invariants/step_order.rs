//! No task is skipped or repeated: each process of the coordinator does the tasks of the run in their order, from the
//! state that it began with, hands out none that is done, computes one anew only after a wrong node was counted in it,
//! and ends as done only after the last.

use std::collections::BTreeMap;

use lockstep_control::{Command, Event, Outcome, Task};

use super::{Invariant, View};
use crate::observed::{CoordinatorId, Observed};

/// Where each coordinator is.
#[derive(Debug, Default)]
pub struct StepOrder(BTreeMap<CoordinatorId, Place>);

#[derive(Debug, Default)]
struct Place {
    /// The index of the task that is due.
    next: usize,
    /// The task in which a wrong node was found to be counted.
    refuted: Option<Task>,
}

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
                self.0.insert(*coordinator, Place { next, refuted: None });
            }
            Observed::Told { coordinator, event: Event::Refuted { task, counted: true, .. } } => {
                self.0.entry(*coordinator).or_default().refuted = Some(*task);
            }
            Observed::Decided { coordinator, command: Command::RollBack { task, .. } } => {
                let refuted = self.0.entry(*coordinator).or_default().refuted.take();
                if refuted != Some(*task) {
                    return Err(format!("{task} is rolled back, and no node of it was wrong"));
                }
            }
            Observed::Decided { coordinator, command: Command::Assign { assignment, task, .. } } => {
                let next = self.0.entry(*coordinator).or_default().next;
                if tasks.iter().take(next).any(|done| done == task) {
                    return Err(format!("{assignment} is of {task}, which is done"));
                }
            }
            Observed::Done { coordinator, task, .. } => {
                let Place { next, .. } = self.0.entry(*coordinator).or_default();
                if tasks.get(*next) != Some(task) {
                    let due = tasks.get(*next).map_or("nothing".to_string(), ToString::to_string);
                    return Err(format!("{task} is done where {due} is due"));
                }
                *next += 1;
            }
            Observed::Ended { coordinator, outcome: Some(Outcome::Done), .. }
                if self.0.get(coordinator).map(|place| place.next) != Some(tasks.len()) =>
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
    use lockstep_control::{DropReason, TaskKind, WorkerId};
    use lockstep_reduction::Node;

    use super::super::testing::{assign, decided, done, judge, started, step, told};
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

    #[test]
    fn work_of_a_task_that_is_done_is_seen() {
        let late = [started(1), assign(1, 1, 0..4), done(step(1)), assign(2, 1, 0..4)];
        assert_eq!(judge(&mut StepOrder::default(), &late).unwrap_err(), "#2 is of step 1, which is done");
    }

    #[test]
    fn a_task_rolled_back_without_a_wrong_node_is_seen() {
        let (worker, node, task) = (WorkerId(1), Node::new(0, 0).unwrap(), step(1));
        let refuted = |counted| told(Event::Refuted { worker, task, node, counted });
        let reason = DropReason::WrongNode { worker, task, node };
        let back = decided(Command::RollBack { task, reason });
        let judged = |facts: &[Observed]| judge(&mut StepOrder::default(), facts);
        assert_eq!(judged(&[started(1), refuted(true), back.clone()]), Ok(()));
        let error = judged(&[started(1), refuted(false), back.clone()]).unwrap_err();
        assert_eq!(error, "step 1 is rolled back, and no node of it was wrong");
        assert!(judged(&[started(1), refuted(true), back.clone(), back]).is_err());
    }
}

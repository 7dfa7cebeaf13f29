//! Nothing from a stale assignment is counted: a node goes into a tree only for an assignment of this coordinator that
//! its worker holds, was not taken back, and has not answered with this node before.

use std::collections::BTreeMap;
use std::ops::Range;

use lockstep_control::{AssignmentId, Command, Task, WorkerId};
use lockstep_reduction::{Node, cover};

use super::{Invariant, View};
use crate::observed::{CoordinatorId, Observed};

/// Every assignment given.
#[derive(Debug, Default)]
pub struct NothingStale(BTreeMap<(CoordinatorId, AssignmentId), Given>);

#[derive(Debug)]
struct Given {
    worker: WorkerId,
    task: Task,
    leaves: Range<u32>,
    /// Why it does not count any more.
    stale: Option<&'static str>,
    counted: Vec<Node>,
}

impl Invariant for NothingStale {
    fn name(&self) -> &'static str {
        "nothing from a stale assignment is counted"
    }

    fn observe(&mut self, observed: &Observed, _view: &View) -> Result<(), String> {
        match observed {
            Observed::Decided { coordinator, command } => self.decided(*coordinator, command),
            Observed::Combined { coordinator, worker, assignment, task, node, .. } => {
                let Some(given) = self.0.get_mut(&(*coordinator, *assignment)) else {
                    return Err(format!("{assignment} was never given, and node {node} of it is counted"));
                };
                if let Some(stale) = given.stale {
                    return Err(format!("node {node} of {assignment} is counted, and {stale}"));
                }
                if given.worker != *worker || given.task != *task {
                    return Err(format!(
                        "node {node} of {task} from {worker} is counted for {assignment}, which is {} of {}",
                        given.task, given.worker
                    ));
                }
                if !cover(given.leaves.clone()).any(|own| own == *node) || given.counted.contains(node) {
                    return Err(format!("node {node} is none of {assignment}, or was counted for it before"));
                }
                given.counted.push(*node);
                Ok(())
            }
            Observed::Ended { coordinator, .. } => {
                self.0.retain(|(of, _), _| of != coordinator);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl NothingStale {
    fn decided(&mut self, coordinator: CoordinatorId, command: &Command) -> Result<(), String> {
        match command {
            Command::Assign { worker, assignment, task, leaves, .. } => {
                let given = Given {
                    worker: *worker,
                    task: *task,
                    leaves: leaves.clone(),
                    stale: None,
                    counted: Vec::new(),
                };
                if self.0.insert((coordinator, *assignment), given).is_some() {
                    return Err(format!("{assignment} is given twice"));
                }
            }
            Command::Revoke { assignment, .. } => {
                if let Some(given) = self.0.get_mut(&(coordinator, *assignment)) {
                    given.stale = Some("it was taken back");
                }
            }
            Command::DropMember { worker, .. } => {
                self.mark(coordinator, "its worker was dropped", |given| given.worker == *worker)
            }
            Command::RollBack { task, .. } => {
                self.mark(coordinator, "its task was rolled back", |given| given.task == *task);
            }
            _ => {}
        }
        Ok(())
    }

    fn mark(&mut self, coordinator: CoordinatorId, reason: &'static str, which: impl Fn(&Given) -> bool) {
        for ((of, _), given) in &mut self.0 {
            if *of == coordinator && which(given) {
                given.stale = Some(reason);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use lockstep_control::{DropReason, LeaveCause, RevokeReason};

    use super::super::testing::{assign, combined, decided, judge};
    use super::*;

    fn complaint(observations: &[Observed]) -> String {
        judge(&mut NothingStale::default(), observations).unwrap_err()
    }

    #[test]
    fn what_was_taken_back_or_never_given_does_not_count() {
        assert_eq!(judge(&mut NothingStale::default(), &[assign(1, 1, 0..4), combined(1, 1, 2, 0)]), Ok(()));
        assert!(complaint(&[combined(7, 1, 2, 0)]).contains("#7 was never given"));
        let revoke = decided(Command::Revoke {
            worker: WorkerId(1),
            assignment: AssignmentId(1),
            reason: RevokeReason::Overtaken,
        });
        assert!(complaint(&[assign(1, 1, 0..4), revoke, combined(1, 1, 2, 0)]).contains("it was taken back"));
        let reason = DropReason::Left { cause: LeaveCause::Reset };
        let drop = decided(Command::DropMember { worker: WorkerId(1), reason });
        assert!(complaint(&[assign(1, 1, 0..4), drop, combined(1, 1, 2, 0)]).contains("was dropped"));
    }

    #[test]
    fn a_node_of_another_or_twice_does_not_count() {
        assert!(complaint(&[assign(1, 1, 0..4), combined(1, 2, 2, 0)]).contains("of worker 1"));
        assert!(complaint(&[assign(1, 1, 0..2), combined(1, 1, 1, 1)]).contains("is none of #1"));
        let twice = [assign(1, 1, 0..2), combined(1, 1, 1, 0), combined(1, 1, 1, 0)];
        assert!(complaint(&twice).contains("counted for it before"));
        assert!(complaint(&[assign(1, 1, 0..2), assign(1, 2, 2..4)]).contains("given twice"));
    }
}

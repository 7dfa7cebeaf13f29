//! Each leaf of each task is counted exactly once: never twice, and never missing when the task is committed or a node
//! is compared with what was counted.

use std::collections::BTreeMap;

use lockstep_control::{Command, Task};

use super::{Invariant, View};
use crate::observed::{CoordinatorId, Observed};

/// Which leaves are counted.
#[derive(Debug, Default)]
pub struct CountedOnce(BTreeMap<(CoordinatorId, Task), Vec<bool>>);

impl Invariant for CountedOnce {
    fn name(&self) -> &'static str {
        "each leaf is counted exactly once"
    }

    fn observe(&mut self, observed: &Observed, view: &View) -> Result<(), String> {
        match observed {
            Observed::Combined { coordinator, task, node, .. } => {
                let leaves = view.knobs.cut(*task).0.leaves() as usize;
                let counted = self.0.entry((*coordinator, *task)).or_insert_with(|| vec![false; leaves]);
                for leaf in node.leaves() {
                    match counted.get_mut(leaf as usize) {
                        Some(counted) if !*counted => *counted = true,
                        Some(_) => return Err(format!("leaf {leaf} of {task} is counted twice")),
                        None => return Err(format!("{task} has no leaf {leaf}")),
                    }
                }
            }
            Observed::Decided { coordinator, command: Command::Commit { task, .. } } => {
                let counted = self.0.get(&(*coordinator, *task));
                let missing = counted.map_or(Some(0), |counted| counted.iter().position(|counted| !counted));
                if let Some(leaf) = missing {
                    return Err(format!("{task} is committed without leaf {leaf}"));
                }
            }
            Observed::Decided { coordinator, command: Command::Compare { task, node, .. } } => {
                let counted = self.0.get(&(*coordinator, *task));
                let is_counted =
                    |leaf: u32| counted.and_then(|counted| counted.get(leaf as usize)) == Some(&true);
                if let Some(leaf) = node.leaves().find(|leaf| !is_counted(*leaf)) {
                    return Err(format!(
                        "node {node} of {task} is to be compared, and leaf {leaf} is not counted"
                    ));
                }
            }
            Observed::Decided { coordinator, command: Command::RollBack { task, .. } } => {
                self.0.remove(&(*coordinator, *task));
            }
            Observed::Done { coordinator, task, .. } => {
                self.0.remove(&(*coordinator, *task));
            }
            Observed::Ended { coordinator, .. } => self.0.retain(|(of, _), _| of != coordinator),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use lockstep_control::{CommitReason, WorkerId};
    use lockstep_reduction::Node;

    use super::super::testing::{combined, decided, judge, step};
    use super::*;

    #[test]
    fn a_leaf_twice_and_a_leaf_missing_are_seen() {
        let commit = decided(Command::Commit { task: step(1), reason: CommitReason::Complete { leaves: 4 } });
        let whole = [combined(1, 1, 1, 0), combined(2, 2, 1, 1), commit.clone()];
        assert_eq!(judge(&mut CountedOnce::default(), &whole), Ok(()));
        let twice = [combined(1, 1, 1, 0), combined(2, 2, 0, 1)];
        assert_eq!(
            judge(&mut CountedOnce::default(), &twice).unwrap_err(),
            "leaf 1 of step 1 is counted twice"
        );
        let missing = [combined(1, 1, 1, 0), combined(2, 2, 0, 2), commit];
        let error = judge(&mut CountedOnce::default(), &missing).unwrap_err();
        assert_eq!(error, "step 1 is committed without leaf 3");
    }

    #[test]
    fn a_comparison_with_what_is_not_there_is_seen() {
        let compare = |index| {
            let node = Node::new(1, index).unwrap();
            decided(Command::Compare { task: step(1), worker: WorkerId(2), node })
        };
        assert_eq!(judge(&mut CountedOnce::default(), &[combined(1, 1, 1, 0), compare(0)]), Ok(()));
        let half = [combined(1, 1, 1, 0), combined(2, 2, 0, 2), compare(1)];
        assert_eq!(
            judge(&mut CountedOnce::default(), &half).unwrap_err(),
            "node (1,1) of step 1 is to be compared, and leaf 3 is not counted"
        );
        assert!(judge(&mut CountedOnce::default(), &[compare(0)]).is_err());
    }
}

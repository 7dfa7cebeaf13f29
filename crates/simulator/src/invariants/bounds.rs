//! Everything that waits has a bound: assignments that a worker holds and leaves of each, messages to it, tasks handed
//! out at once, copies of a leaf. And what is counted is not computed again.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use lockstep_control::{AssignmentId, Command, Event, Leaves, RejectReason, Task, TaskKind, WorkerId};
use lockstep_proto::MAX_HELD_ASSIGNMENTS;
use lockstep_reduction::Node;

use super::{Invariant, View};
use crate::message::MAX_WAITING;
use crate::observed::{CoordinatorId, Observed};

/// Tasks handed out at once.
const MAX_TASKS: usize = 2;

/// Workers that compute one leaf at once.
const MAX_COPIES: usize = 2;

/// What is handed out and not answered, by coordinator.
#[derive(Debug, Default)]
pub struct Bounds(BTreeMap<CoordinatorId, HandedOut>);

#[derive(Debug, Default)]
struct HandedOut {
    held: Vec<Held>,
    counted: BTreeMap<Task, BTreeSet<u32>>,
    /// The node that the control plane was asked about last.
    asked: Option<(AssignmentId, Node)>,
}

#[derive(Debug)]
struct Held {
    assignment: AssignmentId,
    worker: WorkerId,
    task: Task,
    leaves: BTreeSet<u32>,
}

impl Invariant for Bounds {
    fn name(&self) -> &'static str {
        "everything that waits has a bound"
    }

    fn observe(&mut self, observed: &Observed, view: &View) -> Result<(), String> {
        match observed {
            Observed::Holds { machine, assignments } if *assignments > MAX_HELD_ASSIGNMENTS => Err(format!(
                "machine {machine} holds {assignments} assignments, {MAX_HELD_ASSIGNMENTS} at most"
            )),
            Observed::Waiting { machine, messages } if *messages > MAX_WAITING => {
                Err(format!("{messages} messages wait for machine {machine}, {MAX_WAITING} at most"))
            }
            Observed::Told { coordinator, event: Event::NodeReceived { assignment, node, .. } } => {
                self.of(*coordinator).asked = Some((*assignment, *node));
                Ok(())
            }
            Observed::Decided { coordinator, command } => {
                if let Command::Assign { assignment, task, leaves, .. } = command {
                    fits(*assignment, *task, leaves, view)?;
                }
                self.of(*coordinator).decided(command)
            }
            Observed::Done { coordinator, task, .. } => {
                let handed_out = self.of(*coordinator);
                handed_out.held.retain(|held| held.task != *task);
                handed_out.counted.remove(task);
                Ok(())
            }
            Observed::Ended { coordinator, .. } => {
                self.0.remove(coordinator);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Bounds {
    fn of(&mut self, coordinator: CoordinatorId) -> &mut HandedOut {
        self.0.entry(coordinator).or_default()
    }
}

/// Whether an assignment has leaves that the task has, and no more than an assignment may have.
fn fits(assignment: AssignmentId, task: Task, leaves: &Range<u32>, view: &View) -> Result<(), String> {
    let tasks = view.knobs.task_order();
    let of_kind = match task.kind {
        TaskKind::Train => Some(tasks.train),
        TaskKind::Validate => tasks.validate,
        TaskKind::Test => Some(tasks.test),
    };
    let Leaves { count, per_assignment } = of_kind.ok_or_else(|| format!("{task} is not in the run"))?;
    let (start, end) = (leaves.start, leaves.end);
    if start < end && end <= count && end - start <= per_assignment {
        return Ok(());
    }
    Err(format!(
        "{assignment} has leaves {start}..{end} of {task}, which has {count}, {per_assignment} for an assignment"
    ))
}

impl HandedOut {
    fn decided(&mut self, command: &Command) -> Result<(), String> {
        match command {
            Command::Assign { worker, assignment, task, leaves, .. } => {
                return self.assign(*worker, *assignment, *task, leaves.clone());
            }
            Command::Revoke { assignment, .. } => self.held.retain(|held| held.assignment != *assignment),
            Command::DropMember { worker, .. } => self.held.retain(|held| held.worker != *worker),
            Command::RollBack { task, .. } => {
                self.held.retain(|held| held.task != *task);
                self.counted.remove(task);
            }
            Command::Combine { task, node, .. } => {
                self.counted.entry(*task).or_default().extend(node.leaves());
                self.answered();
            }
            Command::Compare { .. } | Command::Reject { reason: RejectReason::Overlaps, .. } => {
                self.answered()
            }
            _ => {}
        }
        Ok(())
    }

    fn assign(
        &mut self,
        worker: WorkerId,
        assignment: AssignmentId,
        task: Task,
        leaves: Range<u32>,
    ) -> Result<(), String> {
        let counted = self.counted.get(&task);
        for leaf in leaves.clone() {
            if counted.is_some_and(|counted| counted.contains(&leaf)) {
                return Err(format!(
                    "leaf {leaf} of {task} is counted, and {worker} gets it as {assignment}"
                ));
            }
            let copies =
                self.held.iter().filter(|held| held.task == task && held.leaves.contains(&leaf)).count();
            if copies >= MAX_COPIES {
                return Err(format!("leaf {leaf} of {task} has {copies} holders, and {worker} gets it, too"));
            }
        }
        self.held.push(Held { assignment, worker, task, leaves: leaves.collect() });
        let tasks: BTreeSet<Task> = self.held.iter().map(|held| held.task).collect();
        if tasks.len() > MAX_TASKS {
            return Err(format!("{} tasks are handed out at once", tasks.len()));
        }
        Ok(())
    }

    fn answered(&mut self) {
        let Some((assignment, node)) = self.asked.take() else { return };
        if let Some(held) = self.held.iter_mut().find(|held| held.assignment == assignment) {
            held.leaves.retain(|leaf| !node.leaves().contains(leaf));
        }
        self.held.retain(|held| !held.leaves.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use lockstep_control::AssignReason;

    use super::super::testing::{assign, decided, judge, step, told};
    use super::*;

    fn complaint(observations: &[Observed]) -> String {
        judge(&mut Bounds::default(), observations).unwrap_err()
    }

    #[test]
    fn a_third_copy_and_work_that_is_done_are_seen() {
        let copies = [assign(1, 1, 0..4), assign(2, 2, 2..4)];
        assert_eq!(judge(&mut Bounds::default(), &copies), Ok(()));
        let third = [assign(1, 1, 0..4), assign(2, 2, 2..4), assign(3, 3, 3..4)];
        assert_eq!(complaint(&third), "leaf 3 of step 1 has 2 holders, and worker 3 gets it, too");
        let (worker, node) = (WorkerId(1), Node::new(1, 0).unwrap());
        let answer = Event::NodeReceived { worker, assignment: AssignmentId(1), task: step(1), node };
        let combine = decided(Command::Combine { task: step(1), worker, node });
        let counted = [assign(1, 1, 0..4), told(answer), combine, assign(2, 2, 1..2)];
        assert_eq!(complaint(&counted), "leaf 1 of step 1 is counted, and worker 2 gets it as #2");
    }

    #[test]
    fn leaves_that_are_none_too_many_or_not_there_are_seen() {
        assert_eq!(
            complaint(&[assign(1, 1, 2..5)]),
            "#1 has leaves 2..5 of step 1, which has 4, 4 for an assignment"
        );
        assert!(judge(&mut Bounds::default(), &[assign(1, 1, 2..2)]).is_err());
        assert!(judge(&mut Bounds::default(), &[assign(1, 1, 0..4), assign(2, 2, 0..4)]).is_ok());
    }

    #[test]
    fn more_tasks_assignments_and_messages_than_may_be_are_seen() {
        let of = |at: u64| {
            decided(Command::Assign {
                worker: WorkerId(1),
                assignment: AssignmentId(at),
                task: step(at),
                leaves: 0..1,
                reason: AssignReason::Share { members: 1 },
            })
        };
        assert_eq!(judge(&mut Bounds::default(), &[of(1), of(2)]), Ok(()));
        assert_eq!(complaint(&[of(1), of(2), of(3)]), "3 tasks are handed out at once");
        assert!(complaint(&[Observed::Holds { machine: 0, assignments: 17 }]).contains("16 at most"));
        assert!(complaint(&[Observed::Waiting { machine: 0, messages: 33 }]).contains("32 at most"));
    }
}

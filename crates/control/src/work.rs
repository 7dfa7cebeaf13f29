//! The leaves of one task: which nobody holds, which are held, which are in.

use std::collections::VecDeque;
use std::ops::Range;

use lockstep_reduction::{Node, cover};

use crate::{AssignmentId, RejectReason, Task, WorkerId};

/// One task in the window.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) task: Task,
    /// Leaves that nobody holds, each interval with the worker that left it unfinished.
    free: VecDeque<(Range<u32>, Option<WorkerId>)>,
    held: Vec<Assignment>,
    leaves: u32,
    /// Leaves of the nodes received.
    received: u32,
    /// It was committed and its outcome is awaited.
    pub(crate) committed: bool,
}

#[derive(Debug)]
struct Assignment {
    id: AssignmentId,
    worker: WorkerId,
    /// Nodes of its cover that are not in yet.
    awaited: Vec<Node>,
}

impl Work {
    pub(crate) fn new(task: Task, leaves: u32) -> Self {
        let free = VecDeque::from([(0..leaves, None)]);
        Self { task, free, held: Vec::new(), leaves, received: 0, committed: false }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.received == self.leaves
    }

    pub(crate) fn leaves(&self) -> u32 {
        self.leaves
    }

    pub(crate) fn free_leaves(&self) -> u32 {
        self.free.iter().map(|(interval, _)| interval.end - interval.start).sum()
    }

    pub(crate) fn holds(&self, worker: WorkerId) -> bool {
        self.held.iter().any(|assignment| assignment.worker == worker)
    }

    /// Gives up to `limit` leaves, of the first free interval, to a worker; says who left them, if somebody did.
    pub(crate) fn assign(
        &mut self,
        id: AssignmentId,
        worker: WorkerId,
        limit: u32,
    ) -> Option<(Range<u32>, Option<WorkerId>)> {
        assert!(limit > 0, "an assignment has leaves");
        let (interval, from) = self.free.front_mut()?;
        let from = *from;
        let end = interval.end.min(interval.start + limit);
        let leaves = interval.start..end;
        interval.start = end;
        if end == interval.end {
            self.free.pop_front();
        }
        self.held.push(Assignment { id, worker, awaited: cover(leaves.clone()).collect() });
        Some((leaves, from))
    }

    pub(crate) fn has(&self, id: AssignmentId) -> bool {
        self.held.iter().any(|assignment| assignment.id == id)
    }

    /// Takes in a node, or says why not.
    pub(crate) fn receive(
        &mut self,
        id: AssignmentId,
        worker: WorkerId,
        task: Task,
        node: Node,
    ) -> Result<(), RejectReason> {
        let at = self.held.iter().position(|assignment| assignment.id == id);
        let Some(at) = at else { return Err(RejectReason::UnknownAssignment) };
        let assignment = &mut self.held[at];
        if assignment.worker != worker {
            return Err(RejectReason::NotTheHolder { holder: assignment.worker });
        }
        if task != self.task {
            return Err(RejectReason::WrongTask { expected: self.task });
        }
        let Some(place) = assignment.awaited.iter().position(|awaited| *awaited == node) else {
            return Err(RejectReason::NotExpected);
        };
        assignment.awaited.remove(place);
        if assignment.awaited.is_empty() {
            self.held.remove(at);
        }
        self.received += node.leaf_count();
        assert!(self.received <= self.leaves, "a leaf of {} was counted twice", self.task);
        Ok(())
    }

    /// Frees what a worker holds and has not sent.
    pub(crate) fn release(&mut self, worker: WorkerId) {
        let free = &mut self.free;
        self.held.retain(|assignment| {
            if assignment.worker != worker {
                return true;
            }
            for node in &assignment.awaited {
                let leaves = node.leaves();
                match free.back_mut() {
                    Some((last, Some(from))) if *from == worker && last.end == leaves.start => {
                        last.end = leaves.end
                    }
                    _ => free.push_back((leaves, Some(worker))),
                }
            }
            false
        });
    }

    /// Begins anew: no leaf is held or in.
    pub(crate) fn restart(&mut self) {
        *self = Self::new(self.task, self.leaves);
    }
}

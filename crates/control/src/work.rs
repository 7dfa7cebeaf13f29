//! The leaves of one task: which nobody holds, which are held and by whom, which are counted.
//!
//! Every leaf that is not counted is free or held. It is held twice where a late holder's leaves went to others, too;
//! whoever answers first is counted.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use lockstep_reduction::{Node, cover};

use crate::control::milliseconds;
use crate::{AssignReason, AssignmentId, RejectReason, Task, Time, WorkerId};

/// One task in the window.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) task: Task,
    free: VecDeque<Portion>,
    held: Vec<Assignment>,
    counted: Vec<bool>,
    counted_leaves: u32,
    /// Some leaves may be held twice, or be free and held.
    copies: bool,
    /// It was committed and its outcome is awaited.
    pub(crate) committed: bool,
}

/// Leaves to be given away, and why; `None`: nobody had them before.
#[derive(Debug)]
struct Portion {
    leaves: Range<u32>,
    reason: Option<AssignReason>,
}

/// Leaves that a worker computes.
#[derive(Debug)]
pub(crate) struct Assignment {
    pub(crate) id: AssignmentId,
    pub(crate) worker: WorkerId,
    /// Its leaves, as they were given.
    pub(crate) leaves: u32,
    /// Nodes of its cover that are not in yet.
    awaited: Vec<Node>,
    /// Since when it can be computed: leaves of a later task wait for their weights.
    pub(crate) since: Option<Time>,
    /// What is left of it was offered to others, too.
    pub(crate) offered: bool,
    /// It is to measure a member that is too slow for a share: nobody waits for it.
    pub(crate) probe: bool,
}

/// A node that was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receipt {
    /// Its leaves are counted now. Its assignment is complete if it says since when and how many leaves it had.
    Counted { complete: Option<(Option<Time>, u32)> },
    /// Its leaves were counted before.
    Repeated,
}

impl Work {
    pub(crate) fn new(task: Task, leaves: u32) -> Self {
        Self {
            task,
            free: VecDeque::from([Portion { leaves: 0..leaves, reason: None }]),
            held: Vec::new(),
            counted: vec![false; leaves as usize],
            counted_leaves: 0,
            copies: false,
            committed: false,
        }
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.counted_leaves == self.leaves()
    }

    pub(crate) fn leaves(&self) -> u32 {
        // Made from a u32.
        self.counted.len() as u32
    }

    pub(crate) fn free_leaves(&self) -> u32 {
        self.free.iter().map(|portion| portion.leaves.end - portion.leaves.start).sum()
    }

    pub(crate) fn holds(&self, worker: WorkerId) -> bool {
        self.held.iter().any(|assignment| assignment.worker == worker)
    }

    pub(crate) fn held(&self) -> &[Assignment] {
        &self.held
    }

    /// Gives up to `limit` leaves, of the first free interval, to a worker.
    pub(crate) fn assign(
        &mut self,
        id: AssignmentId,
        worker: WorkerId,
        limit: u32,
        since: Option<Time>,
        probe: bool,
    ) -> Option<(Range<u32>, Option<AssignReason>)> {
        assert!(limit > 0, "an assignment has leaves");
        let portion = self.free.front_mut()?;
        let reason = portion.reason;
        let end = portion.leaves.end.min(portion.leaves.start + limit);
        let leaves = portion.leaves.start..end;
        portion.leaves.start = end;
        if portion.leaves.is_empty() {
            self.free.pop_front();
        }
        let awaited = cover(leaves.clone()).collect();
        let count = leaves.end - leaves.start;
        self.held.push(Assignment { id, worker, leaves: count, awaited, since, offered: false, probe });
        Some((leaves, reason))
    }

    pub(crate) fn has(&self, id: AssignmentId) -> bool {
        self.held.iter().any(|assignment| assignment.id == id)
    }

    /// Whether every leaf below a node is counted.
    pub(crate) fn has_counted(&self, node: Node) -> bool {
        let leaves = node.leaves();
        let counted = self.counted.get(leaves.start as usize..leaves.end as usize);
        counted.is_some_and(|counted| counted.iter().all(|counted| *counted))
    }

    /// The weights of the task are there, or its leaves can be computed for another reason, from now on.
    pub(crate) fn open(&mut self, now: Time) {
        self.held.iter_mut().for_each(|assignment| assignment.since = Some(now));
    }

    /// Takes in a node, or says why not.
    pub(crate) fn receive(
        &mut self,
        id: AssignmentId,
        worker: WorkerId,
        task: Task,
        node: Node,
    ) -> Result<Receipt, RejectReason> {
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
            return if self.has_counted(node) {
                Ok(Receipt::Repeated)
            } else {
                Err(RejectReason::NotExpected)
            };
        };
        assignment.awaited.remove(place);
        let mut complete = None;
        if assignment.awaited.is_empty() {
            complete = Some((assignment.since, assignment.leaves));
            self.held.remove(at);
        }
        if self.copies {
            if self.has_counted(node) {
                return Ok(Receipt::Repeated);
            }
            if node.leaves().any(|leaf| self.counted[leaf as usize]) {
                // The rest of it is still free, or held by those who have the copies.
                self.free_unless_held(node.leaves(), None);
                return Err(RejectReason::Overlaps);
            }
        }
        for leaf in node.leaves() {
            assert!(!self.counted[leaf as usize], "leaf {leaf} of {} was counted twice", self.task);
            self.counted[leaf as usize] = true;
        }
        self.counted_leaves += node.leaf_count();
        Ok(Receipt::Counted { complete })
    }

    /// Takes back assignments whose leaves others have answered; says whose.
    pub(crate) fn take_back_overtaken(&mut self, mut revoked: impl FnMut(WorkerId, AssignmentId)) {
        if !self.copies {
            return;
        }
        let counted = &self.counted;
        let is_counted = |leaf: u32| counted[leaf as usize];
        self.held.retain_mut(|assignment| {
            assignment.awaited.retain(|node| !node.leaves().all(is_counted));
            if assignment.awaited.is_empty() {
                revoked(assignment.worker, assignment.id);
            }
            !assignment.awaited.is_empty()
        });
        // What was offered and is counted meanwhile is no work any more.
        for portion in std::mem::take(&mut self.free) {
            self.push_free(portion.leaves, portion.reason, |leaf, work| !work.counted[leaf as usize]);
        }
    }

    /// Offers what a late worker still has to others, too: leaves that nobody else has. Says whether there were any.
    pub(crate) fn offer(&mut self, id: AssignmentId, waited: Duration, expected: Duration) -> bool {
        let Some(at) = self.held.iter().position(|assignment| assignment.id == id) else { return false };
        self.held[at].offered = true;
        let (holder, awaited) = (self.held[at].worker, self.held[at].awaited.clone());
        let reason = Some(AssignReason::Copy {
            holder,
            of: id,
            waited_ms: milliseconds(waited),
            expected_ms: milliseconds(expected),
        });
        let before = self.free_leaves();
        self.copies = true;
        for node in awaited {
            self.push_free(node.leaves(), reason, |leaf, work| {
                !work.counted[leaf as usize] && !work.is_free(leaf) && work.holders(leaf) == 1
            });
        }
        self.free_leaves() > before
    }

    /// Frees what a worker holds and has not sent; says which assignments those were.
    pub(crate) fn release(&mut self, worker: WorkerId, mut released: impl FnMut(AssignmentId)) {
        while let Some(at) = self.held.iter().position(|assignment| assignment.worker == worker) {
            let assignment = self.held.remove(at);
            released(assignment.id);
            for node in assignment.awaited {
                self.free_unless_held(node.leaves(), Some(AssignReason::Reassigned { from: worker }));
            }
            // Whoever was late with the same leaves may be copied again.
            self.held.iter_mut().for_each(|assignment| assignment.offered = false);
        }
    }

    /// Begins anew: no leaf is held or counted.
    pub(crate) fn restart(&mut self) {
        *self = Self::new(self.task, self.leaves());
    }

    fn free_unless_held(&mut self, leaves: Range<u32>, reason: Option<AssignReason>) {
        if !self.copies {
            return self.push_free(leaves, reason, |_, _| true);
        }
        self.push_free(leaves, reason, |leaf, work| {
            !work.counted[leaf as usize] && !work.is_free(leaf) && work.holders(leaf) == 0
        });
    }

    /// Adds the leaves for which `which` holds to what is free, as intervals.
    fn push_free(
        &mut self,
        leaves: Range<u32>,
        reason: Option<AssignReason>,
        which: impl Fn(u32, &Self) -> bool,
    ) {
        for leaf in leaves {
            if !which(leaf, self) {
                continue;
            }
            match self.free.back_mut() {
                Some(last) if last.reason == reason && last.leaves.end == leaf => last.leaves.end += 1,
                _ => self.free.push_back(Portion { leaves: leaf..leaf + 1, reason }),
            }
        }
    }

    fn is_free(&self, leaf: u32) -> bool {
        self.free.iter().any(|portion| portion.leaves.contains(&leaf))
    }

    fn holders(&self, leaf: u32) -> usize {
        let awaits =
            |assignment: &&Assignment| assignment.awaited.iter().any(|node| node.leaves().contains(&leaf));
        self.held.iter().filter(awaits).count()
    }
}

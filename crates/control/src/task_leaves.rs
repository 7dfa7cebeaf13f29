//! The leaves of one task: which nobody holds, which are held and by whom, which are counted.
//!
//! Every leaf that is not counted is free or held. It is held twice where a late holder's leaves went to others, too;
//! the first answer is counted.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use lockstep_reduction::{Node, cover};

use crate::control::milliseconds;
use crate::{AssignReason, AssignmentId, Progress, RejectReason, Task, Time, WorkerId};

/// One task in the window.
#[derive(Debug)]
pub(crate) struct TaskLeaves {
    pub(crate) task: Task,
    free: VecDeque<FreeInterval>,
    held: Vec<Assignment>,
    counted: Vec<bool>,
    counted_leaves: u32,
    /// The most leaves that were counted at any time: a task that is begun anew is no progress.
    most_counted: u32,
    /// The most examples of an assignment that were done before a leaf more was counted.
    most_done: u32,
    /// The longest time in which a member that was dropped for it had done no example.
    pub(crate) longest_stuck: Duration,
    /// Some leaves may be held twice, or be free and held.
    copies: bool,
    /// It was committed and its outcome is awaited.
    pub(crate) committed: bool,
}

/// Leaves to be given away, and why; `None`: nobody had them before.
#[derive(Debug)]
struct FreeInterval {
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
    missing: Vec<Node>,
    /// Since when it can be computed: leaves of a later task wait for their weights.
    pub(crate) since: Option<Time>,
    /// When its holder was seen to get on with it, or could begin.
    pub(crate) progress_at: Option<Time>,
    /// Examples that its holder says are done.
    done: u32,
    /// It was found to be late, when so much was expected; that lasts, whatever is expected later.
    pub(crate) late: Option<Duration>,
    /// It is to measure a member that is too slow for a share: nobody waits for it.
    pub(crate) probe: bool,
}

/// A node that was taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receipt {
    /// Its leaves are counted now, `pause` after its holder got on with it before. Its assignment is complete if it says
    /// since when and how many leaves it had.
    Counted { complete: Option<(Option<Time>, u32)>, pause: Duration },
    /// Its leaves were counted before.
    Repeated,
}

impl Assignment {
    /// Notes that its holder gets on with it; says after which pause.
    fn progressed(&mut self, now: Time) -> Duration {
        self.progress_at.replace(now).map_or(Duration::ZERO, |before| now.since(before))
    }
}

impl TaskLeaves {
    pub(crate) fn new(task: Task, leaves: u32) -> Self {
        Self {
            task,
            free: VecDeque::from([FreeInterval { leaves: 0..leaves, reason: None }]),
            held: Vec::new(),
            counted: vec![false; leaves as usize],
            counted_leaves: 0,
            most_counted: 0,
            most_done: 0,
            longest_stuck: Duration::ZERO,
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
        self.free.iter().map(|interval| interval.leaves.end - interval.leaves.start).sum()
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
        let interval = self.free.front_mut()?;
        let reason = interval.reason;
        let end = interval.leaves.end.min(interval.leaves.start + limit);
        let leaves = interval.leaves.start..end;
        interval.leaves.start = end;
        if interval.leaves.is_empty() {
            self.free.pop_front();
        }
        let missing = cover(leaves.clone()).collect();
        let count = leaves.end - leaves.start;
        self.held.push(Assignment {
            id,
            worker,
            leaves: count,
            missing,
            since,
            progress_at: since,
            done: 0,
            late: None,
            probe,
        });
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
        for assignment in &mut self.held {
            (assignment.since, assignment.progress_at, assignment.late) = (Some(now), Some(now), None);
        }
    }

    /// Takes in how far a worker says that it is. If it got on, says after which pause, and whether nobody had got so
    /// far.
    pub(crate) fn progress(
        &mut self,
        now: Time,
        worker: WorkerId,
        progress: Progress,
    ) -> Option<(Duration, bool)> {
        let Progress { assignment: id, examples } = progress;
        let mut held = self.held.iter_mut();
        let assignment = held.find(|assignment| assignment.id == id && assignment.worker == worker)?;
        if examples <= assignment.done {
            return None;
        }
        assignment.done = examples;
        let pause = assignment.progressed(now);
        let further = examples > self.most_done;
        self.most_done = self.most_done.max(examples);
        Some((pause, further))
    }

    /// Whether more leaves are counted than ever before.
    pub(crate) fn raise_most_counted(&mut self) -> bool {
        let further = self.counted_leaves > self.most_counted;
        if further {
            (self.most_counted, self.most_done) = (self.counted_leaves, 0);
        }
        further
    }

    /// Takes in a node, or says why not.
    pub(crate) fn receive(
        &mut self,
        now: Time,
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
        let Some(place) = assignment.missing.iter().position(|missing| *missing == node) else {
            return if self.has_counted(node) {
                Ok(Receipt::Repeated)
            } else {
                Err(RejectReason::NotExpected)
            };
        };
        assignment.missing.remove(place);
        let pause = assignment.progressed(now);
        let mut complete = None;
        if assignment.missing.is_empty() {
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
        Ok(Receipt::Counted { complete, pause })
    }

    /// Takes back assignments whose leaves others have answered; says whose.
    pub(crate) fn revoke_overtaken(&mut self, mut revoked: impl FnMut(WorkerId, AssignmentId)) {
        if !self.copies {
            return;
        }
        let counted = &self.counted;
        let is_counted = |leaf: u32| counted[leaf as usize];
        self.held.retain_mut(|assignment| {
            assignment.missing.retain(|node| !node.leaves().all(is_counted));
            if assignment.missing.is_empty() {
                revoked(assignment.worker, assignment.id);
            }
            !assignment.missing.is_empty()
        });
        // What was offered and is counted meanwhile is no work any more.
        for interval in std::mem::take(&mut self.free) {
            self.push_free(interval.leaves, interval.reason, |leaf, task_leaves| {
                !task_leaves.counted[leaf as usize]
            });
        }
    }

    /// Offers what a late worker still has to others, too: leaves that nobody else has. Says whether there were any.
    pub(crate) fn offer(&mut self, id: AssignmentId, waited: Duration, expected: Duration) -> bool {
        let Some(at) = self.held.iter().position(|assignment| assignment.id == id) else { return false };
        self.held[at].late = Some(expected);
        let (holder, missing) = (self.held[at].worker, self.held[at].missing.clone());
        let reason = Some(AssignReason::Copy {
            holder,
            of: id,
            waited_ms: milliseconds(waited),
            expected_ms: milliseconds(expected),
        });
        let before = self.free_leaves();
        self.copies = true;
        for node in missing {
            self.push_free(node.leaves(), reason, |leaf, task_leaves| task_leaves.is_held_once(leaf));
        }
        self.free_leaves() > before
    }

    /// Whether a holder has leaves that nobody else has or may get.
    pub(crate) fn holds_alone(&self, assignment: &Assignment) -> bool {
        assignment.missing.iter().flat_map(|node| node.leaves()).any(|leaf| self.is_held_once(leaf))
    }

    fn is_held_once(&self, leaf: u32) -> bool {
        !self.counted[leaf as usize] && !self.is_free(leaf) && self.holders(leaf) == 1
    }

    /// Frees what a worker holds and has not sent; says which assignments those were.
    pub(crate) fn release(&mut self, worker: WorkerId, mut released: impl FnMut(AssignmentId)) {
        while let Some(at) = self.held.iter().position(|assignment| assignment.worker == worker) {
            let assignment = self.held.remove(at);
            released(assignment.id);
            for node in assignment.missing {
                self.free_unless_held(node.leaves(), Some(AssignReason::Reassigned { from: worker }));
            }
        }
    }

    /// Begins anew: no leaf is held or counted.
    pub(crate) fn restart(&mut self) {
        let Self { most_counted, most_done, longest_stuck, .. } = *self;
        *self = Self { most_counted, most_done, longest_stuck, ..Self::new(self.task, self.leaves()) };
    }

    fn free_unless_held(&mut self, leaves: Range<u32>, reason: Option<AssignReason>) {
        if !self.copies {
            return self.push_free(leaves, reason, |_, _| true);
        }
        self.push_free(leaves, reason, |leaf, task_leaves| {
            !task_leaves.counted[leaf as usize]
                && !task_leaves.is_free(leaf)
                && task_leaves.holders(leaf) == 0
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
                _ => self.free.push_back(FreeInterval { leaves: leaf..leaf + 1, reason }),
            }
        }
    }

    fn is_free(&self, leaf: u32) -> bool {
        self.free.iter().any(|interval| interval.leaves.contains(&leaf))
    }

    fn holders(&self, leaf: u32) -> usize {
        let awaits =
            |assignment: &&Assignment| assignment.missing.iter().any(|node| node.leaves().contains(&leaf));
        self.held.iter().filter(awaits).count()
    }
}

//! What a simulated worker computes, and how far it is with it: leaf after leaf, example after example.

use std::ops::Range;

use lockstep_control::Progress;
use lockstep_reduction::{Node, cover};

use crate::message::AssignMessage;

/// The assignment being computed.
#[derive(Debug)]
pub struct Computing {
    /// What it is.
    pub assignment: AssignMessage,
    /// Nodes to come, the next one last.
    pub nodes: Vec<Node>,
    /// Nobody wants it any more.
    pub cancelled: bool,
    /// Leaves of the next node that are done.
    leaves: u32,
    /// Examples of complete leaves.
    examples: u32,
    /// When the current leaf began, and when it will be done.
    leaf_us: Range<u64>,
}

impl Computing {
    /// An assignment of which nothing is done.
    pub fn new(assignment: AssignMessage) -> Self {
        let mut nodes: Vec<Node> = cover(assignment.leaves.clone()).collect();
        nodes.reverse();
        Self { assignment, nodes, cancelled: false, leaves: 0, examples: 0, leaf_us: 0..0 }
    }

    /// Examples of the current leaf.
    pub fn leaf_examples(&self) -> u32 {
        let leaf = self.nodes.last().map_or(0, |node| node.leaves().start + self.leaves);
        self.assignment.cut.positions(leaf..leaf + 1).len() as u32
    }

    /// The current leaf is computed from now on, and takes so long.
    pub fn begin_leaf(&mut self, now: u64, takes_us: u64) {
        self.leaf_us = now..now + takes_us;
    }

    /// The current leaf is done; the node that is complete with it.
    pub fn end_leaf(&mut self) -> Option<Node> {
        self.examples += self.leaf_examples();
        self.leaf_us = 0..0;
        self.leaves += 1;
        let complete = self.nodes.pop_if(|node| node.leaf_count() == self.leaves);
        if complete.is_some() {
            self.leaves = 0;
        }
        complete
    }

    /// How far it is, as its worker says.
    pub fn progress(&self, now: u64) -> Progress {
        let examples = self.examples + self.done_of_leaf(now);
        Progress { assignment: self.assignment.assignment, examples }
    }

    /// When the example is done that is computed now: a worker stops there.
    pub fn next_stop(&self, now: u64) -> u64 {
        let Range { start, end } = self.leaf_us;
        let examples = u64::from(self.leaf_examples()).max(1);
        let stop = start + (end - start) * u64::from(self.done_of_leaf(now) + 1) / examples;
        stop.clamp(now, end.max(now))
    }

    /// Examples of the current leaf that are done.
    fn done_of_leaf(&self, now: u64) -> u32 {
        let Range { start, end } = self.leaf_us;
        let took = now.clamp(start, end) - start;
        // The last one is done when the leaf is.
        let most = self.leaf_examples().saturating_sub(1);
        let done = u64::from(self.leaf_examples()) * took / (end - start).max(1);
        u32::try_from(done).unwrap_or(u32::MAX).min(most)
    }
}

#[cfg(test)]
mod tests {
    use lockstep_control::{AssignmentId, Task, TaskKind};
    use lockstep_proto::Fence;
    use lockstep_reduction::Cut;

    use super::*;
    use crate::message::RUN;

    #[test]
    fn progress_grows_within_a_leaf_and_ends_with_it() {
        let mut computing = Computing::new(AssignMessage {
            fence: Fence { run_id: RUN, term: 1 },
            assignment: AssignmentId(1),
            task: Task { kind: TaskKind::Train, step: 1 },
            leaves: 0..2,
            cut: Cut::shards(8, 2),
            first_example: 0,
        });
        let examples = |computing: &Computing, now| computing.progress(now).examples;
        computing.begin_leaf(1000, 400);
        let at = [1000, 1099, 1100, 1399, 1400, 9000];
        assert_eq!(at.map(|now| examples(&computing, now)), [0, 0, 1, 3, 3, 3]);
        assert_eq!([1000, 1150, 1399, 2000].map(|now| computing.next_stop(now)), [1100, 1200, 1400, 2000]);
        assert_eq!(computing.end_leaf(), None);
        assert_eq!(examples(&computing, 1400), 4);
        computing.begin_leaf(1400, 400);
        assert_eq!(examples(&computing, 1500), 5);
        assert_eq!(computing.end_leaf().map(|node| node.leaf_count()), Some(2));
        assert_eq!((examples(&computing, 1800), computing.nodes.len()), (8, 0));
    }
}

//! The counts of what went wrong in a run and was made good, for the summary.
//!
//! Plain numbers: what a fault is, is decided where it is counted.

use serde::{Deserialize, Serialize};

use crate::number::grouped;

/// What went wrong in a run, over all its processes, and was made good; none of it changes a bit of the weights.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct FaultCounts {
    /// Members that died, fell silent or were cut off.
    pub workers_dropped: u64,
    /// Second copies of a node that were compared with the first one and equal.
    pub copies_equal: u64,
    /// Second copies of a node that came when there was nothing left to compare them with.
    pub copies_unchecked: u64,
    /// Nodes that were not accepted: of an assignment, a step or a term that is over.
    pub nodes_rejected: u64,
    /// Assignments given to a second worker, too.
    pub assignments_copied: u64,
    /// Assignments taken away from a worker.
    pub assignments_revoked: u64,
    /// Local workers started again.
    pub worker_restarts: u64,
}

impl FaultCounts {
    /// What there was, as `3 workers lost, 1 copy equal`; absent if nothing was.
    pub fn to_text(self) -> Option<String> {
        let counts = [
            (self.workers_dropped, "worker lost", "workers lost"),
            (self.worker_restarts, "worker restarted", "workers restarted"),
            (self.assignments_copied, "assignment copied", "assignments copied"),
            (self.assignments_revoked, "assignment revoked", "assignments revoked"),
            (self.copies_equal, "copy equal", "copies equal"),
            (self.copies_unchecked, "copy unchecked", "copies unchecked"),
            (self.nodes_rejected, "node rejected", "nodes rejected"),
        ];
        let parts: Vec<String> = counts
            .into_iter()
            .filter(|(count, ..)| *count > 0)
            .map(|(count, one, many)| format!("{} {}", grouped(count), if count == 1 { one } else { many }))
            .collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_has_its_words_and_zero_has_none() {
        assert_eq!(FaultCounts::default().to_text(), None);
        let every = FaultCounts {
            workers_dropped: 1,
            copies_equal: 2,
            copies_unchecked: 3,
            nodes_rejected: 4,
            assignments_copied: 5,
            assignments_revoked: 6,
            worker_restarts: 7,
        };
        assert_eq!(
            every.to_text().unwrap(),
            "1 worker lost, 7 workers restarted, 5 assignments copied, 6 assignments revoked, 2 copies equal, \
             3 copies unchecked, 4 nodes rejected"
        );
        let one = FaultCounts { workers_dropped: 12_345, nodes_rejected: 1, ..FaultCounts::default() };
        assert_eq!(one.to_text().unwrap(), "12,345 workers lost, 1 node rejected");
    }
}

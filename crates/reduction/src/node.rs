//! Addresses in the perfect binary tree over the leaves `0..leaves`: integers only.

use std::fmt;
use std::ops::Range;

/// The most leaves a tree may have. Leaf numbers and sums of them stay far from overflow.
pub const MAX_LEAVES: u32 = 1 << 26;

/// A node of the tree: it covers the leaves `index << level .. (index + 1) << level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Node {
    level: u32,
    index: u32,
}

impl Node {
    /// The node at a level (0 is the leaves) and index, or `None` if it lies beyond [`MAX_LEAVES`].
    pub fn new(level: u32, index: u32) -> Option<Self> {
        let end = (u64::from(index) + 1).checked_shl(level)?;
        (level <= MAX_LEAVES.ilog2() && end <= u64::from(MAX_LEAVES)).then_some(Self { level, index })
    }

    /// Height above the leaves.
    pub fn level(self) -> u32 {
        self.level
    }

    /// Position among the nodes of its level, from the left.
    pub fn index(self) -> u32 {
        self.index
    }

    /// The leaves below it.
    pub fn leaves(self) -> Range<u32> {
        self.index << self.level..(self.index + 1) << self.level
    }

    /// The number of leaves below it.
    pub fn leaf_count(self) -> u32 {
        1 << self.level
    }

    /// The two nodes that it is the sum of, left before right; `None` for a leaf.
    pub fn children(self) -> Option<(Self, Self)> {
        let level = self.level.checked_sub(1)?;
        let left = Self { level, index: self.index * 2 };
        Some((left, Self { level, index: left.index + 1 }))
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "({},{})", self.level, self.index)
    }
}

/// The maximal tree nodes inside an interval of leaves, from the left: at most `2 * log2(leaves)` of them.
///
/// # Panics
///
/// If the interval reaches beyond [`MAX_LEAVES`].
pub fn cover(interval: Range<u32>) -> Cover {
    assert!(interval.end <= MAX_LEAVES, "leaf {} lies beyond {MAX_LEAVES}", interval.end);
    Cover { interval }
}

/// Iterator of [`cover`].
#[derive(Clone, Debug)]
pub struct Cover {
    interval: Range<u32>,
}

impl Iterator for Cover {
    type Item = Node;

    fn next(&mut self) -> Option<Node> {
        let Range { start, end } = self.interval;
        if start >= end {
            return None;
        }
        // The widest node that starts here is limited by alignment and by what is left.
        let level = start.trailing_zeros().min((end - start).ilog2());
        self.interval.start += 1 << level;
        Some(Node { level, index: start >> level })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn covers_are_maximal_disjoint_and_in_order() {
        for end in 0..=40 {
            for start in 0..=end {
                let nodes: Vec<Node> = cover(start..end).collect();
                let mut next = start;
                for node in &nodes {
                    assert_eq!(node.leaves().start, next);
                    next = node.leaves().end;
                    let parent = Node::new(node.level + 1, node.index / 2).unwrap().leaves();
                    assert!(
                        parent.start < start || parent.end > end,
                        "{node} of {start}..{end} is not maximal"
                    );
                }
                assert_eq!(next, end);
            }
        }
    }

    #[test]
    fn a_node_beyond_the_largest_tree_does_not_exist() {
        assert!(Node::new(26, 0).is_some());
        assert!(Node::new(26, 1).is_none());
        assert!(Node::new(27, 0).is_none());
        assert!(Node::new(64, 0).is_none());
        assert!(Node::new(0, u32::MAX).is_none());
    }

    #[test]
    fn children_split_a_node_in_the_middle() {
        let node = Node::new(3, 2).unwrap();
        let (left, right) = node.children().unwrap();
        assert_eq!((left.leaves(), right.leaves()), (16..20, 20..24));
        assert_eq!(Node::new(0, 5).unwrap().children(), None);
    }
}

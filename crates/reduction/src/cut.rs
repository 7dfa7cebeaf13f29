//! How the examples of a task are cut into the leaves of its tree: integers only.

use std::ops::Range;

use crate::MAX_LEAVES;

/// Examples of one leaf of an evaluation, in file order.
pub const EVALUATION_BLOCK: u32 = 64;

/// The cut of a number of examples into leaves. A leaf may be empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    examples: u32,
    leaves: u32,
    /// Examples a leaf if all leaves but the last are full, or 0 if they are cut evenly.
    block: u32,
}

impl Cut {
    /// A batch in `shards` micro-shards: shard `i` of a batch of `b` holds the positions `i*b/S .. (i+1)*b/S`.
    ///
    /// # Panics
    ///
    /// If `shards` is not a power of two of at most [`MAX_LEAVES`].
    pub fn shards(examples: u32, shards: u32) -> Self {
        assert!(shards.is_power_of_two() && shards <= MAX_LEAVES, "{shards} micro-shards");
        Self { examples, leaves: shards, block: 0 }
    }

    /// An evaluation set in blocks of [`EVALUATION_BLOCK`]; the tree above is filled up with empty leaves.
    pub fn blocks(examples: u32) -> Self {
        let leaves = examples.div_ceil(EVALUATION_BLOCK).next_power_of_two();
        assert!(leaves <= MAX_LEAVES, "{examples} examples");
        Self { examples, leaves, block: EVALUATION_BLOCK }
    }

    /// All examples.
    pub fn examples(self) -> u32 {
        self.examples
    }

    /// The number of leaves, a power of two.
    pub fn leaves(self) -> u32 {
        self.leaves
    }

    /// The largest number of examples of a leaf.
    pub fn largest_leaf(self) -> u32 {
        if self.block == 0 { self.examples.div_ceil(self.leaves) } else { self.block.min(self.examples) }
    }

    /// The positions of the examples of an interval of leaves.
    ///
    /// # Panics
    ///
    /// If the interval reaches beyond the last leaf.
    pub fn positions(self, leaves: Range<u32>) -> Range<u32> {
        assert!(leaves.end <= self.leaves, "leaf {} of {}", leaves.end, self.leaves);
        self.start(leaves.start)..self.start(leaves.end)
    }

    fn start(self, leaf: u32) -> u32 {
        if self.block == 0 {
            // Below 2^32 * 2^26, and the quotient is at most `examples`.
            (u64::from(leaf) * u64::from(self.examples) / u64::from(self.leaves)) as u32
        } else {
            leaf.saturating_mul(self.block).min(self.examples)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_follow_the_formula() {
        let sizes = |b, s| {
            let cut = Cut::shards(b, s);
            (0..s).map(|i| cut.positions(i..i + 1).len()).collect::<Vec<_>>()
        };
        assert_eq!(sizes(64, 4), [16; 4]);
        assert_eq!(sizes(5, 8), [0, 1, 0, 1, 1, 0, 1, 1]);
        assert_eq!(sizes(0, 2), [0, 0]);
    }

    #[test]
    fn every_example_is_in_exactly_one_leaf() {
        for cut in
            [Cut::shards(37, 16), Cut::shards(3, 64), Cut::blocks(1000), Cut::blocks(0), Cut::blocks(64)]
        {
            let mut next = 0;
            for leaf in 0..cut.leaves() {
                let positions = cut.positions(leaf..leaf + 1);
                assert_eq!(positions.start, next);
                assert!(positions.len() as u32 <= cut.largest_leaf());
                next = positions.end;
            }
            assert_eq!(next, cut.examples());
        }
    }

    #[test]
    fn evaluation_blocks_hold_64_in_order() {
        let cut = Cut::blocks(150);
        assert_eq!(cut.leaves(), 4);
        assert_eq!(cut.positions(0..1), 0..64);
        assert_eq!(cut.positions(2..3), 128..150);
        assert_eq!(cut.positions(3..4), 150..150);
    }
}

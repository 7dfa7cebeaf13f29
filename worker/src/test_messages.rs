//! Weights and assignments for the tests of this crate.

use std::ops::Range;

use lockstep_model::{PARAMETER_BYTES, PIXELS, copy_to_le_bytes, initial_weights};
use lockstep_proto::{Assignment, Fence, RunId, Weights};
use lockstep_reduction::{Cut, TaskKind};

pub(crate) const FENCE: Fence = Fence { run_id: RunId([1; 16]), term: 1 };

/// Weights that are not those of any other step.
pub(crate) fn weights(step: u64) -> Weights {
    let mut values = vec![0; PARAMETER_BYTES];
    copy_to_le_bytes(&initial_weights(step), &mut values);
    Weights { fence: FENCE, step, crc32c: crc32c::crc32c(&values), values: values.into() }
}

/// An interval of a batch of 23 examples in 8 shards.
pub(crate) fn assignment(id: u64, kind: TaskKind, step: u64, leaves: Range<u32>) -> Assignment {
    let cut = Cut::shards(23, 8);
    let positions = cut.positions(leaves.clone());
    Assignment {
        fence: FENCE,
        assignment_id: id,
        kind,
        step,
        first_leaf: leaves.start,
        leaf_examples: leaves.map(|leaf| cut.positions(leaf..leaf + 1).len() as u32).collect(),
        labels: positions.clone().map(|i| (i % 10) as u8).collect::<Vec<_>>().into(),
        pixels: positions
            .flat_map(|i| (0..PIXELS as u32).map(move |p| (i * 31 + p * p * 7) as u8 & 0x9f))
            .collect::<Vec<_>>()
            .into(),
        trace: None,
    }
}

/// An assignment of one leaf that takes its time.
pub(crate) fn long_assignment(id: u64, step: u64, examples: u32) -> Assignment {
    Assignment {
        leaf_examples: vec![examples],
        labels: vec![1; examples as usize].into(),
        pixels: vec![77; examples as usize * PIXELS].into(),
        ..assignment(id, TaskKind::Train, step, 0..1)
    }
}

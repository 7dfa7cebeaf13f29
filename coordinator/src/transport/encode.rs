//! The coordinator's decisions as messages of the wire protocol. Pure functions.

use bytes::Bytes;
use lockstep_control::{AssignmentId, Task};
use lockstep_proto::{Assignment, Fence, Weights};

use crate::batches::LeafData;

/// Leaves of a task from `first_leaf` on, with their data.
pub fn assignment(fence: Fence, id: AssignmentId, task: Task, first_leaf: u32, data: LeafData) -> Assignment {
    Assignment {
        fence,
        assignment_id: id.0,
        kind: task.kind,
        step: task.step,
        first_leaf,
        leaf_examples: data.leaf_examples,
        labels: data.labels,
        pixels: data.pixels,
        trace: None,
    }
}

/// The weights after a step; `values` are little-endian f32.
pub fn weights(fence: Fence, step: u64, values: Bytes) -> Weights {
    Weights { fence, step, crc32c: crc32c::crc32c(&values), values }
}

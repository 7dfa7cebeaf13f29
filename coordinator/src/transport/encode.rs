//! The coordinator's decisions as messages of the wire protocol. Pure functions.

use bytes::Bytes;
use lockstep_control::{AssignmentId, Task, TaskKind};
use lockstep_proto::{Assignment, Fence, TaskKind as WireKind, Weights};
use lockstep_reduction::Node;

use crate::batches::LeafData;

/// Leaves of a task from `first_leaf` on, with their data.
pub fn assignment(fence: Fence, id: AssignmentId, task: Task, first_leaf: u32, data: LeafData) -> Assignment {
    Assignment {
        fence,
        assignment_id: id.0,
        kind: wire_kind(task.kind),
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

/// The task that a worker says it computed, and the node; `None` if there can be no such node.
pub fn task_and_node(kind: WireKind, step: u64, level: u32, index: u32) -> (Task, Option<Node>) {
    let kind = match kind {
        WireKind::Train => TaskKind::Train,
        WireKind::Validate => TaskKind::Validate,
        WireKind::Test => TaskKind::Test,
    };
    (Task { kind, step }, Node::new(level, index))
}

fn wire_kind(kind: TaskKind) -> WireKind {
    match kind {
        TaskKind::Train => WireKind::Train,
        TaskKind::Validate => WireKind::Validate,
        TaskKind::Test => WireKind::Test,
    }
}

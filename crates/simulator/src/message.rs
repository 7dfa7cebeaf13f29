//! What travels between simulated workers and coordinators: the fields of the protocol that decisions depend on.

use lockstep_control::{AssignmentId, LeaveCause, Progress, Task};
use lockstep_proto::{Fence, RunId};
use lockstep_reduction::{Cut, Node};

use crate::arithmetic::Value;

/// Messages that wait for a worker that does not read, weights aside: then it has left.
pub const MAX_WAITING: usize = lockstep_proto::MAX_QUEUED_MESSAGES;

/// The run of every cluster.
pub const RUN: RunId = RunId([0x5a; 16]);

/// A run that was before.
pub const OTHER_RUN: RunId = RunId([0xa5; 16]);

/// From a worker.
#[derive(Clone, Debug)]
pub enum Up {
    /// The first message.
    Hello {
        /// The worker's threads.
        threads: u32,
        /// The highest term of the run that it was welcomed by.
        known: Option<Fence>,
    },
    /// The sum over a node.
    Node(Box<NodeMessage>),
    /// A sign of life.
    Heartbeat {
        /// The run and term.
        fence: Fence,
        /// How far the worker is with what it computes.
        progress: Option<Progress>,
    },
    /// Nothing more comes.
    End {
        /// Reason of the end.
        cause: LeaveCause,
    },
}

/// A result.
#[derive(Clone, Debug)]
pub struct NodeMessage {
    /// The run and term that it was computed for.
    pub fence: Fence,
    /// What it answers.
    pub assignment: AssignmentId,
    /// What was computed.
    pub task: Task,
    /// Which node.
    pub node: Node,
    /// The sum; `None` if the node has no examples.
    pub value: Option<Value>,
}

/// From a coordinator.
#[derive(Clone, Debug)]
pub enum Down {
    /// The first message.
    Welcome {
        /// The run and term.
        fence: Fence,
        /// How often to say something.
        heartbeat_us: u64,
        /// After so long without a word the coordinator is gone; `None`: never.
        silence_us: Option<u64>,
    },
    /// Work.
    Assign(Box<AssignMessage>),
    /// Work taken back.
    Revoke {
        /// The run and term.
        fence: Fence,
        /// The assignment that is taken back.
        assignment: AssignmentId,
    },
    /// A sign of life.
    Heartbeat,
    /// The run is over.
    Finish {
        /// The run and term.
        fence: Fence,
    },
    /// Nothing more comes.
    End,
}

/// Leaves to compute.
#[derive(Clone, Debug)]
pub struct AssignMessage {
    /// The run and term.
    pub fence: Fence,
    /// Its name.
    pub assignment: AssignmentId,
    /// What to compute.
    pub task: Task,
    /// Which leaves.
    pub leaves: std::ops::Range<u32>,
    /// How the task is cut.
    pub cut: Cut,
    /// Where the task's examples begin in their epoch or set.
    pub first_example: u32,
}

//! What the control plane decides: data, each with its reason. `Display` is the sentence that people read.

use std::fmt;
use std::ops::Range;

use lockstep_reduction::Node;

use crate::{AssignmentId, LeaveCause, Signal, Task, Time, WorkerId};

/// A decision, to be carried out in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Send leaves and their data to a worker. It computes when it has the weights that the task needs.
    Assign {
        /// To whom.
        worker: WorkerId,
        /// The new assignment's name.
        assignment: AssignmentId,
        /// Of which task.
        task: Task,
        /// Which leaves.
        leaves: Range<u32>,
        /// Why.
        reason: AssignReason,
    },
    /// Put the node just received into the task's tree.
    Combine {
        /// The task.
        task: Task,
        /// Who computed it.
        worker: WorkerId,
        /// The node.
        node: Node,
    },
    /// Ignore the node just received.
    Reject {
        /// Who sent it.
        worker: WorkerId,
        /// What it claims to answer.
        assignment: AssignmentId,
        /// The node.
        node: Node,
        /// Why.
        reason: RejectReason,
    },
    /// The task's tree is complete: divide and update, or take the evaluation's result; then report `Updated`,
    /// `Diverged` or `Refuted`.
    Commit {
        /// The task.
        task: Task,
        /// Why.
        reason: CommitReason,
    },
    /// Forget every node of the task: it is computed anew.
    RollBack {
        /// The task.
        task: Task,
        /// The worker whose node was wrong.
        reason: DropReason,
    },
    /// Send the weights after a step.
    SendWeights {
        /// To whom.
        to: Recipient,
        /// The step.
        step: u64,
    },
    /// End a worker's membership and its stream.
    DropMember {
        /// Who.
        worker: WorkerId,
        /// Why.
        reason: DropReason,
    },
    /// Report `Timer` at this time; it replaces any earlier timer.
    SetTimer {
        /// When.
        at: Time,
        /// What for.
        reason: TimerReason,
    },
    /// The run is over.
    Finish {
        /// How it ended.
        outcome: Outcome,
    },
}

/// Why leaves go to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssignReason {
    /// Its share by threads of what nobody holds.
    Share {
        /// Members at this moment.
        members: u32,
    },
    /// The worker that held them is no longer there.
    Reassigned {
        /// Who held them.
        from: WorkerId,
    },
}

/// Why a node is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectReason {
    /// The assignment is complete, was given away, or never was.
    UnknownAssignment,
    /// It is another worker's assignment.
    NotTheHolder {
        /// Whose it is.
        holder: WorkerId,
    },
    /// It names another task than the assignment.
    WrongTask {
        /// The assignment's task.
        expected: Task,
    },
    /// It is not among the assignment's nodes, or was received before.
    NotExpected,
}

/// Why a task is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitReason {
    /// Every leaf is in.
    Complete {
        /// How many.
        leaves: u32,
    },
}

/// Why a worker is a member no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// It left by itself.
    Left {
        /// How.
        cause: LeaveCause,
    },
    /// A recomputation shows that it sent a wrong node.
    WrongNode {
        /// Who.
        worker: WorkerId,
        /// Of which task.
        task: Task,
        /// Which node.
        node: Node,
    },
}

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerReason {
    /// The workers of the start have to join by then.
    Join,
    /// Somebody has to join by then, because everybody left.
    Patience,
}

/// Whom weights are sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipient {
    /// Every member.
    All,
    /// A member that has just joined.
    One(WorkerId),
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every task is committed.
    Done,
    /// The operator ended it.
    Interrupted {
        /// How.
        signal: Signal,
    },
    /// A step's loss or weights are not finite, and not for a fault.
    Diverged {
        /// The step.
        step: u64,
    },
    /// Too few workers joined in time.
    NotJoined {
        /// How many did.
        joined: u32,
        /// How many had to.
        expected: u32,
    },
    /// All workers left, and nobody came in time.
    LostWorkers {
        /// The last to leave.
        last: WorkerId,
        /// How it left.
        cause: LeaveCause,
    },
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Assign { worker, assignment, task, leaves, reason } => {
                write!(
                    f,
                    "assign {assignment}: leaves {}..{} of {task} to {worker}: {reason}",
                    leaves.start, leaves.end
                )
            }
            Self::Combine { task, worker, node } => write!(f, "combine node {node} of {task} from {worker}"),
            Self::Reject { worker, assignment, node, reason } => {
                write!(f, "reject node {node} of {assignment} from {worker}: {reason}")
            }
            Self::Commit { task, reason } => write!(f, "commit {task}: {reason}"),
            Self::RollBack { task, reason } => write!(f, "roll back {task}: {reason}"),
            Self::SendWeights { to: Recipient::All, step } => {
                write!(f, "send weights after step {step} to all: the step is committed")
            }
            Self::SendWeights { to: Recipient::One(worker), step } => {
                write!(f, "send weights after step {step} to {worker}: it joined")
            }
            Self::DropMember { worker, reason } => write!(f, "drop {worker}: {reason}"),
            Self::SetTimer { at, reason } => write!(f, "set timer {}: {reason}", at.microseconds),
            Self::Finish { outcome } => write!(f, "finish: {outcome}"),
        }
    }
}

impl fmt::Display for AssignReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Share { members: 1 } => f.write_str("it is the only member"),
            Self::Share { members } => write!(f, "its share among {members} members"),
            Self::Reassigned { from } => write!(f, "{from} left them unfinished"),
        }
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownAssignment => f.write_str("the assignment is complete or was given away"),
            Self::NotTheHolder { holder } => write!(f, "the assignment is {holder}'s"),
            Self::WrongTask { expected } => write!(f, "the assignment is of {expected}"),
            Self::NotExpected => f.write_str("the assignment has no such node, or it was received before"),
        }
    }
}

impl fmt::Display for CommitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Complete { leaves } => write!(f, "all {leaves} leaves are in"),
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Left { cause } => cause.fmt(f),
            Self::WrongNode { worker, task, node } => {
                write!(f, "node {node} of {task} from {worker} differs from its recomputation")
            }
        }
    }
}

impl fmt::Display for TimerReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Join => "the workers have to join by then",
            Self::Patience => "all workers left, and somebody has to join by then",
        })
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("all tasks are committed"),
            Self::Interrupted { signal } => write!(f, "the operator sent {signal}"),
            Self::Diverged { step } => write!(f, "training diverged in step {step}"),
            Self::NotJoined { joined, expected } => {
                write!(f, "only {joined} of {expected} workers joined in time")
            }
            Self::LostWorkers { last, cause } => write!(f, "no worker is left; {last} was the last: {cause}"),
        }
    }
}

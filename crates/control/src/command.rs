//! What the control plane decides: data, each with its reason. `Display` is the sentence that people read.

use std::fmt;
use std::ops::Range;

use lockstep_reduction::Node;

use crate::{AssignmentId, Deadline, LeaveCause, Signal, Task, Time, WorkerId};

/// A decision, to be carried out in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the sentence of a variant describes its fields")]
pub enum Command {
    /// Send leaves and their data to a worker. It computes when it has the weights that the task needs.
    Assign {
        worker: WorkerId,
        assignment: AssignmentId,
        task: Task,
        leaves: Range<u32>,
        reason: AssignReason,
    },
    /// Tell a worker not to compute an assignment, or not to go on with it.
    Revoke { worker: WorkerId, assignment: AssignmentId, reason: RevokeReason },
    /// Put the node just received into the task's tree.
    Combine { task: Task, worker: WorkerId, node: Node },
    /// Compare the node just received, whose leaves are counted already, with what was counted; report `Refuted` if
    /// they differ.
    Compare { task: Task, worker: WorkerId, node: Node },
    /// Ignore the node just received.
    Reject {
        worker: WorkerId,
        /// What it claims to answer.
        assignment: AssignmentId,
        node: Node,
        reason: RejectReason,
    },
    /// The task's tree is complete: divide and update, or take the evaluation's result; then report `Updated`,
    /// `Diverged` or `Refuted`.
    Commit { task: Task, reason: CommitReason },
    /// Forget every node of the task: it is computed anew.
    RollBack {
        task: Task,
        /// The worker whose node was wrong.
        reason: DropReason,
    },
    /// Send the weights after a step.
    SendWeights { to: Recipient, step: u64 },
    /// Write a checkpoint of the state after a task, off the critical path, and report `Saved`.
    Save {
        /// The last task committed: a step, or the validation after it.
        after: Task,
        reason: SaveReason,
    },
    /// End a worker's membership and its stream.
    DropMember { worker: WorkerId, reason: DropReason },
    /// Tell the operator that the run waits for a worker to join.
    Wait {
        /// How long, in milliseconds.
        patience_ms: u64,
        /// The last member that left.
        last: WorkerId,
    },
    /// Tell the operator that the run does not get on, and that nobody else is waited for.
    Stall {
        /// The task that does not get on.
        task: Task,
        /// For so long nothing new was computed, in milliseconds.
        waited_ms: u64,
        /// How many members are waited for.
        members: u32,
    },
    /// Report `Timer` at this time; it replaces any earlier timer.
    SetTimer { at: Time, deadline: Deadline },
    /// The run is over.
    Finish {
        /// How it ended.
        outcome: Outcome,
    },
}

/// Why leaves go to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the sentence of a variant describes its fields")]
pub enum AssignReason {
    /// Its share by threads of what nobody holds.
    Share {
        /// Members at this moment.
        members: u32,
    },
    /// The worker that held them is no longer there.
    Reassigned { from: WorkerId },
    /// The worker that holds them is late: the first answer counts.
    Copy {
        holder: WorkerId,
        of: AssignmentId,
        /// How long it has them, in milliseconds.
        waited_ms: u64,
        /// How long it was expected to take, in milliseconds.
        expected_ms: u64,
    },
}

/// Why an assignment is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the sentence of a variant describes its fields")]
pub enum RevokeReason {
    /// Others were faster with a copy of it.
    Overtaken,
    /// The worker is late with another one.
    Late { with: AssignmentId },
    /// It was not begun, and is shared out anew.
    Joined { worker: WorkerId },
}

/// Why a checkpoint is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaveReason {
    /// The last one is old enough.
    Interval,
    /// An epoch ended.
    Epoch,
    /// The run ends.
    End,
}

/// Why a node is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the sentence of a variant describes its fields")]
pub enum RejectReason {
    /// The assignment is complete, was given away, or never was.
    UnknownAssignment,
    /// The task is over: nothing is at hand to compare it with.
    TaskOver,
    /// A part of it was counted from others.
    Overlaps,
    /// It is of a task whose weights do not exist yet.
    TooEarly,
    /// It is another worker's assignment.
    NotTheHolder { holder: WorkerId },
    /// It names another task than the assignment.
    WrongTask {
        /// The assignment's task.
        expected: Task,
    },
    /// It is not among the assignment's nodes.
    NotExpected,
}

/// Why a task is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the sentence of a variant describes its fields")]
pub enum CommitReason {
    /// Every leaf is in.
    Complete { leaves: u32 },
}

/// Why a worker is a member no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the sentence of a variant describes its fields")]
pub enum DropReason {
    /// It left by itself.
    Left { cause: LeaveCause },
    /// Nothing was heard of it.
    Silent {
        /// For so long, in milliseconds.
        silence_ms: u64,
    },
    /// It says that it is alive, and does no example of its work.
    Stuck {
        assignment: AssignmentId,
        /// For so long, in milliseconds.
        waited_ms: u64,
    },
    /// A recomputation shows that it sent a wrong node.
    WrongNode {
        worker: WorkerId,
        task: Task,
        /// Which node.
        node: Node,
    },
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
#[expect(missing_docs, reason = "the sentence of a variant describes its fields")]
pub enum Outcome {
    /// Every task is committed.
    Done,
    /// The operator ended it.
    Interrupted { signal: Signal },
    /// A step's loss or weights are not finite, and not for a fault.
    Diverged { step: u64 },
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
        reason: DropReason,
    },
    /// Workers came and left again, and none got any further than those before.
    NoProgress {
        /// The task that did not get on.
        task: Task,
        /// For so long nothing new was computed, in milliseconds.
        waited_ms: u64,
        /// The last to leave.
        last: WorkerId,
        /// How it left.
        reason: DropReason,
    },
    /// A step that was computed again gave other weights than the run's log has for it.
    Contradicted { step: u64 },
    /// Another coordinator has taken the run over.
    Superseded { term: u64 },
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
            Self::Revoke { worker, assignment, reason } => {
                write!(f, "revoke {assignment} from {worker}: {reason}")
            }
            Self::Compare { task, worker, node } => {
                write!(f, "compare node {node} of {task} from {worker}: its leaves are counted already")
            }
            Self::Save { after, reason } => write!(f, "save the state after {after}: {reason}"),
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
            Self::Wait { patience_ms, last } => {
                write!(f, "wait {patience_ms} ms for a worker to join: {last} was the last to leave")
            }
            Self::Stall { task, waited_ms, members } => {
                write!(f, "nothing new of {task} was computed for {waited_ms} ms: ")?;
                match members {
                    1 => f.write_str("only the member that is there is waited for"),
                    _ => write!(f, "only the {members} members that are there are waited for"),
                }
            }
            Self::SetTimer { at, deadline } => write!(f, "set timer {}: {deadline}", at.us),
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
            Self::Copy { holder, of, waited_ms, expected_ms } => {
                write!(f, "{holder} has them as {of} for {waited_ms} ms, {expected_ms} ms were expected")
            }
        }
    }
}

impl fmt::Display for RevokeReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overtaken => f.write_str("others were faster"),
            Self::Late { with } => write!(f, "it is late with {with}"),
            Self::Joined { worker } => write!(f, "{worker} joined, and gets a share"),
        }
    }
}

impl fmt::Display for SaveReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interval => "the last one is old enough",
            Self::Epoch => "an epoch ended",
            Self::End => "the run ends",
        })
    }
}

impl fmt::Display for RejectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownAssignment => f.write_str("the assignment is complete or was given away"),
            Self::TaskOver => f.write_str("the task is over, and it stays unchecked"),
            Self::TooEarly => f.write_str("the weights that it needs do not exist yet"),
            Self::Overlaps => f.write_str("a part of it was counted from others, and it stays unchecked"),
            Self::NotTheHolder { holder } => write!(f, "the assignment is {holder}'s"),
            Self::WrongTask { expected } => write!(f, "the assignment is of {expected}"),
            Self::NotExpected => f.write_str("the assignment has no such node"),
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
            Self::Silent { silence_ms } => write!(f, "nothing was heard of it for {silence_ms} ms"),
            Self::Stuck { assignment, waited_ms } => {
                write!(
                    f,
                    "it is alive, and did no example of {assignment} for {waited_ms} ms (if one takes so long, raise \
                     --deadline)"
                )
            }
            Self::WrongNode { worker, task, node } => {
                write!(f, "node {node} of {task} from {worker} differs from its recomputation")
            }
        }
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
            Self::LostWorkers { last, reason } => {
                write!(f, "no worker is left; {last} was the last: {reason}")
            }
            Self::NoProgress { task, waited_ms, last, reason } => {
                write!(
                    f,
                    "nothing new of {task} was computed for {waited_ms} ms, though workers came; {last} was the last to \
                     leave: {reason}"
                )
            }
            Self::Contradicted { step } => {
                write!(f, "step {step}, computed again, gave other weights than this run's log has for it")
            }
            Self::Superseded { term } => write!(f, "a coordinator of term {term} has taken the run over"),
        }
    }
}

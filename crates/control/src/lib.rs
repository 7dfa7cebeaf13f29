//! The control plane: who is a member, who holds which leaves, which task is complete, what happens next.
//!
//! A pure state machine: events and the time go in, commands come out. It has no float, no clock, no I/O, no
//! randomness, no async. The coordinator's loop calls it, and in virtual time the simulator.

#![deny(clippy::float_arithmetic)]

mod command;
mod control;
mod deadlines;
mod dispatch;
mod event;
mod leaf_time;
mod member;
mod patience;
mod shares;
mod task_leaves;
mod task_order;

pub use command::{
    AssignReason, Command, CommitReason, DropReason, Outcome, Recipient, RejectReason, RevokeReason,
    SaveReason,
};
pub use control::{Control, ControlSettings};
pub use deadlines::{Deadline, HEARTBEATS_PER_DEADLINE, heartbeat};
pub use event::{AssignmentId, Event, LeaveCause, Progress, Signal, Time, WorkerId};
pub use lockstep_reduction::{Task, TaskKind};
pub use task_order::{Leaves, TaskOrder};

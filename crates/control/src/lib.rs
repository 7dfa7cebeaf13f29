//! The control plane: who is a member, who holds which leaves, which task is complete, what happens next.
//!
//! A pure state machine: events and the time go in, commands come out. It has no float, no clock, no I/O, no
//! randomness, no async. The coordinator's loop is its only caller; a simulator may be another.

#![deny(clippy::float_arithmetic)]

mod command;
mod control;
mod dispatch;
mod event;
mod member;
mod pace;
mod patience;
mod plan;
mod watch;
mod work;

pub use command::{
    AssignReason, Command, CommitReason, DropReason, Outcome, Recipient, RejectReason, RevokeReason,
    SaveReason, TimerReason,
};
pub use control::{Control, Settings};
pub use event::{AssignmentId, Event, LeaveCause, Progress, Signal, Time, WorkerId};
pub use lockstep_reduction::{Task, TaskKind};
pub use plan::{Leaves, Plan};

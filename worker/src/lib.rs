//! The worker: dials a coordinator, computes the shard gradients that it is assigned, sends the nodes of the tree.
//!
//! It holds no data set and decides nothing: which leaves it computes is the coordinator's business.

pub mod cli;
mod compute;
mod current;
mod engine;
mod environment;
mod error;
#[cfg(test)]
mod fake_coordinator;
mod inbox;
pub mod instruction_set;
mod join;
mod look_up;
mod process;
mod recompute;
mod retry;
mod run;
mod session;
mod tasks;
#[cfg(test)]
mod test_messages;
mod tracer;

pub use engine::LeafInputs;
pub use environment::{Dial, Environment, Inboxes, System};
pub use error::WorkerError;
pub use join::LOCAL_SOCKET;
pub use recompute::{Recomputer, recompute};
pub use run::{Config, run, run_in};

//! The worker: dials a coordinator, computes the shard gradients that it is assigned, sends the nodes of the tree.
//!
//! It holds no data set and decides nothing: which leaves it computes is the coordinator's business.

pub mod cli;
mod compute;
mod process;
mod session;

use std::time::Duration;

pub use compute::recompute;
pub use session::{Config, WorkerError, run};

/// First and longest pause between two attempts to reach the coordinator.
const RETRY_PAUSE: std::ops::RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(1);

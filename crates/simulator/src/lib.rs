//! Thousands of faulty clusters by seed, in virtual time: the production control plane, sums and journal,
//! under a virtual network, virtual disks and simulated workers.
//!
//! It owns the faults, the invariants and the truth to compare with. It decides nothing that production decides, has
//! no clock and no thread of its own, and the same seed gives the same trace.

mod arithmetic;
mod cluster;
mod disk;
mod fault_kind;
mod invariants;
pub mod knobs;
mod message;
mod observed;
mod oracle;
pub mod report;
mod rng;
mod storage;
pub mod trace;

use std::panic::{AssertUnwindSafe, catch_unwind};

use cluster::Cluster;
use knobs::Knobs;
use report::{Failure, Statistics};
use trace::Trace;

/// What came of one cluster.
#[derive(Debug)]
pub struct Simulated {
    /// Its knobs.
    pub knobs: Knobs,
    /// What went wrong.
    pub failure: Option<Failure>,
    /// What happened.
    pub statistics: Statistics,
    /// The last observations, or all.
    pub trace: Trace,
}

/// Simulates one cluster to its end.
pub fn simulate(knobs: Knobs, trace: Trace) -> Simulated {
    let mut cluster = Cluster::new(knobs.clone(), trace);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| cluster.run())) {
        let message = panic.downcast_ref::<String>().cloned();
        let message = message.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        cluster.panicked(message.unwrap_or_else(|| "a panic without words".to_string()));
    }
    let (failure, statistics, trace) = cluster.into_results();
    Simulated { knobs, failure, statistics, trace }
}

//! The real shell on a simulated network, in virtual time: whatever the network and the machines do, a run ends with
//! the weights of an undisturbed one, or with the outcome that its settings ask for.
//!
//! The gRPC service, the run's loop, the journal and the workers are those of production; simulated are the network,
//! the clock and chance. Time stands still while a worker computes, so that a slow machine changes nothing.

#![allow(clippy::unwrap_used, reason = "a test's helpers panic like the test")]

mod hosts;
mod network;
mod outages;
mod restarts;
mod world;

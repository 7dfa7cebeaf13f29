//! Everything that is written to disk, on a disk in memory that crashes, fails and rots.

#![allow(clippy::unwrap_used, reason = "a test's helpers panic and print like the test")]

mod checkpoints;
mod crashes;
mod failures;
mod goes_on;
mod history;
mod log;
mod memory;
mod run;
mod segments;
mod terms;

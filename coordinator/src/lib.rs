//! The coordinator: command line, run loop, gRPC service, trainer, local workers, journal.

pub mod batches;
pub mod bench;
pub mod cli;
pub mod commands;
mod crashing_disk;
mod finish;
pub mod journal;
mod local_workers;
pub mod observe;
pub mod run;
pub mod settings;
pub mod single_process;
pub mod start;
pub mod trainer;
pub mod transport;

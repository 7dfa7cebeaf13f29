//! The coordinator: command line, run loop, gRPC service, trainer, local workers, journal.

pub mod batches;
pub mod bench;
pub mod chaos;
mod charts;
pub mod cli;
pub mod commands;
mod comparison;
pub mod dashboard;
mod failpoints;
pub mod finish;
pub mod journal;
pub mod local_workers;
mod log_tail;
mod observe;
mod output;
mod own_command;
mod report;
pub mod run;
pub mod run_directory;
mod runtime;
pub mod scaling;
pub mod settings;
pub mod start;
pub mod trainer;
pub mod transport;

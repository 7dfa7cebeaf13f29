//! The coordinator: command line, run loop, gRPC service, trainer, local workers, journal.

pub mod batches;
pub mod bench;
pub mod chaos;
mod charts;
pub mod cli;
pub mod commands;
mod comparison;
mod crashing_disk;
pub mod dashboard;
pub mod exit;
mod finish;
pub mod journal;
mod local_workers;
mod log_tail;
pub mod observe;
mod output;
mod own_command;
mod report;
pub mod run;
pub mod run_directory;
mod runtime;
pub mod scaling;
pub mod settings;
pub mod single_process;
pub mod start;
pub mod trainer;
pub mod transport;

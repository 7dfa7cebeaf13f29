//! The coordinator: command line, run loop, gRPC service, trainer and local workers.

pub mod batches;
pub mod cli;
pub mod data_command;
pub mod local_workers;
pub mod run;
pub mod run_directory;
pub mod service;
pub mod settings;
pub mod step_times;
pub mod train;
pub mod trainer;

//! The coordinator: command line, run loop, gRPC service, trainer and local workers.

pub mod cli;
pub mod run_directory;
pub mod settings;

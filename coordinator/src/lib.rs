//! The coordinator: command line, run loop, gRPC service, trainer, local workers, journal.

pub mod batches;
pub mod bench;
pub mod chaos;
pub mod cli;
mod crashing_disk;
pub mod dashboard;
pub mod data_command;
pub mod journal;
pub mod local_socket;
pub mod local_workers;
pub mod messages;
mod own_command;
pub mod prepare;
pub mod report;
pub mod results;
pub mod roster;
pub mod run;
pub mod run_directory;
pub mod serve;
pub mod service;
pub mod settings;
pub mod show_command;
pub mod step_times;
pub mod train;
pub mod trainer;
pub mod verify_command;

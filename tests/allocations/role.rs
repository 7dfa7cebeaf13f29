//! This process as a coordinator or a worker, as their binaries put them together, but with an allocator that counts.

use std::alloc::System;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lockstep_coordinator::cli::{self, Command, Invocation};
use lockstep_coordinator::commands::train;
use lockstep_telemetry::Terminal;
use lockstep_worker::cli::log_filter;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tracing::Level;
use tracing_subscriber::prelude::*;

/// Of all threads.
#[global_allocator]
static COUNTING: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Set for a process that has a role; local workers inherit it.
pub const FOLDER: &str = "ALLOCATIONS_FOLDER";

/// Where this process leaves its counts, if it has a role.
pub fn counts_folder() -> Option<PathBuf> {
    std::env::var_os(FOLDER).map(PathBuf::from)
}

/// Does what the arguments say, and leaves the counts of the whole life in a file of the folder.
pub fn play(folder: &Path) -> ExitCode {
    let parsed = cli::parse(std::env::args_os()).unwrap();
    let (role, code) = match parsed.invocation {
        Invocation::Command(Command::Worker(arguments)) => {
            ("worker", lockstep_worker::cli::main(arguments, &parsed.variables))
        }
        Invocation::Train(settings) => {
            let terminal = Terminal::stderr();
            let log =
                tracing_subscriber::fmt().with_max_level(Level::TRACE).with_ansi(false).with_target(false);
            log.with_writer(terminal.log_writer()).finish().with(log_filter()).init();
            ("coordinator", train::train(&settings, &terminal).unwrap().into())
        }
        _ => panic!("neither the command line of a training nor of a worker"),
    };
    let stats = COUNTING.stats();
    let counts = format!("{} {}\n", stats.allocations + stats.reallocations, stats.bytes_allocated);
    let file: OsString = format!("{role}-{}", std::process::id()).into();
    std::fs::write(folder.join(file), counts).unwrap();
    code
}

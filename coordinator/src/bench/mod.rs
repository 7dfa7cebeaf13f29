//! `coordinator bench`: measures parts of the system on this machine; one file for each measurement.

pub mod kernels;

use anyhow::Result;
use clap::Subcommand;

/// What to measure.
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub enum Bench {
    /// Measure the kernels against the processor's peak: each layer, and a shard's gradient on 1 to all cores
    Kernels(kernels::Arguments),
}

/// Measures and reports on standard output; returns the exit code.
///
/// # Errors
///
/// If threads or standard output fail.
pub fn run(bench: &Bench) -> Result<u8> {
    match bench {
        Bench::Kernels(arguments) => kernels::run(arguments),
    }
}

//! `coordinator bench`: measurements that anybody can repeat, a file each. Nothing here measures.

use lockstep_command_line::exit::Interrupted;
use lockstep_scaling as scaling;

pub mod kernels;
pub mod step;
mod threads;

/// What to measure.
#[derive(clap::Subcommand)]
pub enum Bench {
    /// Measure the kernels against the processor's peak: each layer, and a shard's gradient on 1 to all cores
    Kernels(kernels::Arguments),
    /// Train with several numbers of workers, and compare speed and bits
    Scaling(scaling::Arguments),
    /// Compare a step over gRPC with one over bare sockets, one without a network, and the kernels alone
    Step(step::Arguments),
}

/// Measures and prints; returns the exit code.
///
/// # Errors
///
/// Whatever the measurement refuses.
pub fn run(bench: Bench) -> anyhow::Result<u8> {
    let result = match bench {
        Bench::Kernels(arguments) => kernels::run(&arguments),
        Bench::Scaling(arguments) => scaling::run(&arguments),
        Bench::Step(arguments) => step::run(&arguments),
    };
    result.or_else(|error| error.downcast::<Interrupted>().map(|interrupted| interrupted.exit_code))
}

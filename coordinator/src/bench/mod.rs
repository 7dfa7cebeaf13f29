//! `coordinator bench`: measurements that anybody can repeat, a file each. Nothing here measures.

pub mod kernels;
pub mod scaling;
pub mod step;

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
    match bench {
        Bench::Kernels(arguments) => kernels::run(&arguments),
        Bench::Scaling(arguments) => scaling::run(&arguments),
        Bench::Step(arguments) => step::run(&arguments),
    }
}

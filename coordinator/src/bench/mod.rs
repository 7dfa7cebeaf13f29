//! `coordinator bench`: measurements that anybody can repeat, a file each. Nothing here measures.

pub mod scaling;

/// What to measure.
#[derive(clap::Subcommand)]
pub enum Bench {
    /// Train with several numbers of workers, and compare speed and bits
    Scaling(scaling::Arguments),
}

/// Measures and prints; returns the exit code.
///
/// # Errors
///
/// Whatever the measurement refuses.
pub fn run(bench: Bench) -> anyhow::Result<u8> {
    match bench {
        Bench::Scaling(arguments) => scaling::run(&arguments),
    }
}

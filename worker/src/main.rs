//! `worker`: joins a coordinator and computes until the run is over.

use std::process::ExitCode;

use clap::Parser;

/// A worker of a Lockstep run: it joins the coordinator and computes gradients until the run is over.
#[derive(Parser)]
#[command(name = "worker", version, after_help = lockstep_worker::cli::EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    arguments: lockstep_worker::cli::Arguments,
}

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => lockstep_worker::cli::main(cli.arguments),
        Err(error) => lockstep_worker::cli::report(&error).into(),
    }
}

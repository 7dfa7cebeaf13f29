//! `worker`: joins a coordinator and computes until the run is over.

use std::process::ExitCode;

use lockstep_command_line::signals;
use lockstep_worker::cli;

fn main() -> ExitCode {
    if let Err(error) = signals::take_over() {
        return cli::no_signals(&error);
    }
    match cli::parse(std::env::args_os()) {
        Ok((arguments, variables)) => cli::main(arguments, &variables),
        Err(error) => cli::report(&error).into(),
    }
}

//! The worker's command line, shared by the binary `worker` and the coordinator's local workers.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser};
use lockstep_command_line::Period;
use lockstep_command_line::variables::{self, Variables};
use lockstep_model::Cpu;
use lockstep_proto::Token;
use tracing::Level;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::prelude::*;

use crate::process::{self, Parent};
use crate::{Config, WorkerError, instruction_set, run};

/// What `--help` says of the exit codes and of the variable that is no flag.
pub const EXIT_CODES: &str = "Exit codes: 0 the run ended, 1 refused by the coordinator, 2 usage, 75 the coordinator \
                              cannot be reached (or was lost): try again, 129/130/143 ended by a signal.\n\n\
                              LOCKSTEP_CPU=avx512|avx2|neon|scalar forces the instruction set (for comparisons: the \
                              fastest is the default, and all give the same bits).";

/// The longest time to try to reach a coordinator: practically for ever.
const LONGEST_CONNECT_TIMEOUT: Duration = Duration::from_hours(365 * 24);

/// A worker of a Lockstep run: it joins the coordinator and computes gradients until the run is over.
#[derive(Parser)]
#[command(name = "worker", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(flatten)]
    arguments: Arguments,
}

/// Arguments of a worker.
#[derive(Args, Clone, Debug)]
pub struct Arguments {
    /// Where the coordinator listens, for example HOST:29400
    #[arg(long, env = "LOCKSTEP_COORDINATOR", value_name = "HOST:PORT")]
    coordinator: String,

    /// Threads that compute [default: one per core]
    #[arg(long, env = "LOCKSTEP_THREADS", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,

    /// A name for people [default: the host's name and the process]
    #[arg(long, env = "LOCKSTEP_NAME")]
    name: Option<String>,

    /// The run's join token, which the coordinator prints
    #[arg(long, env = "LOCKSTEP_TOKEN", hide_env_values = true)]
    token: Option<String>,

    /// How long to go on trying to reach the coordinator, at the start and whenever it is lost: 90, 500ms, 2m
    #[arg(long, env = "LOCKSTEP_CONNECT_TIMEOUT", value_name = "TIME", default_value = "60s")]
    #[arg(value_parser = connect_timeout)]
    connect_timeout: Duration,

    /// The parent's process: the worker reads its token from standard input and ends with the parent
    #[arg(long, hide = true, value_name = "PID")]
    parent: Option<i32>,

    /// The cores that all threads of this process are bound to
    #[arg(long, hide = true, value_name = "CORES", value_delimiter = ',')]
    cores: Vec<usize>,
}

fn connect_timeout(text: &str) -> Result<Duration, String> {
    let Period(time) = text.parse().map_err(|error: lockstep_command_line::PeriodError| error.to_string())?;
    if time > LONGEST_CONNECT_TIMEOUT {
        return Err(format!("it must be {} at most", Period(LONGEST_CONNECT_TIMEOUT)));
    }
    Ok(time)
}

/// The command as the parser knows it.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Understands `arguments` (the program's name first) together with the environment, and says which variables had a say.
///
/// # Errors
///
/// What [`report`] shows, also for `--help` and `--version`.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<(Arguments, Variables), clap::Error> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let (matches, variables) = variables::parse(command(), &arguments)?;
    Ok((Cli::from_arg_matches(&matches)?.arguments, variables))
}

/// Shows what the parser of a command line found, and returns the exit code: an error on one line, help in full.
pub fn report(error: &clap::Error) -> u8 {
    use std::io::Write;
    // A stream that is gone changes nothing about the exit code, and leaves nowhere to report it.
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            0
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            2
        }
        _ => {
            let _ = writeln!(std::io::stderr(), "{}", one_line(&error.render().to_string()));
            2
        }
    }
}

/// The parser's paragraphs as one line, without the usage, which `--help` shows.
fn one_line(text: &str) -> String {
    let paragraphs = text
        .split("\n\n")
        .map(|paragraph| paragraph.split_whitespace().collect::<Vec<_>>().join(" "))
        .filter(|paragraph| !paragraph.is_empty())
        .filter(|paragraph| {
            !paragraph.starts_with("Usage:") && !paragraph.starts_with("For more information")
        })
        .collect::<Vec<_>>();
    format!("{} (see --help)", paragraphs.join("; "))
}

/// Says that the signals cannot be taken over, and returns the exit code.
pub fn no_signals(error: &std::io::Error) -> ExitCode {
    use std::io::Write;
    // A stream that is gone changes nothing about the exit code, and leaves nowhere to report it.
    let _ = writeln!(std::io::stderr(), "error: cannot take over the signals that end this process: {error}");
    ExitCode::FAILURE
}

/// What is logged: what `RUST_LOG` says, else everything from `info` on.
///
/// A level, or levels of targets: `debug`, `info,lockstep_worker=trace`.
pub fn log_filter() -> Targets {
    let set = std::env::var("RUST_LOG").ok().filter(|set| !set.is_empty());
    set.and_then(|set| set.parse().ok()).unwrap_or_else(|| Targets::new().with_default(Level::INFO))
}

/// Runs a worker to its end and says how it ended; an error about a flag that one of `variables` gave names that.
pub fn main(arguments: Arguments, variables: &Variables) -> ExitCode {
    let stderr = std::io::stderr();
    let ansi = stderr.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    tracing_subscriber::fmt()
        // What is shown is for the filter to say.
        .with_max_level(Level::TRACE)
        .with_ansi(ansi)
        // It would tell standard error, and panic, that standard error is gone.
        .log_internal_errors(false)
        .with_writer(std::io::stderr)
        .finish()
        .with(log_filter())
        .init();

    match configure(arguments).and_then(run) {
        Ok(reason) => {
            tracing::info!("the run is over: {reason}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            tracing::error!("{}", variables.name_in(&error.to_string()));
            ExitCode::from(error.exit_code())
        }
    }
}

fn configure(arguments: Arguments) -> Result<Config, WorkerError> {
    instruction_set::force_from_environment()?;
    process::bind_to(&arguments.cores);
    let local = arguments.parent.is_some();
    let token = match arguments.parent {
        Some(pid) => Parent::bind(pid).map_err(WorkerError::Parent)?.into_token(),
        None => arguments.token.ok_or(WorkerError::NoToken)?,
    };
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let host = process::host_name();
    let name = arguments.name.unwrap_or_else(|| format!("{host}-{}", std::process::id()));
    lockstep_failpoints::crash::arm(&name);
    Ok(Config {
        coordinator: arguments.coordinator,
        threads: arguments.threads.unwrap_or(cores as u32),
        name,
        host,
        token: Token::new(&token).map_err(WorkerError::Token)?,
        connect_timeout: arguments.connect_timeout,
        local,
        cpu: Cpu::detect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_the_parser_is_one_line() {
        let text = "error: unexpected argument '--wrokers' found\n\n  tip: a similar argument exists: '--workers'\n\n\
                    Usage: coordinator --workers <N>\n\nFor more information, try '--help'.\n";
        assert_eq!(
            one_line(text),
            "error: unexpected argument '--wrokers' found; tip: a similar argument exists: '--workers' (see --help)"
        );
    }
}

//! The command line of `coordinator`: flags, environment variables, subcommands and help texts.
//!
//! Turns arguments into an [`Invocation`], or into an error that says what to type instead. What a value may be is
//! decided in `settings`. The arguments of a subcommand stand beside it, in `commands`.

mod train_arguments;

use std::ffi::OsString;
use std::io::{self, Write};

use clap::builder::BoolishValueParser;
use clap::{
    ArgAction, ArgMatches, Command as ClapCommand, CommandFactory, FromArgMatches, Parser, Subcommand,
};
use lockstep_command_line::exit::EXIT_USAGE;
use lockstep_command_line::nearest;
use lockstep_command_line::variables::{self, PREFIX, Variables};
use lockstep_worker::instruction_set::{self, ForcedCpuError};

use crate::bench::Bench;
use crate::commands::{compare, data, evaluate, export, predict, report, show, verify};
use crate::settings::{Settings, SettingsError, processors};
use train_arguments::TrainArguments;

/// Variables of that prefix that are no flag: the instruction set that is forced, where the test-suite finds MNIST,
/// and the place at which it has a process die.
const OTHER_VARIABLES: [&str; 3] =
    [instruction_set::VARIABLE, "LOCKSTEP_DATA", lockstep_failpoints::crash::VARIABLE];

const EXAMPLES: &str = "\
Examples:
  coordinator --workers 4                      train with four local workers
  coordinator --dataset digits --epochs 2      train on generated digits, no download
  coordinator --json > summary.json            the summary for programs
  coordinator --config runs/OLD/config.toml    train the same again
  coordinator --resume runs/OLD                go on with a run that was stopped or killed
  coordinator predict seven.png                which digit it is, by the newest finished run
  coordinator export runs/OLD --format onnx    the model for other programs
  coordinator show runs/OLD                    look at that run in a browser
  coordinator compare runs/OLD runs/NEW        what differs, and from which step on
  coordinator --external --workers 2 --listen 0.0.0.0:29400 --insecure
                                               wait for two workers on other machines, each:
                                               worker --coordinator http://HOST:29400
                                               (with the same LOCKSTEP_TOKEN here and there)

Every flag is also an environment variable (--batch-size is LOCKSTEP_BATCH_SIZE) and a key of the
configuration file (batch-size = 64). A flag beats the environment, which beats the file.
LOCKSTEP_CPU=avx512|avx2|neon|scalar forces the instruction set, here and in local workers
(for comparisons: the fastest is the default, and all give the same bits).

Exit codes: 0 done, 1 failed, 2 wrong usage, 75 workers lost (try again with --resume),
129/130/143 ended by SIGHUP, SIGINT, SIGTERM.";

/// Trains the MNIST convnet on several worker processes, to the same bits whatever their number.
///
/// The weights after every step depend on the data, the seed and the hyper-parameters only: not on the number of
/// workers or threads, nor on which worker was slow or lost.
#[derive(Parser)]
#[command(name = "coordinator", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
#[command(max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    train: TrainArguments,
    #[command(subcommand)]
    command: Option<Command>,
}

/// What to do instead of training.
#[derive(Subcommand)]
pub enum Command {
    /// Download, verify or look at the training data
    Data(data::Arguments),
    /// Recompute steps of a run and compare them with its log
    Verify(verify::Arguments),
    /// Write a run's model for PyTorch, ONNX or TensorFlow.js
    Export(export::Arguments),
    /// Measure a model on the test set: loss, accuracy, precision and recall of each digit
    Evaluate(evaluate::Arguments),
    /// Say which digit is drawn in an image
    Predict(predict::Arguments),
    /// Show a run that is over, or was interrupted, as the dashboard shows one that is under way
    Show(show::Arguments),
    /// Put runs side by side: settings, results, curves, and the step at which their bits part
    Compare(compare::Arguments),
    /// Write the report of a run that is over, or was interrupted, again: one page without a server
    Report(report::Arguments),
    /// Train while processes are killed, stopped, slowed and cut off, and compare the bits
    Chaos(lockstep_chaos::Arguments),
    /// Measure how fast this program is on this machine
    #[command(subcommand)]
    Bench(Bench),
    /// Run as a worker; the coordinator starts its local workers this way
    #[command(hide = true)]
    Worker(lockstep_worker::cli::Arguments),
}

/// What the user asked for, and by which variables of the environment, if by any.
pub struct Parsed {
    /// What to do.
    pub invocation: Invocation,
    /// What gave flags that nobody typed: an error names them.
    pub variables: Variables,
}

/// What the user asked for.
pub enum Invocation {
    /// Train.
    Train(Box<Settings>),
    /// Something else.
    Command(Command),
}

/// The command line was not understood, asked for help, or asks for what no run can have.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// From the parser; help and version are such "errors", too.
    #[error(transparent)]
    Arguments(#[from] clap::Error),
    /// From the settings.
    #[error("{}", variables.name_in(&error.to_string()))]
    Settings {
        /// What is wrong.
        error: Box<SettingsError>,
        /// The variables that gave flags.
        variables: Variables,
    },
    /// From the variable that forces an instruction set.
    #[error(transparent)]
    Cpu(#[from] ForcedCpuError),
}

impl UsageError {
    /// Shows the error on standard error (help and version on standard output) and returns the exit code.
    pub fn report(&self) -> u8 {
        match self {
            Self::Arguments(error) => lockstep_worker::cli::report(error),
            Self::Settings { .. } | Self::Cpu(_) => {
                // A stream that is gone changes nothing about the exit code, and leaves nowhere to report it.
                let _ = writeln!(io::stderr(), "error: {self}");
                EXIT_USAGE
            }
        }
    }
}

/// Understands `arguments` (the program's name first) together with the environment and the configuration file.
///
/// # Errors
///
/// [`UsageError`], also for `--help` and `--version`; `UsageError::report` shows any of them.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Parsed, UsageError> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let (matches, variables) = variables::parse(command(), &arguments)?;
    let cli = Cli::from_arg_matches(&matches)?;
    match invocation(cli, &matches) {
        Ok(invocation) => Ok(Parsed { invocation, variables }),
        Err(error) => Err(UsageError::Settings { error: error.into(), variables }),
    }
}

fn invocation(cli: Cli, matches: &ArgMatches) -> Result<Invocation, SettingsError> {
    Ok(match cli.command {
        Some(command) => Invocation::Command(command),
        None => Invocation::Train(Box::new(Settings::resolve(cli.train.asked(matches), processors())?)),
    })
}

/// The command as the parser knows it, for completions and manual pages as well.
pub fn command() -> ClapCommand {
    // A negative number is a wrong value, which names its flag, and not an unknown flag.
    let command = Cli::command().mut_args(|argument| match argument.get_action() {
        ArgAction::Set => argument.allow_negative_numbers(true),
        _ => argument,
    });
    with_switches(command)
}

/// The flags of a training, without dashes, but for those that say nothing of it.
pub fn training_flags() -> Vec<String> {
    let command = command();
    let flags = command.get_arguments().filter_map(|argument| argument.get_long());
    flags.filter(|flag| !["help", "version", "config"].contains(flag)).map(str::to_string).collect()
}

/// The same switches everywhere: a variable that is on for one command is on for all.
fn with_switches(command: ClapCommand) -> ClapCommand {
    let command = command.mut_args(|argument| match argument.get_action() {
        ArgAction::SetTrue => switch(argument),
        _ => argument,
    });
    command.mut_subcommands(with_switches)
}

/// A flag that is on when it is named, and that `--flag=false` turns off again where environment or file set it.
fn switch(argument: clap::Arg) -> clap::Arg {
    argument
        .action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_value("false")
        .default_missing_value("true")
        .value_parser(BoolishValueParser::new())
        .value_name("BOOL")
        .hide_default_value(true)
        .hide_possible_values(true)
}

/// A warning for each variable among `names` that begins like a flag's but is none: most likely a slip.
pub fn unknown_variables(names: impl IntoIterator<Item = OsString>) -> Vec<String> {
    let command = command();
    let mut known: Vec<&str> = OTHER_VARIABLES.to_vec();
    let mut commands = vec![&command];
    while let Some(command) = commands.pop() {
        known.extend(command.get_arguments().filter_map(|argument| argument.get_env()?.to_str()));
        commands.extend(command.get_subcommands());
    }
    let mut unknown: Vec<String> = names
        .into_iter()
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| name.starts_with(PREFIX) && !known.contains(&name.as_str()))
        .collect();
    unknown.sort();
    unknown
        .into_iter()
        .map(|name| match nearest(&name[PREFIX.len()..], known.iter().map(|known| &known[PREFIX.len()..])) {
            Some(nearest) => format!(
                "the environment variable {name} is unknown and ignored; did you mean {PREFIX}{nearest}?"
            ),
            None => format!("the environment variable {name} is unknown and ignored"),
        })
        .collect()
}

#[cfg(test)]
mod tests;

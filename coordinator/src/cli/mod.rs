//! The command line of `coordinator`: flags, environment variables, subcommands, help texts and exit codes.
//!
//! Turns arguments into an [`Invocation`], or into an error that says what to type instead. What a value may be is
//! decided in `settings`; nothing here acts on anything.

mod train_arguments;

use std::{
    ffi::{OsStr, OsString},
    io::{self, Write},
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    thread,
};

use clap::{
    ArgAction, ArgMatches, Args, Command as ClapCommand, CommandFactory, FromArgMatches, Parser, Subcommand,
    ValueEnum, builder::BoolishValueParser, value_parser,
};

use lockstep_worker::instruction_set::{self, ForcedCpuError};
use lockstep_worker::variables::{self, PREFIX, Variables};

use crate::bench::Bench;
use crate::commands::compare;
use crate::commands::report;
use crate::commands::verify;
use crate::commands::{evaluate, export, predict};
use crate::settings::{HostName, Settings, SettingsError, address, nearest::nearest};
pub(crate) use train_arguments::TrainArguments;

/// The run is done.
pub const EXIT_DONE: u8 = 0;
/// Data, input, output or divergence.
pub const EXIT_FAILED: u8 = 1;
/// Usage, flags or configuration.
pub const EXIT_USAGE: u8 = 2;
/// All workers are lost; another attempt may succeed (`EX_TEMPFAIL`).
pub const EXIT_WORKERS_LOST: u8 = 75;
/// After SIGHUP.
pub const EXIT_HUNG_UP: u8 = 129;
/// After SIGINT.
pub const EXIT_INTERRUPTED: u8 = 130;
/// After SIGTERM.
pub const EXIT_TERMINATED: u8 = 143;

/// Variables of that prefix that are no flag: the instruction set that is forced, where the test-suite finds MNIST,
/// and the place at which it has a process die.
const OTHER_VARIABLES: [&str; 3] =
    [instruction_set::VARIABLE, "LOCKSTEP_DATA", lockstep_worker::crash::VARIABLE];

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
enum Command {
    /// Download, verify or look at the training data
    Data(DataArguments),
    /// Recompute steps of a run and compare them with its log
    Verify(VerifyArguments),
    /// Write a run's model for PyTorch, ONNX or TensorFlow.js
    Export(export::Arguments),
    /// Measure a model on the test set: loss, accuracy, precision and recall of each digit
    Evaluate(evaluate::Arguments),
    /// Say which digit is drawn in an image
    Predict(predict::Arguments),
    /// Show a run that is over, or was interrupted, as the dashboard shows one that is under way
    Show(ShowArguments),
    /// Put runs side by side: settings, results, curves, and the step at which their bits part
    Compare(compare::Arguments),
    /// Write the report of a run that is over, or was interrupted, again: one page without a server
    Report(report::Arguments),
    /// Train while processes are killed, stopped, slowed and cut off, and compare the bits
    Chaos(crate::chaos::Arguments),
    /// Measure how fast this program is on this machine
    #[command(subcommand)]
    Bench(Bench),
    /// Run as a worker; the coordinator starts its local workers this way
    #[command(hide = true)]
    Worker(lockstep_worker::cli::Arguments),
}

#[derive(Args)]
struct DataArguments {
    #[command(subcommand)]
    command: DataCommand,
}

/// Which steps of which run to recompute.
#[derive(Args)]
struct VerifyArguments {
    /// Folder of the run
    #[arg(value_name = "RUN_DIR")]
    run_dir: PathBuf,
    /// First step to recompute
    #[arg(long, value_name = "STEP", default_value_t = 1, allow_negative_numbers = true)]
    #[arg(value_parser = value_parser!(u64).range(1..))]
    from: u64,
    /// Last step to recompute [default: the last one that the run has got to]
    #[arg(long, value_name = "STEP", allow_negative_numbers = true)]
    #[arg(value_parser = value_parser!(u64).range(1..))]
    to: Option<u64>,
    /// Folder of the data [default: where the run had them]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Threads to compute with [default: processors]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    #[arg(value_parser = value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
}

/// Which run to show, and where.
#[derive(Args)]
struct ShowArguments {
    /// Folder of the run
    #[arg(value_name = "RUN_DIR")]
    run_dir: PathBuf,
    /// Where the page is served; port 0 takes a free one
    #[arg(long, env = "LOCKSTEP_DASHBOARD", value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    #[arg(value_parser = address::parse)]
    dashboard: SocketAddr,
    /// A name of yours by which a browser or proxy asks for the page; several with commas
    #[arg(long, env = "LOCKSTEP_DASHBOARD_HOST", value_name = "NAME", value_delimiter = ',')]
    dashboard_host: Vec<HostName>,
    /// Allow --dashboard on an address that other machines reach
    #[arg(long, env = "LOCKSTEP_INSECURE")]
    insecure: bool,
    /// Folder of the data, for the test digits [default: where the run had them]
    #[arg(long, env = "LOCKSTEP_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Work on the training data.
#[derive(Clone, Debug, Eq, PartialEq, Subcommand)]
pub enum DataCommand {
    /// Download MNIST from its public mirrors and verify it
    Download {
        /// Folder to put the files into [default: the cache folder]
        #[arg(long, env = "LOCKSTEP_DATA_DIR", value_name = "DIR")]
        data_dir: Option<PathBuf>,
    },
    /// Check that the four MNIST files are complete, and compare their SHA-256
    Verify {
        /// Folder of the files [default: --data-dir, else the cache folder]
        #[arg(value_name = "DIR", env = "LOCKSTEP_DATA_DIR")]
        data_dir: Option<PathBuf>,
    },
    /// Draw 100 training images as one PNG
    Picture {
        /// File to write
        #[arg(long, value_name = "FILE.png")]
        out: PathBuf,
        /// Which images
        #[arg(long, value_name = "NAME", default_value = "digits")]
        dataset: PictureDataset,
        /// Folder of the MNIST files [default: the cache folder]
        #[arg(long, env = "LOCKSTEP_DATA_DIR", value_name = "DIR")]
        data_dir: Option<PathBuf>,
    },
}

/// Which images `data picture` draws.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum PictureDataset {
    /// Digits generated by the program itself
    Digits,
    /// MNIST
    Mnist,
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
    /// Work on the training data.
    Data(DataCommand),
    /// Recompute steps of a run and compare them with what its directory says.
    Verify(verify::Request),
    /// Write a model for another program.
    Export(export::Arguments),
    /// Measure a model on a test set.
    Evaluate(evaluate::Arguments),
    /// Classify images.
    Predict(predict::Arguments),
    /// Show a run from its files.
    Show {
        /// Folder of the run; whether there is one is not looked at.
        run_dir: PathBuf,
        /// Where the page is served.
        dashboard: SocketAddr,
        /// Names by which it may be asked besides its own.
        dashboard_hosts: Vec<HostName>,
        /// Folder of the data.
        data_dir: Option<PathBuf>,
    },
    /// Put runs side by side.
    Compare(compare::Arguments),
    /// Write the report of a run from its files.
    Report(report::Arguments),
    /// Train under faults.
    Chaos(crate::chaos::Arguments),
    /// Measure.
    Bench(Bench),
    /// Be a worker.
    Worker(lockstep_worker::cli::Arguments),
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
        /// The variables that have a say.
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
        Some(Command::Data(data)) => Invocation::Data(data.command),
        Some(Command::Verify(arguments)) => verify_request(arguments)?,
        Some(Command::Export(arguments)) => Invocation::Export(arguments),
        Some(Command::Evaluate(arguments)) => Invocation::Evaluate(arguments),
        Some(Command::Predict(arguments)) => Invocation::Predict(arguments),
        Some(Command::Show(arguments)) => show(arguments)?,
        Some(Command::Compare(arguments)) => Invocation::Compare(arguments),
        Some(Command::Report(arguments)) => Invocation::Report(arguments),
        Some(Command::Chaos(arguments)) => Invocation::Chaos(arguments),
        Some(Command::Bench(bench)) => Invocation::Bench(bench),
        Some(Command::Worker(worker)) => Invocation::Worker(worker),
        None => Invocation::Train(Box::new(Settings::resolve(&cli.train, matches, processors())?)),
    })
}

/// The settings that the run in `run_dir` would go on with if nobody asked for others, whatever the environment says.
///
/// # Errors
///
/// [`UsageError`], if there is no run, or its `config.toml` is none.
pub fn settings_of_run(run_dir: &Path) -> Result<Settings, UsageError> {
    let deaf = variables::without(command(), &|_| false);
    let arguments = [OsStr::new("coordinator"), OsStr::new("--resume"), run_dir.as_os_str()];
    let matches = deaf.try_get_matches_from(arguments)?;
    let cli = Cli::from_arg_matches(&matches)?;
    Settings::resolve(&cli.train, &matches, processors())
        .map_err(|error| UsageError::Settings { error: error.into(), variables: Variables::default() })
}

fn verify_request(arguments: VerifyArguments) -> Result<Invocation, SettingsError> {
    let VerifyArguments { run_dir, from, to, data_dir, threads } = arguments;
    match to {
        Some(to) if to < from => Err(SettingsError::StepsReversed { from, to }),
        _ => {
            let threads = threads.and_then(NonZeroU32::new).unwrap_or_else(processors);
            Ok(Invocation::Verify(verify::Request { run_dir, data_dir, from, to, threads }))
        }
    }
}

fn show(arguments: ShowArguments) -> Result<Invocation, SettingsError> {
    let ShowArguments { run_dir, dashboard, dashboard_host, insecure, data_dir } = arguments;
    Settings::check_dashboard(dashboard, insecure)?;
    Ok(Invocation::Show { run_dir, dashboard, dashboard_hosts: dashboard_host, data_dir })
}

/// An error and its causes in one line; some errors have named their cause already.
pub fn sentence(error: &anyhow::Error) -> String {
    error.chain().skip(1).map(ToString::to_string).fold(error.to_string(), |sentence, cause| {
        if sentence.contains(&cause) { sentence } else { format!("{sentence}: {cause}") }
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

fn processors() -> NonZeroU32 {
    thread::available_parallelism()
        .ok()
        .and_then(|processors| NonZeroU32::try_from(processors).ok())
        .unwrap_or(NonZeroU32::MIN)
}

#[cfg(test)]
mod tests;

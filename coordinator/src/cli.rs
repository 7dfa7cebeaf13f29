//! The command line of `coordinator`: flags, environment variables, subcommands, help texts and exit codes.
//!
//! Turns arguments into an [`Invocation`], or into an error that says what to type instead. What a value may be is
//! decided in `settings`; nothing here acts on anything.

use std::{
    ffi::OsString,
    io::{self, Write},
    net::SocketAddr,
    num::NonZeroU32,
    path::PathBuf,
    thread,
};

use clap::{
    ArgAction, Args, Command as ClapCommand, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum,
    builder::BoolishValueParser,
};

use crate::settings::{DatasetChoice, Settings, SettingsError, TokenText, nearest::nearest};

/// The run is done.
pub const EXIT_DONE: u8 = 0;
/// Data, input, output or divergence.
pub const EXIT_FAILED: u8 = 1;
/// Usage, flags or configuration.
pub const EXIT_USAGE: u8 = 2;
/// All workers are lost; another attempt may succeed (`EX_TEMPFAIL`).
pub const EXIT_WORKERS_LOST: u8 = 75;
/// After SIGINT.
pub const EXIT_INTERRUPTED: u8 = 130;
/// After SIGTERM.
pub const EXIT_TERMINATED: u8 = 143;

/// Prefix of the environment variables that are flags.
const VARIABLE_PREFIX: &str = "LOCKSTEP_";

/// Variables of that prefix that are no flag: where the test-suite finds MNIST.
const OTHER_VARIABLES: [&str; 1] = ["LOCKSTEP_DATA"];

const EXAMPLES: &str = "\
Examples:
  coordinator --workers 4                      train with four local workers
  coordinator --dataset digits --epochs 2      train on generated digits, no download
  coordinator --json > summary.json            the summary for programs
  coordinator --config runs/OLD/config.toml    train the same again
  coordinator --external --workers 2 --listen 0.0.0.0:29400 --insecure
                                               wait for two workers on other machines, each:
                                               worker --coordinator http://HOST:29400
                                               (with the same LOCKSTEP_TOKEN here and there)

Every flag is also an environment variable (--batch-size is LOCKSTEP_BATCH_SIZE) and a key of the
configuration file (batch-size = 64). A flag beats the environment, which beats the file.

Exit codes: 0 done, 1 failed, 2 wrong usage, 75 workers lost (try again), 130/143 interrupted.";

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

/// The flags of a training run, unchecked, before the configuration file.
#[derive(Args)]
pub(crate) struct TrainArguments {
    /// Worker processes to start here; with --external, workers to wait for
    #[arg(long, env = "LOCKSTEP_WORKERS", value_name = "N", default_value_t = 4)]
    #[arg(help_heading = "Workers")]
    pub workers: u32,

    /// Threads of each worker started here [default: processors / workers]
    #[arg(long, env = "LOCKSTEP_THREADS_PER_WORKER", value_name = "N", help_heading = "Workers")]
    pub threads_per_worker: Option<u32>,

    /// Start no workers; they join with `worker --coordinator http://HOST:PORT`
    #[arg(long, env = "LOCKSTEP_EXTERNAL", help_heading = "Workers")]
    pub external: bool,

    /// Where workers connect; port 0 takes a free one
    #[arg(long, env = "LOCKSTEP_LISTEN", value_name = "IP:PORT", default_value = "127.0.0.1:0")]
    #[arg(help_heading = "Workers")]
    pub listen: SocketAddr,

    /// Allow --listen on an address that other machines reach, without encryption
    #[arg(long, env = "LOCKSTEP_INSECURE", help_heading = "Workers")]
    pub insecure: bool,

    /// Secret that external workers must show to join; better set as LOCKSTEP_TOKEN [default: a random one]
    #[arg(
        long,
        env = "LOCKSTEP_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true,
        help_heading = "Workers"
    )]
    pub token: Option<TokenText>,

    /// What to train on
    #[arg(
        long,
        env = "LOCKSTEP_DATASET",
        value_name = "NAME",
        default_value = "auto",
        help_heading = "Data"
    )]
    pub dataset: DatasetChoice,

    /// Folder of the four MNIST files, plain or .gz [default: the cache folder]
    #[arg(long, env = "LOCKSTEP_DATA_DIR", value_name = "DIR", help_heading = "Data")]
    pub data_dir: Option<PathBuf>,

    /// Take only the first N training images, before the split [default: all]
    #[arg(long, env = "LOCKSTEP_EXAMPLES", value_name = "N", help_heading = "Data")]
    pub examples: Option<u32>,

    /// Share of the training images held back for validation, 0 to 0.9
    #[arg(long, env = "LOCKSTEP_VALIDATION_SPLIT", value_name = "SHARE", default_value_t = 0.15)]
    #[arg(help_heading = "Data")]
    pub validation_split: f64,

    /// Never try the network
    #[arg(long, env = "LOCKSTEP_OFFLINE", help_heading = "Data")]
    pub offline: bool,

    /// Passes over the training images
    #[arg(long, env = "LOCKSTEP_EPOCHS", value_name = "N", default_value_t = 10, help_heading = "Training")]
    pub epochs: u32,

    /// End after N steps if the epochs do not end before [default: none]
    #[arg(long, env = "LOCKSTEP_MAX_STEPS", value_name = "N", help_heading = "Training")]
    pub max_steps: Option<u64>,

    /// Examples of one step
    #[arg(
        long,
        env = "LOCKSTEP_BATCH_SIZE",
        value_name = "N",
        default_value_t = 64,
        help_heading = "Training"
    )]
    pub batch_size: u32,

    /// Step size of SGD, above 0
    #[arg(long, env = "LOCKSTEP_LEARNING_RATE", value_name = "RATE", default_value_t = 0.01)]
    #[arg(help_heading = "Training")]
    pub learning_rate: f32,

    /// Seed of the initial weights and of the order of examples
    #[arg(long, env = "LOCKSTEP_SEED", value_name = "N", default_value_t = 42, help_heading = "Training")]
    pub seed: u64,

    /// Parts a batch is cut into, a power of two; more workers than parts do not help
    #[arg(
        long,
        env = "LOCKSTEP_MICRO_SHARDS",
        value_name = "N",
        default_value_t = 16,
        help_heading = "Training"
    )]
    pub micro_shards: u32,

    /// New folder for everything the run writes [default: a new one under runs/]
    #[arg(long, env = "LOCKSTEP_RUN_DIR", value_name = "DIR", help_heading = "Output")]
    pub run_dir: Option<PathBuf>,

    /// Print the summary as one JSON object on standard output, and nothing else there
    #[arg(long, env = "LOCKSTEP_JSON", help_heading = "Output")]
    pub json: bool,

    /// Write no metrics.jsonl and no events.jsonl
    #[arg(long, env = "LOCKSTEP_NO_METRICS", help_heading = "Output")]
    pub no_metrics: bool,

    /// Show no progress bar, only a line per epoch
    #[arg(long, env = "LOCKSTEP_NO_PROGRESS", help_heading = "Output")]
    pub no_progress: bool,

    /// Read settings from a TOML file, such as the config.toml of an earlier run
    #[arg(long, env = "LOCKSTEP_CONFIG", value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
}

/// What to do instead of training.
#[derive(Subcommand)]
enum Command {
    /// Download, verify or look at the training data
    Data(DataArguments),
    /// Run as a worker; the coordinator starts its local workers this way
    #[command(hide = true)]
    Worker(lockstep_worker::cli::Arguments),
}

#[derive(Args)]
struct DataArguments {
    #[command(subcommand)]
    command: DataCommand,
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

/// What the user asked for.
pub enum Invocation {
    /// Train.
    Train(Box<Settings>),
    /// Work on the training data.
    Data(DataCommand),
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
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

impl UsageError {
    /// Shows the error on standard error (help and version on standard output) and returns the exit code.
    pub fn report(&self) -> u8 {
        match self {
            Self::Arguments(error) => lockstep_worker::cli::report(error),
            Self::Settings(error) => {
                // A stream that is gone changes nothing about the exit code, and leaves nowhere to report it.
                let _ = writeln!(io::stderr(), "error: {error}");
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
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Invocation, UsageError> {
    let matches = command().try_get_matches_from(arguments)?;
    let cli = Cli::from_arg_matches(&matches)?;
    Ok(match cli.command {
        Some(Command::Data(data)) => Invocation::Data(data.command),
        Some(Command::Worker(worker)) => Invocation::Worker(worker),
        None => Invocation::Train(Box::new(Settings::resolve(&cli.train, &matches, processors())?)),
    })
}

/// The command as the parser knows it, for completions and manual pages as well.
pub fn command() -> ClapCommand {
    let switches: Vec<_> = Cli::command()
        .get_arguments()
        .filter(|argument| matches!(argument.get_action(), ArgAction::SetTrue))
        .map(|argument| argument.get_id().clone())
        .collect();
    // A negative number is a wrong value, which names its flag, and not an unknown flag.
    let command = Cli::command().mut_args(|argument| match argument.get_action() {
        ArgAction::Set => argument.allow_negative_numbers(true),
        _ => argument,
    });
    switches.into_iter().fold(command, |command, id| command.mut_arg(id, switch))
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
        .filter(|name| name.starts_with(VARIABLE_PREFIX) && !known.contains(&name.as_str()))
        .collect();
    unknown.sort();
    unknown
        .into_iter()
        .map(|name| match nearest(&name[VARIABLE_PREFIX.len()..], known.iter().map(|known| &known[VARIABLE_PREFIX.len()..])) {
            Some(nearest) => format!(
                "the environment variable {name} is unknown and ignored; did you mean {VARIABLE_PREFIX}{nearest}?"
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
mod tests {
    use super::*;

    fn parsed(arguments: &[&str]) -> Result<Invocation, UsageError> {
        parse(["coordinator"].iter().chain(arguments).map(OsString::from))
    }

    fn refusal(arguments: &[&str]) -> String {
        match parsed(arguments) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{arguments:?} was accepted"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        command().debug_assert();
    }

    #[test]
    fn every_flag_is_an_environment_variable() {
        for argument in command().get_arguments() {
            let flag = argument.get_long().unwrap();
            if !["help", "version"].contains(&flag) {
                let expected = format!("{VARIABLE_PREFIX}{}", flag.to_uppercase().replace('-', "_"));
                assert_eq!(argument.get_env().unwrap().to_str(), Some(expected.as_str()));
            }
        }
    }

    #[test]
    fn help_is_for_users() {
        let help = refusal(&["--help"]);
        for part in [
            "[default: 4]",
            "[default: auto]",
            "[default: processors / workers]",
            "[env: LOCKSTEP_BATCH_SIZE=]",
            "Examples:",
            "Exit codes:",
            "--external[=<BOOL>]",
        ] {
            assert!(help.contains(part), "{part} is not in\n{help}");
        }
        assert!(!help.contains("Run as a worker"), "the worker subcommand is hidden:\n{help}");
        assert_eq!(refusal(&["--version"]), format!("coordinator {}\n", env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn switches_can_be_turned_off_again() {
        for (arguments, expected) in
            [(&["--json"][..], true), (&["--json=true"], true), (&["--json=off"], false), (&[], false)]
        {
            let Ok(Invocation::Train(settings)) = parsed(arguments) else { panic!("{arguments:?}") };
            assert_eq!(settings.json, expected, "{arguments:?}");
        }
        assert!(refusal(&["--json", "false"]).contains("'false'"));
    }

    #[test]
    fn data_subcommands() {
        let data = |arguments: &[&str]| match parsed(arguments) {
            Ok(Invocation::Data(command)) => command,
            _ => panic!("{arguments:?}"),
        };
        assert_eq!(data(&["data", "download"]), DataCommand::Download { data_dir: None });
        assert_eq!(
            data(&["data", "download", "--data-dir", "d"]),
            DataCommand::Download { data_dir: Some("d".into()) }
        );
        assert_eq!(data(&["data", "verify", "d"]), DataCommand::Verify { data_dir: Some("d".into()) });
        assert_eq!(
            data(&["data", "picture", "--out", "p.png"]),
            DataCommand::Picture { out: "p.png".into(), dataset: PictureDataset::Digits, data_dir: None }
        );
        assert_eq!(
            data(&["data", "picture", "--out", "p.png", "--dataset", "mnist", "--data-dir", "d"]),
            DataCommand::Picture {
                out: "p.png".into(),
                dataset: PictureDataset::Mnist,
                data_dir: Some("d".into())
            }
        );
        assert!(refusal(&["data", "picture"]).contains("--out"));
    }

    #[test]
    fn flags_of_a_training_run_do_not_go_with_a_subcommand() {
        assert!(refusal(&["--workers", "2", "data", "verify"]).contains("cannot be used with"));
    }

    #[test]
    fn the_worker_subcommand_takes_the_arguments_of_the_worker() {
        let arguments =
            ["worker", "--coordinator", "http://127.0.0.1:1", "--threads", "2", "--name", "local-0"];
        assert!(matches!(parsed(&arguments), Ok(Invocation::Worker(_))));
    }

    #[test]
    fn errors_have_exit_code_2_and_help_has_0() {
        let code = |arguments: &[&str]| parsed(arguments).err().unwrap().report();
        assert_eq!(code(&["--workers", "0"]), EXIT_USAGE);
        assert_eq!(code(&["--wrokers", "4"]), EXIT_USAGE);
        assert_eq!(code(&["--version"]), EXIT_DONE);
    }

    #[test]
    fn unknown_variables_are_named_with_the_nearest_known_one() {
        let names =
            ["LOCKSTEP_EPOCH", "LOCKSTEP_DATA", "LOCKSTEP_DATA_DIR", "LOCKSTEP_MOMENTUM", "HOME", "EPOCH"];
        assert_eq!(
            unknown_variables(names.map(OsString::from)),
            [
                "the environment variable LOCKSTEP_EPOCH is unknown and ignored; did you mean LOCKSTEP_EPOCHS?",
                "the environment variable LOCKSTEP_MOMENTUM is unknown and ignored",
            ]
        );
    }
}

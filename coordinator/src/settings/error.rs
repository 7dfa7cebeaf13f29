//! What a user can get wrong in flags, environment and configuration file: each on one line, with the cause and what
//! to do about it. The exit code is always 2.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use lockstep_proto::TokenError;
use lockstep_run_directory::RunDirectoryError;
use lockstep_run_directory::identity::OtherIdentity;
use lockstep_run_directory::micro_shards::MicroShardsError;
use lockstep_run_directory::path_error::reason;

use super::{Origin, Period};

/// A setting, or several together, that no run can have.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A count outside its bounds.
    #[error("--{flag} is {value}; it must be from {least} to {most}")]
    OutOfRange {
        /// The flag, without its dashes.
        flag: &'static str,
        /// What was given.
        value: u64,
        /// The least value allowed.
        least: u64,
        /// The greatest value allowed.
        most: u64,
    },
    /// A count that must not be zero.
    #[error("--{flag} is 0; it must be at least 1")]
    Zero {
        /// The flag, without its dashes.
        flag: &'static str,
    },
    /// A length of time outside its bounds.
    #[error("--{flag} is {}; it must be from {} to {}", Period(*value), Period(*least), Period(*most))]
    PeriodOutOfRange {
        /// The flag, without its dashes.
        flag: &'static str,
        /// What was given.
        value: Duration,
        /// The least value allowed.
        least: Duration,
        /// The greatest value allowed.
        most: Duration,
    },
    /// A learning rate that is not finite and positive.
    #[error("--learning-rate is {value}; it must be a finite number above 0, for example 0.01")]
    LearningRate {
        /// What was given.
        value: f32,
    },
    /// A validation split outside its bounds.
    #[error("--validation-split is {value}; it must be from 0 to 0.9, for example 0.15")]
    ValidationSplit {
        /// What was given.
        value: f64,
    },
    /// A number of micro-shards that cannot be the leaves of the reduction tree.
    #[error(transparent)]
    MicroShards(#[from] MicroShardsError),
    /// An address that other machines reach, without the consent that this takes.
    #[error(
        "--listen {address} can be reached from other machines and nothing on the wire is encrypted; \
         add --insecure if you trust that network, or listen on 127.0.0.1"
    )]
    OffLoopback {
        /// The address given.
        address: SocketAddr,
    },
    /// The same of the page.
    #[error(
        "--dashboard {address} can be reached from other machines, and whoever reaches it sees the run; add --insecure \
         if you trust that network, or serve on 127.0.0.1"
    )]
    DashboardOffLoopback {
        /// The address given.
        address: SocketAddr,
    },
    /// A dashboard that is to stay, and not to be.
    #[error("--stay keeps the dashboard after the run and --no-dashboard serves none; leave one of them out")]
    NothingStays,
    /// A join token that is none. The message never holds what was given.
    #[error("--token: {0}")]
    Token(#[from] TokenError),
    /// A micro-shard that does not fit one message.
    #[error(
        "a micro-shard of {examples} examples (--batch-size {batch_size} over --micro-shards {micro_shards}) has \
         {bytes} bytes of pixels and labels, more than the {limit} of one message; {remedy}"
    )]
    MicroShardTooLarge {
        /// `--batch-size`.
        batch_size: u32,
        /// `--micro-shards`.
        micro_shards: u32,
        /// Examples of the largest micro-shard.
        examples: u64,
        /// Their size.
        bytes: u64,
        /// The greatest size allowed.
        limit: u64,
        /// Which flag to change, and to what.
        remedy: String,
    },
    /// More examples asked for than there are.
    #[error(
        "--examples is {examples} but {origin} has only {available}; lower it, or leave it out for all of them"
    )]
    TooManyExamples {
        /// `--examples`.
        examples: usize,
        /// Examples there are.
        available: usize,
        /// The training file, or the generator of digits.
        origin: String,
    },
    /// Nothing is left to train on.
    #[error(
        "--validation-split {split} leaves no example to train on; lower it, or take more examples (--examples)"
    )]
    NothingToTrainOn {
        /// `--validation-split`.
        split: f64,
    },
    /// A batch that no epoch can fill.
    #[error(
        "--batch-size is {batch_size} but there are only {available} training examples; \
         lower it to {available} or less, or take more examples (--examples)"
    )]
    BatchBeyondTrainingSet {
        /// `--batch-size`.
        batch_size: u32,
        /// Examples to train on.
        available: usize,
    },
    /// The configuration file cannot be read.
    #[error("cannot read the configuration file {} (--config): {}", path.display(), reason(path, source))]
    ConfigUnreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The configuration file is no TOML, or a value in it has the wrong type.
    #[error("configuration file {}, line {line}: {message}", path.display())]
    ConfigInvalid {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The reason, on one line.
        message: String,
    },
    /// The configuration file has a key that no flag has.
    #[error(
        "configuration file {}: unknown key '{key}'{}",
        path.display(),
        nearest.as_ref().map(|nearest| format!("; did you mean '{nearest}'?")).unwrap_or_else(
            || "; keys are the flags of `coordinator --help` without their dashes".to_owned()
        )
    )]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The known key it may have been meant to be.
        nearest: Option<String>,
    },
    /// Two flags, or environment variables, of which a run can have only one.
    #[error("{first} and {second} cannot be given together: {reason}; {}", second.remedy())]
    Conflict {
        /// The one.
        first: Origin,
        /// The other.
        second: Origin,
        /// Why not.
        reason: &'static str,
    },
    /// There is no run to resume.
    #[error(transparent)]
    RunDirectory(#[from] RunDirectoryError),
    /// The `config.toml` of a run does not say which run it is.
    #[error(
        "the run of {} cannot be resumed: {message}; start it anew with --config {}",
        path.display(),
        path.display()
    )]
    NotResumable {
        /// The file.
        path: PathBuf,
        /// What is missing or wrong, on one line.
        message: String,
    },
    /// A setting that decides the bits, and is not what the run was begun with.
    #[error(
        "{origin} is {value} but the run in {} was begun with {stored}, which decides its bits; {}, or start another \
         run with --run-dir instead",
        directory.display(),
        origin.remedy()
    )]
    IdentityChanged {
        /// Who asks for it.
        origin: Origin,
        /// What was asked for.
        value: String,
        /// What the run has.
        stored: String,
        /// The run's directory.
        directory: PathBuf,
    },
    /// A run cannot be made shorter.
    #[error(
        "{origin} is {value} but the run in {} has {stored} epochs, and may only get more; {}, or end it earlier with \
         --max-steps",
        directory.display(),
        origin.remedy()
    )]
    FewerEpochs {
        /// Who asks for it.
        origin: Origin,
        /// What was asked for.
        value: u32,
        /// What the run has.
        stored: u32,
        /// The run's directory.
        directory: PathBuf,
    },
    /// Program or data are not those of the run.
    #[error(transparent)]
    OtherIdentity(#[from] OtherIdentity),
    /// A range of steps that has none.
    #[error("--from is {from} but --to is {to}; the first step must not come after the last one")]
    StepsReversed {
        /// `--from`.
        from: u64,
        /// `--to`.
        to: u64,
    },
}

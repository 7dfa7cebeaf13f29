//! The settings of a run: flags, environment, configuration file and defaults, merged and checked once.
//!
//! Owns the order (flag, then environment, then file, then default) and every rule about what a run can have; past
//! this point no setting can be wrong. Opens nothing but the configuration file and knows nothing of data or sockets.

pub(crate) mod address;
mod config_file;
mod error;
mod given;
mod identity;
pub(crate) mod nearest;
mod resume;
mod values;

use std::{
    net::SocketAddr,
    num::{NonZeroU32, NonZeroU64},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::ArgMatches;
use lockstep_proto::Token;
pub(crate) use lockstep_worker::Period;
use serde::Serialize;

use crate::cli::TrainArguments;
pub use crate::dashboard::HostName;
use config_file::ConfigFile;
pub(crate) use config_file::read_configuration;
pub use error::SettingsError;
use given::Given;
pub use given::Origin;
pub use identity::{RunIdentity, StoredRun};
use resume::Base;
pub use resume::Resume;
use values::MAX_MICRO_SHARDS;
pub(crate) use values::TokenText;
pub use values::{DatasetChoice, LearningRate, MicroShards, ValidationSplit};

/// More local processes than this is a mistake, and each costs a stream, buffers and a thread pool.
const MAX_WORKERS: u32 = 1024;

/// More threads in one process than this is a mistake.
const MAX_THREADS_PER_WORKER: u32 = 1024;

/// A micro-shard travels in one message, whose limit on both ends leaves room for this much data.
const MAX_MICRO_SHARD_BYTES: u64 = 48 << 20;

/// One example on the wire: 28x28 pixels and a label.
const BYTES_PER_EXAMPLE: u64 = 28 * 28 + 1;

/// A shorter silence is no sign of anything on a busy machine; a longer one would be found by nobody.
const DEADLINES: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_mins(10);

/// From at once to practically never, without an end of time to overflow.
const PERIODS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(365 * 24);

/// Everything a run is told, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Local workers to spawn, or external ones to wait for; 1 to 1024.
    pub workers: NonZeroU32,
    /// Whether workers are started by somebody else.
    pub external: bool,
    /// Where workers connect; off loopback only with `insecure`.
    pub listen: SocketAddr,
    /// Whether an unencrypted port off loopback is wanted.
    pub insecure: bool,
    /// A worker that says nothing for so long is taken for gone; 50 ms to 10 minutes.
    pub deadline: Duration,
    /// How long a run without any worker waits for one.
    pub patience: Duration,
    /// How often a local worker that dies is started again in a row.
    pub max_restarts: u32,
    /// The data set asked for; of a run that is resumed, the one that it has.
    pub dataset: DatasetChoice,
    /// Where MNIST lies; the cache folder if absent.
    pub data_dir: Option<PathBuf>,
    /// Passes over the training data.
    pub epochs: NonZeroU32,
    /// Examples of a batch; a micro-shard of it fits one message.
    pub batch_size: NonZeroU32,
    /// Learning rate of SGD.
    pub learning_rate: LearningRate,
    /// Seed of initial weights and order of examples.
    pub seed: u64,
    /// Share held back for validation.
    pub validation_split: ValidationSplit,
    /// Leaves of the reduction tree.
    pub micro_shards: MicroShards,
    /// Only the first so many training images; all if absent.
    pub examples: Option<NonZeroU32>,
    /// End after so many steps, if the epochs do not end before.
    pub max_steps: Option<NonZeroU64>,
    /// A safetensors file to take the initial weights from; they are drawn from the seed if absent. Of a run that is
    /// resumed only what flag or environment say: it keeps a copy.
    pub init: Option<PathBuf>,
    /// Never try the network.
    pub offline: bool,
    /// Threads of each spawned worker; external ones choose their own.
    pub threads_per_worker: NonZeroU32,
    /// Whether somebody asked for that many; else they follow from the processors here, and another machine has others.
    pub threads_asked_for: bool,
    /// Where the run writes; a new folder under `runs/` if absent. With `resume`, the directory of that run.
    pub run_dir: Option<PathBuf>,
    /// The run to go on with; a new one if absent.
    pub resume: Option<Resume>,
    /// Time between two checkpoints; 0 is one after every step.
    pub checkpoint_every: Duration,
    /// Print the summary as JSON.
    pub json: bool,
    /// Join token of external workers; a random one if absent.
    pub token: Option<Token>,
    /// Write `metrics.jsonl` and `events.jsonl`.
    pub metrics: bool,
    /// Write event files for TensorBoard.
    pub tensorboard: bool,
    /// Write a timeline to this new file.
    pub timeline: Option<PathBuf>,
    /// Steps from one in the timeline to the next.
    pub timeline_every: NonZeroU64,
    /// Show a progress bar where there is a terminal.
    pub progress: bool,
    /// Where the dashboard is served; off loopback only with `insecure`. None is if absent.
    pub dashboard: Option<SocketAddr>,
    /// Names by which the dashboard may be asked besides its own.
    pub dashboard_hosts: Vec<HostName>,
    /// Keep the dashboard after the run.
    pub stay: bool,
}

impl Settings {
    /// Merges `arguments` (as parsed into `matches`, from flags and environment) with the configuration file that they
    /// name, if any, and checks the result. `cores` is the number of processors there are.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub(crate) fn resolve(
        arguments: &TrainArguments,
        matches: &ArgMatches,
        cores: NonZeroU32,
    ) -> Result<Self, SettingsError> {
        let given = Given(matches);
        let base = Base::find(arguments, &given)?;
        let epochs = base.file.epochs;
        let settings = Self::merge(arguments, &given, base, cores)?;
        settings.check()?;
        if let Some(resume) = &settings.resume {
            resume.check(&settings, epochs, &given)?;
        }
        Ok(settings)
    }

    /// Each setting from the first that gives it, held against its own bounds.
    fn merge(
        arguments: &TrainArguments,
        given: &Given,
        base: Base,
        cores: NonZeroU32,
    ) -> Result<Self, SettingsError> {
        let run_dir = base.run_dir();
        let Base { file, resume, .. } = base;
        let dataset = given.first("dataset", arguments.dataset, file.dataset);
        let workers = given.first("workers", arguments.workers, file.workers);
        let external = given.first("external", arguments.external, file.external);
        let threads =
            given.first_some("threads_per_worker", arguments.threads_per_worker, file.threads_per_worker);

        let workers = counted("workers", workers, MAX_WORKERS)?;
        let threads_per_worker = match threads {
            Some(threads) => counted("threads-per-worker", threads, MAX_THREADS_PER_WORKER)?,
            None => cores_per_worker(cores, workers),
        };
        Ok(Self {
            workers,
            external,
            threads_per_worker,
            threads_asked_for: threads.is_some(),
            listen: given.first("listen", arguments.listen, file.listen),
            insecure: given.first("insecure", arguments.insecure, file.insecure),
            deadline: period(given, "deadline", arguments.deadline, file.deadline, &DEADLINES)?,
            patience: period(given, "patience", arguments.patience, file.patience, &PERIODS)?,
            max_restarts: given.first("max_restarts", arguments.max_restarts, file.max_restarts),
            dataset: resume.as_ref().map_or(dataset, |resume| resume.dataset(dataset)),
            data_dir: given.first_some("data_dir", arguments.data_dir.clone(), file.data_dir),
            epochs: positive("epochs", given.first("epochs", arguments.epochs, file.epochs))?,
            batch_size: positive(
                "batch-size",
                given.first("batch_size", arguments.batch_size, file.batch_size),
            )?,
            learning_rate: given
                .first("learning_rate", arguments.learning_rate, file.learning_rate)
                .try_into()?,
            seed: given.first("seed", arguments.seed, file.seed),
            validation_split: given
                .first("validation_split", arguments.validation_split, file.validation_split)
                .try_into()?,
            micro_shards: given
                .first("micro_shards", arguments.micro_shards, file.micro_shards)
                .try_into()?,
            examples: given
                .first_some("examples", arguments.examples, file.examples)
                .map(|examples| positive("examples", examples))
                .transpose()?,
            max_steps: given
                .first_some("max_steps", arguments.max_steps, file.max_steps)
                .map(|steps| NonZeroU64::new(steps).ok_or(SettingsError::Zero { flag: "max-steps" }))
                .transpose()?,
            init: given.first_some("init", arguments.init.clone(), file.init),
            offline: given.first("offline", arguments.offline, file.offline),
            run_dir: given.first_some("run_dir", arguments.run_dir.clone(), file.run_dir.or(run_dir)),
            resume,
            checkpoint_every: period(
                given,
                "checkpoint-every",
                arguments.checkpoint_every,
                file.checkpoint_every,
                &PERIODS,
            )?,
            json: given.first("json", arguments.json, file.json),
            token: given
                .first_some("token", arguments.token.clone(), file.token)
                .map(|text| Token::new(text.reveal()))
                .transpose()?,
            metrics: !given.first("no_metrics", arguments.no_metrics, file.no_metrics),
            tensorboard: !given.first("no_tensorboard", arguments.no_tensorboard, file.no_tensorboard),
            timeline: given.first_some("timeline", arguments.timeline.clone(), file.timeline),
            timeline_every: NonZeroU64::new(given.first(
                "timeline_every",
                arguments.timeline_every,
                file.timeline_every,
            ))
            .ok_or(SettingsError::Zero { flag: "timeline-every" })?,
            progress: !given.first("no_progress", arguments.no_progress, file.no_progress),
            dashboard: (!given.first("no_dashboard", arguments.no_dashboard, file.no_dashboard))
                .then(|| given.first("dashboard", arguments.dashboard, file.dashboard)),
            dashboard_hosts: given.first(
                "dashboard_host",
                arguments.dashboard_host.clone(),
                file.dashboard_host,
            ),
            stay: given.first("stay", arguments.stay, file.stay),
        })
    }

    /// Checks what only the data can tell: `train_examples` are left after the split.
    ///
    /// # Errors
    ///
    /// [`SettingsError::NothingToTrainOn`] or [`SettingsError::BatchBeyondTrainingSet`].
    pub fn check_against(&self, train_examples: usize) -> Result<(), SettingsError> {
        if train_examples == 0 {
            return Err(SettingsError::NothingToTrainOn { split: self.validation_split.get() });
        }
        if self.batch_size.get() as usize > train_examples {
            return Err(SettingsError::BatchBeyondTrainingSet {
                batch_size: self.batch_size.get(),
                available: train_examples,
            });
        }
        Ok(())
    }

    /// The text of `config.toml`: these settings under the names of the flags, and which run it is. Read with `--config`
    /// it starts the same run again, in a new run directory; with `--resume` that run goes on. It means the same from
    /// another folder and on another machine: what follows from this machine is not in it unless somebody asked for it,
    /// and paths do not depend on where one is.
    pub fn to_toml(&self, stored: &StoredRun) -> String {
        let file = ConfigFile {
            workers: Some(self.workers.get()),
            external: Some(self.external),
            listen: Some(self.listen),
            insecure: Some(self.insecure),
            deadline: Some(Period(self.deadline)),
            patience: Some(Period(self.patience)),
            max_restarts: Some(self.max_restarts),
            // The one that was really taken: the next run must not choose another one.
            dataset: Some(stored.dataset().unwrap_or(self.dataset)),
            data_dir: self.data_dir.as_deref().and_then(lasting),
            epochs: Some(self.epochs.get()),
            batch_size: Some(self.batch_size.get()),
            learning_rate: Some(self.learning_rate.get()),
            seed: Some(self.seed),
            validation_split: Some(self.validation_split.get()),
            micro_shards: Some(self.micro_shards.get()),
            examples: self.examples.map(NonZeroU32::get),
            max_steps: self.max_steps.map(NonZeroU64::get),
            // Relative, it lies beside the file.
            init: self.init.clone().filter(|path| path.to_str().is_some()),
            offline: Some(self.offline),
            checkpoint_every: Some(Period(self.checkpoint_every)),
            threads_per_worker: self.threads_asked_for.then_some(self.threads_per_worker.get()),
            json: Some(self.json),
            no_metrics: Some(!self.metrics),
            no_tensorboard: Some(!self.tensorboard),
            timeline_every: Some(self.timeline_every.get()),
            no_progress: Some(!self.progress),
            dashboard: self.dashboard,
            dashboard_host: Some(self.dashboard_hosts.clone()).filter(|hosts| !hosts.is_empty()),
            no_dashboard: Some(self.dashboard.is_none()),
            stay: Some(self.stay),
            ..ConfigFile::default()
        };
        format!(
            "# The settings of this run. `coordinator --config THIS_FILE` trains the same again, in a new run directory.\n\
             {}\n\
             {}",
            toml(&file),
            stored.to_toml()
        )
    }

    /// The rules that hold between settings.
    fn check(&self) -> Result<(), SettingsError> {
        if !self.listen.ip().to_canonical().is_loopback() && !self.insecure {
            return Err(SettingsError::OffLoopback { address: self.listen });
        }
        if let Some(address) = self.dashboard {
            Self::check_dashboard(address, self.insecure)?;
        }
        if self.stay && self.dashboard.is_none() {
            return Err(SettingsError::NothingStays);
        }
        self.check_micro_shard_fits_a_message()
    }

    /// A page off loopback takes consent.
    pub(crate) fn check_dashboard(address: SocketAddr, insecure: bool) -> Result<(), SettingsError> {
        if address.ip().to_canonical().is_loopback() || insecure {
            return Ok(());
        }
        Err(SettingsError::DashboardOffLoopback { address })
    }

    fn check_micro_shard_fits_a_message(&self) -> Result<(), SettingsError> {
        let (batch_size, micro_shards) = (self.batch_size.get(), self.micro_shards.get());
        let examples = u64::from(batch_size.div_ceil(micro_shards));
        if examples * BYTES_PER_EXAMPLE <= MAX_MICRO_SHARD_BYTES {
            return Ok(());
        }
        let fitting = MAX_MICRO_SHARD_BYTES / BYTES_PER_EXAMPLE;
        let needed = u64::from(batch_size).div_ceil(fitting).next_power_of_two();
        let remedy = if needed <= u64::from(MAX_MICRO_SHARDS) {
            format!("raise --micro-shards to {needed}")
        } else {
            let most = fitting * u64::from(MAX_MICRO_SHARDS);
            format!("set --micro-shards to {MAX_MICRO_SHARDS} and lower --batch-size to {most}")
        };
        Err(SettingsError::MicroShardTooLarge {
            batch_size,
            micro_shards,
            examples,
            bytes: examples * BYTES_PER_EXAMPLE,
            limit: MAX_MICRO_SHARD_BYTES,
            remedy,
        })
    }
}

/// The data that a run was trained on, as its `config.toml` at `path` has them: which, and where they lay.
///
/// # Errors
///
/// If the file cannot be read, or is no configuration.
pub fn data_of_run(
    path: &Path,
    stored: &StoredRun,
) -> Result<(DatasetChoice, Option<PathBuf>), SettingsError> {
    let file = ConfigFile::read(path)?;
    let choice = stored.dataset().or(file.dataset).unwrap_or(DatasetChoice::Auto);
    Ok((choice, file.data_dir.filter(|_| choice != DatasetChoice::Digits)))
}

/// A path that means the same from any folder. TOML is UTF-8: a path that is not can only be given as a flag.
fn lasting(path: &Path) -> Option<PathBuf> {
    // Without a folder to be in, nothing relative leads anywhere.
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    path.to_str().is_some().then_some(path)
}

fn positive(flag: &'static str, value: u32) -> Result<NonZeroU32, SettingsError> {
    NonZeroU32::new(value).ok_or(SettingsError::Zero { flag })
}

fn counted(flag: &'static str, value: u32, most: u32) -> Result<NonZeroU32, SettingsError> {
    NonZeroU32::new(value).filter(|count| count.get() <= most).ok_or(SettingsError::OutOfRange {
        flag,
        value: value.into(),
        least: 1,
        most: most.into(),
    })
}

fn period(
    given: &Given,
    flag: &'static str,
    argument: Period,
    file: Option<Period>,
    allowed: &RangeInclusive<Duration>,
) -> Result<Duration, SettingsError> {
    let Period(value) = given.first(&flag.replace('-', "_"), argument, file);
    if allowed.contains(&value) {
        return Ok(value);
    }
    Err(SettingsError::PeriodOutOfRange { flag, value, least: *allowed.start(), most: *allowed.end() })
}

fn cores_per_worker(cores: NonZeroU32, workers: NonZeroU32) -> NonZeroU32 {
    NonZeroU32::new((cores.get() / workers).min(MAX_THREADS_PER_WORKER)).unwrap_or(NonZeroU32::MIN)
}

fn toml(value: &impl Serialize) -> String {
    // Flat structs of numbers and UTF-8 strings: there is nothing in them that TOML could not express.
    toml::to_string(value).expect("settings are always expressible as TOML")
}

#[cfg(test)]
mod tests;

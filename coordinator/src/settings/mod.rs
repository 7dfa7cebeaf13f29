//! The settings of a run: flags, environment, configuration file and defaults, merged and checked once.
//!
//! Owns the order (flag, then environment, then file, then default) and every rule about what a run can have; past
//! this point no setting can be wrong.

pub(crate) mod address;
mod config_file;
mod error;
pub(crate) mod flags;
mod origin;
mod resume;
mod values;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::{NonZeroU32, NonZeroU64},
    ops::RangeInclusive,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

pub(crate) use lockstep_command_line::Period;
use lockstep_control::HEARTBEATS_PER_DEADLINE;
pub use lockstep_dashboard::HostName;
use lockstep_proto::{MAX_HEARTBEAT, Token};
use lockstep_run_directory::identity::{StoredIdentity, to_toml};
use lockstep_run_directory::micro_shards::{MAX_MICRO_SHARDS, MicroShards};

pub use error::SettingsError;
use flags::Flags;
pub use origin::Origin;
pub(crate) use origin::{Source, Sources};
pub use resume::Resume;
use resume::{Base, stored_dataset};
pub(crate) use values::TokenText;
pub use values::{DatasetChoice, LearningRate, ValidationSplit};

/// More local processes than this is a mistake, and each costs a stream, buffers and a thread pool.
const MAX_WORKERS: u32 = 1024;

/// More threads in one process than this is a mistake.
const MAX_THREADS_PER_WORKER: u32 = 1024;

/// A micro-shard travels in one message, whose limit on both ends leaves room for this much data.
const MAX_MICRO_SHARD_BYTES: u64 = 48 << 20;

/// One example on the wire: 28x28 pixels and a label.
const BYTES_PER_EXAMPLE: u64 = 28 * 28 + 1;

/// A longer deadline would have heartbeats that workers refuse; a silence of 10 minutes is found by nobody anyway.
const MAX_DEADLINE: Duration = Duration::from_secs(MAX_HEARTBEAT.as_secs() * HEARTBEATS_PER_DEADLINE as u64);

/// A shorter silence is no sign of anything on a busy machine.
const DEADLINES: RangeInclusive<Duration> = Duration::from_millis(50)..=MAX_DEADLINE;

/// From at once to practically never, without an end of time to overflow.
const PERIODS: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(365 * 24);

/// What somebody asks for, unchecked: flags, variables of the environment, and the files that they name.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// What flags and variables give.
    pub flags: Flags,
    /// The run to go on with.
    pub resume: Option<PathBuf>,
    /// The same, or where to start one.
    pub resume_or_start: Option<PathBuf>,
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// Whether a flag or a variable gave each of them.
    pub sources: Sources,
}

/// Where external workers connect if nobody says it.
const ANY_LOOPBACK_PORT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Everything a run is told, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Local workers to spawn, or external ones to wait for; 1 to 1024.
    pub workers: NonZeroU32,
    /// Whether workers are started by somebody else.
    pub external: bool,
    /// Where external workers connect, if any can; off loopback only with `insecure`.
    pub listen: Option<SocketAddr>,
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
    /// All of it as flags, for `config.toml`.
    pub(crate) flags: Flags,
}

impl Settings {
    /// Merges what is asked for with the configuration file that it names, if any, and checks the result. `cores` is the
    /// number of processors there are.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong.
    pub(crate) fn resolve(asked: Asked, cores: NonZeroU32) -> Result<Self, SettingsError> {
        let base = Base::find(&asked)?;
        let epochs = base.file.epochs;
        let Asked { flags, sources, .. } = asked;
        let settings = Self::merge(flags, base, cores)?;
        settings.check()?;
        if let Some(resume) = &settings.resume {
            resume.check(&settings, epochs, &sources)?;
        }
        Ok(settings)
    }

    /// The settings that the run in `directory` would go on with if nobody asked for others, whatever the environment
    /// says.
    ///
    /// # Errors
    ///
    /// If there is no run, or its `config.toml` is none.
    pub fn of_run(directory: &Path) -> Result<Self, SettingsError> {
        let asked = Asked { resume: Some(directory.to_path_buf()), ..Asked::default() };
        Self::resolve(asked, processors())
    }

    /// Each setting from the first that gives it, held against its own bounds.
    fn merge(flags: Flags, base: Base, cores: NonZeroU32) -> Result<Self, SettingsError> {
        let run_dir = base.run_dir();
        let Base { mut file, resume, .. } = base;
        // An earlier version kept it as the default of every run, and nobody can know the port.
        file.listen = file.listen.filter(|address| *address != ANY_LOOPBACK_PORT);
        let flags = flags.or(file).or(Flags { run_dir, ..Flags::defaults() });
        let all = flags.clone();

        let workers = counted("workers", given(flags.workers), MAX_WORKERS)?;
        let threads_per_worker = match flags.threads_per_worker {
            Some(threads) => counted("threads-per-worker", threads, MAX_THREADS_PER_WORKER)?,
            None => cores_per_worker(cores, workers),
        };
        let dataset = given(flags.dataset);
        let listen = flags.listen.or(given(flags.external).then_some(ANY_LOOPBACK_PORT));
        Ok(Self {
            workers,
            external: given(flags.external),
            threads_per_worker,
            listen,
            insecure: given(flags.insecure),
            deadline: period("deadline", flags.deadline, &DEADLINES)?,
            patience: period("patience", flags.patience, &PERIODS)?,
            max_restarts: given(flags.max_restarts),
            dataset: resume.as_ref().map_or(dataset, |resume| resume.dataset(dataset)),
            data_dir: flags.data_dir,
            epochs: positive("epochs", given(flags.epochs))?,
            batch_size: positive("batch-size", given(flags.batch_size))?,
            learning_rate: given(flags.learning_rate).try_into()?,
            seed: given(flags.seed),
            validation_split: given(flags.validation_split).try_into()?,
            micro_shards: given(flags.micro_shards).try_into()?,
            examples: flags.examples.map(|examples| positive("examples", examples)).transpose()?,
            max_steps: flags.max_steps.map(|steps| positive_u64("max-steps", steps)).transpose()?,
            init: flags.init,
            offline: given(flags.offline),
            run_dir: flags.run_dir,
            resume,
            checkpoint_every: period("checkpoint-every", flags.checkpoint_every, &PERIODS)?,
            json: given(flags.json),
            token: flags.token.map(|text| Token::new(text.reveal())).transpose()?,
            metrics: !given(flags.no_metrics),
            tensorboard: !given(flags.no_tensorboard),
            timeline: flags.timeline,
            timeline_every: positive_u64("timeline-every", given(flags.timeline_every))?,
            progress: !given(flags.no_progress),
            dashboard: flags.dashboard.filter(|_| !given(flags.no_dashboard)),
            dashboard_hosts: flags.dashboard_host.unwrap_or_default(),
            stay: given(flags.stay),
            flags: all,
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
    pub fn to_toml(&self, stored: &StoredIdentity) -> String {
        let kept = Flags {
            // The one that was really taken: the next run must not choose another one.
            dataset: Some(stored_dataset(stored).unwrap_or(self.dataset)),
            data_dir: self.data_dir.as_deref().and_then(lasting),
            validation_split: Some(self.validation_split.get()),
            // Relative, it lies beside the file.
            init: self.init.clone().filter(|path| path.to_str().is_some()),
            dashboard: self.dashboard,
            dashboard_host: Some(self.dashboard_hosts.clone()).filter(|hosts| !hosts.is_empty()),
            ..self.flags.clone()
        };
        format!(
            "# The settings of this run. `coordinator --config THIS_FILE` trains the same again, in a new run directory.\n\
             {}\n\
             {}",
            to_toml(&kept),
            stored.to_toml()
        )
    }

    /// The rules that hold between settings.
    fn check(&self) -> Result<(), SettingsError> {
        if let Some(address) = self.listen
            && !address.ip().to_canonical().is_loopback()
            && !self.insecure
        {
            return Err(SettingsError::OffLoopback { address });
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
    stored: &StoredIdentity,
) -> Result<(DatasetChoice, Option<PathBuf>), SettingsError> {
    let file = config_file::read(path)?;
    let choice = stored_dataset(stored).or(file.dataset).unwrap_or(DatasetChoice::Auto);
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

fn positive_u64(flag: &'static str, value: u64) -> Result<NonZeroU64, SettingsError> {
    NonZeroU64::new(value).ok_or(SettingsError::Zero { flag })
}

fn period(
    flag: &'static str,
    value: Option<Period>,
    allowed: &RangeInclusive<Duration>,
) -> Result<Duration, SettingsError> {
    let Period(value) = given(value);
    if allowed.contains(&value) {
        return Ok(value);
    }
    Err(SettingsError::PeriodOutOfRange { flag, value, least: *allowed.start(), most: *allowed.end() })
}

/// The value of a flag that has a default.
fn given<T>(value: Option<T>) -> T {
    value.expect("the defaults were merged in")
}

/// The processors that this process may use.
pub(crate) fn processors() -> NonZeroU32 {
    thread::available_parallelism()
        .ok()
        .and_then(|processors| NonZeroU32::try_from(processors).ok())
        .unwrap_or(NonZeroU32::MIN)
}

fn cores_per_worker(cores: NonZeroU32, workers: NonZeroU32) -> NonZeroU32 {
    NonZeroU32::new((cores.get() / workers).min(MAX_THREADS_PER_WORKER)).unwrap_or(NonZeroU32::MIN)
}

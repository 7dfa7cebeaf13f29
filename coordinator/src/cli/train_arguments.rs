//! The flags of a training run, with their environment variables, defaults and help.
//!
//! What a value may be is decided in `settings`.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

use crate::settings::{DatasetChoice, HostName, Period, TokenText, address};

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

    /// Where workers connect; port 0 takes a free one, and :PORT is of all interfaces
    #[arg(long, env = "LOCKSTEP_LISTEN", value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    #[arg(value_parser = address::parse, help_heading = "Workers")]
    pub listen: SocketAddr,

    /// Allow --listen and --dashboard on addresses that other machines reach, without encryption
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

    /// A worker that says nothing for so long is taken for gone: 0.5, 500ms, 2s, 1m
    #[arg(
        long,
        env = "LOCKSTEP_DEADLINE",
        value_name = "TIME",
        default_value = "1s",
        help_heading = "Workers"
    )]
    pub deadline: Period,

    /// How long nothing new may be computed, because no worker is there or all that come break, before the run ends
    /// with exit code 75
    #[arg(
        long,
        env = "LOCKSTEP_PATIENCE",
        value_name = "TIME",
        default_value = "60s",
        help_heading = "Workers"
    )]
    pub patience: Period,

    /// How often a worker started here is started again if it dies; one that lives for a minute counts afresh
    #[arg(
        long,
        env = "LOCKSTEP_MAX_RESTARTS",
        value_name = "N",
        default_value_t = 10,
        help_heading = "Workers"
    )]
    pub max_restarts: u32,

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

    /// Start from the weights in this safetensors file, a run's or PyTorch's, instead of random ones
    #[arg(long, env = "LOCKSTEP_INIT", value_name = "FILE", help_heading = "Training")]
    pub init: Option<PathBuf>,

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

    /// Go on with the run in this folder, from its newest checkpoint; what decides its bits cannot be changed
    #[arg(long, env = "LOCKSTEP_RESUME", value_name = "RUN_DIR", help_heading = "Resuming")]
    pub resume: Option<PathBuf>,

    /// Go on with the run in this folder if there is one, else start one there; for schedulers
    #[arg(long, env = "LOCKSTEP_RESUME_OR_START", value_name = "RUN_DIR", help_heading = "Resuming")]
    pub resume_or_start: Option<PathBuf>,

    /// Time between two checkpoints; 0 is one after every step
    #[arg(long, env = "LOCKSTEP_CHECKPOINT_EVERY", value_name = "TIME", default_value = "1s")]
    #[arg(help_heading = "Resuming")]
    pub checkpoint_every: Period,

    /// Print the summary as one JSON object on standard output, and nothing else there
    #[arg(long, env = "LOCKSTEP_JSON", help_heading = "Output")]
    pub json: bool,

    /// Where the page is served that shows the run live; port 0 takes a free one, and :PORT is of all interfaces
    #[arg(long, env = "LOCKSTEP_DASHBOARD", value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    #[arg(value_parser = address::parse, help_heading = "Dashboard")]
    pub dashboard: SocketAddr,

    /// A name of yours by which a browser or proxy asks for the dashboard; several with commas
    #[arg(long, env = "LOCKSTEP_DASHBOARD_HOST", value_name = "NAME", value_delimiter = ',')]
    #[arg(help_heading = "Dashboard")]
    pub dashboard_host: Vec<HostName>,

    /// Serve no dashboard
    #[arg(long, env = "LOCKSTEP_NO_DASHBOARD", help_heading = "Dashboard")]
    pub no_dashboard: bool,

    /// Keep the dashboard after the run, until Ctrl-C
    #[arg(long, env = "LOCKSTEP_STAY", help_heading = "Dashboard")]
    pub stay: bool,

    /// Write no metrics.jsonl and no events.jsonl
    #[arg(long, env = "LOCKSTEP_NO_METRICS", help_heading = "Output")]
    pub no_metrics: bool,

    /// Write no event files for TensorBoard
    #[arg(long, env = "LOCKSTEP_NO_TENSORBOARD", help_heading = "Output")]
    pub no_tensorboard: bool,

    /// Write a timeline of some steps, of all processes together, to a new file for Perfetto or chrome://tracing
    #[arg(long, env = "LOCKSTEP_TIMELINE", value_name = "FILE.json", help_heading = "Output")]
    pub timeline: Option<PathBuf>,

    /// Of which steps: the first one and every N-th after it
    #[arg(long, env = "LOCKSTEP_TIMELINE_EVERY", value_name = "N", default_value_t = 100)]
    #[arg(help_heading = "Output")]
    pub timeline_every: u64,

    /// Show no progress bar, only a line per epoch
    #[arg(long, env = "LOCKSTEP_NO_PROGRESS", help_heading = "Output")]
    pub no_progress: bool,

    /// Read settings from a TOML file, such as the config.toml of an earlier run
    #[arg(long, env = "LOCKSTEP_CONFIG", value_name = "FILE.toml")]
    pub config: Option<PathBuf>,
}

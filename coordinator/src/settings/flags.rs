//! The flags of a training run: each one stands here once, with its help, its variable of the environment, its default
//! and its type.
//!
//! `training_flags!` hands the list to another macro. [`Flags`] takes names, types and defaults from it: the values of a
//! command line or of a configuration file, whose keys are the flags. The command line takes all of it for its parser.

use std::net::SocketAddr;
use std::path::PathBuf;

use lockstep_command_line::Period;
use lockstep_run_directory::identity::shortest_f32;
use serde::{Deserialize, Deserializer, Serialize};

use super::{DatasetChoice, HostName, TokenText, address};

/// Calls `$with!` with the flags, in the order in which `config.toml` has them.
macro_rules! training_flags {
    ($with:ident) => {
        $with! {
            /// Worker processes to start here; with --external, workers to wait for
            #[arg(env = "LOCKSTEP_WORKERS", value_name = "N", help_heading = "Workers")]
            workers: u32 = "4",

            /// Start no workers; all of them join with `worker --coordinator http://HOST:PORT`
            #[arg(action = ArgAction::SetTrue, env = "LOCKSTEP_EXTERNAL", help_heading = "Workers")]
            external: bool = "false",

            /// Where external workers connect, besides those started here; port 0 takes a free one, and :PORT is of all
            /// interfaces [default: 127.0.0.1:0 with --external, else nowhere]
            #[arg(env = "LOCKSTEP_LISTEN", value_name = "HOST:PORT", value_parser = address::parse,
                help_heading = "Workers")]
            #[serde(deserialize_with = "address::deserialize")]
            listen: SocketAddr,

            /// Allow --listen and --dashboard on addresses that other machines reach, without encryption
            #[arg(action = ArgAction::SetTrue, env = "LOCKSTEP_INSECURE", help_heading = "Workers")]
            insecure: bool = "false",

            /// A worker that says nothing for so long is taken for gone: 0.5, 500ms, 2s, 1m
            #[arg(env = "LOCKSTEP_DEADLINE", value_name = "TIME", help_heading = "Workers")]
            deadline: Period = "1s",

            /// How long nothing new may be computed, because no worker is there or all that come break, before the run ends
            /// with exit code 75
            #[arg(env = "LOCKSTEP_PATIENCE", value_name = "TIME", help_heading = "Workers")]
            patience: Period = "60s",

            /// How often a worker started here is started again if it dies; one that lives for a minute counts afresh
            #[arg(env = "LOCKSTEP_MAX_RESTARTS", value_name = "N", help_heading = "Workers")]
            max_restarts: u32 = "10",

            /// What to train on
            #[arg(env = "LOCKSTEP_DATASET", value_name = "NAME", help_heading = "Data", value_parser = dataset_parser())]
            dataset: DatasetChoice = "auto",

            /// Folder of the four MNIST files, plain or .gz [default: the cache folder]
            #[arg(env = "LOCKSTEP_DATA_DIR", value_name = "DIR", help_heading = "Data")]
            data_dir: PathBuf,

            /// Passes over the training images
            #[arg(env = "LOCKSTEP_EPOCHS", value_name = "N", help_heading = "Training")]
            epochs: u32 = "10",

            /// Examples of one step
            #[arg(env = "LOCKSTEP_BATCH_SIZE", value_name = "N", help_heading = "Training")]
            batch_size: u32 = "64",

            /// Step size of SGD, above 0
            #[arg(env = "LOCKSTEP_LEARNING_RATE", value_name = "RATE",
                help_heading = "Training")]
            #[serde(deserialize_with = "some_shortest_f32")]
            learning_rate: f32 = "0.01",

            /// Seed of the initial weights and of the order of examples
            #[arg(env = "LOCKSTEP_SEED", value_name = "N", help_heading = "Training")]
            seed: u64 = "42",

            /// Share of the training images held back for validation, 0 to 0.9
            #[arg(env = "LOCKSTEP_VALIDATION_SPLIT", value_name = "SHARE", help_heading = "Data")]
            validation_split: f64 = "0.15",

            /// Parts a batch is cut into, a power of two; more workers than parts do not help
            #[arg(env = "LOCKSTEP_MICRO_SHARDS", value_name = "N", help_heading = "Training")]
            micro_shards: u32 = "16",

            /// Take only the first N training images, before the split [default: all]
            #[arg(env = "LOCKSTEP_EXAMPLES", value_name = "N", help_heading = "Data")]
            examples: u32,

            /// End after N steps if the epochs do not end before [default: none]
            #[arg(env = "LOCKSTEP_MAX_STEPS", value_name = "N", help_heading = "Training")]
            max_steps: u64,

            /// Start from the weights in this safetensors file, a run's or PyTorch's, instead of random ones
            #[arg(env = "LOCKSTEP_INIT", value_name = "FILE", help_heading = "Training")]
            init: PathBuf,

            /// Never try the network
            #[arg(action = ArgAction::SetTrue, env = "LOCKSTEP_OFFLINE", help_heading = "Data")]
            offline: bool = "false",

            /// Time between two checkpoints; 0 is one after every step
            #[arg(env = "LOCKSTEP_CHECKPOINT_EVERY", value_name = "TIME", help_heading = "Resuming")]
            checkpoint_every: Period = "1s",

            /// Threads of each worker started here [default: processors / workers]
            #[arg(env = "LOCKSTEP_THREADS_PER_WORKER", value_name = "N", help_heading = "Workers")]
            threads_per_worker: u32,

            /// New folder for everything the run writes [default: a new one under runs/]
            #[arg(env = "LOCKSTEP_RUN_DIR", value_name = "DIR", help_heading = "Output")]
            #[serde(skip_serializing)]
            run_dir: PathBuf,

            /// Print the summary as one JSON object on standard output, and nothing else there
            #[arg(action = ArgAction::SetTrue, env = "LOCKSTEP_JSON", help_heading = "Output")]
            json: bool = "false",

            /// Secret that external workers must show to join; better set as LOCKSTEP_TOKEN [default: a random one]
            #[arg(env = "LOCKSTEP_TOKEN", value_name = "TOKEN", hide_env_values = true,
                help_heading = "Workers")]
            #[serde(skip_serializing)]
            token: TokenText,

            /// Write no metrics.jsonl and no events.jsonl
            #[arg(action = ArgAction::SetTrue, env = "LOCKSTEP_NO_METRICS", help_heading = "Output")]
            no_metrics: bool = "false",

            /// Write no event files for TensorBoard
            #[arg(action = ArgAction::SetTrue, env = "LOCKSTEP_NO_TENSORBOARD", help_heading = "Output")]
            no_tensorboard: bool = "false",

            /// Write a timeline of some steps, of all processes together, to a new file for Perfetto or chrome://tracing
            #[arg(env = "LOCKSTEP_TIMELINE", value_name = "FILE.json",
                help_heading = "Output")]
            #[serde(skip_serializing)]
            timeline: PathBuf,

            /// Of which steps: the first one and every N-th after it
            #[arg(env = "LOCKSTEP_TIMELINE_EVERY", value_name = "N", help_heading = "Output")]
            timeline_every: u64 = "100",

            /// Show no progress bar, only a line per epoch
            #[arg(action = ArgAction::SetTrue, env = "LOCKSTEP_NO_PROGRESS", help_heading = "Output")]
            no_progress: bool = "false",

            /// Where the page is served that shows the run live; port 0 takes a free one, and :PORT is of all interfaces
            #[arg(env = "LOCKSTEP_DASHBOARD", value_name = "HOST:PORT", value_parser = address::parse,
                help_heading = "Dashboard")]
            #[serde(deserialize_with = "address::deserialize")]
            dashboard: SocketAddr = "127.0.0.1:0",

            /// A name of yours by which a browser or proxy asks for the dashboard; several with commas
            #[arg(env = "LOCKSTEP_DASHBOARD_HOST", value_name = "NAME", value_delimiter = ',',
                help_heading = "Dashboard")]
            dashboard_host: Vec<HostName>,

            /// Serve no dashboard
            #[arg(action = ArgAction::SetTrue, env = "LOCKSTEP_NO_DASHBOARD", help_heading = "Dashboard")]
            no_dashboard: bool = "false",

            /// Keep the dashboard after the run, until Ctrl-C
            #[arg(action = ArgAction::SetTrue, env = "LOCKSTEP_STAY", help_heading = "Dashboard")]
            stay: bool = "false",
        }
    };
}
pub(crate) use training_flags;

macro_rules! declare_flags {
    ($(
        $(#[doc = $doc:literal])+
        #[arg($($arg:tt)*)]
        $(#[serde($($serde:tt)*)])?
        $field:ident: $type:ty $(= $default:literal)?,
    )*) => {
        /// Values of flags, unchecked. What is absent was not given.
        ///
        /// `run-dir`, `timeline` and `token` are read from a file and never written to one: the first two would make the next
        /// run collide with this one, the other is a secret.
        #[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
        #[serde(rename_all = "kebab-case", default)]
        pub(crate) struct Flags {
            $( $(#[doc = $doc])+ $(#[serde($($serde)*)])? pub $field: Option<$type>, )*
        }

        impl Flags {
            /// The names of the flags, with dashes.
            pub fn names() -> Vec<String> {
                [$(stringify!($field)),*].map(|field| field.replace('_', "-")).to_vec()
            }

            /// What holds where nobody says otherwise; absent for flags without a default.
            pub fn defaults() -> Self {
                Self { $( $field: default!($($default)?), )* }
            }

            /// These values, and those of `below` for what is absent here.
            pub fn or(self, below: Self) -> Self {
                Self { $( $field: self.$field.or(below.$field), )* }
            }
        }
    };
}

macro_rules! default {
    () => {
        None
    };
    ($text:literal) => {
        Some($text.parse().expect("the default of a flag is a value of its type"))
    };
}

training_flags!(declare_flags);

fn some_shortest_f32<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f32>, D::Error> {
    shortest_f32(deserializer).map(Some)
}

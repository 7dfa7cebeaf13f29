//! The flags of a training run as the parser takes them; the list itself is `settings::flags`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgAction, ArgMatches, Args};

use crate::commands::dataset_parser;
use crate::settings::flags::{Flags, training_flags};
use crate::settings::{Asked, DatasetChoice, HostName, Period, Source, Sources, TokenText, address};

macro_rules! declare_arguments {
    ($(
        $(#[doc = $doc:literal])+
        #[arg($($arg:tt)*)]
        $(#[serde($($serde:tt)*)])?
        $field:ident: $type:ty $(= $default:literal)?,
    )*) => {
        /// The flags of a training run; those that nobody gave have their default, if they have one.
        #[derive(Args)]
        pub(super) struct TrainArguments {
            $(
                $(#[doc = $doc])+
                #[arg(long, $(default_value = $default,)? $($arg)*)]
                $field: Option<$type>,
            )*

            /// Go on with the run in this folder, from its newest checkpoint; what decides its bits cannot be changed
            #[arg(long, env = "LOCKSTEP_RESUME", value_name = "RUN_DIR", help_heading = "Resuming")]
            resume: Option<PathBuf>,

            /// Go on with the run in this folder if there is one, else start one there; for schedulers
            #[arg(long, env = "LOCKSTEP_RESUME_OR_START", value_name = "RUN_DIR", help_heading = "Resuming")]
            resume_or_start: Option<PathBuf>,

            /// Read settings from a TOML file, such as the config.toml of an earlier run
            #[arg(long, env = "LOCKSTEP_CONFIG", value_name = "FILE.toml")]
            config: Option<PathBuf>,
        }

        impl TrainArguments {
            /// What flags and variables give, without defaults.
            pub fn asked(self, matches: &ArgMatches) -> Asked {
                let sources = sources(matches);
                let is_given = |field: &str| sources.0.contains_key(&field.replace('_', "-"));
                let flags = Flags {
                    $( $field: self.$field.filter(|_| is_given(stringify!($field))), )*
                };
                let Self { resume, resume_or_start, config, .. } = self;
                Asked { flags, resume, resume_or_start, config, sources }
            }
        }
    };
}

training_flags!(declare_arguments);

fn sources(matches: &ArgMatches) -> Sources {
    let source = |id: &str| match matches.value_source(id)? {
        ValueSource::CommandLine => Some(Source::CommandLine),
        ValueSource::EnvVariable => Some(Source::Environment),
        _ => None,
    };
    let ids = matches.ids().map(|id| id.as_str());
    Sources(ids.filter_map(|id| Some((id.replace('_', "-"), source(id)?))).collect())
}

//! What the program can be asked to do, a file each.

pub mod compare;
pub mod data;
pub mod evaluate;
pub mod export;
mod model_source;
pub mod predict;
pub mod report;
pub mod show;
pub mod train;
pub mod verify;

use anyhow::{Result, anyhow};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use lockstep_run_directory::stored_run::StoredRun;

use crate::settings::{DatasetChoice, Settings};

/// The settings that a run would go on with if nobody asked for others.
pub(crate) fn settings_of(run: &StoredRun) -> Result<Settings> {
    // What a run has is no wrong usage of the command that reads it.
    Settings::of_run(run.directory.path()).map_err(|error| anyhow!("{error}"))
}

/// The parser of `--dataset`.
pub(crate) fn dataset_parser() -> impl TypedValueParser<Value = DatasetChoice> {
    let names = DatasetChoice::ALL.map(|choice| PossibleValue::new(choice.name()).help(choice.meaning()));
    PossibleValuesParser::new(names).try_map(|name| name.parse::<DatasetChoice>())
}

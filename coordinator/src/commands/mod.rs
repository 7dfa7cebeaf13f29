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

use std::io::{ErrorKind, Write};

use anyhow::{Context, Result, anyhow};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use crate::run_directory::stored_run::StoredRun;
use crate::settings::{DatasetChoice, Settings};

/// Prints on standard error what would be beside a result on standard output.
pub(crate) fn say_aside(text: &str) -> Result<()> {
    // A stream that is gone leaves nowhere to report it.
    let _ = std::io::stderr().write_all(text.as_bytes());
    Ok(())
}

/// Prints a result on standard output.
pub(crate) fn say(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        // Who closed the pipe wants no more.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("cannot write to standard output")
        }
        _ => Ok(()),
    }
}

/// The settings that a run would go on with if nobody asked for others.
pub(crate) fn settings_of(run: &StoredRun) -> Result<Settings> {
    // What a run has is no wrong usage of the command that reads it.
    Settings::of_run(run.directory.path()).map_err(|error| anyhow!("{error}"))
}

/// The parser of `--dataset`.
pub(crate) fn dataset() -> impl TypedValueParser<Value = DatasetChoice> {
    let names = DatasetChoice::ALL.map(|choice| PossibleValue::new(choice.name()).help(choice.meaning()));
    PossibleValuesParser::new(names).try_map(|name| name.parse::<DatasetChoice>())
}

/// A share of 0 to 1 in percent, as the summary of a run shows it.
pub(crate) fn percent(share: f32) -> String {
    format!("{:.1} %", share * 100.0)
}

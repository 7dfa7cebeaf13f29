//! A run as its directory has it, for the commands that only read it: `show`, `report`, `verify`, `compare`, and those
//! that take a model. Neither flags nor variables of training have a say there.

use std::path::Path;

use anyhow::{Result, anyhow};

use crate::cli;
use crate::run_directory::path_error;
use crate::run_directory::{RunDirectory, RunDirectoryError};
use crate::settings::{Settings, SettingsError, StoredRun, read_configuration};

/// A run that was begun, finished or not.
pub struct PastRun {
    /// Where it lies.
    pub directory: RunDirectory,
    /// What it is.
    pub stored: StoredRun,
    /// The text of its `config.toml`.
    pub configuration: String,
}

impl PastRun {
    /// The run in the folder `path`.
    ///
    /// # Errors
    ///
    /// If there is none, or its `config.toml` does not say which it is.
    pub fn open(path: &Path) -> Result<Self> {
        let directory = RunDirectory::open(path).map_err(|error| match error {
            // Their own words tell how to go on with a run, or start one.
            RunDirectoryError::Absent { path } => anyhow!("there is no run directory {}", path.display()),
            RunDirectoryError::NoRun { path } => {
                anyhow!(
                    "{} is no run directory, it has no config.toml; name the folder of a run",
                    path.display()
                )
            }
            other => other.into(),
        })?;
        let configuration = read_configuration(&directory.config()).map_err(reason)?;
        let stored = StoredRun::of(&configuration, &directory.config()).map_err(reason)?;
        Ok(Self { directory, stored, configuration })
    }

    /// The settings that it would go on with if nobody asked for others.
    ///
    /// # Errors
    ///
    /// If its `config.toml` is none that this program wrote.
    pub fn settings(&self) -> Result<Settings> {
        // What a run has is no wrong usage of the command that reads it.
        cli::settings_of_run(self.directory.path()).map_err(|error| anyhow!("{error}"))
    }
}

fn reason(error: SettingsError) -> anyhow::Error {
    match error {
        SettingsError::NotResumable { path, message } => {
            anyhow!("{} does not say which run it is: {message}", path.display())
        }
        SettingsError::ConfigUnreadable { path, source } => {
            anyhow!("cannot read {}: {}", path.display(), path_error::reason(&path, &source))
        }
        other => anyhow!("{other}"),
    }
}

//! A run as its directory has it, for the commands that only read it: `show`, `report`, `verify`, `compare`, and those
//! that take a model. Flags and variables of training do not count there.

use std::path::Path;

use anyhow::{Result, anyhow};

use crate::identity::{StoredIdentity, read_configuration};
use crate::path_error;
use crate::{RunDirectory, RunDirectoryError};

/// A run that was begun, finished or not.
pub struct StoredRun {
    /// Where it lies.
    pub directory: RunDirectory,
    /// What it is.
    pub stored: StoredIdentity,
    /// The text of its `config.toml`.
    pub configuration: String,
}

impl StoredRun {
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
        let path = directory.config();
        let configuration = read_configuration(&path).map_err(|error| {
            anyhow!("cannot read {}: {}", path.display(), path_error::reason(&path, &error))
        })?;
        let stored = StoredIdentity::parse(&configuration)
            .map_err(|message| anyhow!("{} does not say which run it is: {message}", path.display()))?;
        Ok(Self { directory, stored, configuration })
    }
}

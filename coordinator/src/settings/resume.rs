//! Resuming: which run, if any, the settings are to continue, and what may be different from before.
//!
//! The run's own `config.toml` takes the place of the `--config` file. What decides the bits may not change, and a run
//! gets no shorter; everything else may. Looks at the run directory and writes nothing there.

use lockstep_run_directory::identity::{RunIdentity, StoredIdentity};
use lockstep_run_directory::{RunDirectory, RunDirectoryError};
use std::path::{Path, PathBuf};

use super::flags::Flags;
use super::origin::{Origin, Sources};
use super::{Asked, DatasetChoice, Settings, SettingsError, config_file};

/// What does not go with `--resume` and `--resume-or-start`, and why.
const CONFLICTS: [(&str, &str); 2] = [
    ("run-dir", "a run goes on in the directory that it has"),
    ("config", "a run goes on with its own config.toml, which flags and environment variables beat"),
];

/// The run to go on with.
#[derive(Clone, Debug, PartialEq)]
pub struct Resume {
    /// Its directory.
    pub directory: PathBuf,
    /// What it is.
    pub stored: StoredIdentity,
}

/// What stands below flags and environment.
#[derive(Default)]
pub(super) struct Base {
    /// The values of a file, which beat the defaults.
    pub file: Flags,
    /// The run to go on with.
    pub resume: Option<Resume>,
    /// Where to start the run that there is none of yet.
    pub start: Option<PathBuf>,
}

impl Base {
    /// Finds what is asked for: the run to resume, or the configuration file, or neither.
    ///
    /// # Errors
    ///
    /// [`SettingsError::Conflict`], [`SettingsError::RunDirectory`] if there is no run to resume, or what is wrong with
    /// the file.
    pub fn find(asked: &Asked) -> Result<Self, SettingsError> {
        refuse_conflicts(&asked.sources)?;
        if let Some(directory) = &asked.resume {
            return Self::of_run(RunDirectory::open(directory)?.path());
        }
        if let Some(directory) = &asked.resume_or_start {
            return match RunDirectory::open(directory) {
                Ok(found) => Self::of_run(found.path()),
                Err(RunDirectoryError::Absent { path } | RunDirectoryError::NoRun { path }) => {
                    Ok(Self { start: Some(path), ..Self::default() })
                }
                Err(error) => Err(error.into()),
            };
        }
        let file = asked.config.as_deref().map(config_file::read).transpose()?.unwrap_or_default();
        Ok(Self { file, ..Self::default() })
    }

    fn of_run(directory: &Path) -> Result<Self, SettingsError> {
        let path = RunDirectory::config_in(directory);
        let file = config_file::read(&path)?;
        let stored = StoredIdentity::parse(&config_file::text(&path)?)
            .map_err(|message| SettingsError::NotResumable { path, message })?;
        let resume = Resume { directory: directory.to_path_buf(), stored };
        // Wherever the file says that they lie, the run and its initial weights are here.
        Ok(Self { file: Flags { run_dir: None, init: None, ..file }, resume: Some(resume), start: None })
    }

    /// The directory that all of this names, if any.
    pub fn run_dir(&self) -> Option<PathBuf> {
        self.resume.as_ref().map(|resume| resume.directory.clone()).or_else(|| self.start.clone())
    }
}

impl Resume {
    /// The data set for a choice: `auto` is whatever the run has.
    pub(super) fn dataset(&self, choice: DatasetChoice) -> DatasetChoice {
        match choice {
            DatasetChoice::Auto => stored_dataset(&self.stored).unwrap_or(choice),
            _ => choice,
        }
    }

    /// Refuses `settings` with which the run would not be the same one, or would be shorter than the `epochs` of its
    /// own file.
    ///
    /// # Errors
    ///
    /// [`SettingsError::IdentityChanged`] or [`SettingsError::FewerEpochs`], with the flag or variable to blame.
    pub(super) fn check(
        &self,
        settings: &Settings,
        epochs: Option<u32>,
        sources: &Sources,
    ) -> Result<(), SettingsError> {
        let directory = || self.directory.clone();
        let blame = |flag| {
            sources
                .origin(flag)
                .unwrap_or_else(|| Origin::Key(flag, RunDirectory::config_in(&self.directory)))
        };
        if let Some((flag, stored, value)) = self.stored.identity.difference(&self.wanted(settings)) {
            let origin = blame(flag);
            return Err(SettingsError::IdentityChanged { origin, value, stored, directory: directory() });
        }
        match epochs {
            Some(stored) if settings.epochs.get() < stored => Err(SettingsError::FewerEpochs {
                origin: blame("epochs"),
                value: settings.epochs.get(),
                stored,
                directory: directory(),
            }),
            _ => Ok(()),
        }
    }

    /// The identity that `settings` ask for; what only data and program can tell is taken to be as it was.
    fn wanted(&self, settings: &Settings) -> RunIdentity {
        let stored = &self.stored.identity;
        RunIdentity {
            seed: settings.seed,
            dataset: settings.dataset.name().to_owned(),
            dataset_sha256: stored.dataset_sha256.clone(),
            examples: settings.examples.map_or(stored.examples, |examples| examples.get().into()),
            validation_split: settings.validation_split.get(),
            batch_size: settings.batch_size.get(),
            micro_shards: settings.micro_shards.get(),
            learning_rate: settings.learning_rate.get(),
            numerics_version: stored.numerics_version,
            initial_weights: stored.initial_weights.clone(),
        }
    }
}

/// The data set that a run really took, as a choice.
pub(super) fn stored_dataset(stored: &StoredIdentity) -> Option<DatasetChoice> {
    stored.identity.dataset.parse().ok()
}

fn refuse_conflicts(sources: &Sources) -> Result<(), SettingsError> {
    let conflict = |first, second, reason| Err(SettingsError::Conflict { first, second, reason });
    let (resume, or_start) = (sources.origin("resume"), sources.origin("resume-or-start"));
    if let (Some(first), Some(second)) = (&resume, &or_start) {
        return conflict(
            first.clone(),
            second.clone(),
            "the one wants a run that exists, the other takes a new one, too",
        );
    }
    let Some(first) = resume.or(or_start) else { return Ok(()) };
    for (flag, reason) in CONFLICTS {
        if let Some(second) = sources.origin(flag) {
            return conflict(first, second, reason);
        }
    }
    Ok(())
}

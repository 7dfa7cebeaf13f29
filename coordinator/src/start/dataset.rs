//! Loading of data sets, with download progress and warnings; and the identity of a run, which depends on them.

use std::path::PathBuf;

use anyhow::{Result, bail};
use lockstep_dataset::{Choice, Dataset, Source, validation_examples};
use lockstep_model::{Digest, NUMERICS_VERSION};
use lockstep_run_directory::identity::RunIdentity;
use lockstep_telemetry::Terminal;

use super::DownloadDisplay;
use super::initial_weights::Initial;
use crate::settings::{DatasetChoice, Settings, SettingsError};

impl From<DatasetChoice> for Choice {
    fn from(choice: DatasetChoice) -> Self {
        match choice {
            DatasetChoice::Auto => Self::Auto,
            DatasetChoice::Mnist => Self::Mnist,
            DatasetChoice::Digits => Self::Digits,
        }
    }
}

/// Where to take a data set from.
pub(crate) fn source(
    choice: DatasetChoice,
    data_dir: Option<PathBuf>,
    offline: bool,
    examples: Option<usize>,
) -> Source {
    Source { data_dir, offline, examples, ..Source::new(choice.into()) }
}

/// Takes a data set from its source, and shows downloads and warnings; `purpose` is what generated digits in the place
/// of MNIST would spoil, in capitals.
///
/// # Errors
///
/// If the data set cannot be had.
pub(crate) fn fetch(
    source: &Source,
    purpose: &str,
    terminal: &Terminal,
) -> Result<Dataset, lockstep_dataset::Error> {
    let mut display = DownloadDisplay::new(terminal);
    let dataset = lockstep_dataset::load(source, &mut |progress| display.show(progress))?;
    display.finish();
    if let Some(reason) = &dataset.fallback {
        tracing::warn!("{purpose} ON GENERATED DIGITS, NOT ON MNIST: {reason}");
    }
    for note in &dataset.notes {
        tracing::warn!("{note}");
    }
    Ok(dataset)
}

/// The data set that the settings of a training ask for.
///
/// # Errors
///
/// If it cannot be had, or does not fit the settings.
pub(crate) fn load(settings: &Settings, terminal: &Terminal) -> Result<Dataset> {
    let examples = settings.examples.map(|examples| examples.get() as usize);
    let source = source(settings.dataset, settings.data_dir.clone(), settings.offline, examples);
    let mut dataset = fetch(&source, "TRAINING", terminal).map_err(|error| match error {
        lockstep_dataset::Error::Examples { requested: examples, available, origin } => {
            SettingsError::TooManyExamples { examples, available, origin }.into()
        }
        other => anyhow::Error::from(other),
    })?;
    if let Some(resume) = &settings.resume {
        // A run that began on generated digits has asked for them ever since; its user has not.
        dataset.fallback = dataset.fallback.or_else(|| resume.stored.fallback.clone());
    }
    let all = dataset.train.len();
    settings.check_against(all - validation_examples(all, settings.validation_split.get()))?;
    if dataset.test.is_empty() {
        bail!("the test set is empty; a run ends with an evaluation on it");
    }
    Ok(dataset)
}

/// What decides the bits of a run with these settings on this data, from these weights.
pub(crate) fn identity(settings: &Settings, dataset: &Dataset, initial: &Initial) -> RunIdentity {
    RunIdentity {
        seed: settings.seed,
        dataset: dataset.kind.to_string(),
        dataset_sha256: Digest(dataset.digest).to_string(),
        examples: dataset.train.len() as u64,
        validation_split: settings.validation_split.get(),
        batch_size: settings.batch_size.get(),
        micro_shards: settings.micro_shards.get(),
        learning_rate: settings.learning_rate.get(),
        numerics_version: NUMERICS_VERSION,
        initial_weights: initial.digest.map(|digest| digest.to_string()),
    }
}

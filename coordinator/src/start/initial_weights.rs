//! The weights that a run begins with: drawn from its seed, or taken from the file of `--init`.
//!
//! A run that began from a file keeps a copy of those weights, so that it can be resumed and verified without that file;
//! their digest is part of its identity.

use anyhow::{Context, Result};
use lockstep_model::{Digest, digest, initial_weights};
use lockstep_run_directory::RunDirectory;
use lockstep_run_directory::model_file;

use crate::settings::{Resume, Settings};

/// The weights that a run begins with.
#[derive(Clone, Debug, PartialEq)]
pub struct Initial {
    /// All of them.
    pub weights: Box<[f32]>,
    /// The digest of weights that came from a file; absent for those drawn from the seed.
    pub digest: Option<Digest>,
}

impl Initial {
    /// The weights of the run that `settings` describe, new or to be resumed.
    ///
    /// # Errors
    ///
    /// If the file of `--init`, or the copy that the run keeps, cannot be read, or is not this network's; for the copy
    /// also if its weights are not those that the run was begun with.
    pub fn find(settings: &Settings) -> Result<Self> {
        if let Some(path) = &settings.init {
            let weights = model_file::read(path).context("the initial weights (--init) cannot be had")?;
            return Ok(Self { digest: Some(digest(&weights)), weights });
        }
        match &settings.resume {
            Some(resume) => match &resume.stored.identity.initial_weights {
                Some(expected) => Self::kept(resume, expected),
                None => Ok(Self::drawn(settings.seed)),
            },
            None => Ok(Self::drawn(settings.seed)),
        }
    }

    fn drawn(seed: u64) -> Self {
        Self { weights: initial_weights(seed), digest: None }
    }

    fn kept(resume: &Resume, expected: &str) -> Result<Self> {
        let path = RunDirectory::open(&resume.directory)?.initial_weights();
        let remedy = || {
            format!(
                "name the file that the run was begun with, --resume {} --init FILE",
                resume.directory.display()
            )
        };
        let weights = model_file::read(&path).with_context(|| {
            format!("the run's initial weights, {}, cannot be had; {}", path.display(), remedy())
        })?;
        let actual = digest(&weights);
        if actual.to_string() != *expected {
            anyhow::bail!(
                "the run's initial weights, {}, are not those that it was begun with: their digest is {actual} and was \
                 {expected}; {}",
                path.display(),
                remedy()
            );
        }
        Ok(Self { digest: Some(actual), weights })
    }

    /// Keeps a copy in the run's directory, if they came from a file.
    ///
    /// # Errors
    ///
    /// If the disk refuses.
    pub fn keep(&self, directory: &RunDirectory) -> Result<()> {
        if let Some(digest) = &self.digest {
            let metadata = format!("{{\"weights_digest\":\"{digest}\"}}");
            model_file::write(&directory.initial_weights(), &self.weights, &metadata)?;
        }
        Ok(())
    }
}

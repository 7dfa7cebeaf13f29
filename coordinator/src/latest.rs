//! How far a run has come, as its directory tells: its newest weights, and its summary if it is about them. Reads only.

use std::sync::Arc;

use anyhow::{Error, Result};
use lockstep_checkpoint::{Disk, Files, list_checkpoints, load_checkpoint, read_model};
use lockstep_model::digest;
use lockstep_telemetry::Summary;

use crate::prepare::weights_of;
use crate::run_directory::RunDirectory;

/// The newest that a run directory has.
pub struct Latest {
    /// What the run found out, if that is how it ended last: one that was taken up again may have gone on since.
    pub summary: Option<Summary>,
    /// The final model, else the newest valid checkpoint, and after which step that is.
    pub weights: Option<(u64, Box<[f32]>)>,
}

impl Latest {
    /// The newest of a run that has recorded `steps`.
    ///
    /// # Errors
    ///
    /// If the summary, or the final model that it speaks of, is there and cannot be read.
    pub fn read(directory: &RunDirectory, run_id: &[u8; 16], steps: u64) -> Result<Self> {
        let summary =
            directory.summary().exists().then(|| Summary::read(&directory.summary())).transpose()?;
        let newer = |steps| checkpointed(directory, run_id, steps);
        let Some(summary) = summary.filter(|summary| summary.steps >= steps) else {
            return Ok(Self { summary: None, weights: newer(0)? });
        };
        if let Some(weights) = newer(summary.steps + 1)? {
            return Ok(Self { summary: None, weights: Some(weights) });
        }
        if !directory.model().exists() {
            return Ok(Self { weights: newer(0)?, summary: Some(summary) });
        }
        let weights = weights_of(&read_model(&directory.model())?).map_err(Error::msg)?;
        // A later end writes its model before its summary.
        if digest(&weights).to_string() != summary.weights_digest {
            return Ok(Self { summary: None, weights: newer(0)? });
        }
        Ok(Self { weights: Some((summary.steps, weights)), summary: Some(summary) })
    }
}

/// The newest valid checkpoint of `least` steps or more.
fn checkpointed(
    directory: &RunDirectory,
    run_id: &[u8; 16],
    least: u64,
) -> Result<Option<(u64, Box<[f32]>)>> {
    let files: Arc<dyn Files> = Arc::new(Disk);
    let folder = directory.checkpoints();
    // A run that was ended early may have no folder of checkpoints.
    let names = list_checkpoints(&*files, &folder).unwrap_or_default();
    for name in names.iter().rev().filter(|name| name.step >= least) {
        let digest_of = |model: &_| Ok(digest(&weights_of(model)?).0);
        if let Ok((manifest, model)) = load_checkpoint(&*files, &folder, name, run_id, &digest_of) {
            return Ok(Some((manifest.step, weights_of(&model).map_err(Error::msg)?)));
        }
    }
    Ok(None)
}

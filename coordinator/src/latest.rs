//! How far a run has come, as its directory tells: its newest weights, and its summary if it is about them. Reads only.

use std::path::PathBuf;

use anyhow::Result;
use lockstep_checkpoint::{Disk, list_checkpoints, load_checkpoint, read_model};
use lockstep_model::digest;
use lockstep_telemetry::Summary;

use crate::prepare::weights_of;
use crate::run_directory::RunDirectory;

/// The newest that a run directory has.
pub struct Latest {
    /// What the run found out, if that is how it ended last: one that was taken up again may have gone on since.
    pub summary: Option<Summary>,
    /// The final model of that end, else the newest valid checkpoint; or the sentence that says why there are none.
    pub weights: Result<Stored, String>,
}

/// Weights of a run.
pub struct Stored {
    /// The file that has them.
    pub path: PathBuf,
    /// The step after which the run had them, if that is known.
    pub step: Option<u64>,
    /// All of them.
    pub values: Box<[f32]>,
}

impl Latest {
    /// The newest of a run that has recorded `steps`.
    ///
    /// # Errors
    ///
    /// If there is a summary and it cannot be read.
    pub fn read(directory: &RunDirectory, run_id: &[u8; 16], steps: u64) -> Result<Self> {
        let summary =
            directory.summary().exists().then(|| Summary::read(&directory.summary())).transpose()?;
        let newest = |least| checkpointed(directory, run_id, least);
        let Some(summary) = summary else {
            // A run that lost its workers has a model and no summary.
            let weights = match newest(0) {
                Some(stored) => Ok(stored),
                None if directory.model().exists() => {
                    read_final(directory).map(|values| Stored { path: directory.model(), step: None, values })
                }
                None => Err(nothing(directory)),
            };
            return Ok(Self { summary: None, weights });
        };
        let newer = newest(summary.steps + 1);
        if newer.is_some() || steps > summary.steps {
            let weights = newer.or_else(|| newest(0)).ok_or_else(|| nothing(directory));
            return Ok(Self { summary: None, weights });
        }
        let weights = match final_model(directory, &summary) {
            Ok(values) => Ok(Stored { path: directory.model(), step: Some(summary.steps), values }),
            Err(flaw) => match newest(summary.steps)
                .filter(|stored| digest(&stored.values).to_string() == summary.weights_digest)
            {
                Some(stored) => {
                    tracing::warn!("{flaw}; the same weights are taken from {}", stored.path.display());
                    Ok(stored)
                }
                None => Err(format!(
                    "{flaw}; write it again with `coordinator --resume {}`",
                    directory.path().display()
                )),
            },
        };
        Ok(Self { summary: Some(summary), weights })
    }
}

/// The weights of the model that a run's end has written, which are those that its summary speaks of.
///
/// # Errors
///
/// The sentence that says what is wrong.
pub fn final_model(directory: &RunDirectory, summary: &Summary) -> Result<Box<[f32]>, String> {
    let values = read_final(directory)?;
    let actual = digest(&values).to_string();
    if actual == summary.weights_digest {
        return Ok(values);
    }
    Err(format!(
        "{} does not belong to its run: its weights have the digest {actual}, and the run's summary says {}",
        directory.model().display(),
        summary.weights_digest
    ))
}

fn read_final(directory: &RunDirectory) -> Result<Box<[f32]>, String> {
    let path = directory.model();
    if !path.exists() {
        return Err(format!("{} is not there", path.display()));
    }
    let model = read_model(&path).map_err(|error| error.to_string())?;
    weights_of(&model).map_err(|flaw| format!("{} does not fit this network: {flaw}", path.display()))
}

fn nothing(directory: &RunDirectory) -> String {
    let path = directory.path().display();
    format!(
        "the run in {path} has no weights yet, neither a valid checkpoint nor a model.safetensors; go on with \
         `coordinator --resume {path}`"
    )
}

/// The newest valid checkpoint of `least` steps or more; those that are not valid are named in warnings.
fn checkpointed(directory: &RunDirectory, run_id: &[u8; 16], least: u64) -> Option<Stored> {
    let folder = directory.checkpoints();
    // A run that was ended early may have no folder of checkpoints.
    let names = list_checkpoints(&Disk, &folder).unwrap_or_default();
    for name in names.iter().rev().filter(|name| name.step >= least) {
        let digest_of = |model: &_| Ok(digest(&weights_of(model)?).0);
        match load_checkpoint(&Disk, &folder, name, run_id, &digest_of) {
            Ok((manifest, model)) => {
                let values = weights_of(&model).ok()?;
                return Some(Stored { path: folder.join(name.weights()), step: Some(manifest.step), values });
            }
            Err(flaw) => {
                tracing::warn!("{} is no valid checkpoint: {flaw}", folder.join(name.manifest()).display());
            }
        }
    }
    None
}

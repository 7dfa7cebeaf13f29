//! How far a run has come, as its directory tells: its newest weights, and its summary if it is about them. Reads only.

use std::path::PathBuf;

use anyhow::{Result, bail};
use lockstep_checkpoint::{Disk, list_checkpoints, load_checkpoint, read_model};
use lockstep_model::digest;
use lockstep_proto::RunId;
use lockstep_records::Summary;

use crate::RunDirectory;
use crate::model_file::weights_of;

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
    /// As [`summary`].
    pub fn read(directory: &RunDirectory, run_id: &[u8; 16], steps: u64) -> Result<Self> {
        let summary = summary(directory, run_id)?;
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

/// How a run ended, if it has ended; it may have gone on since, which it has if it has done more steps.
///
/// # Errors
///
/// If there is a summary and it cannot be read, or it is another run's.
pub fn summary(directory: &RunDirectory, run_id: &[u8; 16]) -> Result<Option<Summary>> {
    let path = directory.summary();
    let summary = path.exists().then(|| Summary::read(&path)).transpose()?;
    if let Some(Summary { run_id: found, .. }) = &summary
        && *found != RunId(*run_id).to_string()
    {
        bail!("{} is the summary of another run, {found}", path.display());
    }
    Ok(summary)
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
    let list = || {
        // A run that was ended early may have no folder of checkpoints.
        let mut names = list_checkpoints(&Disk, &folder).unwrap_or_default();
        names.retain(|name| name.step >= least);
        names
    };
    newest_of(list, |name| {
        let digest_of = |model: &_| Ok(digest(&weights_of(model)?).0);
        match load_checkpoint(&Disk, &folder, name, run_id, &digest_of) {
            Ok((manifest, model)) => {
                let values = weights_of(&model).ok()?;
                Some(Stored { path: folder.join(name.weights()), step: Some(manifest.step), values })
            }
            Err(flaw) => {
                let manifest = folder.join(name.manifest());
                // Else it was removed meanwhile.
                if manifest.exists() {
                    tracing::warn!("{} is no valid checkpoint: {flaw}", manifest.display());
                }
                None
            }
        }
    })
}

/// The newest that loads. A coordinator that trains beside us may have removed all that were listed, for newer ones.
fn newest_of<Name: PartialEq, T>(
    mut list: impl FnMut() -> Vec<Name>,
    mut load: impl FnMut(&Name) -> Option<T>,
) -> Option<T> {
    let mut seen = Vec::new();
    loop {
        let names = list();
        if names.iter().all(|name| seen.contains(name)) {
            return None;
        }
        let found = names.iter().rev().filter(|name| !seen.contains(name)).find_map(&mut load);
        if found.is_some() {
            return found;
        }
        seen = names;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_that_are_replaced_while_they_are_read_are_looked_for_again() {
        let mut listings = [vec![1, 2, 3], vec![3, 4, 5]].into_iter();
        let mut tried = Vec::new();
        let newest = newest_of(
            || listings.next().unwrap(),
            |name| {
                tried.push(*name);
                (*name > 3).then_some(*name)
            },
        );
        assert_eq!((newest, tried), (Some(5), vec![3, 2, 1, 5]));

        // Where nobody writes, each is tried once.
        let mut tried = 0;
        let none = newest_of(
            || vec![1, 2],
            |_| -> Option<()> {
                tried += 1;
                None
            },
        );
        assert_eq!((none, tried), (None, 2));
    }
}

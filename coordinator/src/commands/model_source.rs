//! Which weights a run directory, a file, or nothing at all stand for.
//!
//! A finished run stands for its `model.safetensors`, one that is not for its newest valid checkpoint. Reads only.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Result, bail};
use lockstep_model::{Digest, NUMERICS_VERSION, digest};
use lockstep_records::{Status, Summary};
use lockstep_run_directory::RunDirectory;
use lockstep_run_directory::identity::{RunIdentity, StoredIdentity};
use lockstep_run_directory::model_file;
use lockstep_run_directory::newest_weights::{Latest, Stored};
use lockstep_run_directory::stored_run::StoredRun;
use serde::Serialize;

/// Where runs lie that were given no directory.
const RUNS: &str = "runs";

/// Weights, and where they come from.
#[derive(Debug)]
pub struct Model {
    /// The file that has them.
    pub path: PathBuf,
    /// All of them.
    pub weights: Box<[f32]>,
    /// Their digest.
    pub digest: Digest,
    /// The run that they are of; absent for a file.
    pub run: Option<ModelOfRun>,
}

/// The run that weights are of.
#[derive(Debug)]
pub struct ModelOfRun {
    /// Its directory.
    pub directory: PathBuf,
    /// What it is.
    pub stored: StoredIdentity,
    /// The step after which the run had these weights, if that is known.
    pub step: Option<u64>,
    /// Whether it ended there.
    pub finished: bool,
}

/// What an exported file says about itself; absent values are left out.
#[derive(Serialize)]
struct Metadata<'a> {
    weights_digest: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<&'a RunIdentity>,
}

impl Model {
    /// The weights that `path`, a run's directory or a safetensors file, stands for.
    ///
    /// # Errors
    ///
    /// If it is neither, is damaged, is of another version of this program, or has no weights yet.
    pub fn find(path: &Path) -> Result<Self> {
        match fs::metadata(path) {
            Ok(found) if found.is_dir() => Self::of_run(path),
            Ok(_) => Self::of_file(path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !path.is_symlink() => {
                bail!("there is no run directory or model file {}", path.display())
            }
            Err(error) => bail!("{}", lockstep_dataset::why_not(path, &error)),
        }
    }

    /// The weights of the run under `runs/` that was finished last.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn newest() -> Result<Self> {
        match newest_finished(Path::new(RUNS)) {
            Some(run) => Self::of_run(&run),
            None => {
                bail!("there is no finished run under {RUNS}/; name a run directory or a file with --model")
            }
        }
    }

    /// What people are told about it.
    pub fn describe(&self) -> String {
        let path = self.path.display();
        match &self.run {
            Some(ModelOfRun { step: Some(step), finished, .. }) => {
                let state = if *finished { "of a finished run" } else { "of a run that is not finished" };
                format!("{path}, after step {step} {state}")
            }
            _ => path.to_string(),
        }
    }

    /// What an exported file says about itself, as JSON: numbers and digests, nothing of the machine it was made on.
    pub fn metadata(&self) -> String {
        let run = self.run.as_ref();
        let metadata = Metadata {
            weights_digest: self.digest.to_string(),
            run_id: run.map(|run| format!("{:032x}", u128::from_be_bytes(run.stored.run_id))),
            step: run.and_then(|run| run.step),
            identity: run.map(|run| &run.stored.identity),
        };
        // Strings as keys and no failing `Serialize`: there is nothing in it that could fail.
        serde_json::to_string(&metadata).expect("metadata are always expressible as JSON")
    }

    fn of_file(path: &Path) -> Result<Self> {
        Ok(Self::new(path.to_path_buf(), model_file::read(path)?, None))
    }

    fn new(path: PathBuf, weights: Box<[f32]>, run: Option<ModelOfRun>) -> Self {
        Self { digest: digest(&weights), path, weights, run }
    }

    fn of_run(path: &Path) -> Result<Self> {
        let StoredRun { directory, stored, .. } = StoredRun::open(path)?;
        let version = stored.identity.numerics_version;
        if version != NUMERICS_VERSION {
            bail!(
                "the run in {} has the numerics version {version}, and this program has {NUMERICS_VERSION}; use the \
                 version of this program that it was begun with, or name its model.safetensors",
                path.display()
            );
        }
        let Latest { summary, weights } = Latest::read(&directory, &stored.run_id, 0)?;
        let Stored { path: file, step, values } = weights.map_err(anyhow::Error::msg)?;
        let finished = summary.is_some_and(|summary| summary.status == Status::Done);
        let run = ModelOfRun { directory: path.to_path_buf(), stored, step, finished };
        Ok(Self::new(file, values, Some(run)))
    }
}

/// The run in `folder` whose summary says that it is done, and was written last.
fn newest_finished(folder: &Path) -> Option<PathBuf> {
    let runs = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
    let finished = |path: PathBuf| -> Option<(SystemTime, PathBuf)> {
        let summary = RunDirectory::open(&path).ok()?.summary();
        let written = fs::metadata(&summary).and_then(|file| file.modified()).ok()?;
        (Summary::read(&summary).ok()?.status == Status::Done).then_some((written, path))
    };
    // Of two at the same instant the later name, which begins with the time.
    runs.filter_map(finished).max().map(|(_, path)| path)
}

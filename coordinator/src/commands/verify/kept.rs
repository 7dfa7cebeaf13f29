//! What a run's directory says of its weights besides the log: checkpoints, the summary, the final model; and what its
//! events say of a disk that did not keep records. Reads only.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use lockstep_checkpoint::{Disk, list_checkpoints, load_checkpoint, read_model};
use lockstep_model::{Digest, digest};
use lockstep_proto::RunId;
use lockstep_records::{Record, each_record};
use lockstep_run_directory::RunDirectory;
use lockstep_run_directory::model_file::weights_of;
use lockstep_run_directory::newest_weights;

/// Kinds of events that tell of steps without a record.
const NOT_RECORDED: [&str; 2] = ["disk_behind", "log_failed"];

/// A state of the run that its directory has.
pub struct State {
    /// The step after which the weights are these.
    pub step: u64,
    /// Of the weights.
    pub digest: Digest,
    /// Where it says so.
    pub place: String,
}

/// What a run's directory says of its weights besides the log.
pub struct Kept {
    /// Valid checkpoints and the end that the summary tells of, by step.
    pub states: Vec<State>,
    /// What cannot be looked at, in sentences.
    pub unreadable: Vec<String>,
    /// The final model, if there is one.
    pub model: Option<Model>,
    /// Which of the states is the end that the summary tells of.
    pub(super) ended: Option<usize>,
    /// What the run says of steps without a record; nothing, if it keeps no events.
    pub not_recorded: Option<Vec<String>>,
}

/// The final model.
pub struct Model {
    /// Where it lies.
    pub path: PathBuf,
    /// The digest of its weights, or what is wrong with it.
    pub digest: Result<Digest, String>,
}

impl Kept {
    /// Looks at all of it.
    ///
    /// # Errors
    ///
    /// If the summary or the events are not those of this run.
    pub fn read(directory: &RunDirectory, run_id: &[u8; 16], identity: &str) -> Result<Self> {
        let (mut states, mut unreadable) = checkpoints(directory, run_id);
        let summary = newest_weights::summary(directory, run_id)?;
        let place = directory.summary().display().to_string();
        if let Some(summary) = &summary {
            match summary.weights_digest.parse() {
                Ok(digest) => states.push(State { step: summary.steps, digest, place: place.clone() }),
                Err(flaw) => unreadable.push(format!("{place}: {flaw}")),
            }
        }
        states.sort_by_key(|state| state.step);
        let ended = states.iter().position(|state| state.place == place);
        let path = directory.model();
        let model = match path.exists() {
            true => Some(Model { digest: model(&path, identity), path }),
            false => {
                if summary.is_some() {
                    unreadable.push(format!("{} is not there", path.display()));
                }
                None
            }
        };
        let mut events = Vec::new();
        let has_events = directory.events().exists();
        let files = [directory.metrics(), directory.events()];
        each_record(&files, &RunId(*run_id).to_string(), |record| {
            if let Record::Event(event) = record
                && NOT_RECORDED.contains(&&*event.kind)
            {
                events.push(event.reason);
            }
        })
        .context("cannot read what the run has recorded")?;
        let ends_early = summary.and_then(|summary| summary.log_ends_early);
        let says = has_events || ends_early.is_some();
        events.extend(ends_early);
        Ok(Self { states, unreadable, model, ended, not_recorded: says.then_some(events) })
    }

    /// The end that the summary tells of.
    pub fn ended(&self) -> Option<&State> {
        self.ended.map(|at| &self.states[at])
    }

    /// The last step that is known of.
    pub fn last_step(&self) -> u64 {
        self.states.last().map_or(0, |state| state.step)
    }
}

fn checkpoints(directory: &RunDirectory, run_id: &[u8; 16]) -> (Vec<State>, Vec<String>) {
    let folder = directory.checkpoints();
    let (mut states, mut unreadable) = (Vec::new(), Vec::new());
    // A run that was ended early may have no folder of checkpoints.
    for name in list_checkpoints(&Disk, &folder).unwrap_or_default() {
        let manifest = folder.join(name.manifest());
        let digest_of = |model: &_| Ok(digest(&weights_of(model)?).0);
        match load_checkpoint(&Disk, &folder, &name, run_id, &digest_of) {
            Ok((found, _)) => states.push(State {
                step: found.step,
                digest: Digest(found.weights_digest),
                place: manifest.display().to_string(),
            }),
            // One that is gone was replaced by a coordinator that trains beside us.
            Err(flaw) if manifest.exists() => {
                unreadable.push(format!("{} is no valid checkpoint: {flaw}", manifest.display()));
            }
            Err(_) => {}
        }
    }
    (states, unreadable)
}

/// The digest of a final model of the run with this identity.
fn model(path: &Path, identity: &str) -> Result<Digest, String> {
    let model = read_model(path).map_err(|error| error.to_string())?;
    let parsed = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
    if model.metadata.as_deref().and_then(parsed) != parsed(identity) {
        return Err("it names another run's identity".to_string());
    }
    Ok(digest(&weights_of(&model)?))
}

//! What a simulated run keeps on its virtual disk: term, step log and checkpoints, all through the production crate.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use lockstep_checkpoint::{
    Checkpoints, Damage, Entry, Error, FileSystem, Journal, JournalError, JournalPaths, Kind, LastTask,
    LogHeader, Manifest, Note, Opened, Progress, Proof, Record, Records, State, StoredModel, advance_term,
};
use lockstep_control::{Task, TaskKind};

use crate::arithmetic::Value;
use crate::disk::{Mount, VirtualDisk};
use crate::knobs::Knobs;
use crate::message::RUN;

/// The run's folder.
pub const FOLDER: &str = "/run";

/// Tensors are floats: 16 of them hold the 32 bytes of toy weights, two bytes each.
const TOY_SHAPE: [usize; 1] = [16];

/// What a process of the coordinator begins with.
#[derive(Debug)]
pub struct Kept {
    /// Its term.
    pub term: u64,
    /// Where it writes.
    pub storage: Storage,
    /// The newest state; `None`: the run begins.
    pub restored: Option<Restored>,
}

/// A state that an earlier process has saved.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The last task that is done.
    pub after: Task,
    /// The weights.
    pub weights: Value,
    /// Examples that the steps so far were trained on.
    pub examples: u64,
}

/// What the journal cannot do.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another process has taken the run over.
    Superseded {
        /// Its term.
        term: u64,
    },
    /// Anything else, as a sentence.
    Failed(String),
}

/// The journal of one process.
pub struct Storage {
    term: u64,
    journal: Journal,
    steps_per_epoch: u64,
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Storage of term {}", self.term)
    }
}

impl From<JournalError> for Refusal {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Superseded(Error::Superseded { term, .. }) => Self::Superseded { term },
            other => Self::Failed(other.to_string()),
        }
    }
}

impl Storage {
    /// Opens the journal for a new process; `initial` are the weights before the first step.
    ///
    /// # Errors
    ///
    /// What the disk refuses, as a sentence.
    pub fn open(mount: &Mount, knobs: &Knobs, initial: &Value) -> Result<Kept, String> {
        let files: Arc<dyn FileSystem> = Arc::new(mount.clone());
        let paths =
            JournalPaths { log: path("steps.log"), checkpoints: path("checkpoints"), term: path("term") };
        let Opened { journal, term, restored, .. } =
            Journal::open(files, &paths, &header(knobs), initial.digest(), &digest_of)
                .map_err(|error| error.to_string())?;
        let restored = restored.map(|(manifest, model)| restored_from(&manifest, &model)).transpose()?;
        Ok(Kept { term, storage: Self { term, journal, steps_per_epoch: knobs.steps_per_epoch() }, restored })
    }

    /// Records a step, or proves that it is what its record says.
    ///
    /// # Errors
    ///
    /// If it differs from what was recorded, or the run was taken over. A log that fails is no error: training goes on.
    pub fn committed(&mut self, step: u64, weights: &Value) -> Result<Proof, Refusal> {
        self.journal.committed(step, weights.digest()).map_err(Refusal::from)
    }

    /// The steps that were committed and whose records may be lost.
    pub fn pending(&self) -> Option<RangeInclusive<u64>> {
        self.journal.pending()
    }

    /// What the journal has told since it was last asked.
    pub fn take_notes(&mut self) -> Vec<Note> {
        self.journal.take_notes()
    }

    /// Saves the state after a task.
    ///
    /// # Errors
    ///
    /// What the disk refuses, or that the run was taken over.
    pub fn save(&mut self, after: Task, weights: &Value, examples: u64) -> Result<(), Refusal> {
        let last_task = match after.kind {
            TaskKind::Train => LastTask::Step,
            TaskKind::Validate | TaskKind::Test => LastTask::Validation,
        };
        let state = State {
            term: self.term,
            step: after.step,
            last_task,
            weights_digest: weights.digest(),
            identity: serde_json::Value::Null,
            progress: Progress {
                examples,
                train_seconds: 0.0,
                seconds: 0.0,
                epochs: (after.step / self.steps_per_epoch) as u32,
                val_loss: None,
                val_accuracy: None,
                counts: serde_json::Value::Null,
            },
        };
        if let Value::Floats(values) = weights {
            return self.save_tensor(&state, &[values.len()], values);
        }
        let bytes = weights.to_bytes();
        let pairs = bytes.as_chunks::<2>().0;
        let values: Vec<f32> = pairs.iter().map(|pair| f32::from(u16::from_le_bytes(*pair))).collect();
        self.save_tensor(&state, &TOY_SHAPE, &values)
    }

    fn save_tensor(&mut self, state: &State, shape: &[usize], values: &[f32]) -> Result<(), Refusal> {
        self.journal.save(state, &[("weights", shape, values)]).map_err(Refusal::from)
    }
}

/// What a process that starts on this disk would find.
///
/// # Errors
///
/// What the disk refuses, as a sentence.
pub fn newest_on(disk: &VirtualDisk) -> Result<Option<Restored>, String> {
    let files: Arc<dyn FileSystem> = Arc::new(disk.open(usize::MAX));
    let opened = Checkpoints::open(files, &path("checkpoints"), RUN.0);
    let found = opened.map_err(|error| error.to_string())?.newest(&digest_of).found;
    found.map(|(manifest, model)| restored_from(&manifest, &model)).transpose()
}

/// Manifests of checkpoints that are there.
pub fn kept_on(disk: &VirtualDisk) -> usize {
    let folder = path("checkpoints");
    let is_manifest =
        |path: &&PathBuf| path.parent() == Some(&folder) && path.extension().is_some_and(|end| end == "json");
    disk.names().iter().filter(is_manifest).count()
}

/// What a log says, small enough to be held in memory.
#[derive(Debug, Default)]
pub struct Logged {
    records: Vec<Record>,
    damages: Vec<Damage>,
}

impl Logged {
    /// All valid records, as written.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// What was first found to be wrong with the log, if anything.
    pub fn damage(&self) -> Option<&Damage> {
        self.damages.first()
    }

    /// The digest of the weights after `step`, if that step has a record.
    pub fn digest_of(&self, step: u64) -> Option<[u8; 32]> {
        let found = self.records.iter().find(|record| record.kind == Kind::Step && record.step == step);
        found.map(|record| record.weights_digest)
    }

    /// The last step that has a record; 0 if none has.
    pub fn last_step(&self) -> u64 {
        self.records.iter().rfind(|record| record.kind == Kind::Step).map_or(0, |record| record.step)
    }
}

/// The records that a process that starts on this disk would find.
///
/// # Errors
///
/// What the disk refuses, as a sentence.
pub fn history_on(disk: &VirtualDisk, knobs: &Knobs) -> Result<Logged, String> {
    let mut logged = Logged::default();
    let records = match Records::open(Arc::new(disk.open(usize::MAX)), &path("steps.log"), &header(knobs)) {
        Ok(records) => records,
        Err(Error::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Ok(logged);
        }
        Err(error) => return Err(error.to_string()),
    };
    for entry in records {
        match entry.map_err(|error| error.to_string())? {
            Entry::Record(record) => logged.records.push(record),
            Entry::Damage(damage) => logged.damages.push(damage),
            Entry::Gap(_) => {}
        }
    }
    Ok(logged)
}

/// The term that a process that starts on this disk would have.
///
/// # Errors
///
/// What the disk refuses, as a sentence.
pub fn next_term_on(disk: &VirtualDisk) -> Result<u64, String> {
    advance_term(&disk.open(usize::MAX), &path("term"), 0).map_err(|error| error.to_string())
}

/// A name in the run's folder.
pub fn path(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

fn header(knobs: &Knobs) -> LogHeader {
    LogHeader::new(RUN.0, &format!("seed {}", knobs.seed))
}

fn digest_of(model: &StoredModel) -> Result<[u8; 32], String> {
    Ok(weights_of(model).ok_or("no weights of ours")?.digest())
}

fn restored_from(manifest: &Manifest, model: &StoredModel) -> Result<Restored, String> {
    let kind = match manifest.last_task {
        LastTask::Step => TaskKind::Train,
        LastTask::Validation => TaskKind::Validate,
    };
    let after = Task { kind, step: manifest.step };
    let weights = weights_of(model).ok_or("no weights of ours")?;
    Ok(Restored { after, weights, examples: manifest.progress.examples })
}

fn weights_of(model: &StoredModel) -> Option<Value> {
    let values = &model.tensor("weights")?.values;
    if values.len() == TOY_SHAPE[0] {
        let bytes: Vec<u8> = values.iter().flat_map(|pair| (*pair as u16).to_le_bytes()).collect();
        return Value::from_bytes(&bytes);
    }
    Some(Value::Floats(values.as_slice().into()))
}

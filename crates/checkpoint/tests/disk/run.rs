//! The small run that all scenarios write: its names, its weights, its states.

use std::{ops::RangeInclusive, path::Path, sync::Arc};

use lockstep_checkpoint::{
    Checkpoints, Error, FileSystem, History, Journal, JournalError, JournalPaths, LastTask, Limits,
    LogHeader, Manifest, Opened, Progress, Record, State, StepLog, StoredModel,
};

use crate::memory::Memory;

pub const RUN: [u8; 16] = [5; 16];
pub const FOLDER: &str = "/run/checkpoints";
pub const LOG: &str = "/run/steps.log";
pub const TERM: &str = "/run/term";
pub const HEADER: LogHeader = LogHeader { run_id: RUN, identity: [6; 32] };
/// More than any file here has.
pub const LIMIT: u64 = 1 << 20;

/// Stand-in for the network's weights: the step can be read from them.
pub fn weights(step: u64) -> [f32; 2] {
    [step as f32, -1.0]
}

/// Stand-in for the network's digest: the step, 32 times.
pub fn digest_of(model: &StoredModel) -> Result<[u8; 32], String> {
    let tensor = model.tensor("w").ok_or("there is no tensor called w")?;
    Ok([tensor.values[0] as u8; 32])
}

pub fn state(term: u64, step: u64, last_task: LastTask) -> State {
    let (val_loss, val_accuracy) = (Some(0.1), None);
    let progress = Progress {
        examples: 64 * step,
        train_seconds: 0.5,
        seconds: 0.75,
        epochs: 0,
        val_loss,
        val_accuracy,
        counts: serde_json::Value::Null,
    };
    let identity = serde_json::json!({ "seed": 42 });
    State { term, step, last_task, weights_digest: [step as u8; 32], identity, progress }
}

pub fn files(memory: &Memory) -> Arc<dyn FileSystem> {
    Arc::new(memory.clone())
}

pub fn open_log(memory: &Memory) -> Result<(StepLog, History), Error> {
    StepLog::open(files(memory), Path::new(LOG), &HEADER)
}

/// Opens the journal of the run with a log whose segments end behind so many records.
pub fn open_journal(files: Arc<dyn FileSystem>, records: u64) -> Result<Opened, Error> {
    let paths = JournalPaths { log: LOG.into(), checkpoints: FOLDER.into(), term: TERM.into() };
    let limits = Limits { segment_bytes: 132 + records * 92, ..Limits::default() };
    Journal::open_limited(files, &paths, &HEADER, [0; 32], &digest_of, limits)
}

/// Records the steps, whose digests are made of their numbers.
pub fn commit(journal: &mut Journal, steps: RangeInclusive<u64>) {
    for step in steps {
        journal.committed(step, [step as u8; 32]).unwrap();
    }
}

pub fn save_journal(journal: &mut Journal, term: u64, step: u64) -> Result<(), JournalError> {
    journal.save(&state(term, step, LastTask::Step), &[("w", &[2], &weights(step))])
}

pub fn sentences(journal: &mut Journal) -> Vec<String> {
    journal.take_notes().iter().map(ToString::to_string).collect()
}

/// What the log says as a whole, and its records.
pub fn read_log(memory: &Memory) -> (History, Vec<Record>) {
    let mut records = Vec::new();
    let history =
        History::visit(files(memory), Path::new(LOG), &HEADER, |record| records.push(*record)).unwrap();
    (history, records)
}

pub fn open(memory: &Memory) -> Result<Checkpoints, Error> {
    Checkpoints::open(files(memory), Path::new(FOLDER), RUN)
}

pub fn save(checkpoints: &mut Checkpoints, state: &State) -> Result<Manifest, Error> {
    checkpoints.save(state, &[("w", &[2], &weights(state.step))])
}

pub fn save_step(checkpoints: &mut Checkpoints, term: u64, step: u64) -> Result<Manifest, Error> {
    save(checkpoints, &state(term, step, LastTask::Step))
}

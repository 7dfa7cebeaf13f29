//! `report.html`: a run on one page that needs no server, no network and no script, to keep and to send.
//!
//! Made of the run directory's files alone, so that `coordinator report` writes the same page again; all it is given
//! besides are the first test digits. It cannot fail or hold up a run: a separate thread
//! builds it, and is left behind after a limit.

mod operations;
mod records;
mod reproduce;
mod sections;
mod svg;
mod training;

use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result};
use lockstep_charts::escaped as escape;
use lockstep_dataset::{Examples, SHEET_COLUMNS, contact_sheet};
use lockstep_model::{Cpu, Network, Workspace, digest};
use lockstep_proto::RunId;
use lockstep_records::{Ended, Summary, WorkersRecord, configuration_pairs};
use lockstep_run_directory::RunDirectory;
use lockstep_run_directory::newest_weights::{Latest, Stored};
use lockstep_run_directory::stored_run::StoredRun;
use lockstep_run_directory::workers_file;
use records::Records;

/// What is known of a run from its files.
pub struct RunData {
    /// The last part of its path: wherever it is called from.
    name: String,
    dataset: String,
    /// Keys and values of its `config.toml`.
    configuration: Vec<(String, String)>,
    records: Records,
    /// What each worker did, of the process that ended the run.
    workers: Option<WorkersRecord>,
    /// What the run found out, if that is how it ended last.
    summary: Option<Summary>,
    /// Its newest weights, their step and digest.
    weights: Option<Weights>,
    ended: Ended,
    /// It was begun with weights from a file.
    initialised: bool,
}

/// Weights of the run.
struct Weights {
    step: u64,
    values: Box<[f32]>,
    digest: String,
}

/// Test digits and what the newest weights take them for.
struct Predicted {
    step: u64,
    /// A PNG.
    sheet: Vec<u8>,
    /// For each its label and what it was taken for.
    digits: Vec<(u8, u8)>,
}

/// Reads what the files of a run tell.
///
/// # Errors
///
/// If one of them is there and cannot be read.
pub fn read(run: &StoredRun) -> Result<RunData> {
    let StoredRun { directory, stored, configuration } = run;
    let records = Records::read(directory, RunId(stored.run_id))
        .with_context(|| format!("cannot read the records in {}", directory.path().display()))?;
    let steps = records.history.progress().step;
    let Latest { summary, weights } = Latest::read(directory, &stored.run_id, steps)?;
    let weights = weights.map(|Stored { step, values, .. }| {
        let digest = digest(&values).to_string();
        Weights { step: step.unwrap_or(steps), values, digest }
    });
    let weights = weights.map_err(|flaw| tracing::warn!("the report predicts no digits: {flaw}")).ok();
    let ended = Ended::of_files(summary.as_ref(), records.history.events().iter());
    let workers = workers_file::read(directory, RunId(stored.run_id), steps);
    Ok(RunData {
        name: name(directory.path()),
        dataset: stored.identity.dataset.clone(),
        configuration: configuration_pairs(configuration),
        records,
        workers,
        summary,
        weights,
        ended,
        initialised: directory.initial_weights().exists(),
    })
}

fn name(path: &Path) -> String {
    let whole = fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    whole.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

impl RunData {
    /// The page. `digits` are the first of the test set, or the sentence that says why there are none.
    pub fn page(&self, digits: Result<Examples, String>) -> String {
        let predicted = digits.and_then(|digits| self.predict(&digits));
        sections::page(self, predicted)
    }

    fn predict(&self, digits: &Examples) -> Result<Predicted, String> {
        let Some(Weights { step, values, .. }) = &self.weights else {
            return Err("The run has no weights yet to predict digits with.".to_string());
        };
        let mut network = Network::new(Cpu::detect());
        network.load(values);
        let predicted = network.classes(&digits.images, &mut Workspace::new());
        Ok(Predicted {
            step: *step,
            sheet: contact_sheet(digits, SHEET_COLUMNS, SHEET_COLUMNS),
            digits: digits.labels.iter().copied().zip(predicted).collect(),
        })
    }
}

/// Writes the report at the end of a run, with what of its digits is known; reading and drawing may take `limit`.
///
/// # Errors
///
/// If they take longer, or the records cannot be read or the file not be written.
pub fn write_within(limit: Duration, directory: &RunDirectory, digits: Examples) -> Result<()> {
    let page = page_within(limit, directory, digits)?;
    Ok(lockstep_checkpoint::write_atomically(&directory.report(), page.as_bytes())?)
}

/// Makes the page on a thread of its own, which is left alone if it takes too long: only its end writes anything.
fn page_within(limit: Duration, directory: &RunDirectory, digits: Examples) -> Result<String> {
    let path = directory.path().to_path_buf();
    let (sender, receiver) = mpsc::sync_channel(1);
    let make = move || {
        let run = StoredRun::open(&path).and_then(|run| read(&run));
        // Nobody waits for it any longer, perhaps.
        let _ = sender.send(run.map(|run| run.page(Ok(digits))));
    };
    std::thread::Builder::new().name("report".to_string()).spawn(make)?;
    match receiver.recv_timeout(limit) {
        Ok(page) => page,
        Err(mpsc::RecvTimeoutError::Timeout) => {
            anyhow::bail!("reading its records takes longer than {limit:?}")
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => anyhow::bail!("it could not be drawn"),
    }
}

#[cfg(test)]
mod tests;

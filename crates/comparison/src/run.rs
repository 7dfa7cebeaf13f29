//! A run as its directory has it: what it is, what it was told, its log, its curves and its summary.
//!
//! Reads only, and may do so beside the coordinator that trains: then it finds what is written by now.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use lockstep_checkpoint::{Disk, History, Kind, LogHeader};
use lockstep_proto::RunId;
use lockstep_records::{EpochRecord, RunHistory, Summary, configuration_pairs};
use lockstep_run_directory::newest_weights::summary;
use lockstep_run_directory::stored_run::StoredRun;

use super::curves::CurvePoint;
use super::differences::Fields;
use super::first_difference::Logged;

/// Keys and values in a fixed order, the same for all runs; runs in which they are equal must have the same bits.
pub type Identity = Vec<(&'static str, String)>;

/// Everything that is compared of a run.
#[derive(Debug)]
pub struct Run {
    /// Its folder, as it was named.
    pub directory: String,
    /// Its random id.
    pub run_id: [u8; 16],
    /// What its bits follow from: keys and values.
    pub identity: Identity,
    /// `mnist` or `digits`.
    pub dataset: String,
    /// Its identity and its settings.
    pub fields: Fields,
    /// What its log says as a whole.
    pub history: History,
    /// The steps in its log.
    pub logged: Vec<Logged>,
    /// Its end; absent if it has not ended, or goes on after an end.
    pub summary: Option<Summary>,
    /// Its epochs.
    pub epochs: Vec<EpochRecord>,
    /// Its steps, gathered into points.
    pub curve: Vec<CurvePoint>,
}

impl Run {
    /// Reads the run in `path`.
    ///
    /// # Errors
    ///
    /// If there is none, or a file of it is of another version of this program, of another run, or damaged. Torn ends
    /// of logs are not: they are left out.
    pub fn read(path: &Path) -> Result<Self> {
        let StoredRun { directory, stored, configuration } = StoredRun::open(path)?;
        let header = LogHeader::new(stored.run_id, &serde_json::to_string(&stored.identity)?);
        let mut logged = Vec::new();
        let history = History::visit(Arc::new(Disk), &directory.steps_log(), &header, |record| {
            if record.kind == Kind::Step {
                logged.push((record.step, record.weights_digest));
            }
        })?;
        let summary =
            summary(&directory, &stored.run_id)?.filter(|summary| summary.steps >= history.last_step());
        let identity = stored.identity.fields().to_vec();
        let mut records = RunHistory::default();
        records
            .restore(&[directory.metrics(), directory.events()], &RunId(stored.run_id).to_string())
            .with_context(|| format!("cannot read the records in {}", path.display()))?;
        Ok(Self {
            directory: path.display().to_string(),
            fields: fields(&configuration, &identity, summary.as_ref()),
            run_id: stored.run_id,
            identity,
            dataset: stored.identity.dataset,
            history,
            logged,
            summary,
            epochs: records.epochs().to_vec(),
            curve: records.full_points().iter().map(CurvePoint::of).collect(),
        })
    }

    /// The last step in its log; 0 if there is none.
    pub fn last_logged(&self) -> u64 {
        self.logged.last().map_or(0, |(step, _)| *step)
    }

    /// The keys of the identity in which two runs differ; if in none, they must have the same bits.
    pub fn identity_differences(&self, other: &Self) -> Vec<&'static str> {
        let pairs = self.identity.iter().zip(&other.identity);
        pairs.filter(|((_, here), (_, there))| here != there).map(|((key, _), _)| *key).collect()
    }
}

/// The identity, then what else `config.toml` has; what a resumed run was told later is in its summary.
fn fields(configuration: &str, identity: &[(&'static str, String)], summary: Option<&Summary>) -> Fields {
    let mut fields: Fields = identity.iter().map(|(key, value)| (key.to_string(), value.clone())).collect();
    for (key, value) in configuration_pairs(configuration) {
        if key != "id" && !fields.iter().any(|(known, _)| *known == key) {
            fields.push((key, value.trim_matches('"').to_string()));
        }
    }
    let later = summary.map(|summary| {
        let threads = summary.threads_per_worker.map(|threads| threads.to_string());
        [("workers", Some(summary.workers.to_string())), ("threads-per-worker", threads)]
    });
    for (key, value) in later.into_iter().flatten() {
        let Some(value) = value else { continue };
        match fields.iter_mut().find(|(known, _)| known == key) {
            Some(field) => field.1 = value,
            None => fields.push((key.to_string(), value)),
        }
    }
    fields
}

//! The history of a run as people look at it: small, and bounded however long the run is.
//!
//! Records go in; pages and reports take out all of it, or what their cursor does not know yet.

mod curve;
mod notices;
mod progress;
mod revisioned;

use std::collections::VecDeque;
use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::{
    EpochRecord, EvaluationKind, EvaluationRecord, EventRecord, Record, StepRecord, WorkersRecord,
    each_record,
};
use curve::{Curve, Known};
use notices::Notices;
use progress::Pace;

pub use curve::{Point, Points};
pub use notices::Notice;
pub use progress::Progress;
pub use revisioned::Revisioned;

/// Events that are kept; `events.jsonl` has all.
const MAX_EVENTS: usize = 200;

/// Epochs that are kept; of more, every second goes.
const MAX_EPOCHS: usize = 512;

/// What a reader of the history does not know yet.
#[derive(Serialize)]
pub struct News {
    /// Always.
    pub progress: Progress,
    /// New points.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub curve: Option<Points>,
    /// All of them, if there is a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<Vec<EpochRecord>>,
    /// New ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<EventRecord>,
    /// All lines that stay, if there is a new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notices: Option<Vec<Notice>>,
    /// The newest.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "serialize_shared")]
    pub workers: Option<Arc<WorkersRecord>>,
    /// The last validation.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "serialize_shared")]
    pub validation: Option<Arc<EvaluationRecord>>,
    /// The test.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "serialize_shared")]
    pub test: Option<Arc<EvaluationRecord>>,
}

/// Writes what is shared like what is owned.
///
/// # Errors
///
/// Those of the value.
pub fn serialize_shared<T: Serialize, S: Serializer>(
    value: &Option<Arc<T>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    value.as_deref().serialize(serializer)
}

impl News {
    /// Whether there is anything but the progress.
    pub fn is_any(&self) -> bool {
        let Self { progress: _, curve, epochs, events, notices, workers, validation, test } = self;
        curve.is_some()
            || epochs.is_some()
            || !events.is_empty()
            || notices.is_some()
            || workers.is_some()
            || validation.is_some()
            || test.is_some()
    }
}

/// What a reader of the history knows.
#[derive(Debug, Default)]
pub struct Cursor {
    curve: Known,
    epochs: u64,
    events: u64,
    notices: u64,
    workers: u64,
    validation: u64,
    test: u64,
}

/// The bounded history of a run.
#[derive(Default)]
pub struct RunHistory {
    progress: Progress,
    pace: Pace,
    curve: Curve,
    epochs: Revisioned<Vec<EpochRecord>>,
    /// The newest ones.
    events: VecDeque<EventRecord>,
    /// All that there were.
    event_count: u64,
    notices: Revisioned<Notices>,
    workers: Revisioned<Option<Arc<WorkersRecord>>>,
    validation: Revisioned<Option<Arc<EvaluationRecord>>>,
    test: Revisioned<Option<Arc<EvaluationRecord>>>,
}

impl RunHistory {
    /// Takes in what the files of the run `run_id` have: `metrics.jsonl` and then `events.jsonl`.
    ///
    /// # Errors
    ///
    /// If a file that is there cannot be read, is of another run, or has another shape.
    pub fn restore(&mut self, files: &[PathBuf], run_id: &str) -> io::Result<()> {
        each_record(files, run_id, |record| self.take(&record))
    }

    /// Takes in what a file has recorded.
    pub fn take(&mut self, record: &Record) {
        match record {
            Record::Step(record) => self.step(record),
            Record::Epoch(record) => self.epoch(record),
            // A run that waited then does not wait now.
            Record::Event(record) => self.add_event(record),
            Record::Workers(record) => self.workers(Arc::new(record.clone())),
            Record::Evaluation(record) => self.evaluation(Arc::new(record.clone())),
            Record::Norms(_) | Record::Picture(_) => {}
        }
    }

    /// Takes in one step.
    pub fn step(&mut self, record: &StepRecord) {
        self.curve.step(record);
        self.progress.step(record, &mut self.pace);
    }

    /// Takes in the end of an epoch.
    pub fn epoch(&mut self, record: &EpochRecord) {
        let epochs = self.epochs.change();
        if epochs.len() == MAX_EPOCHS {
            let mut index = 0;
            epochs.retain(|_| {
                index += 1;
                index % 2 == 0
            });
        }
        epochs.push(record.clone());
    }

    /// Takes in an event that happens now.
    pub fn event(&mut self, record: &EventRecord) {
        match &*record.kind {
            "waiting" => self.progress.waiting = true,
            "worker_joined" => self.progress.waiting = false,
            _ => {}
        }
        self.add_event(record);
    }

    fn add_event(&mut self, record: &EventRecord) {
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(record.clone());
        self.event_count += 1;
        if notices::is_told_of(&record.kind) {
            self.notices.change().event(&record.kind, &record.reason);
        }
    }

    /// Takes in the state of the workers.
    pub fn workers(&mut self, record: Arc<WorkersRecord>) {
        self.workers.set(Some(record));
    }

    /// Takes in the result of an evaluation.
    pub fn evaluation(&mut self, record: Arc<EvaluationRecord>) {
        match record.of {
            EvaluationKind::Validation => self.validation.set(Some(record)),
            EvaluationKind::Test => self.test.set(Some(record)),
        }
    }

    /// Takes in which steps have no record, from the log itself.
    pub fn log_says(&mut self, gaps: &[RangeInclusive<u64>]) {
        self.notices.change().log_says(gaps);
    }

    /// The run is over: its rates are from now on those of all of it.
    pub fn end(&mut self) {
        self.progress.end(&self.pace);
    }

    /// Where the run is.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Loss and accuracy up to the last step.
    pub fn curve(&self) -> Vec<Point> {
        self.curve.whole()
    }

    /// Loss and accuracy as a page has them: without the last steps, if they are too few for a point.
    pub fn full_points(&self) -> Vec<Point> {
        self.curve.since(&mut Known::default()).points
    }

    /// The epochs, or every second one, or every fourth, of a long run.
    pub fn epochs(&self) -> &[EpochRecord] {
        self.epochs.get()
    }

    /// The newest events, the oldest first.
    pub fn events(&self) -> &VecDeque<EventRecord> {
        &self.events
    }

    /// All events that there were.
    pub fn event_count(&self) -> u64 {
        self.event_count
    }

    /// What is new since `cursor`, which knows it then.
    pub fn news(&self, cursor: &mut Cursor) -> News {
        let curve = self.curve.since(&mut cursor.curve);
        let new_events =
            self.event_count.saturating_sub(cursor.events).min(self.events.len() as u64) as usize;
        cursor.events = self.event_count;
        News {
            progress: self.progress.clone(),
            curve: (curve.replace || !curve.points.is_empty()).then_some(curve),
            epochs: self.epochs.news(&mut cursor.epochs).cloned(),
            events: self.events.range(self.events.len() - new_events..).cloned().collect(),
            notices: self.notices.news(&mut cursor.notices).map(|notices| notices.list().to_vec()),
            workers: self.workers.news(&mut cursor.workers).cloned().flatten(),
            validation: self.validation.news(&mut cursor.validation).cloned().flatten(),
            test: self.test.news(&mut cursor.test).cloned().flatten(),
        }
    }
}

#[cfg(test)]
mod tests;

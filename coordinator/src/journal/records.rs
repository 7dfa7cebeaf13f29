//! What goes to the thread besides steps and states: the records of the run's files, and pieces of other files.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use lockstep_records::{
    EpochRecord, EvaluationRecord, EventRecord, NormsRecord, PictureRecord, Record, StepRecord, WorkersRecord,
};

use super::{Job, Queue};

/// Hands every record to the thread without waiting.
pub(crate) struct Sink {
    queue: Arc<Queue>,
}

impl Sink {
    pub(super) fn new(queue: Arc<Queue>) -> Self {
        Self { queue }
    }

    fn hand_over(&self, record: Record) {
        self.queue.push_job(Job::Record(record));
    }
}

impl lockstep_telemetry::Sink for Sink {
    fn step(&mut self, record: &StepRecord) {
        self.hand_over(Record::Step(record.clone()));
    }

    fn epoch(&mut self, record: &EpochRecord) {
        self.hand_over(Record::Epoch(record.clone()));
    }

    fn event(&mut self, record: &EventRecord) {
        self.hand_over(Record::Event(record.clone()));
    }

    fn norms(&mut self, record: &NormsRecord) {
        self.hand_over(Record::Norms(record.clone()));
    }

    fn picture(&mut self, record: &PictureRecord) {
        self.hand_over(Record::Picture(record.clone()));
    }

    fn workers(&mut self, record: &WorkersRecord) {
        self.hand_over(Record::Workers(record.clone()));
    }

    fn evaluation(&mut self, record: &EvaluationRecord) {
        self.hand_over(Record::Evaluation(record.clone()));
    }
}

/// A file that is written piece by piece; after a failure it gets no more.
pub(crate) struct SideFile {
    name: &'static str,
    path: PathBuf,
    /// Absent after a failure.
    file: Mutex<Option<File>>,
}

impl SideFile {
    /// Creates the file, which must not exist; `name` is what it is to people.
    ///
    /// # Errors
    ///
    /// If it does, or the system refuses.
    pub fn create(name: &'static str, path: &Path) -> io::Result<Self> {
        Ok(Self { name, path: path.to_path_buf(), file: Mutex::new(Some(File::create_new(path)?)) })
    }

    /// Writes a piece; the sentence of its first failure.
    pub(super) fn append(&self, bytes: &[u8]) -> Result<(), String> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = &mut *file else { return Ok(()) };
        let written = open.write_all(bytes);
        written.map_err(|error| {
            *file = None;
            let Self { name, path, .. } = self;
            format!(
                "writing the {name} {} failed, nothing more is written to it and training goes on: {error}",
                path.display()
            )
        })
    }
}

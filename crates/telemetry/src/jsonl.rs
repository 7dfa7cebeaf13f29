//! `metrics.jsonl` and `events.jsonl`: one JSON object a line, the first line a header with the schema version.
//!
//! Lines leave the process whole: a reader, or a kill at any moment, finds no torn line of ours unless the disk tears
//! it. There is no clock: "once a second" is counted in the seconds of the records. A failing disk switches the file
//! off and never stops the training.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use lockstep_records::{EpochRecord, EventRecord, Header, StepRecord};
use serde::Serialize;

use crate::{Restored, ResumeError, Sink, SinkError, StepSums, resume};
use resume::Kept;

/// Lines are written out when this much is pending, however short the steps are: about 80 of them.
const MAX_PENDING_BYTES: usize = 32 << 10;

/// Lines are written out when the steps since the last time took this long, so that `tail -f` is of use.
const MAX_PENDING_SECONDS: f64 = 1.0;

/// `metrics.jsonl`: a line per step and per epoch.
pub struct MetricsSink<W: Write> {
    lines: Lines<W>,
    /// Time the steps took that are still pending.
    pending_seconds: f64,
}

impl MetricsSink<File> {
    /// Creates the file with its header line.
    ///
    /// # Errors
    ///
    /// The file exists already, or cannot be created or written.
    pub fn create(path: &Path, run_id: &str) -> Result<Self, SinkError> {
        Ok(Self { lines: Lines::create(path, run_id)?, pending_seconds: 0.0 })
    }

    /// Continues the file of an earlier process of the run: what lies beyond `restored` is cut, so that each step and
    /// each epoch appears once. A missing file is created. If lines up to `restored` are missing, which were lost with
    /// that process, a warning says so. Also gives the sums over the steps of the epoch that the run goes on in.
    ///
    /// # Errors
    ///
    /// [`ResumeError`]; the file of another run is not touched.
    pub fn resume(path: &Path, run_id: &str, restored: Restored) -> Result<(Self, StepSums), ResumeError> {
        let (lines, Kept { last_step, epoch, .. }) = Lines::resume(path, run_id, restored)?;
        if last_step < restored.step {
            tracing::warn!(
                "{} has no lines of the steps {} to {}: they were not written, or lost with the process that trained them",
                path.display(),
                last_step + 1,
                restored.step
            );
        }
        Ok((Self { lines, pending_seconds: 0.0 }, epoch))
    }
}

impl<W: Write> MetricsSink<W> {
    /// Writes to `writer`, called `name` in errors, beginning with the header line. Every call of the writer gets
    /// whole lines, so it needs no buffer of its own.
    pub fn new(name: &str, writer: W, run_id: &str) -> Self {
        Self { lines: Lines::new(name, writer, run_id), pending_seconds: 0.0 }
    }
}

impl<W: Write> Sink for MetricsSink<W> {
    fn step(&mut self, record: &StepRecord) {
        self.lines.push(record);
        self.pending_seconds += record.seconds;
        if self.pending_seconds >= MAX_PENDING_SECONDS {
            self.lines.write_out();
            self.pending_seconds = 0.0;
        }
    }

    fn epoch(&mut self, record: &EpochRecord) {
        self.lines.push(record);
        self.lines.write_out();
        self.pending_seconds = 0.0;
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.pending_seconds = 0.0;
        self.lines.flush()
    }
}

/// `events.jsonl`: a line per event, written at once.
pub struct EventsSink<W: Write> {
    lines: Lines<W>,
}

impl EventsSink<File> {
    /// Creates the file with its header line.
    ///
    /// # Errors
    ///
    /// The file exists already, or cannot be created or written.
    pub fn create(path: &Path, run_id: &str) -> Result<Self, SinkError> {
        Ok(Self { lines: Lines::create(path, run_id)? })
    }

    /// Continues the file of an earlier process of the run: events of steps beyond `restored` are cut. A missing file
    /// is created.
    ///
    /// # Errors
    ///
    /// [`ResumeError`]; the file of another run is not touched.
    pub fn resume(path: &Path, run_id: &str, restored: Restored) -> Result<Self, ResumeError> {
        let (lines, _) = Lines::resume(path, run_id, restored)?;
        Ok(Self { lines })
    }
}

impl<W: Write> EventsSink<W> {
    /// Writes to `writer`, called `name` in errors, beginning with the header line.
    pub fn new(name: &str, writer: W, run_id: &str) -> Self {
        Self { lines: Lines::new(name, writer, run_id) }
    }
}

impl<W: Write> Sink for EventsSink<W> {
    fn event(&mut self, record: &EventRecord) {
        self.lines.push(record);
        self.lines.write_out();
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.lines.flush()
    }
}

/// JSON lines on their way to a writer. Not a `BufWriter`: that one cuts a line where its buffer ends.
struct Lines<W: Write> {
    name: String,
    writer: W,
    /// Whole lines, and the memory that all later lines reuse.
    pending: Vec<u8>,
    /// Set by the first failure, for ever.
    off: bool,
    /// The failure, until it is reported.
    failure: Option<io::Error>,
}

impl Lines<File> {
    fn create(path: &Path, run_id: &str) -> Result<Self, SinkError> {
        let name = path.display().to_string();
        let file = File::create_new(path).map_err(|source| SinkError { sink: name.clone(), source })?;
        let mut lines = Self::new(&name, file, run_id);
        lines.flush()?;
        Ok(lines)
    }

    /// The lines behind those of the file, and what those have in the end.
    fn resume(path: &Path, run_id: &str, restored: Restored) -> Result<(Self, Kept), ResumeError> {
        let continued = resume::cut(path, run_id, restored)?;
        let mut lines = Self::without_header(&path.display().to_string(), continued.file);
        if !continued.has_header {
            lines.push(&Header::new(run_id));
            let failed =
                |error: SinkError| ResumeError::File { path: path.to_path_buf(), source: error.source };
            lines.flush().map_err(failed)?;
        }
        Ok((lines, continued.kept))
    }
}

impl<W: Write> Lines<W> {
    fn new(name: &str, writer: W, run_id: &str) -> Self {
        let mut lines = Self::without_header(name, writer);
        lines.push(&Header::new(run_id));
        lines
    }

    fn without_header(name: &str, writer: W) -> Self {
        let pending = Vec::with_capacity(MAX_PENDING_BYTES + 1024);
        Self { name: name.to_owned(), writer, pending, off: false, failure: None }
    }

    fn push(&mut self, record: &impl Serialize) {
        if self.off {
            return;
        }
        let start = self.pending.len();
        if let Err(error) = serde_json::to_writer(&mut self.pending, record) {
            self.pending.truncate(start);
            return self.fail(error.into());
        }
        self.pending.push(b'\n');
        if self.pending.len() >= MAX_PENDING_BYTES {
            self.write_out();
        }
    }

    fn write_out(&mut self) {
        if self.off || self.pending.is_empty() {
            return;
        }
        let written = self.writer.write_all(&self.pending).and_then(|()| self.writer.flush());
        self.pending.clear();
        if let Err(error) = written {
            self.fail(error);
        }
    }

    fn fail(&mut self, error: io::Error) {
        self.off = true;
        self.failure = Some(error);
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.write_out();
        match self.failure.take() {
            Some(source) => Err(SinkError { sink: self.name.clone(), source }),
            None => Ok(()),
        }
    }
}

impl<W: Write> Drop for Lines<W> {
    fn drop(&mut self) {
        self.write_out();
    }
}

#[cfg(test)]
mod tests;

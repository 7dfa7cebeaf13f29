//! Event files for TensorBoard: `train/` and `validation/` below one folder, a file for each process of the run.
//!
//! Owns the names of the curves and how many points they have. It has no clock: a point's wall time is when the run
//! began, which is given to it, plus the seconds of the records. It opens no file of an earlier process: a new file
//! begins with TensorBoard's own mark for a restart, which has readers forget the points beyond it.

mod event;
mod event_file;

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
};

use lockstep_records::{
    EpochRecord, EvaluationKind, EvaluationRecord, EventRecord, NormsRecord, PictureRecord, StepRecord,
    WorkersRecord,
};

use crate::{Restored, Sink, SinkError};
use event::{Content, Event, Image, SessionLog, Summary, Value, What};
use event_file::EventFile;

/// Points of a training curve in a run of the planned length: what a file has of them is about 2 MB. Of more steps
/// than that only every so many-th is drawn, evenly, as it is and without averages.
const MAX_POINTS: u64 = 5_000;

/// Points are written out when the steps since the last time took this long.
const MAX_PENDING_SECONDS: f64 = 1.0;

/// The version of the format, which the first record of a file names.
const FILE_VERSION: &str = "brain.Event:2";

/// A session that starts, as `SessionLog` numbers it.
const START: i32 = 1;

/// Red, green and blue, as `Image` numbers colour spaces.
const RGB: i32 = 3;

/// What a process of the run has to know of it before its first record.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    /// The term of the process, from 1. Readers take the files of a folder in the order of their names, and terms
    /// always grow; a clock may not.
    pub term: u64,
    /// Where the process goes on; absent in the first one of a run.
    pub restored: Option<Restored>,
    /// When the run began: seconds since 1970, less pauses between its processes.
    pub began: f64,
    /// Seconds of the run before this process.
    pub earlier_seconds: f64,
    /// Steps that the run is planned to have.
    pub steps: u64,
}

/// Writes event files.
pub struct TensorBoardSink<W: Write> {
    train: EventFile<W>,
    validation: EventFile<W>,
    began: f64,
    /// Of the run, as far as the records tell.
    seconds: f64,
    /// Steps from one point to the next.
    stride: u64,
    steps: u64,
    /// Time the steps took whose points are still pending.
    pending_seconds: f64,
    /// The points of a step, whose memory each step uses again.
    points: Vec<Value>,
}

impl TensorBoardSink<File> {
    /// Creates the files of a process of the run in `train/` and `validation/` below `directory`, and the folders as
    /// needed.
    ///
    /// # Errors
    ///
    /// A folder or file cannot be created or written, or this term's file exists already.
    pub fn create(directory: &Path, session: Session) -> Result<Self, SinkError> {
        let file = |name: &str| {
            let folder = directory.join(name);
            fs::create_dir_all(&folder)
                .map_err(|source| SinkError { sink: folder.display().to_string(), source })?;
            EventFile::create(&folder.join(format!("events.out.tfevents.{:010}.lockstep", session.term)))
        };
        let mut sink = Self::begin(file("train")?, file("validation")?, session);
        sink.flush()?;
        Ok(sink)
    }
}

impl<W: Write> TensorBoardSink<W> {
    /// Writes to two writers, which are called so in errors. Every call of a writer gets whole records, so it needs no
    /// buffer of its own.
    pub fn new(train: (&str, W), validation: (&str, W), session: Session) -> Self {
        let file = |(name, writer): (&str, W)| EventFile::new(name.to_owned(), writer);
        Self::begin(file(train), file(validation), session)
    }

    fn begin(train: EventFile<W>, validation: EventFile<W>, session: Session) -> Self {
        let Session { began, earlier_seconds, steps, restored, .. } = session;
        let stride = steps.div_ceil(MAX_POINTS).max(1);
        let points = STEP_TAGS.map(|tag| scalar(tag, 0.0)).into();
        let mut sink = Self {
            train,
            validation,
            began,
            seconds: earlier_seconds,
            stride,
            steps,
            pending_seconds: 0.0,
            points,
        };
        let version = sink.stamped(0, What::FileVersion(FILE_VERSION.to_owned()));
        sink.train.push(&version);
        sink.validation.push(&version);
        if let Some(Restored { step, validated }) = restored {
            // Readers forget this step, too: it is the first one that comes again.
            let next_validation = if validated { step + 1 } else { step };
            sink.train.push(&sink.stamped(step + 1, What::SessionLog(SessionLog { status: START })));
            sink.validation
                .push(&sink.stamped(next_validation, What::SessionLog(SessionLog { status: START })));
        }
        sink
    }

    fn stamped(&self, step: u64, what: What) -> Event {
        Event { wall_time: self.began + self.seconds, step: step as i64, what: Some(what) }
    }

    fn summary(&self, step: u64, values: Vec<Value>) -> Event {
        self.stamped(step, What::Summary(Summary { values }))
    }

    fn push_step(&mut self, record: &StepRecord) {
        for (point, value) in self.points.iter_mut().zip(step_values(record)) {
            point.content = Some(Content::Scalar(value));
        }
        let points = std::mem::take(&mut self.points);
        let event = self.summary(record.step, points);
        self.train.push(&event);
        if let Some(What::Summary(Summary { values })) = event.what {
            self.points = values;
        }
    }

    fn write_out(&mut self) {
        self.train.write_out();
        self.validation.write_out();
        self.pending_seconds = 0.0;
        if self.train.is_off() || self.validation.is_off() {
            // One of them alone is of no use, and one warning is enough.
            self.train.switch_off();
            self.validation.switch_off();
        }
    }
}

impl<W: Write> Sink for TensorBoardSink<W> {
    fn step(&mut self, record: &StepRecord) {
        self.seconds += record.seconds;
        self.pending_seconds += record.seconds;
        if record.step.is_multiple_of(self.stride) || record.step == 1 || record.step == self.steps {
            self.push_step(record);
        }
        if self.pending_seconds >= MAX_PENDING_SECONDS {
            self.write_out();
        }
    }

    fn epoch(&mut self, record: &EpochRecord) {
        let values = [("loss", record.val_loss), ("accuracy", record.val_accuracy)];
        let values: Vec<Value> =
            values.into_iter().filter_map(|(tag, value)| Some(scalar(tag, value?))).collect();
        if !values.is_empty() {
            self.validation.push(&self.summary(record.step, values));
        }
        self.write_out();
    }

    fn event(&mut self, record: &EventRecord) {
        // What is no step takes time, too.
        self.seconds = self.seconds.max(record.seconds);
    }

    fn workers(&mut self, record: &WorkersRecord) {
        self.seconds = self.seconds.max(record.seconds);
    }

    fn evaluation(&mut self, record: &EvaluationRecord) {
        // That of a validation comes with its epoch.
        if record.of == EvaluationKind::Test {
            let values = vec![scalar("test/loss", record.loss), scalar("test/accuracy", record.accuracy)];
            self.validation.push(&self.summary(record.step, values));
        }
    }

    fn norms(&mut self, record: &NormsRecord) {
        let (weights, gradient) = record.total();
        let mut values = Vec::with_capacity(2 * record.tensors.len() + 2);
        values.push(scalar("weight_norm/total", weights as f32));
        values.push(scalar("gradient_norm/total", gradient as f32));
        for tensor in &record.tensors {
            values.push(scalar(&format!("weight_norm/{}", tensor.name), tensor.weights as f32));
            values.push(scalar(&format!("gradient_norm/{}", tensor.name), tensor.gradient as f32));
        }
        self.train.push(&self.summary(record.step, values));
    }

    fn picture(&mut self, record: &PictureRecord) {
        let image = Image {
            height: record.height as i32,
            width: record.width as i32,
            colorspace: RGB,
            encoded: record.png.clone(),
        };
        let value = Value { tag: "predictions".to_owned(), content: Some(Content::Image(image)) };
        self.validation.push(&self.summary(record.step, vec![value]));
        self.write_out();
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.write_out();
        // At most one of them failed: the other one was switched off for it.
        self.train.flush().and(self.validation.flush())
    }
}

/// The names of a step's points. Those that validation has too get into one chart with it.
const STEP_TAGS: [&str; 13] = [
    "loss",
    "accuracy",
    "speed/examples_per_second",
    "speed/step_seconds",
    "time/send_seconds",
    "time/compute_seconds_median",
    "time/compute_seconds_max",
    "time/wait_seconds",
    "time/reduce_seconds",
    "time/update_seconds",
    "traffic/bytes_sent",
    "traffic/bytes_received",
    "workers",
];

/// The values of a step's points, in the order of [`STEP_TAGS`].
fn step_values(record: &StepRecord) -> [f32; STEP_TAGS.len()] {
    [
        record.loss,
        record.accuracy,
        record.examples_per_second as f32,
        record.seconds as f32,
        record.send_seconds as f32,
        record.compute_seconds_median as f32,
        record.compute_seconds_max as f32,
        record.wait_seconds as f32,
        record.reduce_seconds as f32,
        record.update_seconds as f32,
        record.bytes_sent as f32,
        record.bytes_received as f32,
        record.workers as f32,
    ]
}

fn scalar(tag: &str, value: f32) -> Value {
    Value { tag: tag.to_owned(), content: Some(Content::Scalar(value)) }
}

#[cfg(test)]
mod tests;

//! The contract of a sink, and the recorder that hands every record to all of them.
//!
//! Knows no particular sink. A sink never ends a run: it keeps its first error, takes no further records and reports
//! the error once, through `flush`.

use std::io;

use bytes::Bytes;
use lockstep_records::{
    EpochRecord, EvaluationRecord, EventRecord, NormsRecord, PictureRecord, Record, StepRecord, WorkersRecord,
};

/// A sink failed and is switched off; the run goes on without it.
#[derive(Debug, thiserror::Error)]
#[error("writing {sink} failed, nothing more is written to it and training goes on: {source}")]
pub struct SinkError {
    /// What was written to, usually a path.
    pub sink: String,
    /// The system's reason.
    pub source: io::Error,
}

/// Takes records. What a sink does not care about it leaves to the default, which does nothing.
pub trait Sink {
    /// Takes the record of one step.
    fn step(&mut self, _record: &StepRecord) {}

    /// Takes the record of one epoch's end.
    fn epoch(&mut self, _record: &EpochRecord) {}

    /// Takes the record of one event.
    fn event(&mut self, _record: &EventRecord) {}

    /// Takes the norms of weights and gradient at a step; steps after it may have been recorded already.
    fn norms(&mut self, _record: &NormsRecord) {}

    /// Takes a picture of predictions; steps after it may have been recorded already.
    fn picture(&mut self, _record: &PictureRecord) {}

    /// Takes the state of the workers, a few times a second.
    fn workers(&mut self, _record: &WorkersRecord) {}

    /// Takes the result of an evaluation; that of a validation comes before its epoch's end.
    fn evaluation(&mut self, _record: &EvaluationRecord) {}

    /// Takes the weights after a step, little-endian f32 and shared: keeping them keeps their whole buffer.
    fn weights(&mut self, _step: u64, _weights: &Bytes) {}

    /// Hands on everything that is still buffered, and reports what went wrong since the last call.
    ///
    /// # Errors
    ///
    /// The first failure of this sink, once; afterwards the sink is off and has nothing more to report.
    fn flush(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

/// Hands every record to all sinks, in the order in which they were added.
#[derive(Default)]
pub struct Recorder {
    sinks: Vec<Box<dyn Sink + Send>>,
}

impl Recorder {
    /// A recorder for `sinks`; without any, recording does nothing.
    pub fn new(sinks: Vec<Box<dyn Sink + Send>>) -> Self {
        Self { sinks }
    }

    /// Adds a sink, which gets all records from now on.
    pub fn add(&mut self, sink: impl Sink + Send + 'static) {
        self.sinks.push(Box::new(sink));
    }

    /// Whether there is no sink.
    pub fn is_empty(&self) -> bool {
        self.sinks.is_empty()
    }

    /// Records what was recorded elsewhere.
    pub fn take(&mut self, record: &Record) {
        match record {
            Record::Step(record) => self.step(record),
            Record::Epoch(record) => self.epoch(record),
            Record::Event(record) => self.event(record),
            Record::Norms(record) => self.norms(record),
            Record::Picture(record) => self.picture(record),
            Record::Workers(record) => self.workers(record),
            Record::Evaluation(record) => self.evaluation(record),
        }
    }

    /// Records one step.
    pub fn step(&mut self, record: &StepRecord) {
        self.sinks.iter_mut().for_each(|sink| sink.step(record));
    }

    /// Records one epoch's end.
    pub fn epoch(&mut self, record: &EpochRecord) {
        self.sinks.iter_mut().for_each(|sink| sink.epoch(record));
    }

    /// Records one event.
    pub fn event(&mut self, record: &EventRecord) {
        self.sinks.iter_mut().for_each(|sink| sink.event(record));
    }

    /// Records norms.
    pub fn norms(&mut self, record: &NormsRecord) {
        self.sinks.iter_mut().for_each(|sink| sink.norms(record));
    }

    /// Records a picture.
    pub fn picture(&mut self, record: &PictureRecord) {
        self.sinks.iter_mut().for_each(|sink| sink.picture(record));
    }

    /// Records the state of the workers.
    pub fn workers(&mut self, record: &WorkersRecord) {
        self.sinks.iter_mut().for_each(|sink| sink.workers(record));
    }

    /// Records the result of an evaluation.
    pub fn evaluation(&mut self, record: &EvaluationRecord) {
        self.sinks.iter_mut().for_each(|sink| sink.evaluation(record));
    }

    /// Shows the weights after a step.
    pub fn weights(&mut self, step: u64, weights: &Bytes) {
        self.sinks.iter_mut().for_each(|sink| sink.weights(step, weights));
    }

    /// Flushes all sinks and returns what went wrong since the last call, for a warning in the log. Call it at the end
    /// of every epoch and of the run.
    pub fn flush(&mut self) -> Vec<SinkError> {
        self.sinks.iter_mut().filter_map(|sink| sink.flush().err()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use lockstep_records::examples;

    use super::*;

    struct Seen(Arc<Mutex<Vec<String>>>);

    impl Sink for Seen {
        fn step(&mut self, record: &StepRecord) {
            self.0.lock().unwrap().push(format!("step {}", record.step));
        }

        fn epoch(&mut self, record: &EpochRecord) {
            self.0.lock().unwrap().push(format!("epoch {}", record.epoch));
        }

        fn event(&mut self, record: &EventRecord) {
            self.0.lock().unwrap().push(record.kind.to_string());
        }

        fn flush(&mut self) -> Result<(), SinkError> {
            Err(SinkError { sink: "seen".to_owned(), source: io::Error::other("full") })
        }
    }

    struct Indifferent;

    impl Sink for Indifferent {}

    #[test]
    fn every_record_reaches_every_sink_and_errors_come_back_from_flush() {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut recorder = Recorder::new(vec![Box::new(Indifferent), Box::new(Seen(seen.clone()))]);
        recorder.add(Seen(seen.clone()));
        recorder.step(&examples::step());
        recorder.take(&Record::Epoch(examples::epoch()));
        recorder.take(&Record::Event(examples::event()));
        let expected = ["step 1", "step 1", "epoch 3", "epoch 3", "worker_lost", "worker_lost"];
        assert_eq!(*seen.lock().unwrap(), expected);

        let errors = recorder.flush();
        assert_eq!(errors.len(), 2);
        assert_eq!(
            errors[0].to_string(),
            "writing seen failed, nothing more is written to it and training goes on: full"
        );
    }
}

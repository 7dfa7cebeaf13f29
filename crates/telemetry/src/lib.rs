//! What a run tells about itself: the records of steps, epochs and events, the summary, and the sinks that take them.
//!
//! The trainer fills in one record and hands it to the [`Recorder`]; a sink per file decides what becomes of it. No
//! sink has a clock (times are in the records), none changes a number, and none can end a run: a sink that fails is
//! switched off and reported.

mod console;
mod faults;
mod jsonl;
mod measures;
mod prometheus;
mod readiness;
mod record;
mod resume;
mod sink;
mod summary;
mod tensorboard;
mod terminal;
mod tracing_sink;
mod workers;

pub use console::{ConsoleSink, StepSums};
pub use faults::FaultCounts;
pub use jsonl::{EventsSink, MetricsSink};
pub use measures::{NormsRecord, PictureRecord, TensorNorms};
pub use prometheus::{Exposition, PrometheusSink, RunFacts};
pub use readiness::{Phase, Readiness};
pub use record::{EpochRecord, EventRecord, SCHEMA_VERSION, StepRecord};
pub use resume::{Restored, ResumeError};
pub use sink::{Record, Recorder, Sink, SinkError};
pub use summary::{SchemaVersion, Status, Summary, SummaryError, confusion_table};
pub use tensorboard::{Session, TensorBoardSink};
pub use terminal::{LogWriter, Terminal};
pub use tracing_sink::TracingSink;
pub use workers::{EvaluationKind, EvaluationRecord, WorkerRecord, WorkerState, WorkersRecord};

//! What a run records of itself: the types of steps, epochs, events, workers and measurements, the summary, the one
//! reader of the files that have them, and the bounded history that pages and reports show.
//!
//! The types are plain data; sinks (the crate `telemetry`) write them, and pages and reports read them here.

mod configuration;
mod ended;
mod evaluation;
mod faults;
mod history;
mod measures;
mod number;
mod reader;
mod record;
mod summary;
mod workers;

pub use configuration::{configuration_pairs, is_fallback};
pub use ended::{Ended, FINISH_PREFIX};
pub use evaluation::{EvaluationKind, EvaluationRecord};
pub use faults::FaultCounts;
pub use history::{Cursor, News, Notice, Point, Points, Progress, Revisioned, RunHistory, serialize_shared};
pub use measures::{NormsRecord, PictureRecord, TensorNorms};
pub use number::{grouped, percent};
pub use reader::{End, Header, HeaderFlaw, Lines, MAX_LINE_BYTES, RecordReader, each_record, parse};
pub use record::{EpochRecord, EventRecord, Record, SCHEMA_VERSION, StepRecord, examples};
pub use summary::{SchemaVersion, Status, Summary, SummaryError, confusion_table};
pub use workers::{WorkerRecord, WorkerState, WorkersRecord};

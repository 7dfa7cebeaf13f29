//! The sinks that take the records of a run: files, the console, the log, Prometheus, TensorBoard.
//!
//! The run fills in one record (the crate `records`) and hands it to the [`Recorder`]; a sink per file decides what
//! becomes of it. No sink has a clock (times are in the records), none changes a number, and none can end a run: a sink
//! that fails is switched off and reported.

mod console;
mod jsonl;
mod prometheus;
mod readiness;
mod resume;
mod sink;
mod tensorboard;
mod terminal;
mod tracing_sink;

pub use console::{ConsoleSink, StepSums};
pub use jsonl::{EventsSink, MetricsSink};
pub use prometheus::{Exposition, PrometheusSink, RunFacts};
pub use readiness::{Phase, Readiness};
pub use resume::{Restored, ResumeError};
pub use sink::{Recorder, Sink, SinkError};
pub use tensorboard::{Session, TensorBoardSink};
pub use terminal::{LogWriter, Terminal};
pub use tracing_sink::TracingSink;

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

use serde::Serialize;

use crate::{EpochRecord, EventRecord, SCHEMA_VERSION, Sink, SinkError, StepRecord};

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

#[derive(Serialize)]
#[serde(tag = "kind", rename = "header")]
struct Header<'a> {
    schema_version: u32,
    run_id: &'a str,
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
}

impl<W: Write> Lines<W> {
    fn new(name: &str, writer: W, run_id: &str) -> Self {
        let pending = Vec::with_capacity(MAX_PENDING_BYTES + 1024);
        let mut lines = Self { name: name.to_owned(), writer, pending, off: false, failure: None };
        lines.push(&Header { schema_version: SCHEMA_VERSION, run_id });
        lines
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
mod tests {
    use std::{
        fs,
        sync::{Arc, Mutex},
    };

    use super::*;
    use crate::record::examples;

    const HEADER: &str = r#"{"kind":"header","schema_version":1,"run_id":"0011"}"#;
    const STEP: &str = concat!(
        r#"{"kind":"step","step":1,"epoch":1,"loss":2.25,"accuracy":0.125,"examples":64,"seconds":0.004,"#,
        r#""examples_per_second":16000.0,"send_seconds":0.0005,"compute_seconds_median":0.001,"#,
        r#""compute_seconds_max":0.0015,"wait_seconds":0.002,"reduce_seconds":0.00025,"update_seconds":0.00001,"#,
        r#""bytes_sent":531104,"bytes_received":132776,"workers":4}"#,
    );

    /// Keeps every write apart; fails all writes after the first `good`.
    #[derive(Clone)]
    struct Disk {
        writes: Arc<Mutex<Vec<String>>>,
        good: usize,
    }

    impl Disk {
        fn new(good: usize) -> Self {
            Self { writes: Arc::default(), good }
        }

        fn content(&self) -> String {
            self.writes.lock().unwrap().concat()
        }
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut writes = self.writes.lock().unwrap();
            if writes.len() == self.good {
                return Err(io::Error::from(io::ErrorKind::StorageFull));
            }
            writes.push(String::from_utf8(bytes.to_vec()).unwrap());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn metrics_are_exactly_these_lines() {
        let disk = Disk::new(usize::MAX);
        let mut sink = MetricsSink::new("metrics.jsonl", disk.clone(), "0011");
        sink.step(&examples::step());
        sink.event(&examples::event());
        sink.epoch(&examples::epoch());
        let digest = "1a2b3c4d5e6f7890".repeat(4);
        let epoch = format!(
            r#"{{"kind":"epoch","epoch":3,"step":2391,"val_loss":0.1123,"val_accuracy":0.967,"weights_digest":"{digest}"}}"#
        );
        assert_eq!(disk.content(), format!("{HEADER}\n{STEP}\n{epoch}\n"));
    }

    #[test]
    fn events_are_exactly_these_lines_and_are_written_at_once() {
        let disk = Disk::new(usize::MAX);
        let mut sink = EventsSink::new("events.jsonl", disk.clone(), "0011");
        sink.step(&examples::step());
        sink.event(&examples::event());
        sink.event(&EventRecord { worker: None, ..examples::event() });
        let line = |worker| {
            format!(
                r#"{{"seconds":1.5,"step":12,"kind":"worker_lost","worker":{worker},"reason":"stream reset"}}"#
            )
        };
        let expected = format!("{HEADER}\n{}\n{}\n", line(r#""local-2""#), line("null"));
        assert_eq!(disk.content(), expected);
    }

    #[test]
    fn what_is_not_finite_is_null() {
        let disk = Disk::new(usize::MAX);
        let mut sink = MetricsSink::new("metrics.jsonl", disk.clone(), "0011");
        sink.step(&StepRecord { loss: f32::NAN, examples_per_second: f64::INFINITY, ..examples::step() });
        sink.epoch(&EpochRecord { val_loss: Some(f32::NAN), val_accuracy: None, ..examples::epoch() });
        let content = disk.content();
        for part in [
            r#""loss":null,"#,
            r#""examples_per_second":null,"#,
            r#""val_loss":null,"#,
            r#""val_accuracy":null,"#,
        ] {
            assert!(content.contains(part), "{part} is not in {content}");
        }
    }

    #[test]
    fn floats_keep_their_bits() {
        for bits in [0x3e99_999a, 0x0000_0001, 0x7f7f_ffff, 0x3f80_0001] {
            let loss = f32::from_bits(bits);
            let line = serde_json::to_string(&StepRecord { loss, ..examples::step() }).unwrap();
            let shown = line.split(r#""loss":"#).nth(1).unwrap().split(',').next().unwrap();
            assert_eq!(shown.parse::<f32>().unwrap().to_bits(), bits, "{shown}");
        }
    }

    #[test]
    fn lines_leave_once_a_second_of_recorded_time_and_always_whole() {
        let disk = Disk::new(usize::MAX);
        let mut sink = MetricsSink::new("metrics.jsonl", disk.clone(), "0011");
        let slow = StepRecord { seconds: 0.4, ..examples::step() };
        sink.step(&slow);
        sink.step(&slow);
        assert_eq!(disk.content(), "", "nothing is due yet");
        sink.step(&slow);
        assert_eq!(disk.content().lines().count(), 4);
        sink.step(&slow);
        assert_eq!(disk.content().lines().count(), 4);
        sink.flush().unwrap();
        assert_eq!(disk.content().lines().count(), 5);
        let fast = StepRecord { seconds: 0.0, ..examples::step() };
        for _ in 0..1000 {
            sink.step(&fast);
        }
        drop(sink);
        assert_eq!(disk.content().lines().count(), 1005);
        let writes = disk.writes.lock().unwrap();
        assert!(writes.len() > 5 && writes.iter().all(|write| write.ends_with("}\n")));
    }

    #[test]
    fn the_line_buffer_is_reused() {
        let mut sink = MetricsSink::new("metrics.jsonl", io::sink(), "0011");
        let capacity = sink.lines.pending.capacity();
        for _ in 0..1000 {
            sink.step(&examples::step());
        }
        assert_eq!(sink.lines.pending.capacity(), capacity);
    }

    #[test]
    fn a_failing_disk_turns_the_sink_off_and_is_reported_once() {
        let disk = Disk::new(1);
        let mut sink = MetricsSink::new("metrics.jsonl", disk.clone(), "0011");
        sink.flush().unwrap();
        sink.epoch(&examples::epoch());
        for _ in 0..1000 {
            sink.step(&examples::step());
        }
        assert!(sink.lines.pending.is_empty(), "a sink that is off gathers no lines");
        let message = sink.flush().unwrap_err().to_string();
        assert!(message.starts_with("writing metrics.jsonl failed"), "{message}");
        assert!(message.contains("training goes on"), "{message}");
        sink.flush().unwrap();
        sink.step(&examples::step());
        sink.flush().unwrap();
        assert_eq!(disk.content(), format!("{HEADER}\n"));
    }

    #[test]
    fn an_existing_file_is_never_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("metrics.jsonl");
        drop(MetricsSink::create(&path, "0011").unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{HEADER}\n"));
        for error in [
            MetricsSink::create(&path, "2233").err().unwrap(),
            EventsSink::create(&path, "2233").err().unwrap(),
        ] {
            assert_eq!(error.source.kind(), io::ErrorKind::AlreadyExists);
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{HEADER}\n"));
    }
}

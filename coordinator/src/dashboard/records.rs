//! What an earlier process of a run has recorded, read back for the page: `metrics.jsonl` and `events.jsonl`.
//!
//! Reads line by line and keeps what the [`Shared`] history keeps. A line that is torn or unknown is passed over; a file of
//! something else is an error.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use lockstep_proto::RunId;
use lockstep_telemetry::{EpochRecord, SCHEMA_VERSION, Sink, StepRecord};
use serde::Deserialize;

use super::history::{EventView, Shared};
use crate::run_directory::RunDirectory;

/// No line of ours is near this long; a longer one is damage, and is passed over without being kept in memory.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// Of which kind a line of `metrics.jsonl` is. An enum with that tag would hold every field of every step in memory
/// of its own.
#[derive(Deserialize)]
struct Metric<'a> {
    kind: &'a str,
}

#[derive(Deserialize)]
struct HeaderLine {
    schema_version: u32,
    run_id: String,
}

#[derive(Deserialize)]
struct StepLine {
    step: u64,
    epoch: u32,
    loss: Option<f32>,
    accuracy: Option<f32>,
    examples: u32,
    seconds: f64,
    send_seconds: f64,
    wait_seconds: f64,
    reduce_seconds: f64,
    update_seconds: f64,
    bytes_sent: u64,
    bytes_received: u64,
    workers: u32,
}

#[derive(Deserialize)]
struct EpochLine {
    epoch: u32,
    step: u64,
    val_loss: Option<f32>,
    val_accuracy: Option<f32>,
    weights_digest: String,
}

#[derive(Deserialize)]
struct EventLine {
    seconds: f64,
    step: u64,
    kind: String,
    worker: Option<String>,
    reason: String,
}

/// A line of either file.
pub enum Recorded {
    /// A step; without what workers say of their computing.
    Step(StepRecord),
    /// The end of an epoch.
    Epoch(EpochRecord),
    /// An event.
    Event(EventView),
}

/// Puts what `metrics.jsonl` and `events.jsonl` of the run `run_id` have into the history.
///
/// # Errors
///
/// If a file that is there cannot be read, is of another run, or has another shape.
pub fn restore(shared: &mut Shared, directory: &RunDirectory, run_id: RunId) -> io::Result<()> {
    each_record(directory, run_id, |record| shared.take(record))
}

/// Hands over what `metrics.jsonl` and then `events.jsonl` have, in order.
///
/// # Errors
///
/// If a file that is there cannot be read, is of another run, or has another shape.
pub fn each_record(
    directory: &RunDirectory,
    run_id: RunId,
    mut take: impl FnMut(Recorded),
) -> io::Result<()> {
    for path in [directory.metrics(), directory.events()] {
        let mut passed_over = 0u64;
        each_line(&path, |line| {
            match recorded(line, run_id) {
                Ok(Some(record)) => take(record),
                Ok(None) => {}
                Err(Flaw::Damage) => passed_over += 1,
                Err(Flaw::Other(flaw)) => {
                    return Err(io::Error::other(format!("{} {flaw}", path.display())));
                }
            }
            Ok(())
        })?;
        if passed_over > 0 {
            tracing::warn!("{passed_over} lines of {} are damaged, and are passed over", path.display());
        }
    }
    Ok(())
}

/// What is wrong with a line.
enum Flaw {
    /// It is torn, or none of ours.
    Damage,
    /// The whole file is of something else.
    Other(String),
}

impl From<serde_json::Error> for Flaw {
    fn from(_: serde_json::Error) -> Self {
        Self::Damage
    }
}

/// What a line of either file says; nothing, if it is of a kind that is not shown.
fn recorded(line: &[u8], run_id: RunId) -> Result<Option<Recorded>, Flaw> {
    let line = std::str::from_utf8(line).map_err(|_| Flaw::Damage)?;
    let Metric { kind } = serde_json::from_str(line)?;
    Ok(Some(match kind {
        "step" => Recorded::Step(serde_json::from_str::<StepLine>(line)?.into()),
        "epoch" => Recorded::Epoch(serde_json::from_str::<EpochLine>(line)?.into()),
        "header" => {
            let HeaderLine { schema_version, run_id: found } = serde_json::from_str(line)?;
            if schema_version != SCHEMA_VERSION {
                return Err(Flaw::Other(format!(
                    "has schema version {schema_version} and this program reads {SCHEMA_VERSION}; use the version of \
                     this program that wrote it"
                )));
            }
            if found != run_id.to_string() {
                return Err(Flaw::Other(format!("is of run {found}, not of run {run_id}; move it away")));
            }
            return Ok(None);
        }
        _ => {
            let EventLine { seconds, step, kind, worker, reason } = serde_json::from_str(line)?;
            Recorded::Event(EventView { seconds, step, kind: kind.into(), worker, reason })
        }
    }))
}

impl Shared {
    /// Takes in what was recorded.
    pub fn take(&mut self, record: Recorded) {
        match record {
            Recorded::Step(record) => self.step(&record),
            Recorded::Epoch(record) => self.epoch(&record),
            Recorded::Event(event) => self.add_event(event),
        }
    }
}

/// The whole lines of a file, none if it is not there.
fn each_line(path: &Path, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    // Whether what is read next continues a line that is too long.
    let mut within = false;
    while reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)? > 0 {
        let ends = line.last() == Some(&b'\n');
        // A last line without an end may be under way.
        if ends && !within {
            take(&line)?;
        }
        within = !ends;
        line.clear();
    }
    Ok(())
}

impl From<StepLine> for StepRecord {
    fn from(line: StepLine) -> Self {
        Self {
            step: line.step,
            epoch: line.epoch,
            loss: line.loss.unwrap_or(f32::NAN),
            accuracy: line.accuracy.unwrap_or(f32::NAN),
            examples: line.examples,
            seconds: line.seconds,
            examples_per_second: f64::from(line.examples) / line.seconds,
            send_seconds: line.send_seconds,
            compute_seconds_median: 0.0,
            compute_seconds_max: 0.0,
            wait_seconds: line.wait_seconds,
            reduce_seconds: line.reduce_seconds,
            update_seconds: line.update_seconds,
            bytes_sent: line.bytes_sent,
            bytes_received: line.bytes_received,
            workers: line.workers,
            decisions: Vec::new(),
        }
    }
}

impl From<EpochLine> for EpochRecord {
    fn from(EpochLine { epoch, step, val_loss, val_accuracy, weights_digest }: EpochLine) -> Self {
        Self { epoch, step, val_loss, val_accuracy, weights_digest }
    }
}

#[cfg(test)]
mod tests {
    use lockstep_telemetry::{EventRecord, EventsSink, MetricsSink};

    use super::super::curve::tests::step;
    use super::super::history::Cursor;
    use super::*;

    #[test]
    fn what_the_sinks_have_written_is_shown_like_what_they_were_told() {
        let folder = tempfile::tempdir().unwrap();
        let directory = RunDirectory::create(&folder.path().join("run")).unwrap();
        let [metrics, events] = [directory.metrics(), directory.events()];
        let (run, id) = (RunId([0xab; 16]), "ab".repeat(16));
        let live = Shared::default();
        let mut sinks: Vec<Box<dyn Sink>> = vec![
            Box::new(MetricsSink::create(&metrics, &id).unwrap()),
            Box::new(EventsSink::create(&events, &id).unwrap()),
            Box::new(live.clone()),
        ];
        let epoch = EpochRecord {
            epoch: 1,
            step: 3,
            val_loss: Some(0.5),
            val_accuracy: None,
            weights_digest: "ab".repeat(32),
        };
        let event =
            EventRecord { seconds: 0.5, step: 2, kind: "copied", worker: None, reason: "late".to_string() };
        for sink in &mut sinks {
            (1..=3).for_each(|number| sink.step(&step(number, 1.0 / number as f32)));
            sink.epoch(&epoch);
            sink.event(&event);
            sink.flush().unwrap();
        }
        let json = |shared: &Shared| serde_json::to_string(&shared.view(&mut Cursor::default())).unwrap();
        let mut restored = Shared::default();
        restore(&mut restored, &directory, run).unwrap();
        assert_eq!(json(&restored), json(&live));

        // A torn end is passed over, and a missing file has nothing to tell.
        let text = std::fs::read_to_string(&metrics).unwrap();
        std::fs::write(&metrics, &text[..text.len() - 5]).unwrap();
        std::fs::remove_file(&events).unwrap();
        let mut torn = Shared::default();
        restore(&mut torn, &directory, run).unwrap();
        let view = torn.view(&mut Cursor::default());
        assert_eq!((view.progress.step, view.epochs.map_or(0, |epochs| epochs.len())), (3, 0));
        // A line that does not end, as a crash leaves it, is passed over as well, and what is behind it is read.
        let zeros = "\0".repeat(3 * MAX_LINE_BYTES as usize + 5);
        let last = text.lines().rfind(|line| line.contains("\"epoch\":1,\"step\"")).unwrap();
        std::fs::write(&metrics, format!("{zeros}\n{last}\n{zeros}")).unwrap();
        let mut holed = Shared::default();
        restore(&mut holed, &directory, run).unwrap();
        assert_eq!(holed.view(&mut Cursor::default()).epochs.map_or(0, |epochs| epochs.len()), 1);

        // A file of another run, or of another shape, is not taken for this one's.
        let refusal = |text: String| {
            std::fs::write(&metrics, text).unwrap();
            restore(&mut Shared::default(), &directory, run).unwrap_err().to_string()
        };
        let other = refusal(text.replacen("abab", "abac", 1));
        assert!(
            other.contains("metrics.jsonl is of run abac") && other.contains("not of run abab"),
            "{other}"
        );
        let newer = refusal(text.replacen("\"schema_version\":1", "\"schema_version\":9", 1));
        assert!(newer.contains("has schema version 9 and this program reads 1"), "{newer}");
    }
}

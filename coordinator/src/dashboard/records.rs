//! What an earlier process of a run has recorded, read back for the page: `metrics.jsonl` and `events.jsonl`.
//!
//! Reads line by line and keeps what the [`Shared`] history keeps. A line that is torn or unknown is passed over.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use lockstep_telemetry::{EpochRecord, Sink, StepRecord};
use serde::Deserialize;

use super::history::{EventView, Shared};

/// No line of ours is near this long; a longer one is damage, and is passed over without being kept in memory.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// Of which kind a line of `metrics.jsonl` is. An enum with that tag would hold every field of every step in memory
/// of its own.
#[derive(Deserialize)]
struct Metric<'a> {
    kind: &'a str,
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

/// Puts what `metrics.jsonl` and `events.jsonl` have into the history.
///
/// # Errors
///
/// If a file that is there cannot be read.
pub fn restore(shared: &mut Shared, metrics: &Path, events: &Path) -> io::Result<()> {
    each_record(metrics, events, |record| shared.take(record))
}

/// Hands over what `metrics.jsonl` and then `events.jsonl` have, in order.
///
/// # Errors
///
/// If a file that is there cannot be read.
pub fn each_record(metrics: &Path, events: &Path, mut take: impl FnMut(Recorded)) -> io::Result<()> {
    each_line(metrics, |line| {
        let recorded = match serde_json::from_str(line) {
            Ok(Metric { kind: "step" }) => {
                serde_json::from_str::<StepLine>(line).map(|line| Recorded::Step(line.into()))
            }
            Ok(Metric { kind: "epoch" }) => {
                serde_json::from_str::<EpochLine>(line).map(|line| Recorded::Epoch(line.into()))
            }
            _ => return,
        };
        if let Ok(recorded) = recorded {
            take(recorded);
        }
    })?;
    each_line(events, |line| {
        if let Ok(EventLine { seconds, step, kind, worker, reason }) = serde_json::from_str(line) {
            take(Recorded::Event(EventView { seconds, step, kind: kind.into(), worker, reason }));
        }
    })
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

/// The lines of a file, none if it is not there.
fn each_line(path: &Path, mut take: impl FnMut(&str)) -> io::Result<()> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        file => file?,
    };
    let mut reader = BufReader::new(file);
    let mut line = Vec::new();
    // Whether what is read next continues a line that is too long.
    let mut within = false;
    while reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)? > 0 {
        let ends = line.last() == Some(&b'\n') || (line.len() as u64) < MAX_LINE_BYTES;
        if let Ok(line) = std::str::from_utf8(&line)
            && ends
            && !within
        {
            take(line);
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
        let [metrics, events] = ["metrics.jsonl", "events.jsonl"].map(|name| folder.path().join(name));
        let live = Shared::default();
        let mut sinks: Vec<Box<dyn Sink>> = vec![
            Box::new(MetricsSink::create(&metrics, "ab").unwrap()),
            Box::new(EventsSink::create(&events, "ab").unwrap()),
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
        restore(&mut restored, &metrics, &events).unwrap();
        assert_eq!(json(&restored), json(&live));

        // A torn end is passed over, and a missing file has nothing to tell.
        let text = std::fs::read_to_string(&metrics).unwrap();
        std::fs::write(&metrics, &text[..text.len() - 5]).unwrap();
        std::fs::remove_file(&events).unwrap();
        let mut torn = Shared::default();
        restore(&mut torn, &metrics, &events).unwrap();
        let view = torn.view(&mut Cursor::default());
        assert_eq!((view.progress.step, view.epochs.map_or(0, |epochs| epochs.len())), (3, 0));
        // A line that does not end, as a crash leaves it, is passed over as well, and what is behind it is read.
        let zeros = "\0".repeat(3 * MAX_LINE_BYTES as usize + 5);
        let last = text.lines().rfind(|line| line.contains("\"epoch\":1,\"step\"")).unwrap();
        std::fs::write(&metrics, format!("{zeros}\n{last}\n{zeros}")).unwrap();
        let mut holed = Shared::default();
        restore(&mut holed, &metrics, &events).unwrap();
        assert_eq!(holed.view(&mut Cursor::default()).epochs.map_or(0, |epochs| epochs.len()), 1);
        live.end(super::super::Ended::unfinished());
        assert_ne!(json(&torn), json(&live));
    }
}

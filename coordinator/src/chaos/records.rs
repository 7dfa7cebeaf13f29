//! Reads what a run leaves behind: its metrics, its events and its summary.
//!
//! The figures of recovery come from these records, not from a clock of this process, as far as they can. Writes
//! nothing, and takes any line that it does not understand for none.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::RangeInclusive;
use std::path::Path;

use serde::Deserialize;

/// Steps on each side of a step that say what is normal there.
const NEIGHBOURS: usize = 50;

/// The end of a run.
#[derive(Clone, Debug, Deserialize)]
pub struct Summary {
    /// How it ended: `done`, `diverged` or `interrupted`.
    pub status: String,
    /// SHA-256 of the final weights.
    pub weights_digest: String,
    /// Steps completed.
    pub steps: u64,
}

/// A step on record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepLine {
    /// From 1.
    pub step: u64,
    /// How long it took.
    pub seconds: f64,
}

/// An event on record.
#[derive(Clone, Debug, PartialEq)]
pub struct EventLine {
    /// Where its line begins in the file.
    pub offset_bytes: u64,
    /// Since the run began.
    pub seconds: f64,
    /// Steps committed by then.
    pub step: u64,
    /// What happened.
    pub kind: String,
    /// To whom.
    pub worker: Option<String>,
}

/// What a fault cost the slowest step that it fell into.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// That step.
    pub step: u64,
    /// How long it took.
    pub seconds: f64,
    /// The median of the steps around it.
    pub normal_seconds: f64,
}

/// Reads a summary.
///
/// # Errors
///
/// If there is none, or no whole one.
pub fn summary(path: &Path) -> io::Result<Summary> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

/// The steps in `metrics.jsonl`, in the order of the file.
///
/// # Errors
///
/// If the file cannot be read.
pub fn steps(path: &Path) -> io::Result<Vec<StepLine>> {
    let mut steps = Vec::new();
    each_line(BufReader::new(File::open(path)?), |_, line| steps.extend(step(line)))?;
    Ok(steps)
}

/// The events in `events.jsonl`, in the order of the file.
///
/// # Errors
///
/// If the file cannot be read.
pub fn events(path: &Path) -> io::Result<Vec<EventLine>> {
    #[derive(Deserialize)]
    struct Line {
        seconds: f64,
        step: u64,
        kind: String,
        worker: Option<String>,
    }
    let mut events = Vec::new();
    each_line(BufReader::new(File::open(path)?), |offset_bytes, line| {
        if let Ok(Line { seconds, step, kind, worker }) = serde_json::from_slice(line) {
            events.push(EventLine { offset_bytes, seconds, step, kind, worker });
        }
    })?;
    Ok(events)
}

/// The last bytes of a file.
///
/// # Errors
///
/// If it cannot be read.
pub fn tail(path: &Path, bytes: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut tail = Vec::new();
    file.take(bytes).read_to_end(&mut tail)?;
    Ok(tail)
}

/// What the slowest of `these` steps cost, compared with the neighbours of them all; nothing if none of them, or no
/// neighbour, is on record.
///
/// `steps` are in order, as in the file.
pub fn cost(steps: &[StepLine], these: RangeInclusive<u64>) -> Option<Cost> {
    let begin = steps.partition_point(|line| line.step < *these.start());
    let end = steps.partition_point(|line| line.step <= *these.end());
    let slowest = steps[begin..end].iter().max_by(|a, b| a.seconds.total_cmp(&b.seconds))?;
    let before = &steps[begin.saturating_sub(NEIGHBOURS)..begin];
    let after = &steps[end..steps.len().min(end + NEIGHBOURS)];
    let mut seconds: Vec<f64> = before.iter().chain(after).map(|line| line.seconds).collect();
    seconds.sort_by(f64::total_cmp);
    let normal_seconds = *seconds.get(seconds.len() / 2)?;
    Some(Cost { step: slowest.step, seconds: slowest.seconds, normal_seconds })
}

fn step(line: &[u8]) -> Option<StepLine> {
    #[derive(Deserialize)]
    struct Line<'a> {
        kind: &'a str,
        step: u64,
        seconds: f64,
    }
    let line: Line<'_> = serde_json::from_slice(line).ok()?;
    (line.kind == "step").then_some(StepLine { step: line.step, seconds: line.seconds })
}

/// Calls `take` with each whole line and the place where it begins.
fn each_line(mut reader: impl BufRead, mut take: impl FnMut(u64, &[u8])) -> io::Result<()> {
    let mut line = Vec::new();
    let mut offset_bytes = 0;
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)? as u64;
        if line.pop() != Some(b'\n') {
            return Ok(());
        }
        take(offset_bytes, &line);
        offset_bytes += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(step: u64, seconds: f64) -> StepLine {
        StepLine { step, seconds }
    }

    #[test]
    fn steps_are_read_and_the_rest_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let text = concat!(
            "{\"kind\":\"header\",\"schema_version\":1,\"run_id\":\"00\"}\n",
            "{\"kind\":\"step\",\"step\":1,\"epoch\":1,\"seconds\":0.25}\n",
            "{\"kind\":\"epoch\",\"epoch\":1,\"step\":1}\n",
            "{\"kind\":\"step\",\"step\":2,\"seconds\":0.5}\n",
            "{\"kind\":\"step\",\"step\":3,\"seco",
        );
        std::fs::write(&path, text).unwrap();
        assert_eq!(steps(&path).unwrap(), [line(1, 0.25), line(2, 0.5)]);
        assert_eq!(tail(&path, 5).unwrap(), b"\"seco");
    }

    #[test]
    fn events_know_their_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        let header = "{\"kind\":\"header\",\"schema_version\":1,\"run_id\":\"00\"}\n";
        let event =
            "{\"seconds\":1.5,\"step\":12,\"kind\":\"worker_dropped\",\"worker\":\"w2\",\"reason\":\"x\"}\n";
        std::fs::write(&path, format!("{header}{event}{event}")).unwrap();
        let expected = |offset: usize| EventLine {
            offset_bytes: offset as u64,
            seconds: 1.5,
            step: 12,
            kind: "worker_dropped".to_string(),
            worker: Some("w2".to_string()),
        };
        assert_eq!(events(&path).unwrap(), [expected(header.len()), expected(header.len() + event.len())]);
    }

    #[test]
    fn the_cost_of_a_step_is_held_against_the_median_around_it() {
        // Two slow steps far away and one near: none of them is the median.
        let mut steps: Vec<StepLine> = (1..=200).map(|step| line(step, 0.01)).collect();
        for slow in [3, 100, 104, 190] {
            steps[slow - 1].seconds = 0.03;
        }
        let expected = |step, seconds| Some(Cost { step, seconds, normal_seconds: 0.01 });
        assert_eq!(cost(&steps, 100..=100), expected(100, 0.03));
        assert_eq!(cost(&steps, 1..=1), expected(1, 0.01));
        assert_eq!(cost(&steps, 97..=102), expected(100, 0.03), "of several steps the slowest counts");
        assert_eq!(cost(&steps, 201..=210), None);
        assert_eq!(cost(&steps[..1], 1..=1), None);
        // Steps that are missing are no neighbours.
        steps.drain(110..150);
        assert_eq!(cost(&steps, 104..=104), expected(104, 0.03));
    }
}

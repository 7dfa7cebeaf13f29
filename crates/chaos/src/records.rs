//! Reads what a run leaves behind: its steps, and its events with their places.
//!
//! The figures of recovery come from these records, not from a clock of this process, as far as they can.

use std::io;
use std::ops::RangeInclusive;
use std::path::Path;

use lockstep_records::{EventRecord, Record, RecordReader};

/// Steps on each side of a step that say what is normal there.
const NEIGHBOURS: usize = 50;

/// A step on record: so little of it that a long run's steps fit into memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// From 1.
    pub step: u64,
    /// How long it took.
    pub seconds: f64,
}

/// An event on record.
#[derive(Clone, Debug, PartialEq)]
pub struct PlacedEvent {
    /// Where its line begins in the file.
    pub offset_bytes: u64,
    /// What happened.
    pub event: EventRecord,
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

/// The steps in `metrics.jsonl`, in the order of the file.
///
/// # Errors
///
/// If the file cannot be read.
pub fn steps(path: &Path) -> io::Result<Vec<Step>> {
    let mut reader = RecordReader::open(path, None)?;
    let mut steps = Vec::new();
    while let Some((_, record)) = reader.read()? {
        if let Record::Step(record) = record {
            steps.push(Step { step: record.step, seconds: record.seconds });
        }
    }
    Ok(steps)
}

/// The events in `events.jsonl`, in the order of the file.
///
/// # Errors
///
/// If the file cannot be read.
pub fn events(path: &Path) -> io::Result<Vec<PlacedEvent>> {
    let mut reader = RecordReader::open(path, None)?;
    let mut events = Vec::new();
    while let Some((offset_bytes, record)) = reader.read()? {
        if let Record::Event(event) = record {
            events.push(PlacedEvent { offset_bytes, event });
        }
    }
    Ok(events)
}

/// What the slowest of `these` steps cost, compared with the neighbours of them all; nothing if none of them, or no
/// neighbour, is on record.
///
/// `steps` are in order, as in the file.
pub fn cost(steps: &[Step], these: RangeInclusive<u64>) -> Option<Cost> {
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

#[cfg(test)]
mod tests {
    use lockstep_records::{Header, StepRecord, examples};

    use super::*;

    fn line(step: u64, seconds: f64) -> Step {
        Step { step, seconds }
    }

    #[test]
    fn steps_and_events_are_read_and_events_know_their_place() {
        let json = |record: &dyn Fn() -> serde_json::Result<String>| record().unwrap() + "\n";
        let header = json(&|| serde_json::to_string(&Header::new("00")));
        let step = |step, seconds| {
            json(&|| serde_json::to_string(&StepRecord { step, seconds, ..examples::step() }))
        };
        let epoch = json(&|| serde_json::to_string(&examples::epoch()));
        let event = json(&|| serde_json::to_string(&examples::event()));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let torn = &step(3, 1.0)[..30];
        std::fs::write(&path, [&header, &step(1, 0.25), &epoch, &step(2, 0.5), torn].concat()).unwrap();
        assert_eq!(steps(&path).unwrap(), [line(1, 0.25), line(2, 0.5)]);
        let path = folder.path().join("events.jsonl");
        std::fs::write(&path, [&*header, &event, &event].concat()).unwrap();
        let expected = |offset: usize| PlacedEvent { offset_bytes: offset as u64, event: examples::event() };
        assert_eq!(events(&path).unwrap(), [expected(header.len()), expected(header.len() + event.len())]);
    }

    #[test]
    fn the_cost_of_a_step_is_held_against_the_median_around_it() {
        // Two slow steps far away and one near: none of them is the median.
        let mut steps: Vec<Step> = (1..=200).map(|step| line(step, 0.01)).collect();
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

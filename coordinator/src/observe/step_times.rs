//! Where the time of a step went, as the loop saw it, and what was decided in it.

use std::time::{Duration, Instant};

use lockstep_records::StepRecord;

use crate::trainer::Means;

/// Times and bytes since the last step ended.
pub(super) struct StepTimes {
    begin: Instant,
    send: Duration,
    wait: Duration,
    reduce: Duration,
    update: Duration,
    /// Of each node of the step, as its worker measured it.
    compute: Vec<Duration>,
    bytes_sent: u64,
    bytes_received: u64,
    /// Sentences, at most [`MAX_DECISIONS`], and how many more there were.
    decisions: Vec<String>,
    more_decisions: u32,
    /// The phases one after the other, if the step is timed; at most [`MAX_SLICES`].
    slices: Option<Vec<Slice>>,
    /// The phases of the step that ended last.
    sliced: Option<Sliced>,
}

/// A phase of a timed step: which, since when and until when.
pub(super) type Slice = (StepPhase, Instant, Instant);

/// A timed step from its begin to its end.
#[derive(Debug)]
pub(super) struct Sliced {
    /// When it began.
    pub begin: Instant,
    /// When its weights were updated.
    pub end: Instant,
    /// Its phases, in order, without overlap.
    pub slices: Vec<Slice>,
}

/// Slices of one step: many times what one with a thousand workers has.
const MAX_SLICES: usize = 16 << 10;

/// Sentences that the line of a step holds: more than a step with every worker lost has, and little enough that a
/// hostile peer cannot swell it. `events.jsonl` has the others.
const MAX_DECISIONS: usize = 64;

/// What the loop does with its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StepPhase {
    /// Encoding and handing over what goes to workers.
    Send,
    /// Waiting for anything to happen.
    Wait,
    /// Adding nodes.
    Reduce,
    /// Updating the weights.
    Update,
}

impl StepTimes {
    /// A step that begins now.
    pub fn begin() -> Self {
        Self {
            begin: Instant::now(),
            send: Duration::ZERO,
            wait: Duration::ZERO,
            reduce: Duration::ZERO,
            update: Duration::ZERO,
            compute: Vec::new(),
            bytes_sent: 0,
            bytes_received: 0,
            decisions: Vec::new(),
            more_decisions: 0,
            slices: None,
            sliced: None,
        }
    }

    /// Begins anew, as after an evaluation. What was decided meanwhile belongs to the step that comes.
    pub fn restart(&mut self) {
        let mut compute = std::mem::take(&mut self.compute);
        compute.clear();
        let decisions = std::mem::take(&mut self.decisions);
        let slices = self.slices.take().map(|_| Vec::new());
        let sliced = self.sliced.take();
        let more_decisions = self.more_decisions;
        *self = Self { compute, decisions, more_decisions, slices, sliced, ..Self::begin() };
    }

    /// Adds what was decided, and why.
    pub fn decided(&mut self, sentence: &str) {
        if self.decisions.len() < MAX_DECISIONS {
            self.decisions.push(sentence.to_string());
        } else {
            self.more_decisions += 1;
        }
    }

    fn take_decisions(&mut self) -> Vec<String> {
        let mut decisions = std::mem::take(&mut self.decisions);
        match std::mem::take(&mut self.more_decisions) {
            0 => {}
            more => decisions.push(format!("and {more} more, which are in events.jsonl")),
        }
        decisions
    }

    /// Adds the time since `from` to a phase.
    pub fn add(&mut self, phase: StepPhase, from: Instant) {
        let total = match phase {
            StepPhase::Send => &mut self.send,
            StepPhase::Wait => &mut self.wait,
            StepPhase::Reduce => &mut self.reduce,
            StepPhase::Update => &mut self.update,
        };
        let now = Instant::now();
        *total += now.saturating_duration_since(from);
        if let Some(slices) = &mut self.slices
            && slices.len() < MAX_SLICES
        {
            slices.push((phase, from, now));
        }
    }

    /// Keeps the phases of the current step one by one, or does not.
    pub fn slice(&mut self, wanted: bool) {
        self.slices = wanted.then(Vec::new);
    }

    /// The phases of the step that ended last, if they were kept.
    pub fn take_sliced(&mut self) -> Option<Sliced> {
        self.sliced.take()
    }

    /// Counts payload that goes to a worker.
    pub fn sent(&mut self, bytes: usize) {
        self.bytes_sent += bytes as u64;
    }

    /// Counts a node that came.
    pub fn received(&mut self, bytes: usize, compute: Duration) {
        self.bytes_received += bytes as u64;
        self.compute.push(compute);
    }

    /// The record of the step that ends now; the next one begins.
    pub fn end_step(&mut self, step: u64, epoch: u32, means: Means, workers: u32) -> StepRecord {
        self.compute.sort_unstable();
        let node = |at: usize| self.compute.get(at).map_or(0.0, Duration::as_secs_f64);
        let end = Instant::now();
        let seconds = end.saturating_duration_since(self.begin).as_secs_f64();
        let record = StepRecord {
            step,
            epoch,
            loss: means.loss,
            accuracy: means.accuracy,
            examples: means.examples,
            seconds,
            examples_per_second: f64::from(means.examples) / seconds,
            send_seconds: self.send.as_secs_f64(),
            compute_seconds_median: node(self.compute.len() / 2),
            compute_seconds_max: node(self.compute.len().saturating_sub(1)),
            wait_seconds: self.wait.as_secs_f64(),
            reduce_seconds: self.reduce.as_secs_f64(),
            update_seconds: self.update.as_secs_f64(),
            bytes_sent: self.bytes_sent,
            bytes_received: self.bytes_received,
            workers,
            decisions: self.take_decisions(),
        };
        self.sliced = self.slices.take().map(|slices| Sliced { begin: self.begin, end, slices });
        self.restart();
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_of_one_step_and_the_next_begins() {
        let means = Means { examples: 64, loss: 2.5, accuracy: 0.25 };
        let mut times = StepTimes::begin();
        times.sent(10);
        times.sent(5);
        for milliseconds in [30, 10, 20] {
            times.received(100, Duration::from_millis(milliseconds));
        }
        let record = times.end_step(7, 2, means, 4);
        assert_eq!((record.step, record.epoch, record.examples, record.workers), (7, 2, 64, 4));
        assert_eq!((record.loss, record.accuracy), (2.5, 0.25));
        assert_eq!((record.bytes_sent, record.bytes_received), (15, 300));
        assert_eq!((record.compute_seconds_median, record.compute_seconds_max), (0.02, 0.03));
        let next = times.end_step(8, 2, means, 4);
        assert_eq!((next.bytes_sent, next.bytes_received, next.compute_seconds_max), (0, 0, 0.0));
    }

    #[test]
    fn decisions_are_of_the_step_in_which_they_were_made_and_bounded() {
        let means = Means { examples: 64, loss: 2.5, accuracy: 0.25 };
        let mut times = StepTimes::begin();
        times.decided("drop worker 1");
        times.restart();
        times.decided("give its leaves to worker 2");
        let decisions = times.end_step(1, 1, means, 4).decisions;
        assert_eq!(decisions, ["drop worker 1", "give its leaves to worker 2"]);
        assert!(times.end_step(2, 1, means, 4).decisions.is_empty());
        (0..MAX_DECISIONS + 3).for_each(|_| times.decided("reject a node"));
        let decisions = times.end_step(3, 1, means, 4).decisions;
        assert_eq!(decisions.len(), MAX_DECISIONS + 1);
        assert_eq!(decisions.last().unwrap(), "and 3 more, which are in events.jsonl");
        assert!(times.end_step(4, 1, means, 4).decisions.is_empty());
    }
}

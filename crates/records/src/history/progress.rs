//! Where a run is and how fast: averages of its newest steps, and of all of them once it is over.

use serde::Serialize;

use crate::StepRecord;

/// Rates and splits are renewed when the steps since the last time took this long.
const RENEWAL_SECONDS: f64 = 0.25;

/// Weight of the newest step in the moving averages.
const SMOOTHING: f64 = 0.05;

/// Where the run is.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Progress {
    /// The last step.
    pub step: u64,
    /// Its epoch.
    pub epoch: u32,
    /// It has no worker, and waits for one.
    pub waiting: bool,
    /// Moving averages; absent before the first step.
    pub loss: Option<f64>,
    /// Share classified correctly, 0 to 1.
    pub accuracy: Option<f64>,
    /// Over the last quarter of a second of steps or more; of a run that is over, over all of it, like all below.
    pub examples_per_second: Option<f64>,
    /// Likewise.
    pub steps_per_second: Option<f64>,
    /// Where a step's time goes, as shares: sending, waiting for workers, adding, updating, other.
    pub split: Option<[f64; 5]>,
    /// Payload bytes of a step, to workers and from them.
    pub bytes: Option<[f64; 2]>,
}

/// What the progress is computed from.
#[derive(Default)]
pub struct Pace {
    /// Since the last renewal.
    newest: Sums,
    /// Over the whole run.
    whole: Sums,
}

/// Sums over steps.
#[derive(Default)]
struct Sums {
    steps: u64,
    examples: u64,
    seconds: f64,
    parts: [f64; 4],
    bytes: [u64; 2],
}

impl Sums {
    fn add(&mut self, record: &StepRecord) {
        self.steps += 1;
        self.examples += u64::from(record.examples);
        self.seconds += record.seconds;
        let parts = [record.send_seconds, record.wait_seconds, record.reduce_seconds, record.update_seconds];
        self.parts.iter_mut().zip(parts).for_each(|(sum, seconds)| *sum += seconds);
        let bytes = [record.bytes_sent, record.bytes_received];
        self.bytes.iter_mut().zip(bytes).for_each(|(sum, bytes)| *sum += bytes);
    }
}

impl Progress {
    /// Takes in one step.
    pub(super) fn step(&mut self, record: &StepRecord, pace: &mut Pace) {
        pace.whole.add(record);
        pace.newest.add(record);
        (self.step, self.epoch) = (record.step, record.epoch);
        self.waiting = false;
        smooth(&mut self.loss, record.loss.into());
        smooth(&mut self.accuracy, record.accuracy.into());
        if pace.newest.seconds >= RENEWAL_SECONDS {
            self.renew(&std::mem::take(&mut pace.newest));
        }
    }

    /// The run is over: what its last moment was like is nothing to know a run by.
    pub(super) fn end(&mut self, pace: &Pace) {
        if pace.whole.seconds > 0.0 {
            self.renew(&pace.whole);
        }
    }

    /// Rates and splits of these steps.
    fn renew(&mut self, sums: &Sums) {
        let Sums { steps, examples, seconds, parts, bytes } = sums;
        self.examples_per_second = Some(*examples as f64 / seconds);
        self.steps_per_second = Some(*steps as f64 / seconds);
        let [send, wait, reduce, update] = parts.map(|part| part / seconds);
        let other = (1.0 - send - wait - reduce - update).max(0.0);
        self.split = Some([send, wait, reduce, update, other]);
        self.bytes = Some(bytes.map(|bytes| bytes as f64 / *steps as f64));
    }
}

fn smooth(average: &mut Option<f64>, value: f64) {
    *average = Some(average.map_or(value, |average| average + SMOOTHING * (value - average)));
}

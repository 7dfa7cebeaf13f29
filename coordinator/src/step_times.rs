//! Where the time of a step went, as the loop saw it. It changes no decision and no bit.

use std::time::{Duration, Instant};

/// Times and bytes since the last step ended.
pub struct StepTimes {
    begin: Instant,
    send: Duration,
    wait: Duration,
    reduce: Duration,
    update: Duration,
    /// Of each node of the step, as its worker measured it.
    compute: Vec<Duration>,
    bytes_sent: u64,
    bytes_received: u64,
}

/// What takes time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Encoding and handing over what goes to workers.
    Send,
    /// Waiting for anything to happen.
    Wait,
    /// Adding nodes.
    Reduce,
    /// Updating the weights.
    Update,
}

/// The split of one step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Split {
    /// All of it.
    pub seconds: f64,
    /// See [`Part::Send`].
    pub send_seconds: f64,
    /// Median over the nodes.
    pub compute_seconds_median: f64,
    /// The longest node.
    pub compute_seconds_max: f64,
    /// See [`Part::Wait`].
    pub wait_seconds: f64,
    /// See [`Part::Reduce`].
    pub reduce_seconds: f64,
    /// See [`Part::Update`].
    pub update_seconds: f64,
    /// Payload to workers.
    pub bytes_sent: u64,
    /// Payload from workers.
    pub bytes_received: u64,
}

impl StepTimes {
    /// Begins now.
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
        }
    }

    /// Begins anew, as after an evaluation.
    pub fn restart(&mut self) {
        let mut compute = std::mem::take(&mut self.compute);
        compute.clear();
        *self = Self { compute, ..Self::begin() };
    }

    /// Adds the time since `from` to a part.
    pub fn add(&mut self, part: Part, from: Instant) {
        let total = match part {
            Part::Send => &mut self.send,
            Part::Wait => &mut self.wait,
            Part::Reduce => &mut self.reduce,
            Part::Update => &mut self.update,
        };
        *total += from.elapsed();
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

    /// Ends a step now, and begins the next.
    pub fn split(&mut self) -> Split {
        self.compute.sort_unstable();
        let node = |at: usize| self.compute.get(at).map_or(0.0, Duration::as_secs_f64);
        let split = Split {
            seconds: self.begin.elapsed().as_secs_f64(),
            send_seconds: self.send.as_secs_f64(),
            compute_seconds_median: node(self.compute.len() / 2),
            compute_seconds_max: node(self.compute.len().saturating_sub(1)),
            wait_seconds: self.wait.as_secs_f64(),
            reduce_seconds: self.reduce.as_secs_f64(),
            update_seconds: self.update.as_secs_f64(),
            bytes_sent: self.bytes_sent,
            bytes_received: self.bytes_received,
        };
        self.restart();
        split
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_reports_one_step_and_begins_the_next() {
        let mut times = StepTimes::begin();
        times.sent(10);
        times.sent(5);
        for milliseconds in [30, 10, 20] {
            times.received(100, Duration::from_millis(milliseconds));
        }
        let split = times.split();
        assert_eq!((split.bytes_sent, split.bytes_received), (15, 300));
        assert_eq!((split.compute_seconds_median, split.compute_seconds_max), (0.02, 0.03));
        let next = times.split();
        assert_eq!((next.bytes_sent, next.bytes_received, next.compute_seconds_max), (0, 0, 0.0));
    }
}

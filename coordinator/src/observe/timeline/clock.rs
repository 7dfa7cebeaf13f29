//! Estimates by how much a worker's clock is ahead of this process', from messages in both directions.
//!
//! A message cannot arrive before it is sent: one that goes out bounds the difference from above, one that comes back
//! from below. The estimate is the middle between the tightest two, which is the middle of the fastest round trip, and
//! it is wrong by half of that at most.

use std::collections::VecDeque;

/// Bounds that are kept of either direction: of old ones the clocks may have drifted away.
const KEPT: usize = 64;

/// The bounds of one worker, in nanoseconds by which its clock is ahead.
#[derive(Default)]
pub(super) struct Clock {
    upper: VecDeque<i64>,
    lower: VecDeque<i64>,
}

/// By how much a clock is ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Estimate {
    /// The likeliest, in nanoseconds.
    pub ahead: i64,
    /// How far off that is at most, in nanoseconds.
    pub error: i64,
}

impl Clock {
    /// A message was sent here and received there, each by its own clock.
    pub(super) fn outward(&mut self, sent_here: i64, received_there: i64) {
        keep(&mut self.upper, received_there - sent_here);
    }

    /// A message was sent there and received here.
    pub(super) fn homeward(&mut self, sent_there: i64, received_here: i64) {
        keep(&mut self.lower, sent_there - received_here);
    }

    /// What follows from them; nothing before messages went both ways.
    pub(super) fn estimate(&self) -> Option<Estimate> {
        let (upper, lower) = (self.upper.iter().min()?, self.lower.iter().max()?);
        // With clocks that drift the bounds may cross.
        Some(Estimate { ahead: lower + (upper - lower) / 2, error: ((upper - lower).abs() + 1) / 2 })
    }
}

fn keep(bounds: &mut VecDeque<i64>, bound: i64) {
    if bounds.len() == KEPT {
        bounds.pop_front();
    }
    bounds.push_back(bound);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fastest_messages_decide_and_the_truth_is_within_the_error() {
        let mut clock = Clock::default();
        assert_eq!(clock.estimate(), None);
        // A clock that is 1,000 ahead; messages that take 80 and 30, and back 50 and 10.
        clock.outward(100, 1180);
        assert_eq!(clock.estimate(), None);
        clock.homeward(1300, 350);
        assert_eq!(clock.estimate(), Some(Estimate { ahead: 1015, error: 65 }));
        clock.outward(400, 1430);
        clock.homeward(1500, 510);
        assert_eq!(clock.estimate(), Some(Estimate { ahead: 1010, error: 20 }));
        // Slower ones change nothing, until the fast ones are too long ago.
        (0..KEPT).for_each(|_| clock.outward(600, 1900));
        assert_eq!(clock.estimate(), Some(Estimate { ahead: 1145, error: 155 }));
    }

    #[test]
    fn a_clock_may_be_behind() {
        let mut clock = Clock::default();
        clock.outward(5_000, 1_010);
        clock.homeward(1_100, 5_110);
        assert_eq!(clock.estimate(), Some(Estimate { ahead: -4_000, error: 10 }));
    }
}

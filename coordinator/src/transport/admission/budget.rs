//! A budget that refills with time: so much at once, and a unit after each period.

use std::time::{Duration, Instant};

/// Units that may be spent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    /// The most that can be saved up.
    at_once: u32,
    /// How long one unit takes to come back.
    period: Duration,
    /// When all that was spent has come back.
    full_at: Instant,
}

impl Budget {
    /// A full budget of `at_once` units; each that is spent takes `period` to come back.
    pub fn new(at_once: u32, period: Duration, now: Instant) -> Self {
        Self { at_once, period, full_at: now }
    }

    /// Spends a unit; `false` if there is none.
    pub fn spend(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + self.period;
        let granted = full_at <= now + self.span();
        if granted {
            self.full_at = full_at;
        }
        granted
    }

    /// When one unit can be spent; not later than `now` if it can be by now.
    pub fn next(&self) -> Instant {
        (self.full_at + self.period).checked_sub(self.span()).unwrap_or(self.full_at)
    }

    /// How long an empty budget takes to be full.
    fn span(&self) -> Duration {
        self.period.saturating_mul(self.at_once)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_spent_comes_back_with_time() {
        let start = Instant::now();
        let mut budget = Budget::new(3, Duration::from_millis(100), start);
        assert!((0..3).all(|_| budget.spend(start)));
        assert!(!budget.spend(start));
        assert_eq!(budget.next(), start + Duration::from_millis(100));
        assert!(!budget.spend(start + Duration::from_millis(99)));
        assert!(budget.spend(start + Duration::from_millis(100)));
        // No more than the most is saved up.
        let later = start + Duration::from_secs(3600);
        assert!(budget.next() <= later && (0..3).all(|_| budget.spend(later)) && !budget.spend(later));
    }
}

//! When to try again: growing pauses with full jitter, for a limited time. No clock and no randomness of its own.

use std::time::{Duration, Instant};

/// First and longest bound of the pause between two attempts to reach the coordinator.
const CEILING: std::ops::RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(1);

/// A membership shorter than this is brief: the second in a row counts as a failed attempt, so that a coordinator that
/// drops its workers at once is neither hammered nor tried for ever.
const BRIEF: Duration = *CEILING.end();

/// The time that an attempt to join gets. A coordinator that is stopped, or behind a cut link, may be there again for
/// the next.
const ATTEMPT: Duration = Duration::from_secs(3);

/// The time that an attempt gets, however little is left.
const LEAST_ATTEMPT: Duration = Duration::from_secs(1);

/// The state of trying to reach one coordinator.
#[derive(Debug)]
pub(crate) struct Retry {
    limit: Duration,
    /// The start, or the loss of the coordinator.
    since: Instant,
    ceiling: Duration,
    /// The last membership was brief.
    brief: bool,
}

impl Retry {
    /// Starts trying at `now`, for at most `limit`.
    pub(crate) fn new(limit: Duration, now: Instant) -> Self {
        Self { limit, since: now, ceiling: *CEILING.start(), brief: false }
    }

    /// How long the next attempt may take.
    pub(crate) fn attempt(&self, now: Instant) -> Duration {
        (self.since + self.limit).saturating_duration_since(now).clamp(LEAST_ATTEMPT, ATTEMPT)
    }

    /// The coordinator was lost at `now`, after it had this worker as a member for some time.
    pub(crate) fn lost(&mut self, now: Instant, member_for: Duration) {
        let brief = member_for < BRIEF;
        if !brief || !self.brief {
            self.since = now;
        }
        if !brief {
            self.ceiling = *CEILING.start();
        }
        self.brief = brief;
    }

    /// The pause before the next attempt, a share of its bound that `random` picks; `None` if the time is up.
    pub(crate) fn pause(&mut self, now: Instant, random: u64) -> Option<Duration> {
        let left = (self.since + self.limit).checked_duration_since(now).filter(|left| !left.is_zero())?;
        let ceiling = u64::try_from(self.ceiling.as_nanos()).unwrap_or(u64::MAX);
        // The high half of the product: a number below the ceiling, as evenly spread as `random`.
        let pause = ((u128::from(random) * u128::from(ceiling)) >> 64) as u64;
        self.ceiling = (self.ceiling * 2).min(*CEILING.end());
        // The last attempt is made when the time is up.
        Some(Duration::from_nanos(pause).min(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// The longest pauses, in milliseconds.
    fn ceilings(retry: &mut Retry, now: Instant, count: usize) -> Vec<u128> {
        let pauses = (0..count).map(|_| retry.pause(now, u64::MAX).unwrap());
        // The bound itself is never reached.
        pauses.map(|pause| (pause + Duration::from_nanos(1)).as_millis()).collect()
    }

    #[test]
    fn pauses_grow_to_a_second_and_are_spread_from_zero() {
        let start = Instant::now();
        let mut retry = Retry::new(ms(60_000), start);
        assert_eq!(ceilings(&mut retry, start, 8), [50, 100, 200, 400, 800, 1000, 1000, 1000]);
        assert_eq!(retry.pause(start, 0), Some(Duration::ZERO));
        assert_eq!(retry.pause(start, 1 << 62), Some(ms(250)));
        assert_eq!(retry.pause(start, 1 << 63), Some(ms(500)));
    }

    #[test]
    fn the_last_attempt_is_made_when_the_time_is_up() {
        let start = Instant::now();
        let mut retry = Retry::new(ms(1020), start);
        assert_eq!(retry.pause(start + ms(1000), u64::MAX), Some(ms(20)));
        assert_eq!(retry.attempt(start + ms(1020)), LEAST_ATTEMPT);
        assert_eq!(retry.pause(start + ms(1020), u64::MAX), None);
        assert_eq!(Retry::new(Duration::ZERO, start).pause(start, 0), None);
    }

    #[test]
    fn an_attempt_that_hangs_does_not_take_all_the_time() {
        let start = Instant::now();
        let retry = Retry::new(ms(60_000), start);
        assert_eq!(retry.attempt(start), ATTEMPT);
        assert_eq!(retry.attempt(start + ms(58_500)), ms(1500));
    }

    #[test]
    fn the_time_counts_from_the_loss() {
        let start = Instant::now();
        let mut retry = Retry::new(ms(5000), start);
        ceilings(&mut retry, start, 5);
        retry.lost(start + ms(9000), ms(7000));
        assert_eq!(ceilings(&mut retry, start + ms(9000), 2), [50, 100]);
        assert!(retry.pause(start + ms(13_999), 0).is_some());
        assert!(retry.pause(start + ms(14_000), 0).is_none());
    }

    #[test]
    fn a_coordinator_that_drops_its_workers_at_once_is_not_tried_for_ever() {
        let start = Instant::now();
        let mut retry = Retry::new(ms(5000), start);
        retry.lost(start + ms(3000), ms(10));
        assert_eq!(ceilings(&mut retry, start + ms(3000), 2), [50, 100]);
        retry.lost(start + ms(7000), ms(10));
        assert_eq!(ceilings(&mut retry, start + ms(7000), 2), [200, 400], "the pauses go on growing");
        assert!(retry.pause(start + ms(8000), 0).is_none(), "5 s after the first of them");
        retry.lost(start + ms(20_000), ms(1000));
        assert!(retry.pause(start + ms(24_999), 0).is_some(), "a steady one counts afresh");
    }
}

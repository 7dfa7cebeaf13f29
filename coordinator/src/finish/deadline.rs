//! How long each part of a run's end may take: at leisure, and in haste after a signal. A second signal waits for
//! nothing.

use std::future::Future;
use std::time::{Duration, Instant};

use lockstep_control::{Outcome, Signal};

use crate::run::{Signals, exit_code};

/// How long workers have to take in that the run is over, before local ones are killed.
pub(super) const FAREWELL: Duration = Duration::from_millis(500);

/// Whatever came before, a part has so long.
const LEAST: Duration = Duration::from_millis(50);

/// Of what is not limited; short enough to be added to any instant.
const PRACTICALLY_FOR_EVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A part of the end.
#[derive(Clone, Copy)]
pub(super) struct Part {
    /// Since the signal: by then this part and those before it are over.
    in_haste: Duration,
    /// Since this part began.
    at_leisure: Duration,
}

const fn part(in_haste_ms: u64, at_leisure: Duration) -> Part {
    Part { in_haste: Duration::from_millis(in_haste_ms), at_leisure }
}

/// Killed ones are gone in a moment, unless they hang in the disk.
pub(super) const WORKERS_LEAVE: Part = part(800, Duration::from_secs(10));
/// The last norms and pictures are computed, not written.
pub(super) const MEASURING: Part = part(850, Duration::from_secs(30));
/// The last checkpoint and the last lines.
pub(super) const LAST_SAVE: Part = part(1000, Duration::from_secs(30));
/// The model and the summary.
pub(super) const FILES: Part = part(1250, Duration::from_secs(30));
/// What was said before the summary is shown before it.
pub(super) const SEEN: Part = part(1300, Duration::from_secs(2));
/// The summary: who reads slowly gets it whole.
pub(super) const PRINT: Part = part(1400, PRACTICALLY_FOR_EVER);
/// The pages to keep; drawing has a limit of its own.
pub(super) const REPORT: Part = part(1550, Duration::from_secs(60));
/// Open pages are told.
pub(super) const PAGE: Part = part(1650, Duration::from_secs(5));
/// What is left to be shown: who pages through the output has some time to read on.
pub(super) const LAST_WORDS: Part = part(1700, Duration::from_secs(2));

/// The limit of the end as a whole.
pub(super) struct Deadline {
    /// The signal that makes haste, and when it came.
    signal: Option<(Instant, Signal)>,
}

impl Deadline {
    /// From now on, after a run that ended so.
    pub(super) fn of(outcome: Outcome) -> Self {
        let signal = match outcome {
            Outcome::Interrupted { signal } => Some((Instant::now(), signal)),
            _ => None,
        };
        Self { signal }
    }

    /// A signal came: from now on there is haste.
    pub(super) fn signalled(&mut self, signal: Signal) {
        self.signal = Some((Instant::now(), signal));
    }

    /// How long a part may take that begins now.
    pub(super) fn limit(&self, part: Part) -> Duration {
        self.end(part, Instant::now()).saturating_duration_since(Instant::now())
    }

    fn end(&self, part: Part, begun: Instant) -> Instant {
        match self.signal {
            Some((came, _)) => (came + part.in_haste).max(begun + LEAST),
            None => begun + part.at_leisure,
        }
    }

    /// What `work` gives, unless the part's limit comes first.
    pub(super) async fn wait<T>(
        &mut self,
        signals: &mut Signals,
        part: Part,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let begun = Instant::now();
        tokio::pin!(work);
        loop {
            let end = self.end(part, begun);
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                signal = signals.next() => match self.signal {
                    Some((_, first)) => std::process::exit(exit_code(first).into()),
                    None => self.signalled(signal),
                },
                () = tokio::time::sleep_until(end.into()) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[test]
    fn the_parts_of_a_hasty_end_follow_each_other_within_two_seconds() {
        let parts = [WORKERS_LEAVE, MEASURING, LAST_SAVE, FILES, SEEN, PRINT, REPORT, PAGE, LAST_WORDS];
        assert!(parts.is_sorted_by_key(|part| part.in_haste));
        assert!(parts.iter().all(|part| part.in_haste < Duration::from_secs(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_hangs_is_given_up_and_what_comes_next_is_tried() {
        let mut deadline = Deadline::of(Outcome::Interrupted { signal: Signal::Terminate });
        let mut signals = Signals::none();
        assert_eq!(deadline.wait(&mut signals, LAST_SAVE, pending::<()>()).await, None);
        assert_eq!(deadline.wait(&mut signals, PRINT, async { 7 }).await, Some(7));
        let mut at_leisure = Deadline::of(Outcome::Done);
        assert!(at_leisure.limit(LAST_SAVE) > Duration::from_secs(20));
        assert_eq!(at_leisure.wait(&mut signals, LAST_SAVE, pending::<()>()).await, None);
    }
}

//! The deadlines of a run's end: how long each phase may take, normally and after a signal. A second signal ends the
//! process at once.

use std::future::Future;
use std::time::{Duration, Instant};

use lockstep_command_line::{Signals, exit_code};
use lockstep_control::{Outcome, Signal};

/// How long workers have to take in that the run is over, before local ones are killed.
pub(super) const WORKER_EXIT_GRACE: Duration = Duration::from_millis(500);

/// A phase has at least so long, whatever came before.
const LEAST_LIMIT: Duration = Duration::from_millis(50);

/// The limit of a phase that has none; short enough to be added to any instant.
const UNLIMITED: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A phase of the end, with its deadlines.
#[derive(Clone, Copy)]
pub(super) struct EndPhase {
    /// Since the signal: by then this phase and those before it are over.
    signal_limit: Duration,
    /// Since this phase began.
    normal_limit: Duration,
}

const fn phase(signal_limit_ms: u64, normal_limit: Duration) -> EndPhase {
    EndPhase { signal_limit: Duration::from_millis(signal_limit_ms), normal_limit }
}

/// Killed ones are gone in a moment, unless they hang in the disk.
pub(super) const WORKERS_LEAVE: EndPhase = phase(800, Duration::from_secs(10));
/// The last norms and pictures are computed, not written.
pub(super) const MEASURING: EndPhase = phase(850, Duration::from_secs(30));
/// The last checkpoint and the last lines.
pub(super) const LAST_SAVE: EndPhase = phase(1000, Duration::from_secs(30));
/// The model and the summary.
pub(super) const FILES: EndPhase = phase(1250, Duration::from_secs(30));
/// Lines printed before the summary are shown before it.
pub(super) const EARLIER_LINES: EndPhase = phase(1300, Duration::from_secs(2));
/// The summary: a slow reader gets all of it.
pub(super) const PRINT: EndPhase = phase(1400, UNLIMITED);
/// The pages to keep; drawing has a limit of its own.
pub(super) const REPORT: EndPhase = phase(1550, Duration::from_secs(60));
/// Open pages are sent the end.
pub(super) const PAGE: EndPhase = phase(1650, Duration::from_secs(5));
/// The lines that are left: somebody who pages through the output has some time to read on.
pub(super) const LAST_LINES: EndPhase = phase(1700, Duration::from_secs(2));

/// Which of the limits apply.
pub(super) struct Deadlines {
    /// The signal after which the shorter limits apply, and when it came.
    signal: Option<(Instant, Signal)>,
}

impl Deadlines {
    /// The deadlines from now on, after a run that ended so.
    pub(super) fn of(outcome: Outcome) -> Self {
        let signal = match outcome {
            Outcome::Interrupted { signal } => Some((Instant::now(), signal)),
            _ => None,
        };
        Self { signal }
    }

    /// A signal came: from now on the shorter limits apply.
    pub(super) fn signalled(&mut self, signal: Signal) {
        self.signal = Some((Instant::now(), signal));
    }

    /// How long a phase may take that begins now.
    pub(super) fn limit(&self, phase: EndPhase) -> Duration {
        self.end(phase, Instant::now()).saturating_duration_since(Instant::now())
    }

    fn end(&self, phase: EndPhase, begun: Instant) -> Instant {
        match self.signal {
            Some((came, _)) => (came + phase.signal_limit).max(begun + LEAST_LIMIT),
            None => begun + phase.normal_limit,
        }
    }

    /// The result of `work`, or `None` if the phase's limit comes first.
    pub(super) async fn wait<T>(
        &mut self,
        signals: &mut Signals,
        phase: EndPhase,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let begun = Instant::now();
        tokio::pin!(work);
        loop {
            let end = self.end(phase, begun);
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
    fn the_phases_of_an_end_by_signal_follow_each_other_within_two_seconds() {
        let phases =
            [WORKERS_LEAVE, MEASURING, LAST_SAVE, FILES, EARLIER_LINES, PRINT, REPORT, PAGE, LAST_LINES];
        assert!(phases.is_sorted_by_key(|phase| phase.signal_limit));
        assert!(phases.iter().all(|phase| phase.signal_limit < Duration::from_secs(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_hangs_is_given_up_and_what_comes_next_is_tried() {
        let mut deadlines = Deadlines::of(Outcome::Interrupted { signal: Signal::Terminate });
        let mut signals = Signals::none();
        assert_eq!(deadlines.wait(&mut signals, LAST_SAVE, pending::<()>()).await, None);
        assert_eq!(deadlines.wait(&mut signals, PRINT, async { 7 }).await, Some(7));
        let mut normal = Deadlines::of(Outcome::Done);
        assert!(normal.limit(LAST_SAVE) > Duration::from_secs(20));
        assert_eq!(normal.wait(&mut signals, LAST_SAVE, pending::<()>()).await, None);
    }
}

//! The alarm that the disk is behind is true and said once: at the first step that is lost, which is only lost where
//! too much waits, and never again until all that waited is written. Then the steps lost are named, as are lines that
//! are missing. The alarm that the log cannot be written is likewise said once until it is written again.

use std::collections::{BTreeMap, VecDeque};

use lockstep_checkpoint::backlog::{Limits, LostSteps};

use super::{Invariant, View};
use crate::observed::{CoordinatorId, Observed};

/// What waits and what was lost, by coordinator.
#[derive(Debug, Default)]
pub struct Alarm(BTreeMap<CoordinatorId, Queue>);

#[derive(Debug, Default)]
struct Queue {
    /// The steps and their bytes.
    waiting: VecDeque<(u64, usize)>,
    bytes: usize,
    /// Since all that waited was written last.
    lost: Option<LostSteps>,
    /// The first step lost, until it is said.
    unsaid: Option<u64>,
    /// It is said that the log cannot be written.
    log_fails: bool,
    /// Lines that are neither written nor said to be missing.
    lines: u64,
}

impl Invariant for Alarm {
    fn name(&self) -> &'static str {
        "the alarm is true and said once"
    }

    fn observe(&mut self, observed: &Observed, view: &View) -> Result<(), String> {
        match observed {
            Observed::StepWaits { coordinator, step, bytes, lost } => {
                let queue = self.0.entry(*coordinator).or_default();
                if *lost {
                    return queue.lose(*step, *bytes, view.knobs.backlog);
                }
                queue.waiting.push_back((*step, *bytes));
                queue.bytes += bytes;
            }
            Observed::Behind { coordinator, first } => {
                let queue = self.0.entry(*coordinator).or_default();
                if queue.unsaid.take() != Some(*first) {
                    return Err(format!("it is said that steps from {first} on are lost, which is not new"));
                }
            }
            Observed::StepTaken { coordinator, step } => {
                let queue = self.0.entry(*coordinator).or_default();
                let Some((_, bytes)) = queue.waiting.pop_front().filter(|(first, _)| first == step) else {
                    return Err(format!("step {step} comes out of the queue before its turn"));
                };
                queue.bytes -= bytes;
            }
            Observed::CaughtUp { coordinator, lost } => {
                let queue = self.0.entry(*coordinator).or_default();
                if !queue.waiting.is_empty() {
                    return Err(format!("it is said that all is written, and {} wait", queue.waiting.len()));
                }
                let known = queue.lost.take();
                if known != Some(*lost) {
                    return Err(format!("it is said that {lost:?} are lost, where {known:?} are"));
                }
            }
            Observed::NothingWaits { coordinator } => {
                let queue = self.0.entry(*coordinator).or_default();
                if let Some(lost) = queue.lost {
                    return Err(format!("all is written, and nobody is told that {lost:?} are lost"));
                }
                if queue.lines > 0 {
                    return Err(format!("{} lines are missing, and nobody is told", queue.lines));
                }
            }
            Observed::LineWaits { coordinator, .. } => self.0.entry(*coordinator).or_default().lines += 1,
            Observed::LineWritten { coordinator, .. } => return self.line_ends(*coordinator, 1),
            Observed::LinesLost { coordinator, count } => return self.line_ends(*coordinator, *count),
            Observed::LogFails { coordinator } => {
                let queue = self.0.entry(*coordinator).or_default();
                if std::mem::replace(&mut queue.log_fails, true) {
                    return Err("it is said again that the log cannot be written".to_string());
                }
                if view.disk.failed_calls() == 0 {
                    return Err(
                        "it is said that the log cannot be written, and no call has failed".to_string()
                    );
                }
            }
            Observed::LogGoesOn { coordinator } => {
                let queue = self.0.entry(*coordinator).or_default();
                if !std::mem::replace(&mut queue.log_fails, false) {
                    return Err("it is said that the log is written again, as it was before".to_string());
                }
            }
            Observed::Ended { coordinator, .. } => drop(self.0.remove(coordinator)),
            _ => {}
        }
        Ok(())
    }

    fn after_event(&mut self, _view: &View) -> Result<(), String> {
        match self.0.values().find_map(|queue| queue.unsaid) {
            Some(first) => Err(format!("steps from {first} on are lost, and nobody is told")),
            None => Ok(()),
        }
    }
}

impl Alarm {
    fn line_ends(&mut self, coordinator: CoordinatorId, count: u64) -> Result<(), String> {
        let queue = self.0.entry(coordinator).or_default();
        let left = queue.lines.checked_sub(count);
        queue.lines =
            left.ok_or(format!("{count} lines are written or missing, {} there were", queue.lines))?;
        Ok(())
    }
}

impl Queue {
    fn lose(&mut self, step: u64, bytes: usize, limits: Limits) -> Result<(), String> {
        let waiting = self.waiting.len();
        let full = waiting >= limits.steps || (waiting > 0 && self.bytes + bytes > limits.step_bytes);
        let more_than_half = 2 * waiting > limits.steps || 2 * self.bytes > limits.step_bytes;
        match &mut self.lost {
            None if full => {
                self.lost = Some(LostSteps { first: step, last: step, count: 1 });
                self.unsaid = Some(step);
            }
            Some(lost) if full || more_than_half => {
                *lost = LostSteps { last: step, count: lost.count + 1, ..*lost };
            }
            _ => {
                return Err(format!(
                    "step {step} is lost, and only {waiting} steps of {} bytes wait",
                    self.bytes
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use lockstep_checkpoint::FileSystem;

    use super::super::testing::{disk, judge_events, judge_on};
    use super::*;

    fn waits(step: u64) -> Observed {
        Observed::StepWaits { coordinator: 0, step, bytes: 32, lost: false }
    }

    fn lost(step: u64) -> Observed {
        Observed::StepWaits { coordinator: 0, step, bytes: 32, lost: true }
    }

    fn behind(first: u64) -> Observed {
        Observed::Behind { coordinator: 0, first }
    }

    /// Four steps wait, as many as may; these observations follow in one event, and those in another.
    fn complaint(these: Vec<Observed>, those: Vec<Observed>) -> Result<(), String> {
        judge_events(&mut Alarm::default(), &[(1..=4).map(waits).collect(), these, those])
    }

    #[test]
    fn an_alarm_that_is_late_false_or_said_twice_is_seen() {
        assert_eq!(complaint(vec![lost(5), behind(5)], vec![lost(6)]), Ok(()));
        let late = complaint(vec![lost(5)], vec![behind(5)]).unwrap_err();
        assert_eq!(late, "steps from 5 on are lost, and nobody is told");
        let twice = complaint(vec![lost(5), behind(5)], vec![lost(6), behind(6)]).unwrap_err();
        assert_eq!(twice, "it is said that steps from 6 on are lost, which is not new");
        assert!(complaint(vec![behind(5)], vec![]).is_err(), "nothing is lost");
        let early = judge_events(&mut Alarm::default(), &[vec![waits(1)], vec![lost(2), behind(2)]]);
        assert_eq!(early.unwrap_err(), "step 2 is lost, and only 1 steps of 32 bytes wait");
    }

    #[test]
    fn an_end_that_is_false_or_not_said_is_seen() {
        let taken = |step| Observed::StepTaken { coordinator: 0, step };
        let caught_up =
            |last, count| Observed::CaughtUp { coordinator: 0, lost: LostSteps { first: 5, last, count } };
        let nothing = Observed::NothingWaits { coordinator: 0 };
        let after_a_loss = |observations: &[Observed]| {
            let rest = observations.iter().cloned().chain([nothing.clone()]).collect();
            complaint(vec![lost(5), behind(5), lost(6)], rest)
        };
        let all: Vec<Observed> = (1..=4).map(taken).collect();
        assert_eq!(after_a_loss(&[&all[..], &[caught_up(6, 2)]].concat()), Ok(()));
        assert!(after_a_loss(&all).unwrap_err().contains("nobody is told that"));
        assert!(after_a_loss(&[&all[..], &[caught_up(5, 1)]].concat()).is_err(), "two are lost");
        assert_eq!(
            after_a_loss(&[caught_up(6, 2)]).unwrap_err(),
            "it is said that all is written, and 4 wait"
        );
        assert_eq!(after_a_loss(&[taken(2)]).unwrap_err(), "step 2 comes out of the queue before its turn");
    }

    #[test]
    fn lines_that_are_missing_are_seen() {
        let (waits, nothing) =
            (Observed::LineWaits { coordinator: 0, waiting: 1 }, Observed::NothingWaits { coordinator: 0 });
        let missing = |count| Observed::LinesLost { coordinator: 0, count };
        let judged =
            |observations: &[Observed]| judge_events(&mut Alarm::default(), &[observations.to_vec()]);
        assert_eq!(judged(&[waits.clone(), waits.clone(), missing(2), nothing.clone()]), Ok(()));
        let error = judged(&[waits.clone(), waits.clone(), missing(1), nothing]).unwrap_err();
        assert_eq!(error, "1 lines are missing, and nobody is told");
        assert_eq!(judged(&[waits, missing(2)]).unwrap_err(), "2 lines are written or missing, 1 there were");
    }

    #[test]
    fn an_alarm_of_the_log_that_is_false_or_said_twice_is_seen() {
        let (fails, goes_on) =
            (Observed::LogFails { coordinator: 0 }, Observed::LogGoesOn { coordinator: 0 });
        let disk = disk();
        let mut alarm = Alarm::default();
        assert!(judge_on(&mut Alarm::default(), &disk, 0, &fails).is_err(), "no call has failed");
        disk.set_faults(1000, 0);
        disk.open(0).create_new(Path::new("/run/a")).err().unwrap();
        assert_eq!(judge_on(&mut alarm, &disk, 0, &fails), Ok(()));
        assert!(judge_on(&mut alarm, &disk, 1, &fails).unwrap_err().contains("said again"));
        assert_eq!(judge_on(&mut alarm, &disk, 2, &goes_on), Ok(()));
        assert!(judge_on(&mut alarm, &disk, 3, &goes_on).unwrap_err().contains("as it was before"));
    }
}

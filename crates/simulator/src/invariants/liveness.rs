//! Once faults have stopped, the run ends within a stated time.

use super::{Invariant, View};
use crate::observed::Observed;

/// When the run has to be over.
#[derive(Debug, Default)]
pub struct Liveness {
    by_us: Option<u64>,
}

impl Invariant for Liveness {
    fn name(&self) -> &'static str {
        "the run ends once faults have stopped"
    }

    fn observe(&mut self, observed: &Observed, view: &View) -> Result<(), String> {
        if let Observed::Repaired = observed {
            self.by_us = Some(view.now + view.knobs.liveness_us());
        }
        Ok(())
    }

    fn after_event(&mut self, view: &View) -> Result<(), String> {
        match self.by_us {
            Some(by_us) if view.now > by_us => {
                let seconds = view.knobs.liveness_us() / 1_000_000;
                Err(format!("it is not over {seconds} s after the last fault"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{disk, judge_on, knobs, started};
    use super::*;

    #[test]
    fn a_run_that_does_not_end_is_seen() {
        let (disk, limit_us) = (disk(), knobs().liveness_us());
        let mut liveness = Liveness::default();
        assert_eq!(judge_on(&mut liveness, &disk, 10 * limit_us, &started(1)), Ok(()), "faults come still");
        judge_on(&mut liveness, &disk, 10 * limit_us, &Observed::Repaired).unwrap();
        assert_eq!(judge_on(&mut liveness, &disk, 11 * limit_us, &started(2)), Ok(()));
        let error = judge_on(&mut liveness, &disk, 11 * limit_us + 1, &started(3)).unwrap_err();
        assert!(error.contains("it is not over"), "{error}");
    }
}

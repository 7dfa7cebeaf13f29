//! No fault makes a run diverge: wrong numbers of a worker are that worker's, and are computed anew.

use lockstep_control::Outcome;

use super::{Invariant, View};
use crate::observed::Observed;

/// Looks at how processes end.
#[derive(Debug)]
pub struct EndsWell;

impl Invariant for EndsWell {
    fn name(&self) -> &'static str {
        "no fault makes a run diverge"
    }

    fn observe(&mut self, observed: &Observed, _view: &View) -> Result<(), String> {
        match observed {
            Observed::Ended { outcome: Some(outcome @ Outcome::Diverged { .. }), .. } => {
                Err(outcome.to_string())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::judge;
    use super::*;

    #[test]
    fn a_divergence_is_seen() {
        let ended = |outcome| [Observed::Ended { coordinator: 0, outcome: Some(outcome), point: "" }];
        assert_eq!(judge(&mut EndsWell, &ended(Outcome::Done)), Ok(()));
        let error = judge(&mut EndsWell, &ended(Outcome::Diverged { step: 3 })).unwrap_err();
        assert_eq!(error, "training diverged in step 3");
    }
}

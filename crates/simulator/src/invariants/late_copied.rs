//! What is late is copied while somebody is idle: whichever workers come or leave, no late leaf stays with its holder alone.

use super::{Invariant, View};
use crate::observed::Observed;

/// Looks whenever members came or left.
#[derive(Debug)]
pub struct LateCopied;

impl Invariant for LateCopied {
    fn name(&self) -> &'static str {
        "what is late is copied while somebody is idle"
    }

    fn observe(&mut self, observed: &Observed, _view: &View) -> Result<(), String> {
        match observed {
            Observed::Looked { coordinator, uncopied: Some((assignment, worker)) } => Err(format!(
                "{assignment} of coordinator {coordinator} is late, nobody else has it, and {worker} is idle"
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use lockstep_control::{AssignmentId, WorkerId};

    use super::super::testing::judge;
    use super::*;

    #[test]
    fn late_work_beside_an_idle_member_is_seen() {
        let looked = |uncopied| [Observed::Looked { coordinator: 0, uncopied }];
        assert_eq!(judge(&mut LateCopied, &looked(None)), Ok(()));
        let error = judge(&mut LateCopied, &looked(Some((AssignmentId(3), WorkerId(2))))).unwrap_err();
        assert_eq!(error, "#3 of coordinator 0 is late, nobody else has it, and worker 2 is idle");
    }
}

//! Work, weights and dismissals go to members only, and who was dropped is no member.

use std::collections::BTreeSet;

use lockstep_control::{Command, Event, Recipient, WorkerId};

use super::{Invariant, View};
use crate::observed::{CoordinatorId, Observed};

/// The members of each coordinator.
#[derive(Debug, Default)]
pub struct MembersOnly(BTreeSet<(CoordinatorId, WorkerId)>);

impl Invariant for MembersOnly {
    fn name(&self) -> &'static str {
        "only members are told anything"
    }

    fn observe(&mut self, observed: &Observed, _view: &View) -> Result<(), String> {
        match observed {
            Observed::Told { coordinator, event: Event::Joined { worker, .. } } => {
                self.0.insert((*coordinator, *worker));
            }
            Observed::Decided { coordinator, command } => {
                let to = match command {
                    Command::Assign { worker, .. }
                    | Command::Revoke { worker, .. }
                    | Command::Combine { worker, .. }
                    | Command::DropMember { worker, .. }
                    | Command::SendWeights { to: Recipient::One(worker), .. } => *worker,
                    _ => return Ok(()),
                };
                if !self.0.contains(&(*coordinator, to)) {
                    return Err(format!("{to} is no member of coordinator {coordinator}: {command}"));
                }
                if let Command::DropMember { .. } = command {
                    self.0.remove(&(*coordinator, to));
                }
            }
            Observed::Ended { coordinator, .. } => self.0.retain(|(of, _)| of != coordinator),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use lockstep_control::{DropReason, LeaveCause};

    use super::super::testing::{assign, decided, judge, told};
    use super::*;

    #[test]
    fn strangers_and_the_dropped_are_told_nothing() {
        let joined = told(Event::Joined { worker: WorkerId(1), threads: 1 });
        let reason = DropReason::Left { cause: LeaveCause::Reset };
        let drop = decided(Command::DropMember { worker: WorkerId(1), reason });
        assert_eq!(judge(&mut MembersOnly::default(), &[joined.clone(), assign(1, 1, 0..4)]), Ok(()));
        let stranger = judge(&mut MembersOnly::default(), &[joined.clone(), assign(1, 2, 0..4)]);
        assert!(stranger.unwrap_err().contains("worker 2 is no member"));
        let dropped = judge(&mut MembersOnly::default(), &[joined, drop.clone(), drop]);
        assert!(dropped.unwrap_err().contains("worker 1 is no member"));
    }
}

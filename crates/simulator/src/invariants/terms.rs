//! A term never goes back, no two processes have the same, and it is durable before anybody hears it; who hears of a
//! higher one does nothing more, and who saves once a higher one has begun hears of it.

use std::collections::{BTreeMap, BTreeSet};

use lockstep_control::{Command, Event, Outcome};

use super::{Invariant, View};
use crate::disk::Loss;
use crate::observed::{CoordinatorId, Observed};
use crate::rng::{Rng, Subject};
use crate::storage;

/// The terms heard so far.
#[derive(Debug)]
pub struct Terms {
    highest: u64,
    of: BTreeMap<CoordinatorId, u64>,
    /// They were held while they began: others may have come first.
    held: BTreeSet<CoordinatorId>,
    /// Their journal began with a state to be saved when a higher term had begun.
    outdated: BTreeSet<CoordinatorId>,
    heard: BTreeMap<(usize, u32), u64>,
    /// Coordinators that have heard of a higher one.
    superseded: BTreeMap<CoordinatorId, u64>,
    rng: Rng,
}

impl Terms {
    /// Before any.
    pub fn new(seed: u64) -> Self {
        Self {
            highest: 0,
            of: BTreeMap::new(),
            held: BTreeSet::new(),
            outdated: BTreeSet::new(),
            heard: BTreeMap::new(),
            superseded: BTreeMap::new(),
            rng: Rng::new(seed, Subject::Probe),
        }
    }
}

impl Invariant for Terms {
    fn name(&self) -> &'static str {
        "a term never goes back"
    }

    fn observe(&mut self, observed: &Observed, view: &View) -> Result<(), String> {
        match observed {
            Observed::Started { coordinator, term, .. } => {
                if let Some(other) = self.of.iter().find_map(|(other, of)| (of == term).then_some(other)) {
                    return Err(format!("coordinators {other} and {coordinator} both have term {term}"));
                }
                if *term <= self.highest && !self.held.contains(coordinator) {
                    return Err(format!("term {term} begins after term {}", self.highest));
                }
                self.highest = self.highest.max(*term);
                self.of.insert(*coordinator, *term);
                for loss in [Loss::Everything, Loss::Some] {
                    let next = storage::next_term_on(&view.disk.after_crash(loss, &mut self.rng))
                        .map_err(|error| format!("after a crash now no coordinator could start: {error}"))?;
                    if next <= *term {
                        return Err(format!("after a crash now term {next} would follow term {term}"));
                    }
                }
            }
            Observed::Held { coordinator, .. } => drop(self.held.insert(*coordinator)),
            Observed::SaveTaken { coordinator }
                if self.of.get(coordinator).is_some_and(|term| *term < self.highest) =>
            {
                self.outdated.insert(*coordinator);
            }
            Observed::Saved { coordinator, after, failure: None } if self.outdated.contains(coordinator) => {
                return Err(format!(
                    "coordinator {coordinator} saves the state after {after}, although term {} had begun before",
                    self.highest
                ));
            }
            Observed::Told { coordinator, event: Event::Superseded { term } } => {
                self.superseded.insert(*coordinator, *term);
            }
            Observed::Decided { coordinator, command } if self.superseded.contains_key(coordinator) => {
                let over =
                    Command::Finish { outcome: Outcome::Superseded { term: self.superseded[coordinator] } };
                if *command != over {
                    return Err(format!(
                        "coordinator {coordinator} goes on, although it was replaced: {command}"
                    ));
                }
            }
            Observed::Welcomed { machine, process, term } => {
                let heard = self.heard.entry((*machine, *process)).or_default();
                if term < heard {
                    return Err(format!("machine {machine} goes from term {heard} back to {term}"));
                }
                *heard = *term;
                if *term > self.highest {
                    return Err(format!(
                        "machine {machine} is welcome in term {term}, which no coordinator has"
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{disk, judge_on, started, step, storage, told};
    use super::*;

    #[test]
    fn a_term_that_goes_back_or_is_not_durable_is_seen() {
        let disk = disk();
        let mut terms = Terms::new(1);
        drop(storage(&disk));
        drop(storage(&disk));
        assert_eq!(judge_on(&mut terms, &disk, 0, &started(2)), Ok(()));
        let error = judge_on(&mut terms, &disk, 1, &started(2)).unwrap_err();
        assert_eq!(error, "coordinators 0 and 0 both have term 2");
        let error = judge_on(&mut terms, &disk, 1, &started(1)).unwrap_err();
        assert_eq!(error, "term 1 begins after term 2");
        let error = judge_on(&mut terms, &disk, 2, &started(3)).unwrap_err();
        assert_eq!(error, "after a crash now term 3 would follow term 3");
    }

    #[test]
    fn a_worker_goes_back_to_no_term_and_a_replaced_coordinator_goes_not_on() {
        let disk = disk();
        let mut terms = Terms::new(1);
        drop(storage(&disk));
        drop(storage(&disk));
        judge_on(&mut terms, &disk, 0, &started(2)).unwrap();
        let welcome = |term| Observed::Welcomed { machine: 4, process: 1, term };
        assert_eq!(judge_on(&mut terms, &disk, 1, &welcome(2)), Ok(()));
        let error = judge_on(&mut terms, &disk, 2, &welcome(1)).unwrap_err();
        assert_eq!(error, "machine 4 goes from term 2 back to 1");
        judge_on(&mut terms, &disk, 3, &told(Event::Superseded { term: 3 })).unwrap();
        let decided = |outcome| Observed::Decided { coordinator: 0, command: Command::Finish { outcome } };
        assert_eq!(judge_on(&mut terms, &disk, 4, &decided(Outcome::Superseded { term: 3 })), Ok(()));
        let error = judge_on(&mut terms, &disk, 5, &decided(Outcome::Done)).unwrap_err();
        assert!(error.contains("although it was replaced"), "{error}");
    }

    #[test]
    fn a_replaced_coordinator_that_saves_is_seen() {
        let (disk, mut terms) = (disk(), Terms::new(1));
        let start = |terms: &mut Terms, coordinator, term| {
            drop(storage(&disk));
            let Observed::Started { weights, .. } = started(term) else { unreachable!() };
            let started = Observed::Started { coordinator, term, done: None, weights, examples: 0 };
            judge_on(terms, &disk, 0, &started).unwrap();
        };
        let taken = Observed::SaveTaken { coordinator: 0 };
        let saved = Observed::Saved { coordinator: 0, after: step(1), failure: None };
        start(&mut terms, 0, 1);
        judge_on(&mut terms, &disk, 1, &taken).unwrap();
        start(&mut terms, 1, 2);
        assert_eq!(judge_on(&mut terms, &disk, 2, &saved), Ok(()), "it had begun with that before");
        judge_on(&mut terms, &disk, 3, &taken).unwrap();
        let error = judge_on(&mut terms, &disk, 4, &saved).unwrap_err();
        assert_eq!(error, "coordinator 0 saves the state after step 1, although term 2 had begun before");
    }
}

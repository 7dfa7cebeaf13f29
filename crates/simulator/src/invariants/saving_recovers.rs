//! Once the disk is well again, however long it was not, saving and recording go on: within one interval between two
//! checkpoints and the time that the disk needs for what waits, a state from after the disk's recovery is durable, and a
//! newer step has its record. So long as the run goes on, that is: a state is saved when a step is done.

use std::collections::BTreeMap;

use lockstep_checkpoint::Proof;
use lockstep_control::{Command, Task, TaskKind};

use super::{Invariant, View};
use crate::knobs::Knobs;
use crate::observed::{CoordinatorId, Observed};

/// What the disk needs beside what waits: the entry that it is at, and the saves.
const ENTRIES_BESIDE: u64 = 4;

/// The first step after others were lost is the one that the log begins with again: the next has its record.
const STEPS_AFTER: u64 = 2;

/// What came of each coordinator's disk.
#[derive(Debug, Default)]
pub struct SavingRecovers {
    failed_calls: u64,
    coordinators: BTreeMap<CoordinatorId, Health>,
    /// The last step that each has done. Where another has got further, the log may say of a step that it has no record: it
    /// gets none when it is computed again.
    done: BTreeMap<CoordinatorId, u64>,
}

#[derive(Debug, Default)]
struct Health {
    /// Since then no call has failed or stalled, there was room, and the process was not stopped.
    well_since_us: u64,
    /// By then an interval is over and what waited when the disk became well is written.
    ready_us: u64,
    /// A call is held, or the process is stopped.
    held: bool,
    paused: bool,
    /// The last step that is done, and the last one that was when the disk became well.
    step: u64,
    step_then: u64,
    /// Steps that wait.
    waiting: u64,
    /// Steps done from then on.
    steps_after: u64,
    /// From the first such steps on, the disk has until then.
    due_us: Option<u64>,
    /// States that are to be saved since.
    to_save: Vec<Task>,
    saved: bool,
    recorded: bool,
    /// The last state was saved while records were not durable.
    in_memory: bool,
}

impl Invariant for SavingRecovers {
    fn name(&self) -> &'static str {
        "saving recovers once the disk is well"
    }

    fn observe(&mut self, observed: &Observed, view: &View) -> Result<(), String> {
        let failed_calls = view.disk.failed_calls();
        if failed_calls != self.failed_calls
            || matches!(observed, Observed::DiskHasRoom | Observed::Repaired | Observed::Started { .. })
        {
            // A process that starts may take away what another one is about to rename.
            self.failed_calls = failed_calls;
            for health in self.coordinators.values_mut() {
                health.becomes_well(view);
            }
        }
        if let Observed::Ended { coordinator, .. } = observed {
            self.coordinators.remove(coordinator);
            return Ok(());
        }
        if let Observed::Done { coordinator, task, .. } = observed {
            self.done.insert(*coordinator, task.step);
        }
        let Some((coordinator, change)) = Change::of(observed, &self.done) else { return Ok(()) };
        let health = self.coordinators.entry(coordinator).or_default();
        health.take(change, view);
        Ok(())
    }

    fn after_event(&mut self, view: &View) -> Result<(), String> {
        for (coordinator, health) in &self.coordinators {
            let missing = match (health.saved, health.recorded && !health.in_memory) {
                (false, _) => "no state is saved",
                (_, false) => "no step is recorded",
                (true, true) => continue,
            };
            if health.due_us.is_some_and(|due_us| view.now > due_us) && !view.disk.is_full() {
                let well_ms = (view.now - health.well_since_us) / 1000;
                return Err(format!(
                    "the disk of coordinator {coordinator} is well for {well_ms} ms, since step {}, and {missing}",
                    health.step_then
                ));
            }
        }
        Ok(())
    }
}

/// What an observation says about one coordinator's disk.
enum Change {
    Begins(u64),
    Held(bool),
    Paused(bool),
    Done(u64),
    Waits,
    Taken,
    Recorded(u64),
    InMemory(bool),
    Save(Task),
    Saved(Task),
}

impl Change {
    fn of(observed: &Observed, done: &BTreeMap<CoordinatorId, u64>) -> Option<(CoordinatorId, Self)> {
        Some(match observed {
            Observed::Started { coordinator, done, .. } => {
                (*coordinator, Self::Begins(done.map_or(0, |done| done.step)))
            }
            Observed::Held { coordinator, .. } => (*coordinator, Self::Held(true)),
            Observed::WentOn { coordinator } => (*coordinator, Self::Held(false)),
            Observed::Paused { coordinator } => (*coordinator, Self::Paused(true)),
            Observed::Resumed { coordinator, jumped_us: 0, .. } => (*coordinator, Self::Paused(false)),
            Observed::Done { coordinator, task, .. } if task.kind == TaskKind::Train => {
                (*coordinator, Self::Done(task.step))
            }
            Observed::StepWaits { coordinator, lost: false, .. } => (*coordinator, Self::Waits),
            Observed::StepTaken { coordinator, .. } => (*coordinator, Self::Taken),
            Observed::SaveTaken { coordinator } => (*coordinator, Self::InMemory(false)),
            Observed::NotDurable { coordinator, .. } => (*coordinator, Self::InMemory(true)),
            Observed::Recorded { coordinator, step, proof: Proof::Appended | Proof::Proved } => {
                (*coordinator, Self::Recorded(*step))
            }
            Observed::Recorded { coordinator, step, proof: Proof::Unrecorded }
                if done.iter().any(|(other, done)| other != coordinator && done >= step) =>
            {
                (*coordinator, Self::Recorded(*step))
            }
            Observed::Decided { coordinator, command: Command::Save { after, .. } } => {
                (*coordinator, Self::Save(*after))
            }
            Observed::Saved { coordinator, after, failure: None } => (*coordinator, Self::Saved(*after)),
            _ => return None,
        })
    }
}

impl Health {
    fn take(&mut self, change: Change, view: &View) {
        match change {
            Change::Begins(step) => {
                *self = Self { step, ..Self::default() };
                self.becomes_well(view);
            }
            Change::Held(held) => {
                self.held = held;
                self.becomes_well(view);
            }
            Change::Paused(paused) => {
                self.paused = paused;
                self.becomes_well(view);
            }
            Change::Done(step) => {
                self.step = step;
                let well = !self.held && !self.paused && !view.disk.is_full();
                self.steps_after += u64::from(well && view.now >= self.ready_us);
                if self.due_us.is_none() && self.steps_after == STEPS_AFTER {
                    self.due_us = Some(view.now + self.disk_needs_us(view.knobs));
                }
            }
            Change::Waits => self.waiting += 1,
            Change::Taken => self.waiting = self.waiting.saturating_sub(1),
            Change::Recorded(step) => self.recorded |= step > self.step_then,
            Change::InMemory(in_memory) => self.in_memory = in_memory,
            Change::Save(after) => self.to_save.push(after),
            Change::Saved(after) => self.saved |= self.to_save.contains(&after),
        }
    }

    fn becomes_well(&mut self, view: &View) {
        (self.well_since_us, self.step_then) = (view.now, self.step);
        self.ready_us = view.now + view.knobs.checkpoint_us.max(self.disk_needs_us(view.knobs));
        self.steps_after = 0;
        (self.due_us, self.saved, self.recorded) = (None, false, false);
        self.to_save.clear();
    }

    fn disk_needs_us(&self, knobs: &Knobs) -> u64 {
        (self.waiting + ENTRIES_BESIDE) * knobs.append_us[1] + ENTRIES_BESIDE * knobs.disk_us[1]
    }
}

#[cfg(test)]
mod tests {
    use lockstep_control::SaveReason;

    use super::super::testing::{decided, disk, done, judge_on, started, step};
    use super::*;
    use crate::disk::VirtualDisk;

    /// An interval between checkpoints of `testing::knobs()`, and more than the disk needs.
    const INTERVAL_US: u64 = 100_000;
    const NEEDS_US: u64 = 44_000;

    fn saved(after: u64) -> Observed {
        Observed::Saved { coordinator: 0, after: step(after), failure: None }
    }

    fn recorded(step: u64, proof: Proof) -> Observed {
        Observed::Recorded { coordinator: 0, step, proof }
    }

    /// The disk stalls from the beginning for 10 s; an interval later two steps are done, and these observations follow, and
    /// then the disk had the time that it needs.
    fn complaint(disk: &VirtualDisk, observations: &[Observed]) -> Result<(), String> {
        let mut invariant = SavingRecovers::default();
        let held = Observed::Held { coordinator: 0, call: "", file: "" };
        judge_on(&mut invariant, disk, 0, &started(1))?;
        judge_on(&mut invariant, disk, 0, &held)?;
        judge_on(&mut invariant, disk, 9_000_000, &done(step(1)))?;
        let well_us = 10_000_000;
        judge_on(&mut invariant, disk, well_us, &Observed::WentOn { coordinator: 0 })?;
        let now_us = well_us + INTERVAL_US;
        for number in [1, 2] {
            judge_on(&mut invariant, disk, now_us, &done(step(number)))?;
        }
        let save = Command::Save { after: step(2), reason: SaveReason::Interval };
        judge_on(&mut invariant, disk, now_us, &decided(save))?;
        for observed in observations {
            judge_on(&mut invariant, disk, now_us, observed)?;
        }
        judge_on(&mut invariant, disk, now_us + NEEDS_US, &Observed::Paused { coordinator: 1 })?;
        judge_on(&mut invariant, disk, now_us + NEEDS_US + 1, &Observed::Paused { coordinator: 1 })
    }

    #[test]
    fn a_disk_that_is_well_and_not_used_is_seen() {
        let (recorded, saved_late) = (recorded(2, Proof::Appended), saved(2));
        assert_eq!(complaint(&disk(), &[recorded.clone(), saved_late.clone()]), Ok(()));
        let error = complaint(&disk(), &[recorded.clone(), saved(1)]).unwrap_err();
        assert_eq!(
            error, "the disk of coordinator 0 is well for 144 ms, since step 1, and no state is saved",
            "that was to be saved before"
        );
        let error = complaint(&disk(), std::slice::from_ref(&saved_late)).unwrap_err();
        assert!(error.ends_with("and no step is recorded"), "{error}");
        let unrecorded = self::recorded(2, Proof::Unrecorded);
        assert!(complaint(&disk(), &[unrecorded, saved_late.clone()]).is_err());
        // Another process had got further, and the log may have a gap there.
        let again = self::recorded(2, Proof::Unrecorded);
        assert!(Change::of(&again, &BTreeMap::from([(0, 9), (1, 1)])).is_none());
        assert!(matches!(Change::of(&again, &BTreeMap::from([(1, 9)])), Some((0, Change::Recorded(2)))));
        let in_memory = Observed::NotDurable { coordinator: 0, steps: 1..=2 };
        assert!(complaint(&disk(), &[recorded, in_memory, saved_late]).is_err());
    }

    #[test]
    fn a_disk_that_is_not_well_is_not_blamed() {
        let full = disk();
        full.set_full(true);
        assert_eq!(complaint(&full, &[]), Ok(()));
        let held_again = Observed::Held { coordinator: 0, call: "", file: "" };
        assert_eq!(complaint(&disk(), &[held_again]), Ok(()));
        let ended = Observed::Ended { coordinator: 0, outcome: None, point: "" };
        assert_eq!(complaint(&disk(), &[ended]), Ok(()));
    }
}

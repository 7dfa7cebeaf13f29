//! The journal's thread of a simulated coordinator, in virtual time: it takes one entry after the other out of the
//! production queue, and each takes the disk a while. A call of the disk that stalls holds it there.

use std::ops::RangeInclusive;

use lockstep_checkpoint::backlog::{Backlog, Entry, Limits, Pushed};
use lockstep_checkpoint::{Note, Proof};
use lockstep_control::{Event, Task};

use super::Coordinator;
use crate::arithmetic::Value;
use crate::cluster::held::{HeldThread, Progress};
use crate::cluster::{Cluster, SimEvent};
use crate::observed::{CoordinatorId, Observed};
use crate::storage::{Refusal, Storage};

/// Calls of the disk within one entry at most, or somewhat more.
const CALLS_OF_AN_ENTRY: u64 = 20;

/// A process that ends waits so long for its journal.
const LONGEST_CLOSE_US: u64 = 500_000;

/// A state to be saved.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub after: Task,
    pub weights: Value,
    pub examples: u64,
}

type Waiting = Entry<Value, Snapshot, Task>;
type Written = (Box<Storage>, Wrote);

/// What waits for the disk, and what the thread is at.
#[derive(Debug)]
pub(super) struct Journal {
    backlog: Backlog<Value, Snapshot, Task>,
    doing: Doing,
    /// Goes up with whatever the thread does: a happening of an earlier turn is none any more.
    turn: u64,
}

#[derive(Debug)]
enum Doing {
    Nothing(Box<Storage>),
    /// It takes the disk a while, at the end of which it is done in one go.
    Writing(Box<Storage>, Waiting),
    /// Within an entry, at one call of the disk.
    Held(HeldThread<Written>),
    /// Only while this is looked at.
    Taken,
}

/// What came of an entry.
#[derive(Debug)]
enum Wrote {
    Step { step: u64, result: Result<Proof, Refusal> },
    Save { after: Task, failure: Option<Refusal>, pending: Option<RangeInclusive<u64>> },
}

/// A stall of the disk to come.
#[derive(Clone, Copy, Debug)]
pub struct ArmedStall {
    /// Whose call it will be.
    pub coordinator: CoordinatorId,
    /// How long it will take; `None`: until everything is repaired.
    pub lasts_us: Option<u64>,
}

impl Journal {
    pub(super) fn new(limits: Limits, storage: Storage) -> Self {
        Self { backlog: Backlog::new(limits), doing: Doing::Nothing(Box::new(storage)), turn: 0 }
    }
}

impl Cluster {
    /// What the loop does with the weights after a step.
    pub(super) fn record_step(&mut self, coordinator: &mut Coordinator, step: u64, weights: Value) {
        let (id, bytes) = (coordinator.id, weights.byte_len());
        let pushed = coordinator.journal.backlog.push_step(step, weights, bytes);
        self.observe(Observed::StepWaits { coordinator: id, step, bytes, lost: pushed != Pushed::Waits });
        if pushed == Pushed::FirstLost {
            self.observe(Observed::Behind { coordinator: id, first: step });
        }
        self.wake_journal(coordinator);
    }

    /// What the loop does with the line of a task.
    pub(super) fn record_line(&mut self, coordinator: &mut Coordinator, task: Task) {
        coordinator.journal.backlog.push_record(task);
        let waiting = coordinator.journal.backlog.len();
        self.observe(Observed::LineWaits { coordinator: coordinator.id, waiting });
        self.wake_journal(coordinator);
    }

    /// What the loop does when the control plane has a state saved.
    pub(super) fn save_state(&mut self, coordinator: &mut Coordinator, after: Task) {
        let (weights, examples) = (coordinator.weights.clone(), coordinator.examples);
        coordinator.journal.backlog.push_save(Snapshot { after, weights, examples });
        self.wake_journal(coordinator);
    }

    fn wake_journal(&mut self, coordinator: &mut Coordinator) {
        if let Some(takes_us) = self.begin_entry(coordinator) {
            self.happens_after(coordinator, takes_us);
        }
    }

    fn happens_after(&mut self, coordinator: &Coordinator, takes_us: u64) {
        let (id, turn) = (coordinator.id, coordinator.journal.turn);
        self.at(self.now + takes_us, SimEvent::Journal { coordinator: id, turn });
    }

    /// Has the thread begin the next entry, if it does nothing; how long the disk needs for it. Lines are written on
    /// the way.
    fn begin_entry(&mut self, coordinator: &mut Coordinator) -> Option<u64> {
        let id = coordinator.id;
        let storage = match std::mem::replace(&mut coordinator.journal.doing, Doing::Taken) {
            Doing::Nothing(storage) => storage,
            other => {
                coordinator.journal.doing = other;
                return None;
            }
        };
        while let Some(entry) = coordinator.journal.backlog.pop() {
            let [low, high] = match &entry {
                Entry::Record(task) => {
                    self.observe(Observed::LineWritten { coordinator: id, task: *task });
                    continue;
                }
                Entry::LostRecords(count) => {
                    self.observe(Observed::LinesLost { coordinator: id, count: *count });
                    continue;
                }
                Entry::CaughtUp(lost) => {
                    self.observe(Observed::CaughtUp { coordinator: id, lost: *lost });
                    continue;
                }
                Entry::Step { step, .. } => {
                    self.observe(Observed::StepTaken { coordinator: id, step: *step });
                    self.knobs.append_us
                }
                Entry::Save(_) => {
                    self.observe(Observed::SaveTaken { coordinator: id });
                    self.knobs.disk_us
                }
            };
            coordinator.journal.doing = Doing::Writing(storage, entry);
            coordinator.journal.turn += 1;
            return Some(self.disk_rng.between(low, high));
        }
        self.observe(Observed::NothingWaits { coordinator: id });
        coordinator.journal.doing = Doing::Nothing(storage);
        None
    }

    /// The disk has done what the thread was at, or goes on with it.
    pub(crate) fn journal_goes_on(&mut self, id: CoordinatorId, turn: u64) {
        let Some(coordinator) = self.coordinators[id].as_mut().filter(|c| c.journal.turn == turn) else {
            return;
        };
        coordinator.journal.turn += 1;
        let Some(wrote) = self.write(id) else { return };
        let event = self.say(id, wrote);
        if let Some(mut coordinator) = self.coordinators[id].take() {
            self.wake_journal(&mut coordinator);
            self.coordinators[id] = Some(coordinator);
        }
        event.into_iter().for_each(|event| self.drive(id, event));
    }

    /// Writes what the thread is at; `None` if it is held at a call, or its process was killed.
    fn write(&mut self, id: CoordinatorId) -> Option<Wrote> {
        let coordinator = self.coordinators[id].as_mut()?;
        let doing = std::mem::replace(&mut coordinator.journal.doing, Doing::Taken);
        let (progress, after) = match doing {
            Doing::Writing(storage, entry) => {
                let [before, after] = points(&entry);
                if let Some(crash) = self.crash_at(before) {
                    self.coordinators[id].as_mut()?.journal.doing = Doing::Nothing(storage);
                    self.kill_coordinator(id, crash, false);
                    return None;
                }
                if self.disk.is_stall_armed(id) {
                    (HeldThread::start(&self.disk, || write_entry(storage, entry)), after)
                } else {
                    (Progress::Done(write_entry(storage, entry)), after)
                }
            }
            Doing::Held(thread) => {
                self.observe(Observed::WentOn { coordinator: id });
                (thread.go_on(), "after a call that was held")
            }
            Doing::Nothing(_) | Doing::Taken => unreachable!("there is something to be done"),
        };
        match progress {
            Progress::Held { thread, call, file } => {
                self.hold(id, thread, call, file);
                None
            }
            Progress::Done((storage, wrote)) => {
                self.coordinators[id].as_mut()?.journal.doing = Doing::Nothing(storage);
                if let Some(crash) = self.disk_crash(id).or_else(|| self.crash_at(after)) {
                    self.kill_coordinator(id, crash, false);
                    return None;
                }
                Some(wrote)
            }
        }
    }

    fn hold(
        &mut self,
        id: CoordinatorId,
        thread: HeldThread<Written>,
        call: &'static str,
        file: &'static str,
    ) {
        self.observe(Observed::Held { coordinator: id, call, file });
        self.count_stall(call, file);
        let stall = self.stall.take().expect("a held call was armed");
        let Some(coordinator) = self.coordinators[id].as_mut() else { return };
        coordinator.journal.doing = Doing::Held(thread);
        coordinator.journal.turn += 1;
        let turn = coordinator.journal.turn;
        if let Some(lasts_us) = stall.lasts_us {
            self.at(self.now + lasts_us, SimEvent::Journal { coordinator: id, turn });
        }
    }

    /// The disk is well: a call that is held goes on.
    pub(crate) fn let_go(&mut self, id: CoordinatorId) {
        let Some(coordinator) = &self.coordinators[id] else { return };
        if let Doing::Held(_) = coordinator.journal.doing {
            let turn = coordinator.journal.turn;
            self.at(self.now, SimEvent::Journal { coordinator: id, turn });
        }
    }

    /// What comes out of the thread.
    fn say(&mut self, id: CoordinatorId, wrote: Wrote) -> Option<Event> {
        self.say_notes(id);
        match wrote {
            Wrote::Step { step, result: Ok(proof) } => {
                match proof {
                    Proof::Unrecorded => self.count("step not recorded"),
                    Proof::Resumed { .. } => self.count("log begins again behind a gap"),
                    Proof::Appended | Proof::Proved => {}
                }
                self.observe(Observed::Recorded { coordinator: id, step, proof });
                None
            }
            Wrote::Step { step, result: Err(Refusal::Failed(reason)) } => {
                self.observe(Observed::NotProved { coordinator: id, step, reason });
                Some(Event::Contradicted { step })
            }
            Wrote::Step { result: Err(Refusal::Superseded { term }), .. }
            | Wrote::Save { failure: Some(Refusal::Superseded { term }), .. } => {
                self.count("replaced, as the disk says");
                Some(Event::Superseded { term })
            }
            Wrote::Save { after, failure, pending } => {
                if let Some(steps) = pending {
                    self.observe(Observed::NotDurable { coordinator: id, steps });
                }
                let failure = failure.map(|refusal| format!("{refusal:?}"));
                let durable = failure.is_none();
                self.count(if durable { "checkpoint saved" } else { "checkpoint failed" });
                self.observe(Observed::Saved { coordinator: id, after, failure });
                Some(Event::Saved { durable })
            }
        }
    }

    fn say_notes(&mut self, id: CoordinatorId) {
        let Some(coordinator) = self.coordinators[id].as_mut() else { return };
        let Doing::Nothing(storage) = &mut coordinator.journal.doing else { return };
        for note in storage.take_notes() {
            match note {
                Note::LogFailed { .. } => self.observe(Observed::LogFails { coordinator: id }),
                Note::LogGoesOn { .. } => self.observe(Observed::LogGoesOn { coordinator: id }),
                Note::Gap { .. } => self.count("gap of the log told"),
                Note::Unreadable { .. } => self.count("record not readable"),
                Note::NotRemoved(_) => self.count("old checkpoint not removed"),
            }
        }
    }

    /// The process ends: it waits for its journal for a while, and what the disk has not taken by then is lost. Whether
    /// it is there still, or was killed meanwhile.
    pub(super) fn close_journal(&mut self, id: CoordinatorId) -> bool {
        let mut left_us = LONGEST_CLOSE_US;
        while let Some(coordinator) = &self.coordinators[id]
            && let Doing::Writing(..) = coordinator.journal.doing
        {
            if let Some(wrote) = self.write(id) {
                // The control plane is over.
                let _ = self.say(id, wrote);
                let Some(mut coordinator) = self.coordinators[id].take() else { return false };
                let takes_us = self.begin_entry(&mut coordinator).unwrap_or(0);
                self.coordinators[id] = Some(coordinator);
                let Some(left) = left_us.checked_sub(takes_us) else { break };
                left_us = left;
            }
        }
        if let Some(coordinator) = &mut self.coordinators[id] {
            let journal = std::mem::replace(&mut coordinator.journal.doing, Doing::Taken);
            self.break_off(id, journal);
        }
        self.coordinators[id].is_some()
    }

    /// The process of the thread is no more: the disk has done some part of what the thread was at.
    pub(super) fn break_off_journal(&mut self, coordinator: &mut Coordinator) {
        let doing = std::mem::replace(&mut coordinator.journal.doing, Doing::Taken);
        self.break_off(coordinator.id, doing);
    }

    fn break_off(&mut self, id: CoordinatorId, doing: Doing) {
        match doing {
            Doing::Writing(storage, entry) => {
                let calls = self.disk_rng.below(CALLS_OF_AN_ENTRY);
                self.disk.arm(id, calls);
                drop(write_entry(storage, entry));
            }
            Doing::Held(thread) => {
                self.disk.arm(id, 0);
                drop(thread);
            }
            Doing::Nothing(_) | Doing::Taken => {}
        }
        self.disk.disarm();
        let _ = self.disk.killed(id);
    }
}

/// Where the process can be killed before and after an entry is written.
fn points(entry: &Waiting) -> [&'static str; 2] {
    match entry {
        Entry::Save(_) => ["before the checkpoint", "after the checkpoint"],
        _ => ["before the step's record", "after the step's record"],
    }
}

fn write_entry(mut storage: Box<Storage>, entry: Waiting) -> Written {
    let wrote = match entry {
        Entry::Step { step, weights } => Wrote::Step { step, result: storage.committed(step, &weights) },
        Entry::Save(Snapshot { after, weights, examples }) => {
            let failure = storage.save(after, &weights, examples).err();
            Wrote::Save { after, failure, pending: storage.pending() }
        }
        Entry::Record(_) | Entry::LostRecords(_) | Entry::CaughtUp(_) => {
            unreachable!("these are done on the way")
        }
    };
    (storage, wrote)
}

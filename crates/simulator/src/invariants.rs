//! The invariants: one per file, each judging everything observed and looking on after every event.
//!
//! They know what happened and what is true (the oracle), and nothing of how the cluster decides.

mod alarm;
mod backlog_bounded;
mod bounds;
mod committed_once;
mod counted_once;
mod durable_checkpoints;
mod ends_well;
mod late_copied;
mod liveness;
mod members_only;
mod never_stuck;
mod nothing_stale;
mod patience;
mod replays_proved;
mod right_values;
mod saving_recovers;
mod silence;
mod step_log;
mod step_order;
mod terms;
mod training_goes_on;

use crate::disk::VirtualDisk;
use crate::knobs::Knobs;
use crate::observed::Observed;
use crate::oracle::Oracle;

/// What an invariant may look at.
#[derive(Debug)]
pub struct View<'a> {
    /// The cluster's knobs.
    pub knobs: &'a Knobs,
    /// The truth.
    pub oracle: &'a Oracle,
    /// The disk, to try crashes on copies of it.
    pub disk: &'a VirtualDisk,
    /// Virtual microseconds.
    pub now: u64,
}

/// Something that is true of every cluster whatever happens to it.
pub trait Invariant {
    /// For the report.
    fn name(&self) -> &'static str;

    /// Takes in what happened, or says how it breaks the promise.
    ///
    /// # Errors
    ///
    /// The sentence for the report.
    fn observe(&mut self, observed: &Observed, view: &View) -> Result<(), String>;

    /// Looks on after an event and everything that followed from it.
    ///
    /// # Errors
    ///
    /// The sentence for the report.
    fn after_event(&mut self, _view: &View) -> Result<(), String> {
        Ok(())
    }
}

/// All of them, for one cluster.
pub fn all(seed: u64) -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(counted_once::CountedOnce::default()),
        Box::new(nothing_stale::NothingStale::default()),
        Box::new(right_values::RightValues),
        Box::new(step_order::StepOrder::default()),
        Box::new(committed_once::CommittedOnce::default()),
        Box::new(members_only::MembersOnly::default()),
        Box::new(bounds::Bounds::default()),
        Box::new(terms::Terms::new(seed)),
        Box::new(durable_checkpoints::DurableCheckpoints::new(seed)),
        Box::new(step_log::StepLog::new(seed)),
        Box::new(replays_proved::ReplaysProved::default()),
        Box::new(backlog_bounded::BacklogBounded::default()),
        Box::new(alarm::Alarm::default()),
        Box::new(training_goes_on::TrainingGoesOn::default()),
        Box::new(saving_recovers::SavingRecovers::default()),
        Box::new(silence::Silence::default()),
        Box::new(never_stuck::NeverStuck::default()),
        Box::new(late_copied::LateCopied),
        Box::new(patience::Patience::default()),
        Box::new(ends_well::EndsWell),
        Box::new(liveness::Liveness::default()),
    ]
}

#[cfg(test)]
pub(crate) mod testing {
    //! A small world in which an invariant is shown observations.

    use std::path::Path;

    use lockstep_checkpoint::backlog::Limits;
    use lockstep_control::{AssignReason, AssignmentId, Command, Event, Task, TaskKind, WorkerId};
    use lockstep_reduction::Node;

    use super::*;
    use crate::rng::{Rng, Subject};
    use crate::storage::{FOLDER, Storage};

    /// Four leaves, two steps, a validation after each.
    pub(crate) fn knobs() -> Knobs {
        let mut knobs = Knobs::draw(1);
        knobs.without_faults();
        (knobs.kernels, knobs.shards, knobs.batch, knobs.examples) = (false, 4, 8, 8);
        (knobs.steps, knobs.validation, knobs.test, knobs.portion) = (2, 1, 1, 4);
        knobs.backlog = Limits { steps: 4, step_bytes: 1000, records: 4 };
        (knobs.checkpoint_us, knobs.append_us, knobs.disk_us) = (100_000, [1000; 2], [10_000; 2]);
        knobs
    }

    /// Shows observations a microsecond apart, each with the time that follows it; the first complaint.
    pub(crate) fn judge(invariant: &mut dyn Invariant, observations: &[Observed]) -> Result<(), String> {
        let (knobs, disk) = (knobs(), disk());
        let oracle = Oracle::train(&knobs);
        for (now, observed) in observations.iter().enumerate() {
            let view = View { knobs: &knobs, oracle: &oracle, disk: &disk, now: now as u64 };
            invariant.observe(observed, &view)?;
            invariant.after_event(&view)?;
        }
        Ok(())
    }

    /// Shows what happened in events a microsecond apart; the first complaint.
    pub(crate) fn judge_events(
        invariant: &mut dyn Invariant,
        events: &[Vec<Observed>],
    ) -> Result<(), String> {
        let (knobs, disk) = (knobs(), disk());
        let oracle = Oracle::train(&knobs);
        for (now, observations) in events.iter().enumerate() {
            let view = View { knobs: &knobs, oracle: &oracle, disk: &disk, now: now as u64 };
            observations.iter().try_for_each(|observed| invariant.observe(observed, &view))?;
            invariant.after_event(&view)?;
        }
        Ok(())
    }

    /// Shows one observation on a disk of the caller's, at a time of the caller's.
    pub(crate) fn judge_on(
        invariant: &mut dyn Invariant,
        disk: &VirtualDisk,
        now: u64,
        observed: &Observed,
    ) -> Result<(), String> {
        let knobs = knobs();
        let oracle = Oracle::train(&knobs);
        let view = View { knobs: &knobs, oracle: &oracle, disk, now };
        invariant.observe(observed, &view)?;
        invariant.after_event(&view)
    }

    pub(crate) fn disk() -> VirtualDisk {
        VirtualDisk::new(Path::new(FOLDER), Rng::new(1, Subject::Disk))
    }

    /// A process that has begun to keep a run on a disk.
    pub(crate) fn storage(disk: &VirtualDisk) -> Storage {
        let knobs = knobs();
        let oracle = Oracle::train(&knobs);
        let initial = oracle.weights(0).unwrap();
        Storage::open(&disk.open(0), &knobs, initial).unwrap().storage
    }

    pub(crate) fn step(step: u64) -> Task {
        Task { kind: TaskKind::Train, step }
    }

    pub(crate) fn started(term: u64) -> Observed {
        let weights = Oracle::train(&knobs()).weights(0).unwrap().clone();
        Observed::Started { coordinator: 0, term, done: None, weights, examples: 0 }
    }

    pub(crate) fn told(event: Event) -> Observed {
        Observed::Told { coordinator: 0, event }
    }

    pub(crate) fn decided(command: Command) -> Observed {
        Observed::Decided { coordinator: 0, command }
    }

    pub(crate) fn assign(assignment: u64, worker: u32, leaves: std::ops::Range<u32>) -> Observed {
        decided(Command::Assign {
            worker: WorkerId(worker),
            assignment: AssignmentId(assignment),
            task: step(1),
            leaves,
            reason: AssignReason::Share { members: 2 },
        })
    }

    /// Node (level, index) of step 1, with the value that it should have.
    pub(crate) fn combined(assignment: u64, worker: u32, level: u32, index: u32) -> Observed {
        let node = Node::new(level, index).unwrap();
        let value = Oracle::train(&knobs()).node(step(1), node);
        let (worker, assignment) = (WorkerId(worker), AssignmentId(assignment));
        Observed::Combined { coordinator: 0, worker, assignment, task: step(1), node, value }
    }

    pub(crate) fn done(task: Task) -> Observed {
        let oracle = Oracle::train(&knobs());
        let value = match task.kind {
            TaskKind::Train => oracle.weights(task.step),
            _ => oracle.evaluation(task),
        };
        let examples = oracle.examples(task.step);
        Observed::Done { coordinator: 0, task, value: value.unwrap().clone(), examples }
    }
}

//! What happens in a cluster, in the words that the invariants judge and the trace prints.

use std::fmt;
use std::ops::RangeInclusive;

use lockstep_checkpoint::Proof;
use lockstep_checkpoint::backlog::LostSteps;
use lockstep_control::{AssignmentId, Command, Event, Outcome, Task, WorkerId};
use lockstep_reduction::Node;

use crate::arithmetic::Value;

/// One process of the run's coordinator, numbered from 0 in the order of starting.
pub type CoordinatorId = usize;

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Observed {
    /// A process of the coordinator began, with the state after `done`.
    Started {
        /// Its number.
        coordinator: CoordinatorId,
        /// Its term.
        term: u64,
        /// The last task that it need not do again.
        done: Option<Task>,
        /// Its weights.
        weights: Value,
        /// Examples that the steps so far were trained on.
        examples: u64,
    },
    /// A coordinator is stopped for a while.
    Paused {
        /// Its number.
        coordinator: CoordinatorId,
    },
    /// A coordinator that was stopped goes on, or its clock jumped.
    Resumed {
        /// Its number.
        coordinator: CoordinatorId,
        /// Members of which something has arrived that it has not seen yet.
        unread: Vec<WorkerId>,
        /// By how much its clock jumped.
        jumped_us: u64,
    },
    /// A process of the coordinator could not begin.
    NotStarted {
        /// In words.
        reason: String,
    },
    /// The control plane was told something.
    Told {
        /// By which coordinator.
        coordinator: CoordinatorId,
        /// What it was told.
        event: Event,
    },
    /// The control plane decided something.
    Decided {
        /// Of which coordinator.
        coordinator: CoordinatorId,
        /// The decision.
        command: Command,
    },
    /// Members came or left, and the control plane was asked what is late and not copied though somebody is idle.
    Looked {
        /// Of which coordinator.
        coordinator: CoordinatorId,
        /// The late assignment, and the idle member.
        uncopied: Option<(AssignmentId, WorkerId)>,
    },
    /// A node went into a tree.
    Combined {
        /// Of which coordinator.
        coordinator: CoordinatorId,
        /// Whose node.
        worker: WorkerId,
        /// What it answers.
        assignment: AssignmentId,
        /// Of which task.
        task: Task,
        /// Which node.
        node: Node,
        /// The sum.
        value: Option<Value>,
    },
    /// A copy of a node was compared.
    Compared {
        /// By which coordinator.
        coordinator: CoordinatorId,
        /// Of which task.
        task: Task,
        /// Which node.
        node: Node,
        /// Whether it was the same; `None`: there was nothing to compare it with.
        equal: Option<bool>,
    },
    /// A task is done: the weights after a step, or an evaluation's result.
    Done {
        /// By which coordinator.
        coordinator: CoordinatorId,
        /// Which task.
        task: Task,
        /// What came of it.
        value: Value,
        /// Examples that all steps so far were trained on.
        examples: u64,
    },
    /// A step waits to be recorded, or is lost because too much waits.
    StepWaits {
        /// At which coordinator.
        coordinator: CoordinatorId,
        /// Which step.
        step: u64,
        /// Bytes of the weights after it.
        bytes: usize,
        /// It does not wait.
        lost: bool,
    },
    /// The journal's thread takes a step out of the queue.
    StepTaken {
        /// Of which coordinator.
        coordinator: CoordinatorId,
        /// Which step.
        step: u64,
    },
    /// The journal's thread takes a state to be saved out of the queue.
    SaveTaken {
        /// Of which coordinator.
        coordinator: CoordinatorId,
    },
    /// A step was written down or held against its record.
    Recorded {
        /// By which coordinator.
        coordinator: CoordinatorId,
        /// Which step.
        step: u64,
        /// What came of it.
        proof: Proof,
    },
    /// The operator is told that the disk is behind and steps are lost from now on.
    Behind {
        /// By which coordinator.
        coordinator: CoordinatorId,
        /// The first step lost.
        first: u64,
    },
    /// The operator is told that all that waited is written, and which steps are lost.
    CaughtUp {
        /// By which coordinator.
        coordinator: CoordinatorId,
        /// The steps.
        lost: LostSteps,
    },
    /// The journal's thread has nothing to do.
    NothingWaits {
        /// Of which coordinator.
        coordinator: CoordinatorId,
    },
    /// The line of a task goes into the queue, or is lost because too many wait.
    LineWaits {
        /// Of which coordinator.
        coordinator: CoordinatorId,
        /// Entries that wait now.
        waiting: usize,
    },
    /// The line of a task comes out of the queue.
    LineWritten {
        /// Of which coordinator.
        coordinator: CoordinatorId,
        /// Which task.
        task: Task,
    },
    /// It is said that lines are missing.
    LinesLost {
        /// Of which coordinator.
        coordinator: CoordinatorId,
        /// How many.
        count: u64,
    },
    /// A call of the disk stalls.
    Held {
        /// Whose journal waits for it.
        coordinator: CoordinatorId,
        /// Which call.
        call: &'static str,
        /// With what kind of file.
        file: &'static str,
    },
    /// A call that has stalled goes on.
    WentOn {
        /// Whose journal has waited for it.
        coordinator: CoordinatorId,
    },
    /// A replayed step differs from its record.
    NotProved {
        /// By which coordinator.
        coordinator: CoordinatorId,
        /// Which step.
        step: u64,
        /// In the journal's words.
        reason: String,
    },
    /// The operator is told that the log cannot be written.
    LogFails {
        /// By which coordinator.
        coordinator: CoordinatorId,
    },
    /// The operator is told that the log is written again.
    LogGoesOn {
        /// By which coordinator.
        coordinator: CoordinatorId,
    },
    /// A state is saved, or is not, and records of steps before it are not durable.
    NotDurable {
        /// By which coordinator.
        coordinator: CoordinatorId,
        /// Which steps.
        steps: RangeInclusive<u64>,
    },
    /// A checkpoint was written, or could not be.
    Saved {
        /// By which coordinator.
        coordinator: CoordinatorId,
        /// The state after this task.
        after: Task,
        /// Why not, or that it is durable.
        failure: Option<String>,
    },
    /// A worker was told its number by a coordinator of this term.
    Welcomed {
        /// The machine.
        machine: usize,
        /// Its process there.
        process: u32,
        /// The coordinator's term.
        term: u64,
    },
    /// A worker that knows a higher term did not join.
    RefusedTerm {
        /// The machine.
        machine: usize,
        /// The coordinator's term.
        term: u64,
        /// The one that it knows.
        known: u64,
    },
    /// A worker has so many assignments waiting.
    Holds {
        /// The machine.
        machine: usize,
        /// How many.
        assignments: usize,
    },
    /// So many messages wait for a worker.
    Waiting {
        /// The machine.
        machine: usize,
        /// How many.
        messages: usize,
    },
    /// A message of another run or term was not let through.
    Stale {
        /// The coordinator.
        coordinator: CoordinatorId,
        /// The worker that sent it.
        worker: WorkerId,
    },
    /// A process of the coordinator is no more.
    Ended {
        /// Its number.
        coordinator: CoordinatorId,
        /// How; `None`: it was killed.
        outcome: Option<Outcome>,
        /// Where it was killed.
        point: &'static str,
    },
    /// A worker's process is no more.
    WorkerEnded {
        /// The machine.
        machine: usize,
        /// Its process there.
        process: u32,
    },
    /// A fault was injected.
    Fault {
        /// Its class.
        class: &'static str,
        /// To whom, and for how long.
        detail: String,
    },
    /// A disk that was full is not any more.
    DiskHasRoom,
    /// No more faults: everything is repaired, and the run has to end.
    Repaired,
}

impl Observed {
    /// For the invariants only: nobody would want to read it.
    pub fn is_routine(&self) -> bool {
        matches!(
            self,
            Self::Waiting { .. }
                | Self::Holds { .. }
                | Self::Looked { .. }
                | Self::StepTaken { .. }
                | Self::SaveTaken { .. }
                | Self::NothingWaits { .. }
                | Self::LineWaits { .. }
                | Self::LineWritten { .. }
        )
    }
}

impl fmt::Display for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { coordinator, term, done, .. } => {
                write!(f, "coordinator {coordinator} starts in term {term}, ")?;
                match done {
                    Some(task) => write!(f, "after {task}"),
                    None => f.write_str("from the beginning"),
                }
            }
            Self::Paused { coordinator } => write!(f, "coordinator {coordinator} is stopped"),
            Self::Resumed { coordinator, unread, jumped_us: 0 } => {
                write!(f, "coordinator {coordinator} goes on; {} members have said something", unread.len())
            }
            Self::Resumed { coordinator, jumped_us, .. } => {
                write!(f, "the clock of coordinator {coordinator} jumps by {} ms", jumped_us / 1000)
            }
            Self::NotStarted { reason } => write!(f, "a coordinator cannot start: {reason}"),
            Self::Told { coordinator, event } => write!(f, "coordinator {coordinator} <- {event:?}"),
            Self::Decided { coordinator, command } => write!(f, "coordinator {coordinator} -> {command}"),
            Self::Looked { coordinator, uncopied } => {
                write!(f, "coordinator {coordinator} looks for what is late: {uncopied:?}")
            }
            Self::Combined { coordinator, worker, assignment, task, node, .. } => {
                write!(f, "coordinator {coordinator} counts node {node} of {task}: {assignment} of {worker}")
            }
            Self::Compared { coordinator, task, node, equal } => {
                let verdict = match equal {
                    Some(true) => "equal",
                    Some(false) => "different",
                    None => "unchecked",
                };
                write!(f, "coordinator {coordinator} compares node {node} of {task}: {verdict}")
            }
            Self::Done { coordinator, task, .. } => write!(f, "coordinator {coordinator} has done {task}"),
            Self::StepWaits { coordinator, step, lost: false, .. } => {
                write!(f, "coordinator {coordinator} will record step {step}")
            }
            Self::StepWaits { coordinator, step, lost: true, .. } => {
                write!(f, "coordinator {coordinator} will not record step {step}: too many wait")
            }
            Self::StepTaken { coordinator, step } => {
                write!(f, "the journal of coordinator {coordinator} takes step {step}")
            }
            Self::SaveTaken { coordinator } => {
                write!(f, "the journal of coordinator {coordinator} takes a state to be saved")
            }
            Self::Recorded { coordinator, step, proof } => {
                let what = match proof {
                    Proof::Appended => "is recorded",
                    Proof::Proved => "is proved",
                    Proof::Resumed { .. } => "begins the log again",
                    Proof::Unrecorded => "gets no record",
                };
                write!(f, "step {step} of coordinator {coordinator} {what}")
            }
            Self::Behind { coordinator, first } => {
                write!(f, "coordinator {coordinator} says that steps from {first} on are not recorded")
            }
            Self::CaughtUp { coordinator, lost: LostSteps { first, last, count } } => write!(
                f,
                "coordinator {coordinator} says that {count} of the steps {first} to {last} have no record"
            ),
            Self::NothingWaits { coordinator } => {
                write!(f, "the journal of coordinator {coordinator} has nothing to do")
            }
            Self::LineWaits { coordinator, waiting } => {
                write!(f, "coordinator {coordinator} will write a line; {waiting} entries wait")
            }
            Self::DiskHasRoom => f.write_str("the disk has room again"),
            Self::LineWritten { coordinator, task } => {
                write!(f, "coordinator {coordinator} writes the line of {task}")
            }
            Self::LinesLost { coordinator, count } => {
                write!(f, "coordinator {coordinator} says that {count} lines are missing")
            }
            Self::Held { coordinator, call, file } => {
                write!(f, "the disk stalls for coordinator {coordinator} {call}: {file}")
            }
            Self::WentOn { coordinator } => write!(f, "the disk goes on for coordinator {coordinator}"),
            Self::NotProved { coordinator, step, reason } => {
                write!(f, "coordinator {coordinator} could not prove step {step}: {reason}")
            }
            Self::LogFails { coordinator } => {
                write!(f, "coordinator {coordinator} says that the log cannot be written")
            }
            Self::LogGoesOn { coordinator } => {
                write!(f, "coordinator {coordinator} says that the log is written again")
            }
            Self::NotDurable { coordinator, steps } => {
                let (first, last) = (steps.start(), steps.end());
                write!(f, "coordinator {coordinator} keeps the records of steps {first} to {last} in memory")
            }
            Self::Saved { coordinator, after, failure: None } => {
                write!(f, "coordinator {coordinator} saved the state after {after}")
            }
            Self::Saved { coordinator, after, failure: Some(reason) } => {
                write!(f, "coordinator {coordinator} could not save the state after {after}: {reason}")
            }
            Self::Welcomed { machine, process, term } => {
                write!(f, "machine {machine} (process {process}) is welcome in term {term}")
            }
            Self::RefusedTerm { machine, term, known } => {
                write!(f, "machine {machine} refuses term {term}: it knows {known}")
            }
            Self::Holds { machine, assignments } => {
                write!(f, "machine {machine} holds {assignments} assignments")
            }
            Self::Waiting { machine, messages } => {
                write!(f, "{messages} messages wait for machine {machine}")
            }
            Self::Stale { coordinator, worker } => {
                write!(f, "coordinator {coordinator} ignores a stale message of {worker}")
            }
            Self::Ended { coordinator, outcome: Some(outcome), .. } => {
                write!(f, "coordinator {coordinator} ends: {outcome}")
            }
            Self::Ended { coordinator, outcome: None, point } => {
                write!(f, "coordinator {coordinator} is killed: {point}")
            }
            Self::WorkerEnded { machine, process } => write!(f, "machine {machine} loses process {process}"),
            Self::Fault { class, detail } => write!(f, "fault: {class}: {detail}"),
            Self::Repaired => f.write_str("everything is repaired; the run has to end now"),
        }
    }
}

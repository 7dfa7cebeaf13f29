//! What the control plane is told.

use std::fmt;
use std::time::Duration;

use lockstep_reduction::Node;

use crate::Task;

/// A point in time: microseconds since the coordinator started. Never a wall clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Microseconds since the start.
    pub us: u64,
}

impl Time {
    /// The point that lies `delay` later: rounded up, so that a timer set to it finds that the delay is over.
    pub fn after(self, delay: Duration) -> Self {
        let delay = u64::try_from(delay.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX);
        Self { us: self.us.saturating_add(delay) }
    }

    /// How long ago `earlier` was; nothing if it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.us.saturating_sub(earlier.us))
    }
}

/// A member of the run, numbered from 1 in the order of joining; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorkerId(pub u32);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "worker {}", self.0)
    }
}

/// A handing out of leaves to a worker, numbered from 1 within a term; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AssignmentId(pub u64);

impl fmt::Display for AssignmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// Why a worker is no longer there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaveCause {
    /// Its stream ended without an error; a peer that answers no ping looks the same.
    Closed,
    /// Its stream broke.
    Reset,
    /// It does not read what it is sent.
    Stalled,
    /// It sent what the protocol does not allow.
    Protocol,
    /// Its process ended.
    Ended,
}

impl fmt::Display for LeaveCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "its stream ended",
            Self::Reset => "its stream broke",
            Self::Stalled => "it does not read what it is sent",
            Self::Protocol => "it broke the protocol",
            Self::Ended => "its process ended",
        })
    }
}

/// What an operator stops a run with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGINT, as by Ctrl-C.
    Interrupt,
    /// SIGTERM, as by a scheduler.
    Terminate,
    /// SIGHUP, as by the end of a terminal or of a session.
    Hangup,
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
            Self::Hangup => "SIGHUP",
        })
    }
}

/// How far a worker is with an assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Which.
    pub assignment: AssignmentId,
    /// Examples of it that are done: never more than it has, or a worker could pretend to get on for ever.
    pub examples: u32,
}

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the sentence of a variant describes its fields")]
pub enum Event {
    /// The loop begins; the first event.
    Started,
    /// A worker passed the join test.
    Joined {
        worker: WorkerId,
        /// Its threads, at least 1: its share of the work.
        threads: u32,
    },
    /// The process of a local worker ended: it leaves, or is no longer awaited.
    ProcessEnded {
        /// The member that it had become.
        worker: Option<WorkerId>,
        /// It is started again; otherwise one worker less is to come.
        restarting: bool,
    },
    /// A worker said that it is alive.
    Heard {
        worker: WorkerId,
        /// How far it is with what it computes; `None` if it computes nothing.
        progress: Option<Progress>,
    },
    /// A worker is no longer there.
    Left { worker: WorkerId, cause: LeaveCause },
    /// A worker sent the sum over a node.
    NodeReceived {
        worker: WorkerId,
        /// The assignment that it answers.
        assignment: AssignmentId,
        /// The task that it says it computed.
        task: Task,
        node: Node,
    },
    /// A committed task was carried out: for a step, the weights are updated and finite.
    Updated { task: Task },
    /// A committed step gave a loss or weights that are not finite, and a recomputation agrees.
    Diverged { step: u64 },
    /// A recomputation shows that this worker's node is wrong.
    Refuted {
        worker: WorkerId,
        task: Task,
        /// The wrong node.
        node: Node,
        /// It is in the task's tree, which is computed anew; otherwise it was only compared.
        counted: bool,
    },
    /// A checkpoint was written, or could not be.
    Saved {
        /// Whether it will be there after any crash.
        durable: bool,
    },
    /// A step that is computed again gives other weights than the log of the run has for it.
    Contradicted { step: u64 },
    /// A worker knows a coordinator of this run with a higher term.
    Superseded { term: u64 },
    /// The time of the last timer has come.
    Timer,
    /// The operator wants the run to end.
    Stopped { signal: Signal },
}

//! What the messages of both directions share: whose they are, what they compute, and how they can be malformed.
//! No I/O.

pub(crate) mod from_worker;
pub(crate) mod spans;
pub(crate) mod to_worker;

use std::fmt;

use bytes::Bytes;
use lockstep_reduction::TaskKind;

use crate::{TokenError, wire};

/// The most characters of a peer's name, host or CPU that are kept.
const MAX_TEXT_CHARACTERS: usize = 200;

/// The 128 random bits that name a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RunId(pub [u8; 16]);

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Whose message it is: the run, and the coordinator's fencing counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fence {
    /// The run.
    pub run_id: RunId,
    /// Grows with every start of a coordinator for the run.
    pub term: u64,
}

/// A sign of life, in either direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The run and term.
    pub fence: Fence,
    /// What a worker is at; `None` if at nothing, and from a coordinator.
    pub progress: Option<Progress>,
}

/// How far a worker is with an assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Which, from 1.
    pub assignment_id: u64,
    /// Examples of it that are done.
    pub examples_done: u32,
}

impl Heartbeat {
    fn parse(heartbeat: wire::Heartbeat) -> Result<Self, MalformedMessage> {
        let wire::Heartbeat { fence: whose, assignment_id, examples_done } = heartbeat;
        let progress = (assignment_id > 0).then_some(Progress { assignment_id, examples_done });
        Ok(Self { fence: fence("Heartbeat", whose)?, progress })
    }

    fn into_wire(self) -> wire::Heartbeat {
        let fence = wire_fence(self.fence);
        match self.progress {
            Some(Progress { assignment_id, examples_done }) => {
                wire::Heartbeat { fence, assignment_id, examples_done }
            }
            None => wire::Heartbeat { fence, assignment_id: 0, examples_done: 0 },
        }
    }
}

/// A message that is no message of this protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MalformedMessage {
    /// Nothing in it that this version knows.
    #[error("a message without a body that protocol version {} knows", crate::PROTOCOL_VERSION)]
    NoBody,
    /// A field is missing.
    #[error("{message}.{field} is missing")]
    Missing {
        /// Which message.
        message: &'static str,
        /// Which field.
        field: &'static str,
    },
    /// A field has the wrong length.
    #[error("{message}.{field} has {actual} bytes instead of {expected}")]
    Length {
        /// Which message.
        message: &'static str,
        /// Which field.
        field: &'static str,
        /// What is right.
        expected: usize,
        /// What came.
        actual: usize,
    },
    /// A value is outside its range.
    #[error("{message}.{field} is {value}, which is out of range")]
    Range {
        /// Which message.
        message: &'static str,
        /// Which field.
        field: &'static str,
        /// What came.
        value: u64,
    },
    /// The token is none.
    #[error("Hello.token: {0}")]
    Token(#[from] TokenError),
}

fn length(
    message: &'static str,
    field: &'static str,
    expected: usize,
    actual: usize,
) -> Result<(), MalformedMessage> {
    if expected == actual {
        Ok(())
    } else {
        Err(MalformedMessage::Length { message, field, expected, actual })
    }
}

/// Peer text that is shown to people: bounded and without control characters.
fn text(from: &str) -> String {
    from.chars().filter(|c| !c.is_control()).take(MAX_TEXT_CHARACTERS).collect()
}

fn fence(message: &'static str, fence: Option<wire::Fence>) -> Result<Fence, MalformedMessage> {
    let fence = fence.ok_or(MalformedMessage::Missing { message, field: "fence" })?;
    run_and_term(message, "fence.run_id", fence)
}

fn run_and_term(
    message: &'static str,
    field: &'static str,
    fence: wire::Fence,
) -> Result<Fence, MalformedMessage> {
    length(message, field, 16, fence.run_id.len())?;
    let mut run_id = [0; 16];
    run_id.copy_from_slice(&fence.run_id);
    Ok(Fence { run_id: RunId(run_id), term: fence.term })
}

fn wire_fence(fence: Fence) -> Option<wire::Fence> {
    Some(wire::Fence { run_id: Bytes::copy_from_slice(&fence.run_id.0), term: fence.term })
}

fn kind(message: &'static str, kind: i32) -> Result<TaskKind, MalformedMessage> {
    match wire::TaskKind::try_from(kind) {
        Ok(wire::TaskKind::Train) => Ok(TaskKind::Train),
        Ok(wire::TaskKind::Validate) => Ok(TaskKind::Validate),
        Ok(wire::TaskKind::Test) => Ok(TaskKind::Test),
        // Negative values become huge ones: they are as far out of range.
        _ => Err(MalformedMessage::Range { message, field: "kind", value: kind as u64 }),
    }
}

fn wire_kind(kind: TaskKind) -> i32 {
    match kind {
        TaskKind::Train => wire::TaskKind::Train.into(),
        TaskKind::Validate => wire::TaskKind::Validate.into(),
        TaskKind::Test => wire::TaskKind::Test.into(),
    }
}

//! What the coordinator says: welcome, work, weights, signs of life, the end; parsed from the wire and written to it.

use std::time::Duration;

use bytes::Bytes;
use lockstep_reduction::{Task, TaskKind};

use super::spans::{TraceId, parse_trace, wire_trace};
use super::{Fence, Heartbeat, MalformedMessage, fence, kind, length, text, wire_fence, wire_kind};
use crate::{CoordinatorMessage, wire};

/// The longest time between two heartbeats that a coordinator may ask for. It bounds a coordinator's deadline, which is
/// several heartbeats.
pub const MAX_HEARTBEAT: Duration = Duration::from_secs(150);

/// The coordinator's answer to [`crate::Hello`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The run and term.
    pub fence: Fence,
    /// The member's number.
    pub worker_id: u32,
    /// How often the worker gives a sign of life; whole milliseconds, at least 1, at most [`MAX_HEARTBEAT`].
    pub heartbeat: Duration,
    /// After so long without a message the coordinator is taken for gone; whole milliseconds. `None`: never.
    pub silence: Option<Duration>,
}

/// Leaves of a task, with their data.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// The run and term.
    pub fence: Fence,
    /// Its name.
    pub assignment_id: u64,
    /// What to compute.
    pub kind: TaskKind,
    /// Training: the step. Evaluation: the step after which it stands.
    pub step: u64,
    /// The first leaf of the interval.
    pub first_leaf: u32,
    /// Examples of each leaf.
    pub leaf_examples: Vec<u32>,
    /// A byte an example, below 10.
    pub labels: Bytes,
    /// 784 bytes an example.
    pub pixels: Bytes,
    /// The trace of the step, if it is timed: then [`crate::Spans`] are to follow the last node.
    pub trace: Option<TraceId>,
}

/// The weights after a step.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// The run and term.
    pub fence: Fence,
    /// The step.
    pub step: u64,
    /// CRC-32C of `values`.
    pub crc32c: u32,
    /// Little-endian f32 in the canonical layout.
    pub values: Bytes,
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Finish {
    /// The run and term.
    pub fence: Fence,
    /// Why, for people.
    pub reason: String,
}

/// The end of an assignment that is no longer wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revoke {
    /// The run and term.
    pub fence: Fence,
    /// As given with it.
    pub assignment_id: u64,
}

/// What a coordinator says.
#[derive(Clone, Debug)]
pub enum ToWorker {
    /// First.
    Welcome(Welcome),
    /// Work.
    Assignment(Assignment),
    /// Weights.
    Weights(Weights),
    /// Last.
    Finish(Finish),
    /// A sign of life.
    Heartbeat(Heartbeat),
    /// Work that is no longer wanted.
    Revoke(Revoke),
}

impl ToWorker {
    /// Parses a message of a coordinator whose weights have `weights_bytes` and whose images have `image_pixels`.
    ///
    /// # Errors
    ///
    /// If it is malformed: which field, and how.
    pub fn parse(
        message: CoordinatorMessage,
        weights_bytes: usize,
        image_pixels: usize,
    ) -> Result<Self, MalformedMessage> {
        use wire::coordinator_message::Body;
        match message.body.ok_or(MalformedMessage::NoBody)? {
            Body::Welcome(welcome) => Welcome::parse(welcome).map(Self::Welcome),
            Body::Assignment(assignment) => Assignment::parse(assignment, image_pixels).map(Self::Assignment),
            Body::Weights(weights) => {
                length("Weights", "values", weights_bytes, weights.values.len())?;
                Ok(Self::Weights(Weights {
                    fence: fence("Weights", weights.fence)?,
                    step: weights.step,
                    crc32c: weights.crc32c,
                    values: weights.values,
                }))
            }
            Body::Finish(finish) => Ok(Self::Finish(Finish {
                fence: fence("Finish", finish.fence)?,
                reason: text(&finish.reason),
            })),
            Body::Heartbeat(heartbeat) => Heartbeat::parse(heartbeat).map(Self::Heartbeat),
            Body::Revoke(revoke) => Ok(Self::Revoke(Revoke {
                fence: fence("Revoke", revoke.fence)?,
                assignment_id: revoke.assignment_id,
            })),
        }
    }
}

impl ToWorker {
    /// The run and term that the message belongs to.
    pub fn fence(&self) -> Fence {
        match self {
            Self::Welcome(welcome) => welcome.fence,
            Self::Assignment(assignment) => assignment.fence,
            Self::Weights(weights) => weights.fence,
            Self::Finish(finish) => finish.fence,
            Self::Heartbeat(heartbeat) => heartbeat.fence,
            Self::Revoke(revoke) => revoke.fence,
        }
    }
}

impl Welcome {
    fn parse(welcome: wire::Welcome) -> Result<Self, MalformedMessage> {
        let heartbeat = Duration::from_millis(welcome.heartbeat_milliseconds.into());
        if heartbeat.is_zero() || heartbeat > MAX_HEARTBEAT {
            return Err(MalformedMessage::Range {
                message: "Welcome",
                field: "heartbeat_milliseconds",
                value: welcome.heartbeat_milliseconds.into(),
            });
        }
        let silence = Duration::from_millis(welcome.silence_milliseconds.into());
        Ok(Self {
            fence: fence("Welcome", welcome.fence)?,
            worker_id: welcome.worker_id,
            heartbeat,
            silence: (!silence.is_zero()).then_some(silence),
        })
    }

    fn into_wire(self) -> wire::Welcome {
        // A part of a millisecond counts as one: rounded down, a short interval would become none.
        let milliseconds = |duration: Duration| duration.as_nanos().div_ceil(1_000_000).try_into();
        wire::Welcome {
            fence: wire_fence(self.fence),
            worker_id: self.worker_id,
            heartbeat_milliseconds: milliseconds(self.heartbeat).unwrap_or(u32::MAX),
            silence_milliseconds: self.silence.map_or(0, |silence| milliseconds(silence).unwrap_or(u32::MAX)),
        }
    }
}

impl Assignment {
    /// The task that it is a part of.
    pub fn task(&self) -> Task {
        Task { kind: self.kind, step: self.step }
    }

    fn parse(assignment: wire::Assignment, image_pixels: usize) -> Result<Self, MalformedMessage> {
        const MESSAGE: &str = "Assignment";
        let examples: u64 = assignment.leaf_examples.iter().map(|examples| u64::from(*examples)).sum();
        let range = |field, value| Err(MalformedMessage::Range { message: MESSAGE, field, value });
        if examples != assignment.labels.len() as u64 {
            return range("leaf_examples", examples);
        }
        length(MESSAGE, "pixels", assignment.labels.len() * image_pixels, assignment.pixels.len())?;
        if let Some(label) = assignment.labels.iter().find(|label| **label > 9) {
            return range("labels", u64::from(*label));
        }
        let kind = kind(MESSAGE, assignment.kind)?;
        if kind == TaskKind::Train && assignment.step == 0 {
            return range("step", 0);
        }
        Ok(Self {
            fence: fence(MESSAGE, assignment.fence)?,
            assignment_id: assignment.assignment_id,
            kind,
            step: assignment.step,
            first_leaf: assignment.first_leaf,
            leaf_examples: assignment.leaf_examples,
            labels: assignment.labels,
            pixels: assignment.pixels,
            trace: parse_trace(MESSAGE, &assignment.trace_id)?,
        })
    }
}

impl From<ToWorker> for CoordinatorMessage {
    fn from(message: ToWorker) -> Self {
        use wire::coordinator_message::Body;
        let body = match message {
            ToWorker::Welcome(welcome) => Body::Welcome(welcome.into_wire()),
            ToWorker::Assignment(assignment) => Body::Assignment(wire::Assignment {
                fence: wire_fence(assignment.fence),
                assignment_id: assignment.assignment_id,
                kind: wire_kind(assignment.kind),
                step: assignment.step,
                first_leaf: assignment.first_leaf,
                leaf_examples: assignment.leaf_examples,
                labels: assignment.labels,
                pixels: assignment.pixels,
                trace_id: wire_trace(assignment.trace),
            }),
            ToWorker::Weights(weights) => Body::Weights(wire::Weights {
                fence: wire_fence(weights.fence),
                step: weights.step,
                crc32c: weights.crc32c,
                values: weights.values,
            }),
            ToWorker::Finish(finish) => {
                Body::Finish(wire::Finish { fence: wire_fence(finish.fence), reason: finish.reason })
            }
            ToWorker::Heartbeat(heartbeat) => Body::Heartbeat(heartbeat.into_wire()),
            ToWorker::Revoke(revoke) => Body::Revoke(wire::Revoke {
                fence: wire_fence(revoke.fence),
                assignment_id: revoke.assignment_id,
            }),
        };
        Self { body: Some(body) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RunId;

    const FENCE: Fence = Fence { run_id: RunId([7; 16]), term: 3 };

    fn assignment() -> Assignment {
        Assignment {
            fence: FENCE,
            assignment_id: 5,
            kind: TaskKind::Train,
            step: 9,
            first_leaf: 2,
            leaf_examples: vec![1, 0, 1],
            labels: Bytes::from_static(&[3, 9]),
            pixels: Bytes::from_static(&[0; 8]),
            trace: None,
        }
    }

    fn welcome() -> Welcome {
        Welcome {
            fence: FENCE,
            worker_id: 2,
            heartbeat: Duration::from_millis(250),
            silence: Some(Duration::from_secs(1)),
        }
    }

    fn parse(message: ToWorker) -> Result<ToWorker, MalformedMessage> {
        assert_eq!(message.fence(), FENCE);
        ToWorker::parse(message.into(), 12, 4)
    }

    fn parse_assignment(assignment: Assignment) -> Result<ToWorker, MalformedMessage> {
        parse(ToWorker::Assignment(assignment))
    }

    #[test]
    fn messages_survive_the_wire() {
        assert!(
            matches!(parse_assignment(assignment()), Ok(ToWorker::Assignment(parsed)) if parsed == assignment())
        );
        let timed = Assignment { trace: Some(TraceId([5; 16])), ..assignment() };
        assert!(
            matches!(parse_assignment(timed.clone()), Ok(ToWorker::Assignment(parsed)) if parsed == timed)
        );
        let weights = Weights { fence: FENCE, step: 1, crc32c: 2, values: Bytes::from_static(&[0; 12]) };
        let parsed = parse(ToWorker::Weights(weights.clone()));
        assert!(matches!(parsed, Ok(ToWorker::Weights(parsed)) if parsed == weights));
        let finish = Finish { fence: FENCE, reason: "done".to_string() };
        let parsed = parse(ToWorker::Finish(finish.clone()));
        assert!(matches!(parsed, Ok(ToWorker::Finish(parsed)) if parsed == finish));
        let parsed = parse(ToWorker::Heartbeat(Heartbeat { fence: FENCE, progress: None }));
        assert!(matches!(parsed, Ok(ToWorker::Heartbeat(parsed)) if parsed.fence == FENCE));
        let revoke = Revoke { fence: FENCE, assignment_id: 11 };
        let parsed = parse(ToWorker::Revoke(revoke));
        assert!(matches!(parsed, Ok(ToWorker::Revoke(parsed)) if parsed == revoke));
    }

    #[test]
    fn a_welcome_has_a_heartbeat_and_perhaps_a_limit_of_silence() {
        let parsed = |welcome| match parse(ToWorker::Welcome(welcome)) {
            Ok(ToWorker::Welcome(parsed)) => Ok(parsed),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        };
        assert_eq!(parsed(welcome()), Ok(welcome()));
        let unlimited = Welcome { silence: None, ..welcome() };
        assert_eq!(parsed(unlimited), Ok(unlimited));
        let short = Welcome { silence: Some(Duration::from_micros(1)), ..welcome() };
        assert_eq!(parsed(short), Ok(Welcome { silence: Some(Duration::from_millis(1)), ..welcome() }));
        for (heartbeat, value) in [(Duration::ZERO, 0), (Duration::from_millis(150_001), 150_001)] {
            let expected = format!("Welcome.heartbeat_milliseconds is {value}, which is out of range");
            assert_eq!(parsed(Welcome { heartbeat, ..welcome() }), Err(expected));
        }
    }

    #[test]
    fn malformed_assignments_are_refused_by_field() {
        let error = parse_assignment(Assignment { leaf_examples: vec![1], ..assignment() }).unwrap_err();
        assert_eq!(error.to_string(), "Assignment.leaf_examples is 1, which is out of range");
        let error = parse_assignment(Assignment { labels: Bytes::from_static(&[3, 10]), ..assignment() })
            .unwrap_err();
        assert_eq!(error.to_string(), "Assignment.labels is 10, which is out of range");
        let error = parse_assignment(Assignment { pixels: Bytes::new(), ..assignment() }).unwrap_err();
        assert_eq!(error.to_string(), "Assignment.pixels has 0 bytes instead of 8");
        let error = parse_assignment(Assignment { step: 0, ..assignment() }).unwrap_err();
        assert_eq!(error.to_string(), "Assignment.step is 0, which is out of range");
    }
}

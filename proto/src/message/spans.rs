//! When a worker did what for an assignment that is timed: asked for with the assignment, and sent back after its last
//! node. No I/O, and no clock.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use super::{Fence, MalformedMessage, fence, length, wire_fence};
use crate::wire;

/// The most spans of one assignment that are told; a few times more than the default run has.
pub const MAX_SPANS: usize = 4096;

/// The parts of a leaf's sum that are told apart.
pub const SPAN_PARTS: u8 = 12;

/// The highest thread that a span may name.
const MAX_THREAD: u32 = 1 << 16;

/// The longest that a worker's clock may have run: so that sums of times fit.
const MAX_TIME: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// The name of one step's trace, as W3C's trace context has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceId(pub [u8; 16]);

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What a worker spent time on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// Checking the weights and laying them out.
    Load,
    /// A leaf's sum.
    Leaf,
    /// Handing a node to the stream.
    Send,
    /// A part of a leaf's sum for some of its examples, by its place in the order of computation, below
    /// [`SPAN_PARTS`].
    Part(u8),
}

/// Something that a worker's thread did, in the time of the worker's own clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// What it did.
    pub kind: SpanKind,
    /// Which thread of the worker.
    pub thread: u32,
    /// Which leaf, or the first leaf of the node.
    pub leaf: u32,
    /// Since when.
    pub start: Duration,
    /// For how long.
    pub duration: Duration,
}

/// All that a worker did for one assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spans {
    /// The run and term.
    pub fence: Fence,
    /// The assignment.
    pub assignment_id: u64,
    /// Its step.
    pub step: u64,
    /// The trace that it named.
    pub trace: TraceId,
    /// When it was received, on the worker's clock.
    pub received: Duration,
    /// When this was handed to the stream, on the worker's clock.
    pub sent: Duration,
    /// At most [`MAX_SPANS`].
    pub spans: Vec<Span>,
    /// How many more there were.
    pub omitted: u32,
}

pub(super) fn parse_trace(message: &'static str, bytes: &[u8]) -> Result<Option<TraceId>, MalformedMessage> {
    if bytes.is_empty() {
        return Ok(None);
    }
    length(message, "trace_id", 16, bytes.len())?;
    let mut trace = [0; 16];
    trace.copy_from_slice(bytes);
    Ok(Some(TraceId(trace)))
}

pub(super) fn wire_trace(trace: Option<TraceId>) -> Bytes {
    trace.map_or_else(Bytes::new, |TraceId(bytes)| Bytes::copy_from_slice(&bytes))
}

impl Spans {
    pub(super) fn parse(spans: wire::Spans) -> Result<Self, MalformedMessage> {
        const MESSAGE: &str = "Spans";
        if spans.spans.len() > MAX_SPANS {
            let value = spans.spans.len() as u64;
            return Err(MalformedMessage::Range { message: MESSAGE, field: "spans", value });
        }
        let trace = parse_trace(MESSAGE, &spans.trace_id)?;
        Ok(Self {
            fence: fence(MESSAGE, spans.fence)?,
            assignment_id: spans.assignment_id,
            step: spans.step,
            trace: trace.ok_or(MalformedMessage::Missing { message: MESSAGE, field: "trace_id" })?,
            received: time("received_nanoseconds", spans.received_nanoseconds)?,
            sent: time("sent_nanoseconds", spans.sent_nanoseconds)?,
            spans: spans.spans.iter().map(Span::parse).collect::<Result<_, _>>()?,
            omitted: spans.omitted,
        })
    }

    pub(super) fn into_wire(self) -> wire::Spans {
        wire::Spans {
            fence: wire_fence(self.fence),
            assignment_id: self.assignment_id,
            step: self.step,
            trace_id: wire_trace(Some(self.trace)),
            received_nanoseconds: nanoseconds(self.received),
            sent_nanoseconds: nanoseconds(self.sent),
            spans: self.spans.into_iter().map(Span::into_wire).collect(),
            omitted: self.omitted,
        }
    }
}

impl Span {
    fn parse(span: &wire::Span) -> Result<Self, MalformedMessage> {
        let range = |field, value| Err(MalformedMessage::Range { message: "Span", field, value });
        let kind = match wire::SpanKind::try_from(span.kind) {
            Ok(wire::SpanKind::Load) => SpanKind::Load,
            Ok(wire::SpanKind::Leaf) => SpanKind::Leaf,
            Ok(wire::SpanKind::Send) => SpanKind::Send,
            Ok(wire::SpanKind::Part) => match u8::try_from(span.part) {
                Ok(part) if part < SPAN_PARTS => SpanKind::Part(part),
                _ => return range("part", span.part.into()),
            },
            // Negative values become huge ones: they are as far out of range.
            _ => return range("kind", span.kind as u64),
        };
        if span.thread > MAX_THREAD {
            return range("thread", span.thread.into());
        }
        Ok(Self {
            kind,
            thread: span.thread,
            leaf: span.leaf,
            start: time("start_nanoseconds", span.start_nanoseconds)?,
            duration: time("duration_nanoseconds", span.duration_nanoseconds)?,
        })
    }

    fn into_wire(self) -> wire::Span {
        let (kind, part) = match self.kind {
            SpanKind::Load => (wire::SpanKind::Load, 0),
            SpanKind::Leaf => (wire::SpanKind::Leaf, 0),
            SpanKind::Send => (wire::SpanKind::Send, 0),
            SpanKind::Part(part) => (wire::SpanKind::Part, part),
        };
        wire::Span {
            kind: kind.into(),
            thread: self.thread,
            leaf: self.leaf,
            start_nanoseconds: nanoseconds(self.start),
            duration_nanoseconds: nanoseconds(self.duration),
            part: part.into(),
        }
    }
}

fn time(field: &'static str, nanoseconds: u64) -> Result<Duration, MalformedMessage> {
    let time = Duration::from_nanos(nanoseconds);
    if time > MAX_TIME {
        return Err(MalformedMessage::Range { message: "Spans", field, value: nanoseconds });
    }
    Ok(time)
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FromWorker, RunId, WorkerMessage};

    fn spans() -> Spans {
        let span = |kind, leaf| Span {
            kind,
            thread: 3,
            leaf,
            start: Duration::from_nanos(1_000),
            duration: Duration::from_nanos(500),
        };
        Spans {
            fence: Fence { run_id: RunId([7; 16]), term: 3 },
            assignment_id: 5,
            step: 9,
            trace: TraceId([0xab; 16]),
            received: Duration::from_nanos(900),
            sent: Duration::from_nanos(2_000),
            spans: vec![
                span(SpanKind::Load, 0),
                span(SpanKind::Part(0), 4),
                span(SpanKind::Part(11), 4),
                span(SpanKind::Leaf, 4),
                span(SpanKind::Send, 4),
            ],
            omitted: 2,
        }
    }

    fn parse(message: WorkerMessage) -> Result<Spans, String> {
        match FromWorker::parse(message, 12) {
            Ok(FromWorker::Spans(parsed)) => Ok(parsed),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn spans_survive_the_wire() {
        assert_eq!(parse(FromWorker::Spans(spans()).into()), Ok(spans()));
        assert_eq!(spans().trace.to_string(), "ab".repeat(16));
    }

    #[test]
    fn malformed_spans_are_refused_by_field() {
        let refused = |change: fn(&mut wire::Spans)| {
            let mut message = spans().into_wire();
            change(&mut message);
            parse(WorkerMessage { body: Some(wire::worker_message::Body::Spans(message)) }).unwrap_err()
        };
        assert_eq!(refused(|spans| spans.trace_id = Bytes::new()), "Spans.trace_id is missing");
        assert_eq!(
            refused(|spans| spans.trace_id = Bytes::from_static(&[1; 3])),
            "Spans.trace_id has 3 bytes instead of 16"
        );
        assert_eq!(refused(|spans| spans.spans[0].kind = 9), "Span.kind is 9, which is out of range");
        assert_eq!(refused(|spans| spans.spans[1].part = 12), "Span.part is 12, which is out of range");
        assert_eq!(
            refused(|spans| spans.spans[0].thread = 70_000),
            "Span.thread is 70000, which is out of range"
        );
        let many = refused(|spans| spans.spans = vec![spans.spans[0]; MAX_SPANS + 1]);
        assert_eq!(many, "Spans.spans is 4097, which is out of range");
        let late = refused(|spans| spans.sent_nanoseconds = u64::MAX);
        assert!(late.starts_with("Spans.sent_nanoseconds is 18446744073709551615"), "{late}");
    }
}

//! Times what is done for one assignment whose step is timed. Without such an assignment there is no tracer, and no
//! clock is read.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use lockstep_model::Part;
use lockstep_proto::{Assignment, MAX_SPANS, SPAN_PARTS, Span, SpanKind, Spans, TraceId};

const _: () = assert!(Part::ALL.len() == SPAN_PARTS as usize);

/// The times of one assignment; the threads of the pool share it.
pub(crate) struct Tracer {
    /// Zero of this worker's clock.
    epoch: Instant,
    received: Instant,
    trace: TraceId,
    recorded: Mutex<Recorded>,
}

#[derive(Default)]
struct Recorded {
    spans: Vec<Span>,
    omitted: u32,
}

impl Tracer {
    /// A tracer for an assignment of a timed step, which came at `received`; `None` for any other.
    pub(crate) fn of(assignment: &Assignment, received: Option<Instant>, epoch: Instant) -> Option<Self> {
        let (trace, received) = assignment.trace.zip(received)?;
        Some(Self { epoch, received, trace, recorded: Mutex::default() })
    }

    /// Notes what this thread did from `start` until now.
    pub(crate) fn until_now(&self, kind: SpanKind, leaf: u32, start: Instant) {
        self.note(kind, leaf, start, Instant::now());
    }

    /// What notes each part of a leaf's sum as it is done, one after the other from now on.
    pub(crate) fn parts(&self, leaf: u32) -> impl FnMut(Part) {
        let mut start = Instant::now();
        move |part| {
            let (end, place) = (Instant::now(), Part::ALL.iter().position(|other| *other == part));
            self.note(SpanKind::Part(place.unwrap_or_default() as u8), leaf, start, end);
            start = end;
        }
    }

    /// Notes what this thread did from `start` until `end`.
    pub(crate) fn note(&self, kind: SpanKind, leaf: u32, start: Instant, end: Instant) {
        let thread = rayon::current_thread_index().unwrap_or(0) as u32;
        let start_of = start.saturating_duration_since(self.epoch);
        let span =
            Span { kind, thread, leaf, start: start_of, duration: end.saturating_duration_since(start) };
        let mut recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        if recorded.spans.len() < MAX_SPANS {
            recorded.spans.push(span);
        } else {
            recorded.omitted += 1;
        }
    }

    /// What is told of it, now.
    pub(crate) fn into_spans(self, assignment: &Assignment) -> Spans {
        let Recorded { spans, omitted } = self.recorded.into_inner().unwrap_or_else(PoisonError::into_inner);
        Spans {
            fence: assignment.fence,
            assignment_id: assignment.assignment_id,
            step: assignment.step,
            trace: self.trace,
            received: self.received.saturating_duration_since(self.epoch),
            sent: self.epoch.elapsed(),
            spans,
            omitted,
        }
    }
}

//! Whether a run trains, for probes: not before its first step, and not while it waits for a worker.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use lockstep_records::{EventRecord, StepRecord};

use crate::Sink;

/// What a run is at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Phase {
    /// No step of this process is done.
    Starting,
    /// Steps are being done.
    Training,
    /// It has no worker, and waits for one.
    Waiting,
    /// It is over.
    Ended,
}

/// A sink that follows the phase of a run; clones share it, and may be asked from any thread.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicU8>);

impl Readiness {
    /// What the run is at.
    pub fn phase(&self) -> Phase {
        match self.0.load(Ordering::Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Training,
            2 => Phase::Waiting,
            _ => Phase::Ended,
        }
    }

    fn set(&self, phase: Phase) {
        let number = match phase {
            Phase::Starting => 0,
            Phase::Training => 1,
            Phase::Waiting => 2,
            Phase::Ended => 3,
        };
        self.0.store(number, Ordering::Relaxed);
    }
}

impl Sink for Readiness {
    fn step(&mut self, _record: &StepRecord) {
        self.set(Phase::Training);
    }

    fn event(&mut self, record: &EventRecord) {
        match &*record.kind {
            "waiting" => self.set(Phase::Waiting),
            "finish" => self.set(Phase::Ended),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use lockstep_records::examples;

    use super::*;

    #[test]
    fn it_is_ready_from_the_first_step_to_the_end_and_not_while_it_waits() {
        let shown = Readiness::default();
        let mut sink = shown.clone();
        let mut event = |kind| {
            sink.event(&EventRecord { kind: Cow::Borrowed(kind), ..examples::event() });
            shown.phase()
        };
        assert_eq!(event("worker_joined"), Phase::Starting);
        shown.clone().step(&examples::step());
        assert_eq!(event("worker_dropped"), Phase::Training);
        assert_eq!(event("waiting"), Phase::Waiting);
        assert_eq!(event("worker_joined"), Phase::Waiting);
        shown.clone().step(&examples::step());
        assert_eq!(shown.phase(), Phase::Training);
        sink.event(&EventRecord { kind: "finish".into(), ..examples::event() });
        assert_eq!(shown.phase(), Phase::Ended);
    }
}

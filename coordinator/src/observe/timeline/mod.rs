//! The timeline of some steps, of all processes together, on the coordinator's clock: what `--timeline` writes.
//!
//! It asks workers for their times by naming a trace in their assignments, and merges these with the phases that
//! `StepTimes` measured. A step that is not timed costs one comparison.

mod clock;
mod trace_file;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::time::{Duration, Instant};

use lockstep_control::{AssignmentId, Task, TaskKind, WorkerId};
use lockstep_proto::{Span, SpanKind, Spans, TraceId};
use serde_json::{Value, json};

use crate::observe::step_times::{Sliced, StepPhase};
use clock::Clock;
use trace_file::{TraceEvent, TraceFile};

/// Steps that wait for their end or for their workers' times: a step's assignments go out while the one before is
/// computed, and its times come while the next one is.
const MAX_OPEN: usize = 8;

/// Spans that are kept of one step, of all workers together.
const MAX_STEP_SPANS: usize = 16 << 10;

/// Workers whose clocks are known: the newest, and as many as may be members at once.
const MAX_WORKERS: usize = 1024;

/// The loop's track.
const COORDINATOR: u32 = 0;

/// A timeline on its way into its file.
pub(super) struct Timeline {
    file: TraceFile,
    every: u64,
    /// Zero of its time.
    start: Instant,
    open: VecDeque<Traced>,
    workers: BTreeMap<WorkerId, Peer>,
}

/// A step that is timed.
struct Traced {
    step: u64,
    trace: TraceId,
    /// What was sent for it, to whom, and when.
    assigned: Vec<(AssignmentId, WorkerId, Instant)>,
    /// What workers said of their times.
    worker_spans: Vec<(WorkerId, Spans)>,
    span_count: usize,
    sliced: Option<Sliced>,
}

#[derive(Default)]
struct Peer {
    clock: Clock,
    /// Where its first thread's track ends so far.
    end: i64,
}

impl Timeline {
    /// A timeline of every `every`-th step, the first one included; `start` is its zero. `write` takes each piece of the
    /// file at `path`, and must not wait for the disk.
    pub fn new(path: &Path, write: impl FnMut(Vec<u8>) + Send + 'static, every: u64, start: Instant) -> Self {
        let mut timeline = Self {
            file: TraceFile::new(path, Box::new(write)),
            every,
            start,
            open: VecDeque::new(),
            workers: BTreeMap::new(),
        };
        timeline.name_process(COORDINATOR, "coordinator");
        timeline.file.write_out();
        timeline
    }

    /// Whether a step is one of those that are timed.
    pub fn wants(&self, step: u64) -> bool {
        step > 0 && (step - 1).is_multiple_of(self.every)
    }

    /// A worker is there, and has a track from now on.
    pub fn joined(&mut self, worker: WorkerId, name: &str) {
        self.name_process(worker.0, &format!("{name} ({worker})"));
        self.file.write_out();
        if self.workers.len() == MAX_WORKERS {
            self.workers.pop_first();
        }
        self.workers.insert(worker, Peer::default());
    }

    /// An assignment is about to be sent; gives the trace to name in it, if its step is timed.
    pub fn assign(&mut self, task: Task, worker: WorkerId, assignment: AssignmentId) -> Option<TraceId> {
        if task.kind != TaskKind::Train || !self.wants(task.step) {
            return None;
        }
        let at = match self.open.iter().position(|traced| traced.step == task.step) {
            Some(at) => at,
            None => {
                let mut trace = [0; 16];
                // Without randomness the step goes without.
                getrandom::fill(&mut trace).ok()?;
                if self.open.len() == MAX_OPEN {
                    self.open.pop_front();
                }
                self.open.push_back(Traced {
                    step: task.step,
                    trace: TraceId(trace),
                    assigned: Vec::new(),
                    worker_spans: Vec::new(),
                    span_count: 0,
                    sliced: None,
                });
                self.open.len() - 1
            }
        };
        let traced = &mut self.open[at];
        traced.assigned.push((assignment, worker, Instant::now()));
        Some(traced.trace)
    }

    /// Adds the times of a worker, which came at `received`.
    pub fn add_spans(&mut self, worker: WorkerId, spans: Spans, received: Instant) {
        let received = self.nanoseconds(received);
        let traced =
            self.open.iter_mut().find(|traced| traced.step == spans.step && traced.trace == spans.trace);
        let (Some(traced), Some(peer)) = (traced, self.workers.get_mut(&worker)) else { return };
        let id = AssignmentId(spans.assignment_id);
        let Some(at) = traced.assigned.iter().position(|(assigned, to, _)| *assigned == id && *to == worker)
        else {
            return;
        };
        // An assignment has one set of times.
        let (.., sent) = traced.assigned.swap_remove(at);
        let sent = nanoseconds(sent.saturating_duration_since(self.start));
        peer.clock.outward(sent, nanoseconds(spans.received));
        peer.clock.homeward(nanoseconds(spans.sent), received);
        traced.span_count += spans.spans.len();
        if traced.span_count <= MAX_STEP_SPANS {
            traced.worker_spans.push((worker, spans));
        }
    }

    /// A timed step is over.
    pub fn step_ended(&mut self, step: u64, sliced: Sliced) {
        if let Some(traced) = self.open.iter_mut().find(|traced| traced.step == step) {
            traced.sliced = Some(sliced);
        }
    }

    /// Writes the steps that no more times come for, when `done` steps are over. For when there is nothing else to do.
    pub fn write_due(&mut self, done: u64) {
        while self.open.front().is_some_and(|traced| traced.step < done) {
            self.write_first();
        }
    }

    /// Writes all that there is, and ends the file.
    pub fn finish(&mut self) {
        while !self.open.is_empty() {
            self.write_first();
        }
        self.file.finish();
    }

    fn write_first(&mut self) {
        let Some(Traced { step, trace, worker_spans, sliced: Some(sliced), .. }) = self.open.pop_front()
        else {
            return;
        };
        let Sliced { begin, end, slices } = sliced;
        let (begin, end) = (self.nanoseconds(begin), self.nanoseconds(end));
        let args = json!({ "step": step, "trace_id": trace.to_string() });
        self.complete(&format!("step {step}"), "step", COORDINATOR, 0, begin..end, args.clone());
        for (phase, from, to) in slices {
            let name = match phase {
                StepPhase::Send => "send",
                StepPhase::Wait => "wait",
                StepPhase::Reduce => "reduce",
                StepPhase::Update => "update",
            };
            let slice = self.nanoseconds(from).clamp(begin, end)..self.nanoseconds(to).clamp(begin, end);
            self.complete(name, "coordinator", COORDINATOR, 0, slice, Value::Null);
        }
        for (worker, spans) in worker_spans {
            self.write_worker(worker, spans, begin, &args);
        }
        self.file.write_out();
    }

    /// Writes the times of a worker in a step that began at `begin` here.
    fn write_worker(&mut self, worker: WorkerId, spans: Spans, begin: i64, args: &Value) {
        let Some(peer) = self.workers.get_mut(&worker) else { return };
        let Some(estimate) = peer.clock.estimate() else { return };
        let here = |there: Duration| (nanoseconds(there) - estimate.ahead).max(0);
        let Spans { spans, received, omitted, assignment_id, .. } = spans;
        // It waits for the weights, or its turn: since the assignment came, and in this step, one at a time.
        let wait = here(received).max(begin).max(peer.end);
        let first = spans.iter().map(|span| here(span.start)).min();
        let on_first_thread = spans.iter().filter(|span| span.thread == 0);
        let last = on_first_thread.map(|span| here(span.start + span.duration)).max();
        peer.end = peer.end.max(last.unwrap_or(0));
        let mut args = args.clone();
        args["assignment"] = assignment_id.into();
        args["clock_error_us"] = microseconds(estimate.error).into();
        if omitted > 0 {
            args["omitted_spans"] = omitted.into();
        }
        if let Some(first) = first.filter(|first| wait < *first) {
            self.complete("wait", "worker", worker.0, 0, wait..first, args.clone());
        }
        for Span { kind, thread, leaf, start, duration } in spans {
            let name = match kind {
                SpanKind::Load => "load weights".to_string(),
                SpanKind::Leaf => format!("shard {leaf}"),
                SpanKind::Send => "send node".to_string(),
                SpanKind::Part(place) => lockstep_model::Part::ALL[usize::from(place)].to_string(),
            };
            // What lies within a shard needs no arguments of its own.
            let args = if matches!(kind, SpanKind::Part(_)) { Value::Null } else { args.clone() };
            let start = here(start);
            self.complete(&name, "worker", worker.0, thread, start..start + nanoseconds(duration), args);
        }
    }

    /// Something that took the time `span`, in nanoseconds.
    fn complete(
        &mut self,
        name: &str,
        cat: &'static str,
        pid: u32,
        tid: u32,
        span: std::ops::Range<i64>,
        args: Value,
    ) {
        let (ts, dur) = (microseconds(span.start), Some(microseconds(span.end - span.start)));
        self.file.push(&TraceEvent { name, cat, ph: "X", ts, dur, pid, tid, args });
    }

    fn name_process(&mut self, pid: u32, name: &str) {
        let args = json!({ "name": name });
        self.file.push(&TraceEvent {
            name: "process_name",
            cat: "",
            ph: "M",
            ts: 0.0,
            dur: None,
            pid,
            tid: 0,
            args,
        });
    }

    fn nanoseconds(&self, at: Instant) -> i64 {
        nanoseconds(at.saturating_duration_since(self.start))
    }
}

fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX / 4).min(i64::MAX / 4)
}

fn microseconds(nanoseconds: i64) -> f64 {
    nanoseconds as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use lockstep_proto::{Fence, MAX_SPANS, RunId};
    use tempfile::TempDir;

    use super::*;

    const ONE: WorkerId = WorkerId(1);
    const FIRST: AssignmentId = AssignmentId(7);

    /// How far the worker's clock is ahead.
    const AHEAD: Duration = Duration::from_secs(3600);

    fn timeline(every: u64) -> (Timeline, PathBuf, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.json");
        let mut file = std::fs::File::create_new(&path).unwrap();
        let write = move |bytes: Vec<u8>| std::io::Write::write_all(&mut file, &bytes).unwrap();
        let mut timeline = Timeline::new(&path, write, every, Instant::now());
        timeline.joined(ONE, "local-0");
        (timeline, path, folder)
    }

    fn step(step: u64) -> Task {
        Task { kind: TaskKind::Train, step }
    }

    /// The times of a worker that computed for so long from `at` on.
    fn spans(timeline: &Timeline, step: u64, trace: TraceId, at: Instant, took: Duration) -> Spans {
        let there = |at: Instant| at.duration_since(timeline.start) + AHEAD;
        let span = Span { kind: SpanKind::Leaf, thread: 0, leaf: 3, start: there(at), duration: took };
        Spans {
            fence: Fence { run_id: RunId([1; 16]), term: 1 },
            assignment_id: FIRST.0,
            step,
            trace,
            received: there(at),
            sent: there(at + took),
            spans: vec![span],
            omitted: 0,
        }
    }

    fn events(path: &Path) -> Vec<Value> {
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn a_worker_s_times_are_shown_on_this_clock() {
        let (mut timeline, path, _folder) = timeline(10);
        assert_eq!([1, 2, 10, 11, 21].map(|step| timeline.wants(step)), [true, false, false, true, true]);
        assert_eq!(timeline.assign(step(2), ONE, FIRST), None);
        assert_eq!(timeline.assign(Task { kind: TaskKind::Test, step: 1 }, ONE, FIRST), None);
        let begin = Instant::now();
        let trace = timeline.assign(step(1), ONE, FIRST).unwrap();
        let at = Instant::now();
        let took = Duration::from_millis(4);
        let sent = spans(&timeline, 1, trace, at, took);
        timeline.add_spans(ONE, sent, at + took);
        let end = begin + Duration::from_millis(5);
        let slices = vec![(StepPhase::Wait, begin, end)];
        timeline.step_ended(1, Sliced { begin, end, slices });
        timeline.write_due(1);
        assert!(
            std::fs::read_to_string(&path).unwrap().lines().all(|line| !line.contains("step 1")),
            "not yet"
        );
        timeline.write_due(2);
        timeline.finish();
        let events = events(&path);
        let find = |name: &str| events.iter().find(|event| event["name"] == name).unwrap();
        let time = |event: &Value, field: &str| event[field].as_f64().unwrap();
        let (whole, shard) = (find("step 1"), find("shard 3"));
        assert_eq!(
            (&shard["pid"], &whole["pid"], &shard["args"]["trace_id"]),
            (&1.into(), &0.into(), &whole["args"]["trace_id"])
        );
        let error = time(&shard["args"], "clock_error_us");
        let expected = microseconds(timeline.nanoseconds(at));
        assert!((time(shard, "ts") - expected).abs() <= error + 0.001, "{shard}, and {expected}");
        assert_eq!(time(shard, "dur"), 4000.0);
        assert_eq!((time(find("wait"), "ts"), time(find("wait"), "dur")), (time(whole, "ts"), 5000.0));
    }

    #[test]
    fn what_nobody_asked_for_is_not_taken() {
        let (mut timeline, path, _folder) = timeline(1);
        let trace = timeline.assign(step(1), ONE, FIRST).unwrap();
        let now = Instant::now();
        let sent = spans(&timeline, 1, trace, now, Duration::from_millis(1));
        let other = TraceId([1; 16]);
        timeline.add_spans(WorkerId(2), sent.clone(), now);
        timeline.add_spans(ONE, Spans { assignment_id: 99, ..sent.clone() }, now);
        timeline.add_spans(ONE, Spans { step: 2, ..sent.clone() }, now);
        timeline.add_spans(ONE, Spans { trace: other, ..sent.clone() }, now);
        assert!(timeline.open[0].worker_spans.is_empty());
        // It is taken once, however often it is sent.
        timeline.add_spans(ONE, sent.clone(), now);
        timeline.add_spans(ONE, sent, now);
        assert_eq!(timeline.open[0].worker_spans.len(), 1);
        // A step that never ends is not kept for ever, and not written.
        for number in 2..100 {
            timeline.assign(step(number), ONE, AssignmentId(number));
            assert!(timeline.open.len() <= MAX_OPEN);
        }
        timeline.finish();
        assert!(events(&path).iter().all(|event| event["name"] == "process_name"));
    }

    #[test]
    fn the_spans_of_a_step_are_bounded() {
        let (mut timeline, _path, _folder) = timeline(1);
        let now = Instant::now();
        for number in 0..100 {
            let id = AssignmentId(number);
            let trace = timeline.assign(step(1), ONE, id).unwrap();
            let sent = spans(&timeline, 1, trace, now, Duration::ZERO);
            let many = vec![sent.spans[0]; MAX_SPANS];
            timeline.add_spans(ONE, Spans { assignment_id: number, spans: many, ..sent }, now);
        }
        let kept: usize = timeline.open[0].worker_spans.iter().map(|(_, spans)| spans.spans.len()).sum();
        assert_eq!(kept, MAX_STEP_SPANS);
    }
}

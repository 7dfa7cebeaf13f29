//! Everything that watches a run while it trains: step times, worker statistics, totals, events, the timeline, the
//! norms of the weights, and the points at which a test has the process die.
//!
//! The loop tells [`Observers`] of each decision and of each arrival, in one line each. The weights are the same with and
//! without them; the one thing that the loop asks them is which leaves a worker holds.

mod arrivals;
mod commits;
mod decisions;
pub(crate) mod sentences;
pub(crate) mod step_times;
pub(crate) mod timeline;
mod totals;
pub(crate) mod weight_norms;
mod worker_stats;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lockstep_checkpoint::Progress;
use lockstep_control::{AssignmentId, Command, Task, TaskOrder, WorkerId};
use lockstep_proto::Assignment;
use lockstep_records::EventRecord;
use lockstep_telemetry::Recorder;

use self::step_times::{StepPhase, StepTimes};
use self::timeline::Timeline;
pub use self::totals::RunTotals;
use self::weight_norms::{Measured, WeightProbe};
use self::worker_stats::WorkerStats;

/// Events of one kind that a process records: a hostile or broken peer must not fill the disk.
const MAX_EVENTS_OF_A_KIND: u32 = 100_000;

/// What watches a run.
pub struct Observers {
    /// When the coordinator started.
    start: Instant,
    tasks: TaskOrder,
    recorder: Recorder,
    times: StepTimes,
    workers: WorkerStats,
    timeline: Option<Box<Timeline>>,
    probe: WeightProbe,
    totals: RunTotals,
    /// When the command being carried out, or the wait, began.
    since: Instant,
    /// Work was handed out: the time before belongs to no step.
    training: bool,
    /// The last checkpoint could not be written.
    unsaved: bool,
    /// Events recorded of each kind.
    recorded: BTreeMap<&'static str, u32>,
}

impl Observers {
    /// Observers of a run that started at `start`; `totals` are those of its earlier processes.
    pub fn new(start: Instant, tasks: TaskOrder, recorder: Recorder, totals: RunTotals) -> Self {
        Self {
            start,
            tasks,
            recorder,
            times: StepTimes::begin(),
            workers: WorkerStats::new(start),
            timeline: None,
            probe: WeightProbe::none(),
            totals,
            since: start,
            training: false,
            unsaved: false,
            recorded: BTreeMap::new(),
        }
    }

    /// Measures the weights with `probe` from now on.
    pub(crate) fn probe_weights(&mut self, probe: WeightProbe) {
        self.probe = probe;
    }

    /// Times every `every`-th step in the file at `path`, whose pieces `write` takes.
    pub(crate) fn time_steps(
        &mut self,
        path: &Path,
        write: impl FnMut(Vec<u8>) + Send + 'static,
        every: u64,
    ) {
        let timeline = Timeline::new(path, write, every, self.start);
        self.times.slice(timeline.wants(self.totals.steps + 1));
        self.timeline = Some(Box::new(timeline));
    }

    /// The loop begins, with these weights.
    pub(crate) fn loop_begins(&mut self, weights: &Bytes) {
        self.recorder.weights(self.totals.steps, weights);
    }

    /// Nothing is left to do: the loop waits for the next thing to arrive.
    pub(crate) fn wait_begins(&mut self) {
        if let Some(timeline) = &mut self.timeline {
            timeline.write_due(self.totals.steps);
        }
        self.since = Instant::now();
        if let Some(record) = self.workers.sample(self.since, self.seconds(self.since), self.totals.steps) {
            self.recorder.workers(&record);
        }
    }

    /// Something arrived.
    pub(crate) fn wait_ends(&mut self) {
        self.times.add(StepPhase::Wait, self.since);
    }

    /// An assignment goes to a worker; if its step is timed, the message asks the worker for its times.
    pub(crate) fn sending(&mut self, worker: WorkerId, task: Task, message: &mut Assignment) {
        self.times.sent(message.pixels.len() + message.labels.len());
        if let Some(timeline) = &mut self.timeline {
            message.trace = timeline.assign(task, worker, AssignmentId(message.assignment_id));
        }
    }

    /// The leaves of an assignment that a worker has not answered.
    pub(crate) fn held(&self, worker: WorkerId, assignment: AssignmentId) -> Option<(Task, Range<u32>)> {
        self.workers.held(worker, assignment)
    }

    /// The next measurement of the weights; waits for ever if there is none.
    pub(crate) async fn measured(&mut self) -> Measured {
        self.probe.measured().await
    }

    /// Records a measurement of the weights.
    pub(crate) fn record_measured(&mut self, measured: &Measured) {
        match measured {
            Measured::Norms(record) => self.recorder.norms(record),
            Measured::Picture(record) => self.recorder.picture(record),
        }
    }

    /// Ends the timeline, and records the last measurements of the weights, which have `limit` to end.
    pub(crate) async fn close(&mut self, limit: Duration) {
        for measured in self.probe.close(limit).await {
            self.record_measured(&measured);
        }
        if let Some(timeline) = &mut self.timeline {
            timeline.finish();
        }
    }

    /// What the run has found out so far.
    pub(crate) fn totals(&self) -> &RunTotals {
        &self.totals
    }

    /// The same, at the very end.
    pub(crate) fn into_totals(self) -> RunTotals {
        self.totals
    }

    /// The totals as a checkpoint keeps them.
    pub(crate) fn progress(&self) -> Progress {
        self.totals.progress(self.start.elapsed())
    }

    /// A worker for people, also one that has just left.
    pub(crate) fn name_of(&self, worker: WorkerId) -> String {
        sentences::worker(worker, self.workers.name(worker))
    }

    /// A decision as a sentence for people; its own words go to the log.
    fn sentence_of(&self, command: &Command) -> String {
        tracing::debug!("{command}");
        sentences::of_command(command, |worker| self.name_of(worker))
    }

    /// Records an event with its sentence. However many a peer causes, only so many of a kind are recorded.
    fn record(&mut self, kind: &'static str, worker: Option<WorkerId>, reason: String) {
        let recorded = self.recorded.entry(kind).or_insert(0);
        *recorded += 1;
        let reason = match *recorded {
            MAX_EVENTS_OF_A_KIND => format!("{reason} (events of this kind are no longer recorded)"),
            many if many > MAX_EVENTS_OF_A_KIND => return,
            _ => reason,
        };
        let worker = worker.and_then(|worker| self.workers.member_name(worker)).map(str::to_string);
        let seconds = self.seconds(Instant::now());
        self.times.decided(&reason);
        self.recorder.event(&EventRecord {
            seconds,
            step: self.totals.steps,
            kind: kind.into(),
            worker,
            reason,
        });
    }

    /// Seconds since the run began, those of earlier processes included.
    fn seconds(&self, now: Instant) -> f64 {
        self.totals.earlier_seconds + now.saturating_duration_since(self.start).as_secs_f64()
    }
}

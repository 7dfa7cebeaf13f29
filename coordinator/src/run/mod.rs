//! The one loop: what happens goes into the control plane, what it decides is carried out here, in order.
//!
//! It joins the two planes and the network, and decides nothing. `next_event`, `drive` and `execute` are all of it;
//! the rest is what a command takes to carry out. What comes in is put into words in `arrivals`, what is recorded in
//! `records`.

mod audit;
mod ending;
mod incoming;
mod records;
pub mod sentences;
mod signals;
pub mod totals;

use std::collections::{BTreeMap, VecDeque};
use std::future::pending;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lockstep_control::{
    AssignReason, AssignmentId, Command, Control, DropReason, Event, LeaveCause, Outcome, Recipient, Task,
    TaskKind, Time, WorkerId,
};
use lockstep_failpoints::crash;
use lockstep_proto::{self as proto, Encoded, Fence, NodeValue, ToWorker};
use lockstep_reduction::Node;
use lockstep_telemetry::Recorder;
use tokio::sync::mpsc;

use crate::batches::Batches;
use crate::journal::{Journal, SideFile};
use crate::observe::step_times::{Part, StepTimes};
use crate::observe::timeline::Timeline;
use crate::observe::weight_norms::Gauge;
use crate::observe::worker_stats::Roster;
use crate::run::totals::{Results, count_rejected};
use crate::trainer::Trainer;
use crate::transport::encode;
use crate::transport::service::{Incoming, MAX_QUEUED_INCOMING, Outbound};
pub use signals::{Signals, exit_code};

/// A run under way.
pub struct Run {
    /// When the coordinator started: the control plane's time zero.
    start: Instant,
    fence: Fence,
    control: Control,
    plan: lockstep_control::Plan,
    batches: Batches,
    trainer: Trainer,
    members: BTreeMap<WorkerId, Member>,
    /// The weights after the last committed step, encoded once for everybody.
    values: Bytes,
    weights: Encoded,
    recorder: Recorder,
    gauge: Gauge,
    timeline: Option<Box<Timeline>>,
    /// What is kept on disk for a later process of the run.
    journal: Journal,
    times: StepTimes,
    /// What each member does, for whoever watches.
    roster: Roster,
    /// Work was handed out: what came before was no training.
    begun: bool,
    timer: Option<Time>,
    /// What was told since the timer was due.
    told_before_timer: usize,
    /// The node that the control plane is being asked about.
    arrived: Option<Arrived>,
    /// What is known, besides the cause, of the end of the worker that the control plane is told about.
    detail: String,
    /// The last checkpoint could not be written.
    unsaved: bool,
    results: Results,
    /// Events of each kind.
    recorded: BTreeMap<&'static str, u32>,
}

/// Turns of the runtime in which what a socket holds comes through its connection and its stream to the loop.
const TURNS_TO_READ: usize = 4;

struct Arrived {
    value: Option<NodeValue>,
    compute: Duration,
}

struct Member {
    name: String,
    pid: u32,
    outbound: Outbound,
    /// Steps committed when it joined, until its first node is counted.
    joined_after: Option<u64>,
}

impl Run {
    /// A run before its first event in this process; `results` are those of earlier ones.
    #[expect(clippy::too_many_arguments, reason = "the parts of a run, each made elsewhere and used once")]
    pub fn new(
        start: Instant,
        fence: Fence,
        control: lockstep_control::Settings,
        batches: Batches,
        trainer: Trainer,
        recorder: Recorder,
        journal: Journal,
        results: Results,
    ) -> Self {
        let values = trainer.weights_as_bytes();
        Self {
            start,
            fence,
            control: Control::new(control),
            plan: control.plan,
            batches,
            members: BTreeMap::new(),
            weights: ToWorker::Weights(encode::weights(fence, results.steps, values.clone())).into(),
            values,
            trainer,
            recorder,
            gauge: Gauge::none(),
            timeline: None,
            journal,
            times: StepTimes::begin(),
            roster: Roster::new(start),
            begun: false,
            timer: None,
            told_before_timer: 0,
            arrived: None,
            detail: String::new(),
            unsaved: false,
            results,
            recorded: BTreeMap::new(),
        }
    }

    /// Has the weights measured now and then.
    pub fn measure(&mut self, gauge: Gauge) {
        self.gauge = gauge;
    }

    /// Has every `every`-th step timed, in the file at `path`; `start` is the timeline's zero.
    pub fn time(&mut self, path: &Path, file: SideFile, every: u64, start: Instant) {
        let timeline = Timeline::new(path, self.journal.side_file(file), every, start);
        self.times.slice(timeline.wants(self.results.steps + 1));
        self.timeline = Some(Box::new(timeline));
    }

    /// Runs to the end.
    pub async fn drive(&mut self, incoming: &mut mpsc::Receiver<Incoming>, signals: &mut Signals) -> Outcome {
        let mut events = VecDeque::from([Event::Started]);
        let mut commands = Vec::new();
        self.recorder.weights(self.results.steps, &self.values);
        loop {
            while let Some(event) = events.pop_front() {
                self.control.handle(self.now(), event, &mut commands);
                for command in commands.drain(..) {
                    if let Command::Finish { outcome } = command {
                        self.record("finish", None, self.told(&command));
                        let now = Instant::now();
                        let workers = self.roster.whole(now, self.seconds(now), self.results.steps);
                        self.results.workers = Some(workers);
                        return outcome;
                    }
                    self.execute(command, &mut events);
                }
            }
            if let Some(timeline) = &mut self.timeline {
                timeline.write_due(self.results.steps);
            }
            let waiting = Instant::now();
            self.sample_workers(waiting);
            let event = self.next_event(incoming, signals).await;
            self.times.add(Part::Wait, waiting);
            events.extend(event);
        }
    }

    /// Waits for the next thing to happen, in the control plane's words; `None` if it is none of its business.
    async fn next_event(
        &mut self,
        incoming: &mut mpsc::Receiver<Incoming>,
        signals: &mut Signals,
    ) -> Option<Event> {
        let timer = self.timer.map(|at| self.start + Duration::from_micros(at.microseconds));
        let timer = async {
            match timer {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            signal = signals.next() => Some(Event::Stopped { signal }),
            Some(news) = self.journal.news() => self.journal_says(news),
            () = timer => self.timer_due(incoming).await,
            measured = self.gauge.measured() => self.record_measured(measured),
            Some(incoming) = incoming.recv() => self.arrive(incoming),
        }
    }

    /// The timer's time has come. What has arrived before is told before: after a pause of this process' own, the
    /// members' signs of life still lie in its sockets, and their silence is none.
    async fn timer_due(&mut self, incoming: &mut mpsc::Receiver<Incoming>) -> Option<Event> {
        for _ in 0..TURNS_TO_READ {
            tokio::task::yield_now().await;
        }
        // But not for ever: there may always be more.
        if self.told_before_timer < MAX_QUEUED_INCOMING
            && let Ok(incoming) = incoming.try_recv()
        {
            self.told_before_timer += 1;
            return self.arrive(incoming);
        }
        self.timer = None;
        self.told_before_timer = 0;
        Some(Event::Timer)
    }

    /// Carries out a decision; what comes of it goes to `events`.
    fn execute(&mut self, command: Command, events: &mut VecDeque<Event>) {
        let begin = Instant::now();
        match command {
            Command::Assign { worker, assignment, task, ref leaves, reason } => {
                if !self.begun {
                    self.begun = true;
                    self.times.restart();
                }
                let mut message = self.assignment(assignment, task, leaves.clone());
                match reason {
                    AssignReason::Share { .. } => {}
                    AssignReason::Reassigned { .. } => {
                        self.record("reassigned", Some(worker), self.told(&command));
                    }
                    AssignReason::Copy { holder, waited_ms, expected_ms, .. } => {
                        let reason = format!(
                            "it has had its work for {waited_ms} ms, {expected_ms} ms were expected, and {} got it, too",
                            self.name_of(worker)
                        );
                        self.roster.late(begin, holder, reason);
                        self.results.faults.assignments_copied += 1;
                        self.record("copied", Some(worker), self.told(&command));
                    }
                }
                self.times.sent(message.pixels.len() + message.labels.len());
                if let Some(timeline) = &mut self.timeline {
                    message.trace = timeline.assign(task, worker, assignment);
                }
                self.roster.assigned(begin, worker, assignment, task, leaves.clone(), self.results.steps);
                events.extend(self.send(worker, ToWorker::Assignment(message).into()));
                self.times.add(Part::Send, begin);
                crash::point("assigned", task.step);
            }
            Command::Revoke { worker, assignment, .. } => {
                self.results.faults.assignments_revoked += 1;
                self.roster.revoked(worker, assignment);
                self.record("revoked", Some(worker), self.told(&command));
                let message = proto::Revoke { fence: self.fence, assignment_id: assignment.0 };
                events.extend(self.send(worker, ToWorker::Revoke(message).into()));
            }
            Command::SendWeights { to, step } => {
                self.send_weights(to, step);
                self.roster.weights(begin, step);
                self.times.add(Part::Send, begin);
                crash::point("weights", step);
            }
            Command::Combine { task, worker, node } => {
                crash::point("received", task.step);
                self.combine(task, worker, node);
                self.times.add(Part::Reduce, begin);
                crash::point("combined", task.step);
            }
            Command::Compare { task, worker, node } => self.compare(task, worker, node, events),
            Command::Commit { task, .. } => self.commit(task, events),
            Command::RollBack { task, .. } => {
                self.record("roll_back", None, self.told(&command));
                self.trainer.roll_back(task);
            }
            Command::Reject { worker, reason, .. } => {
                self.arrived = None;
                count_rejected(&mut self.results.faults, reason);
                self.record("node_rejected", Some(worker), self.told(&command));
            }
            Command::Save { after, .. } => {
                tracing::debug!("{command}");
                let progress = self.results.progress(self.start.elapsed());
                self.journal.save(after, self.values.clone(), progress);
                crash::point("save", after.step);
            }
            Command::DropMember { worker, reason } => self.drop_member(worker, reason, &command),
            Command::Wait { .. } => self.record("waiting", None, self.told(&command)),
            Command::Stall { .. } => self.record("stalled", None, self.told(&command)),
            Command::SetTimer { at, .. } => {
                tracing::trace!("{command}");
                self.timer = Some(at);
            }
            Command::Finish { .. } => unreachable!("the loop ends before it carries this out"),
        }
    }

    fn combine(&mut self, task: Task, worker: WorkerId, node: Node) {
        let Some(Arrived { value, compute }) = self.arrived.take() else { return };
        let bytes = value.as_ref().map_or(0, |value| value.gradient.len() + value.confusion.len());
        self.times.received(bytes, compute);
        self.roster.counted(worker, task.kind, value.as_ref().map_or(0, |value| value.examples));
        self.trainer.combine(task, self.batches.cut(task).leaves(), worker, node, value);
        let member = self.members.get_mut(&worker);
        if let Some(after) = member.and_then(|member| member.joined_after.take()) {
            let reason = format!(
                "{} takes part: its first result, for {task}, counts; it joined after step {after}",
                self.name_of(worker)
            );
            self.record("worker_contributes", Some(worker), reason);
        }
    }

    fn drop_member(&mut self, worker: WorkerId, reason: DropReason, command: &Command) {
        let detail = std::mem::take(&mut self.detail);
        let detail = if detail.is_empty() { detail } else { format!(": {detail}") };
        self.results.faults.workers_dropped += 1;
        self.record("worker_dropped", Some(worker), self.told(command) + &detail);
        let why = sentences::of_drop(&reason, |worker| self.name_of(worker));
        let why = why + &detail;
        self.roster.left(Instant::now(), worker, why.clone());
        if let Some(member) = self.members.remove(&worker)
            && let DropReason::WrongNode { .. } | DropReason::Left { cause: LeaveCause::Protocol } = reason
        {
            member.outbound.refuse(&why);
        }
    }

    fn send(&mut self, worker: WorkerId, message: Encoded) -> Option<Event> {
        let member = self.members.get(&worker)?;
        (!member.outbound.send(message)).then_some(Event::Left { worker, cause: LeaveCause::Stalled })
    }

    fn send_weights(&mut self, to: Recipient, step: u64) {
        match to {
            Recipient::One(worker) => {
                if let Some(member) = self.members.get(&worker) {
                    self.times.sent(self.values.len());
                    member.outbound.send_weights(self.weights.clone());
                }
            }
            Recipient::All => {
                let weights = encode::weights(self.fence, step, self.values.clone());
                self.weights = ToWorker::Weights(weights).into();
                self.times.sent(self.values.len() * self.members.len());
                self.members.values().for_each(|member| member.outbound.send_weights(self.weights.clone()));
            }
        }
    }

    fn assignment(
        &mut self,
        id: AssignmentId,
        task: Task,
        leaves: std::ops::Range<u32>,
    ) -> proto::Assignment {
        let first_leaf = leaves.start;
        let data = self.batches.leaves(task, leaves);
        encode::assignment(self.fence, id, task, first_leaf, data)
    }

    fn commit(&mut self, task: Task, events: &mut VecDeque<Event>) {
        match task.kind {
            TaskKind::Train => self.commit_step(task, events),
            TaskKind::Validate | TaskKind::Test => {
                crash::point("evaluate", task.step);
                if !self.trainer.evaluation_is_finite(task) {
                    // Of these weights there is none; one of others would be shown as theirs.
                    self.results.validation = None;
                    return events.extend(self.referee(task));
                }
                let (means, confusion) = self.trainer.evaluation(task);
                self.record_evaluation(task, means, &confusion);
                if task.kind == TaskKind::Validate {
                    self.results.validation = Some(means);
                    self.end_epoch(task.step, Some(means));
                } else {
                    self.results.test = Some((means, confusion));
                }
                self.times.restart();
                events.push_back(Event::Updated { task });
            }
        }
    }

    fn commit_step(&mut self, task: Task, events: &mut VecDeque<Event>) {
        let begin = Instant::now();
        crash::point("commit", task.step);
        let Ok(means) = self.trainer.step(task) else {
            return events.extend(self.referee(task));
        };
        let before = std::mem::replace(&mut self.values, self.trainer.weights_as_bytes());
        self.times.add(Part::Update, begin);
        let step = task.step;
        crash::point("updated", step);
        self.journal.committed(step, self.values.clone());
        self.gauge.stepped(step, &before, &self.values);
        self.recorder.weights(step, &self.values);
        crash::point("journaled", step);
        let workers = self.members.len() as u32;
        let record = self.times.end_step(step, self.batches.epoch(step), means, workers);
        if let Some(timeline) = &mut self.timeline {
            if let Some(sliced) = self.times.take_sliced() {
                timeline.step_ended(step, sliced);
            }
            self.times.slice(timeline.wants(step + 1));
        }
        self.results.steps = step;
        self.results.examples += u64::from(means.examples);
        self.results.train_seconds += record.seconds;
        self.recorder.step(&record);
        crash::point("recorded", step);
        if self.plan.ends_epoch(step) && self.plan.validate.is_none() {
            self.end_epoch(step, None);
        }
        events.push_back(Event::Updated { task });
    }

    /// Seconds since the run began, those of earlier processes included.
    fn seconds(&self, now: Instant) -> f64 {
        self.results.earlier_seconds + now.saturating_duration_since(self.start).as_secs_f64()
    }

    fn now(&self) -> Time {
        // The runtime's clock, which its timers go by.
        let elapsed = tokio::time::Instant::now().into_std().saturating_duration_since(self.start);
        Time { microseconds: u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX) }
    }
}

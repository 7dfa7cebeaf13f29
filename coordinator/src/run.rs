//! The one loop: what happens goes into the control plane, what it decides is carried out here, in order.
//!
//! It joins the two planes and the network, and decides nothing. `next_event`, `drive` and `execute` are all of it;
//! the rest is what a command takes to carry out.

use std::collections::{BTreeMap, VecDeque};
use std::future::pending;
use std::time::{Duration, Instant};

use lockstep_control::{
    AssignReason, AssignmentId, Command, Control, DropReason, Event, LeaveCause, Outcome, Recipient, Signal,
    Task, TaskKind, Time, WorkerId,
};
use lockstep_model::Cpu;
use lockstep_proto::{self as proto, CoordinatorMessage, Fence, Hello, NodeResult, NodeValue, ToWorker};
use lockstep_reduction::Node;
use lockstep_telemetry::{EpochRecord, EventRecord, Recorder};
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tokio::sync::mpsc;

use crate::batches::Batches;
use crate::local_workers::Exit;
use crate::service::{Incoming, Outbound};
use crate::step_times::{Part, StepTimes};
use crate::trainer::{Confusion, Means, Trainer, same_answer};

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
    weights: CoordinatorMessage,
    weights_bytes: usize,
    recorder: Recorder,
    times: StepTimes,
    /// Work was handed out: what came before was no training.
    begun: bool,
    timer: Option<Time>,
    /// The node that the control plane is being asked about.
    arrived: Option<Arrived>,
    /// What is known, besides the cause, of the end of the worker that the control plane is told about.
    detail: String,
    results: Results,
}

struct Arrived {
    value: Option<NodeValue>,
    compute: Duration,
}

struct Member {
    name: String,
    pid: u32,
    outbound: Outbound,
}

/// What a run has found out so far.
#[derive(Clone, Debug, Default)]
pub struct Results {
    /// Steps committed.
    pub steps: u64,
    /// Epochs completed.
    pub epochs: u32,
    /// Examples trained on.
    pub examples: u64,
    /// Seconds of all steps; evaluation is not counted.
    pub train_seconds: f64,
    /// The last validation.
    pub validation: Option<Means>,
    /// The test.
    pub test: Option<(Means, Confusion)>,
    /// Local workers that ended, in order.
    pub exits: Vec<Exit>,
}

/// The operator's signals.
pub struct Signals {
    interrupt: SignalStream,
    terminate: SignalStream,
}

impl Signals {
    /// Takes the signals over from the system's default, which is to die.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> Signal {
        tokio::select! {
            Some(()) = self.interrupt.recv() => Signal::Interrupt,
            Some(()) = self.terminate.recv() => Signal::Terminate,
            else => pending().await,
        }
    }
}

impl Run {
    /// A run before its first event.
    pub fn new(
        start: Instant,
        fence: Fence,
        control: lockstep_control::Settings,
        batches: Batches,
        trainer: Trainer,
        recorder: Recorder,
    ) -> Self {
        let weights = trainer.encode_weights();
        Self {
            start,
            fence,
            control: Control::new(control),
            plan: control.plan,
            batches,
            members: BTreeMap::new(),
            weights_bytes: weights.len(),
            weights: ToWorker::Weights(weights_message(fence, 0, weights)).into(),
            trainer,
            recorder,
            times: StepTimes::begin(),
            begun: false,
            timer: None,
            arrived: None,
            detail: String::new(),
            results: Results::default(),
        }
    }

    /// Runs to the end.
    pub async fn drive(&mut self, incoming: &mut mpsc::Receiver<Incoming>, signals: &mut Signals) -> Outcome {
        let mut events = VecDeque::from([Event::Started]);
        let mut commands = Vec::new();
        loop {
            while let Some(event) = events.pop_front() {
                self.control.handle(self.now(), event, &mut commands);
                for command in commands.drain(..) {
                    if let Command::Finish { outcome } = command {
                        self.record("finish", None, command.to_string());
                        return outcome;
                    }
                    events.extend(self.execute(command));
                }
            }
            let waiting = Instant::now();
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
            Some(incoming) = incoming.recv() => self.arrive(incoming),
            () = timer => {
                self.timer = None;
                Some(Event::Timer)
            }
        }
    }

    fn arrive(&mut self, incoming: Incoming) -> Option<Event> {
        self.detail.clear();
        match incoming {
            Incoming::Joined { worker, hello, outbound } => Some(self.joined(worker, hello, outbound)),
            Incoming::Node { worker, result } => self.node_arrived(worker, result),
            Incoming::Stale { worker, fence } => {
                let reason = format!(
                    "reject a node from {worker}: it is of run {}, term {}",
                    fence.run_id, fence.term
                );
                self.record("node_rejected", Some(worker), reason);
                None
            }
            Incoming::Left { worker, cause, detail } => {
                self.detail = detail;
                Some(Event::Left { worker, cause })
            }
            Incoming::Refused { peer, reason } => {
                self.record("worker_refused", None, format!("refuse a worker from {peer}: {reason}"));
                None
            }
            Incoming::Exited(exit) => {
                tracing::warn!("{exit}");
                let worker =
                    self.members.iter().find(|(_, member)| member.pid == exit.pid).map(|(worker, _)| *worker);
                self.results.exits.push(exit);
                Some(Event::ProcessEnded { worker })
            }
        }
    }

    fn joined(&mut self, worker: WorkerId, hello: Hello, outbound: Outbound) -> Event {
        let Hello { name, host, pid, threads, cpu, .. } = hello;
        let unit = if threads == 1 { "thread" } else { "threads" };
        // The first word is the instruction set; the worker's own log has the rest.
        let cpu = cpu.split_whitespace().next().unwrap_or("unknown CPU");
        let reason = format!("{worker} joined: {name} on {host} (process {pid}), {threads} {unit}, {cpu}");
        self.members.insert(worker, Member { name, pid, outbound });
        self.record("worker_joined", Some(worker), reason);
        Event::Joined { worker, threads }
    }

    fn node_arrived(&mut self, worker: WorkerId, result: NodeResult) -> Option<Event> {
        let NodeResult { assignment_id, kind, step, level, index, compute_nanoseconds, value, .. } = result;
        let task = Task { kind: control_kind(kind), step };
        let examples = value.as_ref().map_or(0, |value| value.examples);
        let node = Node::new(level, index);
        let expected = node.and_then(|node| self.batches.node_examples(task, node));
        let Some(node) = node.filter(|_| expected == Some(examples)) else {
            self.detail = match expected {
                Some(expected) => {
                    format!("node ({level},{index}) of {task} has {examples} examples instead of {expected}")
                }
                None => format!("{task} has no node ({level},{index})"),
            };
            return Some(Event::Left { worker, cause: LeaveCause::Protocol });
        };
        self.arrived = Some(Arrived { value, compute: Duration::from_nanos(compute_nanoseconds) });
        Some(Event::NodeReceived { worker, assignment: AssignmentId(assignment_id), task, node })
    }

    /// Carries out a decision; returns what comes of it.
    fn execute(&mut self, command: Command) -> Option<Event> {
        let sentence = match &command {
            Command::Assign { reason: AssignReason::Share { .. }, .. }
            | Command::Combine { .. }
            | Command::Commit { .. }
            | Command::SendWeights { .. } => None,
            _ => Some(command.to_string()),
        };
        let begin = Instant::now();
        match command {
            Command::Assign { worker, assignment, task, leaves, .. } => {
                if !self.begun {
                    self.begun = true;
                    self.times.restart();
                }
                let message = self.assignment(assignment, task, leaves);
                if let Some(reason) = sentence {
                    self.record("reassigned", Some(worker), reason);
                }
                self.times.sent(message.pixels.len() + message.labels.len());
                let event = self.send(worker, ToWorker::Assignment(message).into());
                self.times.add(Part::Send, begin);
                event
            }
            Command::SendWeights { to, step } => {
                self.send_weights(to, step);
                self.times.add(Part::Send, begin);
                None
            }
            Command::Combine { task, worker, node } => {
                if let Some(Arrived { value, compute }) = self.arrived.take() {
                    let bytes =
                        value.as_ref().map_or(0, |value| value.gradient.len() + value.confusion.len());
                    self.times.received(bytes, compute);
                    self.trainer.combine(task, self.batches.cut(task).leaves(), worker, node, value);
                }
                self.times.add(Part::Reduce, begin);
                None
            }
            Command::Commit { task, .. } => Some(self.commit(task)),
            Command::RollBack { task, .. } => {
                self.record("roll_back", None, sentence.unwrap_or_default());
                self.trainer.roll_back(task);
                None
            }
            Command::Reject { worker, .. } => {
                self.arrived = None;
                self.record("node_rejected", Some(worker), sentence.unwrap_or_default());
                None
            }
            Command::DropMember { worker, reason } => {
                let detail = std::mem::take(&mut self.detail);
                let detail = if detail.is_empty() { detail } else { format!(": {detail}") };
                self.record("worker_dropped", Some(worker), sentence.unwrap_or_default() + &detail);
                if let Some(member) = self.members.remove(&worker)
                    && let DropReason::WrongNode { .. } | DropReason::Left { cause: LeaveCause::Protocol } =
                        reason
                {
                    member.outbound.refuse(&format!("{reason}{detail}"));
                }
                None
            }
            Command::SetTimer { at, .. } => {
                tracing::debug!("{}", sentence.unwrap_or_default());
                self.timer = Some(at);
                None
            }
            Command::Finish { .. } => unreachable!("the loop ends before it carries this out"),
        }
    }

    fn send(&mut self, worker: WorkerId, message: CoordinatorMessage) -> Option<Event> {
        let member = self.members.get(&worker)?;
        (!member.outbound.send(message)).then_some(Event::Left { worker, cause: LeaveCause::Stalled })
    }

    fn send_weights(&mut self, to: Recipient, step: u64) {
        match to {
            Recipient::One(worker) => {
                if let Some(member) = self.members.get(&worker) {
                    self.times.sent(self.weights_bytes);
                    member.outbound.send_weights(self.weights.clone());
                }
            }
            Recipient::All => {
                let values = self.trainer.encode_weights();
                self.weights = ToWorker::Weights(weights_message(self.fence, step, values)).into();
                self.times.sent(self.weights_bytes * self.members.len());
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
        proto::Assignment {
            fence: self.fence,
            assignment_id: id.0,
            kind: proto_kind(task.kind),
            step: task.step,
            first_leaf,
            leaf_examples: data.leaf_examples,
            labels: data.labels,
            pixels: data.pixels,
        }
    }

    fn commit(&mut self, task: Task) -> Event {
        match task.kind {
            TaskKind::Train => self.commit_step(task),
            TaskKind::Validate | TaskKind::Test => {
                let (means, confusion) = self.trainer.evaluation(task);
                if task.kind == TaskKind::Validate {
                    self.results.validation = Some(means);
                    self.end_epoch(task.step, Some(means));
                } else {
                    self.results.test = Some((means, confusion));
                }
                self.times.restart();
                Event::Updated { task }
            }
        }
    }

    fn commit_step(&mut self, task: Task) -> Event {
        let begin = Instant::now();
        let means = match self.trainer.step(task) {
            Ok(means) => means,
            Err(_) => return self.referee(task),
        };
        self.times.add(Part::Update, begin);
        let step = task.step;
        let workers = self.members.len() as u32;
        let record = self.times.end_step(step, self.batches.epoch(step), means, workers);
        self.results.steps = step;
        self.results.examples += u64::from(means.examples);
        self.results.train_seconds += record.seconds;
        self.recorder.step(&record);
        if self.plan.ends_epoch(step) && self.plan.validate.is_none() {
            self.end_epoch(step, None);
        }
        Event::Updated { task }
    }

    fn end_epoch(&mut self, step: u64, validation: Option<Means>) {
        let epoch = self.batches.epoch(step);
        if step.is_multiple_of(self.plan.steps_per_epoch) {
            self.results.epochs = epoch;
        }
        self.recorder.epoch(&EpochRecord {
            epoch,
            step,
            val_loss: validation.map(|means| means.loss),
            val_accuracy: validation.map(|means| means.accuracy),
            weights_digest: self.trainer.digest().to_string(),
        });
        self.flush();
    }

    /// Computes one suspect node of a step with numbers that are not finite: either training diverged, or its
    /// worker is at fault.
    fn referee(&mut self, task: Task) -> Event {
        let diverged = Event::Diverged { step: task.step };
        let Some(suspect) = self.trainer.suspect(task).cloned() else { return diverged };
        let assignment = self.assignment(AssignmentId(0), task, suspect.node.leaves());
        let weights = weights_message(self.fence, task.weights(), self.trainer.encode_weights());
        let answers = lockstep_worker::recompute(Cpu::detect(), &weights, &assignment);
        let agrees = match &answers[..] {
            [NodeResult { value: Some(value), .. }] => same_answer(value, &suspect.value),
            _ => false,
        };
        if agrees { diverged } else { Event::Refuted { worker: suspect.worker, node: suspect.node } }
    }

    fn record(&mut self, kind: &'static str, worker: Option<WorkerId>, reason: String) {
        let worker = worker.and_then(|worker| self.members.get(&worker)).map(|member| member.name.clone());
        let seconds = self.start.elapsed().as_secs_f64();
        self.recorder.event(&EventRecord { seconds, step: self.results.steps, kind, worker, reason });
    }

    fn flush(&mut self) {
        for error in self.recorder.flush() {
            tracing::warn!("{error}");
        }
    }

    fn finish_message(&self, reason: &str) -> CoordinatorMessage {
        ToWorker::Finish(proto::Finish { fence: self.fence, reason: reason.to_string() }).into()
    }

    fn now(&self) -> Time {
        Time { microseconds: u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX) }
    }

    /// Tells the members that the run is over.
    pub fn dismiss(&self, outcome: Outcome) {
        let message = self.finish_message(&outcome.to_string());
        for member in self.members.values() {
            // One that does not read is left to find out by its stream's end.
            member.outbound.send(message.clone());
        }
    }

    /// Takes in what happens after the end: who left, who came too late, and how processes ended.
    pub fn wind_up(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Left { worker, .. } => drop(self.members.remove(&worker)),
            Incoming::Joined { worker, hello, outbound } => {
                // It came as the run ended, which is no failure of its.
                outbound.send(self.finish_message("it ended as this worker joined"));
                self.members.insert(worker, Member { name: hello.name, pid: hello.pid, outbound });
            }
            Incoming::Exited(exit) => self.results.exits.push(exit),
            _ => {}
        }
    }

    /// Whether anybody has to be waited for.
    pub fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    /// Ends recording; gives the trainer and the results to report them.
    pub fn into_results(mut self) -> (Trainer, Results) {
        self.flush();
        (self.trainer, self.results)
    }
}

fn weights_message(fence: Fence, step: u64, values: bytes::Bytes) -> proto::Weights {
    proto::Weights { fence, step, crc32c: crc32c::crc32c(&values), values }
}

fn control_kind(kind: proto::TaskKind) -> TaskKind {
    match kind {
        proto::TaskKind::Train => TaskKind::Train,
        proto::TaskKind::Validate => TaskKind::Validate,
        proto::TaskKind::Test => TaskKind::Test,
    }
}

fn proto_kind(kind: TaskKind) -> proto::TaskKind {
    match kind {
        TaskKind::Train => proto::TaskKind::Train,
        TaskKind::Validate => proto::TaskKind::Validate,
        TaskKind::Test => proto::TaskKind::Test,
    }
}

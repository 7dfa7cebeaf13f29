//! The one loop: what happens goes into the control plane, what it decides is carried out here, in order.
//!
//! It joins the two planes and the network, and decides nothing. `next_event`, `drive` and `execute` are all of it;
//! the rest is what a command takes to carry out.

use std::collections::{BTreeMap, VecDeque};
use std::future::pending;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lockstep_control::{
    AssignReason, AssignmentId, Command, Control, DropReason, Event, LeaveCause, Outcome, Recipient, Signal,
    Task, TaskKind, Time, WorkerId,
};
use lockstep_model::Cpu;
use lockstep_proto::{self as proto, Encoded, Fence, Hello, NodeResult, NodeValue, ToWorker};
use lockstep_reduction::Node;
use lockstep_telemetry::{EpochRecord, EvaluationKind, EvaluationRecord, EventRecord, Recorder};
use lockstep_worker::crash;
use tokio::signal::unix::{Signal as SignalStream, SignalKind, signal};
use tokio::sync::mpsc;

use crate::batches::Batches;
use crate::gauge::{Gauge, Measured};
use crate::journal::{Journal, News};
use crate::local_workers::Restart;
use crate::messages;
use crate::results::{Results, count_rejected};
use crate::roster::Roster;
use crate::service::{Incoming, MAX_QUEUED_INCOMING, Outbound};
use crate::step_times::{Part, StepTimes};
use crate::timeline::Timeline;
use crate::trainer::{Comparison, Confusion, Means, Received, Trainer, same_answer};

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
    results: Results,
    /// Events of each kind.
    recorded: BTreeMap<&'static str, u32>,
}

/// Turns of the runtime in which what a socket holds comes through its connection and its stream to the loop.
const TURNS_TO_READ: usize = 4;

/// Events of one kind that a process records: a hostile or broken peer must not fill the disk.
const MAX_EVENTS_OF_A_KIND: u32 = 100_000;

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

/// The operator's signals, or nothing where none can come.
pub struct Signals(Option<SignalStreams>);

struct SignalStreams {
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
        let (interrupt, terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        Ok(Self(Some(SignalStreams { interrupt, terminate })))
    }

    /// Signals that never come: the process' own stay as they are.
    pub fn none() -> Self {
        Self(None)
    }

    /// The next one.
    pub async fn next(&mut self) -> Signal {
        let Some(SignalStreams { interrupt, terminate }) = &mut self.0 else { return pending().await };
        tokio::select! {
            Some(()) = interrupt.recv() => Signal::Interrupt,
            Some(()) = terminate.recv() => Signal::Terminate,
            else => pending().await,
        }
    }
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
            weights: ToWorker::Weights(messages::weights(fence, results.steps, values.clone())).into(),
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
            results,
            recorded: BTreeMap::new(),
        }
    }

    /// Has the weights measured now and then.
    pub fn measure(&mut self, gauge: Gauge) {
        self.gauge = gauge;
    }

    /// Has some steps timed.
    pub fn time(&mut self, timeline: Timeline) {
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
                        self.record("finish", None, command.to_string());
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

    fn arrive(&mut self, incoming: Incoming) -> Option<Event> {
        self.detail.clear();
        match incoming {
            Incoming::Joined { worker, hello, outbound } => Some(self.joined(worker, hello, outbound)),
            Incoming::Node { worker, result } => self.node_arrived(worker, result),
            Incoming::Heartbeat { worker } => Some(Event::Heard { worker }),
            Incoming::Spans { worker, spans, received } => {
                if let Some(timeline) = &mut self.timeline {
                    timeline.told(worker, spans, received);
                }
                Some(Event::Heard { worker })
            }
            Incoming::Superseded { term } => Some(Event::Superseded { term }),
            Incoming::Stale { worker, fence } => {
                let reason = format!(
                    "reject a message from {worker}: it is of run {}, term {}",
                    fence.run_id, fence.term
                );
                self.results.faults.nodes_rejected += 1;
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
                let worker =
                    self.members.iter().find(|(_, member)| member.pid == exit.pid).map(|(worker, _)| *worker);
                let restarting = matches!(exit.restart, Restart::After { .. });
                self.results.faults.worker_restarts += u64::from(restarting);
                self.record("process_ended", worker, exit.to_string());
                self.results.exited(exit);
                Some(Event::ProcessEnded { worker, restarting })
            }
        }
    }

    fn journal_says(&mut self, news: News) -> Option<Event> {
        match news {
            News::Saved { sentence } => {
                tracing::debug!("{sentence}");
                Some(Event::Saved { durable: true })
            }
            News::NotSaved { sentence } => {
                self.record("not_saved", None, sentence);
                Some(Event::Saved { durable: false })
            }
            News::Trouble { sentence } => {
                self.record("log_failed", None, sentence);
                None
            }
            News::Contradicted { step, sentence } => {
                self.record("contradicted", None, sentence);
                Some(Event::Contradicted { step })
            }
        }
    }

    fn joined(&mut self, worker: WorkerId, hello: Hello, outbound: Outbound) -> Event {
        self.roster.joined(worker, hello.clone());
        let Hello { name, host, pid, threads, cpu, .. } = hello;
        let unit = if threads == 1 { "thread" } else { "threads" };
        // The first word is the instruction set; the worker's own log has the rest.
        let cpu = cpu.split_whitespace().next().unwrap_or("unknown CPU");
        let reason = format!("{worker} joined: {name} on {host} (process {pid}), {threads} {unit}, {cpu}");
        let joined_after = Some(self.results.steps);
        if let Some(timeline) = &mut self.timeline {
            timeline.joined(worker, &name);
        }
        self.members.insert(worker, Member { name, pid, outbound, joined_after });
        self.record("worker_joined", Some(worker), reason);
        Event::Joined { worker, threads }
    }

    fn node_arrived(&mut self, worker: WorkerId, result: NodeResult) -> Option<Event> {
        let NodeResult { assignment_id, kind, step, level, index, compute_nanoseconds, value, .. } = result;
        let (task, node) = messages::task_and_node(kind, step, level, index);
        let examples = value.as_ref().map_or(0, |value| value.examples);
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
        let (assignment, compute) = (AssignmentId(assignment_id), Duration::from_nanos(compute_nanoseconds));
        self.roster.answered(Instant::now(), worker, assignment, node, compute);
        self.arrived = Some(Arrived { value, compute });
        Some(Event::NodeReceived { worker, assignment, task, node })
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
                        self.record("reassigned", Some(worker), command.to_string());
                    }
                    AssignReason::Copy { holder, waited_ms, expected_ms, .. } => {
                        let reason = format!(
                            "{worker} got its leaves, too: it had them for {waited_ms} ms, {expected_ms} ms were expected"
                        );
                        self.roster.late(begin, holder, reason);
                        self.results.faults.assignments_copied += 1;
                        self.record("copied", Some(worker), command.to_string());
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
                self.record("revoked", Some(worker), command.to_string());
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
                self.record("roll_back", None, command.to_string());
                self.trainer.roll_back(task);
            }
            Command::Reject { worker, reason, .. } => {
                self.arrived = None;
                count_rejected(&mut self.results.faults, reason);
                self.record("node_rejected", Some(worker), command.to_string());
            }
            Command::Save { after, .. } => {
                tracing::debug!("{command}");
                let progress = self.results.progress(self.start.elapsed());
                // What a checkpoint has behind it is not recorded again.
                self.flush();
                self.journal.save(after, self.values.clone(), progress);
                crash::point("save", after.step);
            }
            Command::DropMember { worker, reason } => self.drop_member(worker, reason, &command),
            Command::Wait { .. } => self.record("waiting", None, command.to_string()),
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
                "{worker} contributes: its first node, {node} of {task}, is counted; it joined after step {after}"
            );
            self.record("worker_contributes", Some(worker), reason);
        }
    }

    /// Two answers for the same leaves are an audit for free.
    fn compare(&mut self, task: Task, worker: WorkerId, node: Node, events: &mut VecDeque<Event>) {
        let Some(Arrived { value, .. }) = self.arrived.take() else { return };
        match self.trainer.compare(task, node, value.as_ref()) {
            Comparison::Equal => self.results.faults.copies_equal += 1,
            Comparison::Unchecked => self.results.faults.copies_unchecked += 1,
            Comparison::Differs(counted) => {
                let others: Vec<String> = counted.iter().map(|other| other.worker.to_string()).collect();
                let sentence = format!(
                    "node {node} of {task} from {worker} differs from what {} sent: one of them computes wrongly",
                    others.join(", ")
                );
                self.record("copies_differ", Some(worker), sentence);
                let mut wrong = self.refuted(task, &counted, true);
                if wrong.is_empty() {
                    wrong.push(Event::Refuted { worker, task, node, counted: false });
                }
                events.extend(wrong);
            }
        }
    }

    /// Those of the nodes received that their recomputation does not confirm.
    fn refuted(&mut self, task: Task, nodes: &[Received], counted: bool) -> Vec<Event> {
        let weights = messages::weights(self.fence, task.weights(), self.values.clone());
        let mut refuted = Vec::new();
        for Received { worker, node, value } in nodes {
            let assignment = self.assignment(AssignmentId(0), task, node.leaves());
            let answers = lockstep_worker::recompute(Cpu::detect(), &weights, &assignment);
            let agrees = match &answers[..] {
                [NodeResult { value: Some(answer), .. }] => same_answer(answer, value),
                _ => false,
            };
            if !agrees {
                refuted.push(Event::Refuted { worker: *worker, task, node: *node, counted });
            }
        }
        refuted
    }

    fn drop_member(&mut self, worker: WorkerId, reason: DropReason, command: &Command) {
        let detail = std::mem::take(&mut self.detail);
        let detail = if detail.is_empty() { detail } else { format!(": {detail}") };
        self.results.faults.workers_dropped += 1;
        self.record("worker_dropped", Some(worker), command.to_string() + &detail);
        self.roster.left(Instant::now(), worker, format!("{reason}{detail}"));
        if let Some(member) = self.members.remove(&worker)
            && let DropReason::WrongNode { .. } | DropReason::Left { cause: LeaveCause::Protocol } = reason
        {
            member.outbound.refuse(&format!("{reason}{detail}"));
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
                let weights = messages::weights(self.fence, step, self.values.clone());
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
        messages::assignment(self.fence, id, task, first_leaf, data)
    }

    fn commit(&mut self, task: Task, events: &mut VecDeque<Event>) {
        match task.kind {
            TaskKind::Train => self.commit_step(task, events),
            TaskKind::Validate | TaskKind::Test => {
                crash::point("evaluate", task.step);
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

    fn record_evaluation(&mut self, task: Task, means: Means, confusion: &Confusion) {
        let of = if task.kind == TaskKind::Test { EvaluationKind::Test } else { EvaluationKind::Validation };
        let Means { loss, accuracy, .. } = means;
        let confusion = confusion.to_vec();
        self.recorder.evaluation(&EvaluationRecord { of, step: task.step, loss, accuracy, confusion });
    }

    /// Has the state of the workers recorded, a few times a second.
    fn sample_workers(&mut self, now: Instant) {
        if let Some(record) = self.roster.sample(now, self.seconds(now), self.results.steps) {
            self.recorder.workers(&record);
        }
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
        self.gauge.epoch_ended(epoch, step, &self.values);
        self.flush();
    }

    /// Computes one suspect node of a step with numbers that are not finite: either training diverged, or its
    /// worker is at fault.
    fn referee(&mut self, task: Task) -> Vec<Event> {
        let suspect: Vec<Received> = self.trainer.suspect(task).cloned().into_iter().collect();
        let mut wrong = self.refuted(task, &suspect, true);
        if wrong.is_empty() {
            wrong.push(Event::Diverged { step: task.step });
        }
        wrong
    }

    /// Has a decision recorded with its sentence. However many a peer causes, only so many of a kind are.
    fn record(&mut self, kind: &'static str, worker: Option<WorkerId>, reason: String) {
        let recorded = self.recorded.entry(kind).or_insert(0);
        *recorded += 1;
        let reason = match *recorded {
            MAX_EVENTS_OF_A_KIND => format!("{reason} (events of this kind are no longer recorded)"),
            many if many > MAX_EVENTS_OF_A_KIND => return,
            _ => reason,
        };
        let worker = worker.and_then(|worker| self.members.get(&worker)).map(|member| member.name.clone());
        let seconds = self.seconds(Instant::now());
        self.times.decided(&reason);
        self.recorder.event(&EventRecord { seconds, step: self.results.steps, kind, worker, reason });
    }

    fn record_measured(&mut self, measured: Measured) -> Option<Event> {
        match measured {
            Measured::Norms(record) => self.recorder.norms(&record),
            Measured::Picture(record) => self.recorder.picture(&record),
        }
        None
    }

    fn flush(&mut self) {
        for error in self.recorder.flush() {
            tracing::warn!("{error}");
        }
    }

    fn finish_message(&self, reason: &str) -> Encoded {
        ToWorker::Finish(proto::Finish { fence: self.fence, reason: reason.to_string() }).into()
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
                let Hello { name, pid, .. } = hello;
                self.members.insert(worker, Member { name, pid, outbound, joined_after: None });
            }
            Incoming::Exited(exit) => self.results.exited(exit),
            _ => {}
        }
    }

    /// Whether anybody has to be waited for.
    pub fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    /// Ends recording and, within `limit`, what is still being saved; gives the trainer and the results to report them.
    pub async fn into_results(mut self, limit: Duration) -> (Trainer, Results) {
        let end = Instant::now() + limit;
        for news in self.journal.close(limit).await {
            self.journal_says(news);
        }
        // Both have the one limit, which a signal makes short.
        for measured in self.gauge.close(end.saturating_duration_since(Instant::now())).await {
            self.record_measured(measured);
        }
        if let Some(timeline) = &mut self.timeline {
            timeline.finish();
        }
        self.flush();
        (self.trainer, self.results)
    }
}

//! A simulated worker: it dials, holds assignments until their weights are there, computes leaf after leaf, sends a
//! node when it is complete, says that it is alive, and comes back when its stream breaks.
//!
//! It mirrors `lockstep-worker`, whose threads and sockets a simulation cannot have. It decides what a worker decides,
//! and knows nothing of invariants.

use std::collections::VecDeque;

use lockstep_control::{LeaveCause, Task, TaskKind};
use lockstep_proto::Fence;
use lockstep_reduction::{Node, Payload};

use crate::arithmetic::Value;
use crate::cluster::computing::Computing;
use crate::cluster::network::StreamId;
use crate::cluster::{Cluster, SimEvent};
use crate::message::{AssignMessage, Down, NodeMessage, OTHER_RUN, Up};
use crate::observed::Observed;

/// An attempt to join that has no answer for so long is given up.
const ATTEMPT_US: u64 = 1_000_000;

/// Pauses between attempts: they double from the first to the last.
const BACK_OFF_US: [u64; 2] = [50_000, 1_000_000];

/// Nodes of earlier sessions that a faulty worker may send again.
const REMEMBERED: usize = 3;

/// A machine that a worker may run on.
#[derive(Debug, Default)]
pub struct Machine {
    /// The worker's process.
    pub process: Option<Process>,
    /// Processes so far.
    pub processes: u32,
    /// Computes ten times slower until then.
    pub slow_until_us: u64,
    /// Computes nothing until then, and says that it is alive.
    pub hung_until_us: u64,
    /// The coordinator that started the process, if it is a local worker.
    pub parent: Option<usize>,
    /// Somebody starts it again.
    pub booting: bool,
    /// What it sent in earlier sessions.
    remembered: VecDeque<NodeMessage>,
}

/// A worker's process.
#[derive(Debug)]
pub struct Process {
    /// Its number on this machine.
    pub id: u32,
    /// It is stopped.
    pub paused: bool,
    /// What happened meanwhile.
    pub waiting: Vec<SimEvent>,
    session: Option<Session>,
    known: Option<Fence>,
    attempts: u32,
}

/// A stream to a coordinator, and what came through it.
#[derive(Debug)]
struct Session {
    stream: StreamId,
    /// The coordinator's, once it has answered.
    fence: Option<Fence>,
    heartbeat_us: u64,
    silence_us: Option<u64>,
    heard_us: u64,
    weights: Option<(u64, Value)>,
    held: VecDeque<AssignMessage>,
    computing: Option<Computing>,
    /// Counts what was computed, so that the end of something given up is recognised.
    generation: u64,
}

impl Machine {
    /// The stream that the process uses.
    pub fn stream(&self) -> Option<StreamId> {
        Some(self.process.as_ref()?.session.as_ref()?.stream)
    }
}

fn weights_of(task: Task) -> u64 {
    task.weights()
}

impl Cluster {
    /// Starts a worker's process.
    pub(crate) fn boot(&mut self, machine: usize) {
        let place = &mut self.machines[machine];
        place.booting = false;
        if place.process.is_some() {
            return;
        }
        place.processes += 1;
        let id = place.processes;
        place.process =
            Some(Process { id, paused: false, waiting: Vec::new(), session: None, known: None, attempts: 0 });
        let at = self.now + self.worker_rng.between(1_000, 20_000);
        self.at(at, SimEvent::Dial { machine, process: id });
    }

    /// Tries to reach a coordinator.
    pub(crate) fn dial(&mut self, machine: usize, process: u32) {
        let Some(host) = self.dialled_host(machine) else {
            return self.dial_later(machine, process, 1_000);
        };
        let link = self.network.links[machine][host];
        let coordinator = self.running_at(host).filter(|_| !link.down_cut && !link.up_cut);
        let Some(coordinator) = coordinator else {
            // Nobody listens there: refused at once. A cut link: no answer at all.
            let cut = link.down_cut || link.up_cut;
            return self.dial_later(machine, process, if cut { ATTEMPT_US } else { 1_000 });
        };
        let stream = self.network.open(machine, process, host, coordinator);
        let now = self.now;
        let Some(worker) = self.machines[machine].process.as_mut() else { return };
        worker.session = Some(Session {
            stream,
            fence: None,
            heartbeat_us: ATTEMPT_US,
            silence_us: None,
            heard_us: now,
            weights: None,
            held: VecDeque::new(),
            computing: None,
            generation: 0,
        });
        let known = worker.known;
        let threads = self.knobs.threads[machine];
        self.send_up(stream, Up::Hello { threads, known });
        self.at(now + ATTEMPT_US, SimEvent::Beat { stream });
    }

    fn dial_later(&mut self, machine: usize, process: u32, after_us: u64) {
        let Some(worker) = self.machines[machine].process.as_mut() else { return };
        worker.session = None;
        let pause = (BACK_OFF_US[0] << worker.attempts.min(5)).min(BACK_OFF_US[1]);
        worker.attempts += 1;
        let jitter = self.worker_rng.below(pause);
        self.at(self.now + after_us + jitter, SimEvent::Dial { machine, process });
    }

    /// The stream is of no use any more: the worker closes it and tries again.
    fn lose_session(&mut self, machine: usize) {
        let Some(worker) = self.machines[machine].process.as_mut() else { return };
        let Some(session) = worker.session.take() else { return };
        let process = worker.id;
        self.close_worker_end(session.stream, LeaveCause::Closed, false);
        self.dial_later(machine, process, 1_000);
    }

    /// A message arrives at a worker.
    pub(crate) fn worker_receives(&mut self, stream: StreamId, message: Down) {
        let (machine, now) = (self.network.streams[stream].machine, self.now);
        let Some(session) = self.session(stream) else { return };
        session.heard_us = now;
        let expected = session.fence;
        match message {
            Down::Welcome { fence, heartbeat_us, silence_us } => {
                self.welcomed(stream, fence, heartbeat_us, silence_us);
            }
            Down::End => self.lose_session(machine),
            Down::Assign(assignment) if expected == Some(assignment.fence) => {
                session.held.push_back(*assignment);
                let assignments = session.held.len();
                self.observe(Observed::Holds { machine, assignments });
                self.compute_next(stream);
            }
            Down::Revoke { fence, assignment } if expected == Some(fence) => {
                session.held.retain(|held| held.assignment != assignment);
                self.cancel(stream, |computed| computed.assignment == assignment);
            }
            Down::Finish { fence } if expected == Some(fence) => self.end_process(machine, false),
            Down::Assign(_) | Down::Revoke { .. } | Down::Finish { .. } | Down::Heartbeat => {}
        }
    }

    fn welcomed(&mut self, stream: StreamId, fence: Fence, heartbeat_us: u64, silence_us: Option<u64>) {
        let machine = self.network.streams[stream].machine;
        let Some(worker) = self.machines[machine].process.as_mut() else { return };
        if let Some(known) = worker.known.filter(|known| known.term > fence.term) {
            self.observe(Observed::RefusedTerm { machine, term: fence.term, known: known.term });
            return self.lose_session(machine);
        }
        worker.known = Some(fence);
        worker.attempts = 0;
        let process = worker.id;
        if let Some(session) = &mut worker.session {
            session.fence = Some(fence);
            session.heartbeat_us = heartbeat_us;
            session.silence_us = silence_us;
        }
        self.observe(Observed::Welcomed { machine, process, term: fence.term });
        self.at(self.now + heartbeat_us, SimEvent::Beat { stream });
        if self.faulty() && self.worker_rng.happens(self.knobs.stale) {
            for mut message in self.machines[machine].remembered.clone() {
                self.count("stale node sent");
                if self.worker_rng.happens(300) {
                    message.fence.run_id = OTHER_RUN;
                }
                self.send_up(stream, Up::Node(Box::new(message)));
            }
        }
    }

    /// Weights arrive at a worker: what needs older ones is of no use any more.
    pub(crate) fn worker_gets_weights(&mut self, stream: StreamId, term: u64, step: u64, weights: Value) {
        let now = self.now;
        let Some(session) = self.session(stream) else { return };
        session.heard_us = now;
        match session.fence {
            Some(fence) if fence.term == term => {}
            Some(_) => return,
            // They overtook the welcome in a partition's end.
            None => return self.send_weights(stream, term, step, weights),
        }
        session.weights = Some((step, weights));
        session.held.retain(|held| weights_of(held.task) >= step);
        self.cancel(stream, |computed| weights_of(computed.task) < step);
        self.compute_next(stream);
    }

    /// Nobody wants such an assignment any more: its worker stops after the example that it is at.
    fn cancel(&mut self, stream: StreamId, which: impl Fn(&AssignMessage) -> bool) {
        let now = self.now;
        let Some(session) = self.session(stream) else { return };
        let computing = session.computing.as_mut();
        if let Some(computing) =
            computing.filter(|computing| !computing.cancelled && which(&computing.assignment))
        {
            computing.cancelled = true;
            session.generation += 1;
            let (at, generation) = (computing.next_stop(now), session.generation);
            self.at(at, SimEvent::Leaf { stream, generation });
        }
    }

    /// Begins the next assignment whose weights are there, if nothing is being computed.
    fn compute_next(&mut self, stream: StreamId) {
        let Some(session) = self.session(stream) else { return };
        if session.computing.is_some() {
            return;
        }
        let Some(step) = session.weights.as_ref().map(|(step, _)| *step) else { return };
        let Some(at) = session.held.iter().position(|held| weights_of(held.task) == step) else { return };
        let Some(assignment) = session.held.remove(at) else { return };
        let mut computing = Computing::new(assignment);
        let nodes = &mut computing.nodes;
        let machine = self.network.streams[stream].machine;
        if self.knobs.threads[machine] > 1 {
            // Its threads finish nodes in any order.
            for place in (1..nodes.len()).rev() {
                nodes.swap(place, self.worker_rng.below(place as u64 + 1) as usize);
            }
        }
        if let Some(session) = self.session(stream) {
            session.computing = Some(computing);
        }
        self.schedule_leaf(stream);
    }

    fn schedule_leaf(&mut self, stream: StreamId) {
        let now = self.now;
        let machine = self.network.streams[stream].machine;
        let mut leaf_us = self.knobs.leaf_us[machine] / u64::from(self.knobs.threads[machine]);
        if now < self.machines[machine].slow_until_us {
            leaf_us *= 10;
        }
        let Some(computing) = self.session(stream).and_then(|session| session.computing.as_ref()) else {
            return;
        };
        let (kind, examples) = (computing.assignment.task.kind, computing.leaf_examples());
        if examples == 0 {
            leaf_us = 0;
        } else if self.knobs.by_example {
            leaf_us = leaf_us * u64::from(examples) / u64::from(self.knobs.full_leaf(kind));
        }
        let leaf_us = leaf_us.max(1);
        // A machine is never quite as fast as a moment ago.
        let leaf_us = leaf_us + self.worker_rng.below(leaf_us / 8 + 1);
        let Some(session) = self.session(stream) else { return };
        session.generation += 1;
        let generation = session.generation;
        if let Some(computing) = &mut session.computing {
            computing.begin_leaf(now, leaf_us);
        }
        self.at(now + leaf_us, SimEvent::Leaf { stream, generation });
    }

    /// A leaf is computed.
    pub(crate) fn leaf_done(&mut self, stream: StreamId, generation: u64) {
        let machine = self.network.streams[stream].machine;
        let hung_until = self.machines[machine].hung_until_us;
        if self.now < hung_until {
            return self.at(hung_until, SimEvent::Leaf { stream, generation });
        }
        let Some(session) = self.session(stream) else { return };
        if session.generation != generation {
            return;
        }
        let Some(computing) = &mut session.computing else { return };
        if computing.cancelled {
            session.computing = None;
            return self.compute_next(stream);
        }
        if let Some(node) = computing.end_leaf() {
            let over = computing.nodes.is_empty();
            self.send_node(stream, node);
            if over {
                if let Some(session) = self.session(stream) {
                    session.computing = None;
                }
                return self.compute_next(stream);
            }
        }
        self.schedule_leaf(stream);
    }

    fn send_node(&mut self, stream: StreamId, node: Node) {
        let machine = self.network.streams[stream].machine;
        let Some(session) = self.session(stream) else { return };
        let (Some(computing), Some((_, weights))) = (&session.computing, session.weights.clone()) else {
            return;
        };
        let assignment = &computing.assignment;
        let (fence, id, task) = (assignment.fence, assignment.assignment, assignment.task);
        let (cut, first) = (assignment.cut, assignment.first_example);
        let sum = |node: Node| {
            self.node_sum(task, node, &weights, &|leaf| {
                let examples = cut.positions(leaf..leaf + 1);
                first + examples.start..first + examples.end
            })
        };
        let mut value = sum(node);
        let may_err = self.faulty() && task.kind == TaskKind::Train;
        if may_err && self.worker_rng.happens(self.knobs.corrupt) {
            value = value.map(|value| value.corrupted());
            self.count("wrong node");
        }
        let message = NodeMessage { fence, assignment: id, task, node, value };
        let remembered = &mut self.machines[machine].remembered;
        remembered.push_back(message.clone());
        if remembered.len() > REMEMBERED {
            remembered.pop_front();
        }
        if self.faulty() && self.worker_rng.happens(self.knobs.duplicate) {
            self.count("node sent twice");
            self.send_up(stream, Up::Node(Box::new(message.clone())));
        }
        self.send_up(stream, Up::Node(Box::new(message)));
    }

    /// The sum over a node, left + right all the way down; absent where there are no examples.
    pub(crate) fn node_sum(
        &self,
        task: Task,
        node: Node,
        weights: &Value,
        examples: &dyn Fn(u32) -> std::ops::Range<u32>,
    ) -> Option<Value> {
        let Some((left, right)) = node.children() else {
            return self.arithmetic.leaf(task, examples(node.leaves().start), weights);
        };
        let left = self.node_sum(task, left, weights, examples);
        let right = self.node_sum(task, right, weights, examples);
        match (left, right) {
            (Some(left), Some(right)) => Some(left.plus(right, &())),
            (left, right) => left.or(right),
        }
    }

    /// The worker says that it is alive, and looks whether its coordinator is.
    pub(crate) fn beat(&mut self, stream: StreamId) {
        let machine = self.network.streams[stream].machine;
        let now = self.now;
        let Some(session) = self.session(stream) else { return };
        let Some(fence) = session.fence else {
            if now >= session.heard_us + ATTEMPT_US {
                self.lose_session(machine);
            }
            return;
        };
        let (heartbeat_us, heard_us) = (session.heartbeat_us, session.heard_us);
        if session.silence_us.is_some_and(|silence_us| now - heard_us >= silence_us) {
            return self.lose_session(machine);
        }
        let computing = session.computing.as_ref().filter(|computing| !computing.cancelled);
        let progress = computing.map(|computing| computing.progress(now));
        // A thread that is hung has done what it had done before, which was said.
        let progress = progress.filter(|_| now >= self.machines[machine].hung_until_us);
        self.send_up(stream, Up::Heartbeat { fence, progress });
        self.at(now + heartbeat_us, SimEvent::Beat { stream });
    }

    /// The process of a machine is no more; `silently`: its streams do not say so either.
    pub(crate) fn end_process(&mut self, machine: usize, silently: bool) {
        let Some(process) = self.machines[machine].process.take() else { return };
        if let Some(session) = process.session {
            self.close_worker_end(session.stream, LeaveCause::Reset, silently);
        }
        self.observe(Observed::WorkerEnded { machine, process: process.id });
        match self.machines[machine].parent {
            Some(coordinator) => {
                let at = self.now + self.worker_rng.between(500, 5_000);
                self.at(at, SimEvent::Reaped { coordinator, machine, process: process.id });
            }
            None if !self.machines[machine].booting => {
                self.machines[machine].booting = true;
                let [low, high] = self.knobs.restart_us;
                let at = self.now + self.worker_rng.between(low, high);
                self.at(at, SimEvent::Boot { machine });
            }
            None => {}
        }
    }

    /// The session that a stream belongs to, unless the worker has gone on without it.
    fn session(&mut self, stream: StreamId) -> Option<&mut Session> {
        let machine = self.network.streams[stream].machine;
        let session = self.machines[machine].process.as_mut()?.session.as_mut()?;
        (session.stream == stream).then_some(session)
    }
}

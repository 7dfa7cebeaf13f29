//! The simulated shell of the coordinator: what `coordinator/src/run` does with sockets and threads, done in virtual
//! time. The control plane, the sums and the journal are the production ones.

mod data;
mod journal;
mod life;

pub use journal::ArmedStall;
pub use life::Starting;

use std::collections::{BTreeMap, VecDeque};

use lockstep_control::{Command, Control, Event, LeaveCause, Outcome, Recipient, Time, WorkerId};
use lockstep_proto::Fence;
use lockstep_reduction::TaskSums;

use crate::arithmetic::Value;
use crate::cluster::crash::Crash;
use crate::cluster::network::StreamId;
use crate::cluster::{Cluster, SimEvent};
use crate::knobs::MAX_WORKERS;
use crate::message::{AssignMessage, Down, MAX_WAITING, NodeMessage, Up};
use crate::observed::{CoordinatorId, Observed};
use journal::Journal;

/// Signs of life wait for a worker only as long as few messages do.
const MAX_WAITING_HEARTBEATS: usize = 8;

/// One process of the coordinator.
#[derive(Debug)]
pub struct Coordinator {
    id: CoordinatorId,
    /// The machine that it runs on.
    pub host: usize,
    fence: Fence,
    started_us: u64,
    /// By how much its clock has jumped ahead.
    pub jumped_us: u64,
    control: Control,
    members: BTreeMap<WorkerId, StreamId>,
    joins: u32,
    timer: Option<Time>,
    timer_generation: u64,
    sums: TaskSums<WorkerId, Value>,
    weights: Value,
    step: u64,
    examples: u64,
    journal: Journal,
    arrived: Option<NodeMessage>,
    restarts: [u32; MAX_WORKERS],
    /// It is stopped.
    pub paused: bool,
    /// What happened meanwhile.
    pub waiting: Vec<SimEvent>,
}

/// Why a process of the coordinator is over.
enum Over {
    Finished(Outcome),
    Killed(Crash),
}

impl Cluster {
    /// Tells the control plane what happened, and carries out what it decides, and what comes of that.
    pub(crate) fn drive(&mut self, id: CoordinatorId, event: Event) {
        let Some(mut coordinator) = self.coordinators[id].take() else { return };
        let mut events = VecDeque::from([event]);
        let mut commands = std::mem::take(&mut self.commands);
        let over = 'over: {
            while let Some(event) = events.pop_front() {
                self.observe(Observed::Told { coordinator: id, event });
                let now = coordinator.now(self.now);
                coordinator.control.handle(now, event, &mut commands);
                let changed = |command: &Command| matches!(command, Command::DropMember { .. });
                if matches!(event, Event::Joined { .. }) || commands.iter().any(changed) {
                    let uncopied = coordinator.control.uncopied(now);
                    self.observe(Observed::Looked { coordinator: id, uncopied });
                }
                for command in commands.drain(..) {
                    self.observe(Observed::Decided { coordinator: id, command: command.clone() });
                    if let Some(crash) = self.crash_before(&command) {
                        break 'over Some(Over::Killed(crash));
                    }
                    if let Command::Finish { outcome } = command {
                        break 'over Some(Over::Finished(outcome));
                    }
                    let after = Crash::after(&command);
                    if let Err(crash) = self.execute(&mut coordinator, command, &mut events) {
                        break 'over Some(Over::Killed(crash));
                    }
                    if let Some(crash) = self.crash_at(after) {
                        break 'over Some(Over::Killed(crash));
                    }
                }
            }
            None
        };
        commands.clear();
        self.commands = commands;
        self.coordinators[id] = Some(coordinator);
        match over {
            Some(Over::Finished(outcome)) => self.finish(id, outcome),
            Some(Over::Killed(crash)) => self.kill_coordinator(id, crash, false),
            None => {}
        }
    }

    /// Carries out a decision; what comes of it goes to `events`.
    ///
    /// # Errors
    ///
    /// Where the process was killed meanwhile.
    fn execute(
        &mut self,
        coordinator: &mut Coordinator,
        command: Command,
        events: &mut VecDeque<Event>,
    ) -> Result<(), Crash> {
        let fence = coordinator.fence;
        match command {
            Command::Assign { worker, assignment, task, leaves, .. } => {
                let (cut, first_example) = self.knobs.cut(task);
                let message = AssignMessage { fence, assignment, task, leaves, cut, first_example };
                events.extend(self.send(coordinator, worker, Down::Assign(Box::new(message))));
            }
            Command::Revoke { worker, assignment, .. } => {
                events.extend(self.send(coordinator, worker, Down::Revoke { fence, assignment }));
            }
            Command::SendWeights { to, step } => {
                assert_eq!(step, coordinator.step, "the weights that are there");
                let streams: Vec<StreamId> = match to {
                    Recipient::All => coordinator.members.values().copied().collect(),
                    Recipient::One(worker) => coordinator.members.get(&worker).copied().into_iter().collect(),
                };
                for stream in streams {
                    self.send_weights(stream, fence.term, step, coordinator.weights.clone());
                }
            }
            Command::Combine { task, worker, node } => self.combine(coordinator, task, worker, node),
            Command::Compare { task, worker, node } => {
                events.extend(self.compare(coordinator, task, worker, node));
            }
            Command::Reject { .. } => coordinator.arrived = None,
            Command::Commit { task, .. } => events.extend(self.commit(coordinator, task)?),
            Command::RollBack { task, .. } => coordinator.sums.roll_back(task),
            Command::Save { after, .. } => self.save_state(coordinator, after),
            Command::DropMember { worker, .. } => {
                if let Some(stream) = coordinator.members.remove(&worker) {
                    self.close_coordinator_end(stream, false);
                }
            }
            Command::SetTimer { at, .. } => {
                coordinator.timer = Some(at);
                self.set_timer(coordinator);
            }
            Command::Wait { .. } | Command::Stall { .. } => {}
            Command::Finish { .. } => unreachable!("the loop ends before it carries this out"),
        }
        Ok(())
    }

    fn send(&mut self, coordinator: &Coordinator, worker: WorkerId, message: Down) -> Option<Event> {
        let stream = *coordinator.members.get(&worker)?;
        if self.network.waiting(stream) >= MAX_WAITING {
            return Some(Event::Left { worker, cause: LeaveCause::Stalled });
        }
        self.send_down(stream, message);
        let (machine, messages) = (self.network.streams[stream].machine, self.network.waiting(stream));
        self.observe(Observed::Waiting { machine, messages });
        None
    }

    /// A message arrives at a coordinator.
    pub(crate) fn coordinator_receives(&mut self, stream: StreamId, message: Up) {
        let id = self.network.streams[stream].coordinator;
        let Some(coordinator) = self.coordinators[id].as_mut() else { return };
        // One that was dropped is still known by its stream.
        let worker = self.network.streams[stream].number;
        let expected = coordinator.fence;
        match message {
            Up::Hello { threads, known } => self.hello(id, stream, threads, known),
            Up::Heartbeat { fence, progress } => {
                if let (Some(worker), true) = (worker, fence == expected) {
                    self.drive(id, Event::Heard { worker, progress });
                }
            }
            Up::Node(message) => {
                let Some(worker) = worker else { return };
                if message.fence != expected {
                    return self.observe(Observed::Stale { coordinator: id, worker });
                }
                let NodeMessage { assignment, task, node, .. } = *message;
                coordinator.arrived = Some(*message);
                self.drive(id, Event::NodeReceived { worker, assignment, task, node });
            }
            Up::End { cause } => {
                if let Some(worker) = worker {
                    self.drive(id, Event::Left { worker, cause });
                }
            }
        }
    }

    fn hello(&mut self, id: CoordinatorId, stream: StreamId, threads: u32, known: Option<Fence>) {
        let Some(coordinator) = self.coordinators[id].as_mut() else { return };
        let fence = coordinator.fence;
        if let Some(known) = known.filter(|known| known.run_id == fence.run_id && known.term > fence.term) {
            self.close_coordinator_end(stream, false);
            return self.drive(id, Event::Superseded { term: known.term });
        }
        if !self.network.streams[stream].coordinator_open {
            return;
        }
        coordinator.joins += 1;
        let worker = WorkerId(coordinator.joins);
        coordinator.members.insert(worker, stream);
        self.network.streams[stream].number = Some(worker);
        let heartbeat_us = self.knobs.heartbeat_us();
        let silence_us = self.knobs.silence_deadlines * self.knobs.deadline_us;
        let silence_us = (!self.knobs.local).then_some(silence_us);
        self.send_down(stream, Down::Welcome { fence, heartbeat_us, silence_us });
        self.drive(id, Event::Joined { worker, threads });
    }

    /// The coordinator says to everybody that it is alive.
    pub(crate) fn coordinator_beat(&mut self, id: CoordinatorId) {
        let Some(coordinator) = &self.coordinators[id] else { return };
        let streams: Vec<StreamId> = coordinator.members.values().copied().collect();
        for stream in streams {
            if self.network.waiting(stream) < MAX_WAITING_HEARTBEATS {
                self.send_down(stream, Down::Heartbeat);
            }
        }
        self.at(self.now + self.knobs.heartbeat_us(), SimEvent::CoordinatorBeat { coordinator: id });
    }

    fn set_timer(&mut self, coordinator: &mut Coordinator) {
        let Some(at) = coordinator.timer else { return };
        coordinator.timer_generation += 1;
        let due = (coordinator.started_us + at.us).saturating_sub(coordinator.jumped_us);
        // A timer may come a moment too early: the control plane asks again.
        let early = if self.network_rng.happens(20) { self.network_rng.below(1_000) } else { 0 };
        let generation = coordinator.timer_generation;
        let at = due.saturating_sub(early).max(self.now);
        self.at(at, SimEvent::Timer { coordinator: coordinator.id, generation });
    }

    /// The timer of a coordinator is due.
    pub(crate) fn timer_due(&mut self, id: CoordinatorId, generation: u64) {
        let Some(coordinator) = self.coordinators[id].as_mut() else { return };
        if coordinator.timer_generation == generation && coordinator.timer.take().is_some() {
            self.drive(id, Event::Timer);
        }
    }

    /// The clock of a coordinator jumps ahead.
    pub(crate) fn jump_clock(&mut self, id: CoordinatorId, by_us: u64) {
        let Some(mut coordinator) = self.coordinators[id].take() else { return };
        coordinator.jumped_us += by_us;
        self.observe(Observed::Resumed { coordinator: id, unread: Vec::new(), jumped_us: by_us });
        self.set_timer(&mut coordinator);
        self.coordinators[id] = Some(coordinator);
    }
}

impl Coordinator {
    fn now(&self, now_us: u64) -> Time {
        Time { us: now_us - self.started_us + self.jumped_us }
    }
}

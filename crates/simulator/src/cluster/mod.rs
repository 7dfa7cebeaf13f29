//! The simulated cluster: one queue of happenings in virtual time, and everything that they happen to.
//!
//! All of it is a function of the knobs: the same seed gives the same trace, event for event.

mod computing;
mod coordinator;
mod crash;
mod faults;
mod held;
mod network;
mod pause;
mod worker;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::Path;

use lockstep_checkpoint::Proof;
use lockstep_control::{Command, Outcome};

use crate::arithmetic::Arithmetic;
use crate::cluster::coordinator::{ArmedStall, Coordinator, Starting};
use crate::cluster::crash::{Armed, Crash, IDLE};
use crate::cluster::network::{HOSTS, Link, Network, StreamId};
use crate::cluster::worker::Machine;
use crate::disk::VirtualDisk;
use crate::invariants::{self, Invariant, View};
use crate::knobs::{Knobs, MAX_WORKERS};
use crate::observed::{CoordinatorId, Observed};
use crate::oracle::Oracle;
use crate::report::{Failure, Statistics};
use crate::rng::{Rng, Subject};
use crate::storage;
use crate::trace::Trace;

/// More events than any cluster needs at one instant: beyond, something goes round in circles.
const MAX_EVENTS_AT_ONCE: u64 = 100_000;

/// Something that is going to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SimEvent {
    /// A message reaches a coordinator; `arrived`: before, while it was stopped.
    Up { stream: StreamId, arrived: bool },
    /// A message reaches a worker; `arrived`: before, while it was stopped.
    Down { stream: StreamId, arrived: bool },
    /// Weights reach a worker; `arrived`: before, while it was stopped.
    Weights { stream: StreamId, arrived: bool },
    /// A worker tries to join.
    Dial { machine: usize, process: u32 },
    /// A worker has computed a leaf.
    Leaf { stream: StreamId, generation: u64 },
    /// A worker says that it is alive.
    Beat { stream: StreamId },
    /// A coordinator says that it is alive.
    CoordinatorBeat { coordinator: CoordinatorId },
    /// The timer of a coordinator is due.
    Timer { coordinator: CoordinatorId, generation: u64 },
    /// The disk has done what a journal's thread was at, or a call that was held goes on.
    Journal { coordinator: CoordinatorId, turn: u64 },
    /// A coordinator hears that the process of a local worker ended.
    Reaped { coordinator: CoordinatorId, machine: usize, process: u32 },
    /// A worker's process starts.
    Boot { machine: usize },
    /// A coordinator's process starts; `split`: although another one may be there.
    StartCoordinator { host: usize, split: bool },
    /// A start that was held goes on.
    StartGoesOn { coordinator: CoordinatorId },
    /// A worker goes on.
    ResumeWorker { machine: usize, process: u32 },
    /// A coordinator goes on.
    ResumeCoordinator { coordinator: CoordinatorId },
    /// A link is cut or healed.
    SetLink { machine: usize, host: usize, down_cut: bool, up_cut: bool },
    /// An armed crash has waited long enough for its point.
    ArmedCrash { coordinator: CoordinatorId },
    /// There is room on the disk again.
    DiskHasRoom,
    /// The next fault.
    Fault,
    /// The last fault was injected: everything is repaired.
    Repair,
}

/// A simulated cluster.
pub struct Cluster {
    pub(crate) knobs: Knobs,
    /// Microseconds since the beginning.
    pub(crate) now: u64,
    queue: BinaryHeap<Reverse<(u64, u64, SimEvent)>>,
    sequence: u64,
    pub(crate) oracle: Oracle,
    pub(crate) arithmetic: Arithmetic,
    pub(crate) network_rng: Rng,
    pub(crate) worker_rng: Rng,
    pub(crate) fault_rng: Rng,
    pub(crate) disk_rng: Rng,
    pub(crate) network: Network,
    pub(crate) machines: Vec<Machine>,
    /// By number; `None`: it is no more, or is being driven.
    pub(crate) coordinators: Vec<Option<Box<Coordinator>>>,
    pub(crate) disk: VirtualDisk,
    pub(crate) armed: Option<Armed>,
    pub(crate) stall: Option<ArmedStall>,
    pub(crate) starting: Option<Starting>,
    /// Reused.
    pub(crate) commands: Vec<Command>,
    /// A bit of the disk has flipped; one is enough for a run.
    pub(crate) rotten: bool,
    highest_term: u64,
    /// The process with the highest term.
    newest: Option<CoordinatorId>,
    /// When the last fault was over.
    pub(crate) repaired: Option<u64>,
    done: bool,
    invariants: Vec<Box<dyn Invariant>>,
    failure: Option<Failure>,
    pub(crate) trace: Trace,
    statistics: Statistics,
}

impl Cluster {
    /// A cluster before its first event.
    pub fn new(knobs: Knobs, trace: Trace) -> Self {
        let seed = knobs.seed;
        let disk = VirtualDisk::new(Path::new(storage::FOLDER), Rng::new(seed, Subject::Disk));
        disk.set_faults(knobs.disk_errors, knobs.failed_syncs);
        let mut cluster = Self {
            now: 0,
            queue: BinaryHeap::new(),
            sequence: 0,
            oracle: Oracle::train(&knobs),
            arithmetic: Arithmetic::new(seed, knobs.kernels),
            network_rng: Rng::new(seed, Subject::Network),
            worker_rng: Rng::new(seed, Subject::Workers),
            fault_rng: Rng::new(seed, Subject::Faults),
            disk_rng: Rng::new(seed, Subject::DiskTimes),
            network: Network::default(),
            machines: (0..MAX_WORKERS).map(|_| Machine::default()).collect(),
            coordinators: Vec::new(),
            disk,
            armed: None,
            stall: None,
            starting: None,
            commands: Vec::new(),
            rotten: false,
            highest_term: 0,
            newest: None,
            repaired: None,
            done: false,
            invariants: invariants::all(seed),
            failure: None,
            trace,
            statistics: Statistics::default(),
            knobs,
        };
        cluster.at(0, SimEvent::StartCoordinator { host: 0, split: false });
        if !cluster.knobs.local {
            for machine in 0..cluster.knobs.workers as usize {
                let at = cluster.worker_rng.below(50_000);
                cluster.machines[machine].booting = true;
                cluster.at(at, SimEvent::Boot { machine });
            }
        }
        cluster.at(cluster.knobs.faulty_us, SimEvent::Repair);
        if cluster.knobs.faults.iter().any(|weight| *weight > 0) {
            cluster.at(cluster.knobs.fault_every_us / 2, SimEvent::Fault);
        }
        cluster
    }

    /// Lets everything happen until the run is over or an invariant is broken.
    pub fn run(&mut self) {
        let mut at_once = 0;
        while !self.done && self.failure.is_none() {
            let Some(Reverse((at, _, happening))) = self.queue.pop() else {
                self.fail(
                    "time goes on",
                    "nothing is going to happen any more, and the run is not over".to_string(),
                );
                break;
            };
            at_once = if at == self.now { at_once + 1 } else { 0 };
            self.now = at;
            self.statistics.events += 1;
            if at_once > MAX_EVENTS_AT_ONCE {
                self.fail("time goes on", format!("{MAX_EVENTS_AT_ONCE} events at one instant"));
            }
            self.happen(happening);
            self.check_after_event();
        }
        self.statistics.seeds = 1;
        self.statistics.simulated_us = self.now;
        if let Some(repaired) = self.repaired {
            let took_us = self.now - repaired;
            self.statistics.longest_end_deadlines = took_us / self.knobs.deadline_us;
            self.statistics.longest_end_percent = took_us * 100 / self.knobs.liveness_us();
        }
        for (class, count) in self.disk.faults() {
            *self.statistics.faults.entry(class).or_default() += count;
        }
    }

    /// What went wrong, and what happened; the end of a simulation.
    pub fn into_results(self) -> (Option<Failure>, Statistics, Trace) {
        (self.failure, self.statistics, self.trace)
    }

    /// Notes that production code gave up.
    pub fn panicked(&mut self, message: String) {
        self.failure = None;
        self.statistics.seeds = 1;
        self.fail("no assertion fails", message);
    }

    /// Has something happen later.
    pub(crate) fn at(&mut self, at: u64, happening: SimEvent) {
        self.sequence += 1;
        self.queue.push(Reverse((at, self.sequence, happening)));
    }

    /// Whether faults are injected still.
    pub(crate) fn faulty(&self) -> bool {
        self.repaired.is_none()
    }

    /// Judges and records what happened.
    pub(crate) fn observe(&mut self, observed: Observed) {
        let Self { invariants, knobs, oracle, disk, now, .. } = self;
        let view = View { knobs, oracle, disk, now: *now };
        let mut broken = None;
        for invariant in invariants {
            if let Err(reason) = invariant.observe(&observed, &view) {
                broken.get_or_insert((invariant.name(), reason));
            }
        }
        match &observed {
            Observed::Started { coordinator, term, .. } if *term > self.highest_term => {
                self.highest_term = *term;
                self.newest = Some(*coordinator);
            }
            Observed::Fault { class, .. } => self.count(class),
            Observed::RefusedTerm { .. } => self.count("lower term refused"),
            Observed::Stale { .. } => self.count("stale message ignored"),
            Observed::Recorded { proof: Proof::Proved, .. } => self.count("step proved against its record"),
            Observed::StepWaits { lost: true, .. } => self.count("step lost by the queue"),
            Observed::Behind { .. } => self.count("queue overflowed"),
            Observed::CaughtUp { .. } => self.count("disk caught up after an overflow"),
            Observed::NotStarted { .. } => self.count("coordinator could not start"),
            Observed::Ended { outcome: Some(outcome), .. } => {
                *self.statistics.outcomes.entry(outcome_name(*outcome)).or_default() += 1;
            }
            _ => {}
        }
        if !observed.is_routine() {
            self.trace.push(self.now, observed);
        }
        if let Some((invariant, reason)) = broken {
            self.fail(invariant, reason);
        }
    }

    /// Counts something for the table at the end.
    pub(crate) fn count(&mut self, class: &'static str) {
        *self.statistics.faults.entry(class).or_default() += 1;
    }

    pub(crate) fn count_crash(&mut self, crash: Crash) {
        let Crash { point, file } = crash;
        let name = if file.is_empty() { point.to_string() } else { format!("{point}: {file}") };
        *self.statistics.crashes.entry(name).or_default() += 1;
    }

    pub(crate) fn count_stall(&mut self, call: &'static str, file: &'static str) {
        *self.statistics.stalls.entry(format!("{call}: {file}")).or_default() += 1;
    }

    /// The run goes on in another process, or is over.
    pub(crate) fn over(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Done => self.done = true,
            // The one that has taken over goes on.
            Outcome::Superseded { .. } if self.newest_running().is_some() => {}
            // A scheduler resumes the run, also if who was about to take it over could not start.
            _ => self.restart_later(),
        }
    }

    /// Starts a coordinator again after a while.
    pub(crate) fn restart_later(&mut self) {
        let [low, high] = self.knobs.restart_us;
        let at = self.now + self.fault_rng.between(low, high);
        let host = if self.fault_rng.happens(900) { 0 } else { 1 };
        self.at(at, SimEvent::StartCoordinator { host, split: false });
    }

    /// The coordinators that are there.
    pub(crate) fn running(&self) -> impl Iterator<Item = CoordinatorId> {
        self.coordinators
            .iter()
            .enumerate()
            .filter(|(_, coordinator)| coordinator.is_some())
            .map(|(id, _)| id)
    }

    /// The process with the highest term, if it is there.
    pub(crate) fn newest_running(&self) -> Option<CoordinatorId> {
        self.newest.filter(|newest| self.coordinators[*newest].is_some())
    }

    /// The coordinator that answers on a machine.
    pub(crate) fn running_at(&self, host: usize) -> Option<CoordinatorId> {
        self.running().filter(|id| self.coordinators[*id].as_ref().is_some_and(|c| c.host == host)).last()
    }

    /// The machine that a worker dials: of two coordinators either.
    pub(crate) fn dialled_host(&mut self, machine: usize) -> Option<usize> {
        if let Some(parent) = self.machines[machine].parent {
            return self.coordinators[parent].as_ref().map(|coordinator| coordinator.host);
        }
        let hosts: Vec<usize> = (0..HOSTS).filter(|host| self.running_at(*host).is_some()).collect();
        (!hosts.is_empty()).then(|| self.worker_rng.pick(&hosts))
    }

    fn fail(&mut self, invariant: &'static str, reason: String) {
        let at_us = self.now;
        self.failure.get_or_insert(Failure { invariant, reason, at_us });
    }

    fn check_after_event(&mut self) {
        let Self { invariants, knobs, oracle, disk, now, .. } = self;
        let view = View { knobs, oracle, disk, now: *now };
        let mut checked =
            invariants.iter_mut().map(|invariant| (invariant.after_event(&view), invariant.name()));
        if let Some((Err(reason), name)) = checked.find(|(result, _)| result.is_err()) {
            self.fail(name, reason);
        }
    }

    fn happen(&mut self, happening: SimEvent) {
        if self.waits(happening) {
            return;
        }
        match happening {
            SimEvent::Up { stream, arrived } => {
                if let Some(message) = self.arrive_up(stream, arrived) {
                    self.coordinator_receives(stream, message);
                }
            }
            SimEvent::Down { stream, arrived } => {
                if let Some(message) = self.arrive_down(stream, arrived) {
                    self.worker_receives(stream, message);
                }
            }
            SimEvent::Weights { stream, arrived } => {
                if let Some((term, step, weights)) = self.arrive_weights(stream, arrived) {
                    self.worker_gets_weights(stream, term, step, weights);
                }
            }
            SimEvent::Dial { machine, process } => self.dial(machine, process),
            SimEvent::Leaf { stream, generation } => self.leaf_done(stream, generation),
            SimEvent::Beat { stream } => self.beat(stream),
            SimEvent::CoordinatorBeat { coordinator } => self.coordinator_beat(coordinator),
            SimEvent::Timer { coordinator, generation } => self.timer_due(coordinator, generation),
            SimEvent::Journal { coordinator, turn } => self.journal_goes_on(coordinator, turn),
            SimEvent::Reaped { coordinator, machine, process } => self.reap(coordinator, machine, process),
            SimEvent::Boot { machine } => self.boot(machine),
            SimEvent::StartCoordinator { host, split } => {
                if (split && self.faulty()) || self.newest_running().is_none() {
                    self.start_coordinator(host);
                }
            }
            SimEvent::StartGoesOn { coordinator } => self.start_goes_on(coordinator),
            SimEvent::ResumeWorker { machine, process } => self.resume_worker(machine, process),
            SimEvent::ResumeCoordinator { coordinator } => self.resume_coordinator(coordinator),
            SimEvent::SetLink { machine, host, down_cut, up_cut } => {
                if self.faulty() {
                    self.set_link(machine, host, Link { down_cut, up_cut });
                }
            }
            SimEvent::ArmedCrash { coordinator } => {
                if self.armed.take().is_some() && self.faulty() {
                    self.kill_coordinator(coordinator, Crash::at(IDLE), false);
                }
            }
            SimEvent::DiskHasRoom => {
                self.disk.set_full(false);
                self.observe(Observed::DiskHasRoom);
            }
            SimEvent::Fault => self.next_fault(),
            SimEvent::Repair => self.repair(),
        }
    }
}

fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Done => "done",
        Outcome::Interrupted { .. } => "interrupted",
        Outcome::Diverged { .. } => "diverged",
        Outcome::NotJoined { .. } => "too few workers joined",
        Outcome::LostWorkers { .. } => "lost its workers",
        Outcome::NoProgress { .. } => "made no progress",
        Outcome::Contradicted { .. } => "contradicted",
        Outcome::Superseded { .. } => "superseded",
    }
}

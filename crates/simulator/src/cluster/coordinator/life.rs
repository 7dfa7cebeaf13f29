//! How processes of the coordinator begin and end, and how their local workers are started again.

use std::collections::BTreeMap;
use std::time::Duration;

use lockstep_control::{Control, ControlSettings, Event, Outcome, Task};
use lockstep_proto::Fence;
use lockstep_reduction::TaskSums;

use super::Coordinator;
use super::journal::Journal;
use crate::cluster::crash::Crash;
use crate::cluster::held::{HeldThread, Progress};
use crate::cluster::{Cluster, SimEvent};
use crate::fault_kind::FaultKind;
use crate::knobs::MAX_WORKERS;
use crate::message::{Down, RUN};
use crate::observed::{CoordinatorId, Observed};
use crate::storage::{Kept, Storage};

/// The longest pause before a local worker is started again.
const LONGEST_BACK_OFF_US: u64 = 2_000_000;

/// A process that is held at a call of the disk while it starts.
#[derive(Debug)]
pub struct Starting {
    pub id: CoordinatorId,
    host: usize,
    thread: HeldThread<Result<Kept, String>>,
}

impl Cluster {
    /// Starts a process of the coordinator on a machine: a new term, the newest state, a new control plane.
    pub(crate) fn start_coordinator(&mut self, host: usize) {
        let id = self.coordinators.len();
        self.coordinators.push(None);
        self.arm_start(id);
        let (mount, knobs, initial) = (self.disk.open(id), self.knobs.clone(), self.arithmetic.initial());
        let open = move || Storage::open(&mount, &knobs, &initial);
        if !self.arm_held_start(id) {
            return self.opened(id, host, open());
        }
        let progress = HeldThread::start(&self.disk, open);
        self.disk.disarm_stall();
        match progress {
            Progress::Done(opened) => self.opened(id, host, opened),
            Progress::Held { thread, call, file } => {
                self.observe(Observed::Held { coordinator: id, call, file });
                self.count_stall(call, file);
                self.starting = Some(Starting { id, host, thread });
                let until = self.now + self.a_while();
                self.at(until, SimEvent::StartGoesOn { coordinator: id });
                let second = self.fault_rng.between(self.now, until);
                self.at(second, SimEvent::StartCoordinator { host: 1 - host, split: true });
                let detail = format!("beside coordinator {id}, which starts until {} ms", until / 1000);
                self.observe(Observed::Fault { class: FaultKind::SplitBrain.name(), detail });
            }
        }
    }

    /// A start that was held at a call of the disk goes on.
    pub(crate) fn start_goes_on(&mut self, coordinator: CoordinatorId) {
        let Some(Starting { id, host, thread }) = self.starting.take_if(|held| held.id == coordinator) else {
            return;
        };
        let Progress::Done(opened) = thread.go_on() else { unreachable!("one call is held") };
        self.opened(id, host, opened);
    }

    fn opened(&mut self, id: CoordinatorId, host: usize, started: Result<Kept, String>) {
        let initial = self.arithmetic.initial();
        let crash = self.disk_crash(id);
        self.disk.disarm();
        let started = match (crash, started) {
            (None, Ok(started)) => started,
            (crash, started) => {
                let reason = crash.map_or(started.err().unwrap_or_default(), |crash| crash.point.to_string());
                self.observe(Observed::NotStarted { reason });
                crash.into_iter().for_each(|crash| self.count_crash(crash));
                self.disk.close(id);
                return self.restart_later();
            }
        };
        let Kept { term, storage, restored } = started;
        let (done, weights, examples) = match restored {
            Some(restored) => (Some(restored.after), restored.weights, restored.examples),
            None => (None, initial, 0),
        };
        let settings = self.settings(done);
        self.observe(Observed::Started { coordinator: id, term, done, weights: weights.clone(), examples });
        self.coordinators[id] = Some(Box::new(Coordinator {
            id,
            host,
            fence: Fence { run_id: RUN, term },
            started_us: self.now,
            jumped_us: 0,
            control: Control::new(settings),
            members: BTreeMap::new(),
            joins: 0,
            timer: None,
            timer_generation: 0,
            sums: TaskSums::new(()),
            weights,
            step: done.map_or(0, |done| done.step),
            examples,
            journal: Journal::new(self.knobs.backlog, storage),
            arrived: None,
            restarts: [0; MAX_WORKERS],
            paused: false,
            waiting: Vec::new(),
        }));
        self.drive(id, Event::Started);
        if self.knobs.local {
            for machine in 0..self.knobs.workers as usize {
                self.machines[machine].parent = Some(id);
                self.boot(machine);
            }
        }
        self.at(self.now + self.knobs.heartbeat_us(), SimEvent::CoordinatorBeat { coordinator: id });
    }

    fn settings(&self, done: Option<Task>) -> ControlSettings {
        let knobs = &self.knobs;
        ControlSettings {
            tasks: knobs.task_order(),
            done,
            expected_workers: knobs.workers,
            local: knobs.local,
            join_timeout: (knobs.join_timeout_us > 0).then(|| Duration::from_micros(knobs.join_timeout_us)),
            patience: Duration::from_micros(knobs.patience_us),
            deadline: Duration::from_micros(knobs.deadline_us),
            checkpoint_every: Duration::from_micros(knobs.checkpoint_us),
        }
    }

    /// A local worker's process ended, and its coordinator is told.
    pub(crate) fn reap(&mut self, id: CoordinatorId, machine: usize, process: u32) {
        let Some(coordinator) = self.coordinators[id].as_mut() else { return };
        coordinator.restarts[machine] += 1;
        let restarts = coordinator.restarts[machine];
        let restarting = restarts <= self.knobs.max_restarts;
        let streams = &self.network.streams;
        let mut members = coordinator.members.iter();
        let worker = members.find(|(_, stream)| {
            let stream = &streams[**stream];
            stream.machine == machine && stream.process == process
        });
        let worker = worker.map(|(worker, _)| *worker);
        if restarting {
            let back_off = (50_000 << restarts.min(6)).min(LONGEST_BACK_OFF_US);
            self.machines[machine].booting = true;
            self.at(self.now + back_off, SimEvent::Boot { machine });
        }
        self.drive(id, Event::ProcessEnded { worker, restarting });
    }

    /// The run, or this process of it, is over: what waits for the disk is written, and everybody is told.
    pub(super) fn finish(&mut self, id: CoordinatorId, outcome: Outcome) {
        if !self.close_journal(id) {
            return;
        }
        let Some(coordinator) = self.coordinators[id].take() else { return };
        let fence = coordinator.fence;
        for stream in coordinator.members.values() {
            if !matches!(outcome, Outcome::Superseded { .. }) {
                self.send_down(*stream, Down::Finish { fence });
            }
        }
        self.observe(Observed::Ended { coordinator: id, outcome: Some(outcome), point: "" });
        self.coordinator_gone(id, false);
        self.over(outcome);
    }

    /// A process of the coordinator is killed; `silently`: with its machine, so that no stream says so.
    pub(crate) fn kill_coordinator(&mut self, id: CoordinatorId, crash: Crash, silently: bool) {
        let Some(mut coordinator) = self.coordinators[id].take() else { return };
        self.break_off_journal(&mut coordinator);
        self.observe(Observed::Ended { coordinator: id, outcome: None, point: crash.point });
        self.count_crash(crash);
        self.coordinator_gone(id, silently);
        self.restart_later();
    }

    /// Its streams end, and its local workers with it.
    fn coordinator_gone(&mut self, id: CoordinatorId, silently: bool) {
        self.disk.close(id);
        self.stall.take_if(|stall| stall.coordinator == id);
        if silently && self.running().next().is_none() && self.starting.is_none() {
            self.disk.crash();
        }
        for stream in 0..self.network.streams.len() {
            let ends = &self.network.streams[stream];
            if ends.coordinator == id && ends.coordinator_open {
                self.close_coordinator_end(stream, silently);
            }
        }
        for machine in 0..self.machines.len() {
            if self.machines[machine].parent == Some(id) {
                self.end_process(machine, true);
                self.machines[machine].parent = None;
            }
        }
    }
}

//! The faults that are injected while a cluster is in its faulty phase, one after the other, as the knobs weigh them.
//!
//! Messages that are lost, late or repeated, and calls of the disk that fail, are drawn where they occur instead.

use std::ops::Range;

use lockstep_control::{Event, LeaveCause, Signal};

use crate::cluster::coordinator::ArmedStall;
use crate::cluster::crash::{CALLS_AHEAD, Crash};
use crate::cluster::network::{HOSTS, Link};
use crate::cluster::{Cluster, SimEvent};
use crate::fault_kind::FaultKind;
use crate::knobs::MAX_WORKERS;
use crate::observed::{CoordinatorId, Observed};
use crate::storage;

/// A clock jumps ahead by so many deadlines at most.
const LONGEST_JUMP_DEADLINES: u64 = 40;

/// A call of the disk takes so many deadlines at most, but for one that takes until everything is repaired.
const LONGEST_STALL_DEADLINES: u64 = 40;

/// Where a checkpoint's manifest says of which step it is.
fn step_of(content: &[u8]) -> Option<Range<usize>> {
    const FIELD: &[u8] = b"\"step\": ";
    let begin = content.windows(FIELD.len()).position(|window| window == FIELD)? + FIELD.len();
    let digits = content[begin..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    Some(begin..begin + digits)
}

impl Cluster {
    /// Injects the next fault and has another one follow.
    pub(crate) fn next_fault(&mut self) {
        if !self.faulty() {
            return;
        }
        let total: u32 = self.knobs.faults.iter().sum();
        let mut ticket = self.fault_rng.below(total.into()) as u32;
        let kind = FaultKind::ALL.into_iter().zip(self.knobs.faults).find(|(_, weight)| {
            let hit = ticket < *weight;
            ticket = ticket.saturating_sub(*weight);
            hit
        });
        if let Some((kind, _)) = kind
            && let Some(detail) = self.inject(kind)
        {
            self.observe(Observed::Fault { class: kind.name(), detail });
        }
        let mean = self.knobs.fault_every_us;
        let at = self.now + self.fault_rng.between(mean / 4, 2 * mean);
        self.at(at, SimEvent::Fault);
    }

    /// Injects a fault; `None` if there is nobody whom it could happen to.
    fn inject(&mut self, kind: FaultKind) -> Option<String> {
        match kind {
            FaultKind::WorkerKill | FaultKind::WorkerPower | FaultKind::WorkerLeave => {
                let machine = self.some_worker()?;
                if kind == FaultKind::WorkerLeave
                    && let Some(stream) = self.machines[machine].stream()
                {
                    self.close_worker_end(stream, LeaveCause::Closed, false);
                }
                self.end_process(machine, kind == FaultKind::WorkerPower);
                Some(format!("machine {machine}"))
            }
            FaultKind::WorkerPause => {
                let machine = self.some_worker()?;
                let until = self.now + self.a_while();
                let process = self.machines[machine].process.as_mut()?;
                process.paused = true;
                let process = process.id;
                self.at(until, SimEvent::ResumeWorker { machine, process });
                Some(format!("machine {machine} until {} ms", until / 1000))
            }
            FaultKind::WorkerSlow | FaultKind::WorkerHang => {
                let machine = self.some_worker()?;
                let until = self.now + self.a_while();
                let machine_state = &mut self.machines[machine];
                match kind {
                    FaultKind::WorkerSlow => machine_state.slow_until_us = until,
                    _ => machine_state.hung_until_us = until,
                }
                Some(format!("machine {machine} until {} ms", until / 1000))
            }
            FaultKind::Join => {
                let from = self.knobs.workers as usize;
                let free = |machine: &usize| {
                    self.machines[*machine].process.is_none() && !self.machines[*machine].booting
                };
                let machine = (from..MAX_WORKERS).find(free).filter(|_| !self.knobs.local)?;
                self.machines[machine].booting = true;
                self.at(self.now, SimEvent::Boot { machine });
                Some(format!("machine {machine}"))
            }
            FaultKind::StreamBreak => {
                let machine = self.some_worker()?;
                let stream = self.machines[machine].stream()?;
                self.break_stream(stream);
                Some(format!("machine {machine}"))
            }
            FaultKind::PartitionFull
            | FaultKind::PartitionDown
            | FaultKind::PartitionUp
            | FaultKind::PartitionFlap
            | FaultKind::PartitionSwizzle => self.partition(kind),
            FaultKind::CoordinatorKill
            | FaultKind::CoordinatorPower
            | FaultKind::CoordinatorPause
            | FaultKind::CoordinatorSignal
            | FaultKind::ClockJump => {
                let coordinator = self.some_coordinator()?;
                self.inject_into(coordinator, kind)
            }
            FaultKind::SplitBrain => self.split_brain(),
            FaultKind::DiskFull => {
                self.disk.set_full(true);
                let until = self.now + self.a_while();
                self.at(until, SimEvent::DiskHasRoom);
                Some(format!("until {} ms", until / 1000))
            }
            FaultKind::DiskStall => self.stall(),
            FaultKind::BitRot => self.rot(),
        }
    }

    fn inject_into(&mut self, coordinator: CoordinatorId, kind: FaultKind) -> Option<String> {
        match kind {
            FaultKind::CoordinatorKill => {
                if self.armed.is_some() {
                    return None;
                }
                let point = self.arm_crash(coordinator);
                Some(format!("coordinator {coordinator}, {point}"))
            }
            FaultKind::CoordinatorPower => {
                self.kill_coordinator(coordinator, Crash::at("its machine lost power"), true);
                Some(format!("coordinator {coordinator}"))
            }
            FaultKind::CoordinatorPause => {
                let until = self.now + self.a_while();
                self.coordinators[coordinator].as_mut()?.paused = true;
                self.observe(Observed::Paused { coordinator });
                self.at(until, SimEvent::ResumeCoordinator { coordinator });
                Some(format!("coordinator {coordinator} until {} ms", until / 1000))
            }
            FaultKind::CoordinatorSignal => {
                let signal = self.fault_rng.pick(&[Signal::Terminate, Signal::Interrupt]);
                if self.coordinators[coordinator].as_ref()?.paused {
                    return None;
                }
                self.drive(coordinator, Event::Stopped { signal });
                Some(format!("coordinator {coordinator}, {signal}"))
            }
            _ => {
                let most = LONGEST_JUMP_DEADLINES * self.knobs.deadline_us;
                let by = self.fault_rng.magnitude(1_000, most);
                self.jump_clock(coordinator, by);
                Some(format!("coordinator {coordinator} by {} ms", by / 1000))
            }
        }
    }

    fn partition(&mut self, kind: FaultKind) -> Option<String> {
        if self.knobs.local {
            // They are on one machine.
            return None;
        }
        let host = self.fault_rng.below(HOSTS as u64) as usize;
        let machine = self.some_worker()?;
        let end = self.now + self.a_while();
        let cut = match kind {
            FaultKind::PartitionDown => Link { down_cut: true, up_cut: false },
            FaultKind::PartitionUp => Link { down_cut: false, up_cut: true },
            _ => Link { down_cut: true, up_cut: true },
        };
        match kind {
            FaultKind::PartitionFlap => {
                let times = 2 * self.fault_rng.between(2, 8);
                for time in 0..times {
                    let at = self.now + (end - self.now) * time / times;
                    self.link_at(at, machine, host, if time % 2 == 0 { cut } else { Link::default() });
                }
                self.link_at(end, machine, host, Link::default());
            }
            FaultKind::PartitionSwizzle => {
                for machine in 0..MAX_WORKERS {
                    if self.fault_rng.happens(600) {
                        let middle = self.now + (end - self.now) / 2;
                        let from = self.fault_rng.between(self.now, middle);
                        let to = self.fault_rng.between(middle, end);
                        self.link_at(from, machine, host, cut);
                        self.link_at(to, machine, host, Link::default());
                    }
                }
            }
            _ => {
                self.set_link(machine, host, cut);
                self.link_at(end, machine, host, Link::default());
            }
        }
        Some(format!("between machine {machine} and place {host} until {} ms", end / 1000))
    }

    fn link_at(&mut self, at: u64, machine: usize, host: usize, link: Link) {
        let Link { down_cut, up_cut } = link;
        self.at(at, SimEvent::SetLink { machine, host, down_cut, up_cut });
    }

    /// A second coordinator takes the run over while some workers, or none, can still reach the first one.
    fn split_brain(&mut self) -> Option<String> {
        let running: Vec<CoordinatorId> = self.running().collect();
        let [first] = running[..] else { return None };
        if self.knobs.local {
            return None;
        }
        let host = self.coordinators[first].as_ref()?.host;
        let end = self.now + self.a_while();
        for machine in 0..MAX_WORKERS {
            if self.fault_rng.happens(600) {
                self.set_link(machine, host, Link { down_cut: true, up_cut: true });
                self.link_at(end, machine, host, Link::default());
            }
        }
        self.at(self.now, SimEvent::StartCoordinator { host: 1 - host, split: true });
        Some(format!("beside coordinator {first}, until {} ms", end / 1000))
    }

    /// A call of the disk to come takes from a moment to many deadlines, or until everything is repaired.
    fn stall(&mut self) -> Option<String> {
        let coordinator = self.some_coordinator()?;
        if self.stall.is_some() {
            return None;
        }
        let calls = if self.fault_rng.happens(500) { 0 } else { self.fault_rng.below(CALLS_AHEAD) };
        let most = LONGEST_STALL_DEADLINES * self.knobs.deadline_us;
        let lasts_us =
            if self.fault_rng.happens(800) { Some(self.fault_rng.magnitude(1_000, most)) } else { None };
        self.disk.arm_stall(coordinator, calls);
        self.stall = Some(ArmedStall { coordinator, lasts_us });
        let length = lasts_us.map_or("until everything is repaired".to_string(), |lasts_us| {
            format!("for {} ms", lasts_us / 1000)
        });
        Some(format!("coordinator {coordinator}, after {calls} calls, {length}"))
    }

    /// A bit of one checkpoint, or of the log: never so that nothing is left to go on from.
    fn rot(&mut self) -> Option<String> {
        let folder = storage::path("checkpoints");
        let names = self.disk.names();
        let mut at_rest: Vec<_> = names.iter().filter(|path| path.parent() == Some(&folder)).collect();
        let log = storage::path("steps.log");
        if at_rest.len() < 6 || self.rotten {
            // Two files a checkpoint: fewer than three of them.
            return None;
        }
        at_rest.push(&log);
        let path = at_rest[self.fault_rng.below(at_rest.len() as u64) as usize];
        self.rotten = true;
        // Of a manifest's bits only few decide anything; the step that it is of does.
        let aims_at_step = self.fault_rng.happens(500);
        let rotted = self
            .disk
            .rot(path, |content| step_of(content).filter(|_| aims_at_step).unwrap_or(0..content.len()))?;
        // Only the process that starts next reads it, and a new checkpoint soon takes its place.
        if self.armed.is_none()
            && self.fault_rng.happens(500)
            && let Some(coordinator) = self.some_coordinator()
        {
            self.arm_crash_now(coordinator);
        }
        Some(rotted)
    }

    /// A machine with a worker that is not stopped.
    fn some_worker(&mut self) -> Option<usize> {
        let running: Vec<usize> = (0..MAX_WORKERS)
            .filter(|machine| self.machines[*machine].process.as_ref().is_some_and(|process| !process.paused))
            .collect();
        (!running.is_empty()).then(|| self.fault_rng.pick(&running))
    }

    /// A coordinator, mostly the newest.
    fn some_coordinator(&mut self) -> Option<CoordinatorId> {
        let running: Vec<CoordinatorId> = self.running().collect();
        (!running.is_empty()).then(|| self.fault_rng.pick(&running))
    }

    pub(crate) fn a_while(&mut self) -> u64 {
        let [low, high] = self.knobs.lasting_us;
        self.fault_rng.magnitude(low, high)
    }
}

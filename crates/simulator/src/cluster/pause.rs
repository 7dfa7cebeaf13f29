//! Processes that are stopped for a while: what happens to them waits, and happens when they go on. And the end of all
//! faults.

use crate::cluster::crash::Crash;
use crate::cluster::network::{HOSTS, Link, StreamId};
use crate::cluster::{Cluster, SimEvent};
use crate::observed::{CoordinatorId, Observed};

impl Cluster {
    /// Whether a happening waits because its process is stopped.
    pub(crate) fn waits(&mut self, happening: SimEvent) -> bool {
        match happening {
            SimEvent::Up { stream, arrived } => {
                let coordinator = self.network.streams[stream].coordinator;
                (arrived || !self.network.link(stream).up_cut)
                    && self.coordinator_waits(coordinator, happening)
            }
            SimEvent::Timer { coordinator, .. }
            | SimEvent::Journal { coordinator, .. }
            | SimEvent::CoordinatorBeat { coordinator }
            | SimEvent::Reaped { coordinator, .. } => self.coordinator_waits(coordinator, happening),
            SimEvent::Down { stream, arrived } | SimEvent::Weights { stream, arrived } => {
                (arrived || !self.network.link(stream).down_cut) && self.worker_waits(stream, happening)
            }
            SimEvent::Leaf { stream, .. } | SimEvent::Beat { stream } => self.worker_waits(stream, happening),
            SimEvent::Dial { machine, process } => {
                let worker = self.machines[machine].process.as_mut().filter(|worker| worker.id == process);
                match worker {
                    Some(worker) if worker.paused => worker.waiting.push(happening),
                    Some(_) => return false,
                    // A process that is no more does not dial.
                    None => {}
                }
                true
            }
            _ => false,
        }
    }

    fn coordinator_waits(&mut self, coordinator: CoordinatorId, happening: SimEvent) -> bool {
        let coordinator = self.coordinators[coordinator].as_mut().filter(|coordinator| coordinator.paused);
        coordinator.map(|coordinator| coordinator.waiting.push(happening)).is_some()
    }

    fn worker_waits(&mut self, stream: StreamId, happening: SimEvent) -> bool {
        let (machine, process) = (self.network.streams[stream].machine, self.network.streams[stream].process);
        let worker = self.machines[machine].process.as_mut();
        let worker = worker.filter(|worker| worker.id == process && worker.paused);
        worker.map(|worker| worker.waiting.push(happening)).is_some()
    }

    pub(crate) fn resume_worker(&mut self, machine: usize, process: u32) {
        let worker = self.machines[machine].process.as_mut().filter(|worker| worker.id == process);
        let Some(worker) = worker else { return };
        worker.paused = false;
        let waiting = std::mem::take(&mut worker.waiting);
        self.go_on(waiting);
    }

    pub(crate) fn resume_coordinator(&mut self, id: CoordinatorId) {
        let Some(coordinator) = self.coordinators[id].as_mut() else { return };
        coordinator.paused = false;
        let waiting = std::mem::take(&mut coordinator.waiting);
        let numbers = waiting.iter().filter_map(|happening| match happening {
            SimEvent::Up { stream, .. } => self.network.streams[*stream].number,
            _ => None,
        });
        let unread = numbers.collect();
        self.observe(Observed::Resumed { coordinator: id, unread, jumped_us: 0 });
        self.go_on(waiting);
    }

    /// What waited happens now, in its order, but for timers: those of a coordinator come after what has arrived.
    fn go_on(&mut self, mut waiting: Vec<SimEvent>) {
        let timers_first = self.knobs.timers_first;
        waiting.sort_by_key(|happening| match happening {
            SimEvent::Beat { .. } if timers_first => 0,
            SimEvent::Timer { .. } => 2,
            _ => 1,
        });
        for happening in waiting {
            let happening = match happening {
                // What has arrived is there, whatever becomes of the link.
                SimEvent::Up { stream, .. } => SimEvent::Up { stream, arrived: true },
                SimEvent::Down { stream, .. } => SimEvent::Down { stream, arrived: true },
                SimEvent::Weights { stream, .. } => SimEvent::Weights { stream, arrived: true },
                other => other,
            };
            self.at(self.now, happening);
        }
    }

    /// Faults stop, links heal, hosts that are down come back.
    pub(crate) fn repair(&mut self) {
        self.repaired = Some(self.now);
        self.observe(Observed::Repaired);
        self.armed = None;
        self.disk.set_faults(0, 0);
        self.disk.set_full(false);
        self.disk.disarm_stall();
        self.stall = None;
        for machine in 0..self.machines.len() {
            for host in 0..HOSTS {
                self.set_link(machine, host, Link::default());
            }
            self.machines[machine].slow_until_us = self.now;
            self.machines[machine].hung_until_us = self.now;
            if let Some(process) = self.machines[machine].process.as_ref().map(|process| process.id) {
                self.resume_worker(machine, process);
            } else if !self.knobs.local
                && !self.machines[machine].booting
                && machine < self.knobs.workers as usize
            {
                self.machines[machine].booting = true;
                self.at(self.now, SimEvent::Boot { machine });
            }
        }
        if let Some(id) = self.starting.as_ref().map(|starting| starting.id) {
            self.start_goes_on(id);
        }
        // That there are two is a fault, too, which the operator of a healthy cluster would end.
        let newest = self.newest_running();
        for coordinator in self.running().filter(|id| Some(*id) != newest).collect::<Vec<_>>() {
            self.kill_coordinator(coordinator, Crash::at("it was replaced"), false);
        }
        if let Some(newest) = newest {
            self.let_go(newest);
            self.resume_coordinator(newest);
        }
        if self.newest_running().is_none() {
            self.restart_later();
        }
    }
}

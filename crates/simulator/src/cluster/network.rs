//! The virtual network: streams between workers and coordinators, with latency, loss, partitions and breaks.
//!
//! A stream is TCP with a worker at one end: what is sent in one direction arrives in order, late, or not at all with
//! everything after it. Weights travel beside the other messages, the newest only, as the coordinator sends them.
//! Nothing here knows what the messages mean.

use std::collections::VecDeque;

use lockstep_control::{LeaveCause, WorkerId};

use crate::arithmetic::Value;
use crate::cluster::{Cluster, SimEvent};
use crate::knobs::MAX_WORKERS;
use crate::message::{Down, Up};

/// Machines that coordinators may run on.
pub const HOSTS: usize = 2;

/// How long TCP takes to send a lost segment again.
const RETRANSMISSION_US: u64 = 200_000;

/// Names a stream of a cluster.
pub type StreamId = usize;

/// All streams and links of a cluster.
#[derive(Debug, Default)]
pub struct Network {
    /// Every stream there ever was.
    pub streams: Vec<Stream>,
    /// Between every worker's machine and every coordinator's.
    pub links: [[Link; HOSTS]; MAX_WORKERS],
}

/// Whether anything passes between two machines.
#[derive(Clone, Copy, Debug, Default)]
pub struct Link {
    /// Nothing reaches the worker.
    pub down_cut: bool,
    /// Nothing reaches the coordinator.
    pub up_cut: bool,
}

/// One connection.
#[derive(Debug)]
pub struct Stream {
    /// The worker's machine.
    pub machine: usize,
    /// The worker's process there.
    pub process: u32,
    /// The coordinator's machine.
    pub host: usize,
    /// The coordinator.
    pub coordinator: usize,
    /// The number that the coordinator has given the worker; it stays with the stream.
    pub number: Option<WorkerId>,
    /// The worker still reads.
    pub worker_open: bool,
    /// The coordinator still reads.
    pub coordinator_open: bool,
    up: Lane<Up>,
    down: Lane<Down>,
    /// When the first message to the worker arrives.
    welcome_us: u64,
    /// The newest weights that wait: term, step, values.
    weights: Option<(u64, u64, Value)>,
    weights_scheduled: bool,
    weights_stalled: bool,
}

/// One direction of a stream.
#[derive(Debug)]
struct Lane<M> {
    queue: VecDeque<M>,
    /// When the last message sent arrives.
    last_us: u64,
    /// Arrivals that wait for the link.
    stalled: u32,
}

impl<M> Default for Lane<M> {
    fn default() -> Self {
        Self { queue: VecDeque::new(), last_us: 0, stalled: 0 }
    }
}

impl Network {
    /// A new stream; nothing is sent yet.
    pub fn open(&mut self, machine: usize, process: u32, host: usize, coordinator: usize) -> StreamId {
        self.streams.push(Stream {
            machine,
            process,
            host,
            coordinator,
            number: None,
            worker_open: true,
            coordinator_open: true,
            up: Lane::default(),
            down: Lane::default(),
            welcome_us: 0,
            weights: None,
            weights_scheduled: false,
            weights_stalled: false,
        });
        self.streams.len() - 1
    }

    /// The link below a stream.
    pub fn link(&self, stream: StreamId) -> Link {
        let Stream { machine, host, .. } = self.streams[stream];
        self.links[machine][host]
    }

    /// Messages on their way to the worker.
    pub fn waiting(&self, stream: StreamId) -> usize {
        self.streams[stream].down.queue.len()
    }
}

impl Cluster {
    /// Sends a message to the coordinator.
    pub(crate) fn send_up(&mut self, stream: StreamId, message: Up) {
        if !self.network.streams[stream].worker_open {
            return;
        }
        let Some(latency) = self.passage(stream) else { return };
        let lane = &mut self.network.streams[stream].up;
        lane.queue.push_back(message);
        lane.last_us = (self.now + latency).max(lane.last_us + 1);
        let at = lane.last_us;
        self.at(at, SimEvent::Up { stream, arrived: false });
    }

    /// Sends a message to the worker.
    pub(crate) fn send_down(&mut self, stream: StreamId, message: Down) {
        if !self.network.streams[stream].coordinator_open {
            return;
        }
        let Some(latency) = self.passage(stream) else { return };
        let lane = &mut self.network.streams[stream].down;
        lane.queue.push_back(message);
        lane.last_us = (self.now + latency).max(lane.last_us + 1);
        let at = lane.last_us;
        if self.network.streams[stream].welcome_us == 0 {
            self.network.streams[stream].welcome_us = at;
        }
        self.at(at, SimEvent::Down { stream, arrived: false });
    }

    /// Has weights sent to the worker, in place of older ones that wait.
    pub(crate) fn send_weights(&mut self, stream: StreamId, term: u64, step: u64, weights: Value) {
        let Some(latency) = self.passage(stream) else { return };
        let now = self.now;
        let stream_id = stream;
        let stream = &mut self.network.streams[stream];
        stream.weights = Some((term, step, weights));
        if !stream.weights_scheduled {
            stream.weights_scheduled = true;
            let at = (now + latency).max(stream.welcome_us + 1);
            self.at(at, SimEvent::Weights { stream: stream_id, arrived: false });
        }
    }

    /// How long a message sent now takes; `None` if the stream breaks instead.
    fn passage(&mut self, stream: StreamId) -> Option<u64> {
        let [low, high] = self.knobs.latency_us;
        let mut latency = self.network_rng.between(low, high);
        if self.faulty() && !self.knobs.local {
            if self.network_rng.happens(self.knobs.delay) {
                latency *= self.network_rng.between(2, 50);
                self.count("message delayed");
            }
            if self.network_rng.happens(self.knobs.loss) {
                self.count("message lost");
                if self.network_rng.happens(200) {
                    self.break_stream(stream);
                    return None;
                }
                latency += RETRANSMISSION_US;
            }
        }
        Some(latency)
    }

    /// The next message to the coordinator, if it gets through now or has before.
    pub(crate) fn arrive_up(&mut self, stream: StreamId, arrived: bool) -> Option<Up> {
        let cut = !arrived && self.network.link(stream).up_cut;
        let stream = &mut self.network.streams[stream];
        if cut {
            stream.up.stalled += 1;
            return None;
        }
        stream.up.queue.pop_front().filter(|_| stream.coordinator_open || self.knobs.late_arrivals)
    }

    /// The next message to the worker, if it gets through now or has before.
    pub(crate) fn arrive_down(&mut self, stream: StreamId, arrived: bool) -> Option<Down> {
        let cut = !arrived && self.network.link(stream).down_cut;
        let stream = &mut self.network.streams[stream];
        if cut {
            stream.down.stalled += 1;
            return None;
        }
        stream.down.queue.pop_front().filter(|_| stream.worker_open)
    }

    /// The weights that wait for the worker, if they get through now or have before.
    pub(crate) fn arrive_weights(&mut self, stream: StreamId, arrived: bool) -> Option<(u64, u64, Value)> {
        let cut = !arrived && self.network.link(stream).down_cut;
        let stream = &mut self.network.streams[stream];
        if cut {
            stream.weights_stalled = true;
            return None;
        }
        stream.weights_scheduled = false;
        stream.weights.take().filter(|_| stream.worker_open)
    }

    /// Changes a link; what waited for it goes on.
    pub(crate) fn set_link(&mut self, machine: usize, host: usize, link: Link) {
        self.network.links[machine][host] = link;
        let [low, high] = self.knobs.latency_us;
        for id in 0..self.network.streams.len() {
            let stream = &mut self.network.streams[id];
            if stream.machine != machine || stream.host != host {
                continue;
            }
            let ups = if link.up_cut { 0 } else { std::mem::take(&mut stream.up.stalled) };
            let downs = if link.down_cut { 0 } else { std::mem::take(&mut stream.down.stalled) };
            let weights = !link.down_cut && std::mem::take(&mut stream.weights_stalled);
            // TCP tries again after a while that has doubled with every failure.
            let at = self.now + self.network_rng.between(low, high + RETRANSMISSION_US);
            (0..ups).for_each(|_| self.at(at, SimEvent::Up { stream: id, arrived: false }));
            (0..downs).for_each(|_| self.at(at, SimEvent::Down { stream: id, arrived: false }));
            if weights {
                self.at(at, SimEvent::Weights { stream: id, arrived: false });
            }
        }
    }

    /// The worker closes its end, or its process is gone; the coordinator hears of it when the link lets it.
    pub(crate) fn close_worker_end(&mut self, stream: StreamId, cause: LeaveCause, silently: bool) {
        if !silently {
            self.send_up(stream, Up::End { cause });
        }
        self.network.streams[stream].worker_open = false;
    }

    /// The coordinator closes its end, or its process is gone.
    pub(crate) fn close_coordinator_end(&mut self, stream: StreamId, silently: bool) {
        if !silently {
            self.send_down(stream, Down::End);
        }
        self.network.streams[stream].coordinator_open = false;
    }

    /// Breaks a stream: both ends hear of it after what they were sent before.
    pub(crate) fn break_stream(&mut self, stream: StreamId) {
        let high = self.knobs.latency_us[1];
        let broken = &mut self.network.streams[stream];
        let (up, down) = (self.now.max(broken.up.last_us) + high, self.now.max(broken.down.last_us) + high);
        broken.up.queue.push_back(Up::End { cause: LeaveCause::Reset });
        broken.up.last_us = up;
        broken.down.queue.push_back(Down::End);
        broken.down.last_us = down;
        self.at(up, SimEvent::Up { stream, arrived: false });
        self.at(down, SimEvent::Down { stream, arrived: false });
    }
}

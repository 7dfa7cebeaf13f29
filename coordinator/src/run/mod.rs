//! The event loop: waits for one thing to arrive, asks the control plane, and carries out its decisions in order.
//!
//! Start with [`Run::drive`], `next_event` and `execute`: a training step is the commands that `execute` gets, one after
//! the other. What arrives is put into the control plane's words in `incoming`; what is sent is encoded in `outgoing`.

mod audit;
mod commit;
mod incoming;
mod outgoing;
mod shutdown;

use std::collections::{BTreeMap, VecDeque};
use std::future::pending;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lockstep_command_line::Signals;
use lockstep_control::{Command, Control, Event, Outcome, Time, WorkerId};
use lockstep_proto::{Encoded, Fence, ToWorker};
use tokio::sync::mpsc;

use crate::batches::Batches;
use crate::journal::JournalThread;
use crate::observe::Observers;
use crate::trainer::Trainer;
use crate::transport::arrived::Arrived;
use crate::transport::encode;
use crate::transport::service::{Incoming, MAX_QUEUED_INCOMING, Outbound};

/// A run under way.
pub struct Run {
    /// When the coordinator started: the control plane's time zero.
    start: Instant,
    fence: Fence,
    control: Control,
    batches: Batches,
    trainer: Trainer,
    members: BTreeMap<WorkerId, Member>,
    /// The weights after the last committed step, little-endian f32.
    values: Bytes,
    /// The same as a message, encoded once for everybody.
    weights: Encoded,
    /// Writes what a later process of the run needs.
    journal: JournalThread,
    observers: Observers,
    /// When the control plane gets its next `Timer` event.
    timer: Option<Time>,
    /// Messages handled since the timer was due.
    handled_before_timer: usize,
}

struct Member {
    pid: u32,
    outbound: Outbound,
}

/// Turns of the runtime in which what a socket holds comes through its connection and its stream to the loop.
const TURNS_TO_READ: usize = 4;

impl Run {
    /// A run before its first event in this process, with the weights that `trainer` has.
    pub fn new(
        start: Instant,
        fence: Fence,
        control: lockstep_control::ControlSettings,
        batches: Batches,
        trainer: Trainer,
        journal: JournalThread,
        observers: Observers,
    ) -> Self {
        let values = trainer.weights_as_bytes();
        let steps = observers.totals().steps;
        Self {
            start,
            fence,
            control: Control::new(control),
            batches,
            members: BTreeMap::new(),
            weights: ToWorker::Weights(encode::weights(fence, steps, values.clone())).into(),
            values,
            trainer,
            journal,
            observers,
            timer: None,
            handled_before_timer: 0,
        }
    }

    /// Runs to the end.
    pub async fn drive(&mut self, incoming: &mut mpsc::Receiver<Incoming>, signals: &mut Signals) -> Outcome {
        let (mut events, mut commands) = (VecDeque::new(), Vec::new());
        let mut arrived = Arrived::from(Event::Started);
        self.observers.loop_begins(&self.values);
        loop {
            events.extend(arrived.event.take());
            while let Some(event) = events.pop_front() {
                self.control.handle(self.now(), event, &mut commands);
                for command in commands.drain(..) {
                    self.observers.decided(&command, &arrived);
                    if let Command::Finish { outcome } = command {
                        return outcome;
                    }
                    self.execute(&command, &mut arrived, &mut events);
                    self.observers.carried_out(&command);
                }
            }
            self.observers.wait_begins();
            arrived = self.next_event(incoming, signals).await;
            self.observers.wait_ends();
        }
    }

    /// Waits for the next thing to arrive.
    async fn next_event(
        &mut self,
        incoming: &mut mpsc::Receiver<Incoming>,
        signals: &mut Signals,
    ) -> Arrived {
        let timer = self.timer.map(|at| self.start + Duration::from_micros(at.us));
        let timer = async {
            match timer {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            signal = signals.next() => Event::Stopped { signal }.into(),
            Some(news) = self.journal.news() => self.journal_reported(news).into(),
            () = timer => self.timer_due(incoming).await,
            measured = self.observers.measured() => {
                self.observers.record_measured(&measured);
                Arrived::default()
            }
            Some(incoming) = incoming.recv() => self.arrive(incoming),
        }
    }

    /// Carries out a decision; what follows from it goes to `events`.
    fn execute(&mut self, command: &Command, arrived: &mut Arrived, events: &mut VecDeque<Event>) {
        match *command {
            Command::Assign { worker, assignment, task, ref leaves, .. } => {
                events.extend(self.assign(worker, assignment, task, leaves.clone()));
            }
            Command::SendWeights { to, step } => self.send_weights(to, step),
            Command::Combine { task, worker, node } => {
                let leaves = self.batches.cut(task).leaves();
                self.trainer.combine(task, leaves, worker, node, arrived.value.take());
            }
            Command::Compare { task, worker, node } => {
                let value = arrived.value.take();
                self.compare(task, worker, node, value.as_ref(), events);
            }
            Command::Commit { task, .. } => self.commit(task, events),
            Command::Save { after, .. } => {
                self.journal.save(after, self.values.clone(), self.observers.progress());
            }
            Command::Revoke { worker, assignment, .. } => events.extend(self.revoke(worker, assignment)),
            Command::RollBack { task, .. } => self.trainer.roll_back(task),
            Command::Reject { .. } => arrived.value = None,
            Command::DropMember { worker, ref reason } => self.drop_member(worker, reason, arrived),
            Command::SetTimer { at, .. } => self.timer = Some(at),
            // These are news for people, which the observers have recorded.
            Command::Wait { .. } | Command::Stall { .. } => {}
            Command::Finish { .. } => unreachable!("the loop ends before it carries this out"),
        }
    }

    /// The timer is due. What arrived earlier is handled first: after a pause of this very process the members' signs of
    /// life still lie in its sockets, and they were not silent.
    async fn timer_due(&mut self, incoming: &mut mpsc::Receiver<Incoming>) -> Arrived {
        for _ in 0..TURNS_TO_READ {
            tokio::task::yield_now().await;
        }
        // But not for ever: there may always be more.
        if self.handled_before_timer < MAX_QUEUED_INCOMING
            && let Ok(incoming) = incoming.try_recv()
        {
            self.handled_before_timer += 1;
            return self.arrive(incoming);
        }
        self.timer = None;
        self.handled_before_timer = 0;
        Event::Timer.into()
    }

    fn now(&self) -> Time {
        // The runtime's clock, which its timers go by.
        let elapsed = tokio::time::Instant::now().into_std().saturating_duration_since(self.start);
        Time { us: u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX) }
    }
}

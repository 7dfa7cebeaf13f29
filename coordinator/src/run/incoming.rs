//! What comes in from workers, their processes and the journal, in the control plane's words.

use std::time::Duration;

use lockstep_control::{AssignmentId, Event, LeaveCause, Progress, WorkerId};
use lockstep_proto::{self as proto, Hello, NodeResult};
use lockstep_reduction::Node;

use super::{Member, Run};
use crate::journal::News;
use crate::transport::arrived::Arrived;
use crate::transport::process_exit::{Exit, Restart};
use crate::transport::service::{Incoming, Outbound};

impl Run {
    pub(super) fn arrive(&mut self, incoming: Incoming) -> Arrived {
        match incoming {
            Incoming::Node { worker, result } => self.node_arrived(worker, result),
            Incoming::Joined { worker, hello, outbound } => self.joined(worker, hello, outbound).into(),
            Incoming::Heartbeat { worker, progress } => {
                let progress = progress.and_then(|progress| self.progress_of(worker, progress));
                Event::Heard { worker, progress }.into()
            }
            Incoming::Spans { worker, spans, received } => {
                self.observers.spans(worker, spans, received);
                Event::Heard { worker, progress: None }.into()
            }
            Incoming::Superseded { term } => Event::Superseded { term }.into(),
            Incoming::Stale { worker, fence } => {
                self.observers.stale(worker, fence);
                Arrived::default()
            }
            Incoming::Left { worker, cause, detail } => {
                Arrived { detail, ..Event::Left { worker, cause }.into() }
            }
            Incoming::Refused { peer, reason } => {
                self.observers.refused(&peer, &reason);
                Arrived::default()
            }
            Incoming::Exited(exit) => self.process_ended(exit).into(),
        }
    }

    pub(super) fn journal_reported(&mut self, news: News) -> Option<Event> {
        let event = match &news {
            News::Saved { .. } => Some(Event::Saved { durable: true }),
            News::NotSaved { .. } => Some(Event::Saved { durable: false }),
            News::LogEndsEarly { .. } | News::Event { .. } | News::FileFailed { .. } => None,
            News::Superseded { term, .. } => Some(Event::Superseded { term: *term }),
            News::Contradicted { step, .. } => Some(Event::Contradicted { step: *step }),
        };
        self.observers.journal_reported(news);
        event
    }

    fn joined(&mut self, worker: WorkerId, hello: Hello, outbound: Outbound) -> Event {
        let Hello { pid, threads, .. } = hello;
        self.members.insert(worker, Member { pid, outbound });
        self.observers.joined(worker, hello);
        Event::Joined { worker, threads }
    }

    fn process_ended(&mut self, exit: Exit) -> Event {
        let mut members = self.members.iter();
        let worker = members.find(|(_, member)| Some(member.pid) == exit.pid()).map(|(worker, _)| *worker);
        let restarting = matches!(exit.restart, Restart::After { .. });
        self.observers.process_ended(worker, exit);
        Event::ProcessEnded { worker, restarting }
    }

    /// The progress that a worker reports, which cannot be more than it was given.
    fn progress_of(&self, worker: WorkerId, progress: proto::Progress) -> Option<Progress> {
        let assignment = AssignmentId(progress.assignment_id);
        let (task, leaves) = self.observers.held(worker, assignment)?;
        let all = self.batches.cut(task).positions(leaves).len() as u32;
        Some(Progress { assignment, examples: progress.examples_done.min(all) })
    }

    fn node_arrived(&mut self, worker: WorkerId, result: NodeResult) -> Arrived {
        let task = result.task();
        let NodeResult { assignment_id, level, index, compute_nanoseconds, value, .. } = result;
        let node = Node::new(level, index);
        let examples = value.as_ref().map_or(0, |value| value.examples);
        let expected = node.and_then(|node| self.batches.node_examples(task, node));
        let Some(node) = node.filter(|_| expected == Some(examples)) else {
            let detail = match expected {
                Some(expected) => {
                    format!("node ({level},{index}) of {task} has {examples} examples instead of {expected}")
                }
                None => format!("{task} has no node ({level},{index})"),
            };
            return Arrived { detail, ..Event::Left { worker, cause: LeaveCause::Protocol }.into() };
        };
        let (assignment, compute) = (AssignmentId(assignment_id), Duration::from_nanos(compute_nanoseconds));
        self.observers.answered(worker, assignment, node, compute);
        Arrived { value, compute, ..Event::NodeReceived { worker, assignment, task, node }.into() }
    }
}

//! What comes in from workers, their processes and the journal, in the control plane's words.

use std::time::{Duration, Instant};

use lockstep_control::{AssignmentId, Event, LeaveCause, Progress, WorkerId};
use lockstep_proto::{self as proto, Hello, NodeResult};
use lockstep_reduction::Node;

use super::{Arrived, Member, Run};
use crate::journal::News;
use crate::local_workers::Restart;
use crate::transport::service::{Incoming, Outbound};

impl Run {
    pub(super) fn arrive(&mut self, incoming: Incoming) -> Option<Event> {
        self.detail.clear();
        match incoming {
            Incoming::Joined { worker, hello, outbound } => Some(self.joined(worker, hello, outbound)),
            Incoming::Node { worker, result } => self.node_arrived(worker, result),
            Incoming::Heartbeat { worker, progress } => {
                let progress = progress.and_then(|progress| self.progress_of(worker, progress));
                Some(Event::Heard { worker, progress })
            }
            Incoming::Spans { worker, spans, received } => {
                if let Some(timeline) = &mut self.timeline {
                    timeline.told(worker, spans, received);
                }
                Some(Event::Heard { worker, progress: None })
            }
            Incoming::Superseded { term } => Some(Event::Superseded { term }),
            Incoming::Stale { worker, fence } => {
                let reason = format!(
                    "a message of {} is ignored: it is of run {}, term {}",
                    self.name_of(worker),
                    fence.run_id,
                    fence.term
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
                self.record("worker_refused", None, format!("a worker from {peer} is refused: {reason}"));
                None
            }
            Incoming::Exited(exit) => {
                let mut members = self.members.iter();
                let worker =
                    members.find(|(_, member)| Some(member.pid) == exit.pid()).map(|(worker, _)| *worker);
                let restarting = matches!(exit.restart, Restart::After { .. });
                self.results.faults.worker_restarts += u64::from(restarting);
                self.record("process_ended", worker, exit.to_string());
                self.results.exited(exit);
                Some(Event::ProcessEnded { worker, restarting })
            }
        }
    }

    pub(super) fn journal_says(&mut self, news: News) -> Option<Event> {
        match news {
            News::Saved { sentence } => {
                if std::mem::take(&mut self.unsaved) {
                    self.record("saved_again", None, format!("checkpoints are written again: {sentence}"));
                } else {
                    tracing::debug!("{sentence}");
                }
                Some(Event::Saved { durable: true })
            }
            News::NotSaved { sentence } => {
                self.unsaved = true;
                self.record("not_saved", None, sentence);
                Some(Event::Saved { durable: false })
            }
            News::Told { kind, sentence } => {
                match kind {
                    "log_failed" => self.results.log_ends_early = Some(sentence.clone()),
                    "log_goes_on" => self.results.log_ends_early = None,
                    _ => {}
                }
                self.record(kind, None, sentence);
                None
            }
            News::FileFailed { sentence } => {
                tracing::warn!("{sentence}");
                None
            }
            News::Superseded { term, sentence } => {
                tracing::error!("{sentence}");
                Some(Event::Superseded { term })
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

    /// What a worker says of its progress, which cannot be more than it was given.
    fn progress_of(&self, worker: WorkerId, progress: proto::Progress) -> Option<Progress> {
        let assignment = AssignmentId(progress.assignment_id);
        let (task, leaves) = self.roster.held(worker, assignment)?;
        let all = self.batches.cut(task).positions(leaves).len() as u32;
        Some(Progress { assignment, examples: progress.examples_done.min(all) })
    }

    fn node_arrived(&mut self, worker: WorkerId, result: NodeResult) -> Option<Event> {
        let task = result.task();
        let NodeResult { assignment_id, level, index, compute_nanoseconds, value, .. } = result;
        let node = Node::new(level, index);
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
}

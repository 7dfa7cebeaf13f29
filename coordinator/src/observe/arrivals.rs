//! Observes arrivals: from workers, from their processes, and from the journal.

use std::time::{Duration, Instant};

use lockstep_control::{AssignmentId, WorkerId};
use lockstep_proto::{Fence, Hello, Spans};
use lockstep_reduction::Node;

use super::Observers;
use crate::journal::News;
use crate::transport::process_exit::{Exit, Restart};

impl Observers {
    /// A worker joined.
    pub(crate) fn joined(&mut self, worker: WorkerId, hello: Hello) {
        let Hello { name, host, pid, threads, cpu, .. } = &hello;
        let unit = if *threads == 1 { "thread" } else { "threads" };
        // The first word is the instruction set; the worker's own log has the rest.
        let cpu = cpu.split_whitespace().next().unwrap_or("unknown CPU");
        let reason = format!("{worker} joined: {name} on {host} (process {pid}), {threads} {unit}, {cpu}");
        if let Some(timeline) = &mut self.timeline {
            timeline.joined(worker, name);
        }
        self.workers.joined(worker, hello, self.totals.steps);
        self.record("worker_joined", Some(worker), reason);
    }

    /// A node of an assignment came; whether it counts is not known yet.
    pub(crate) fn answered(&mut self, worker: WorkerId, id: AssignmentId, node: Node, compute: Duration) {
        self.workers.answered(Instant::now(), worker, id, node, compute);
    }

    /// A worker said when it computed what.
    pub(crate) fn spans(&mut self, worker: WorkerId, spans: Spans, received: Instant) {
        if let Some(timeline) = &mut self.timeline {
            timeline.add_spans(worker, spans, received);
        }
    }

    /// A message of another run or term was ignored.
    pub(crate) fn stale(&mut self, worker: WorkerId, fence: Fence) {
        let reason = format!(
            "a message of {} is ignored: it is of run {}, term {}",
            self.name_of(worker),
            fence.run_id,
            fence.term
        );
        self.totals.faults.nodes_rejected += 1;
        self.record("node_rejected", Some(worker), reason);
    }

    /// A worker was not let in.
    pub(crate) fn refused(&mut self, peer: &str, reason: &str) {
        self.record("worker_refused", None, format!("a worker from {peer} is refused: {reason}"));
    }

    /// A local worker's process ended; `worker` is its member, if it had joined.
    pub(crate) fn process_ended(&mut self, worker: Option<WorkerId>, exit: Exit) {
        self.totals.faults.worker_restarts += u64::from(matches!(exit.restart, Restart::After { .. }));
        self.record("process_ended", worker, exit.to_string());
        self.totals.exited(exit);
    }

    /// A local worker's process ended after the end of the run.
    pub(crate) fn process_ended_after_run(&mut self, exit: Exit) {
        self.totals.exited(exit);
    }

    /// The journal reported something.
    pub(crate) fn journal_reported(&mut self, news: News) {
        match news {
            News::Saved { sentence } => {
                if std::mem::take(&mut self.unsaved) {
                    self.record("saved_again", None, format!("checkpoints are written again: {sentence}"));
                } else {
                    tracing::debug!("{sentence}");
                }
            }
            News::NotSaved { sentence } => {
                self.unsaved = true;
                self.record("not_saved", None, sentence);
            }
            News::LogEndsEarly { sentence } => {
                self.log_ends_early(&sentence);
                self.record("log_failed", None, sentence);
            }
            News::Event { kind, sentence } => self.record(kind, None, sentence),
            News::FileFailed { sentence } => tracing::warn!("{sentence}"),
            News::Superseded { sentence, .. } => tracing::error!("{sentence}"),
            News::Contradicted { sentence, .. } => self.record("contradicted", None, sentence),
        }
    }

    /// The log may lack its end for this reason, unless an earlier one is known.
    pub(crate) fn log_ends_early(&mut self, reason: &str) {
        self.totals.log_ends_early.get_or_insert_with(|| reason.to_string());
    }
}

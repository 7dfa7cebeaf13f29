//! The end of a run: its workers are let go, and what is still being written is waited for.

use std::time::Instant;

use lockstep_control::Outcome;
use lockstep_proto::{self as proto, Encoded, Hello, ToWorker};

use super::{Member, Run};
use crate::results::Results;
use crate::service::Incoming;
use crate::trainer::Trainer;

impl Run {
    /// Tells the members that the run is over.
    pub fn dismiss(&self, outcome: Outcome) {
        let message = self.finish_message(&outcome.to_string());
        for member in self.members.values() {
            // One that does not read is left to find out by its stream's end.
            member.outbound.send(message.clone());
        }
    }

    /// Takes in what happens after the end: who left, who came too late, and how processes ended.
    pub fn wind_up(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Left { worker, .. } => drop(self.members.remove(&worker)),
            Incoming::Joined { worker, hello, outbound } => {
                // It came as the run ended, which is no failure of its.
                outbound.send(self.finish_message("it ended as this worker joined"));
                let Hello { name, pid, .. } = hello;
                self.members.insert(worker, Member { name, pid, outbound, joined_after: None });
            }
            Incoming::Exited(exit) => self.results.exited(exit),
            _ => {}
        }
    }

    /// Whether anybody has to be waited for.
    pub fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    /// Ends recording and, until `end`, what is still being saved; gives the trainer and the results to report them.
    pub async fn into_results(mut self, end: Instant) -> (Trainer, Results) {
        let left = || end.saturating_duration_since(Instant::now());
        for news in self.journal.close(left()).await {
            self.journal_says(news);
        }
        for measured in self.gauge.close(left()).await {
            self.record_measured(measured);
        }
        if let Some(timeline) = &mut self.timeline {
            timeline.finish();
        }
        self.flush();
        (self.trainer, self.results)
    }

    fn finish_message(&self, reason: &str) -> Encoded {
        ToWorker::Finish(proto::Finish { fence: self.fence, reason: reason.to_string() }).into()
    }
}

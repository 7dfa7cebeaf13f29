//! The end of a run: its workers are let go, and what is still being written is waited for.

use std::time::Duration;

use lockstep_control::Outcome;
use lockstep_proto::{self as proto, Encoded, ToWorker};

use super::{Member, Run};
use crate::journal::News;
use crate::observe::RunTotals;
use crate::trainer::Trainer;
use crate::transport::service::Incoming;

impl Run {
    /// Tells the members that the run is over.
    pub fn dismiss(&self, outcome: Outcome) {
        let message = self.finish_message(&outcome.to_string());
        for member in self.members.values() {
            // One that does not read is left to find out by its stream's end.
            member.outbound.send(message.clone());
        }
    }

    /// Takes in what arrives after the end: who left, who came too late, and how processes ended.
    pub fn drain(&mut self, incoming: Incoming) {
        match incoming {
            Incoming::Left { worker, .. } => drop(self.members.remove(&worker)),
            Incoming::Joined { worker, hello, outbound } => {
                // It came as the run ended, which is no failure of its.
                outbound.send(self.finish_message("it ended as this worker joined"));
                self.members.insert(worker, Member { pid: hello.pid, outbound });
            }
            Incoming::Exited(exit) => self.observers.process_ended_after_run(exit),
            _ => {}
        }
    }

    /// Whether anybody has to be waited for.
    pub fn has_members(&self) -> bool {
        !self.members.is_empty()
    }

    /// The trainer, with the last weights.
    pub fn trainer(&self) -> &Trainer {
        &self.trainer
    }

    /// Counts and results of the run.
    pub(crate) fn totals(&self) -> &RunTotals {
        self.observers.totals()
    }

    /// Ends recording, and waits for what is still being saved, however long that takes; measurements of the weights have
    /// `measuring` to end.
    pub async fn settle(&mut self, measuring: Duration) {
        self.observers.close(measuring).await;
        // The journal's report on the last save is an event, which is to be written as well.
        self.journal.settle().await;
        self.take_news();
        self.journal.close().await;
        self.take_news();
    }

    /// Records that [`Self::settle`] was given up.
    pub(crate) fn not_settled(&mut self) {
        self.take_news();
        let sentence = "the disk did not finish in time: what was last is not saved".to_string();
        self.observers.log_ends_early(&sentence);
        self.journal_reported(News::NotSaved { sentence });
    }

    fn take_news(&mut self) {
        while let Some(news) = self.journal.news_so_far() {
            self.journal_reported(news);
        }
    }

    /// What is left of the run, to be reported.
    pub fn into_totals(self) -> RunTotals {
        self.observers.into_totals()
    }

    fn finish_message(&self, reason: &str) -> Encoded {
        ToWorker::Finish(proto::Finish { fence: self.fence, reason: reason.to_string() }).into()
    }
}

//! The record of the workers: who they are, what each does, and how fast, a few times a second.
//!
//! Plain data. Everything in it is as the coordinator saw it; nothing here depends on a bit of the training, and none
//! of it is the same for two runs.

use serde::{Deserialize, Serialize};

/// The workers at one moment, and what they did since the record before.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename = "workers")]
pub struct WorkersRecord {
    /// Seconds since the run began.
    pub seconds: f64,
    /// Steps committed by then.
    pub step: u64,
    /// Time since the record before: what the rates and shares are of.
    pub window_seconds: f64,
    /// The members, in the order in which they joined, and behind them the ones that left last.
    pub workers: Vec<WorkerRecord>,
}

/// One worker.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct WorkerRecord {
    /// Member number of this coordinator process, from 1. One that comes back has a new one.
    pub worker: u32,
    /// Its name; local workers keep theirs when they are started again, and two external ones may have the same.
    pub name: String,
    /// Its host.
    pub host: String,
    /// Its process on that host.
    pub pid: u32,
    /// Its threads.
    pub threads: u32,
    /// The first word of what it says of its CPU: the instruction set.
    pub cpu: String,
    /// What it does.
    pub state: WorkerState,
    /// Why, as a sentence for people.
    pub reason: String,
    /// Whether it holds up the others: it is late now, or needs twice the median time for an example.
    pub straggler: bool,
    /// Share of the window's examples that came from it, 0 to 1.
    pub share: f64,
    /// Examples of the window over its length, of training and of evaluation.
    pub examples_per_second: f64,
    /// Mean over the window's answers: from the moment at which an assignment could be begun (it and the weights that
    /// it needs were handed to the network) to its last node; absent if there were none.
    pub latency_seconds: Option<f64>,
    /// Share of the window in which it computed, as it says itself.
    pub compute_share: f64,
    /// Share of the window in which its work was on the way or in a queue: latency less computing.
    pub transfer_share: f64,
    /// The rest of the window: it waited for others, or for work.
    pub wait_share: f64,
    /// Training examples counted from it since it joined. A copy that came second is not counted.
    pub examples: u64,
    /// Evaluation examples counted from it since it joined.
    pub evaluated: u64,
    /// Assignments that it answered whole since it joined.
    pub answers: u64,
    /// Seconds that it computed on those.
    pub compute_seconds: f64,
    /// Seconds that those were on the way or in a queue.
    pub transfer_seconds: f64,
}

/// What a worker does.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkerState {
    /// It has its share of the work.
    Working,
    /// It is a member, and holds and answered nothing.
    Idle,
    /// Its work was given to others, too, because it did not come in time.
    Late,
    /// It is a member no longer.
    Gone,
}

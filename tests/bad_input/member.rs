//! A member written by hand: it joins like a worker, and then says whatever a test wants.

use std::collections::VecDeque;
use std::future::Future;
use std::time::Duration;

use lockstep_control::TaskKind;
use lockstep_model::{Cpu, NUMERICS_VERSION, PARAMETER_BYTES, PIXELS};
use lockstep_proto::{
    Assignment, CoordinatorMessage, FromWorker, Hello, LockstepClient, NodeResult, PROTOCOL_VERSION,
    ToWorker, Token, Weights, WorkerMessage,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::TOKEN;

/// No conversation takes a tenth of it.
const DEADLINE: Duration = Duration::from_secs(60);

/// Runs a conversation to its end.
pub fn converse<T>(conversation: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let in_time = runtime.block_on(async { tokio::time::timeout(DEADLINE, conversation).await });
    in_time.expect("a conversation that ends in time")
}

/// What a worker without fault says first.
pub fn hello() -> Hello {
    Hello {
        protocol_version: PROTOCOL_VERSION,
        numerics_version: NUMERICS_VERSION,
        token: Token::new(TOKEN).unwrap(),
        name: "hostile".to_string(),
        host: "a-test".to_string(),
        pid: std::process::id(),
        threads: 1,
        cpu: "a CPU for tests".to_string(),
        join_test_digest: lockstep_model::join_test(Cpu::detect()).0,
        known: None,
    }
}

/// A node's value, changed.
pub fn changed(mut node: NodeResult, change: impl FnOnce(&mut lockstep_proto::NodeValue)) -> NodeResult {
    change(node.value.as_mut().expect("a node with examples"));
    node
}

pub struct Member {
    outbound: mpsc::Sender<WorkerMessage>,
    inbound: Streaming<CoordinatorMessage>,
    weights: Option<Weights>,
    held: VecDeque<Assignment>,
}

/// How a membership ended, as the member hears of it.
#[derive(Debug)]
pub enum End {
    Finish(String),
    Status(Status),
    Closed,
}

impl Member {
    /// Says `first` and waits for the welcome.
    pub async fn join(url: &str, first: impl Into<WorkerMessage>) -> Result<Self, Status> {
        let mut client = LockstepClient::connect(url.to_string()).await.unwrap();
        let (outbound, messages) = mpsc::channel(16);
        outbound.send(first.into()).await.unwrap();
        let mut inbound = client.join(ReceiverStream::new(messages)).await?.into_inner();
        let Some(ToWorker::Welcome(_)) = inbound.message().await?.map(parse) else {
            panic!("no welcome first")
        };
        Ok(Self { outbound, inbound, weights: None, held: VecDeque::new() })
    }

    /// The same where the coordinator may be gone, or not let it in: then there is none.
    pub async fn try_join(url: &str, first: impl Into<WorkerMessage>) -> Option<Self> {
        let mut client = LockstepClient::connect(url.to_string()).await.ok()?;
        let (outbound, messages) = mpsc::channel(16);
        outbound.send(first.into()).await.ok()?;
        let mut inbound = client.join(ReceiverStream::new(messages)).await.ok()?.into_inner();
        inbound.message().await.ok()??;
        Some(Self { outbound, inbound, weights: None, held: VecDeque::new() })
    }

    /// The next assignment whose weights are there, and those.
    pub async fn work(&mut self) -> Result<(Weights, Assignment), End> {
        loop {
            if let Some(weights) = &self.weights {
                let ready = self.held.iter().position(|held| weights_of(held) == weights.step);
                if let Some(assignment) = ready.and_then(|at| self.held.remove(at)) {
                    return Ok((weights.clone(), assignment));
                }
            }
            match self.inbound.message().await.map(|message| message.map(parse)) {
                Ok(Some(ToWorker::Weights(weights))) => self.weights = Some(weights),
                Ok(Some(ToWorker::Assignment(assignment))) => self.held.push_back(assignment),
                Ok(Some(ToWorker::Finish(finish))) => return Err(End::Finish(finish.reason)),
                Ok(Some(ToWorker::Heartbeat(heartbeat))) => self.send(FromWorker::Heartbeat(heartbeat)).await,
                Ok(Some(ToWorker::Revoke(revoke))) => {
                    self.held.retain(|held| held.assignment_id != revoke.assignment_id);
                }
                Ok(Some(ToWorker::Welcome(_))) => panic!("a second welcome"),
                Ok(None) => return Err(End::Closed),
                Err(status) => return Err(End::Status(status)),
            }
        }
    }

    /// The first assignment and its right answer.
    pub async fn first_work(&mut self) -> (Assignment, Vec<NodeResult>) {
        let (weights, assignment) = self.work().await.unwrap();
        let answer = lockstep_worker::recompute(Cpu::detect(), &weights, &assignment);
        (assignment, answer)
    }

    /// Sends a message, to a coordinator that may have ended the stream.
    pub async fn send(&self, message: impl Into<WorkerMessage>) {
        let _ = self.outbound.send(message.into()).await;
    }

    pub async fn send_node(&self, node: NodeResult) {
        self.send(FromWorker::Node(node)).await;
    }

    /// Works like a worker without fault to the end.
    pub async fn work_honestly(&mut self) -> End {
        loop {
            match self.work().await {
                Ok((weights, assignment)) => {
                    for node in lockstep_worker::recompute(Cpu::detect(), &weights, &assignment) {
                        self.send_node(node).await;
                    }
                }
                Err(end) => return end,
            }
        }
    }

    /// Takes no notice of work, until the end.
    pub async fn end(&mut self) -> End {
        loop {
            if let Err(end) = self.work().await {
                return end;
            }
        }
    }
}

fn parse(message: CoordinatorMessage) -> ToWorker {
    ToWorker::parse(message, PARAMETER_BYTES, PIXELS).unwrap()
}

fn weights_of(assignment: &Assignment) -> u64 {
    match assignment.kind {
        TaskKind::Train => assignment.step - 1,
        TaskKind::Validate | TaskKind::Test => assignment.step,
    }
}

//! The gRPC service: checks who joins, parses what workers send, and hands it to the run's loop.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use lockstep_control::{LeaveCause, WorkerId};
use lockstep_model::{Digest, NUMERICS_VERSION, PARAMETER_BYTES};
use lockstep_proto::{
    Assignment, Encoded, Fence, FromWorker, Heartbeat, Hello, Join, MAX_QUEUED_MESSAGES,
    MAX_WORKER_MESSAGE_BYTES, Messages, NodeResult, PROTOCOL_VERSION, Progress, Spans, ToWorker, Token,
    Welcome, WorkerMessage,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio_stream::wrappers::{IntervalStream, ReceiverStream, WatchStream};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Status};

use crate::transport::admission::allowance::{self, Allowance};
use crate::transport::admission::budget::Budget;
use crate::transport::admission::connection::{ConnectionInfo, Peer, STRANGER_LIMIT};
use crate::transport::admission::places::Places;
use crate::transport::process_exit::Exit;

/// Messages from all workers that wait for the loop; more make the workers wait.
pub const MAX_QUEUED_INCOMING: usize = 64;

/// What happens outside, for the run's loop.
#[expect(missing_docs, reason = "the fields say what they are")]
pub enum Incoming {
    /// A worker passed every check.
    Joined {
        /// Its new number.
        worker: WorkerId,
        hello: Hello,
        outbound: Outbound,
    },
    /// A worker sent a node of this run and term.
    Node { worker: WorkerId, result: NodeResult },
    /// A worker said when it computed what.
    Spans {
        worker: WorkerId,
        spans: Spans,
        /// When the message came.
        received: Instant,
    },
    /// A worker is alive.
    Heartbeat {
        worker: WorkerId,
        /// Of the assignment that it computes, as it says.
        progress: Option<Progress>,
    },
    /// A worker was welcomed by a coordinator of this run with a higher term.
    Superseded { term: u64 },
    /// A worker sent a message of another run or term, which is ignored.
    Stale { worker: WorkerId, fence: Fence },
    /// A worker's stream is over.
    Left {
        worker: WorkerId,
        cause: LeaveCause,
        /// More, for people.
        detail: String,
    },
    /// A connection was not let in.
    Refused { peer: String, reason: String },
    /// A local worker's process ended.
    Exited(Exit),
}

/// The coordinator's end of a worker's stream; dropping it ends the stream.
pub struct Outbound {
    messages: mpsc::Sender<Result<Encoded, Status>>,
    /// Only the newest weights wait: a worker that was slow has no use for those of steps that are over.
    weights: watch::Sender<Option<Encoded>>,
    /// The worker as its connection has it.
    peer: Arc<Peer>,
    /// What the worker may send.
    allowance: Arc<Allowance>,
    /// Its drop ends the reading task.
    _open: oneshot::Sender<()>,
}

impl Outbound {
    /// Queues a message; `false` if the worker does not read what it is sent.
    pub fn send(&self, message: Encoded) -> bool {
        !matches!(self.messages.try_send(Ok(message)), Err(mpsc::error::TrySendError::Full(_)))
    }

    /// Has an assignment sent; `false` as for [`Self::send`].
    pub fn assign(&self, assignment: Assignment) -> bool {
        self.allowance.assigned(assignment.leaf_examples.len() as u32, assignment.trace.is_some());
        self.send(ToWorker::Assignment(assignment).into())
    }

    /// Has weights sent, in place of older ones that wait.
    pub fn send_weights(&self, weights: Encoded) {
        self.weights.send_replace(Some(weights));
    }

    /// Ends the stream of a worker at fault, and tells it why.
    pub fn refuse(self, reason: &str) {
        self.peer.convict();
        // With a full queue it gets nothing but the end of its stream.
        let _ = self.messages.try_send(Err(Status::failed_precondition(reason)));
    }
}

/// The service of one run.
pub struct Service {
    fence: Fence,
    token: Token,
    join_test_digest: Digest,
    keep_alive: KeepAlive,
    incoming: mpsc::Sender<Incoming>,
    joins: AtomicU32,
    max_members: usize,
    free_places: Arc<Semaphore>,
}

/// How the coordinator and its workers show each other that they are alive.
#[derive(Clone, Copy, Debug)]
pub struct KeepAlive {
    /// The time between two heartbeats of either side.
    pub heartbeat: Duration,
    /// A worker gives up the coordinator after so long without a message.
    pub silence: Duration,
}

impl Service {
    /// A service that lets in workers that show `token`, compute the same bits, and speak this version.
    pub fn new(
        fence: Fence,
        token: Token,
        join_test_digest: Digest,
        keep_alive: KeepAlive,
        incoming: mpsc::Sender<Incoming>,
    ) -> Self {
        let max_members = Places::of_this_process().members;
        Self {
            fence,
            token,
            join_test_digest,
            keep_alive,
            incoming,
            joins: AtomicU32::new(0),
            max_members,
            free_places: Arc::new(Semaphore::new(max_members)),
        }
    }

    /// A worker gives up the coordinator after so long without a message.
    pub(super) fn silence(&self) -> Duration {
        self.keep_alive.silence
    }

    fn check(&self, hello: &Hello) -> Result<(), Status> {
        if hello.protocol_version != PROTOCOL_VERSION {
            return Err(Status::failed_precondition(format!(
                "it speaks protocol version {}, this coordinator {PROTOCOL_VERSION}; install the same release on both",
                hello.protocol_version
            )));
        }
        if !self.token.matches(&hello.token) {
            return Err(Status::unauthenticated(
                "its join token is not this run's; pass the one that the coordinator printed as --token",
            ));
        }
        if hello.numerics_version != NUMERICS_VERSION {
            return Err(Status::failed_precondition(format!(
                "it computes with numerics version {}, this coordinator with {NUMERICS_VERSION}; install the same \
                 release on both",
                hello.numerics_version
            )));
        }
        if hello.join_test_digest != self.join_test_digest.0 {
            return Err(Status::failed_precondition(format!(
                "its join test gives {} instead of {}: it would compute other bits (instruction set and CPU: {})",
                Digest(hello.join_test_digest),
                self.join_test_digest,
                hello.cpu
            )));
        }
        if let Some(known) = hello.known
            && known.run_id == self.fence.run_id
            && known.term > self.fence.term
        {
            // The loop ends the run; a worker that hears "unavailable" goes on looking for the newer coordinator.
            let _ = self.incoming.try_send(Incoming::Superseded { term: known.term });
            return Err(Status::unavailable(format!(
                "it knows a coordinator of this run with term {}, this one has {}",
                known.term, self.fence.term
            )));
        }
        Ok(())
    }

    /// Makes a stranger a member, if it is a worker of this run and there is a place.
    async fn let_in(
        &self,
        messages: &mut Messages<WorkerMessage>,
        peer: &Peer,
    ) -> Result<(Hello, OwnedSemaphorePermit), Status> {
        let hello = self.first_message(messages).await?;
        let place = Arc::clone(&self.free_places).try_acquire_owned().map_err(|_| {
            Status::resource_exhausted(format!("the run has {} workers, and takes no more", self.max_members))
        })?;
        if peer.admit() {
            messages.allow(MAX_WORKER_MESSAGE_BYTES);
            Ok((hello, place))
        } else {
            Err(Status::unavailable("it had to make room for others"))
        }
    }

    async fn first_message(&self, messages: &mut Messages<WorkerMessage>) -> Result<Hello, Status> {
        let first = tokio::time::timeout(STRANGER_LIMIT, messages.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("it said nothing"))??;
        let first =
            first.ok_or_else(|| Status::invalid_argument("it closed the stream before it said anything"))?;
        match FromWorker::parse(first, PARAMETER_BYTES) {
            Ok(FromWorker::Hello(hello)) => {
                self.check(&hello)?;
                Ok(hello)
            }
            Ok(_) => Err(Status::invalid_argument("its first message is no Hello")),
            Err(error) => Err(Status::invalid_argument(error.to_string())),
        }
    }
}

impl Join for Service {
    type Answers = Pin<Box<dyn Stream<Item = Result<Encoded, Status>> + Send>>;

    async fn join(&self, request: Request<Messages<WorkerMessage>>) -> Result<Self::Answers, Status> {
        let ConnectionInfo(peer) = request
            .extensions()
            .get()
            .cloned()
            .ok_or_else(|| Status::internal("the call came over no connection"))?;
        if !peer.begin_call() {
            return Err(Status::failed_precondition(
                "a connection is of one worker, and this one made a call before",
            ));
        }
        let mut messages = request.into_inner();
        let (hello, place) = match self.let_in(&mut messages, &peer).await {
            Ok(admitted) => admitted,
            Err(status) => {
                peer.refuse();
                let refused = Incoming::Refused { peer: peer.name(), reason: status.message().to_string() };
                // Refusals are news, not work: a flood of them must not hold up the loop.
                let _ = self.incoming.try_send(refused);
                return Err(status);
            }
        };
        let number = self.joins.fetch_add(1, Ordering::Relaxed) + 1;
        let worker = WorkerId(number);
        let (outbound, stream) = mpsc::channel(MAX_QUEUED_MESSAGES);
        let (weights, newest) = watch::channel(None);
        let (open, closed) = oneshot::channel();
        let allowance = Arc::new(Allowance::default());
        let KeepAlive { heartbeat, silence } = self.keep_alive;
        let fence = self.fence;
        let welcome =
            ToWorker::Welcome(Welcome { fence, worker_id: number, heartbeat, silence: Some(silence) });
        let gone = || Status::unavailable("the run is over");
        let joined = Incoming::Joined {
            worker,
            hello,
            outbound: Outbound {
                messages: outbound,
                weights,
                peer: Arc::clone(&peer),
                allowance: Arc::clone(&allowance),
                _open: open,
            },
        };
        self.incoming.send(joined).await.map_err(|_| gone())?;
        let heartbeats = allowance::heartbeats(heartbeat, tokio::time::Instant::now().into_std());
        let reader = Reader { worker, fence, allowance, heartbeats, incoming: self.incoming.clone() };
        tokio::spawn(async move {
            reader.read(messages, &peer, closed).await;
            peer.leave();
            drop(place);
        });
        let heartbeats = IntervalStream::new(interval(heartbeat))
            .map(move |_| Ok(ToWorker::Heartbeat(Heartbeat { fence, progress: None }).into()));
        let weights = WatchStream::from_changes(newest).filter_map(|weights| weights.map(Ok));
        // The stream ends with its queue, whatever the others have to say.
        let queue = ReceiverStream::new(stream).map(Some).chain(tokio_stream::once(None));
        let rest = weights.merge(heartbeats).map(Some);
        let messages = queue.merge(rest).map_while(|message| message);
        Ok(Box::pin(tokio_stream::once(Ok(welcome.into())).chain(messages)))
    }
}

/// Ticks for heartbeats; what was missed is not made up for.
fn interval(period: Duration) -> tokio::time::Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    interval
}

/// Reads a member's messages.
struct Reader {
    worker: WorkerId,
    fence: Fence,
    allowance: Arc<Allowance>,
    heartbeats: Budget,
    incoming: mpsc::Sender<Incoming>,
}

impl Reader {
    /// Reads until the stream or the membership ends.
    async fn read(
        mut self,
        mut messages: Messages<WorkerMessage>,
        peer: &Peer,
        mut closed: oneshot::Receiver<()>,
    ) {
        let (cause, detail) = loop {
            let message = tokio::select! {
                message = messages.message() => message,
                _ = &mut closed => return,
            };
            peer.messages_took(messages.received_bytes());
            let message = match message {
                Ok(Some(message)) => FromWorker::parse(message, PARAMETER_BYTES),
                Ok(None) => break (LeaveCause::Closed, String::new()),
                // Only this end's own decoder says so: the message is over the limit, or no message at all.
                Err(status)
                    if status.source().is_none()
                        && matches!(status.code(), tonic::Code::OutOfRange | tonic::Code::Internal) =>
                {
                    break (LeaveCause::Protocol, status.message().to_string());
                }
                Err(status) => break (LeaveCause::Reset, status.message().to_string()),
            };
            let event =
                match message.map_err(|error| error.to_string()).and_then(|message| self.event(message)) {
                    Ok(event) => event,
                    Err(detail) => break (LeaveCause::Protocol, detail),
                };
            if self.incoming.send(event).await.is_err() {
                return;
            }
        };
        // The loop may be over.
        let _ = self.incoming.send(Incoming::Left { worker: self.worker, cause, detail }).await;
    }

    /// What a message is for the loop; an error says why a member may not send it.
    fn event(&mut self, message: FromWorker) -> Result<Incoming, String> {
        let (worker, own) = (self.worker, self.fence);
        match &message {
            FromWorker::Node(_) if !self.allowance.take_node() => {
                return Err("more nodes than leaves that it was given".to_string());
            }
            FromWorker::Spans(_) if !self.allowance.take_spans() => {
                return Err("spans that nobody asked for".to_string());
            }
            FromWorker::Heartbeat(_) if !self.heartbeats.spend(tokio::time::Instant::now().into_std()) => {
                return Err("many more heartbeats than it was asked for".to_string());
            }
            _ => {}
        }
        Ok(match message {
            FromWorker::Hello(_) => return Err("a second Hello".to_string()),
            FromWorker::Node(NodeResult { fence, .. })
            | FromWorker::Heartbeat(Heartbeat { fence, .. })
            | FromWorker::Spans(Spans { fence, .. })
                if fence != own =>
            {
                Incoming::Stale { worker, fence }
            }
            FromWorker::Node(result) => Incoming::Node { worker, result },
            FromWorker::Heartbeat(Heartbeat { progress, .. }) => Incoming::Heartbeat { worker, progress },
            FromWorker::Spans(spans) => Incoming::Spans { worker, spans, received: Instant::now() },
        })
    }
}

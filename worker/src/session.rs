//! The stream to the coordinator: dial, hello, then messages in and nodes out until the run is over.

use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use lockstep_model::{Cpu, NUMERICS_VERSION, PARAMETER_BYTES, PIXELS};
use lockstep_proto::{
    CoordinatorMessage, Fence, FromWorker, Hello, LockstepClient, MAX_COORDINATOR_MESSAGE_BYTES,
    MAX_FRAME_BYTES, MAX_HELD_ASSIGNMENTS, MAX_WORKER_MESSAGE_BYTES, MalformedMessage, PROTOCOL_VERSION,
    ToWorker, Token, TokenError, WorkerMessage,
};
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Code, Status, Streaming};

use crate::RETRY_PAUSE;
use crate::compute::{ComputeError, Job, compute};

/// Jobs that wait for the computing thread: every assignment that may be held, and the weights between them.
const MAX_WAITING_JOBS: usize = 2 * MAX_HELD_ASSIGNMENTS;

/// Nodes that wait to be sent.
const MAX_WAITING_NODES: usize = 64;

/// The time that an attempt to join gets, however little is left.
const LEAST_PATIENCE: Duration = Duration::from_secs(1);

/// What a worker has to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// URL of the coordinator.
    pub coordinator: String,
    /// Threads that compute, at least 1.
    pub threads: u32,
    /// For people.
    pub name: String,
    /// For people.
    pub host: String,
    /// The run's join token.
    pub token: Token,
    /// How long to try to reach the coordinator.
    pub connect_timeout: Duration,
    /// The coordinator spawned this worker. Then its process is what to watch: one that is only stopped comes back.
    pub local: bool,
    /// The instruction set to compute with.
    pub cpu: Cpu,
}

/// Why a worker ended before its run.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The URL is none.
    #[error("--coordinator {url} is no address: {cause}; write it as http://HOST:PORT")]
    Address {
        /// As given.
        url: String,
        /// What is wrong.
        cause: String,
    },
    /// No token.
    #[error("no join token: give --token or LOCKSTEP_TOKEN, as the coordinator prints it at its start")]
    NoToken,
    /// A token that cannot be one.
    #[error("--token: {0}")]
    Token(TokenError),
    /// The coordinator that spawned this worker is gone, or its pipe.
    #[error("cannot follow the coordinator's process: {0}")]
    Parent(std::io::Error),
    /// Nobody answers.
    #[error(
        "no coordinator answers at {url} within {seconds} s ({cause}); is it running with --external, and is the port right?"
    )]
    Unreachable {
        /// As given.
        url: String,
        /// How long it was tried.
        seconds: u64,
        /// The last failure.
        cause: String,
    },
    /// The coordinator does not want this worker.
    #[error("the coordinator at {url} refuses this worker: {reason}")]
    Refused {
        /// As given.
        url: String,
        /// The coordinator's words.
        reason: String,
    },
    /// The stream broke in mid-run.
    #[error("the coordinator at {url} is gone: {cause}")]
    Lost {
        /// As given.
        url: String,
        /// How it broke.
        cause: String,
    },
    /// The coordinator broke the protocol.
    #[error("the coordinator at {url} sent {cause}")]
    Malformed {
        /// As given.
        url: String,
        /// What it sent.
        cause: MalformedMessage,
    },
    /// The coordinator broke the order of messages.
    #[error("the coordinator at {url} sent {cause}")]
    Protocol {
        /// As given.
        url: String,
        /// What it sent.
        cause: String,
    },
    /// Computing failed.
    #[error("{0}")]
    Compute(String),
    /// No runtime or thread.
    #[error("cannot start: {0}")]
    Start(std::io::Error),
}

impl WorkerError {
    /// The exit code of the process: 1 refused, 2 usage, 75 try again.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Address { .. } | Self::NoToken | Self::Token(_) => 2,
            Self::Unreachable { .. } | Self::Lost { .. } | Self::Parent(_) => 75,
            Self::Refused { .. } | Self::Malformed { .. } | Self::Protocol { .. } => 1,
            Self::Compute(_) | Self::Start(_) => 1,
        }
    }
}

/// Joins the coordinator and computes until the run is over; returns the coordinator's reason.
///
/// # Errors
///
/// See [`WorkerError`].
pub fn run(config: Config) -> Result<String, WorkerError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(WorkerError::Start)?;
    let result = runtime.block_on(session(&config));
    // The computing thread may be in the middle of a shard that nobody wants any more.
    runtime.shutdown_background();
    result
}

async fn session(config: &Config) -> Result<String, WorkerError> {
    let url = || config.coordinator.clone();
    let join_test_digest = lockstep_model::join_test(config.cpu).0;
    let hello = Hello {
        protocol_version: PROTOCOL_VERSION,
        numerics_version: NUMERICS_VERSION,
        token: config.token.clone(),
        name: config.name.clone(),
        host: config.host.clone(),
        pid: std::process::id(),
        threads: config.threads,
        cpu: lockstep_model::cpu_description(config.cpu),
        join_test_digest,
    };
    let (mut inbound, outbound) = join(config, &hello).await?;
    let Some(ToWorker::Welcome(welcome)) = receive(config, &mut inbound).await? else {
        return Err(WorkerError::Protocol { url: url(), cause: "no welcome first".to_string() });
    };
    tracing::info!(run = %welcome.fence.run_id, worker = welcome.worker_id, cpu = %config.cpu, threads = config.threads, "joined");

    let (jobs, mut ended) = start_computing(config, outbound)?;
    loop {
        let message = tokio::select! {
            message = receive(config, &mut inbound) => message?,
            result = &mut ended => {
                let cause = match result {
                    Ok(Ok(())) => "the computing thread ended".to_string(),
                    Ok(Err(error)) => error.to_string(),
                    Err(_) => "the computing thread panicked".to_string(),
                };
                return Err(WorkerError::Compute(cause));
            }
        };
        let Some(message) = message else {
            return Err(WorkerError::Lost { url: url(), cause: "it closed the stream".to_string() });
        };
        if fence(&message) != welcome.fence {
            tracing::warn!(expected = ?welcome.fence, actual = ?fence(&message), "ignored a message of another run or term");
            continue;
        }
        let job = match message {
            ToWorker::Finish(finish) => return Ok(finish.reason),
            ToWorker::Weights(weights) => Job::Weights(weights),
            ToWorker::Assignment(assignment) => Job::Assignment(assignment),
            ToWorker::Welcome(_) => {
                return Err(WorkerError::Protocol { url: url(), cause: "a second welcome".to_string() });
            }
        };
        match jobs.try_send(job) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                return Err(WorkerError::Protocol {
                    url: url(),
                    cause: "more work than may wait".to_string(),
                });
            }
            // The computing thread's own error tells more: the next turn of the loop reports it.
            Err(TrySendError::Disconnected(_)) => {}
        }
    }
}

fn fence(message: &ToWorker) -> Fence {
    match message {
        ToWorker::Welcome(welcome) => welcome.fence,
        ToWorker::Assignment(assignment) => assignment.fence,
        ToWorker::Weights(weights) => weights.fence,
        ToWorker::Finish(finish) => finish.fence,
    }
}

/// The channel of jobs to a new computing thread, and its end.
#[expect(clippy::type_complexity, reason = "two ends, named at once where they are used")]
fn start_computing(
    config: &Config,
    outbound: mpsc::Sender<WorkerMessage>,
) -> Result<(SyncSender<Job>, oneshot::Receiver<Result<(), ComputeError>>), WorkerError> {
    let (jobs, waiting) = sync_channel(MAX_WAITING_JOBS);
    let (end, ended) = oneshot::channel();
    let (cpu, threads) = (config.cpu, config.threads);
    std::thread::Builder::new()
        .name("compute".to_string())
        .spawn(move || {
            let emit = |node| outbound.blocking_send(FromWorker::Node(node).into()).is_ok();
            // Nobody waits for the end of a session that is over.
            let _ = end.send(compute(cpu, threads, &waiting, emit));
        })
        .map_err(WorkerError::Start)?;
    Ok((jobs, ended))
}

/// Both directions of the stream to the coordinator.
type Joined = (Streaming<CoordinatorMessage>, mpsc::Sender<WorkerMessage>);

/// Why an attempt to join failed.
enum Failure {
    /// Nobody is there, or nobody who speaks this protocol: a coordinator may be there in a moment.
    Unreachable(String),
    /// A coordinator's answer.
    Final(WorkerError),
}

/// Tries to reach and join the coordinator, with growing pauses, until the timeout.
async fn join(config: &Config, hello: &Hello) -> Result<Joined, WorkerError> {
    let url = &config.coordinator;
    let endpoint = endpoint(url, config.local)?;
    let end = Instant::now() + config.connect_timeout;
    let mut pause = *RETRY_PAUSE.start();
    loop {
        let last = end.max(Instant::now() + LEAST_PATIENCE);
        let cause = match tokio::time::timeout_at(last, attempt(config, &endpoint, hello)).await {
            Ok(Ok(joined)) => return Ok(joined),
            Ok(Err(Failure::Final(error))) => return Err(error),
            Ok(Err(Failure::Unreachable(cause))) => cause,
            Err(_) => "something takes the connection and says nothing".to_string(),
        };
        if Instant::now() + pause >= end {
            let seconds = config.connect_timeout.as_secs();
            return Err(WorkerError::Unreachable { url: url.clone(), seconds, cause });
        }
        tracing::debug!("cannot reach {url} yet: {cause}");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(*RETRY_PAUSE.end());
    }
}

/// How to reach the coordinator; a local one is watched as a process instead of by pings.
fn endpoint(url: &str, local: bool) -> Result<Endpoint, WorkerError> {
    let address = |cause: String| WorkerError::Address { url: url.to_string(), cause };
    let endpoint = Endpoint::from_shared(url.to_string()).map_err(|error| address(error.to_string()))?;
    let uri = endpoint.uri();
    let host = uri.host().is_some_and(|host| !host.is_empty());
    if uri.scheme_str() != Some("http") || !host || uri.port().is_none() {
        return Err(address("it needs http://, a host and a port".to_string()));
    }
    let endpoint =
        endpoint.connect_timeout(Duration::from_secs(3)).tcp_nodelay(true).max_frame_size(MAX_FRAME_BYTES);
    Ok(if local {
        endpoint
    } else {
        endpoint
            .http2_keep_alive_interval(Duration::from_secs(10))
            .keep_alive_timeout(Duration::from_secs(10))
    })
}

async fn attempt(config: &Config, endpoint: &Endpoint, hello: &Hello) -> Result<Joined, Failure> {
    let channel = endpoint.connect().await.map_err(|error| Failure::Unreachable(root_cause(&error)))?;
    let mut client = LockstepClient::new(channel)
        .max_decoding_message_size(MAX_COORDINATOR_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_WORKER_MESSAGE_BYTES);
    let (outbound, nodes) = mpsc::channel::<WorkerMessage>(MAX_WAITING_NODES);
    outbound
        .try_send(FromWorker::Hello(hello.clone()).into())
        .expect("the first message fits into an empty queue");
    match client.join(ReceiverStream::new(nodes)).await {
        Ok(response) => Ok((response.into_inner(), outbound)),
        // A status with a source was made on this side, of what is no answer in this protocol.
        Err(status) if std::error::Error::source(&status).is_some() => {
            Err(Failure::Unreachable(root_cause(&status)))
        }
        Err(status) => Err(Failure::Final(refused(config, &status))),
    }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .last()
        .map_or_else(String::new, ToString::to_string)
}

/// The next message, or `None` at the end of the stream.
async fn receive(
    config: &Config,
    inbound: &mut Streaming<CoordinatorMessage>,
) -> Result<Option<ToWorker>, WorkerError> {
    let message = inbound.message().await.map_err(|status| refused(config, &status))?;
    message
        .map(|message| ToWorker::parse(message, PARAMETER_BYTES, PIXELS))
        .transpose()
        .map_err(|cause| WorkerError::Malformed { url: config.coordinator.clone(), cause })
}

/// What a status means for this worker.
fn refused(config: &Config, status: &Status) -> WorkerError {
    let url = config.coordinator.clone();
    match status.code() {
        Code::Unauthenticated
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::InvalidArgument
        | Code::OutOfRange
        | Code::ResourceExhausted => WorkerError::Refused { url, reason: status.message().to_string() },
        Code::Unimplemented => WorkerError::Refused {
            url,
            reason: "a server answers there, but it is no Lockstep coordinator".to_string(),
        },
        _ => WorkerError::Lost { url, cause: status.message().to_string() },
    }
}

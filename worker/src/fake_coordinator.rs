//! A coordinator for tests: it welcomes nobody by itself, and says only what the test has it say.

use std::pin::Pin;
use std::time::Duration;

use lockstep_model::{Cpu, PARAMETER_BYTES};
use lockstep_proto::{
    CoordinatorMessage, Fence, FromWorker, Hello, Lockstep, LockstepServer, ToWorker, Token, Welcome,
    WorkerMessage,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use crate::{Config, WorkerError, run};

/// What should happen at once happens within this, on a busy machine too.
const SOON: Duration = Duration::from_secs(60);

/// Waits for what must not take long.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, future).await.expect("it should have happened long ago")
}

/// The server. It ends with the value, and all its connections with the runtime.
pub(crate) struct FakeCoordinator {
    pub(crate) url: String,
    joins: mpsc::Receiver<Peer>,
    serving: JoinHandle<()>,
}

/// A worker that waits for what it is told.
pub(crate) struct Peer {
    pub(crate) hello: Hello,
    messages: Streaming<WorkerMessage>,
    outbound: mpsc::Sender<Result<CoordinatorMessage, Status>>,
}

impl FakeCoordinator {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (peers, joins) = mpsc::channel(1);
        let server = Server::builder().add_service(LockstepServer::new(Service { peers }));
        let serving = tokio::spawn(async move {
            server.serve_with_incoming(TcpIncoming::from(listener)).await.unwrap();
        });
        Self { url, joins, serving }
    }

    /// Starts a worker that dials this coordinator.
    pub(crate) fn worker(&self, arrange: impl FnOnce(&mut Config)) -> Worker {
        let mut config = Config {
            coordinator: self.url.clone(),
            threads: 1,
            name: "w".to_string(),
            host: "h".to_string(),
            token: Token::new("t").unwrap(),
            connect_timeout: SOON,
            local: false,
            cpu: Cpu::detect(),
        };
        arrange(&mut config);
        Worker(tokio::task::spawn_blocking(|| run(config)))
    }

    /// The next worker that says hello.
    pub(crate) async fn next(&mut self) -> Peer {
        soon(self.joins.recv()).await.expect("the server runs")
    }

    /// The next worker that says hello, as a member.
    pub(crate) async fn next_member(&mut self, welcome: Welcome) -> Peer {
        let peer = self.next().await;
        peer.say(ToWorker::Welcome(welcome)).await;
        peer
    }
}

impl Drop for FakeCoordinator {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A worker that runs.
pub(crate) struct Worker(JoinHandle<Result<String, WorkerError>>);

impl Worker {
    /// How it ended.
    pub(crate) async fn end(self) -> Result<String, WorkerError> {
        soon(self.0).await.unwrap()
    }
}

impl Peer {
    pub(crate) async fn say(&self, message: ToWorker) {
        soon(self.outbound.send(Ok(message.into()))).await.expect("the worker listens");
    }

    /// Ends the stream with a status.
    pub(crate) async fn refuse(self, status: Status) {
        soon(self.outbound.send(Err(status))).await.expect("the worker listens");
    }

    /// What the worker says next; `None` once its stream is over, however it ended.
    pub(crate) async fn hear(&mut self) -> Option<FromWorker> {
        let message = soon(self.messages.message()).await.ok().flatten()?;
        Some(FromWorker::parse(message, PARAMETER_BYTES).unwrap())
    }
}

/// A welcome that asks for no heartbeat within a test, and sets no limit of silence.
pub(crate) fn welcome(fence: Fence) -> Welcome {
    Welcome { fence, worker_id: 1, heartbeat: Duration::from_secs(60), silence: None }
}

struct Service {
    peers: mpsc::Sender<Peer>,
}

#[tonic::async_trait]
impl Lockstep for Service {
    type JoinStream = Pin<Box<dyn Stream<Item = Result<CoordinatorMessage, Status>> + Send>>;

    async fn join(
        &self,
        request: Request<Streaming<WorkerMessage>>,
    ) -> Result<Response<Self::JoinStream>, Status> {
        let mut messages = request.into_inner();
        let first = messages.message().await?.expect("a worker says hello");
        let Ok(FromWorker::Hello(hello)) = FromWorker::parse(first, PARAMETER_BYTES) else {
            panic!("a worker says hello first");
        };
        let (outbound, stream) = mpsc::channel(64);
        // The test may be over.
        let _ = self.peers.send(Peer { hello, messages, outbound }).await;
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

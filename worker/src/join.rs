//! Reaching a coordinator and becoming its member: dial, hello, welcome.

use std::error::Error;
use std::time::Duration;

use lockstep_model::{PARAMETER_BYTES, PIXELS};
use lockstep_proto::{
    CoordinatorMessage, Encoded, FromWorker, Hello, MAX_FRAME_BYTES, Messages, ToWorker, Welcome,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::error::WorkerError;

/// Messages that wait to be sent.
const MAX_WAITING_MESSAGES: usize = 64;

/// How a connection or a membership ends before the run does.
#[derive(Debug)]
pub(crate) enum Broken {
    /// Nobody is there, or no longer: a coordinator may be there in a moment.
    Lost(String),
    /// Trying again would end alike.
    Final(WorkerError),
}

/// A membership: both directions of the stream, and what the coordinator said first.
pub(crate) struct Joined {
    pub(crate) welcome: Welcome,
    pub(crate) inbound: Inbound,
    pub(crate) outbound: mpsc::Sender<Encoded>,
}

/// What the coordinator sends.
pub(crate) struct Inbound {
    url: String,
    messages: Messages<CoordinatorMessage>,
}

/// What the URL of a coordinator on this machine begins with: the name of its Unix socket follows, which is no file.
pub const LOCAL_SOCKET: &str = "unix:@";

/// For a host to take the connection.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How to reach the coordinator. Whether it is still there is told by its heartbeats, and for a local one by its process.
pub(crate) fn endpoint(url: &str) -> Result<Endpoint, WorkerError> {
    let address = |cause: String| WorkerError::Address { url: url.to_string(), cause };
    if let Some(name) = url.strip_prefix(LOCAL_SOCKET) {
        // Names that are no files begin with a zero byte.
        let endpoint = Endpoint::from_shared(format!("unix:\0{name}"));
        return Ok(endpoint.map_err(|error| address(error.to_string()))?.max_frame_size(MAX_FRAME_BYTES));
    }
    let endpoint = Endpoint::from_shared(with_scheme(url)).map_err(|error| address(error.to_string()))?;
    let uri = endpoint.uri();
    let host = uri.host().is_some_and(|host| !host.is_empty());
    if uri.scheme_str() != Some("http") || !host || uri.port().is_none() {
        return Err(address("it needs a host and a port, and may begin with http://".to_string()));
    }
    Ok(endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true).max_frame_size(MAX_FRAME_BYTES))
}

/// Tries once to become a member of the coordinator at `url`, which `dialling` reaches. A coordinator of a lower term than `hello` knows of is
/// left at once: another one has taken its place.
pub(crate) async fn join(
    url: &str,
    dialling: impl Future<Output = Result<Channel, tonic::transport::Error>>,
    hello: &Hello,
) -> Result<Joined, Broken> {
    let channel = dialling.await.map_err(|error| Broken::Lost(root_cause(&error)))?;
    let (outbound, messages) = mpsc::channel(MAX_WAITING_MESSAGES);
    outbound
        .try_send(FromWorker::Hello(hello.clone()).into())
        .expect("the first message fits into an empty queue");
    let answers = lockstep_proto::join(channel, ReceiverStream::new(messages)).await;
    let messages = answers.map_err(|status| broken(url, &status))?;
    let mut inbound = Inbound { url: url.to_string(), messages };
    let ToWorker::Welcome(welcome) = inbound.receive().await? else {
        let cause = "no welcome first".to_string();
        return Err(Broken::Final(WorkerError::Protocol { url: url.to_string(), cause }));
    };
    let fence = welcome.fence;
    match hello.known {
        Some(known) if known.run_id == fence.run_id && known.term > fence.term => Err(Broken::Lost(format!(
            "a coordinator of term {} is there, which was replaced by one of term {}",
            fence.term, known.term
        ))),
        _ => Ok(Joined { welcome, inbound, outbound }),
    }
}

/// People write `HOST:PORT` as well, and `:PORT` of this machine.
fn with_scheme(url: &str) -> String {
    match url {
        _ if url.contains("://") => url.to_string(),
        _ if url.starts_with(':') => format!("http://127.0.0.1{url}"),
        _ => format!("http://{url}"),
    }
}

impl Inbound {
    /// The next message. A call that is given up loses none.
    pub(crate) async fn receive(&mut self) -> Result<ToWorker, Broken> {
        let message = self.messages.message().await.map_err(|status| broken(&self.url, &status))?;
        let message = message.ok_or_else(|| Broken::Lost("it closed the stream".to_string()))?;
        ToWorker::parse(message, PARAMETER_BYTES, PIXELS)
            .map_err(|cause| Broken::Final(WorkerError::Malformed { url: self.url.clone(), cause }))
    }
}

/// What a status means for this worker.
fn broken(url: &str, status: &Status) -> Broken {
    let refused = |reason: &str| {
        Broken::Final(WorkerError::Refused { url: url.to_string(), reason: reason.to_string() })
    };
    // A status with a source was made on this side, of a broken stream or of what is no answer in this protocol.
    if status.source().is_some() {
        return Broken::Lost(root_cause(status));
    }
    match status.code() {
        Code::Unauthenticated
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::InvalidArgument
        | Code::OutOfRange
        | Code::ResourceExhausted => refused(status.message()),
        Code::Unimplemented => refused("a server answers there, but it is no Lockstep coordinator"),
        _ => Broken::Lost(status.message().to_string()),
    }
}

fn root_cause(error: &dyn Error) -> String {
    std::iter::successors(Some(error), |error| (*error).source())
        .last()
        .map_or_else(String::new, ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coordinator_is_named_as_people_write_it() {
        for (written, dialled) in [
            ("http://host:29400", "http://host:29400/"),
            ("host:29400", "http://host:29400/"),
            ("10.0.0.1:29400", "http://10.0.0.1:29400/"),
            ("[::1]:29400", "http://[::1]:29400/"),
            (":29400", "http://127.0.0.1:29400/"),
        ] {
            assert_eq!(endpoint(written).unwrap().uri().to_string(), dialled);
        }
        for wrong in ["", "host", "http://host", "https://host:1", "grpc://host:1", "ho st:1", ":", "host:x"]
        {
            assert!(matches!(endpoint(wrong), Err(WorkerError::Address { .. })), "{wrong}");
        }
    }
}

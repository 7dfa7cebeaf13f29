//! Both ends of the call `Join`: the service that answers it, and the client that makes it.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, TE};
use http_body::Frame;
use tokio_stream::Stream;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service};
use tonic::metadata::GRPC_CONTENT_TYPE;
use tonic::server::NamedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::Encoded;
use super::received::{End, Messages};
use crate::{CoordinatorMessage, MAX_COORDINATOR_MESSAGE_BYTES, MAX_HELLO_BYTES, WorkerMessage};

const SERVICE: &str = "lockstep.v1.Lockstep";
const PATH: &str = "/lockstep.v1.Lockstep/Join";

/// What a coordinator does with a worker that calls.
pub trait Join: Send + Sync + 'static {
    /// What it says; an error is its last word.
    type Answers: Stream<Item = Result<Encoded, Status>> + Unpin + Send + 'static;

    /// Takes what the worker says, from where `request` tells, and answers. Messages may be as long as a hello until
    /// more is [allowed](Messages::allow).
    ///
    /// # Errors
    ///
    /// A status ends the call.
    fn join(
        &self,
        request: Request<Messages<WorkerMessage>>,
    ) -> impl Future<Output = Result<Self::Answers, Status>> + Send;
}

/// The gRPC service `lockstep.v1.Lockstep`.
#[derive(Debug)]
pub struct JoinServer<T>(Arc<T>);

impl<T> JoinServer<T> {
    /// Answers calls with `service`.
    pub fn new(service: Arc<T>) -> Self {
        Self(service)
    }
}

impl<T> Clone for JoinServer<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> NamedService for JoinServer<T> {
    const NAME: &'static str = SERVICE;
}

impl<T: Join> Service<http::Request<Body>> for JoinServer<T> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = Arc::clone(&self.0);
        Box::pin(async move {
            if request.uri().path() != PATH {
                return Ok(Status::unimplemented("there is no such method").into_http());
            }
            let request =
                Request::from_http(request).map(|body| Messages::new(body, MAX_HELLO_BYTES, End::OfRequest));
            Ok(match service.join(request).await {
                Ok(answers) => {
                    let mut response = http::Response::new(Body::new(Outgoing::response(answers)));
                    response.headers_mut().insert(CONTENT_TYPE, GRPC_CONTENT_TYPE);
                    response
                }
                Err(status) => status.into_http(),
            })
        })
    }
}

/// Calls the coordinator behind `channel`; what is said to it comes from `messages`.
///
/// # Errors
///
/// The coordinator's refusal, or one made here of a broken connection.
pub async fn join(
    mut channel: Channel,
    messages: impl Stream<Item = Encoded> + Unpin + Send + 'static,
) -> Result<Messages<CoordinatorMessage>, Status> {
    let broken = |error: tonic::transport::Error| Status::from_error(error.into());
    std::future::poll_fn(|context| channel.poll_ready(context)).await.map_err(broken)?;
    let request = http::Request::post(PATH)
        .version(http::Version::HTTP_2)
        .header(TE, HeaderValue::from_static("trailers"))
        .header(CONTENT_TYPE, GRPC_CONTENT_TYPE)
        .body(Body::new(Outgoing::request(messages)))
        .expect("the head of a request that is the same for every call");
    let response = channel.call(request).await.map_err(broken)?;
    let (head, body) = response.into_parts();
    if let Some(status) = Status::from_header_map(&head.headers)
        && status.code() != Code::Ok
    {
        return Err(status);
    }
    let answer = format!("the answer has the HTTP status {}", head.status);
    match head.status.as_u16() {
        200 => {}
        401 | 403 => return Err(Status::permission_denied(answer)),
        404 => return Err(Status::unimplemented(answer)),
        _ => return Err(Status::unavailable(answer)),
    }
    Ok(Messages::new(body, MAX_COORDINATOR_MESSAGE_BYTES, End::OfResponse))
}

/// One direction of the call, as HTTP/2 sends it: the pieces of its messages, unchanged.
#[derive(Debug)]
struct Outgoing<S> {
    messages: S,
    /// What is left of the message that has begun.
    payload: Bytes,
    side: Side,
}

/// Which side sends it, and how its stream ends.
#[derive(Debug)]
enum Side {
    Client,
    /// With a status in trailers.
    Server {
        ended: bool,
    },
}

/// A worker's messages, which cannot fail.
#[derive(Debug)]
struct Sound<S>(S);

impl<S: Stream<Item = Encoded> + Unpin> Stream for Sound<S> {
    type Item = Result<Encoded, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.0).poll_next(context).map(|message| message.map(Ok))
    }
}

impl<S> Outgoing<S> {
    fn response(messages: S) -> Self {
        Self { messages, payload: Bytes::new(), side: Side::Server { ended: false } }
    }
}

impl<S> Outgoing<Sound<S>> {
    fn request(messages: S) -> Self {
        Self { messages: Sound(messages), payload: Bytes::new(), side: Side::Client }
    }
}

impl<S: Stream<Item = Result<Encoded, Status>> + Unpin> http_body::Body for Outgoing<S> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if !self.payload.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.payload)))));
        }
        if let Side::Server { ended: true } = self.side {
            return Poll::Ready(None);
        }
        let last = match ready!(Pin::new(&mut self.messages).poll_next(context)) {
            Some(Ok(Encoded { head, payload })) => {
                self.payload = payload;
                return Poll::Ready(Some(Ok(Frame::data(head))));
            }
            Some(Err(status)) => status,
            None => Status::ok(""),
        };
        match &mut self.side {
            Side::Client => Poll::Ready(None),
            Side::Server { ended } => {
                *ended = true;
                let mut trailers = http::HeaderMap::new();
                Poll::Ready(Some(last.add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
            }
        }
    }
}

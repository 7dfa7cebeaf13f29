//! Messages on their way in: cut out of HTTP/2's data frames, and decoded from where they lie.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http_body::Body as _;
use prost::Message;
use tonic::body::Body;
use tonic::{Code, Status};

use super::PREFIX_BYTES;

/// Pieces that a message may lie in: its fields and its payload are two, and a flow-control window may cut each. What a
/// peer sends beyond them is gathered.
const MAX_PIECES: usize = 16;

/// Less than this is copied: sharing it would keep all of the buffer that it was received in.
const MIN_SHARED_BYTES: usize = 1024;

/// The messages of one direction of a call.
pub struct Messages<M> {
    body: Body,
    pieces: Pieces,
    /// The length of the message that has begun.
    length: Option<usize>,
    max_message_bytes: usize,
    /// Of all messages so far.
    received_bytes: u64,
    end: End,
    /// The end, or an error, was told.
    over: bool,
    message: PhantomData<fn() -> M>,
}

/// What the end of the stream means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// A client has no more to say.
    OfRequest,
    /// A server has no more to say, and may say in its trailers why.
    OfResponse,
}

impl<M: Message + Default> Messages<M> {
    pub(super) fn new(body: Body, max_message_bytes: usize, end: End) -> Self {
        let pieces = Pieces::default();
        Self {
            body,
            pieces,
            length: None,
            max_message_bytes,
            received_bytes: 0,
            end,
            over: false,
            message: PhantomData,
        }
    }

    /// Takes messages of up to so many bytes from now on.
    pub fn allow(&mut self, max_message_bytes: usize) {
        self.max_message_bytes = max_message_bytes;
    }

    /// The length of all messages so far, with their prefixes.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// The next message; `None` at the end of the stream. A call that is given up loses none.
    ///
    /// # Errors
    ///
    /// The peer's status; or one made here, for a broken connection, or with the code `OutOfRange` or `Internal` for
    /// what is no message or too long a one, and without a source. Nothing is received after it.
    pub async fn message(&mut self) -> Result<Option<M>, Status> {
        if self.over {
            return Ok(None);
        }
        let next = poll_fn(|context| self.poll(context)).await;
        self.over = !matches!(next, Ok(Some(_)));
        next
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<M>, Status>> {
        loop {
            if let Some(message) = self.cut()? {
                let message = M::decode(message);
                return Poll::Ready(message.map(Some).map_err(|error| Status::internal(error.to_string())));
            }
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.pieces.push(data),
                    Err(frame) => return Poll::Ready(self.ended(frame.into_trailers().ok().as_ref())),
                },
                // A client that is gone has no more to say, either.
                Some(Err(status)) if self.end == End::OfRequest && status.code() == Code::Cancelled => {
                    return Poll::Ready(Ok(None));
                }
                Some(Err(status)) => return Poll::Ready(Err(status)),
                None => return Poll::Ready(self.ended(None)),
            }
        }
    }

    /// Takes the bytes of a message out of what has come, once all of them have.
    fn cut(&mut self) -> Result<Option<Pieces>, Status> {
        let length = match self.length {
            Some(length) => length,
            None if self.pieces.remaining() < PREFIX_BYTES => return Ok(None),
            None => {
                match self.pieces.get_u8() {
                    0 => {}
                    1 => return Err(Status::internal("a compressed message, which nobody here agreed to")),
                    flag => return Err(Status::internal(format!("no message: it begins with {flag}"))),
                }
                let length = self.pieces.get_u32() as usize;
                if length > self.max_message_bytes {
                    return Err(Status::out_of_range(format!(
                        "message length too large: {length} bytes, the limit is {}",
                        self.max_message_bytes
                    )));
                }
                *self.length.insert(length)
            }
        };
        if self.pieces.remaining() < length {
            return Ok(None);
        }
        self.length = None;
        self.received_bytes += (PREFIX_BYTES + length) as u64;
        Ok(Some(self.pieces.split_to(length)))
    }

    fn ended(&self, trailers: Option<&http::HeaderMap>) -> Result<Option<M>, Status> {
        if self.end == End::OfResponse {
            match trailers.and_then(Status::from_header_map) {
                Some(status) if status.code() == Code::Ok => {}
                Some(status) => return Err(status),
                None => return Err(Status::unknown("the answer ended without a status")),
            }
        }
        if self.length.is_some() || self.pieces.has_remaining() {
            return Err(Status::internal("the stream ended within a message"));
        }
        Ok(None)
    }
}

/// Bytes as they came, piece by piece; reading a field that fills most of a piece shares it.
#[derive(Debug, Default)]
struct Pieces {
    /// None of them is empty.
    pieces: VecDeque<Bytes>,
    /// What came after [`MAX_PIECES`]; empty if there are no pieces.
    gathered: BytesMut,
    bytes: usize,
}

impl Pieces {
    fn push(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        self.bytes += piece.len();
        if !self.gathered.is_empty() || self.pieces.len() == MAX_PIECES {
            self.gathered.extend_from_slice(&piece);
        } else if piece.len() < MIN_SHARED_BYTES {
            self.pieces.push_back(Bytes::copy_from_slice(&piece));
        } else {
            self.pieces.push_back(piece);
        }
    }

    fn split_to(&mut self, bytes: usize) -> Self {
        let mut front = Self::default();
        while front.bytes < bytes {
            let wanted = bytes - front.bytes;
            let piece = self.copy_to_bytes(wanted.min(self.chunk().len()));
            front.bytes += piece.len();
            front.pieces.push_back(piece);
        }
        front
    }

    /// The first bytes of the first piece, which has as many, shared.
    fn take_front(&mut self, bytes: usize) -> Bytes {
        let Some(front) = self.pieces.front_mut() else { return Bytes::new() };
        let shared = front.split_to(bytes);
        self.bytes -= bytes;
        self.drop_empty_front();
        shared
    }

    fn drop_empty_front(&mut self) {
        if self.pieces.front().is_some_and(Bytes::is_empty) {
            self.pieces.pop_front();
        }
        if self.pieces.is_empty() && !self.gathered.is_empty() {
            self.pieces.push_back(std::mem::take(&mut self.gathered).freeze());
        }
    }
}

impl Buf for Pieces {
    fn remaining(&self) -> usize {
        self.bytes
    }

    fn chunk(&self) -> &[u8] {
        self.pieces.front().map_or(&[], |piece| piece)
    }

    fn advance(&mut self, mut bytes: usize) {
        assert!(bytes <= self.bytes, "{bytes} bytes of {}", self.bytes);
        while bytes > 0 {
            bytes -= self.take_front(bytes.min(self.chunk().len())).len();
        }
    }

    fn copy_to_bytes(&mut self, bytes: usize) -> Bytes {
        let front = self.chunk().len();
        // What is kept of a field must not keep much more than the field.
        if bytes <= front && (front < MIN_SHARED_BYTES || front <= 2 * bytes) {
            return self.take_front(bytes);
        }
        let mut copy = BytesMut::with_capacity(bytes);
        while copy.len() < bytes {
            let part = self.chunk().len().min(bytes - copy.len());
            assert!(part > 0, "{bytes} bytes of fewer");
            copy.extend_from_slice(&self.chunk()[..part]);
            self.advance(part);
        }
        copy.freeze()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body::Frame;

    use super::*;
    use crate::stream::Encoded;
    use crate::wire::{Heartbeat, NodeResult, WorkerMessage, worker_message};
    use crate::{Fence, FromWorker, RunId};

    const LIMIT: usize = 200_000;

    /// A body of the given frames.
    struct Frames(VecDeque<Frame<Bytes>>);

    impl http_body::Body for Frames {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(Ok))
        }
    }

    fn messages(frames: impl IntoIterator<Item = Frame<Bytes>>, end: End) -> Messages<WorkerMessage> {
        Messages::new(Body::new(Frames(frames.into_iter().collect())), LIMIT, end)
    }

    /// Nothing is ever waited for.
    fn next(messages: &mut Messages<WorkerMessage>) -> Result<Option<WorkerMessage>, Status> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        let Poll::Ready(next) = messages.poll(&mut context) else { panic!("it waits") };
        next
    }

    fn data(bytes: impl Into<Bytes>) -> Frame<Bytes> {
        Frame::data(bytes.into())
    }

    fn node(gradient: Bytes) -> WorkerMessage {
        let node = NodeResult { step: 7, gradient, ..NodeResult::default() };
        WorkerMessage { body: Some(worker_message::Body::Node(node)) }
    }

    /// As a generated client sends it.
    fn plain(message: &WorkerMessage) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend((message.encoded_len() as u32).to_be_bytes());
        message.encode(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn messages_are_the_same_however_frames_cut_them() {
        let long: Vec<u8> = (0..40_000).map(|at| (at % 251) as u8).collect();
        let sent = [node(long.into()), WorkerMessage::default(), node(vec![2; 10].into())];
        let bytes: Vec<u8> = sent.iter().flat_map(plain).collect();
        for size in [1, 2, 3, 5, 7, 100, 999, 1024, 1500, 3000, bytes.len()] {
            let frames = bytes.chunks(size).map(|part| data(part.to_vec()));
            let mut received = messages(frames, End::OfRequest);
            for message in &sent {
                assert_eq!(next(&mut received).unwrap().as_ref(), Some(message), "frames of {size}");
            }
            assert_eq!(next(&mut received).unwrap(), None, "frames of {size}");
        }
    }

    #[test]
    fn a_payload_stays_where_it_was_received() {
        let plain = Bytes::from(plain(&node(vec![3; 5000].into())));
        let (head, payload) = (plain.slice(..plain.len() - 5000), plain.slice(plain.len() - 5000..));
        let place = payload.as_ptr();
        for frames in [vec![data(plain.clone())], vec![data(head), data(payload)]] {
            let received = next(&mut messages(frames, End::OfRequest)).unwrap().unwrap();
            let Some(worker_message::Body::Node(node)) = received.body else { panic!("{received:?}") };
            assert_eq!(node.gradient.as_ptr(), place, "shared, not copied");
        }
    }

    #[test]
    fn a_small_field_of_a_large_frame_is_copied() {
        let plain =
            Bytes::from([plain(&node(vec![3; 400].into())), plain(&node(vec![4; 100_000].into()))].concat());
        let within = plain.as_ptr_range();
        let mut received = messages([data(plain)], End::OfRequest);
        let mut gradient = || {
            let message = next(&mut received).unwrap().unwrap();
            let Some(worker_message::Body::Node(node)) = message.body else { panic!("{message:?}") };
            node.gradient
        };
        let (small, large) = (gradient(), gradient());
        assert!(!within.contains(&small.as_ptr()) && small == vec![3; 400]);
        assert!(within.contains(&large.as_ptr()) && large == vec![4; 100_000]);
    }

    #[tokio::test]
    async fn nothing_is_received_after_an_error() {
        let bytes = [vec![7, 0, 0, 0, 0], plain(&WorkerMessage::default())].concat();
        let mut received = messages([data(bytes)], End::OfRequest);
        assert_eq!(received.message().await.unwrap_err().code(), Code::Internal);
        assert_eq!(received.message().await.unwrap(), None);
    }

    #[test]
    fn more_may_be_allowed_later() {
        let bytes = [plain(&node(vec![1; 10].into())), plain(&node(vec![1; 5000].into()))].concat();
        let mut received = messages([data(bytes)], End::OfRequest);
        received.allow(100);
        assert!(next(&mut received).unwrap().is_some());
        received.allow(6000);
        assert!(next(&mut received).unwrap().is_some());
    }

    #[test]
    fn what_is_sent_here_is_understood_here() {
        let fence = Fence { run_id: RunId([3; 16]), term: 9 };
        let encoded = Encoded::from(FromWorker::Heartbeat(crate::Heartbeat { fence, progress: None }));
        let received = next(&mut messages([data(encoded.head)], End::OfRequest)).unwrap().unwrap();
        let Some(worker_message::Body::Heartbeat(Heartbeat { fence: Some(received), .. })) = received.body
        else {
            panic!("{received:?}")
        };
        assert_eq!((received.run_id.as_ref(), received.term), ([3; 16].as_ref(), 9));
    }

    #[test]
    fn what_is_no_message_is_refused_before_it_takes_memory() {
        let code = |bytes: &[u8], end| {
            let error = next(&mut messages([data(bytes.to_vec())], end)).unwrap_err();
            (error.code(), error.message().to_string())
        };
        let (over, message) = code(&[0, 0xff, 0xff, 0xff, 0xff], End::OfRequest);
        assert_eq!(over, Code::OutOfRange);
        assert!(message.contains("4294967295 bytes") && message.contains("200000"), "{message}");
        assert_eq!(code(&[1, 0, 0, 0, 0], End::OfRequest).0, Code::Internal, "compressed");
        assert_eq!(code(&[0, 0, 0, 0, 1, 0xff], End::OfRequest).0, Code::Internal, "no protobuf");
        assert_eq!(code(b"<html>", End::OfRequest).0, Code::Internal, "a web page");
        assert_eq!(code(&[0, 0, 0, 0, 9, 1], End::OfRequest).0, Code::Internal, "an end within a message");
        assert_eq!(code(&[0, 0], End::OfRequest).0, Code::Internal, "an end within a prefix");
    }

    #[test]
    fn a_server_says_in_its_trailers_why_it_ends() {
        let trailers = |status: Status| {
            let mut trailers = http::HeaderMap::new();
            status.add_header(&mut trailers).unwrap();
            Frame::trailers(trailers)
        };
        let mut received = messages([trailers(Status::failed_precondition("no"))], End::OfResponse);
        let status = next(&mut received).unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, "no"));
        assert_eq!(next(&mut messages([trailers(Status::ok(""))], End::OfResponse)).unwrap(), None);
        assert_eq!(next(&mut messages([], End::OfResponse)).unwrap_err().code(), Code::Unknown);
    }
}

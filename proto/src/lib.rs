//! The lockstep.v1 protocol: the generated service, and messages parsed once, at the edge, into types that cannot
//! be wrong. No other crate sees the generated message types.

mod message;
mod stream;
mod token;

/// Generated from `proto/lockstep/v1/lockstep.proto` by `generator`, which also tells whether it is current.
#[allow(missing_docs, clippy::all, unused_qualifications)]
#[rustfmt::skip]
mod wire;

pub use message::from_worker::{FromWorker, Hello, NodeResult, NodeValue};
pub use message::spans::{MAX_SPANS, SPAN_PARTS, Span, SpanKind, Spans, TraceId};
pub use message::to_worker::{Assignment, Finish, MAX_HEARTBEAT, Revoke, ToWorker, Weights, Welcome};
pub use message::{Fence, Heartbeat, MalformedMessage, Progress, RunId};
pub use stream::{Encoded, Join, JoinServer, Messages, join};
pub use token::{Token, TokenError};
/// What travels to a worker; made from a [`ToWorker`].
pub use wire::CoordinatorMessage;
/// What travels to the coordinator; made from a [`FromWorker`].
pub use wire::WorkerMessage;
pub use wire::lockstep_client::LockstepClient;
pub use wire::lockstep_server::{Lockstep, LockstepServer};

/// Raised whenever a peer of an older version would misunderstand a message.
pub const PROTOCOL_VERSION: u32 = 3;

/// HTTP/2 frames of this size halve the cost of a message of 130 kB, both ends set it.
pub const MAX_FRAME_BYTES: u32 = 1 << 20;

/// The largest first message: whoever has not shown the token yet gets no more memory than this.
pub const MAX_HELLO_BYTES: usize = 8 << 10;

/// The largest message that a coordinator takes from a worker: one gradient of 132,776 bytes and its header.
pub const MAX_WORKER_MESSAGE_BYTES: usize = 256 << 10;

/// The largest message that a worker takes from the coordinator: the pixels of one assignment.
pub const MAX_COORDINATOR_MESSAGE_BYTES: usize = 64 << 20;

/// Messages, weights aside, that wait for a worker that does not read; then it is dropped. It never has more than a
/// few assignments.
pub const MAX_QUEUED_MESSAGES: usize = 32;

/// Assignments that a worker holds at once; the control plane hands out two tasks ahead and one portion of each.
pub const MAX_HELD_ASSIGNMENTS: usize = 16;

//! The call `Join` as HTTP/2 carries it: gRPC's framing, with payloads that are never copied on the way.
//!
//! The wire is plain protobuf over gRPC, and any client or server of it understands the other side. This exists because
//! a generated client or server copies every message into one buffer on both ends, which costs more than the network:
//! here a tensor goes to HTTP/2 as the shared bytes that it is, and what was received is sliced, not gathered. Knows
//! nothing of what the messages mean.

mod call;
mod encoded;
mod received;

pub use call::{Join, JoinServer, join};
pub use encoded::Encoded;
pub use received::Messages;

/// gRPC's prefix of a message: a flag for compression, and the length.
const PREFIX_BYTES: usize = 5;

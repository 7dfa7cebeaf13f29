//! What a stranger costs: until a peer has been admitted as a worker its connection is a *stranger*, and all strangers
//! together have few places, little time, few bytes and few turns of the loop.
//!
//! A connection over TCP is accepted on a thread of its own (`acceptor`), waits there for its turn, which goes by
//! address, and comes to the loop's thread at a bounded rate. There it is a `Connection`, which ends itself at its
//! limits, and one of the `Strangers`, of which the oldest goes when there are too many.

pub(crate) mod acceptor;
pub(crate) mod allowance;
pub(crate) mod budget;
pub(crate) mod connection;
mod fair_queue;
mod penalties;
pub(crate) mod places;

pub use connection::{Connection, Strangers};

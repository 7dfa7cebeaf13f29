//! Workers' connections: the gRPC service, the server that serves it, and messages from decisions.

pub mod admission;
pub(crate) mod arrived;
pub mod encode;
pub mod process_exit;
pub mod server;
pub mod service;

//! The gRPC server around the service, and its limits.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::{JoinServer, MAX_FRAME_BYTES};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::Stream;
use tonic::transport::Server;

use crate::transport::admission::Connection;
use crate::transport::service::Service;

/// A connection whose other end answers nothing is closed after so long, or after the silence that a member is allowed if
/// that is longer: the control plane decides whether a member is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Calls at once on a connection: a worker makes one.
const MAX_CALLS: u32 = 1;

/// The head of a call: a worker's has 200 bytes.
const MAX_HEAD_BYTES: u32 = 8 << 10;

/// Serves on these connections until the runtime ends.
pub fn serve<C>(
    connections: impl Stream<Item = io::Result<Connection<C>>> + Send + 'static,
    service: Arc<Service>,
) where
    C: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let server = Server::builder()
        .max_frame_size(MAX_FRAME_BYTES)
        .max_concurrent_streams(MAX_CALLS)
        .http2_max_header_list_size(MAX_HEAD_BYTES)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE.max(service.silence())))
        .add_service(JoinServer::new(service));
    tokio::spawn(async move {
        if let Err(error) = server.serve_with_incoming(connections).await {
            tracing::error!("the gRPC server ended: {error}");
        }
    });
}

//! The gRPC server around the service: its limits, and how it treats connections that cannot be accepted.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use lockstep_proto::{JoinServer, MAX_FRAME_BYTES};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::{Stream, StreamExt};
use tonic::transport::Server;
use tonic::transport::server::Connected;

use crate::transport::service::Service;

/// A connection whose other end answers nothing is closed after so long, or after the silence that a member is allowed if
/// that is longer: the control plane decides whether a member is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The pause after a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves on these connections until the runtime ends.
pub fn serve<C>(connections: impl Stream<Item = io::Result<C>> + Send + 'static, service: Arc<Service>)
where
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let server = Server::builder()
        .max_frame_size(MAX_FRAME_BYTES)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE.max(service.silence())))
        .add_service(JoinServer::new(service));
    let connections = connections.then(|connection| async {
        if let Err(error) = &connection {
            // Without descriptors, accepting would fail again at once, and for ever.
            tracing::warn!("cannot accept a connection: {error}");
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
        connection
    });
    tokio::spawn(async move {
        if let Err(error) = server.serve_with_incoming(connections).await {
            tracing::error!("the gRPC server ended: {error}");
        }
    });
}

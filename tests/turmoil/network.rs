//! The simulated network as the two ends of gRPC want it: what a coordinator accepts, and how a worker dials.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use lockstep_worker::Dial;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio_stream::Stream;
use tonic::transport::{Channel, Endpoint, Error, Uri};
use turmoil::net::{TcpListener, TcpStream};

/// Cuts the connections of workers as a router that restarts does: with a reset, in the middle of whatever is sent.
#[derive(Clone, Default)]
pub struct Resets(Arc<Mutex<BTreeMap<String, watch::Sender<u32>>>>);

impl Resets {
    /// Resets all connections of a worker that are open now.
    pub fn reset(&self, worker: &str) {
        self.cutter(worker).send_modify(|resets| *resets += 1);
    }

    fn cutter(&self, worker: &str) -> watch::Sender<u32> {
        self.0.lock().unwrap().entry(worker.to_string()).or_default().clone()
    }
}

/// Dials on the simulated network, as one of its hosts.
pub struct Dialler {
    pub worker: String,
    pub resets: Resets,
}

impl Dial for Dialler {
    async fn dial(&self, endpoint: &Endpoint) -> Result<Channel, Error> {
        let resets = self.resets.cutter(&self.worker);
        let connector = tower::service_fn(move |uri: Uri| {
            let resets = resets.subscribe();
            async move {
                let host = uri.host().unwrap_or_default().to_string();
                let stream = TcpStream::connect((host, uri.port_u16().unwrap_or_default())).await?;
                Ok::<_, io::Error>(TokioIo::new(Connection::cut_by(stream, resets)))
            }
        });
        endpoint.connect_with_connector(connector).await
    }
}

/// What comes in at a listener.
pub fn connections(listener: TcpListener) -> impl Stream<Item = io::Result<(Connection, SocketAddr)>> + Send {
    let listener = Arc::new(listener);
    let (sender, connections) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let accepted = listener.accept().await;
            let accepted = accepted.map(|(stream, peer)| (Connection { stream, cut: Cut::Never }, peer));
            if sender.send(accepted).await.is_err() {
                return;
            }
        }
    });
    tokio_stream::wrappers::ReceiverStream::new(connections)
}

/// A simulated connection.
pub struct Connection {
    stream: TcpStream,
    cut: Cut,
}

enum Cut {
    Never,
    When(Pin<Box<dyn Future<Output = ()> + Send>>),
    Done,
}

impl Connection {
    fn cut_by(stream: TcpStream, mut resets: watch::Receiver<u32>) -> Self {
        let reset = async move {
            if resets.changed().await.is_err() {
                std::future::pending().await
            }
        };
        Self { stream, cut: Cut::When(Box::pin(reset)) }
    }

    fn uncut(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let cut = match &mut self.cut {
            Cut::Never => false,
            Cut::When(reset) => reset.as_mut().poll(context).is_ready(),
            Cut::Done => true,
        };
        if cut {
            self.cut = Cut::Done;
            return Err(io::Error::from(io::ErrorKind::ConnectionReset));
        }
        Ok(())
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.uncut(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.uncut(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.uncut(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.uncut(context)?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

//! Where the coordinator's name leads: the system's look-up, on a thread of its own, because it may take its time. Tokio's
//! own way panics where the system gives no thread; here that is an error like any other.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread;
use std::vec::IntoIter;

use hyper_util::client::legacy::connect::dns::Name;
use tokio::sync::oneshot;
use tonic::codegen::Service;

/// Looks names up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LookUp;

impl Service<Name> for LookUp {
    type Response = IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<IntoIter<SocketAddr>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(async move {
            let (sender, found) = oneshot::channel();
            let look_up = move || {
                // The port is put in its place by who connects. Nobody may wait any longer.
                let _ = sender.send((name.as_str(), 0).to_socket_addrs());
            };
            thread::Builder::new().name("look-up".to_string()).spawn(look_up)?;
            found.await.map_err(io::Error::other)?
        })
    }
}

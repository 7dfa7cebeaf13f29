//! Where local workers connect: a Unix socket with a name that is no file, so that nothing is left behind.
//!
//! The name is random: nobody can take it beforehand. Only processes of the same user and of root are let in, and they
//! need the join token, too.

use std::fmt::Write;
use std::io;
use std::time::Duration;

use lockstep_worker::LOCAL_SOCKET;
use rustix::process::getuid;
use tokio::net::{UnixListener, UnixStream};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_stream::{Stream, StreamExt};

use crate::transport::admission::Connection;

/// The pause after a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A socket that is listened on.
pub struct LocalSocket {
    listener: UnixListener,
    name: String,
}

impl LocalSocket {
    /// Listens on a new name; within a runtime.
    ///
    /// # Errors
    ///
    /// The system's reason.
    pub fn bind() -> io::Result<Self> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let mut name = String::from("lockstep-");
        for byte in random {
            let _ = write!(name, "{byte:02x}");
        }
        // A zero byte in front tells such names from files.
        let listener = UnixListener::bind(format!("\0{name}"))?;
        Ok(Self { listener, name })
    }

    /// The URL that a worker dials.
    pub fn url(&self) -> String {
        format!("{LOCAL_SOCKET}{}", self.name)
    }

    /// The connections that are let in.
    pub fn connections(self) -> impl Stream<Item = io::Result<Connection<UnixStream>>> + Send {
        let let_in = UnixListenerStream::new(self.listener).filter(|connection| match connection {
            Ok(connection) => is_let_in(connection),
            Err(_) => true,
        });
        let_in.map(|connection| connection.map(Connection::local)).then(|connection| async {
            if let Err(error) = &connection {
                // Without descriptors, accepting would fail again at once, and for ever.
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            connection
        })
    }
}

fn is_let_in(connection: &UnixStream) -> bool {
    match connection.peer_cred() {
        Ok(peer) if peer.uid() == getuid().as_raw() || peer.uid() == 0 => true,
        Ok(peer) => {
            tracing::warn!("turned away a process of the user {} at the local workers' socket", peer.uid());
            false
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_process_of_the_same_user_is_let_in() {
        let (one, other) = (LocalSocket::bind().unwrap(), LocalSocket::bind().unwrap());
        assert_ne!(one.url(), other.url());
        let name = one.url().replacen(LOCAL_SOCKET, "\0", 1);
        let mut connections = Box::pin(one.connections());
        let (dialled, came) = tokio::join!(UnixStream::connect(name), connections.next());
        assert!(dialled.is_ok() && came.is_some_and(|connection| connection.is_ok()));
    }
}

//! Accepts connections on a thread of its own, and lets them in one after the other: each address has its turn, and the
//! rate is bounded, so that a flood costs the loop's thread next to nothing.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::budget::Budget;
use super::connection::{Connection, Strangers};
use super::fair_queue::FairQueue;
use super::places::Places;

/// Connections that are accepted at once, and from one to the next after that. One costs some ten microseconds; what comes
/// faster waits in the system.
const ACCEPTED_AT_ONCE: u32 = 400;
const ACCEPT_PERIOD: Duration = Duration::from_micros(250);

/// Connections that are let in at once, and from one to the next after that. A stranger that sends all it may, in the
/// dearest way, costs the loop's thread half a millisecond; 256 workers that start together are in within 3 s.
const LET_IN_AT_ONCE: u32 = 16;
const LET_IN_PERIOD: Duration = Duration::from_millis(10);

/// The pause after a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts on `listener` until the stream that is returned is dropped; within a runtime.
///
/// # Errors
///
/// If the system refuses the thread, or what a runtime needs.
pub(crate) fn accept(
    listener: TcpListener,
) -> io::Result<impl Stream<Item = io::Result<Connection<TcpStream>>> + Send> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    let (sender, let_in) = mpsc::channel(1);
    let strangers = Strangers::none();
    let acceptor = Acceptor::new(sender, strangers.clone());
    std::thread::Builder::new().name("acceptor".to_string()).spawn(move || {
        if let Err(error) = runtime.block_on(acceptor.run(listener)) {
            tracing::error!("no more workers are accepted: {error}");
        }
    })?;
    Ok(ReceiverStream::new(let_in).map(move |(stream, peer)| {
        let stream = TcpStream::from_std(stream)?;
        Ok(Connection::remote(stream, peer, &strangers))
    }))
}

type LetIn = (std::net::TcpStream, SocketAddr);

struct Acceptor {
    sender: mpsc::Sender<LetIn>,
    strangers: Strangers,
    waiting: FairQueue<(TcpStream, SocketAddr)>,
    accepted: Budget,
    let_in: Budget,
}

impl Acceptor {
    fn new(sender: mpsc::Sender<LetIn>, strangers: Strangers) -> Self {
        let now = Instant::now();
        Self {
            sender,
            strangers,
            waiting: FairQueue::new(Places::of_this_process().waiting),
            accepted: Budget::new(ACCEPTED_AT_ONCE, ACCEPT_PERIOD, now),
            let_in: Budget::new(LET_IN_AT_ONCE, LET_IN_PERIOD, now),
        }
    }

    async fn run(mut self, listener: TcpListener) -> io::Result<()> {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let now = Instant::now();
            let (may_accept, may_let_in) = (self.accepted.next(), self.let_in.next());
            tokio::select! {
                biased;
                () = self.sender.closed() => return Ok(()),
                permit = self.sender.reserve(), if may_let_in <= now && !self.waiting.is_empty() => {
                    let Ok(permit) = permit else { return Ok(()) };
                    self.let_in.spend(now);
                    if let Some((_, (stream, peer))) = self.waiting.pop(|subnet| self.strangers.may_come(subnet, now))
                        && let Ok(stream) = prepared(stream)
                    {
                        permit.send((stream, peer));
                    }
                }
                accepted = listener.accept(), if may_accept <= now => match accepted {
                    Ok((stream, peer)) => {
                        self.accepted.spend(now);
                        // One that is evicted is closed here.
                        self.waiting.push(peer.ip().into(), (stream, peer));
                    }
                    Err(error) => {
                        // Without descriptors, accepting would fail again at once, and for ever.
                        tracing::warn!("cannot accept a connection: {error}");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                () = tokio::time::sleep_until(may_accept.into()), if may_accept > now => {}
                () = tokio::time::sleep_until(may_let_in.into()), if may_let_in > now && !self.waiting.is_empty() => {}
            }
        }
    }
}

/// The stream, ready for another runtime.
fn prepared(stream: TcpStream) -> io::Result<std::net::TcpStream> {
    stream.set_nodelay(true)?;
    stream.into_std()
}

//! A connection with its limits: what a stranger may send and how long it may take, and what goes in one turn of the
//! runtime.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tonic::transport::server::Connected;

use super::fair_queue::{FairQueue, Subnet, Ticket};
use super::penalties::Penalties;
use super::places::MAX_STRANGERS;

/// A peer that has not been admitted within this time is none.
pub(crate) const STRANGER_LIMIT: Duration = Duration::from_secs(5);

/// The greeting of HTTP/2, the head of the call and the longest Hello are 10 kB; the cheapest frames of HTTP/2 have 9
/// bytes and cost half a microsecond each.
const STRANGER_BYTES: usize = 16 << 10;

/// How long a peer that was refused may take to read why.
const REFUSAL_LIMIT: Duration = Duration::from_millis(500);

/// What a member may send before the other tasks of the thread have a turn: above one node, so that none is cut.
const MEMBER_TURN_BYTES: usize = 256 << 10;

/// What a member may send beside its messages, at once: a message that is not whole yet, and the frames around it.
const OVERHEAD_BYTES: u64 = 2 << 20;

/// And from then on, in a second; besides, it acknowledges what it gets, by less than this part of that.
const OVERHEAD_BYTES_PER_SECOND: u64 = 64 << 10;
const ACKNOWLEDGED_PART: u64 = 64;

/// The strangers on the loop's thread, and what is known of addresses; a clone is the same.
#[derive(Clone)]
pub struct Strangers(Arc<Shared>);

struct Shared {
    here: Mutex<FairQueue<Arc<Peer>>>,
    penalties: Mutex<Penalties>,
}

impl Strangers {
    /// None yet.
    pub fn none() -> Self {
        let here = Mutex::new(FairQueue::new(MAX_STRANGERS));
        Self(Arc::new(Shared { here, penalties: Mutex::default() }))
    }

    /// Whether somebody from there may be let in now.
    pub(super) fn may_come(&self, subnet: Subnet, now: Instant) -> bool {
        !self.penalties().pauses(subnet, now)
    }

    // A panic elsewhere leaves both as they were.

    fn here(&self) -> MutexGuard<'_, FairQueue<Arc<Peer>>> {
        self.0.here.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn penalties(&self) -> MutexGuard<'_, Penalties> {
        self.0.penalties.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a connection and the call on it know of each other.
pub(crate) struct Peer {
    /// Where the peer is; `None` if on this machine, over the local workers' socket.
    address: Option<SocketAddr>,
    /// Where its address is remembered, if it is a remote peer.
    strangers: Option<Strangers>,
    state: Mutex<PeerState>,
    /// Its membership is over.
    left: AtomicBool,
    /// Bytes of a member's messages.
    message_bytes: AtomicU64,
}

struct PeerState {
    standing: Standing,
    /// A call has come.
    called: bool,
    /// Of the task that reads the connection.
    waker: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Stranger,
    Member,
    /// Not admitted: it may read why.
    Refused,
    /// It has to make room.
    Evicted,
    /// It was a member: it may read the rest.
    Left,
}

impl Peer {
    fn new(address: Option<SocketAddr>, strangers: Option<Strangers>) -> Arc<Self> {
        let state = PeerState { standing: Standing::Stranger, called: false, waker: None };
        Arc::new(Self {
            address,
            strangers,
            state: Mutex::new(state),
            left: AtomicBool::new(false),
            message_bytes: AtomicU64::new(0),
        })
    }

    /// For people.
    pub fn name(&self) -> String {
        self.address.map_or_else(|| "this machine".to_string(), |address| address.to_string())
    }

    /// Notes that a call has come; `false` if it is not the first.
    pub fn begin_call(&self) -> bool {
        !std::mem::replace(&mut self.lock().called, true)
    }

    /// The peer is a member from now on; `false` if it had to go in the meantime.
    pub fn admit(&self) -> bool {
        self.set(Standing::Member)
    }

    /// The peer is told why it is not admitted, and has to go.
    pub fn refuse(&self) {
        self.set(Standing::Refused);
    }

    /// Notes that so many bytes came in whole messages, all in all.
    pub fn messages_took(&self, bytes: u64) {
        self.message_bytes.store(bytes, Ordering::Relaxed);
    }

    /// The member was at fault: others from its address have to wait.
    pub fn convict(&self) {
        if let (Some(address), Some(strangers)) = (self.address, &self.strangers) {
            strangers.penalties().convict(address.ip().into(), Instant::now());
        }
    }

    /// The membership is over: the peer hears of it, and has to go.
    pub fn leave(&self) {
        self.left.store(true, Ordering::Relaxed);
    }

    fn evict(&self) {
        self.set(Standing::Evicted);
    }

    /// What became of a stranger; `waker` is woken when that changes.
    fn standing(&self, waker: &Waker) -> Standing {
        let mut state = self.lock();
        if state.standing == Standing::Stranger {
            state.waker = Some(waker.clone());
        }
        state.standing
    }

    /// Only a stranger can change.
    fn set(&self, standing: Standing) -> bool {
        let mut state = self.lock();
        let changes = state.standing == Standing::Stranger;
        if changes {
            state.standing = standing;
            state.waker.take().into_iter().for_each(Waker::wake);
        }
        changes
    }

    fn lock(&self) -> MutexGuard<'_, PeerState> {
        // A panic elsewhere leaves a state that is as it was.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the service learns of the connection of a call.
#[derive(Clone)]
pub struct ConnectionInfo(pub(crate) Arc<Peer>);

/// A stranger's place among the others.
struct Place {
    strangers: Strangers,
    subnet: Subnet,
    ticket: Ticket,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.strangers.here().remove(self.subnet, self.ticket);
    }
}

/// A stream of bytes with a peer, within the limits of its standing.
pub struct Connection<C> {
    stream: C,
    peer: Arc<Peer>,
    /// Of a stranger over TCP.
    place: Option<Place>,
    /// The last that was known.
    standing: Standing,
    /// When a stranger, or a refused peer, has to be gone.
    limit: Pin<Box<Sleep>>,
    /// When the peer became a member.
    since: tokio::time::Instant,
    /// What came in all, in bytes.
    received: u64,
    /// What was sent in all, in bytes.
    sent: u64,
    /// What came in this turn of the runtime, in bytes.
    turn: usize,
}

impl<C> Connection<C> {
    /// With a process of this machine that the system has identified.
    pub fn local(stream: C) -> Self {
        Self::new(stream, None, None)
    }

    /// With the peer at `address`, which takes a place among `strangers` until it is admitted.
    pub fn remote(stream: C, address: SocketAddr, strangers: &Strangers) -> Self {
        Self::new(stream, Some(address), Some(strangers))
    }

    fn new(stream: C, address: Option<SocketAddr>, strangers: Option<&Strangers>) -> Self {
        let peer = Peer::new(address, strangers.cloned());
        let place = address.zip(strangers).map(|(address, strangers)| {
            let subnet = Subnet::from(address.ip());
            let (ticket, evicted) = strangers.here().push(subnet, Arc::clone(&peer));
            if let Some(evicted) = evicted {
                evicted.evict();
            }
            Place { strangers: strangers.clone(), subnet, ticket }
        });
        Self {
            stream,
            peer,
            place,
            standing: Standing::Stranger,
            limit: Box::pin(tokio::time::sleep(STRANGER_LIMIT)),
            since: tokio::time::Instant::now(),
            received: 0,
            sent: 0,
            turn: 0,
        }
    }

    /// Looks at what became of the peer; `Pending` if nothing more is read from it.
    fn look(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let standing = match self.standing {
            Standing::Member if self.peer.left.load(Ordering::Relaxed) => Standing::Left,
            Standing::Member => return Poll::Ready(Ok(())),
            Standing::Left => Standing::Left,
            _ => self.peer.standing(context.waker()),
        };
        if standing != self.standing {
            (self.standing, self.place) = (standing, None);
            let now = tokio::time::Instant::now();
            match standing {
                Standing::Member => self.since = now,
                Standing::Left => self.limit.as_mut().reset(now + STRANGER_LIMIT),
                _ => self.limit.as_mut().reset(now + REFUSAL_LIMIT),
            }
        }
        let aborted = || Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        match standing {
            Standing::Member => Poll::Ready(Ok(())),
            Standing::Evicted => aborted(),
            _ if self.limit.as_mut().poll(context).is_ready() => aborted(),
            Standing::Stranger if self.received > STRANGER_BYTES as u64 => aborted(),
            Standing::Stranger | Standing::Left => Poll::Ready(Ok(())),
            Standing::Refused => Poll::Pending,
        }
    }

    fn count_sent(&mut self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(bytes)) = written {
            self.sent += *bytes as u64;
        }
    }

    /// Whether a member has sent much more than its messages.
    fn overdrawn(&self) -> bool {
        let overhead = self.received.saturating_sub(self.peer.message_bytes.load(Ordering::Relaxed));
        let allowed = OVERHEAD_BYTES + self.sent / ACKNOWLEDGED_PART;
        overhead > allowed && overhead > allowed + self.since.elapsed().as_secs() * OVERHEAD_BYTES_PER_SECOND
    }
}

impl<C> Connected for Connection<C> {
    type ConnectInfo = ConnectionInfo;

    fn connect_info(&self) -> ConnectionInfo {
        ConnectionInfo(Arc::clone(&self.peer))
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Connection<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.look(context))?;
        let stranger = this.standing == Standing::Stranger;
        let turn_bytes = if stranger { STRANGER_BYTES } else { MEMBER_TURN_BYTES };
        if this.turn >= turn_bytes {
            this.turn = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        if read.is_pending() {
            this.turn = 0;
        } else {
            let bytes = buffer.filled().len() - before;
            this.turn += bytes;
            this.received += bytes as u64;
            if !stranger && this.overdrawn() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
        }
        read
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Connection<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.count_sent(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.count_sent(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    fn address(last: u8) -> SocketAddr {
        ([10, 0, 0, last], 1000).into()
    }

    fn stranger(strangers: &Strangers, last: u8) -> (DuplexStream, Connection<DuplexStream>) {
        let (theirs, ours) = duplex(1 << 20);
        (theirs, Connection::remote(ours, address(last), strangers))
    }

    async fn ends(connection: &mut Connection<DuplexStream>) -> bool {
        let mut bytes = vec![0; 1 << 20];
        loop {
            match connection.read(&mut bytes).await {
                Ok(0) => panic!("the other end closed"),
                Ok(_) => {}
                Err(error) => return error.kind() == io::ErrorKind::ConnectionAborted,
            }
        }
    }

    #[tokio::test]
    async fn a_stranger_that_says_too_much_has_to_go_and_a_member_has_not() {
        let strangers = Strangers::none();
        let (mut theirs, mut connection) = stranger(&strangers, 1);
        theirs.write_all(&[0; STRANGER_BYTES + 1]).await.unwrap();
        assert!(ends(&mut connection).await);

        let (mut theirs, mut connection) = stranger(&strangers, 1);
        assert!(connection.connect_info().0.admit());
        theirs.write_all(&[0; 10 * STRANGER_BYTES]).await.unwrap();
        connection.read_exact(&mut [0; 10 * STRANGER_BYTES]).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_stranger_that_says_nothing_has_to_go() {
        let (_theirs, mut connection) = stranger(&Strangers::none(), 1);
        let begin = tokio::time::Instant::now();
        assert!(ends(&mut connection).await);
        assert_eq!(begin.elapsed().as_secs(), STRANGER_LIMIT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_peer_is_not_read_any_more_and_has_a_moment_to_read_why() {
        let (mut theirs, mut connection) = stranger(&Strangers::none(), 1);
        connection.connect_info().0.refuse();
        theirs.write_all(&[0; 100]).await.unwrap();
        connection.write_all(b"why").await.unwrap();
        let begin = tokio::time::Instant::now();
        assert!(ends(&mut connection).await);
        assert!(begin.elapsed() >= REFUSAL_LIMIT && begin.elapsed() < STRANGER_LIMIT);
        let mut why = [0; 3];
        theirs.read_exact(&mut why).await.unwrap();
        assert_eq!(&why, b"why");
        assert!(!connection.connect_info().0.admit(), "a refused peer was admitted");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_does_not_outlive_its_membership_for_long() {
        let (mut theirs, mut connection) = stranger(&Strangers::none(), 1);
        let peer = connection.connect_info().0;
        assert!(peer.admit());
        theirs.write_all(&[0; 100]).await.unwrap();
        connection.read_exact(&mut [0; 100]).await.unwrap();
        peer.leave();
        // What acknowledges the rest is still read.
        theirs.write_all(&[0; 100]).await.unwrap();
        connection.read_exact(&mut [0; 100]).await.unwrap();
        let begin = tokio::time::Instant::now();
        assert!(ends(&mut connection).await);
        assert_eq!(begin.elapsed().as_secs(), STRANGER_LIMIT.as_secs());
    }

    #[tokio::test]
    async fn the_oldest_stranger_of_the_address_with_the_most_makes_room() {
        let strangers = Strangers::none();
        let (_other, mut other) = stranger(&strangers, 2);
        let (_first, mut first) = stranger(&strangers, 1);
        let (_admitted, admitted) = stranger(&strangers, 1);
        assert!(admitted.connect_info().0.admit());
        let mut others: Vec<_> = (0..MAX_STRANGERS).map(|_| stranger(&strangers, 1)).collect();
        assert!(ends(&mut first).await);
        // A connection that ends gives its place back.
        others.truncate(10);
        let _new = stranger(&strangers, 1);
        let read = tokio::time::timeout(Duration::ZERO, other.read(&mut [0])).await;
        assert!(read.is_err(), "another address made room");
    }

    #[tokio::test]
    async fn one_connection_does_not_keep_the_thread_for_itself() {
        let (mut theirs, ours) = duplex(4 * MEMBER_TURN_BYTES);
        let mut connection = Connection::local(ours);
        assert!(connection.connect_info().0.admit());
        theirs.write_all(&vec![0; 4 * MEMBER_TURN_BYTES]).await.unwrap();
        let mut reads = Box::pin(async move {
            for _ in 0..4 * MEMBER_TURN_BYTES / 4096 {
                connection.read_exact(&mut [0; 4096]).await.unwrap();
            }
        });
        let mut turns = 1;
        std::future::poll_fn(|context| {
            let read = reads.as_mut().poll(context);
            turns += usize::from(read.is_pending());
            read
        })
        .await;
        assert!(turns >= 4, "{turns} turns");
    }

    #[tokio::test]
    async fn a_member_that_sends_much_more_than_messages_has_to_go() {
        let (mut theirs, ours) = duplex(1 << 20);
        let mut connection = Connection::local(ours);
        let peer = connection.connect_info().0;
        assert!(peer.admit());
        let flood = async { while theirs.write_all(&[0; 1 << 16]).await.is_ok() {} };
        let reading = async {
            // All of it was messages so far.
            let mut bytes = vec![0; 4 * OVERHEAD_BYTES as usize];
            for chunk in bytes.chunks_mut(1 << 16) {
                let read = connection.read_exact(chunk).await.unwrap() as u64;
                peer.messages_took(peer.message_bytes.load(Ordering::Relaxed) + read);
            }
            ends(&mut connection).await
        };
        tokio::select! {
            ended = reading => assert!(ended),
            () = flood => panic!("the connection was closed"),
        }
    }
}

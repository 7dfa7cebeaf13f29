//! A TCP proxy between one worker and the coordinator, whose connections can be cut, healed and reset.
//!
//! A cut loses no byte: TCP would send it again. It is held back, here and, once the buffers are full, at the sender,
//! and arrives when the cut is healed, as after a partition. Knows nothing of what the bytes mean.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::plan::Way;

/// What is read at once, and all that is held in a cut connection and direction besides the kernel's buffers.
const BUFFER_BYTES: usize = 64 << 10;

/// Connections at once; a worker has one, and perhaps a few that it gave up during a cut.
const MAX_CONNECTIONS: usize = 64;

/// A listening proxy; dropping it closes its port and all connections.
pub struct Proxy {
    address: SocketAddr,
    link: watch::Sender<Link>,
    /// Its drop ends the task and, with it, the connections.
    _tasks: JoinSet<()>,
}

/// The state of all connections.
#[derive(Clone, Copy, Debug, Default)]
struct Link {
    /// Cuts that are not healed yet; overlapping ones add up.
    up_cuts: u32,
    down_cuts: u32,
    /// How often all connections were reset.
    resets: u64,
}

#[derive(Clone, Copy)]
enum Direction {
    Up,
    Down,
}

impl Link {
    fn is_open(self, direction: Direction) -> bool {
        match direction {
            Direction::Up => self.up_cuts == 0,
            Direction::Down => self.down_cuts == 0,
        }
    }
}

impl Proxy {
    /// Listens on a free port of this machine, and forwards to `upstream`.
    ///
    /// # Errors
    ///
    /// If there is no free port.
    pub async fn open(upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (link, state) = watch::channel(Link::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, upstream, state));
        Ok(Self { address, link, _tasks: tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops forwarding; connections stay open, and new ones are accepted but lead nowhere.
    pub fn cut(&self, way: Way) {
        self.change(way, |cuts| *cuts += 1);
    }

    /// Takes back one [`cut`](Self::cut) of that way.
    pub fn heal(&self, way: Way) {
        self.change(way, |cuts| *cuts = cuts.saturating_sub(1));
    }

    /// Closes all connections with RST, on both sides.
    pub fn reset(&self) {
        self.link.send_modify(|link| link.resets += 1);
    }

    fn change(&self, way: Way, change: impl Fn(&mut u32)) {
        self.link.send_modify(|link| {
            if way != Way::Down {
                change(&mut link.up_cuts);
            }
            if way != Way::Up {
                change(&mut link.down_cuts);
            }
        });
    }
}

async fn serve(listener: TcpListener, upstream: SocketAddr, link: watch::Receiver<Link>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => {
                // The caller may be gone again; whatever else is wrong shows in that no worker comes through.
                if let Ok((worker, _)) = accepted {
                    connections.spawn(connect(worker, upstream, link.clone()));
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// One connection, from its beginning to its end.
async fn connect(mut worker: TcpStream, upstream: SocketAddr, mut link: watch::Receiver<Link>) {
    let resets = link.borrow().resets;
    let mut reset = link.clone();
    let mut coordinator = tokio::select! {
        coordinator = dial(upstream, &mut link) => match coordinator {
            Ok(coordinator) => coordinator,
            // As the worker would see it without a proxy: nobody is there.
            Err(_) => return break_off(&worker),
        },
        _ = reset.wait_for(|link| link.resets != resets) => return break_off(&worker),
    };
    // A proxy that gathered small messages would slow down every step.
    let _ = (worker.set_nodelay(true), coordinator.set_nodelay(true));
    let whole = {
        let ((from_worker, to_worker), (from_coordinator, to_coordinator)) =
            (worker.split(), coordinator.split());
        let up = forward(from_worker, to_coordinator, Direction::Up, link.clone());
        let down = forward(from_coordinator, to_worker, Direction::Down, link);
        tokio::select! {
            ended = async { tokio::try_join!(up, down) } => ended.is_ok(),
            _ = reset.wait_for(|link| link.resets != resets) => false,
        }
    };
    if !whole {
        break_off(&worker);
        break_off(&coordinator);
    }
}

/// A connection is made only while both ways are open: its handshake needs both.
async fn dial(upstream: SocketAddr, link: &mut watch::Receiver<Link>) -> io::Result<TcpStream> {
    opened(link, |link| link.is_open(Direction::Up) && link.is_open(Direction::Down)).await?;
    TcpStream::connect(upstream).await
}

/// Forwards until the sender is done, and says so to the receiver.
async fn forward(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    direction: Direction,
    mut link: watch::Receiver<Link>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        opened(&mut link, |link| link.is_open(direction)).await?;
        let length = from.read(&mut buffer).await?;
        // It may have been cut while there was nothing to read.
        opened(&mut link, |link| link.is_open(direction)).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..length]).await?;
    }
}

async fn opened(link: &mut watch::Receiver<Link>, open: impl Fn(Link) -> bool) -> io::Result<()> {
    // The sender goes only with the whole proxy.
    link.wait_for(|link| open(*link)).await.map(|_| ()).map_err(|_| io::ErrorKind::ConnectionAborted.into())
}

/// Has the connection end with RST when it is dropped.
fn break_off(stream: &TcpStream) {
    // One that is broken already needs no help.
    let _ = stream.set_zero_linger();
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Far above what a busy machine needs for any of these.
    const DEADLINE: Duration = Duration::from_secs(20);
    /// What is cut must not arrive in this time, which is long for a loopback.
    const SILENCE: Duration = Duration::from_millis(100);

    struct Line {
        proxy: Proxy,
        worker: TcpStream,
        coordinator: TcpStream,
        upstream: TcpListener,
    }

    async fn line() -> Line {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::open(upstream.local_addr().unwrap()).await.unwrap();
        let mut worker = TcpStream::connect(proxy.address()).await.unwrap();
        let (mut coordinator, _) = upstream.accept().await.unwrap();
        // What comes through shows that the proxy has got so far, and waits for more.
        worker.write_all(b"up").await.unwrap();
        arrives(&mut coordinator, b"up").await;
        coordinator.write_all(b"down").await.unwrap();
        arrives(&mut worker, b"down").await;
        Line { proxy, worker, coordinator, upstream }
    }

    async fn arrives(to: &mut TcpStream, expected: &[u8]) {
        let mut found = vec![0; expected.len()];
        tokio::time::timeout(DEADLINE, to.read_exact(&mut found)).await.expect("in time").unwrap();
        assert_eq!(found, expected);
    }

    async fn nothing_arrives(to: &mut TcpStream) {
        let mut byte = [0];
        let read = tokio::time::timeout(SILENCE, to.read(&mut byte)).await;
        assert!(read.is_err(), "{read:?} came through a cut");
    }

    async fn is_reset(stream: &mut TcpStream) {
        let mut byte = [0];
        let read = tokio::time::timeout(DEADLINE, stream.read(&mut byte)).await.expect("in time");
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn bytes_and_the_end_of_a_stream_are_forwarded_both_ways() {
        let Line { proxy: _proxy, mut worker, mut coordinator, .. } = line().await;
        worker.write_all(b"hello").await.unwrap();
        arrives(&mut coordinator, b"hello").await;
        coordinator.write_all(b"welcome").await.unwrap();
        arrives(&mut worker, b"welcome").await;
        worker.shutdown().await.unwrap();
        let mut rest = Vec::new();
        tokio::time::timeout(DEADLINE, coordinator.read_to_end(&mut rest)).await.expect("in time").unwrap();
        assert!(rest.is_empty());
        coordinator.write_all(b"late").await.unwrap();
        arrives(&mut worker, b"late").await;
    }

    #[tokio::test]
    async fn a_cut_up_holds_back_what_goes_up_and_nothing_else() {
        let Line { proxy, mut worker, mut coordinator, .. } = line().await;
        proxy.cut(Way::Up);
        worker.write_all(b"held").await.unwrap();
        coordinator.write_all(b"down").await.unwrap();
        arrives(&mut worker, b"down").await;
        nothing_arrives(&mut coordinator).await;
        proxy.heal(Way::Up);
        arrives(&mut coordinator, b"held").await;
    }

    #[tokio::test]
    async fn a_cut_down_holds_back_what_goes_down_and_nothing_else() {
        let Line { proxy, mut worker, mut coordinator, .. } = line().await;
        proxy.cut(Way::Down);
        coordinator.write_all(b"held").await.unwrap();
        worker.write_all(b"up").await.unwrap();
        arrives(&mut coordinator, b"up").await;
        nothing_arrives(&mut worker).await;
        proxy.heal(Way::Down);
        arrives(&mut worker, b"held").await;
    }

    #[tokio::test]
    async fn overlapping_cuts_are_healed_one_by_one() {
        let Line { proxy, mut worker, mut coordinator, .. } = line().await;
        proxy.cut(Way::Both);
        proxy.cut(Way::Up);
        worker.write_all(b"up").await.unwrap();
        coordinator.write_all(b"down").await.unwrap();
        proxy.heal(Way::Both);
        arrives(&mut worker, b"down").await;
        nothing_arrives(&mut coordinator).await;
        proxy.heal(Way::Up);
        arrives(&mut coordinator, b"up").await;
    }

    #[tokio::test]
    async fn the_end_of_a_stream_is_held_back_too() {
        let Line { proxy, worker, mut coordinator, .. } = line().await;
        proxy.cut(Way::Both);
        drop(worker);
        nothing_arrives(&mut coordinator).await;
        proxy.heal(Way::Both);
        let mut byte = [0];
        let end = tokio::time::timeout(DEADLINE, coordinator.read(&mut byte)).await.expect("in time");
        // Closed or reset: both are ends.
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }

    #[tokio::test]
    async fn during_a_cut_a_new_connection_leads_nowhere() {
        let Line { proxy, upstream, .. } = line().await;
        proxy.cut(Way::Down);
        let mut early = TcpStream::connect(proxy.address()).await.unwrap();
        early.write_all(b"early").await.unwrap();
        let accepted = tokio::time::timeout(SILENCE, upstream.accept()).await;
        assert!(accepted.is_err(), "{accepted:?}");
        proxy.heal(Way::Down);
        let (mut coordinator, _) =
            tokio::time::timeout(DEADLINE, upstream.accept()).await.expect("in time").unwrap();
        arrives(&mut coordinator, b"early").await;
    }

    #[tokio::test]
    async fn a_reset_is_one_on_both_sides_and_the_next_connection_works() {
        let Line { proxy, mut worker, mut coordinator, upstream } = line().await;
        // It reaches a connection that is cut as well.
        proxy.cut(Way::Both);
        proxy.reset();
        is_reset(&mut worker).await;
        is_reset(&mut coordinator).await;
        proxy.heal(Way::Both);
        let mut worker = TcpStream::connect(proxy.address()).await.unwrap();
        let (mut coordinator, _) = upstream.accept().await.unwrap();
        worker.write_all(b"again").await.unwrap();
        arrives(&mut coordinator, b"again").await;
    }

    #[tokio::test]
    async fn without_a_coordinator_a_connection_is_reset() {
        let Line { proxy, upstream, .. } = line().await;
        drop(upstream);
        let mut worker = TcpStream::connect(proxy.address()).await.unwrap();
        is_reset(&mut worker).await;
    }

    #[tokio::test]
    async fn dropping_it_ends_its_connections() {
        let Line { proxy, mut worker, .. } = line().await;
        drop(proxy);
        let mut byte = [0];
        let end = tokio::time::timeout(DEADLINE, worker.read(&mut byte)).await.expect("in time");
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
}

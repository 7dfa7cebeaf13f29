//! Connections: how many, how long one may take, and their end.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::Phase;
use super::idle_timeout::IdleTimeout;

/// Connections at once: each page has up to six of its browser's.
pub const MAX_CONNECTIONS: usize = 64;

/// Connections beyond that: probes get their answer, everybody else hears that there is no place.
const MAX_OVERFLOW: usize = 16;

/// The longest that a connection beyond the limit lasts.
const OVERFLOW_LIMIT: Duration = Duration::from_secs(2);

/// The most of a request's head, and of an answer that waits to be sent.
const MAX_BUFFER_BYTES: usize = 64 << 10;

/// A connection that sends no whole request for so long, or on which nothing moves for so long, is closed; on those of
/// pages something moves oftener.
const IDLE: Duration = Duration::from_secs(30);

/// How long open pages may take to read the end.
const END_GRACE: Duration = Duration::from_millis(500);

/// The pause after a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until the phase says that it is over: `routes`, and `overflow` on connections beyond the limit.
pub async fn serve(
    listener: TcpListener,
    routes: Router,
    overflow: Router,
    mut phase: watch::Receiver<Phase>,
) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!("the dashboard cannot be served: {error}"),
    };
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let overflow_places = Arc::new(Semaphore::new(MAX_OVERFLOW));
    let phases = phase.clone();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => match places.clone().try_acquire_owned() {
                    Ok(place) => {
                        let (routes, phase) = (routes.clone(), phases.clone());
                        connections.spawn(async move {
                            converse(at_once(stream), routes, phase).await;
                            drop(place);
                        });
                    }
                    Err(_) => {
                        // Of a flood most hear nothing.
                        if let Ok(place) = overflow_places.clone().try_acquire_owned() {
                            let (overflow, phase) = (overflow.clone(), phases.clone());
                            connections.spawn(async move {
                                let conversation = converse(at_once(stream), overflow, phase);
                                // Whoever does not even take these few bytes hears nothing.
                                let _ = tokio::time::timeout(OVERFLOW_LIMIT, conversation).await;
                                drop(place);
                            });
                        }
                    }
                },
                Err(error) => {
                    // Without descriptors, accepting would fail again at once, and for ever.
                    tracing::warn!("the dashboard cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            // An error means that nobody waits for an end: it is one.
            over = phase.wait_for(|phase| *phase == Phase::Ends) => {
                if over.is_err() {
                    return;
                }
                break;
            }
        }
    }
    drop(listener);
    let all_closed = async { while connections.join_next().await.is_some() {} };
    // Whoever does not read by then finds the connection closed.
    let _ = tokio::time::timeout(END_GRACE, all_closed).await;
}

/// Small messages are to be seen at once.
fn at_once(stream: TcpStream) -> TcpStream {
    // Without it they only come later.
    let _ = stream.set_nodelay(true);
    stream
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    routes: Router,
    mut phase: watch::Receiver<Phase>,
) {
    let stream = TokioIo::new(IdleTimeout::new(stream, IDLE));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(MAX_BUFFER_BYTES)
        .serve_connection(stream, TowerToHyperService::new(routes));
    tokio::pin!(connection);
    tokio::select! {
        // However it ends, it is the browser's business.
        _ = connection.as_mut() => return,
        over = phase.wait_for(|phase| *phase == Phase::Ends) => if over.is_err() { return },
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::task::JoinHandle;
    use tokio::time::{Instant, interval, timeout};
    use tokio_stream::StreamExt;
    use tokio_stream::wrappers::IntervalStream;

    use super::*;

    /// What fills the buffers of a conversation in no time.
    const LONG: usize = 1 << 20;

    /// The client's side of a conversation, its end, and what keeps it from ending.
    fn conversation() -> (DuplexStream, JoinHandle<()>, watch::Sender<Phase>) {
        let ticks = || {
            let ticks = IntervalStream::new(interval(IDLE / 3));
            Body::from_stream(ticks.map(|_| Ok::<_, std::convert::Infallible>("data: a word\n\n")))
        };
        let routes = Router::new()
            .route("/", get(|| async { "here" }).post(|body: String| async { body }))
            .route("/long", get(|| async { vec![0; LONG] }))
            .route("/ticks", get(move || async move { ticks() }));
        let (client, server) = duplex(256);
        let (phase, phases) = watch::channel(Phase::Serves);
        (client, tokio::spawn(converse(server, routes, phases)), phase)
    }

    /// When a conversation ends, from `begin`; nothing within an hour if it does not.
    async fn end_of(conversation: JoinHandle<()>, begin: Instant) -> Option<Duration> {
        timeout(Duration::from_secs(3600), conversation).await.ok()?.unwrap();
        Some(begin.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_on_which_nothing_moves_is_closed() {
        for request in [
            "",
            "GET / HTTP/1.1\r\nho",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n",
            "GET /long HTTP/1.1\r\nhost: a\r\n\r\n",
            "GET /ticks HTTP/1.1\r\nhost: a\r\n\r\n",
        ] {
            let (mut client, conversation, _phase) = conversation();
            let begin = Instant::now();
            client.write_all(request.as_bytes()).await.unwrap();
            let end = end_of(conversation, begin).await;
            // Some ticks fill the buffers first.
            assert!(end.is_some_and(|end| end < 30 * IDLE), "{request:?}: {end:?}");
            assert!(request.contains("ticks") || end < Some(IDLE + Duration::from_secs(1)), "{request}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_that_reads_stays_and_so_does_a_slow_reader() {
        let (mut client, conversation, _phase) = conversation();
        client.write_all(b"GET /ticks HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let (begin, mut read) = (Instant::now(), [0; 256]);
        while begin.elapsed() < 20 * IDLE {
            assert!(client.read(&mut read).await.unwrap() > 0, "closed after {:?}", begin.elapsed());
        }
        drop(client);
        assert!(end_of(conversation, Instant::now()).await < Some(IDLE));

        let (mut client, _conversation, _phase) = self::conversation();
        client.write_all(b"GET /long HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        for _ in 0..20 {
            tokio::time::advance(IDLE - Duration::from_secs(1)).await;
            client.read_exact(&mut read).await.unwrap();
        }
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert!(20 * read.len() + rest.len() > LONG, "all of it came: {}", rest.len());
    }
}

//! Connections: how many, how long one may take, and their end.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::Phase;

/// Connections at once: each page has up to six of its browser's.
const MAX_CONNECTIONS: usize = 64;

/// Connections beyond that which are told so at once.
const MAX_REFUSALS: usize = 16;

/// The most of a request's head, and of an answer that waits to be sent.
const MAX_BUFFER_BYTES: usize = 64 << 10;

/// A connection that sends no request for so long is closed.
const IDLE: Duration = Duration::from_secs(30);

/// What pages have to take in the end.
const FAREWELL: Duration = Duration::from_millis(300);

/// The pause after a connection that could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until the phase says that it is over.
pub async fn serve(listener: TcpListener, routes: Router, mut phase: watch::Receiver<Phase>) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!("the dashboard cannot be served: {error}"),
    };
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let refusals = Arc::new(Semaphore::new(MAX_REFUSALS));
    let phases = phase.clone();
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => match places.clone().try_acquire_owned() {
                    Ok(place) => {
                        let (routes, phase) = (routes.clone(), phases.clone());
                        connections.spawn(async move {
                            converse(stream, routes, phase).await;
                            drop(place);
                        });
                    }
                    Err(_) => {
                        // Of a flood most hear nothing.
                        if let Ok(place) = refusals.clone().try_acquire_owned() {
                            connections.spawn(async move {
                                refuse(stream).await;
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
    let farewell = async { while connections.join_next().await.is_some() {} };
    // Whoever does not read by then finds the connection closed.
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
}

async fn converse(stream: TcpStream, routes: Router, mut phase: watch::Receiver<Phase>) {
    // Small messages that are to be seen at once; without it they only come later.
    let _ = stream.set_nodelay(true);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(IDLE)
        .max_buf_size(MAX_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    tokio::pin!(connection);
    tokio::select! {
        // However it ends, it is the browser's business.
        _ = connection.as_mut() => return,
        over = phase.wait_for(|phase| *phase == Phase::Ends) => if over.is_err() { return },
    }
    connection.as_mut().graceful_shutdown();
    let _ = connection.await;
}

/// Tells a connection beyond the limit that it is one.
async fn refuse(mut stream: TcpStream) {
    let body =
        format!("the dashboard has {MAX_CONNECTIONS} connections, and takes no more; close some pages\n");
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let say = async {
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        // A request that is not read would have the system throw the answer away.
        while stream.read(&mut [0; 1024]).await? > 0 {}
        std::io::Result::Ok(())
    };
    // Who does not even take these few bytes hears nothing.
    let _ = tokio::time::timeout(FAREWELL, say).await;
}

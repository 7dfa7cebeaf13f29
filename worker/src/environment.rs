//! What a worker runs in: the network, random numbers, and who waits for it to compute. A test may simulate them.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use hyper_util::client::legacy::connect::HttpConnector;
use tonic::transport::{Channel, Endpoint, Error};

use crate::inbox::Inbox;
use crate::join::{CONNECT_TIMEOUT, LOCAL_SOCKET};
use crate::look_up::LookUp;

/// How a coordinator is reached.
pub trait Dial {
    /// Connects to the endpoint, once.
    fn dial(&self, endpoint: &Endpoint) -> impl Future<Output = Result<Channel, Error>>;
}

/// The system's network.
#[derive(Clone, Copy, Debug)]
pub struct System {
    /// Whether the coordinator is reached by a Unix socket, which has no name to look up.
    local: bool,
}

impl Dial for System {
    async fn dial(&self, endpoint: &Endpoint) -> Result<Channel, Error> {
        if self.local {
            return endpoint.connect().await;
        }
        let mut connector = HttpConnector::new_with_resolver(LookUp);
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        endpoint.connect_with_connector(connector).await
    }
}

/// What a worker runs in.
pub struct Environment<D> {
    /// The network.
    pub dial: D,
    /// Where in its bound the next pause lies: workers that lost their coordinator together do not come back together.
    pub random: Box<dyn FnMut() -> u64>,
    /// The work that is not done yet.
    pub inboxes: Inboxes,
}

impl Environment<System> {
    /// Those of a process of its own, whose coordinator is at `url`.
    pub fn real(url: &str) -> Self {
        // Without randomness a pause is the longest one, which is safe.
        let random = Box::new(|| getrandom::u64().unwrap_or(u64::MAX));
        let dial = System { local: url.starts_with(LOCAL_SOCKET) };
        Self { dial, random, inboxes: Inboxes::default() }
    }
}

/// The inboxes of sessions: where computing threads take their work from. Time that stands still while they compute lets
/// them compute in no time.
#[derive(Clone, Default)]
pub struct Inboxes(Arc<Mutex<Vec<Weak<Inbox>>>>);

impl Inboxes {
    /// Watches one more, for as long as its session lasts.
    pub(crate) fn add(&self, inbox: &Arc<Inbox>) {
        let mut inboxes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inboxes.retain(|inbox| inbox.strong_count() > 0);
        inboxes.push(Arc::downgrade(inbox));
    }

    /// Waits until nothing is left to compute, for `limit` of real time at most; `false` if something still is.
    pub fn rest(&self, limit: Duration) -> bool {
        let begin = Instant::now();
        let inboxes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open = inboxes.iter().filter_map(Weak::upgrade);
        open.all(|inbox| inbox.rest(limit.saturating_sub(begin.elapsed())))
    }
}

//! What a worker stands on besides its own code and the runtime's clock: the network, chance, and who watches it compute.
//! In a test they may be simulated. It decides nothing.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use hyper_util::client::legacy::connect::HttpConnector;
use tonic::transport::{Channel, Endpoint, Error};

use crate::desk::Desk;
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
pub struct Surroundings<D> {
    /// The network.
    pub dial: D,
    /// Where in its bound the next pause lies: workers that lost their coordinator together do not come back together.
    pub random: Box<dyn FnMut() -> u64>,
    /// The work that is not done yet.
    pub desks: Desks,
}

impl Surroundings<System> {
    /// Those of a process of its own, whose coordinator is at `url`.
    pub fn real(url: &str) -> Self {
        // Without randomness a pause is the longest one, which is safe.
        let random = Box::new(|| getrandom::u64().unwrap_or(u64::MAX));
        let dial = System { local: url.starts_with(LOCAL_SOCKET) };
        Self { dial, random, desks: Desks::default() }
    }
}

/// The desks of sessions: where computing threads take their work from. Time that stands still while they compute lets
/// them compute in no time.
#[derive(Clone, Default)]
pub struct Desks(Arc<Mutex<Vec<Weak<Desk>>>>);

impl Desks {
    /// Watches one more, for as long as its session lasts.
    pub(crate) fn add(&self, desk: &Arc<Desk>) {
        let mut desks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        desks.retain(|desk| desk.strong_count() > 0);
        desks.push(Arc::downgrade(desk));
    }

    /// Waits until nothing is left to compute, for `limit` of real time at most; `false` if something still is.
    pub fn rest(&self, limit: Duration) -> bool {
        let begin = Instant::now();
        let desks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open = desks.iter().filter_map(Weak::upgrade);
        open.all(|desk| desk.rest(limit.saturating_sub(begin.elapsed())))
    }
}

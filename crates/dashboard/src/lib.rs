//! The dashboard: a page that shows the run live, and the activations of the network, served by the coordinator itself.
//!
//! It runs on its own thread with its own runtime, so that no page can delay the loop; the loop only puts small records
//! into a bounded history. It computes with copies of the weights, only while somebody looks, and changes nothing.

mod activations;
mod connections;
mod digits;
mod facts;
mod files;
mod history;
mod host_name;
mod hosts;
mod idle_timeout;

pub mod metrics_routes;

mod site;
mod stream;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use axum::Router;
use rustix::process::setpriority_process;
use rustix::thread::gettid;
use tokio::sync::watch;

pub use digits::Digits;
pub use facts::Facts;
pub use files::RunFiles;
pub use history::SharedHistory;
pub use host_name::HostName;

use lockstep_records::Ended;

use hosts::Hosts;

/// On a machine that is full, a thread of training comes before pages, with nine times their weight. With less of it they
/// could not be told of the end in time.
const NICENESS: i32 = 10;

/// Lets others run before this thread and those that it starts.
fn lower_priority() {
    if let Err(error) = setpriority_process(Some(gettid()), NICENESS) {
        tracing::debug!("the dashboard's thread keeps its priority: {error}");
    }
}

/// Whether the server goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Whether or not the run is over.
    Serves,
    /// The server ends: pages get what they do not know yet, and their streams end.
    Ends,
}

/// A server that could not be started.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot serve the dashboard on {address}: {source}; choose another address with --dashboard (port 0 takes a free one)"
)]
pub struct DashboardError {
    address: SocketAddr,
    source: io::Error,
}

/// The dashboard of a run. Dropping it ends the server without waiting for anybody.
pub struct Dashboard {
    address: SocketAddr,
    site: Arc<site::Site>,
    phase: watch::Sender<Phase>,
    thread: JoinHandle<()>,
}

impl Dashboard {
    /// Serves on `address` from now on, also to who comes by the names that are `vouched` for; `others` are routes beside
    /// those of the page.
    ///
    /// # Errors
    ///
    /// If the address cannot be had, or the system gives no thread.
    pub fn start(
        address: SocketAddr,
        vouched: Vec<HostName>,
        others: Router,
    ) -> Result<Self, DashboardError> {
        let refused = |source| DashboardError { address, source };
        let listener = TcpListener::bind(address).map_err(refused)?;
        listener.set_nonblocking(true).map_err(refused)?;
        let bound = listener.local_addr().map_err(refused)?;
        let (phase, phases) = watch::channel(Phase::Serves);
        let hosts = Hosts::new(bound.ip().to_canonical().is_loopback(), vouched);
        let site = Arc::new(site::Site::new(SharedHistory::default(), phases.clone(), hosts));
        let overflow = site::overflow(Arc::clone(&site), others.clone());
        let routes = site::router(Arc::clone(&site), others);
        let (ready, started) = std::sync::mpsc::sync_channel(1);
        let thread = std::thread::Builder::new().name("dashboard".to_string());
        let thread = thread.spawn(move || {
            lower_priority();
            // Made here: where there is no thread for it, a runtime cannot be dropped inside of the caller's.
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(2).build();
            let (runtime, made) = match runtime {
                Ok(runtime) => (Some(runtime), Ok(())),
                Err(error) => (None, Err(error)),
            };
            // Who starts the thread waits for this.
            let _ = ready.send(made);
            let Some(runtime) = runtime else { return };
            runtime.block_on(connections::serve(listener, routes, overflow, phases));
            // A read of a slow disk is left alone.
            runtime.shutdown_background();
        });
        let thread = thread.map_err(refused)?;
        started.recv().map_err(io::Error::other).flatten().map_err(refused)?;
        Ok(Self { address: bound, site, phase, thread })
    }

    /// Where the page is.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// The sink of the run's recorder, and what the page knows.
    pub fn history(&self) -> SharedHistory {
        self.site.history.clone()
    }

    /// Takes what there is once the data are loaded and the directory is made; without `digits` the page has none, and
    /// without the `first` weights, those before the first step, it does not show how they have changed.
    pub fn prepare(&self, facts: Facts, files: RunFiles, digits: Option<Digits>, first: Option<Box<[f32]>>) {
        let facts = Facts { files: files.names(), ..facts };
        self.site.prepare(files, digits, first.map(Into::into));
        self.site.history.set_facts(facts);
    }

    /// The run is over, and the server stays until [`Self::leave`].
    pub fn stay(&self, ended: Ended) {
        self.site.history.stay(ended);
    }

    /// Tells the pages that the run is over, and ends the server: within a moment, whoever reads or does not.
    pub fn end(self, ended: Ended) {
        self.site.history.end(ended);
        self.leave();
    }

    /// Ends the server, as [`Self::end`] does, of a run whose end was told.
    pub fn leave(self) {
        self.phase.send_replace(Phase::Ends);
        // A panic there was reported there.
        let _ = self.thread.join();
    }
}

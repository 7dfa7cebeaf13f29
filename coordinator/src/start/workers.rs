//! How workers come to a run: the gRPC service, the processes of local workers, the command for external ones.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result};
use lockstep_model::Cpu;
use lockstep_proto::{Fence, Token};
use lockstep_telemetry::Terminal;
use tokio::sync::mpsc;

use crate::local_workers::socket::LocalSocket;
use crate::local_workers::{LaunchSettings, LocalWorkers};
use crate::settings::Settings;
use crate::transport::admission::acceptor;
use crate::transport::server::serve;
use crate::transport::service::{Incoming, KeepAlive, MAX_QUEUED_INCOMING, Service};

/// A worker waits for a silent coordinator this many times longer than the coordinator for a silent worker: the
/// coordinator may be started again, and the worker has nothing else to do.
const WORKER_DEADLINES: u32 = 5;

/// The service that workers join, on the run's address.
pub(crate) struct WorkerService {
    service: Arc<Service>,
    /// Where external workers connect.
    address: Option<SocketAddr>,
    token: Token,
    /// To the loop; it stays open until the run is over.
    sender: mpsc::Sender<Incoming>,
}

impl WorkerService {
    /// Serves on `listener`, if there is one; what workers send comes out of the receiver.
    ///
    /// # Errors
    ///
    /// If the system does not know the listener's address, or refuses a thread.
    pub(super) fn start(
        listener: Option<TcpListener>,
        fence: Fence,
        token: Token,
        deadline: Duration,
        heartbeat: Duration,
    ) -> Result<(Self, mpsc::Receiver<Incoming>)> {
        let (sender, incoming) = mpsc::channel(MAX_QUEUED_INCOMING);
        let address = listener.as_ref().map(TcpListener::local_addr).transpose()?;
        let keep_alive = KeepAlive { heartbeat, silence: deadline * WORKER_DEADLINES };
        let join_test = lockstep_model::join_test(Cpu::detect());
        let service = Arc::new(Service::new(fence, token.clone(), join_test, keep_alive, sender.clone()));
        if let Some(listener) = listener {
            let connections =
                acceptor::accept(listener).context("cannot start the thread that accepts workers")?;
            serve(connections, Arc::clone(&service));
        }
        Ok((Self { service, address, token, sender }, incoming))
    }

    /// Serves local workers on `socket`, and starts them; `begun` is set once there is a process.
    pub fn start_local(
        &self,
        settings: &Settings,
        socket: LocalSocket,
        logs: PathBuf,
        begun: Arc<AtomicBool>,
    ) -> LocalWorkers {
        let url = socket.url();
        serve(socket.connections(), Arc::clone(&self.service));
        let launch = LaunchSettings {
            threads: settings.threads_per_worker.get(),
            url,
            token: self.token.clone(),
            logs,
            max_restarts: settings.max_restarts,
            begun,
        };
        LocalWorkers::start(settings.workers.get(), launch, &self.sender)
    }

    /// Prints the command that external workers are started with, if any can join.
    pub fn print_join_command(&self, settings: &Settings, terminal: &Terminal) {
        let Self { address: Some(address), token, .. } = self else { return };
        let port = address.port();
        let address =
            if address.ip().is_unspecified() { format!("HOST:{port}") } else { address.to_string() };
        let workers = match (settings.external, settings.workers.get()) {
            (true, 1) => "waiting for 1 worker; start it with".to_string(),
            (true, workers) => format!("waiting for {workers} workers; start each with"),
            (false, _) => "more workers can join; start each with".to_string(),
        };
        let token = if settings.token.is_some() { "…" } else { token.reveal() };
        terminal.print_line(&format!("{workers}\n  worker --coordinator http://{address} --token {token}"));
    }
}

/// Warns of workers that can have no work.
pub(super) fn warn_of_spares(settings: &Settings) {
    let (workers, shards) = (settings.workers.get(), settings.micro_shards.get());
    if workers > shards {
        tracing::warn!(
            "{} of {workers} workers are spares: a batch has {shards} micro-shards (raise --micro-shards, which \
             changes the run's bits)",
            workers - shards
        );
    }
}

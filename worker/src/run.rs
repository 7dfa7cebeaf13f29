//! A worker's life: one membership after the other, with pauses between, until a run is over or all patience is.

use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use lockstep_command_line::Period;
use lockstep_model::{Cpu, NUMERICS_VERSION};
use lockstep_proto::{Hello, PROTOCOL_VERSION, Token};
use tonic::transport::Endpoint;

use crate::compute::{self, SessionJob};
use crate::environment::{Dial, Environment};
use crate::error::WorkerError;
use crate::join::{Broken, endpoint, join};
use crate::retry::Retry;
use crate::session::session;
use crate::tasks::Tasks;

/// What a worker has to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// URL of the coordinator.
    pub coordinator: String,
    /// Threads that compute, at least 1.
    pub threads: u32,
    /// For people.
    pub name: String,
    /// For people.
    pub host: String,
    /// The run's join token.
    pub token: Token,
    /// How long to try to reach the coordinator, at the start and again whenever it is lost.
    pub connect_timeout: Duration,
    /// The coordinator spawned this worker. Then its process is what to watch: one that is only stopped comes back.
    pub local: bool,
    /// The instruction set to compute with.
    pub cpu: Cpu,
}

/// Joins the coordinator and computes until the run is over; returns the coordinator's reason. A coordinator that is
/// lost is joined again.
///
/// # Errors
///
/// See [`WorkerError`].
pub fn run(config: Config) -> Result<String, WorkerError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(WorkerError::Start)?;
    let end = runtime.block_on(run_in(&config, &mut Environment::real(&config.coordinator)));
    // A look-up of the coordinator's name may hang.
    runtime.shutdown_background();
    end
}

/// The same in given environment, on the runtime of the caller.
///
/// # Errors
///
/// See [`WorkerError`].
pub async fn run_in<D: Dial>(
    config: &Config,
    environment: &mut Environment<D>,
) -> Result<String, WorkerError> {
    let endpoint = endpoint(&config.coordinator)?;
    let sessions = compute::start(config.cpu, config.threads).map_err(WorkerError::Start)?;
    let mut hello = hello(config);
    let mut retry = Retry::new(config.connect_timeout, now());
    let mut last_cause = String::new();
    loop {
        let attempt = retry.attempt(now());
        let membership = membership(config, environment, &endpoint, &mut hello, &sessions, attempt).await;
        let cause = match membership.end {
            Ok(reason) => return Ok(reason),
            Err(Broken::Final(error)) => return Err(error),
            Err(Broken::Lost(cause)) => cause,
        };
        let now = now();
        if let Some(member_for) = membership.lasted {
            retry.lost(now, member_for);
        }
        let Some(pause) = retry.pause(now, (environment.random)()) else {
            return Err(gave_up(config, &hello, cause));
        };
        let url = &config.coordinator;
        if membership.lasted.is_some() {
            tracing::warn!("lost the coordinator at {url}: {cause}; trying to reach it again");
        } else if hello.known.is_some() && cause != last_cause {
            // The same news a hundred times is none.
            tracing::warn!("cannot reach the coordinator at {url} again yet: {cause}");
        } else {
            tracing::debug!("cannot reach {url} yet: {cause}");
        }
        last_cause = cause;
        tokio::time::sleep(pause).await;
    }
}

/// How an attempt to be a member ended.
struct Membership {
    end: Result<String, Broken>,
    /// How long this worker was a member, if it was.
    lasted: Option<Duration>,
}

/// Tries once to join, within `patience`, and serves the coordinator until the end of the stream.
///
/// Its tasks end with it: nothing of a broken stream stays behind, neither a connection nor a full queue.
async fn membership<D: Dial>(
    config: &Config,
    environment: &Environment<D>,
    endpoint: &Endpoint,
    hello: &mut Hello,
    sessions: &SyncSender<SessionJob>,
    patience: Duration,
) -> Membership {
    let url = &config.coordinator;
    let tasks = Tasks::default();
    let endpoint = endpoint.clone().executor(tasks.executor());
    let joining = join(url, environment.dial.dial(&endpoint), hello);
    let joined = match tokio::time::timeout(patience, joining).await {
        Ok(Ok(joined)) => joined,
        Ok(Err(broken)) => return Membership { end: Err(broken), lasted: None },
        Err(_) => {
            let cause = "something takes the connection and says nothing".to_string();
            return Membership { end: Err(Broken::Lost(cause)), lasted: None };
        }
    };
    let (welcome, begin) = (joined.welcome, now());
    hello.known = Some(welcome.fence);
    tracing::info!(
        run = %welcome.fence.run_id, term = welcome.fence.term, worker = welcome.worker_id,
        cpu = %config.cpu, threads = config.threads, "joined"
    );
    // A local coordinator that is only stopped comes back, and one that is gone takes this process along.
    let silence = welcome.silence.filter(|_| !config.local);
    let end = session(url, joined, silence, sessions, &environment.inboxes).await;
    Membership { end, lasted: Some(now().saturating_duration_since(begin)) }
}

/// The runtime's time, which is virtual where the network is.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn hello(config: &Config) -> Hello {
    Hello {
        protocol_version: PROTOCOL_VERSION,
        numerics_version: NUMERICS_VERSION,
        token: config.token.clone(),
        name: config.name.clone(),
        host: config.host.clone(),
        pid: std::process::id(),
        threads: config.threads,
        cpu: lockstep_model::cpu_description(config.cpu),
        join_test_digest: lockstep_model::join_test(config.cpu).0,
        known: None,
    }
}

fn gave_up(config: &Config, hello: &Hello, cause: String) -> WorkerError {
    let (url, patience) = (config.coordinator.clone(), Period(config.connect_timeout));
    match hello.known {
        Some(_) => WorkerError::Lost { url, patience, cause },
        None => WorkerError::Unreachable { url, patience, cause },
    }
}

#[cfg(test)]
mod tests;

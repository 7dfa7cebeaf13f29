//! The worker processes of this machine: starts them from this very binary, starts them again when they die, and leaves
//! none behind.

mod cores;
mod log;
pub mod socket;

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lockstep_command_line::own_command::own_command;
use lockstep_proto::Token;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::transport::process_exit::{End, Exit, Restart};
use crate::transport::service::Incoming;

/// The pauses before a worker is started again: the first, doubled each time up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A worker that lived for so long is healthy: its next end is the first of a row again.
const HEALTHY_AFTER: Duration = Duration::from_secs(60);

/// The processes; dropping it kills those that are left.
pub struct LocalWorkers {
    kill: watch::Sender<bool>,
    running: mpsc::Receiver<()>,
}

/// The variable of this program that a local worker inherits: the one that says how to compute.
const INHERITED: [&str; 1] = [lockstep_worker::instruction_set::VARIABLE];

/// Those that it inherits at its first start. A worker that a test had die at a point must not die there again.
const INHERITED_AT_FIRST: [&str; 2] = [INHERITED[0], lockstep_failpoints::crash::VARIABLE];

/// What every local worker is started with.
#[derive(Clone, Debug)]
pub struct LaunchSettings {
    /// Threads of each.
    pub threads: u32,
    /// The coordinator's URL.
    pub url: String,
    /// The join token.
    pub token: Token,
    /// The folder of their output.
    pub logs: PathBuf,
    /// How often one is started again in a row.
    pub max_restarts: u32,
    /// Set as soon as there is a process: from then on the run has begun.
    pub begun: Arc<AtomicBool>,
}

impl LocalWorkers {
    /// Starts `count` workers with their output in files. One that dies, or cannot be started, is started again.
    ///
    /// Call it on the main thread, in a runtime of that thread alone: on Linux the workers die with the thread that
    /// started them.
    pub fn start(count: u32, launch: LaunchSettings, incoming: &mpsc::Sender<Incoming>) -> Self {
        let (kill, _) = watch::channel(false);
        let (guard, running) = mpsc::channel(1);
        let allowed = cores::allowed();
        for number in 1..=count {
            let name = format!("local-{number}");
            let cores = cores::share(&allowed, number - 1, count, launch.threads);
            let supervisor = Supervisor {
                name,
                cores,
                launch: launch.clone(),
                incoming: incoming.clone(),
                killed: kill.subscribe(),
                _guard: guard.clone(),
            };
            tokio::spawn(supervisor.watch());
        }
        Self { kill, running }
    }

    /// Waits for every process to end.
    pub async fn ended(&mut self) {
        // Nothing is ever sent: it ends when the last process' guard is dropped.
        while self.running.recv().await.is_some() {}
    }

    /// Kills the processes that are left, stopped ones too.
    pub fn kill(&self) {
        self.kill.send_replace(true);
    }
}

/// Starts one worker's process, waits for its end, and starts the next one.
struct Supervisor {
    name: String,
    /// What it is bound to, if it is.
    cores: Option<Vec<usize>>,
    launch: LaunchSettings,
    incoming: mpsc::Sender<Incoming>,
    killed: watch::Receiver<bool>,
    /// Its drop says that no process is left.
    _guard: mpsc::Sender<()>,
}

impl Supervisor {
    async fn watch(mut self) {
        let limit = self.launch.max_restarts;
        let (mut attempt, mut pause, mut again) = (0, FIRST_PAUSE, false);
        loop {
            let started = Instant::now();
            let end = self.attempt(again).await;
            // A worker that ends without a failure was told that the run is over.
            let over =
                *self.killed.borrow() || matches!(&end, End::Exited { status, .. } if status.success());
            if started.elapsed() >= HEALTHY_AFTER {
                (attempt, pause) = (0, FIRST_PAUSE);
            }
            let restart = match () {
                () if over => Restart::Never,
                () if attempt >= limit => Restart::TooOften { limit },
                () => Restart::After { pause, attempt: attempt + 1, limit },
            };
            let exit = Exit { name: self.name.clone(), end, restart };
            // The loop may be over.
            let _ = self.incoming.send(Incoming::Exited(exit)).await;
            let Restart::After { .. } = restart else { return };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // An error means that the sender is gone: time to end, too.
                _ = self.killed.changed() => return,
            }
            (attempt, pause, again) = (attempt + 1, (pause * 2).min(LONGEST_PAUSE), true);
        }
    }

    /// Starts a process, `again` or for the first time, and sees it to its end, by itself or killed.
    async fn attempt(&mut self, again: bool) -> End {
        let started = Process::start(&self.name, self.cores.as_deref(), &self.launch, again).await;
        let mut worker = match started {
            Ok(worker) => worker,
            Err(error) => return End::NotStarted(error.to_string()),
        };
        tokio::select! {
            status = worker.child.wait() => return worker.end(status).await,
            _ = self.killed.changed() => {}
        }
        // It may have ended this instant.
        let _ = worker.child.start_kill();
        let status = worker.child.wait().await;
        worker.end(status).await
    }
}

/// One process.
struct Process {
    child: Child,
    pid: u32,
    log: PathBuf,
    /// It stays open as long as the coordinator lives: its end tells the worker to end.
    _input: ChildStdin,
}

impl Process {
    async fn start(
        name: &str,
        cores: Option<&[usize]>,
        launch: &LaunchSettings,
        again: bool,
    ) -> io::Result<Self> {
        let log = launch.logs.join(format!("{name}.log"));
        let output = log::open(log.clone()).await?;
        let mut child = spawn(name, cores, launch, output, again)?;
        let mut input =
            child.stdin.take().ok_or_else(|| io::Error::other("a worker without standard input"))?;
        // A worker that is dead already is noticed by its end.
        let _ = input.write_all(format!("{}\n", launch.token.reveal()).as_bytes()).await;
        let pid = child.id().unwrap_or_default();
        Ok(Self { child, pid, log, _input: input })
    }

    async fn end(&self, status: io::Result<ExitStatus>) -> End {
        // A process whose status the system does not give has ended all the same, and without success.
        let status = status.unwrap_or_else(|_| ExitStatus::from_raw(0x100));
        let output_tail = log::output_tail(self.log.clone()).await;
        End::Exited { pid: self.pid, status, output_tail }
    }
}

fn spawn(
    name: &str,
    cores: Option<&[usize]>,
    launch: &LaunchSettings,
    output: (Stdio, Stdio),
    again: bool,
) -> io::Result<Child> {
    let mut command = own_command(if again { &INHERITED } else { &INHERITED_AT_FIRST })?;
    command
        .args(["worker", "--coordinator", &launch.url, "--name", name])
        .args(["--threads", &launch.threads.to_string(), "--parent", &std::process::id().to_string()])
        .args(["--connect-timeout", "60"])
        .stdin(Stdio::piped())
        .stdout(output.0)
        .stderr(output.1);
    if let Some(cores) = cores {
        let cores: Vec<String> = cores.iter().map(usize::to_string).collect();
        command.args(["--cores", &cores.join(",")]);
    }
    let child = command.spawn()?;
    launch.begun.store(true, Ordering::Relaxed);
    Ok(child)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the folder of logs is missing, no worker can be started. The process that can be at last is one of this
    /// test's binary, and ends at once.
    #[tokio::test(flavor = "current_thread")]
    async fn a_failure_to_start_is_an_attempt_like_any_other() {
        let folder = tempfile::tempdir().unwrap();
        let begun = Arc::<AtomicBool>::default();
        let launch = LaunchSettings {
            threads: 1,
            url: "http://127.0.0.1:1".to_string(),
            token: Token::new("t").unwrap(),
            logs: folder.path().join("logs"),
            max_restarts: 3,
            begun: Arc::clone(&begun),
        };
        let (sender, mut incoming) = mpsc::channel(1);
        let mut workers = LocalWorkers::start(1, launch, &sender);
        let mut ends = Vec::new();
        for number in 1..=4 {
            let Some(Incoming::Exited(exit)) = incoming.recv().await else { panic!("no end of an attempt") };
            let kind = if exit.pid().is_some() { "exited" } else { "not started" };
            ends.push((kind, exit.restart));
            if number == 1 {
                assert!(exit.to_string().starts_with("local-1 could not be started (No such file"), "{exit}");
            }
            assert_eq!(begun.load(Ordering::Relaxed), exit.pid().is_some() || number == 4, "{number}");
            if number == 2 {
                std::fs::create_dir(folder.path().join("logs")).unwrap();
            }
        }
        workers.ended().await;
        let after =
            |attempt| Restart::After { pause: FIRST_PAUSE * (1_u32 << (attempt - 1)), attempt, limit: 3 };
        let expected = [
            ("not started", after(1)),
            ("not started", after(2)),
            ("exited", after(3)),
            ("exited", Restart::TooOften { limit: 3 }),
        ];
        assert_eq!(ends, expected);
    }
}

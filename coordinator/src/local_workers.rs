//! The worker processes of this machine: started from this very binary, watched, and never left behind.

use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use lockstep_proto::Token;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::cores;
use crate::service::Incoming;
use crate::worker_log;

/// The pauses before a worker is started again: the first, doubled each time up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A worker that lived for so long counts as sound: its next end is the first of a row again.
const SOUND_AFTER: Duration = Duration::from_secs(60);

/// The processes; dropping it kills those that are left.
pub struct LocalWorkers {
    kill: watch::Sender<bool>,
    running: mpsc::Receiver<()>,
}

/// The end of a local worker's process.
#[derive(Clone, Debug)]
pub struct Exit {
    /// The worker's name.
    pub name: String,
    /// Its process.
    pub pid: u32,
    /// How it ended.
    pub status: ExitStatus,
    /// The last lines of its output.
    pub last_words: Vec<String>,
    /// Whether it is started again.
    pub restart: Restart,
}

/// What follows the end of a local worker's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// It is started again after a pause.
    After {
        /// The pause.
        pause: Duration,
        /// The how-manieth start in a row that is.
        attempt: u32,
        /// The most there may be.
        limit: u32,
    },
    /// It failed too often in a row.
    TooOften {
        /// The most there may be.
        limit: u32,
    },
    /// The run is over.
    Never,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {}) ", self.name, self.pid)?;
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => write!(f, "exited with code {code}")?,
            (None, Some(signal)) => write!(f, "was killed by signal {signal}{}", signal_name(signal))?,
            (None, None) => f.write_str("ended")?,
        }
        match self.restart {
            Restart::After { pause, attempt, limit } => write!(
                f,
                ", and is started again in {} ms ({attempt} of {limit} in a row)",
                pause.as_millis()
            )?,
            Restart::TooOften { limit: 0 } => f.write_str(", and is not started again (--max-restarts 0)")?,
            Restart::TooOften { limit } => {
                write!(f, ", and is not started again after {limit} times in a row (--max-restarts)")?
            }
            Restart::Never => {}
        }
        if self.last_words.is_empty() {
            return f.write_str("; it left no output");
        }
        write!(f, "; its last output: {}", self.last_words.join(" | "))
    }
}

/// What every local worker is started with.
#[derive(Clone, Debug)]
pub struct Recipe {
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
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        4 => " (SIGILL: an instruction that this CPU lacks)",
        6 => " (SIGABRT)",
        9 => " (SIGKILL: by hand, or out of memory)",
        11 => " (SIGSEGV)",
        15 => " (SIGTERM)",
        _ => "",
    }
}

impl LocalWorkers {
    /// Starts `count` workers; their output goes to files, and whoever dies is started again.
    ///
    /// Call it on the main thread: on Linux the workers die with the thread that started them.
    ///
    /// # Errors
    ///
    /// If a process or its log cannot be made.
    pub async fn start(count: u32, recipe: Recipe, incoming: &mpsc::Sender<Incoming>) -> io::Result<Self> {
        let (kill, _) = watch::channel(false);
        let (guard, running) = mpsc::channel(1);
        let allowed = cores::allowed();
        for number in 1..=count {
            let name = format!("local-{number}");
            let cores = cores::share(&allowed, number - 1, count, recipe.threads);
            let worker = Process::start(&name, cores.as_deref(), &recipe, false).await?;
            let supervisor = Supervisor {
                name,
                cores,
                recipe: recipe.clone(),
                incoming: incoming.clone(),
                killed: kill.subscribe(),
                _guard: guard.clone(),
            };
            tokio::spawn(supervisor.watch(worker));
        }
        Ok(Self { kill, running })
    }

    /// Waits for every process to end.
    pub async fn ended(&mut self) {
        // Nothing is ever sent: it ends when the last process' guard is dropped.
        while self.running.recv().await.is_some() {}
    }

    /// Kills whoever is left, stopped ones too.
    pub fn kill(&self) {
        self.kill.send_replace(true);
    }
}

/// Watches one worker's process, and the ones that follow it.
struct Supervisor {
    name: String,
    /// What it is bound to, if it is.
    cores: Option<Vec<usize>>,
    recipe: Recipe,
    incoming: mpsc::Sender<Incoming>,
    killed: watch::Receiver<bool>,
    /// Its drop tells that no process is left.
    _guard: mpsc::Sender<()>,
}

impl Supervisor {
    async fn watch(mut self, mut worker: Process) {
        let limit = self.recipe.max_restarts;
        let (mut attempt, mut pause) = (0, FIRST_PAUSE);
        loop {
            let started = Instant::now();
            let end = self.end_of(&mut worker).await;
            // A worker that ends without a failure was told that the run is over.
            let over = *self.killed.borrow() || end.as_ref().is_ok_and(ExitStatus::success);
            if started.elapsed() >= SOUND_AFTER {
                (attempt, pause) = (0, FIRST_PAUSE);
            }
            let restart = match () {
                () if over => Restart::Never,
                () if attempt >= limit => Restart::TooOften { limit },
                () => Restart::After { pause, attempt: attempt + 1, limit },
            };
            self.report(&worker, end, restart).await;
            let Restart::After { .. } = restart else { return };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                // An error means that the sender is gone: time to end, too.
                _ = self.killed.changed() => return,
            }
            (attempt, pause) = (attempt + 1, (pause * 2).min(LONGEST_PAUSE));
            worker = match Process::start(&self.name, self.cores.as_deref(), &self.recipe, true).await {
                Ok(worker) => worker,
                Err(error) => {
                    tracing::error!("cannot start {} again: {error}", self.name);
                    let restart = Restart::TooOften { limit: attempt };
                    let exit = worker.exit(&self.name, ExitStatus::default(), restart).await;
                    // The loop may be over.
                    let _ = self.incoming.send(Incoming::Exited(exit)).await;
                    return;
                }
            };
        }
    }

    /// How a process ends, by itself or killed.
    async fn end_of(&mut self, worker: &mut Process) -> io::Result<ExitStatus> {
        tokio::select! {
            status = worker.child.wait() => return status,
            _ = self.killed.changed() => {}
        }
        // It may have ended this instant.
        let _ = worker.child.start_kill();
        worker.child.wait().await
    }

    async fn report(&self, worker: &Process, end: io::Result<ExitStatus>, restart: Restart) {
        let Ok(status) = end else { return };
        let exit = worker.exit(&self.name, status, restart).await;
        // The loop may be over.
        let _ = self.incoming.send(Incoming::Exited(exit)).await;
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
    async fn start(name: &str, cores: Option<&[usize]>, recipe: &Recipe, again: bool) -> io::Result<Self> {
        let log = recipe.logs.join(format!("{name}.log"));
        let output = worker_log::open(log.clone()).await?;
        let mut child = spawn(name, cores, recipe, output, again)?;
        let mut input =
            child.stdin.take().ok_or_else(|| io::Error::other("a worker without standard input"))?;
        // A worker that is dead already is noticed by its end.
        let _ = input.write_all(format!("{}\n", recipe.token.reveal()).as_bytes()).await;
        let pid = child.id().unwrap_or_default();
        Ok(Self { child, pid, log, _input: input })
    }

    async fn exit(&self, name: &str, status: ExitStatus, restart: Restart) -> Exit {
        let last_words = worker_log::last_words(self.log.clone()).await;
        Exit { name: name.to_string(), pid: self.pid, status, last_words, restart }
    }
}

fn spawn(
    name: &str,
    cores: Option<&[usize]>,
    recipe: &Recipe,
    output: (Stdio, Stdio),
    again: bool,
) -> io::Result<Child> {
    let mut command = Command::new(own_binary()?);
    command
        .args(["worker", "--coordinator", &recipe.url, "--name", name])
        .args(["--threads", &recipe.threads.to_string(), "--parent", &std::process::id().to_string()])
        // Named, so that nothing of it comes from the environment.
        .args(["--connect-timeout", "60"])
        .stdin(Stdio::piped())
        .stdout(output.0)
        .stderr(output.1)
        // Ctrl-C at the terminal is the coordinator's to handle.
        .process_group(0)
        .kill_on_drop(true);
    if let Some(cores) = cores {
        let cores: Vec<String> = cores.iter().map(usize::to_string).collect();
        command.args(["--cores", &cores.join(",")]);
    }
    if again {
        // It has died there once.
        command.env_remove(lockstep_worker::crash::VARIABLE);
    }
    command.spawn()
}

/// The running binary, even if it was replaced meanwhile, as a build does.
fn own_binary() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    Ok(if path.exists() { path } else { PathBuf::from("/proc/self/exe") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_says_how() {
        let exit = |status, last_words: &[&str], restart| Exit {
            name: "local-2".to_string(),
            pid: 77,
            status: ExitStatus::from_raw(status),
            last_words: last_words.iter().map(ToString::to_string).collect(),
            restart,
        };
        assert_eq!(
            exit(9, &[], Restart::After { pause: FIRST_PAUSE, attempt: 1, limit: 10 }).to_string(),
            "local-2 (process 77) was killed by signal 9 (SIGKILL: by hand, or out of memory), and is started again \
             in 50 ms (1 of 10 in a row); it left no output"
        );
        assert_eq!(
            exit(0x100, &["a", "b"], Restart::Never).to_string(),
            "local-2 (process 77) exited with code 1; its last output: a | b"
        );
    }
}

//! The worker processes of this machine: started from this very binary, watched, and never left behind.

mod cores;
mod log;
pub mod socket;

use std::fmt;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lockstep_proto::Token;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::own_command::own_command;
use crate::transport::service::Incoming;

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

/// What a local worker inherits of the environment's flags: not one, and what says how to compute.
const INHERITED: [&str; 1] = [lockstep_worker::instruction_set::VARIABLE];

/// What it inherits besides when it is started first; later it has died there once.
const INHERITED_AT_FIRST: [&str; 2] = [INHERITED[0], lockstep_worker::crash::VARIABLE];

/// The end of an attempt to have a local worker.
#[derive(Clone, Debug)]
pub struct Exit {
    /// The worker's name.
    pub name: String,
    /// How it ended.
    pub end: End,
    /// Whether it is started again.
    pub restart: Restart,
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub enum End {
    /// There was a process.
    Exited {
        /// Its number.
        pid: u32,
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its output.
        last_words: Vec<String>,
    },
    /// The system gave no process, for this reason.
    NotStarted(String),
}

impl Exit {
    /// The process that ended, if there was one.
    pub fn pid(&self) -> Option<u32> {
        match self.end {
            End::Exited { pid, .. } => Some(pid),
            End::NotStarted(_) => None,
        }
    }
}

/// What follows the end of a local worker's process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// It is started again after a pause.
    After {
        /// The pause.
        pause: Duration,
        /// Restart attempt in a row, from 1.
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
        match &self.end {
            End::NotStarted(reason) => write!(f, "{} could not be started ({reason})", self.name)?,
            End::Exited { pid, status, .. } => {
                write!(f, "{} (process {pid}) ", self.name)?;
                match (status.code(), status.signal()) {
                    (Some(code), _) => write!(f, "exited with code {code}")?,
                    (None, Some(signal)) => {
                        write!(f, "was killed by signal {signal}{}", signal_name(signal))?
                    }
                    (None, None) => f.write_str("ended")?,
                }
            }
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
        match &self.end {
            End::NotStarted(_) => Ok(()),
            End::Exited { last_words, .. } if last_words.is_empty() => f.write_str("; it left no output"),
            End::Exited { last_words, .. } => write!(f, "; its last output: {}", last_words.join(" | ")),
        }
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
    /// Set as soon as there is a process: from then on the run has begun.
    pub begun: Arc<AtomicBool>,
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
    /// Starts `count` workers; their output goes to files, and whoever dies, or cannot be started, is started again.
    ///
    /// Call it on the main thread, in a runtime of that thread alone: on Linux the workers die with the thread that
    /// started them.
    pub fn start(count: u32, recipe: Recipe, incoming: &mpsc::Sender<Incoming>) -> Self {
        let (kill, _) = watch::channel(false);
        let (guard, running) = mpsc::channel(1);
        let allowed = cores::allowed();
        for number in 1..=count {
            let name = format!("local-{number}");
            let cores = cores::share(&allowed, number - 1, count, recipe.threads);
            let supervisor = Supervisor {
                name,
                cores,
                recipe: recipe.clone(),
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

    /// Kills whoever is left, stopped ones too.
    pub fn kill(&self) {
        self.kill.send_replace(true);
    }
}

/// Starts one worker's process, watches it, and the ones that follow it.
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
    async fn watch(mut self) {
        let limit = self.recipe.max_restarts;
        let (mut attempt, mut pause, mut again) = (0, FIRST_PAUSE, false);
        loop {
            let started = Instant::now();
            let end = self.attempt(again).await;
            // A worker that ends without a failure was told that the run is over.
            let over =
                *self.killed.borrow() || matches!(&end, End::Exited { status, .. } if status.success());
            if started.elapsed() >= SOUND_AFTER {
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
        let started = Process::start(&self.name, self.cores.as_deref(), &self.recipe, again).await;
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
    async fn start(name: &str, cores: Option<&[usize]>, recipe: &Recipe, again: bool) -> io::Result<Self> {
        let log = recipe.logs.join(format!("{name}.log"));
        let output = log::open(log.clone()).await?;
        let mut child = spawn(name, cores, recipe, output, again)?;
        let mut input =
            child.stdin.take().ok_or_else(|| io::Error::other("a worker without standard input"))?;
        // A worker that is dead already is noticed by its end.
        let _ = input.write_all(format!("{}\n", recipe.token.reveal()).as_bytes()).await;
        let pid = child.id().unwrap_or_default();
        Ok(Self { child, pid, log, _input: input })
    }

    async fn end(&self, status: io::Result<ExitStatus>) -> End {
        // Whose end the system does not tell has ended all the same, and without success.
        let status = status.unwrap_or_else(|_| ExitStatus::from_raw(0x100));
        let last_words = log::last_words(self.log.clone()).await;
        End::Exited { pid: self.pid, status, last_words }
    }
}

fn spawn(
    name: &str,
    cores: Option<&[usize]>,
    recipe: &Recipe,
    output: (Stdio, Stdio),
    again: bool,
) -> io::Result<Child> {
    let mut command = own_command(if again { &INHERITED } else { &INHERITED_AT_FIRST })?;
    command
        .args(["worker", "--coordinator", &recipe.url, "--name", name])
        .args(["--threads", &recipe.threads.to_string(), "--parent", &std::process::id().to_string()])
        .args(["--connect-timeout", "60"])
        .stdin(Stdio::piped())
        .stdout(output.0)
        .stderr(output.1);
    if let Some(cores) = cores {
        let cores: Vec<String> = cores.iter().map(usize::to_string).collect();
        command.args(["--cores", &cores.join(",")]);
    }
    let child = command.spawn()?;
    recipe.begun.store(true, Ordering::Relaxed);
    Ok(child)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_says_how() {
        let exit = |status, last_words: &[&str], restart| {
            let last_words = last_words.iter().map(ToString::to_string).collect();
            let end = End::Exited { pid: 77, status: ExitStatus::from_raw(status), last_words };
            Exit { name: "local-2".to_string(), end, restart }.to_string()
        };
        assert_eq!(
            exit(9, &[], Restart::After { pause: FIRST_PAUSE, attempt: 1, limit: 10 }),
            "local-2 (process 77) was killed by signal 9 (SIGKILL: by hand, or out of memory), and is started again \
             in 50 ms (1 of 10 in a row); it left no output"
        );
        assert_eq!(
            exit(0x100, &["a", "b"], Restart::Never),
            "local-2 (process 77) exited with code 1; its last output: a | b"
        );
    }

    /// Where the folder of logs is missing, no worker can be started. The process that can be at last is one of this
    /// test's binary, and ends at once.
    #[tokio::test(flavor = "current_thread")]
    async fn a_failure_to_start_is_an_attempt_like_any_other() {
        let folder = tempfile::tempdir().unwrap();
        let begun = Arc::<AtomicBool>::default();
        let recipe = Recipe {
            threads: 1,
            url: "http://127.0.0.1:1".to_string(),
            token: Token::new("t").unwrap(),
            logs: folder.path().join("logs"),
            max_restarts: 3,
            begun: Arc::clone(&begun),
        };
        let (sender, mut incoming) = mpsc::channel(1);
        let mut workers = LocalWorkers::start(1, recipe, &sender);
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

//! The worker processes of this machine: started from this very binary, watched, and never left behind.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use lockstep_proto::Token;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};

use crate::service::Incoming;

/// How much of the end of a dead worker's output is shown.
const LAST_WORDS_BYTES: u64 = 2048;
const LAST_WORDS_LINES: usize = 5;

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
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {}) ", self.name, self.pid)?;
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => write!(f, "exited with code {code}")?,
            (None, Some(signal)) => write!(f, "was killed by signal {signal}{}", signal_name(signal))?,
            (None, None) => f.write_str("ended")?,
        }
        if self.last_words.is_empty() {
            return f.write_str(", without output");
        }
        write!(f, "; its last output: {}", self.last_words.join(" | "))
    }
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
    /// Starts `count` workers of `threads` threads that dial `url`; their output goes to files in `logs`.
    ///
    /// Call it on the main thread: on Linux the workers die with the thread that started them.
    ///
    /// # Errors
    ///
    /// If a process or its log cannot be made.
    pub async fn start(
        count: u32,
        threads: u32,
        url: &str,
        token: &Token,
        logs: &Path,
        incoming: &mpsc::Sender<Incoming>,
    ) -> io::Result<Self> {
        let (kill, _) = watch::channel(false);
        let (guard, running) = mpsc::channel(1);
        for number in 1..=count {
            let name = format!("local-{number}");
            let log = logs.join(format!("{name}.log"));
            let mut child = spawn(&name, threads, url, &log)?;
            // The pipe stays open as long as the coordinator lives: its end tells the worker to end.
            let mut input =
                child.stdin.take().ok_or_else(|| io::Error::other("a worker without standard input"))?;
            input.write_all(format!("{}\n", token.reveal()).as_bytes()).await?;
            let (guard, incoming, mut killed) = (guard.clone(), incoming.clone(), kill.subscribe());
            tokio::spawn(async move {
                let _guard = guard;
                let pid = child.id().unwrap_or_default();
                let own_end = tokio::select! {
                    status = child.wait() => Some(status),
                    // An error means that the sender is gone: time to end, too.
                    _ = killed.changed() => None,
                };
                let status = match own_end {
                    Some(status) => status,
                    None => {
                        // It may have ended this instant.
                        let _ = child.start_kill();
                        child.wait().await
                    }
                };
                drop(input);
                if let Ok(status) = status {
                    let exit = Exit { name, pid, status, last_words: last_words(&log) };
                    // The loop may be over.
                    let _ = incoming.send(Incoming::Exited(exit)).await;
                }
            });
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

fn spawn(name: &str, threads: u32, url: &str, log: &Path) -> io::Result<Child> {
    let log = File::create_new(log)?;
    let mut command = Command::new(own_binary()?);
    command
        .args(["worker", "--coordinator", url, "--name", name])
        .args(["--threads", &threads.to_string(), "--parent", &std::process::id().to_string()])
        // Named, so that nothing of it comes from the environment.
        .args(["--connect-timeout", "60"])
        .stdin(Stdio::piped())
        .stdout(log.try_clone()?)
        .stderr(log)
        // Ctrl-C at the terminal is the coordinator's to handle.
        .process_group(0)
        .kill_on_drop(true);
    command.spawn()
}

/// The running binary, even if it was replaced meanwhile, as a build does.
fn own_binary() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    Ok(if path.exists() { path } else { PathBuf::from("/proc/self/exe") })
}

/// The last lines of a worker's log; a log that cannot be read has none.
fn last_words(log: &Path) -> Vec<String> {
    let read = || -> io::Result<String> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let first = lines.len().saturating_sub(LAST_WORDS_LINES);
    lines[first..].iter().map(|line| line.trim().to_string()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_the_last_lines() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let text: String = (1..=1000).map(|line| format!("line {line}\n\n")).collect();
        std::fs::write(&log, text).unwrap();
        assert_eq!(last_words(&log), ["line 996", "line 997", "line 998", "line 999", "line 1000"]);
        assert!(last_words(&folder.path().join("none")).is_empty());
    }

    #[test]
    fn an_exit_says_how() {
        let exit = |status, last_words: &[&str]| Exit {
            name: "local-2".to_string(),
            pid: 77,
            status: ExitStatus::from_raw(status),
            last_words: last_words.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(
            exit(9, &[]).to_string(),
            "local-2 (process 77) was killed by signal 9 (SIGKILL: by hand, or out of memory), without output"
        );
        assert_eq!(
            exit(0x100, &["a", "b"]).to_string(),
            "local-2 (process 77) exited with code 1; its last output: a | b"
        );
    }
}

//! Starts coordinators and workers as a user would, waits with deadlines, and leaves nothing running.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lockstep_command_line::signals::is_ignored;
use rustix::process::{Pid, Signal};
use serde_json::Value;
use tempfile::TempDir;

/// No test run takes a tenth of it, however busy the machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// Small runs: 425 examples to train on in 14 batches, the last one of 9, which leaves shards empty.
pub const SMALL: [&str; 8] =
    ["--dataset", "digits", "--examples", "500", "--batch-size", "32", "--epochs", "2"];

/// For a test that counts on the part of each worker: on a busy machine one may be late for longer than it usually may.
pub const PATIENT: [&str; 2] = ["--deadline", "10m"];

/// The README promises an end within two seconds of a signal; a machine whose disk is busy with something else has five
/// times as long. It is shorter than anything that could hold up the end for good.
pub const END_BY_SIGNAL: Duration = Duration::from_secs(10);

/// A process that has ended.
pub struct Finished {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// The object printed with `--json`.
    pub fn summary(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self}"))
    }

    pub fn digest(&self) -> String {
        self.summary()["weights_digest"].as_str().unwrap_or_else(|| panic!("no digest in {self}")).to_string()
    }

    /// Asserts success.
    pub fn done(self) -> Self {
        assert!(self.status.success(), "{self}");
        self
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\nstdout: {}\nstderr: {}", self.status, self.stdout, self.stderr)
    }
}

/// A running process; killed if the test ends before it.
pub struct Running {
    child: Child,
    stdout: Option<JoinHandle<String>>,
    stderr_lines: Receiver<String>,
    stderr: String,
    deadline: Instant,
}

/// A `coordinator` in `folder`, without the environment of whoever runs the tests.
pub fn coordinator(folder: &Path) -> Command {
    clean(hearing_signals(env!("CARGO_BIN_EXE_coordinator")), folder)
}

/// A `worker`, likewise.
pub fn worker(folder: &Path) -> Command {
    clean(hearing_signals(env!("CARGO_BIN_EXE_worker")), folder)
}

/// The program, also where the tests were started by somebody who ignores signals: `nohup`, or a script in the background.
fn hearing_signals(program: &str) -> Command {
    if ![Signal::HUP, Signal::INT, Signal::TERM].iter().any(|signal| is_ignored(signal.as_raw())) {
        return Command::new(program);
    }
    let mut command = Command::new("env");
    command.args(["--default-signal=HUP,INT,TERM", program]);
    command
}

fn clean(mut command: Command, folder: &Path) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LOCKSTEP_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    // Whoever forgets to choose a data set gets none from the network or from the user's cache.
    command.env("LOCKSTEP_OFFLINE", "true").env("XDG_CACHE_HOME", folder.join("cache")).current_dir(folder);
    command
}

/// Where the tests find MNIST; says so when they do not.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub fn mnist(test: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("LOCKSTEP_DATA").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: {test} needs real MNIST; name its folder in LOCKSTEP_DATA");
    }
    folder
}

/// Runs a small run with `arguments`, which go before [`SMALL`], to its end in a new folder; it holds `run/`.
pub fn run_small(arguments: &[&str]) -> (Finished, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut command = coordinator(folder.path());
    command.args(["--json", "--run-dir", "run"]).args(arguments);
    command.args(SMALL.chunks(2).filter(|flag| !arguments.contains(&flag[0])).flatten());
    (start(&mut command).finish(), folder)
}

pub fn start(command: &mut Command) -> Running {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let stdout = std::thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).unwrap();
        text
    });
    let stderr = child.stderr.take().unwrap();
    let (sender, stderr_lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines() {
            if sender.send(line.unwrap()).is_err() {
                break;
            }
        }
    });
    Running {
        child,
        stdout: Some(stdout),
        stderr_lines,
        stderr: String::new(),
        deadline: Instant::now() + DEADLINE,
    }
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line on standard error for which `pick` gives something.
    pub fn wait_for<T>(&mut self, mut pick: impl FnMut(&str) -> Option<T>) -> T {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.stderr_lines.recv_timeout(left) else {
                panic!("never came; standard error was: {}", self.stderr);
            };
            self.stderr.push_str(&line);
            self.stderr.push('\n');
            if let Some(found) = pick(&line) {
                return found;
            }
        }
    }

    /// Whether a line with `part` comes before the process ends.
    pub fn says(&mut self, part: &str) -> bool {
        loop {
            match self.stderr_lines.recv_timeout(self.deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let found = line.contains(part);
                    self.stderr.push_str(&(line + "\n"));
                    if found {
                        return true;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("neither came; standard error was: {}", self.stderr)
                }
            }
        }
    }

    /// Whether a line that was waited for, or passed over in waiting, has `part`.
    pub fn has_said(&self, part: &str) -> bool {
        self.stderr.contains(part)
    }

    pub fn wait_for_line(&mut self, part: &str) -> String {
        self.wait_for(|line| line.contains(part).then(|| line.to_string()))
    }

    /// The processes of `count` workers, as they join.
    pub fn wait_for_workers(&mut self, count: usize) -> Vec<u32> {
        (0..count)
            .map(|_| {
                let line = self.wait_for_line(" joined: ");
                let (_, after) = line.split_once("(process ").unwrap();
                after.split_once(')').unwrap().0.parse().unwrap()
            })
            .collect()
    }

    pub fn signal(&self, signal: Signal) {
        send_signal(self.pid(), signal);
    }

    /// Waits for its end, and kills it at the deadline.
    pub fn finish(mut self) -> Finished {
        // Standard error ends with the process, as its workers write elsewhere.
        loop {
            match self.stderr_lines.recv_timeout(self.deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.stderr.push_str(&(line + "\n")),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let _ = self.child.kill();
                    panic!("did not end in time; standard error was: {}", self.stderr);
                }
            }
        }
        let status = self.child.wait().unwrap();
        let stdout = self.stdout.take().unwrap().join().unwrap();
        Finished { status, stdout, stderr: std::mem::take(&mut self.stderr) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended, as it should.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn send_signal(pid: u32, signal: Signal) {
    rustix::process::kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

/// Waits until a process is gone; a zombie that its new parent has not collected yet is.
pub fn wait_until_gone(pid: u32, within: Duration) {
    let end = Instant::now() + within;
    loop {
        let state = fs::read_to_string(format!("/proc/{pid}/stat")).ok();
        // The name in brackets may hold anything; the state follows the last bracket.
        let state = state.and_then(|stat| stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()));
        if matches!(state, None | Some('Z' | 'X')) {
            return;
        }
        assert!(Instant::now() < end, "process {pid} is still there after {within:?}, in state {state:?}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Waits for what no line tells of.
pub fn wait_until(mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < end, "it is not so after {DEADLINE:?}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}

/// Runs a coordinator that writes checkpoints as often as it can and is killed in the fourth epoch of a small run. On any
/// disk it has the checkpoint of its first step by then, and that of its first epoch.
pub fn killed(command: &mut Command) -> Finished {
    let finished =
        start(command.args(["--checkpoint-every", "0"]).env("LOCKSTEP_CRASH_AT", "coordinator/logged:45"))
            .finish();
    assert_eq!(finished.status.signal(), Some(Signal::KILL.as_raw()), "{finished}");
    finished
}

/// The manifests of a run's checkpoints, the oldest first.
pub fn manifests(run: &Path) -> Vec<PathBuf> {
    let Ok(files) = run.join("checkpoints").read_dir() else { return Vec::new() };
    let is_manifest = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "json");
    let mut manifests: Vec<_> = files.map(|file| file.unwrap().path()).filter(is_manifest).collect();
    // Of one step, that behind its validation is the newer one and has the longer name.
    manifests.sort_by_key(|path| path.file_stem().unwrap().to_owned());
    manifests
}

/// Kills a coordinator once `run` has so many checkpoints, at most as many as are kept: a busy disk may be behind.
pub fn kill_with_checkpoints(running: Running, run: &Path, count: usize) -> Finished {
    wait_until(|| manifests(run).len() >= count);
    running.signal(Signal::KILL);
    running.finish()
}

/// A digit as MNIST has them, as a PGM image: a 1.
pub fn picture_of_a_digit() -> Vec<u8> {
    let ink = |at: usize| (4..24).contains(&(at / 28)) && (12..16).contains(&(at % 28));
    let pixels = (0..28 * 28).map(|at| if ink(at) { 255 } else { 0 });
    b"P5\n28 28\n255\n".iter().copied().chain(pixels).collect()
}

/// The lines of a JSON-lines file of a run.
pub fn json_lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}")))
        .collect()
}

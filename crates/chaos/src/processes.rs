//! The processes of a chaos run: one coordinator and its workers, each in its own process group, none left behind.
//!
//! Starts, signals, restarts and reaps them. When and to whom a fault happens is decided in `fault_runner`.

use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{fmt, io};

use lockstep_command_line::log_tail::last_lines;
use lockstep_command_line::own_command::own_command;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::plan::FaultPlan;
use super::proxy::Proxy;

/// Variables that children inherit although they are flags: where the data are. All else is in the plan.
const INHERITED: [&str; 2] = ["LOCKSTEP_DATA_DIR", "LOCKSTEP_OFFLINE"];

/// A worker goes on trying for so long, which is longer than any coordinator is away.
const CONNECT_TIMEOUT_SECONDS: &str = "600";

/// A process of the run, or the place of one that is away.
pub struct Process {
    /// Its name in plans, logs and reports.
    pub name: String,
    /// Where its output goes; every process of the name appends.
    log: PathBuf,
    child: Option<Child>,
    /// Faults that want it stopped: it runs when there are none.
    stops: u32,
    /// How often it was started.
    pub started: u32,
    /// When it was last started.
    since: Instant,
    /// Whether its end was asked for.
    ending: bool,
}

/// How a process ended that nobody asked to end.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its name.
    pub name: String,
    /// How it ended.
    pub status: ExitStatus,
    /// The last line of its output.
    pub last_output: String,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ended ({}); its last output: {}", self.name, self.status, self.last_output)
    }
}

impl Process {
    /// The place of a process that is not started yet.
    pub fn new(name: String, logs: &Path) -> Self {
        let log = logs.join(format!("{name}.log"));
        Self { name, log, child: None, stops: 0, started: 0, since: Instant::now(), ending: false }
    }

    /// Where its output is.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How long ago it was last started.
    pub fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Whether it is there, and to stay.
    pub fn is_up(&self) -> bool {
        self.child.is_some() && !self.ending
    }

    /// Its process, while there is one.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    fn start(&mut self, mut command: Command) -> io::Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.spawn()?);
        self.started += 1;
        (self.stops, self.since, self.ending) = (0, Instant::now(), false);
        Ok(())
    }

    /// Ends it at once, a stopped one too.
    pub fn kill(&mut self) {
        self.ending = true;
        self.signal(Signal::KILL);
    }

    /// Asks it to end; a stopped one hears it when it goes on.
    pub fn terminate(&mut self) {
        self.ending = true;
        self.signal(Signal::TERM);
    }

    /// Stops it until as many calls of [`go_on`](Self::go_on) as of this one.
    pub fn stop(&mut self) {
        self.stops += 1;
        if self.stops == 1 {
            self.signal(Signal::STOP);
        }
    }

    /// Takes back one [`stop`](Self::stop).
    pub fn go_on(&mut self) {
        self.stops = self.stops.saturating_sub(1);
        if self.stops == 0 {
            self.signal(Signal::CONT);
        }
    }

    /// Takes back all of them.
    pub fn go_on_for_good(&mut self) {
        self.stops = 0;
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        // Until its end is collected, by `ended`, no other process gets the number.
        if let Some(pid) = self.pid().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?)) {
            // It may have ended this instant.
            let _ = kill_process(pid, signal);
        }
    }

    /// Whether its process ended since the last call, and whether that was asked for.
    ///
    /// # Errors
    ///
    /// If the system does not say.
    pub fn ended(&mut self) -> io::Result<Option<(bool, Ended)>> {
        let Some(child) = &mut self.child else { return Ok(None) };
        let Some(status) = child.try_wait()? else { return Ok(None) };
        self.child = None;
        let last_output = last_lines(&self.log, 1).pop().unwrap_or_default().trim().to_string();
        Ok(Some((self.ending, Ended { name: self.name.clone(), status, last_output })))
    }
}

/// A worker and the proxy it dials through.
pub struct WorkerProcess {
    /// The worker's process.
    pub process: Process,
    /// Its way to the coordinator.
    pub proxy: Proxy,
}

/// How the processes of one run are started.
pub struct Processes {
    /// Where the coordinator listens, over all its processes.
    address: SocketAddr,
    token: String,
    run_directory: PathBuf,
    logs: PathBuf,
    workers: u32,
    threads: u32,
    training: Vec<String>,
}

impl Processes {
    /// For a run of `plan` that writes to `run_directory`, and its output to `logs`, which exists.
    ///
    /// # Errors
    ///
    /// If there is no free port or no random number.
    pub fn new(plan: &FaultPlan, run_directory: PathBuf, logs: PathBuf) -> io::Result<Self> {
        let mut token = [0; 16];
        getrandom::fill(&mut token).map_err(|error| io::Error::other(error.to_string()))?;
        // A port that is free now; a coordinator that finds it taken says so.
        let address = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        Ok(Self {
            address,
            token: token.iter().map(|byte| format!("{byte:02x}")).collect(),
            run_directory,
            logs,
            workers: plan.workers,
            threads: plan.threads,
            training: flags(plan),
        })
    }

    /// The place of the coordinator.
    pub fn coordinator(&self) -> Process {
        Process::new("coordinator".to_string(), &self.logs)
    }

    /// Starts the coordinator: the first time with a new run, later by resuming it.
    ///
    /// # Errors
    ///
    /// If the process or its log cannot be made.
    pub fn start_coordinator(&self, process: &mut Process) -> io::Result<()> {
        let mut command = own_command(&INHERITED)?;
        command.arg(if process.started == 0 { "--run-dir" } else { "--resume" }).arg(&self.run_directory);
        command.args(["--external", "--json", "--no-progress", "--no-dashboard"]);
        command.args(["--workers", &self.workers.to_string(), "--listen", &self.address.to_string()]);
        // A resumed run has its settings from its own config.toml.
        if process.started == 0 {
            command.args(&self.training);
        }
        command.env("LOCKSTEP_TOKEN", &self.token);
        process.start(command)
    }

    /// The place of a worker, and its proxy.
    ///
    /// # Errors
    ///
    /// If the proxy finds no port.
    pub async fn worker(&self, name: String) -> io::Result<WorkerProcess> {
        Ok(WorkerProcess { process: Process::new(name, &self.logs), proxy: Proxy::open(self.address).await? })
    }

    /// Starts a worker.
    ///
    /// # Errors
    ///
    /// If the process or its log cannot be made.
    pub fn start_worker(&self, worker: &mut WorkerProcess) -> io::Result<()> {
        let mut command = own_command(&INHERITED)?;
        command.args(["worker", "--coordinator", &format!("http://{}", worker.proxy.address())]);
        command.args(["--name", &worker.process.name, "--threads", &self.threads.to_string()]);
        command.args(["--connect-timeout", CONNECT_TIMEOUT_SECONDS]);
        command.env("LOCKSTEP_TOKEN", &self.token);
        worker.process.start(command)
    }
}

/// The undisturbed run: one worker, the same settings. Its summary is in `run_directory` when it has ended well.
///
/// # Errors
///
/// If the process or its log cannot be made.
pub fn start_undisturbed(plan: &FaultPlan, run_directory: &Path, logs: &Path) -> io::Result<Process> {
    let mut process = Process::new("undisturbed".to_string(), logs);
    let mut command = own_command(&INHERITED)?;
    command.arg("--run-dir").arg(run_directory).args([
        "--workers",
        "1",
        "--json",
        "--no-progress",
        "--no-dashboard",
    ]);
    command.args(flags(plan));
    process.start(command)?;
    Ok(process)
}

fn flags(plan: &FaultPlan) -> Vec<String> {
    plan.training.iter().map(|(flag, value)| format!("--{flag}={value}")).collect()
}

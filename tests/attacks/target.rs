//! A real coordinator with two honest workers, and what can be seen of it from outside.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

/// The secret of the run.
pub const TOKEN: &str = "correct-horse-battery-staple";

/// The names of the honest workers.
pub const HONEST: [&str; 2] = ["honest-1", "honest-2"];

/// The unit of CPU time in `/proc`, the same on every Linux.
const TICK: Duration = Duration::from_millis(10);

/// How long the run may take to begin.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A run under attack.
pub struct Target {
    folder: TempDir,
    coordinator: Child,
    workers: Vec<Child>,
    /// The seconds of each step that has its record, and how many bytes of the records they took.
    steps: RefCell<(Vec<f64>, u64)>,
    /// Where workers connect.
    pub address: SocketAddr,
}

/// What there is to see at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    at: Instant,
    steps: usize,
    cpu: Duration,
    peak_kib: u64,
}

/// What happened between two moments.
#[derive(Clone, Copy, Debug)]
pub struct Interval {
    /// Steps in a second.
    pub rate: f64,
    /// The coordinator's CPU time of a step, in milliseconds.
    pub cpu_ms: f64,
    /// The longest step, in seconds.
    pub longest: f64,
    /// The most memory so far, in MiB.
    pub peak_mib: f64,
}

impl Target {
    /// Starts the processes beside this program, and waits for the first steps.
    ///
    /// # Errors
    ///
    /// If one of them does not start.
    pub fn start() -> Result<Self> {
        let programs = std::env::current_exe()?.parent().context("no folder of this program")?.to_path_buf();
        let folder = tempfile::tempdir()?;
        let mut coordinator = Command::new(programs.join("coordinator"))
            .args([
                "--external",
                "--workers",
                "2",
                "--dataset",
                "digits",
                "--examples",
                "3000",
                "--batch-size",
                "16",
            ])
            .args(["--epochs", "1000000", "--validation-split", "0.02", "--no-progress", "--run-dir"])
            .arg(folder.path().join("run"))
            .env("LOCKSTEP_TOKEN", TOKEN)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("the coordinator is not beside this program: build it in the same profile")?;
        let mut lines = BufReader::new(coordinator.stderr.take().context("no standard error")?).lines();
        let address = loop {
            let line = lines.next().context("the coordinator ended at once")??;
            if let Some((_, rest)) = line.split_once("--coordinator http://") {
                break rest.split_whitespace().next().unwrap_or_default().parse()?;
            }
        };
        // Nobody else reads the log, and a full pipe would be an attack of our own.
        std::thread::spawn(move || lines.for_each(drop));
        let mut workers = Vec::new();
        for name in HONEST {
            let mut worker = Command::new(programs.join("worker"));
            worker.args(["--coordinator", &format!("http://{address}"), "--threads", "1", "--name", name]);
            workers.push(worker.env("LOCKSTEP_TOKEN", TOKEN).stderr(Stdio::null()).spawn()?);
        }
        let target = Self { folder, coordinator, workers, steps: RefCell::default(), address };
        let begin = Instant::now();
        while target.sample()?.steps < 200 {
            if begin.elapsed() > START_LIMIT {
                bail!("the run does not begin");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(target)
    }

    /// The directory of the run.
    pub fn run(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// What there is to see now.
    ///
    /// # Errors
    ///
    /// If the coordinator is gone.
    pub fn sample(&self) -> Result<Sample> {
        let process = format!("/proc/{}", self.coordinator.id());
        let stat = fs::read_to_string(format!("{process}/stat")).context("the coordinator is gone")?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
        let (Some(user), Some(system)) = (ticks(11), ticks(12)) else { bail!("the coordinator ended") };
        let status = fs::read_to_string(format!("{process}/status"))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|text| text.split_whitespace().next()?.parse().ok());
        Ok(Sample {
            at: Instant::now(),
            steps: self.read_steps()?,
            cpu: TICK * (user + system) as u32,
            peak_kib: peak.context("the coordinator ended")?,
        })
    }

    /// What happened from `earlier` until now.
    ///
    /// # Errors
    ///
    /// If the coordinator is gone.
    pub fn since(&self, earlier: Sample) -> Result<Interval> {
        let now = self.sample()?;
        let steps = &self.steps.borrow().0;
        let seconds = (now.at - earlier.at).as_secs_f64();
        let count = (now.steps - earlier.steps) as f64;
        Ok(Interval {
            rate: count / seconds,
            cpu_ms: (now.cpu - earlier.cpu).as_secs_f64() * 1e3 / count,
            longest: steps.get(earlier.steps..).unwrap_or_default().iter().copied().fold(0.0, f64::max),
            peak_mib: now.peak_kib as f64 / 1024.0,
        })
    }

    /// Reads the records that have come since the last time; returns how many steps there are.
    fn read_steps(&self) -> Result<usize> {
        let (steps, offset) = &mut *self.steps.borrow_mut();
        let Ok(mut file) = File::open(self.run().join("metrics.jsonl")) else { return Ok(0) };
        file.seek(SeekFrom::Start(*offset))?;
        let mut lines = BufReader::new(file);
        let mut line = String::new();
        while lines.read_line(&mut line)? > 0 && line.ends_with('\n') {
            *offset += line.len() as u64;
            let record: serde_json::Value = serde_json::from_str(&line)?;
            if record["kind"] == "step" {
                steps.extend(record["seconds"].as_f64());
            }
            line.clear();
        }
        Ok(steps.len())
    }

    /// Honest workers that were dropped.
    pub fn honest_dropped(&self) -> usize {
        let text = fs::read_to_string(self.run().join("events.jsonl")).unwrap_or_default();
        let dropped = text.lines().filter(|line| line.contains(r#""worker_dropped""#));
        dropped.filter(|line| HONEST.iter().any(|name| line.contains(name))).count()
    }

    /// Ends the run by a signal, and computes it again.
    ///
    /// # Errors
    ///
    /// If it does not end well, or its bits are others.
    pub fn end_and_verify(mut self) -> Result<()> {
        let pid = rustix::process::Pid::from_child(&self.coordinator);
        // SIGINT may be ignored by whoever started this program, which the run respects.
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
        let status = self.coordinator.wait()?;
        if status.code() != Some(143) {
            bail!("the run ended with {status}");
        }
        let program = std::env::current_exe()?.with_file_name("coordinator");
        let verified = Command::new(program).arg("verify").arg(self.run()).output()?;
        if !verified.status.success() {
            bail!("the bits are not those of the run: {}", String::from_utf8_lossy(&verified.stdout));
        }
        Ok(())
    }

    /// The file of events, to look at after a failure.
    pub fn events(&self) -> String {
        let path: &Path = &self.run().join("events.jsonl");
        let text = fs::read_to_string(path).unwrap_or_default();
        let last: Vec<&str> = text.lines().rev().take(10).collect();
        last.join("\n")
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        for process in self.workers.iter_mut().chain([&mut self.coordinator]) {
            // It may be gone already.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

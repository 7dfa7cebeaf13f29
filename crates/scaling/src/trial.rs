//! One training as a child process: started, waited for, its records read, its processor time taken.
//!
//! Ends with no process left, however it ends. What is run, and what the figures mean, is decided elsewhere.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lockstep_command_line::exit::Interrupted;
use lockstep_command_line::log_tail::last_lines;
use lockstep_command_line::own_command::own_command;
use lockstep_command_line::{Signals, exit_code};
use lockstep_records::{Record, RecordReader, StepRecord, Summary};
use lockstep_run_directory::RunDirectory;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::time::ClockId;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use serde::Serialize;
use tokio::process::Child;
use tokio::signal::unix::{self, SignalKind, signal};

use super::figures::median;
use super::plan::{Point, ScalingPlan};

/// A coordinator promises to end within 2 seconds of a signal; one that does not is killed.
const EXIT_GRACE: Duration = Duration::from_secs(5);

/// How much of the end of a failed run's output is shown.
const SHOWN_LINES: usize = 10;

/// What one run found out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// Steps completed.
    pub steps: u64,
    /// SHA-256 of the final weights.
    pub weights_digest: String,
    /// Of the training loop, by the run's own summary.
    pub examples_per_second: f64,
    /// Medians over its steps.
    pub step: StepMedians,
    /// Of the whole run.
    pub cpu: CpuSeconds,
}

/// Processor time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct CpuSeconds {
    /// Of the coordinator's process.
    pub coordinator: f64,
    /// Of all workers' processes together.
    pub workers: f64,
}

/// The parts of a step, each the median over the steps of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StepMedians {
    /// The whole step.
    pub seconds: f64,
    /// Encoding and handing over.
    pub send_seconds: f64,
    /// Of a node, by its worker's clock.
    pub compute_seconds_median: f64,
    /// The coordinator with nothing to do.
    pub wait_seconds: f64,
    /// Adding nodes.
    pub reduce_seconds: f64,
    /// Updating the weights.
    pub update_seconds: f64,
    /// Payload sent.
    pub bytes_sent: f64,
    /// Payload received.
    pub bytes_received: f64,
}

impl From<StepRecord> for StepMedians {
    /// Those of one step.
    fn from(step: StepRecord) -> Self {
        Self {
            seconds: step.seconds,
            send_seconds: step.send_seconds,
            compute_seconds_median: step.compute_seconds_median,
            wait_seconds: step.wait_seconds,
            reduce_seconds: step.reduce_seconds,
            update_seconds: step.update_seconds,
            bytes_sent: step.bytes_sent as f64,
            bytes_received: step.bytes_received as f64,
        }
    }
}

impl StepMedians {
    /// The median of each figure; nothing of no steps.
    pub fn of(steps: &[Self]) -> Option<Self> {
        let over = |figure: fn(&Self) -> f64| median(steps.iter().map(figure));
        Some(Self {
            seconds: over(|step| step.seconds)?,
            send_seconds: over(|step| step.send_seconds)?,
            compute_seconds_median: over(|step| step.compute_seconds_median)?,
            wait_seconds: over(|step| step.wait_seconds)?,
            reduce_seconds: over(|step| step.reduce_seconds)?,
            update_seconds: over(|step| step.update_seconds)?,
            bytes_sent: over(|step| step.bytes_sent)?,
            bytes_received: over(|step| step.bytes_received)?,
        })
    }
}

/// Where runs take place, one after the other.
pub struct TrialRunner<'a> {
    folder: &'a Path,
    keep_runs: bool,
    signals: Signals,
    child_ended: unix::Signal,
}

impl<'a> TrialRunner<'a> {
    /// Runs write below `folder`, which exists; what they leave there is removed unless it is to be kept.
    ///
    /// # Errors
    ///
    /// If the ends of processes cannot be listened to.
    pub fn new(folder: &'a Path, keep_runs: bool, signals: Signals) -> Result<Self> {
        Ok(Self { folder, keep_runs, signals, child_ended: signal(SignalKind::child())? })
    }

    /// Trains with the workers and the batch size of `point` for so many steps, in a run directory called `name`.
    ///
    /// # Errors
    ///
    /// If the run fails or leaves no records: its directory and its output stay then. [`Interrupted`] after a signal.
    pub async fn run(&mut self, name: &str, plan: &ScalingPlan, point: Point, steps: u32) -> Result<Outcome> {
        let directory = self.folder.join(name);
        let log = self.folder.join(format!("{name}.log"));
        let output = File::create(&log).with_context(|| format!("cannot write to {}", log.display()))?;
        let mut command = own_command(&[])?;
        command.arg("--run-dir").arg(&directory).args(flags(plan, point, steps));
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let mut child = command.spawn().context("cannot start this program again")?;
        tracing::debug!("{name} is process {}", child.id().unwrap_or_default());
        let waited = self.wait(&mut child).await;
        if waited.as_ref().is_err_and(|error| error.is::<Interrupted>()) {
            self.clear(&directory, &log)?;
        }
        let (status, cpu) = waited?;
        if !status.success() {
            bail!("{name} failed ({status}); its output is in {}{}", log.display(), output_tail(&log));
        }
        let outcome = outcome(&directory, steps, cpu)?;
        self.clear(&directory, &log)?;
        Ok(outcome)
    }

    /// Removes what a run has left, unless it is to be kept.
    fn clear(&self, directory: &Path, log: &Path) -> Result<()> {
        if self.keep_runs {
            return Ok(());
        }
        // One that was interrupted may not have come to make its directory.
        if directory.exists() {
            fs::remove_dir_all(directory)
                .with_context(|| format!("cannot remove {}", directory.display()))?;
        }
        fs::remove_file(log).with_context(|| format!("cannot remove {}", log.display()))
    }

    /// Waits for the end of a run, and takes its processor time before the system forgets it.
    ///
    /// The coordinator's clock is read while it is dead but not collected: it has the time of all its threads, to the
    /// nanosecond, and of none of its children. The time of those it waited for comes with it when it is collected.
    async fn wait(&mut self, child: &mut Child) -> Result<(ExitStatus, CpuSeconds)> {
        let process = child.id().and_then(|id| i32::try_from(id).ok()).context("a child without a number")?;
        let pid = Pid::from_raw(process).context("a child with the number 0")?;
        let clock = ClockId::pid_cpu_clock_id(nix::unistd::Pid::from_raw(process))
            .context("cannot find the coordinator's clock of processor time")?;
        let before = children_cpu_seconds()?;
        let dead = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        while waitid(WaitId::Pid(pid), dead)?.is_none() {
            let exit_code = tokio::select! {
                _ = self.child_ended.recv() => continue,
                signal = self.signals.next() => exit_code(signal),
            };
            end(child, pid).await?;
            bail!(Interrupted { exit_code });
        }
        let spent = clock.now().context("cannot read the coordinator's clock of processor time")?;
        let coordinator = Duration::from(spent).as_secs_f64();
        let status = child.wait().await?;
        let workers = children_cpu_seconds()? - before - coordinator;
        Ok((status, CpuSeconds { coordinator, workers }))
    }
}

/// Ends a coordinator, and with it its workers.
async fn end(child: &mut Child, pid: Pid) -> Result<()> {
    // It may have ended this instant.
    let _ = kill_process(pid, Signal::TERM);
    if tokio::time::timeout(EXIT_GRACE, child.wait()).await.is_err() {
        child.kill().await?;
    }
    Ok(())
}

/// Of every child that was collected, and of those that they collected.
fn children_cpu_seconds() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("cannot read the processor time of children")?;
    let seconds = |time: TimeVal| time.num_microseconds() as f64 / 1e6;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

/// What a run is started with, besides its directory.
fn flags(plan: &ScalingPlan, point: Point, steps: u32) -> Vec<String> {
    let mut flags: Vec<String> =
        ["--dataset=digits", "--offline", "--json", "--no-progress", "--no-dashboard"]
            .map(String::from)
            .to_vec();
    let mut number = |flag: &str, value: u32| flags.push(format!("--{flag}={value}"));
    number("workers", point.workers);
    number("threads-per-worker", plan.threads_per_worker);
    number("batch-size", point.batch_size);
    number("micro-shards", plan.micro_shards);
    number("max-steps", steps);
    // An epoch has a step at least, so that the steps decide. Without a validation after each epoch the cost of a step
    // is that of a step.
    number("epochs", steps);
    number("validation-split", 0);
    if let Some(examples) = plan.examples {
        number("examples", examples);
    }
    flags
}

/// Reads what a run that ended well has left.
fn outcome(directory: &Path, steps: u32, cpu: CpuSeconds) -> Result<Outcome> {
    let directory = RunDirectory::open(directory)?;
    let summary = Summary::read(&directory.summary())?;
    if summary.steps != u64::from(steps) {
        bail!("the run in {} has {} steps, not {steps}", directory.path().display(), summary.steps);
    }
    let metrics = directory.metrics();
    let recorded = recorded_steps(&metrics).with_context(|| format!("cannot read {}", metrics.display()))?;
    let step = StepMedians::of(&recorded);
    Ok(Outcome {
        steps: summary.steps,
        weights_digest: summary.weights_digest,
        examples_per_second: summary
            .examples_per_second
            .with_context(|| format!("the run in {} has no speed", directory.path().display()))?,
        step: step.with_context(|| format!("{} has no step", metrics.display()))?,
        cpu,
    })
}

fn recorded_steps(metrics: &Path) -> io::Result<Vec<StepMedians>> {
    let mut reader = RecordReader::open(metrics, None)?;
    let mut steps = Vec::new();
    while let Some((_, record)) = reader.read()? {
        if let Record::Step(step) = record {
            steps.push(step.into());
        }
    }
    Ok(steps)
}

/// The last lines of a log, each on a line of its own.
fn output_tail(log: &Path) -> String {
    last_lines(log, SHOWN_LINES).iter().map(|line| format!("\n  {line}")).collect()
}

#[cfg(test)]
mod tests {
    use lockstep_records::examples;

    use super::*;

    #[test]
    fn each_figure_has_its_own_median() {
        let step =
            |seconds, bytes_sent| StepMedians::from(StepRecord { seconds, bytes_sent, ..examples::step() });
        let medians = StepMedians::of(&[step(0.5, 10), step(0.25, 30), step(0.125, 20)]).unwrap();
        assert_eq!((medians.seconds, medians.bytes_sent), (0.25, 20.0));
        let StepRecord { send_seconds, compute_seconds_median, bytes_received, .. } = examples::step();
        assert_eq!(
            (medians.send_seconds, medians.compute_seconds_median, medians.bytes_received),
            (send_seconds, compute_seconds_median, bytes_received as f64)
        );
        assert_eq!(StepMedians::of(&[]), None);
    }

    /// Burns processor time in a child of a shell, and then in the shell itself.
    const SHELL: &str =
        "loop() { i=0; while [ $i -lt $1 ]; do i=$((i+1)); done; }; (loop 400000); loop 100000; exit 3";

    #[test]
    fn the_time_of_a_process_and_that_of_its_children_are_told_apart() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (status, cpu) = runtime.block_on(async {
            let mut runner = TrialRunner::new(Path::new(""), false, Signals::none()).unwrap();
            let mut command = tokio::process::Command::new("sh");
            let mut child = command.args(["-c", SHELL]).kill_on_drop(true).spawn().unwrap();
            runner.wait(&mut child).await.unwrap()
        });
        assert_eq!(status.code(), Some(3));
        // Other tests of this process may collect children meanwhile, which can only add to the second.
        assert!(cpu.coordinator > 0.0 && cpu.workers > 2.0 * cpu.coordinator, "{cpu:?}");
    }
}

//! Runs one training with its faults: starts the processes, does what is due, sees which ended, waits for the end.
//!
//! One loop looks at everything every few milliseconds; nothing else waits. How a fault is done is in `inject`, what
//! it cost in `figures`; nothing here knows how a process is started.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use lockstep_records::{Status, Summary};

use super::plan::{Fault, FaultPlan};
use super::process_usage::ProcessUsages;
use super::processes::{Ended, Process, Processes, WorkerProcess};
use super::verdict::{Injected, Run};
use figures::Figures;
use inject::Scheduled;

mod figures;
mod inject;

/// How often everything is looked at: the precision of what this process times itself.
const TICK: Duration = Duration::from_millis(20);

/// How often memory and descriptors are looked at.
const SAMPLE_EVERY: Duration = Duration::from_secs(2);

/// Processes younger than this are not looked at: what a start takes is no leak.
const START_UP: Duration = Duration::from_secs(5);

/// How long workers may take to end after the coordinator; then they are killed.
const EXIT_GRACE: Duration = Duration::from_secs(2);

/// When a worker that ended although nobody asked it to is started again.
const RESTART_AFTER_OWN_END: Duration = Duration::from_millis(500);

/// Unexpected ends that are told of; more of them say the same.
const MAX_UNEXPECTED_ENDS: usize = 100;

/// What was found out over all runs so far.
#[derive(Default)]
pub struct Progress {
    /// The runs that are over.
    pub runs: Vec<Run>,
    /// The faults, injected or skipped.
    pub faults: Vec<Injected>,
    /// The processes seen.
    pub usages: ProcessUsages,
    /// Time that faults could be injected in, over all runs.
    pub time: Duration,
}

/// The faults that the plan still holds.
pub type PendingFaults = Peekable<Box<dyn Iterator<Item = Fault>>>;

/// One run.
pub struct FaultRunner<'a> {
    plan: &'a FaultPlan,
    processes: Processes,
    directory: PathBuf,
    pending: &'a mut PendingFaults,
    progress: &'a mut Progress,
    coordinator: Process,
    /// The plan's workers in their order, and then those that joined.
    workers: Vec<WorkerProcess>,
    /// What is to be done later; the second number keeps two of the same instant apart, in their order.
    schedule: BTreeMap<(Instant, u64), Scheduled>,
    scheduled: u64,
    figures: Figures,
    start: Instant,
    /// When all workers had joined.
    all_joined_at: Option<Instant>,
    next_sample: Instant,
    run: Run,
}

/// How a run is over.
enum End {
    /// The coordinator ended by itself.
    Own(Ended),
    /// It did not.
    TooLong,
}

impl<'a> FaultRunner<'a> {
    /// A run that writes to `directory`, and the output of its processes to `logs`, which exists.
    ///
    /// # Errors
    ///
    /// If there is no free port.
    pub fn begin(
        plan: &'a FaultPlan,
        number: u32,
        directory: PathBuf,
        logs: PathBuf,
        pending: &'a mut PendingFaults,
        progress: &'a mut Progress,
    ) -> Result<Self> {
        let processes = Processes::new(plan, directory.clone(), logs)?;
        let start = Instant::now();
        Ok(Self {
            coordinator: processes.coordinator(),
            figures: Figures::new(&directory),
            workers: Vec::new(),
            schedule: BTreeMap::new(),
            scheduled: 0,
            start,
            all_joined_at: None,
            next_sample: start,
            run: Run {
                run: number,
                directory: directory.display().to_string(),
                seconds: 0.0,
                steps: None,
                digest: None,
                failure: None,
                coordinators: 0,
                workers: 0,
                unexpected_ends: Vec::new(),
            },
            plan,
            processes,
            directory,
            pending,
            progress,
        })
    }

    /// Runs the training to its end, with its faults, and adds what it finds to the progress.
    ///
    /// # Errors
    ///
    /// If the system refuses a process, a port or a signal. A run that fails is no error: it is a finding.
    pub async fn run(mut self) -> Result<()> {
        self.processes.start_coordinator(&mut self.coordinator).context("cannot start the coordinator")?;
        for number in 1..=self.plan.workers {
            self.enter(format!("w{number}")).await?;
        }
        let end = loop {
            if let Some(end) = self.look().await? {
                break end;
            }
            let due = self.schedule.first_key_value().map(|((due, _), _)| *due);
            let tick = Instant::now() + TICK;
            tokio::time::sleep_until(due.map_or(tick, |due| due.min(tick)).into()).await;
        };
        if let Some(all_joined_at) = self.all_joined_at {
            self.progress.time += all_joined_at.elapsed();
        }
        self.run.seconds = self.start.elapsed().as_secs_f64();
        self.settle();
        self.judge(end);
        self.dismiss().await?;
        self.run.coordinators = self.coordinator.started;
        self.run.workers = self.workers.iter().map(|worker| worker.process.started).sum();
        self.progress.runs.push(self.run);
        Ok(())
    }

    /// Has one more worker come.
    async fn enter(&mut self, name: String) -> Result<usize> {
        let mut worker = self.processes.worker(name).await.context("no port for a proxy")?;
        self.processes.start_worker(&mut worker).context("cannot start a worker")?;
        self.workers.push(worker);
        Ok(self.workers.len() - 1)
    }

    /// Everything that there is to see and to do now; the end of the run, if this is it.
    async fn look(&mut self) -> Result<Option<End>> {
        if let Some(end) = self.see_who_ended()? {
            return Ok(Some(end));
        }
        if self.start.elapsed() > self.plan.limit {
            return Ok(Some(End::TooLong));
        }
        match self.all_joined_at {
            None => self.all_joined_at = self.figures.all_joined(self.plan.workers).then(Instant::now),
            Some(all_joined_at) => {
                self.do_scheduled()?;
                self.do_faults(all_joined_at).await?;
            }
        }
        self.figures.look_for_resumption(&mut self.progress.faults);
        let now = Instant::now();
        if now >= self.next_sample {
            self.next_sample = now + SAMPLE_EVERY;
            self.sample_usages();
        }
        Ok(None)
    }

    fn sample_usages(&mut self) {
        let now_seconds = self.progress.time.as_secs_f64() + self.start.elapsed().as_secs_f64();
        let all = self.workers.iter().map(|worker| &worker.process).chain([&self.coordinator]);
        let grown_up = all.filter(|process| process.age() > START_UP);
        for (process, pid) in grown_up.filter_map(|process| Some((process, process.pid()?))) {
            self.progress.usages.sample(&process.name, pid, now_seconds);
        }
    }

    /// Collects the processes that ended; the coordinator's own end is the run's.
    fn see_who_ended(&mut self) -> Result<Option<End>> {
        if let Some((asked_for, ended)) = self.coordinator.ended()? {
            if !asked_for {
                return Ok(Some(End::Own(ended)));
            }
            self.settle();
            self.figures.coordinator_is_gone();
        }
        for index in 0..self.workers.len() {
            // One that ends well was told that the run is over.
            let Some((false, ended)) = self.workers[index].process.ended()? else { continue };
            if !ended.status.success() {
                tracing::warn!("nobody asked for it: {ended}");
                if self.run.unexpected_ends.len() < MAX_UNEXPECTED_ENDS {
                    self.run.unexpected_ends.push(ended.to_string());
                }
                self.schedule(Instant::now() + RESTART_AFTER_OWN_END, Scheduled::Restart { index });
            }
        }
        Ok(None)
    }

    /// The costs of the faults since the coordinator was started, while its records are as it left them.
    fn settle(&mut self) {
        self.figures.settle(&mut self.progress.faults);
    }

    fn judge(&mut self, end: End) {
        let failure = match end {
            End::TooLong => Some(format!(
                "it took longer than the plan's `limit`, {:.0} s; raise it, or train for less",
                self.plan.limit.as_secs_f64()
            )),
            End::Own(ended) if !ended.status.success() => Some(ended.to_string()),
            End::Own(_) => match Summary::read(&self.directory.join("summary.json")) {
                Ok(summary) => {
                    self.run.steps = Some(summary.steps);
                    let done = summary.status == Status::Done;
                    self.run.digest = done.then_some(summary.weights_digest);
                    (!done).then(|| format!("its status is '{}' instead of 'done'", summary.status.name()))
                }
                Err(error) => Some(format!("it has no summary: {error}")),
            },
        };
        self.run.failure = failure;
    }

    /// Lets the workers end, and ends those that do not.
    async fn dismiss(&mut self) -> Result<()> {
        self.coordinator.kill();
        self.workers.iter_mut().for_each(|worker| worker.process.go_on_for_good());
        let end = Instant::now() + EXIT_GRACE;
        loop {
            let mut left = false;
            for worker in &mut self.workers {
                worker.process.ended()?;
                left |= worker.process.pid().is_some();
            }
            if !left {
                return Ok(());
            }
            if Instant::now() > end {
                // Their last output tells no more than that the coordinator is gone; dropping them collects them.
                self.workers.iter_mut().for_each(|worker| worker.process.kill());
                return Ok(());
            }
            tokio::time::sleep(TICK).await;
        }
    }
}

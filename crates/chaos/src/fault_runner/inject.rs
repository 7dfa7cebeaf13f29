//! Does the faults: what happens at once, and what is to be done about it later.
//!
//! Nothing here waits: what comes later is scheduled, and what was scheduled for a process that has ended since is void.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::FaultRunner;
use crate::plan::{Action, Fault, Way};
use crate::verdict::Injected;

/// A slowed process runs and stops once in this time: well below any deadline, well above a step's messages.
const BEAT: Duration = Duration::from_millis(100);

/// When it is looked again whether a process that has to go first is gone.
const RETRY: Duration = Duration::from_millis(50);

/// What is to be done at a later time. A process is meant only as long as it was started `started` times.
#[derive(Clone, Copy, Debug)]
pub(super) enum Scheduled {
    /// Start a worker again.
    Restart { index: usize },
    /// Resume the run.
    Resume,
    /// A stop is over.
    GoOn { index: usize, started: u32 },
    /// The coordinator's stop is over.
    CoordinatorGoesOn { started: u32 },
    /// One half of a slowed worker's beat is over.
    Beat { index: usize, started: u32, until: Instant, factor: u32, stopped: bool },
    /// A cut is over.
    Heal { index: usize, way: Way },
    /// One half of a flapping connection's beat is over.
    Flap { index: usize, until: Instant, every: Duration, cut: bool },
    /// A worker that came leaves again.
    Leave { index: usize, started: u32 },
}

impl FaultRunner<'_> {
    pub(super) fn schedule(&mut self, at: Instant, what: Scheduled) {
        self.scheduled += 1;
        self.schedule.insert((at, self.scheduled), what);
    }

    /// Does what is due.
    pub(super) fn do_scheduled(&mut self) -> Result<()> {
        let now = Instant::now();
        while let Some(entry) = self.schedule.first_entry().filter(|entry| entry.key().0 <= now) {
            let what = entry.remove();
            self.do_one(what, now)?;
        }
        Ok(())
    }

    fn do_one(&mut self, what: Scheduled, now: Instant) -> Result<()> {
        match what {
            Scheduled::Restart { index } => {
                let place = &mut self.workers[index];
                if place.process.pid().is_some() {
                    // It was asked to end and has not: stopped, perhaps.
                    place.process.kill();
                    self.schedule(now + RETRY, what);
                } else {
                    self.processes.start_worker(place).context("cannot start a worker again")?;
                }
            }
            Scheduled::Resume => {
                if self.coordinator.pid().is_some() {
                    self.schedule(now + RETRY, what);
                } else {
                    self.processes
                        .start_coordinator(&mut self.coordinator)
                        .context("cannot resume the coordinator")?;
                }
            }
            Scheduled::GoOn { index, started } if self.is_same(index, started) => {
                self.workers[index].process.go_on();
            }
            Scheduled::CoordinatorGoesOn { started } if self.coordinator.started == started => {
                self.coordinator.go_on();
            }
            Scheduled::Beat { index, started, until, factor, stopped } if self.is_same(index, started) => {
                self.beat(index, until, factor, stopped, now);
            }
            Scheduled::Heal { index, way } => self.workers[index].proxy.heal(way),
            Scheduled::Flap { index, until, every, cut } => self.flap(index, until, every, cut, now),
            Scheduled::Leave { index, started } if self.is_same(index, started) => {
                self.workers[index].process.terminate();
            }
            Scheduled::GoOn { .. }
            | Scheduled::CoordinatorGoesOn { .. }
            | Scheduled::Beat { .. }
            | Scheduled::Leave { .. } => {}
        }
        Ok(())
    }

    fn is_same(&self, index: usize, started: u32) -> bool {
        self.workers[index].process.started == started
    }

    /// Turns a slowed worker from stopped to running or back; at the end it runs.
    fn beat(&mut self, index: usize, until: Instant, factor: u32, stopped: bool, now: Instant) {
        let process = &mut self.workers[index].process;
        let running = BEAT / factor;
        let lasts = if stopped {
            process.go_on();
            running
        } else if now < until {
            process.stop();
            BEAT - running
        } else {
            return;
        };
        let started = process.started;
        self.schedule(now + lasts, Scheduled::Beat { index, started, until, factor, stopped: !stopped });
    }

    /// Turns a flapping connection from cut to open or back; at the end it is open.
    fn flap(&mut self, index: usize, until: Instant, every: Duration, cut: bool, now: Instant) {
        let proxy = &self.workers[index].proxy;
        if cut {
            proxy.heal(Way::Both);
        } else if now < until {
            proxy.cut(Way::Both);
        } else {
            return;
        }
        self.schedule(now + every, Scheduled::Flap { index, until, every, cut: !cut });
    }

    /// Injects what is due. A fault waits, and those after it, until its target is back from an earlier one.
    pub(super) async fn do_faults(&mut self, all_joined_at: Instant) -> Result<()> {
        while let Some(fault) = self.pending.peek() {
            let fault = fault.clone();
            let now = self.progress.time + all_joined_at.elapsed();
            if fault.at > now {
                return Ok(());
            }
            let skipped = match self.target(fault.action) {
                Target::Ready => None,
                Target::Away => return Ok(()),
                Target::Gone => Some("it has left for the rest of the run".to_string()),
            };
            self.pending.next();
            self.inject(&fault, now, skipped).await?;
        }
        Ok(())
    }

    fn target(&self, action: Action) -> Target {
        let process = match (action, action.worker()) {
            (Action::Join { .. }, _) => return Target::Ready,
            (_, Some(worker)) => &self.workers[worker as usize - 1].process,
            (_, None) => &self.coordinator,
        };
        let returns = |later: &Scheduled| match later {
            Scheduled::Restart { index } => action.worker() == Some(*index as u32 + 1),
            Scheduled::Resume => action.worker().is_none(),
            _ => false,
        };
        if process.is_up() {
            Target::Ready
        } else if self.schedule.values().any(returns) {
            Target::Away
        } else {
            Target::Gone
        }
    }

    /// Notes a fault, and does it unless it is skipped.
    async fn inject(&mut self, fault: &Fault, now: Duration, skipped: Option<String>) -> Result<()> {
        let action = fault.action;
        let target = match (action, action.worker()) {
            (Action::Join { .. }, _) => {
                format!("extra{}", self.workers.len() + 1 - self.plan.workers as usize)
            }
            (_, Some(worker)) => format!("w{worker}"),
            (_, None) => "coordinator".to_string(),
        };
        let number = self.progress.faults.len() + 1;
        match &skipped {
            None => {
                tracing::info!("fault {number} at {:.3} s: {} {target}", now.as_secs_f64(), action.kind())
            }
            Some(reason) => tracing::info!("fault {number}: {} {target} skipped: {reason}", action.kind()),
        }
        let is_skipped = skipped.is_some();
        self.progress.faults.push(Injected {
            run: self.run.run,
            kind: action.kind(),
            target,
            at_seconds: now.as_secs_f64(),
            lasts_seconds: action.lasts().map(|lasts| lasts.as_secs_f64()),
            step: self.figures.newest_step(),
            skipped,
            recovery: None,
        });
        if !is_skipped {
            self.figures.injected(number - 1, action.kind());
            self.act(action).await?;
        }
        Ok(())
    }

    async fn act(&mut self, action: Action) -> Result<()> {
        let now = Instant::now();
        // For faults without a worker it is not used.
        let index = action.worker().map_or(0, |worker| worker as usize - 1);
        let started = self.workers[index].process.started;
        match action {
            Action::Kill { restart_after, .. } => {
                self.workers[index].process.kill();
                self.schedule(now + restart_after, Scheduled::Restart { index });
            }
            Action::Stop { hold, .. } => {
                self.workers[index].process.stop();
                self.schedule(now + hold, Scheduled::GoOn { index, started });
            }
            Action::Slow { hold, factor, .. } => self.beat(index, now + hold, factor, false, now),
            Action::Cut { hold, way, .. } => {
                self.workers[index].proxy.cut(way);
                self.schedule(now + hold, Scheduled::Heal { index, way });
            }
            Action::Flap { hold, every, .. } => self.flap(index, now + hold, every, false, now),
            Action::Reset { .. } => self.workers[index].proxy.reset(),
            Action::Join { hold } => {
                let extra = self.workers.len() + 1 - self.plan.workers as usize;
                let index = self.enter(format!("extra{extra}")).await?;
                if let Some(hold) = hold {
                    self.schedule(now + hold, Scheduled::Leave { index, started: 1 });
                }
            }
            Action::Leave { restart_after, .. } => {
                self.workers[index].process.terminate();
                if let Some(restart_after) = restart_after {
                    self.schedule(now + restart_after, Scheduled::Restart { index });
                }
            }
            Action::KillCoordinator { restart_after } => {
                self.coordinator.kill();
                self.schedule(now + restart_after, Scheduled::Resume);
            }
            Action::StopCoordinator { hold } => {
                self.coordinator.stop();
                let started = self.coordinator.started;
                self.schedule(now + hold, Scheduled::CoordinatorGoesOn { started });
            }
        }
        Ok(())
    }
}

/// Whether a fault has somebody to happen to.
enum Target {
    Ready,
    /// Not now.
    Away,
    /// Never again in this run.
    Gone,
}

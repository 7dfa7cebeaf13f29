//! Does the faults: what happens at once, and what is to be done about it later.
//!
//! Nothing here waits: what comes later is a cue on the agenda, and a cue for a process that has ended since is void.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::Director;
use crate::chaos::plan::{Action, Fault, Way};
use crate::chaos::report::Injected;

/// A slowed process runs and stops once in this time: well below any deadline, well above a step's messages.
const BEAT: Duration = Duration::from_millis(100);

/// When it is looked again whether a process that has to go first is gone.
const RETRY: Duration = Duration::from_millis(50);

/// What is to be done at a later time. A process is meant only as long as it was started `started` times.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cue {
    /// Start a worker again.
    Restart { player: usize },
    /// Resume the run.
    Resume,
    /// A stop is over.
    GoOn { player: usize, started: u32 },
    /// The coordinator's stop is over.
    CoordinatorGoesOn { started: u32 },
    /// One half of a slowed worker's beat is over.
    Beat { player: usize, started: u32, until: Instant, factor: u32, stopped: bool },
    /// A cut is over.
    Heal { player: usize, way: Way },
    /// One half of a flapping connection's beat is over.
    Flap { player: usize, until: Instant, every: Duration, cut: bool },
    /// A worker that came leaves again.
    Leave { player: usize, started: u32 },
}

impl Director<'_> {
    pub(super) fn cue(&mut self, at: Instant, cue: Cue) {
        self.cues += 1;
        self.agenda.insert((at, self.cues), cue);
    }

    /// Does what is due.
    pub(super) fn do_cues(&mut self) -> Result<()> {
        let now = Instant::now();
        while let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= now) {
            let cue = entry.remove();
            self.do_cue(cue, now)?;
        }
        Ok(())
    }

    fn do_cue(&mut self, cue: Cue, now: Instant) -> Result<()> {
        match cue {
            Cue::Restart { player } => {
                let place = &mut self.players[player];
                if place.actor.pid().is_some() {
                    // It was asked to end and has not: stopped, perhaps.
                    place.actor.kill();
                    self.cue(now + RETRY, cue);
                } else {
                    self.cast.start_worker(place).context("cannot start a worker again")?;
                }
            }
            Cue::Resume => {
                if self.coordinator.pid().is_some() {
                    self.cue(now + RETRY, cue);
                } else {
                    self.cast
                        .start_coordinator(&mut self.coordinator)
                        .context("cannot resume the coordinator")?;
                }
            }
            Cue::GoOn { player, started } if self.is_same(player, started) => {
                self.players[player].actor.go_on();
            }
            Cue::CoordinatorGoesOn { started } if self.coordinator.started == started => {
                self.coordinator.go_on();
            }
            Cue::Beat { player, started, until, factor, stopped } if self.is_same(player, started) => {
                self.beat(player, until, factor, stopped, now);
            }
            Cue::Heal { player, way } => self.players[player].proxy.heal(way),
            Cue::Flap { player, until, every, cut } => self.flap(player, until, every, cut, now),
            Cue::Leave { player, started } if self.is_same(player, started) => {
                self.players[player].actor.terminate();
            }
            Cue::GoOn { .. } | Cue::CoordinatorGoesOn { .. } | Cue::Beat { .. } | Cue::Leave { .. } => {}
        }
        Ok(())
    }

    fn is_same(&self, player: usize, started: u32) -> bool {
        self.players[player].actor.started == started
    }

    /// Turns a slowed worker from stopped to running or back; at the end it runs.
    fn beat(&mut self, player: usize, until: Instant, factor: u32, stopped: bool, now: Instant) {
        let actor = &mut self.players[player].actor;
        let running = BEAT / factor;
        let lasts = if stopped {
            actor.go_on();
            running
        } else if now < until {
            actor.stop();
            BEAT - running
        } else {
            return;
        };
        let started = actor.started;
        self.cue(now + lasts, Cue::Beat { player, started, until, factor, stopped: !stopped });
    }

    /// Turns a flapping connection from cut to open or back; at the end it is open.
    fn flap(&mut self, player: usize, until: Instant, every: Duration, cut: bool, now: Instant) {
        let proxy = &self.players[player].proxy;
        if cut {
            proxy.heal(Way::Both);
        } else if now < until {
            proxy.cut(Way::Both);
        } else {
            return;
        }
        self.cue(now + every, Cue::Flap { player, until, every, cut: !cut });
    }

    /// Injects what is due. A fault waits, and those after it, until its target is back from an earlier one.
    pub(super) async fn do_faults(&mut self, curtain: Instant) -> Result<()> {
        while let Some(fault) = self.schedule.peek() {
            let fault = fault.clone();
            let now = self.progress.time + curtain.elapsed();
            if fault.at > now {
                return Ok(());
            }
            let skipped = match self.target(fault.action) {
                Target::Ready => None,
                Target::Away => return Ok(()),
                Target::Gone => Some("it has left for the rest of the run".to_string()),
            };
            self.schedule.next();
            self.inject(&fault, now, skipped).await?;
        }
        Ok(())
    }

    fn target(&self, action: Action) -> Target {
        let actor = match (action, action.worker()) {
            (Action::Join { .. }, _) => return Target::Ready,
            (_, Some(worker)) => &self.players[worker as usize - 1].actor,
            (_, None) => &self.coordinator,
        };
        let returns = |cue: &Cue| match cue {
            Cue::Restart { player } => action.worker() == Some(*player as u32 + 1),
            Cue::Resume => action.worker().is_none(),
            _ => false,
        };
        if actor.is_up() {
            Target::Ready
        } else if self.agenda.values().any(returns) {
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
                format!("extra{}", self.players.len() + 1 - self.plan.workers as usize)
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
        let player = action.worker().map_or(0, |worker| worker as usize - 1);
        let started = self.players[player].actor.started;
        match action {
            Action::Kill { restart_after, .. } => {
                self.players[player].actor.kill();
                self.cue(now + restart_after, Cue::Restart { player });
            }
            Action::Stop { hold, .. } => {
                self.players[player].actor.stop();
                self.cue(now + hold, Cue::GoOn { player, started });
            }
            Action::Slow { hold, factor, .. } => self.beat(player, now + hold, factor, false, now),
            Action::Cut { hold, way, .. } => {
                self.players[player].proxy.cut(way);
                self.cue(now + hold, Cue::Heal { player, way });
            }
            Action::Flap { hold, every, .. } => self.flap(player, now + hold, every, false, now),
            Action::Reset { .. } => self.players[player].proxy.reset(),
            Action::Join { hold } => {
                let extra = self.players.len() + 1 - self.plan.workers as usize;
                let player = self.enter(format!("extra{extra}")).await?;
                if let Some(hold) = hold {
                    self.cue(now + hold, Cue::Leave { player, started: 1 });
                }
            }
            Action::Leave { restart_after, .. } => {
                self.players[player].actor.terminate();
                if let Some(restart_after) = restart_after {
                    self.cue(now + restart_after, Cue::Restart { player });
                }
            }
            Action::KillCoordinator { restart_after } => {
                self.coordinator.kill();
                self.cue(now + restart_after, Cue::Resume);
            }
            Action::StopCoordinator { hold } => {
                self.coordinator.stop();
                let started = self.coordinator.started;
                self.cue(now + hold, Cue::CoordinatorGoesOn { started });
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

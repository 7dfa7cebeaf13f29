//! The plan of a chaos run: what is trained, by how many workers, and which faults come when.
//!
//! Reads the plan's TOML once, into types that cannot be wrong, and refuses the rest with the line and a remedy. Random
//! plans are drawn by `draw`.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fmt, fs, io};

use serde::Serialize;

use super::draw::Drawn;

mod table;
mod values;

/// More workers than a test on one machine can use.
pub const MAX_WORKERS: u32 = 256;

/// More faults than a week of one every second; a bound on what the report holds.
pub const MAX_FAULTS: u64 = 1_000_000;

/// What to train, and what to do to it.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultPlan {
    /// Workers that every run begins with, named `w1`, `w2`, ...
    pub workers: u32,
    /// Threads of each worker.
    pub threads: u32,
    /// What random faults are drawn from.
    pub seed: u64,
    /// The digest that every run has to end with; found by an undisturbed run if absent.
    pub digest: Option<String>,
    /// The longest that one run may take.
    pub limit: Duration,
    /// Whether further runs are started for the faults that are left.
    pub until: Until,
    /// Flags of the training and their values, without dashes, in alphabetical order.
    pub training: Vec<(String, String)>,
    /// The faults.
    pub faults: Faults,
}

/// When to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// All faults were injected: a training that ends before is run again.
    Faults,
    /// The first training is done; faults that are left are not injected.
    Done,
}

/// Where the faults come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Faults {
    /// From the plan, in the order of their times.
    Listed(Vec<Fault>),
    /// From the plan's seed.
    Drawn(Drawn),
}

/// One fault and its time, counted over all runs from when all workers of a run have joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub at: Duration,
    pub action: Action,
}

/// What is done to whom; workers are counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// SIGKILL, and a new process of the same name after a while.
    Kill {
        worker: u32,
        /// How long it is gone.
        restart_after: Duration,
    },
    /// SIGSTOP, and SIGCONT after a while.
    Stop { worker: u32, hold: Duration },
    /// SIGSTOP and SIGCONT in turn, so that the worker runs one part in `factor` of the time.
    Slow {
        worker: u32,
        hold: Duration,
        /// How many times slower.
        factor: u32,
    },
    /// Nothing is forwarded, while all connections stay open.
    Cut { worker: u32, hold: Duration, way: Way },
    /// Cut and healed in turn, both ways.
    Flap {
        worker: u32,
        hold: Duration,
        /// How long each cut and each pause between two cuts lasts.
        every: Duration,
    },
    /// All connections are closed with RST.
    Reset { worker: u32 },
    /// One more worker.
    Join {
        /// How long it stays; to the end of the run if absent.
        hold: Option<Duration>,
    },
    /// SIGTERM.
    Leave {
        worker: u32,
        /// How long it is gone; to the end of the run if absent.
        restart_after: Option<Duration>,
    },
    /// SIGKILL for the coordinator, and `--resume` after a while.
    KillCoordinator {
        /// How long it is gone.
        restart_after: Duration,
    },
    /// SIGSTOP for the coordinator, and SIGCONT after a while.
    StopCoordinator { hold: Duration },
}

/// Directions of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the coordinator.
    Up,
    /// To the worker.
    Down,
    /// Both.
    Both,
}

/// The kinds of faults, as plans name them.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Kill,
    Stop,
    Slow,
    Cut,
    CutUp,
    CutDown,
    Flap,
    Reset,
    Join,
    Leave,
    KillCoordinator,
    StopCoordinator,
}

impl Kind {
    /// All of them, in the order of the table of results.
    pub const ALL: [Self; 12] = [
        Self::Kill,
        Self::Stop,
        Self::Slow,
        Self::Cut,
        Self::CutUp,
        Self::CutDown,
        Self::Flap,
        Self::Reset,
        Self::Join,
        Self::Leave,
        Self::KillCoordinator,
        Self::StopCoordinator,
    ];

    /// The name in plans and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Slow => "slow",
            Self::Cut => "cut",
            Self::CutUp => "cut-up",
            Self::CutDown => "cut-down",
            Self::Flap => "flap",
            Self::Reset => "reset",
            Self::Join => "join",
            Self::Leave => "leave",
            Self::KillCoordinator => "kill-coordinator",
            Self::StopCoordinator => "stop-coordinator",
        }
    }

    /// The kind of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether it happens to a worker that exists already.
    pub fn has_worker(self) -> bool {
        !matches!(self, Self::Join | Self::KillCoordinator | Self::StopCoordinator)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Action {
    /// Its kind.
    pub fn kind(self) -> Kind {
        match self {
            Self::Kill { .. } => Kind::Kill,
            Self::Stop { .. } => Kind::Stop,
            Self::Slow { .. } => Kind::Slow,
            Self::Cut { way: Way::Both, .. } => Kind::Cut,
            Self::Cut { way: Way::Up, .. } => Kind::CutUp,
            Self::Cut { way: Way::Down, .. } => Kind::CutDown,
            Self::Flap { .. } => Kind::Flap,
            Self::Reset { .. } => Kind::Reset,
            Self::Join { .. } => Kind::Join,
            Self::Leave { .. } => Kind::Leave,
            Self::KillCoordinator { .. } => Kind::KillCoordinator,
            Self::StopCoordinator { .. } => Kind::StopCoordinator,
        }
    }

    /// The worker it happens to.
    pub fn worker(self) -> Option<u32> {
        match self {
            Self::Kill { worker, .. }
            | Self::Stop { worker, .. }
            | Self::Slow { worker, .. }
            | Self::Cut { worker, .. }
            | Self::Flap { worker, .. }
            | Self::Reset { worker }
            | Self::Leave { worker, .. } => Some(worker),
            Self::Join { .. } | Self::KillCoordinator { .. } | Self::StopCoordinator { .. } => None,
        }
    }

    /// How long it lasts, or until the process is started again.
    pub fn lasts(self) -> Option<Duration> {
        match self {
            Self::Kill { restart_after, .. } | Self::KillCoordinator { restart_after } => Some(restart_after),
            Self::Stop { hold, .. }
            | Self::Slow { hold, .. }
            | Self::Cut { hold, .. }
            | Self::Flap { hold, .. }
            | Self::StopCoordinator { hold } => Some(hold),
            Self::Join { hold } => hold,
            Self::Leave { restart_after, .. } => restart_after,
            Self::Reset { .. } => None,
        }
    }
}

/// A plan that cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The file cannot be read.
    #[error("cannot read the plan {}: {}; name a TOML file with --plan", path.display(), lockstep_run_directory::path_error::reason(path, source))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file says something that no plan may say.
    #[error("{}, line {line}: {message}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong, and what to write instead.
        message: String,
    },
}

impl FaultPlan {
    /// Reads a plan.
    ///
    /// # Errors
    ///
    /// [`PlanError`], with the line and a remedy.
    pub fn read(path: &Path, training_flags: &[String]) -> Result<Self, PlanError> {
        let text = fs::read_to_string(path)
            .map_err(|source| PlanError::Unreadable { path: path.to_path_buf(), source })?;
        Self::parse(&text, training_flags).map_err(|(offset, message)| PlanError::Invalid {
            path: path.to_path_buf(),
            line: text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1,
            message,
        })
    }

    /// The faults in the order of their times; for plans with a number of faults, exactly so many.
    pub fn faults_in_order(&self) -> Box<dyn Iterator<Item = Fault>> {
        match &self.faults {
            Faults::Listed(faults) => Box::new(faults.clone().into_iter()),
            Faults::Drawn(drawn) => Box::new(drawn.clone().faults(self.seed, self.workers)),
        }
    }
}

//! Where a process of the coordinator can be killed: before and after every command, within a commit, at every call of
//! the file system, and in between. The points are enumerated; rng only chooses among them.

use lockstep_control::Command;

use crate::cluster::{Cluster, SimEvent};
use crate::fault_kind::FaultKind;
use crate::observed::CoordinatorId;

/// A process of the coordinator was killed at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crash {
    /// Where.
    pub point: &'static str,
    /// With which file, if it was at a call of the file system.
    pub file: &'static str,
}

/// A crash to come.
#[derive(Clone, Copy, Debug)]
pub struct Armed {
    point: &'static str,
    /// So often the point is passed before.
    passes: u64,
}

/// It is reached by waiting only.
pub const IDLE: &str = "between two events";

/// At a call of the file system; which one, the disk says.
pub const DISK: &str = "at a call of the file system";

/// An armed crash whose point is not reached within this time happens anyway.
const PATIENCE_US: u64 = 2_000_000;

/// Calls that change something on the disk: more than one checkpoint takes.
pub const CALLS_AHEAD: u64 = 40;

/// Calls that the start of a process takes, or somewhat more.
const CALLS_OF_A_START: u64 = 25;

/// Every point, but those of the disk.
pub const POINTS: [&str; 28] = [
    IDLE,
    "after the update, before it waits for its record",
    "while the step waits for its record",
    "before the step's record",
    "after the step's record",
    "before the checkpoint",
    "after the checkpoint",
    "before assign",
    "after assign",
    "before revoke",
    "after revoke",
    "before send weights",
    "after send weights",
    "before combine",
    "after combine",
    "before compare",
    "after compare",
    "before reject",
    "after reject",
    "before commit",
    "after commit",
    "before roll back",
    "after roll back",
    "before save",
    "after save",
    "before drop member",
    "after drop member",
    "before finish",
];

impl Crash {
    /// At a point that has to do with no file.
    pub fn at(point: &'static str) -> Self {
        Self { point, file: "" }
    }

    /// The point before a command.
    pub fn before(command: &Command) -> &'static str {
        match command {
            Command::Assign { .. } => "before assign",
            Command::Revoke { .. } => "before revoke",
            Command::SendWeights { .. } => "before send weights",
            Command::Combine { .. } => "before combine",
            Command::Compare { .. } => "before compare",
            Command::Reject { .. } => "before reject",
            Command::Commit { .. } => "before commit",
            Command::RollBack { .. } => "before roll back",
            Command::Save { .. } => "before save",
            Command::DropMember { .. } => "before drop member",
            Command::Finish { .. } => "before finish",
            // Nothing outside changes by these.
            Command::SetTimer { .. } | Command::Wait { .. } | Command::Stall { .. } => IDLE,
        }
    }

    /// The point after a command.
    pub fn after(command: &Command) -> &'static str {
        match command {
            Command::Assign { .. } => "after assign",
            Command::Revoke { .. } => "after revoke",
            Command::SendWeights { .. } => "after send weights",
            Command::Combine { .. } => "after combine",
            Command::Compare { .. } => "after compare",
            Command::Reject { .. } => "after reject",
            Command::Commit { .. } => "after commit",
            Command::RollBack { .. } => "after roll back",
            Command::Save { .. } => "after save",
            Command::DropMember { .. } => "after drop member",
            Command::SetTimer { .. }
            | Command::Wait { .. }
            | Command::Stall { .. }
            | Command::Finish { .. } => IDLE,
        }
    }
}

impl Cluster {
    /// Chooses where the newest coordinator is killed next.
    pub(crate) fn arm_crash(&mut self, id: CoordinatorId) -> &'static str {
        let at_the_disk = self.fault_rng.happens(400);
        let point = if at_the_disk { DISK } else { self.fault_rng.pick(&POINTS) };
        let passes = self.fault_rng.magnitude(1, 4) - 1;
        if point == DISK {
            let calls = self.fault_rng.below(CALLS_AHEAD);
            self.disk.arm(id, calls);
        }
        self.armed = Some(Armed { point, passes });
        self.at(self.now + PATIENCE_US, SimEvent::ArmedCrash { coordinator: id });
        point
    }

    /// Has a coordinator killed as soon as what is going on now has been observed.
    pub(crate) fn arm_crash_now(&mut self, id: CoordinatorId) {
        self.armed = Some(Armed { point: IDLE, passes: 0 });
        self.at(self.now, SimEvent::ArmedCrash { coordinator: id });
    }

    /// Sometimes the next process is killed while it starts.
    pub(crate) fn arm_start(&mut self, id: CoordinatorId) {
        let kills = self.knobs.faults[FaultKind::CoordinatorKill as usize] > 0;
        if kills && self.faulty() && self.armed.is_none() && self.fault_rng.happens(150) {
            let calls = self.fault_rng.below(CALLS_OF_A_START);
            self.disk.arm(id, calls);
        }
    }

    /// Sometimes a start is held at a call of the disk, and another coordinator starts meanwhile.
    pub(crate) fn arm_held_start(&mut self, id: CoordinatorId) -> bool {
        let splits = self.knobs.faults[FaultKind::SplitBrain as usize] > 0 && !self.knobs.local;
        let free = self.faulty() && self.stall.is_none() && self.starting.is_none();
        let held = splits && free && self.fault_rng.happens(150);
        if held {
            let calls = self.fault_rng.below(CALLS_OF_A_START);
            self.disk.arm_stall(id, calls);
        }
        held
    }

    /// Whether the process is killed before it carries out a command.
    pub(crate) fn crash_before(&mut self, command: &Command) -> Option<Crash> {
        self.armed?;
        self.crash_at(Crash::before(command))
    }

    /// Whether the process is killed at this point.
    pub(crate) fn crash_at(&mut self, point: &'static str) -> Option<Crash> {
        let armed = self.armed.as_mut().filter(|armed| armed.point == point && point != IDLE)?;
        if armed.passes > 0 {
            armed.passes -= 1;
            return None;
        }
        self.armed = None;
        Some(Crash::at(point))
    }

    /// Whether the process was killed at a call of the file system.
    pub(crate) fn disk_crash(&mut self, id: CoordinatorId) -> Option<Crash> {
        let (point, file) = self.disk.killed(id)?;
        self.armed = None;
        Some(Crash { point, file })
    }
}

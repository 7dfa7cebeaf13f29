//! The kinds of faults, each with its name for a report.

/// A class of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// A worker's process is killed; its streams break.
    WorkerKill,
    /// A worker's machine loses its power; nothing says so.
    WorkerPower,
    /// A worker is stopped for a while.
    WorkerPause,
    /// A worker computes ten times slower for a while.
    WorkerSlow,
    /// A worker says that it is alive and computes nothing for a while.
    WorkerHang,
    /// A worker leaves in good order.
    WorkerLeave,
    /// A worker more than at the start joins.
    Join,
    /// A stream breaks.
    StreamBreak,
    /// Nothing passes between two machines for a while.
    PartitionFull,
    /// Nothing reaches the worker for a while.
    PartitionDown,
    /// Nothing reaches the coordinator for a while.
    PartitionUp,
    /// A link is cut and healed again and again.
    PartitionFlap,
    /// Links are cut one by one, and healed one by one in another order.
    PartitionSwizzle,
    /// The coordinator's process is killed at one of its points.
    CoordinatorKill,
    /// The coordinator's machine loses its power, and what was not synced.
    CoordinatorPower,
    /// The coordinator is stopped for a while.
    CoordinatorPause,
    /// The operator or a scheduler ends the coordinator.
    CoordinatorSignal,
    /// The coordinator's clock jumps ahead.
    ClockJump,
    /// A second coordinator is started on another machine while the first one is there.
    SplitBrain,
    /// There is no room on the disk for a while.
    DiskFull,
    /// A call of the disk takes long.
    DiskStall,
    /// A bit of a file at rest flips.
    BitRot,
}

impl FaultKind {
    /// How many there are.
    pub const COUNT: usize = 22;

    /// All of them.
    pub const ALL: [Self; Self::COUNT] = [
        Self::WorkerKill,
        Self::WorkerPower,
        Self::WorkerPause,
        Self::WorkerSlow,
        Self::WorkerHang,
        Self::WorkerLeave,
        Self::Join,
        Self::StreamBreak,
        Self::PartitionFull,
        Self::PartitionDown,
        Self::PartitionUp,
        Self::PartitionFlap,
        Self::PartitionSwizzle,
        Self::CoordinatorKill,
        Self::CoordinatorPower,
        Self::CoordinatorPause,
        Self::CoordinatorSignal,
        Self::ClockJump,
        Self::SplitBrain,
        Self::DiskFull,
        Self::DiskStall,
        Self::BitRot,
    ];

    /// For the table.
    pub fn name(self) -> &'static str {
        match self {
            Self::WorkerKill => "worker killed",
            Self::WorkerPower => "worker's machine lost power",
            Self::WorkerPause => "worker stopped for a while",
            Self::WorkerSlow => "worker ten times slower",
            Self::WorkerHang => "worker hung",
            Self::WorkerLeave => "worker left",
            Self::Join => "another worker joined",
            Self::StreamBreak => "stream broken",
            Self::PartitionFull => "partition, both ways",
            Self::PartitionDown => "partition, towards the worker",
            Self::PartitionUp => "partition, towards the coordinator",
            Self::PartitionFlap => "partition, flapping",
            Self::PartitionSwizzle => "partition, swizzled",
            Self::CoordinatorKill => "coordinator killed",
            Self::CoordinatorPower => "coordinator's machine lost power",
            Self::CoordinatorPause => "coordinator stopped for a while",
            Self::CoordinatorSignal => "coordinator signalled",
            Self::ClockJump => "clock jumped ahead",
            Self::SplitBrain => "second coordinator",
            Self::DiskFull => "disk full for a while",
            Self::DiskStall => "disk stalls",
            Self::BitRot => "bit flipped at rest",
        }
    }
}

//! The knobs of one simulated cluster: plain fields, all drawn from one seed and printed with a failure.
//!
//! Each class of faults is off in many seeds (swarm testing: A. Groce et al., ISSTA 2012), so that one class does not
//! hide what another would show.

use std::time::Duration;

use lockstep_checkpoint::backlog::Limits;
use lockstep_control::{Leaves, Task, TaskKind, TaskOrder, heartbeat};
use lockstep_model::PARAMETER_BYTES;
use lockstep_reduction::Cut;

use crate::fault_kind::FaultKind;
use crate::rng::{Rng, Subject};

/// Machines that workers may run on, those that join later included.
pub const MAX_WORKERS: usize = 10;

/// The longest pause of a worker that dials, and of a local worker that is started again.
const LONGEST_BACK_OFF_US: u64 = 2_000_000;

/// An example that takes no more deadlines than these is done between two looks at whether its worker is stuck.
const ORDINARY_EXAMPLE_DEADLINES: u64 = 3;

/// Everything that differs between two clusters.
#[derive(Clone, Debug)]
pub struct Knobs {
    /// What everything is drawn from.
    pub seed: u64,
    /// The real network computes, on a few small images.
    pub kernels: bool,
    /// The coordinator starts the workers, and they end with it.
    pub local: bool,
    /// Workers of the start.
    pub workers: u32,
    /// Threads of each machine.
    pub threads: [u32; MAX_WORKERS],
    /// Microseconds that a leaf takes one thread of each machine.
    pub leaf_us: [u64; MAX_WORKERS],
    /// A leaf that is not full takes less.
    pub by_example: bool,
    /// Micro-shards of a batch.
    pub shards: u32,
    /// Examples of a batch.
    pub batch: u32,
    /// Examples of an epoch: the last batch is short where they do not divide.
    pub examples: u32,
    /// Steps of the run.
    pub steps: u64,
    /// Examples of the validation set.
    pub validation: u32,
    /// Examples of the test set.
    pub test: u32,
    /// Leaves of one assignment at most.
    pub portion: u32,
    /// `--deadline`.
    pub deadline_us: u64,
    /// The coordinator is gone for a worker after so many deadlines.
    pub silence_deadlines: u64,
    /// `--checkpoint-every`.
    pub checkpoint_us: u64,
    /// `--patience`.
    pub patience_us: u64,
    /// How long the first step waits for the workers; 0: for ever.
    pub join_timeout_us: u64,
    /// How often a local worker is started again.
    pub max_restarts: u32,
    /// One way, at least and at most.
    pub latency_us: [u64; 2],
    /// What one checkpoint takes the disk, at least and at most.
    pub disk_us: [u64; 2],
    /// What the record of a step takes the disk, at least and at most: in some clusters longer than a step.
    pub append_us: [u64; 2],
    /// How much waits for the disk.
    pub backlog: Limits,
    /// From the end of a process to its next one, at least and at most.
    pub restart_us: [u64; 2],
    /// Faults come for so long; then they stop and the run has to end.
    pub faulty_us: u64,
    /// Between two faults on average.
    pub fault_every_us: u64,
    /// How long what lasts for a while lasts, at least and at most.
    pub lasting_us: [u64; 2],
    /// How often each class is drawn, relative to the others; 0: never.
    pub faults: [u32; FaultKind::COUNT],
    /// Messages in a thousand that are lost: sent again later, or the stream breaks.
    pub loss: u32,
    /// Messages in a thousand that take many times as long.
    pub delay: u32,
    /// Nodes in a thousand that come twice.
    pub duplicate: u32,
    /// Joins in a thousand after which nodes of an earlier session, term or run come.
    pub stale: u32,
    /// Nodes of a step in a thousand that are wrong.
    pub corrupt: u32,
    /// What is on its way from a member that was dropped still arrives.
    pub late_arrivals: bool,
    /// After a pause, a worker looks at its timers before what waits.
    pub timers_first: bool,
    /// Calls of the file system in a thousand that fail.
    pub disk_errors: u32,
    /// Syncs in a thousand that fail, and lose what they should have kept.
    pub failed_syncs: u32,
}

impl Knobs {
    /// The knobs of a seed.
    pub fn draw(seed: u64) -> Self {
        let rng = &mut Rng::new(seed, Subject::Knobs);
        let kernels = rng.happens(15);
        let workers = rng.between(1, if kernels { 4 } else { 8 }) as u32;
        let shards: u32 = 1 << rng.between(0, if kernels { 2 } else { 5 });
        let batch = rng.magnitude(1, if kernels { 8 } else { 128 }) as u32;
        let steps_per_epoch = rng.between(1, 30);
        // Often not a multiple of the batch.
        let examples = batch * (steps_per_epoch as u32 - 1) + rng.between(1, batch.into()) as u32;
        let deadline_us = rng.between(100, 1000) * 1000;
        let latency = rng.magnitude(20, deadline_us / 20);
        let mut threads = [1; MAX_WORKERS];
        let mut leaf_us = [rng.magnitude(200, 20_000) / u64::from(shards.ilog2() + 1); MAX_WORKERS];
        for (threads, leaf_us) in threads.iter_mut().zip(&mut leaf_us) {
            *threads = rng.pick(&[1, 1, 1, 2, 4]);
            *leaf_us = *leaf_us * rng.pick(&[100, 100, 90, 120, 150, 1000]) / 100;
        }
        let faulty_us = rng.between(1, 12) * 500_000;
        let some = |rng: &mut Rng, most| {
            if rng.happens(400) { rng.magnitude(1, most) as u32 } else { 0 }
        };
        let mut knobs = Self {
            seed,
            kernels,
            local: rng.happens(300),
            workers,
            threads,
            leaf_us,
            by_example: false,
            shards,
            batch,
            examples,
            steps: rng.between(1, 4),
            validation: if rng.happens(600) {
                rng.between(1, if kernels { 90 } else { 600 }) as u32
            } else {
                0
            },
            test: rng.between(1, if kernels { 90 } else { 400 }) as u32,
            portion: rng.pick(&[1, 2, 8, 64]),
            deadline_us,
            silence_deadlines: rng.between(1, 4),
            checkpoint_us: rng.pick(&[0, 20_000, 100_000, 1_000_000]),
            patience_us: rng.pick(&[0, 500_000, 3_000_000, 60_000_000]),
            join_timeout_us: 0,
            max_restarts: rng.between(0, 6) as u32,
            latency_us: [latency / 2, latency],
            disk_us: [200, rng.magnitude(500, 100_000)],
            append_us: [1, rng.magnitude(10, 100_000)],
            backlog: backlog(rng, kernels),
            restart_us: [20_000, rng.magnitude(40_000, 2_000_000)],
            faulty_us,
            fault_every_us: rng.magnitude(20_000, 1_000_000),
            lasting_us: [1_000, rng.magnitude(10_000, 4 * deadline_us)],
            faults: std::array::from_fn(|_| if rng.happens(450) { rng.between(1, 10) as u32 } else { 0 }),
            loss: some(rng, 100),
            delay: some(rng, 200),
            duplicate: some(rng, 300),
            stale: some(rng, 1000),
            corrupt: some(rng, 60),
            late_arrivals: rng.happens(500),
            timers_first: rng.happens(500),
            disk_errors: some(rng, 30),
            failed_syncs: some(rng, 60),
        };
        if knobs.local || rng.happens(300) {
            knobs.join_timeout_us = rng.between(2, 10) * 1_000_000;
        }
        if !kernels {
            // Undisturbed it lasts about as long as faults come.
            let threads: u32 = threads[..workers as usize].iter().sum();
            let leaves_us: u64 = leaf_us[..workers as usize].iter().sum::<u64>() * u64::from(shards);
            let step_us = leaves_us / u64::from(workers * threads) + 4 * latency;
            knobs.steps = (faulty_us * rng.between(40, 200) / 100 / step_us).clamp(2, 150);
        }
        if rng.happens(50) {
            knobs.without_faults();
        }
        if !kernels && rng.happens(60) {
            knobs.slow_leaves(rng);
        }
        knobs
    }

    /// A cluster on whose machines, or some of them, a leaf takes many deadlines; and often one in which nothing else
    /// goes wrong but that streams break before anything is complete.
    fn slow_leaves(&mut self, rng: &mut Rng) {
        self.by_example = true;
        (self.shards, self.validation) = (self.shards.min(4), 0);
        (self.steps, self.test) = (rng.between(1, 2), self.test.min(64));
        let slow = rng.pick(&[1, 500, 1000]);
        for (machine, leaf_us) in self.leaf_us.iter_mut().enumerate() {
            if machine == 0 || rng.happens(slow) {
                *leaf_us = self.deadline_us * rng.between(2, 30);
            }
        }
        let longest_example_us =
            self.leaf_us.into_iter().max().unwrap_or(0) / u64::from(self.full_leaf(TaskKind::Train));
        if longest_example_us > ORDINARY_EXAMPLE_DEADLINES * self.deadline_us {
            // Such examples need patience, or no try would ever be long enough.
            self.patience_us = self.patience_us.max(60_000_000);
            self.max_restarts = self.max_restarts.max(6);
        }
        if rng.happens(500) {
            self.without_faults();
            let breaks = FaultKind::ALL.iter().position(|kind| *kind == FaultKind::StreamBreak);
            self.faults[breaks.unwrap_or(0)] = 1;
            self.fault_every_us = self.deadline_us / rng.between(1, 4);
            self.faulty_us = 12_000_000;
        }
    }

    /// Examples of a leaf, at most.
    pub fn full_leaf(&self, kind: TaskKind) -> u32 {
        match kind {
            TaskKind::Train => Cut::shards(self.batch, self.shards).largest_leaf(),
            TaskKind::Validate => Cut::blocks(self.validation).largest_leaf(),
            TaskKind::Test => Cut::blocks(self.test).largest_leaf(),
        }
    }

    /// A cluster in which nothing happens but the training.
    pub fn without_faults(&mut self) {
        self.faults = [0; FaultKind::COUNT];
        let Self { loss, delay, duplicate, stale, corrupt, disk_errors, failed_syncs, .. } = self;
        for knob in [loss, delay, duplicate, stale, corrupt, disk_errors, failed_syncs] {
            *knob = 0;
        }
    }

    /// Steps of an epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        self.examples.div_ceil(self.batch).into()
    }

    /// How often coordinator and workers say that they are alive.
    pub fn heartbeat_us(&self) -> u64 {
        // Below the deadline, a u64.
        heartbeat(Duration::from_micros(self.deadline_us)).as_micros() as u64
    }

    /// The tasks of the run, as the coordinator plans them.
    pub fn task_order(&self) -> TaskOrder {
        let evaluation = |examples| Leaves { count: Cut::blocks(examples).leaves(), per_assignment: 8 };
        TaskOrder {
            steps_per_epoch: self.steps_per_epoch(),
            steps: self.steps,
            train: Leaves { count: self.shards, per_assignment: self.portion },
            validate: (self.validation > 0).then(|| evaluation(self.validation)),
            test: evaluation(self.test),
        }
    }

    /// How a task is cut into leaves, and where its examples begin in their epoch or set.
    pub fn cut(&self, task: Task) -> (Cut, u32) {
        match task.kind {
            TaskKind::Train => {
                // Below the number of examples of an epoch, a u32.
                let start = ((task.step - 1) % self.steps_per_epoch()) as u32 * self.batch;
                (Cut::shards(self.batch.min(self.examples - start), self.shards), start)
            }
            TaskKind::Validate => (Cut::blocks(self.validation), 0),
            TaskKind::Test => (Cut::blocks(self.test), 0),
        }
    }

    /// What one task takes the slowest machine alone, in microseconds: nothing in a healthy cluster takes longer.
    pub fn slowest_task_us(&self) -> u64 {
        let leaves = [self.shards, Cut::blocks(self.validation.max(self.test)).leaves()];
        let leaf_us = self.leaf_us.into_iter().max().unwrap_or(0);
        // With portions of one leaf, each waits for its message.
        u64::from(leaves[0].max(leaves[1])) * (leaf_us * 9 / 8 + 2 * self.latency_us[1])
            + 8 * self.latency_us[1]
    }

    /// From the last fault to the end of the run at most, in microseconds. Within 20 deadlines (or times that a task
    /// takes the slowest machine, if that is longer), the longest restart and the longest back-off, every process is
    /// back and every member that is none is found out; then the whole run is computed once, in the worst case on the
    /// slowest machine alone.
    pub fn liveness_us(&self) -> u64 {
        let tasks = self.steps + self.steps.div_ceil(self.steps_per_epoch()) + 1;
        let task_us = self.slowest_task_us();
        let settle_us = 20 * self.deadline_us.max(task_us) + 4 * self.restart_us[1] + 4 * LONGEST_BACK_OFF_US;
        settle_us + self.join_timeout_us + tasks * (task_us + self.disk_us[1])
    }
}

/// From so little that most stalls overflow it to more than a run has steps; sometimes the bytes are the tighter bound.
/// With less than four, no two steps that follow each other find room on a disk that is always too slow, and every one
/// that does begins the log again.
fn backlog(rng: &mut Rng, kernels: bool) -> Limits {
    let steps = rng.magnitude(4, 256) as usize;
    let weights = if kernels { PARAMETER_BYTES } else { 32 };
    let step_bytes = (steps * rng.pick(&[30, 100, 200]) / 100).max(4) * weights;
    Limits { steps, step_bytes, records: rng.magnitude(1, 256) as usize }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_draws_one_set_of_knobs() {
        assert_eq!(format!("{:?}", Knobs::draw(3)), format!("{:?}", Knobs::draw(3)));
        assert_ne!(format!("{:?}", Knobs::draw(3)), format!("{:?}", Knobs::draw(4)));
    }

    #[test]
    fn every_class_of_faults_is_on_in_some_seeds_and_off_in_many() {
        for kind in 0..FaultKind::COUNT {
            let on = (0..200).filter(|seed| Knobs::draw(*seed).faults[kind] > 0).count();
            assert!((50..150).contains(&on), "{:?} is on in {on} of 200", FaultKind::ALL[kind]);
        }
    }

    #[test]
    fn short_batches_and_empty_leaves_occur() {
        let knobs: Vec<Knobs> = (0..200).map(Knobs::draw).collect();
        let short = knobs.iter().filter(|knobs| knobs.examples % knobs.batch != 0).count();
        let empty = knobs.iter().filter(|knobs| knobs.batch < knobs.shards).count();
        assert!(short > 40 && empty > 20, "{short} {empty}");
        let last = knobs.iter().find(|knobs| knobs.examples % knobs.batch == 1).unwrap();
        let task = Task { kind: TaskKind::Train, step: last.steps_per_epoch() };
        assert_eq!(last.cut(task).0.examples(), 1);
    }
}

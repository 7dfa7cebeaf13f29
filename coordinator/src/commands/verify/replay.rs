//! Steps of a run computed again without workers, on the trainer and the kernels of any run.

use std::num::NonZeroU32;

use anyhow::{Context, Result, bail};
use lockstep_control::{AssignmentId, Task, TaskKind, WorkerId};
use lockstep_dataset::Dataset;
use lockstep_model::{Cpu, Digest};
use lockstep_proto::{Fence, RunId};
use lockstep_reduction::Node;
use lockstep_worker::Recomputer;

use crate::batches::Batches;
use crate::settings::Settings;
use crate::trainer::Trainer;
use crate::transport::encode;

/// A training without workers.
pub struct Replay {
    batches: Batches,
    trainer: Trainer,
    recomputer: Recomputer,
    shards: u32,
}

impl Replay {
    /// The training of a run with these settings on this data, from `weights` on, with `threads` threads.
    ///
    /// # Errors
    ///
    /// If the threads cannot be started.
    pub fn new(settings: &Settings, dataset: Dataset, weights: &[f32], threads: NonZeroU32) -> Result<Self> {
        let shards = settings.micro_shards.get();
        Ok(Self {
            batches: Batches::new(
                dataset,
                settings.seed,
                settings.batch_size.get(),
                shards,
                settings.validation_split.get(),
            ),
            trainer: Trainer::new(weights, settings.learning_rate.get()),
            recomputer: Recomputer::new(Cpu::detect(), threads.get()).context("cannot start the threads")?,
            shards,
        })
    }

    /// Trains the step, which has to follow the one before, and gives the digest of the weights after it.
    ///
    /// # Errors
    ///
    /// If loss or weights are not finite.
    pub fn step(&mut self, step: u64) -> Result<Digest> {
        let fence = Fence { run_id: RunId([0; 16]), term: 0 };
        let task = Task { kind: TaskKind::Train, step };
        let weights = encode::weights(fence, step - 1, self.trainer.weights_as_bytes());
        let data = self.batches.leaves(task, 0..self.shards);
        let assignment = encode::assignment(fence, AssignmentId(1), task, 0, data);
        for result in self.recomputer.answer(&weights, &assignment) {
            let node = Node::new(result.level, result.index).context("a node of the tree")?;
            self.trainer.combine(task, self.shards, WorkerId(1), node, result.value);
        }
        if self.trainer.step(task).is_err() {
            bail!("step {step} gives loss or weights that are not finite");
        }
        Ok(self.trainer.digest())
    }
}

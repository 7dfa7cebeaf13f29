//! The same training without workers: batch, gradients, sum, update, on threads of this process.

use std::io;

use lockstep_control::{Task, TaskKind, WorkerId};
use lockstep_dataset::Dataset;
use lockstep_model::Cpu;
use lockstep_worker::Recomputer;

use crate::batches::Batches;
use crate::settings::Settings;
use crate::trainer::{Confusion, Means, NotFinite, Trainer};

/// Who sends every node: there is nobody else.
const THIS_PROCESS: WorkerId = WorkerId(1);

/// A training in one process.
pub struct SingleProcess {
    batches: Batches,
    trainer: Trainer,
    recomputer: Recomputer,
}

impl SingleProcess {
    /// Trains on `batches` from the trainer's weights on, with `threads` threads.
    ///
    /// # Errors
    ///
    /// If the threads cannot be started.
    pub fn new(batches: Batches, trainer: Trainer, threads: u32) -> io::Result<Self> {
        Ok(Self { batches, trainer, recomputer: Recomputer::new(Cpu::detect(), threads)? })
    }

    /// The training of a run with these settings on these data, from `weights` on.
    ///
    /// # Errors
    ///
    /// If the threads cannot be started.
    pub fn of_run(settings: &Settings, dataset: Dataset, weights: &[f32], threads: u32) -> io::Result<Self> {
        let (batch_size, micro_shards) = (settings.batch_size.get(), settings.micro_shards.get());
        let split = settings.validation_split.get();
        let batches = Batches::new(dataset, settings.seed, batch_size, micro_shards, split);
        Self::new(batches, Trainer::new(weights, settings.learning_rate.get()), threads)
    }

    /// Evaluates given weights, and trains nothing.
    ///
    /// # Errors
    ///
    /// If the threads cannot be started.
    pub fn evaluator(weights: &[f32], dataset: Dataset, threads: u32) -> io::Result<Self> {
        // Without a step there is no rate.
        Self::new(Batches::test_only(dataset), Trainer::new(weights, 0.0), threads)
    }

    /// Trains one step, which has to follow the one before.
    ///
    /// # Errors
    ///
    /// If the loss or the new weights are not finite.
    pub fn step(&mut self, step: u64) -> Result<Means, NotFinite> {
        let task = Task { kind: TaskKind::Train, step };
        self.sum(task);
        self.trainer.step(task)
    }

    /// Evaluates the weights on the validation set or the test set.
    pub fn evaluate(&mut self, kind: TaskKind) -> (Means, Confusion) {
        // Which step the weights are of changes nothing.
        let task = Task { kind, step: 0 };
        self.sum(task);
        self.trainer.evaluation(task)
    }

    /// The weights, and what was summed.
    pub fn trainer(&self) -> &Trainer {
        &self.trainer
    }

    /// Computes every leaf of a task, and sums them by the tree.
    fn sum(&mut self, task: Task) {
        let leaves = self.batches.cut(task).leaves();
        let data = self.batches.leaves(task, 0..leaves);
        self.recomputer.load(self.trainer.weights());
        for (node, value) in self.recomputer.nodes(data.inputs(task, 0)) {
            self.trainer.combine(task, leaves, THIS_PROCESS, node, value);
        }
    }
}

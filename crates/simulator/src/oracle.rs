//! The truth: the whole training as one plain loop of one worker that nothing happens to.
//!
//! It shares neither the tree nor the cut with the cluster: both are written again here, from their definition.

use std::collections::BTreeMap;

use lockstep_control::{Task, TaskKind};
use lockstep_reduction::{Node, Payload};

use crate::arithmetic::{Arithmetic, Value};
use crate::knobs::Knobs;

/// Examples of a leaf of an evaluation.
const BLOCK: u32 = 64;

/// The weights after every step and the result of every evaluation.
#[derive(Debug)]
pub struct Oracle {
    knobs: Knobs,
    arithmetic: Arithmetic,
    /// After each step; the first are the initial ones.
    weights: Vec<Value>,
    evaluations: BTreeMap<Task, Value>,
    /// Every task, in the order of the run.
    tasks: Vec<Task>,
}

impl Oracle {
    /// Trains.
    pub fn train(knobs: &Knobs) -> Self {
        let arithmetic = Arithmetic::new(knobs.seed, knobs.kernels);
        let weights = vec![arithmetic.initial()];
        let mut oracle = Self {
            knobs: knobs.clone(),
            arithmetic,
            weights,
            evaluations: BTreeMap::new(),
            tasks: Vec::new(),
        };
        for step in 1..=knobs.steps {
            let task = Task { kind: TaskKind::Train, step };
            let root = oracle.root(task);
            let updated =
                oracle.arithmetic.update(&oracle.weights[step as usize - 1], &root, oracle.batch(step).1);
            oracle.weights.push(updated.expect("training by one healthy worker does not diverge"));
            oracle.tasks.push(task);
            let ends_epoch = step == knobs.steps || step % knobs.steps_per_epoch() == 0;
            if ends_epoch && knobs.validation > 0 {
                oracle.evaluate(Task { kind: TaskKind::Validate, step });
            }
        }
        oracle.evaluate(Task { kind: TaskKind::Test, step: knobs.steps });
        oracle
    }

    /// Every task, in the order of the run.
    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// The weights after a step.
    pub fn weights(&self, step: u64) -> Option<&Value> {
        self.weights.get(usize::try_from(step).ok()?)
    }

    /// The result of an evaluation.
    pub fn evaluation(&self, task: Task) -> Option<&Value> {
        self.evaluations.get(&task)
    }

    /// Examples that the steps up to this one are trained on.
    pub fn examples(&self, step: u64) -> u64 {
        (1..=step).map(|step| u64::from(self.batch(step).1)).sum()
    }

    /// The sum over a node; `None` if it has no examples.
    pub fn node(&self, task: Task, node: Node) -> Option<Value> {
        let leaves = node.leaves();
        self.sum(task, leaves.start, leaves.end)
    }

    fn evaluate(&mut self, task: Task) {
        let root = self.root(task);
        self.evaluations.insert(task, root);
        self.tasks.push(task);
    }

    fn root(&self, task: Task) -> Value {
        let leaves = match task.kind {
            TaskKind::Train => self.knobs.shards,
            TaskKind::Validate => self.knobs.validation.div_ceil(BLOCK).next_power_of_two(),
            TaskKind::Test => self.knobs.test.div_ceil(BLOCK).next_power_of_two(),
        };
        self.sum(task, 0, leaves).expect("every task has examples")
    }

    /// The sum over a power of two of leaves: left half + right half.
    fn sum(&self, task: Task, from: u32, to: u32) -> Option<Value> {
        if to - from > 1 {
            let middle = from + (to - from) / 2;
            return match (self.sum(task, from, middle), self.sum(task, middle, to)) {
                (Some(left), Some(right)) => Some(left.plus(right, &())),
                (left, right) => left.or(right),
            };
        }
        let (start, end) = match task.kind {
            TaskKind::Train => {
                let (first, size) = self.batch(task.step);
                let place =
                    |leaf: u32| (u64::from(leaf) * u64::from(size) / u64::from(self.knobs.shards)) as u32;
                (first + place(from), first + place(to))
            }
            TaskKind::Validate => {
                ((from * BLOCK).min(self.knobs.validation), (to * BLOCK).min(self.knobs.validation))
            }
            TaskKind::Test => ((from * BLOCK).min(self.knobs.test), (to * BLOCK).min(self.knobs.test)),
        };
        let weights = match task.kind {
            TaskKind::Train => task.step - 1,
            TaskKind::Validate | TaskKind::Test => task.step,
        };
        self.arithmetic.leaf(task, start..end, &self.weights[weights as usize])
    }

    /// The first example of a step's batch in its epoch, and how many it has.
    fn batch(&self, step: u64) -> (u32, u32) {
        let mut first = 0;
        for _ in 0..(step - 1) % self.knobs.steps_per_epoch() {
            first += self.knobs.batch;
        }
        (first, self.knobs.batch.min(self.knobs.examples - first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_trains_on_every_example_of_every_epoch_once() {
        for seed in 0..50 {
            let mut knobs = Knobs::draw(seed);
            knobs.kernels = false;
            knobs.steps = 2 * knobs.steps_per_epoch();
            let oracle = Oracle::train(&knobs);
            assert_eq!(oracle.examples(knobs.steps), 2 * u64::from(knobs.examples));
            let evaluations = if knobs.validation > 0 { 3 } else { 1 };
            assert_eq!(oracle.tasks().len() as u64, knobs.steps + evaluations);
            assert_ne!(oracle.weights(knobs.steps), oracle.weights(knobs.steps - 1));
        }
    }
}

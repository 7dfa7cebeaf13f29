//! The data of every task: which examples a leaf holds, gathered for sending. A pure function of the run's identity.

use std::ops::Range;

use bytes::Bytes;
use lockstep_control::{Leaves, Task, TaskKind, TaskOrder};
use lockstep_dataset::{Dataset, Examples, epoch_order_into, validation_examples};
use lockstep_model::PIXELS;
use lockstep_reduction::{Cut, Node};
use lockstep_worker::LeafInputs;

/// The most bytes of pixels in one assignment; a leaf may exceed it, up to the limit that the settings check.
const ASSIGNMENT_BYTES: u32 = 8 << 20;

/// The most leaves of an evaluation in one assignment: portions this small keep all workers busy to the end.
const EVALUATION_LEAVES: u32 = 8;

/// The data set, cut as the run's settings say.
pub struct Batches {
    dataset: Dataset,
    seed: u64,
    batch_size: u32,
    micro_shards: u32,
    train_examples: u32,
    validation_examples: u32,
    /// The orders of two epochs: the next step's data may be sent while the last step of an epoch is computed.
    orders: [(u64, Vec<u32>); 2],
}

/// The data of an interval of leaves.
#[derive(Debug, PartialEq)]
pub struct LeafData {
    /// Examples of each leaf.
    pub leaf_examples: Vec<u32>,
    /// A byte an example.
    pub labels: Bytes,
    /// 784 bytes an example.
    pub pixels: Bytes,
}

impl LeafData {
    /// What a worker computes of it; `first_leaf` is the first of the interval.
    pub fn inputs(&self, task: Task, first_leaf: u32) -> LeafInputs<'_> {
        let Self { leaf_examples, labels, pixels } = self;
        LeafInputs { task, first_leaf, leaf_examples, labels, pixels }
    }
}

/// The steps of an epoch, and those of a run of so many epochs, or steps if they are fewer.
pub fn steps(train_examples: u32, batch_size: u32, epochs: u32, max_steps: Option<u64>) -> (u64, u64) {
    let steps_per_epoch = u64::from(train_examples.div_ceil(batch_size));
    let steps = steps_per_epoch * u64::from(epochs);
    (steps_per_epoch, max_steps.map_or(steps, |most| most.min(steps)))
}

impl Batches {
    /// Cuts a data set; the caller has checked that training examples remain and that all counts are u32.
    pub fn new(
        dataset: Dataset,
        seed: u64,
        batch_size: u32,
        micro_shards: u32,
        validation_split: f64,
    ) -> Self {
        let all = dataset.train.len();
        let validation = validation_examples(all, validation_split);
        assert!(
            all > validation && all <= u32::MAX as usize,
            "{all} examples, {validation} of them for validation"
        );
        Self {
            dataset,
            seed,
            batch_size,
            micro_shards,
            train_examples: (all - validation) as u32,
            validation_examples: validation as u32,
            orders: Default::default(),
        }
    }

    /// The test set alone: there is nothing to train on or to validate with.
    pub fn test_only(dataset: Dataset) -> Self {
        Self {
            dataset,
            seed: 0,
            batch_size: 1,
            micro_shards: 1,
            train_examples: 0,
            validation_examples: 0,
            orders: Default::default(),
        }
    }

    /// Examples of an epoch.
    pub fn train_examples(&self) -> u32 {
        self.train_examples
    }

    /// Examples held back for validation.
    pub fn validation_examples(&self) -> u32 {
        self.validation_examples
    }

    /// Examples of the test set.
    pub fn test_examples(&self) -> u32 {
        self.dataset.test.len() as u32
    }

    /// The tasks of a run of so many epochs, or steps if they are fewer.
    pub fn task_order(&self, epochs: u32, max_steps: Option<u64>) -> TaskOrder {
        let (steps_per_epoch, steps) = steps(self.train_examples, self.batch_size, epochs, max_steps);
        let evaluation = |examples: u32| {
            let count = Cut::blocks(examples).leaves();
            Leaves { count, per_assignment: EVALUATION_LEAVES }
        };
        let largest_batch = self.batch_size.min(self.train_examples);
        let largest_leaf = Cut::shards(largest_batch, self.micro_shards).largest_leaf() * PIXELS as u32;
        let per_assignment = (ASSIGNMENT_BYTES / largest_leaf).max(1);
        TaskOrder {
            steps_per_epoch,
            steps,
            train: Leaves { count: self.micro_shards, per_assignment },
            validate: (self.validation_examples > 0).then(|| evaluation(self.validation_examples)),
            test: evaluation(self.test_examples()),
        }
    }

    /// The epoch of a step, from 1.
    pub fn epoch(&self, step: u64) -> u32 {
        let steps_per_epoch = u64::from(self.train_examples.div_ceil(self.batch_size));
        // At most the number of epochs, a u32.
        (step.saturating_sub(1) / steps_per_epoch) as u32 + 1
    }

    /// How a task is cut into leaves.
    pub fn cut(&self, task: Task) -> Cut {
        match task.kind {
            TaskKind::Train => {
                let positions = self.batch_positions(task.step);
                Cut::shards(positions.end - positions.start, self.micro_shards)
            }
            TaskKind::Validate => Cut::blocks(self.validation_examples),
            TaskKind::Test => Cut::blocks(self.test_examples()),
        }
    }

    /// The examples below a node of a task; `None` if the run has no such task or node.
    pub fn node_examples(&self, task: Task, node: Node) -> Option<u32> {
        if task.kind == TaskKind::Train && task.step == 0 {
            return None;
        }
        let cut = self.cut(task);
        let leaves = node.leaves();
        (leaves.end <= cut.leaves()).then(|| cut.positions(leaves).len() as u32)
    }

    /// The data of an interval of a task's leaves.
    pub fn leaves(&mut self, task: Task, leaves: Range<u32>) -> LeafData {
        let cut = self.cut(task);
        let positions = cut.positions(leaves.clone());
        let leaf_examples = leaves.map(|leaf| cut.positions(leaf..leaf + 1).len() as u32).collect();
        let (labels, pixels) = match task.kind {
            TaskKind::Train => {
                let batch = self.batch_positions(task.step);
                let range = batch.start + positions.start..batch.start + positions.end;
                let epoch = u64::from(self.epoch(task.step));
                self.prepare_order(epoch);
                let order = &self.orders[(epoch % 2) as usize].1[range.start as usize..range.end as usize];
                gather(&self.dataset.train, order.iter().map(|index| *index as usize))
            }
            TaskKind::Validate => {
                let first = self.train_examples as usize;
                let range = first + positions.start as usize..first + positions.end as usize;
                gather(&self.dataset.train, range)
            }
            TaskKind::Test => gather(&self.dataset.test, positions.start as usize..positions.end as usize),
        };
        LeafData { leaf_examples, labels, pixels }
    }

    /// Positions of a step's batch in its epoch's order.
    fn batch_positions(&self, step: u64) -> Range<u32> {
        let steps_per_epoch = u64::from(self.train_examples.div_ceil(self.batch_size));
        let index = (step - 1) % steps_per_epoch;
        // Below the number of examples, a u32.
        let start = (index * u64::from(self.batch_size)) as u32;
        start..start.saturating_add(self.batch_size).min(self.train_examples)
    }

    fn prepare_order(&mut self, epoch: u64) {
        let (of, order) = &mut self.orders[(epoch % 2) as usize];
        if *of != epoch {
            epoch_order_into(self.seed, epoch, self.train_examples as usize, order);
            *of = epoch;
        }
    }
}

fn gather(examples: &Examples, indices: impl ExactSizeIterator<Item = usize>) -> (Bytes, Bytes) {
    let mut labels = Vec::with_capacity(indices.len());
    let mut pixels = Vec::with_capacity(indices.len() * PIXELS);
    for index in indices {
        labels.push(examples.labels[index]);
        pixels.extend_from_slice(examples.image(index));
    }
    (labels.into(), pixels.into())
}

#[cfg(test)]
mod tests {
    use lockstep_dataset::{Kind, epoch_order};

    use super::*;

    /// 10 examples with label = index, 8 to train on and 2 to validate with; 3 to test.
    fn batches() -> Batches {
        let examples = |count: u8| Examples {
            images: (0..count).flat_map(|index| [index; PIXELS]).collect(),
            labels: (0..count).collect(),
        };
        let dataset = Dataset {
            kind: Kind::Digits,
            train: examples(10),
            test: examples(3),
            digest: [0; 32],
            fallback: None,
            notes: Vec::new(),
        };
        Batches::new(dataset, 42, 3, 4, 0.2)
    }

    #[test]
    fn an_epoch_trains_each_example_once_in_the_sampler_s_order() {
        let mut batches = batches();
        let tasks = batches.task_order(2, None);
        assert_eq!((tasks.steps_per_epoch, tasks.steps), (3, 6));
        for epoch in 1..=2 {
            let steps = (epoch - 1) * 3 + 1..=epoch * 3;
            let mut seen = Vec::new();
            for step in steps {
                assert_eq!(u64::from(batches.epoch(step)), epoch);
                let task = Task { kind: TaskKind::Train, step };
                for leaf in 0..4 {
                    let data = batches.leaves(task, leaf..leaf + 1);
                    assert_eq!(data.leaf_examples, [data.labels.len() as u32]);
                    data.labels.iter().for_each(|label| seen.push(u32::from(*label)));
                    assert_eq!(data.pixels.len(), data.labels.len() * PIXELS);
                    assert!(data.pixels.iter().step_by(PIXELS).eq(data.labels.iter()));
                }
            }
            assert_eq!(seen, epoch_order(42, epoch, 8));
        }
    }

    #[test]
    fn intervals_hold_what_their_leaves_hold() {
        let mut batches = batches();
        let task = Task { kind: TaskKind::Train, step: 3 };
        let whole = batches.leaves(task, 0..4);
        assert_eq!(whole.leaf_examples, [0, 1, 0, 1], "the last batch is short");
        let parts: Vec<u8> =
            [0..1, 1..3, 3..4].into_iter().flat_map(|part| batches.leaves(task, part).labels).collect();
        assert_eq!(parts, whole.labels);
    }

    #[test]
    fn the_examples_of_any_node_are_known_without_trusting_who_names_it() {
        let batches = batches();
        let examples = |kind, step, level, index| {
            batches.node_examples(Task { kind, step }, Node::new(level, index).unwrap())
        };
        assert_eq!(examples(TaskKind::Train, 1, 2, 0), Some(3));
        assert_eq!(examples(TaskKind::Train, 3, 0, 0), Some(0));
        assert_eq!(
            examples(TaskKind::Train, u64::MAX, 2, 0),
            Some(2),
            "the control plane knows which steps there are"
        );
        assert_eq!(examples(TaskKind::Train, 0, 2, 0), None);
        assert_eq!(examples(TaskKind::Train, 1, 2, 1), None);
        assert_eq!(examples(TaskKind::Test, 0, 0, 1), None);
    }

    #[test]
    fn evaluations_follow_the_file() {
        let mut batches = batches();
        let validation = batches.leaves(Task { kind: TaskKind::Validate, step: 3 }, 0..1);
        assert_eq!(validation.labels[..], [8, 9], "the last of the file, before any shuffle");
        let test = batches.leaves(Task { kind: TaskKind::Test, step: 6 }, 0..1);
        assert_eq!(test.labels[..], [0, 1, 2]);
    }
}

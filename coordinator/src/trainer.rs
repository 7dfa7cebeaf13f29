//! The data plane of the coordinator: the weights, the sums of the tasks under way, the update.
//!
//! It has no clock and no network: it does what the control plane's commands say.

mod gradient;

use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use lockstep_control::{Task, TaskKind, WorkerId};
use lockstep_model::{Digest, PARAMETERS};
use lockstep_proto::NodeValue;
use lockstep_reduction::{Buffer, Node, NodeSum, Pool, TaskSums, same_float};

use gradient::{GradientBytes, same_floats};

/// Counts of an evaluation, `[label * 10 + predicted]`.
pub type Confusion = [u32; 100];

/// A node as a worker sent it.
pub type Received = lockstep_reduction::Received<WorkerId, NodeValue>;

/// What comes of a node whose leaves are counted already.
pub type Comparison = lockstep_reduction::Comparison<WorkerId, NodeValue>;

/// The weights, and the sums that are under way: at most those of the control plane's window of tasks.
pub struct Trainer {
    learning_rate: f32,
    /// Shared with the messages that carry them and with the journal, so never changed: a step makes new ones.
    weights: Shared,
    buffers: Pool,
    steps: TaskSums<WorkerId, GradientBytes>,
    evaluations: TaskSums<WorkerId, Box<Confusion>>,
}

#[derive(Clone)]
struct Shared(Arc<Buffer>);

impl Deref for Shared {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

/// The means of a complete task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Means {
    /// Examples.
    pub examples: u32,
    /// Loss an example.
    pub loss: f32,
    /// Share of correct predictions, 0 to 1.
    pub accuracy: f32,
}

/// A step gave a loss or weights that are not finite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NotFinite;

impl Trainer {
    /// Starts from the given weights, of [`PARAMETERS`] values.
    pub fn new(weights: &[f32], learning_rate: f32) -> Self {
        assert_eq!(weights.len(), PARAMETERS, "the network's weights");
        let buffers = Pool::new(PARAMETERS);
        let mut first = buffers.take();
        first.copy_from_slice(weights);
        Self {
            learning_rate,
            weights: Shared(Arc::new(first)),
            steps: TaskSums::new(buffers.clone()),
            evaluations: TaskSums::new(()),
            buffers,
        }
    }

    /// The weights after the last committed step.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// Their digest.
    pub fn digest(&self) -> Digest {
        lockstep_model::digest(&self.weights)
    }

    /// The weights as they travel, little-endian f32; shared, not copied.
    pub fn weights_as_bytes(&self) -> Bytes {
        lockstep_model::into_le_bytes(self.weights.clone())
    }

    /// Puts a node into the tree of a task of `leaves` leaves, and sums as far as siblings are there.
    pub fn combine(
        &mut self,
        task: Task,
        leaves: u32,
        worker: WorkerId,
        node: Node,
        value: Option<NodeValue>,
    ) {
        match task.kind {
            TaskKind::Train => self.steps.combine(task, leaves, worker, node, value.map(gradient_of)),
            TaskKind::Validate | TaskKind::Test => {
                self.evaluations.combine(task, leaves, worker, node, value.map(NodeValue::into_counts));
            }
        }
    }

    /// Forgets everything received for a task.
    pub fn roll_back(&mut self, task: Task) {
        match task.kind {
            TaskKind::Train => self.steps.roll_back(task),
            TaskKind::Validate | TaskKind::Test => self.evaluations.roll_back(task),
        }
    }

    /// Divides a complete step's sum once, at the root, and updates the weights; `Err` if a number is not finite,
    /// and then the weights and the task's nodes stay as they were.
    ///
    /// # Errors
    ///
    /// If the loss or the new weights are not finite.
    ///
    /// # Panics
    ///
    /// If the step is not complete.
    pub fn step(&mut self, task: Task) -> Result<Means, NotFinite> {
        let root = self.steps.root(task).expect(COMPLETE);
        let means = Means::of(root);
        let mut updated = self.buffers.take();
        let finite = root.payload.with_values(&self.buffers, |sum| {
            lockstep_model::sgd_update(&self.weights, sum, self.learning_rate, means.examples, &mut updated)
        });
        if !finite || !means.loss.is_finite() {
            return Err(NotFinite);
        }
        self.weights = Shared(Arc::new(updated));
        self.steps.roll_back(task);
        Ok(means)
    }

    /// Whether the loss of a complete evaluation is a number: that of weights which are too large is none.
    ///
    /// # Panics
    ///
    /// If the evaluation is not complete.
    pub fn evaluation_is_finite(&self, task: Task) -> bool {
        Means::of(self.evaluations.root(task).expect(COMPLETE)).loss.is_finite()
    }

    /// The result of a complete evaluation.
    ///
    /// # Panics
    ///
    /// If the evaluation is not complete.
    pub fn evaluation(&mut self, task: Task) -> (Means, Confusion) {
        let root = self.evaluations.root(task).expect(COMPLETE);
        let result = (Means::of(root), *root.payload);
        self.evaluations.roll_back(task);
        result
    }

    /// Compares a node of a task under way with what was counted for the same leaves.
    pub fn compare(&self, task: Task, node: Node, value: Option<&NodeValue>) -> Comparison {
        match task.kind {
            TaskKind::Train => {
                let value = value.cloned().map(gradient_of);
                self.steps.compare(task, node, value.as_ref()).map(value_of)
            }
            TaskKind::Validate | TaskKind::Test => {
                let value = value.cloned().map(NodeValue::into_counts);
                self.evaluations.compare(task, node, value.as_ref()).map(NodeValue::from)
            }
        }
    }

    /// The node to recompute after a task whose numbers are not finite: the first that came with such a number, else
    /// the first.
    pub fn suspect(&self, task: Task) -> Option<Received> {
        match task.kind {
            TaskKind::Train => Some(self.steps.suspect(task)?.clone().map(value_of)),
            TaskKind::Validate | TaskKind::Test => {
                Some(self.evaluations.suspect(task)?.clone().map(NodeValue::from))
            }
        }
    }
}

const COMPLETE: &str = "a committed task has examples and is complete";

impl Means {
    fn of<P>(sum: &NodeSum<P>) -> Self {
        let examples = sum.examples as f32;
        Self { examples: sum.examples, loss: sum.loss / examples, accuracy: sum.correct as f32 / examples }
    }
}

fn gradient_of(value: NodeValue) -> NodeSum<GradientBytes> {
    value.into_gradient().map(GradientBytes)
}

fn value_of(sum: NodeSum<GradientBytes>) -> NodeValue {
    sum.map(|gradient| gradient.0).into()
}

/// Whether two answers to one assignment say the same; NaN equals NaN, as its payload is no result.
pub fn same_answer(left: &NodeValue, right: &NodeValue) -> bool {
    left.examples == right.examples
        && left.correct == right.correct
        && left.confusion == right.confusion
        && same_float(left.loss, right.loss)
        && same_floats(&left.gradient, &right.gradient)
}

#[cfg(test)]
mod tests {
    use super::gradient::Gradient;
    use super::*;

    const STEP: Task = Task { kind: TaskKind::Train, step: 1 };

    /// A leaf's sum whose addends round differently in every order.
    fn value(leaf: u32) -> NodeValue {
        let gradient = (0..PARAMETERS as u32).flat_map(|i| {
            let scale = [1.0, 1.0e-7, 3.0e-4, -0.7][(leaf as usize + i as usize) % 4];
            (scale * (1.0 + (leaf * 7919 + i * 104_729) as f32 / 1.0e5)).to_le_bytes()
        });
        NodeValue {
            examples: 1,
            loss: 1.0 / (leaf + 3) as f32,
            correct: leaf % 2,
            gradient: gradient.collect::<Vec<u8>>().into(),
            confusion: Bytes::new(),
        }
    }

    fn leaf(index: u32) -> Node {
        Node::new(0, index).unwrap()
    }

    fn trained(order: &[u32]) -> (String, Means) {
        let mut trainer = Trainer::new(&lockstep_model::initial_weights(1), 0.01);
        for index in order {
            trainer.combine(STEP, 8, WorkerId(1), leaf(*index), Some(value(*index)));
        }
        let means = trainer.step(STEP).unwrap();
        (trainer.digest().to_string(), means)
    }

    /// The bug that this design excludes: sums in the order of arrival.
    fn planted_arrival_order(order: &[u32]) -> String {
        let weights = lockstep_model::initial_weights(1);
        let mut sum = vec![0.0; PARAMETERS];
        order.iter().for_each(|index| lockstep_model::add_le_bytes(&mut sum, &value(*index).gradient));
        let mut updated = weights.clone();
        lockstep_model::sgd_update(&weights, &sum, 0.01, order.len() as u32, &mut updated);
        lockstep_model::digest(&updated).to_string()
    }

    #[test]
    fn the_order_of_arrival_changes_no_bit_and_a_planted_sum_by_arrival_is_caught() {
        let orders = [[0, 1, 2, 3, 4, 5, 6, 7], [7, 6, 5, 4, 3, 2, 1, 0], [3, 7, 0, 4, 1, 6, 2, 5]];
        let digests = orders.map(|order| trained(&order));
        assert_eq!(digests[0], digests[1]);
        assert_eq!(digests[0], digests[2]);
        let planted = orders.map(|order| planted_arrival_order(&order));
        assert!(planted[0] != planted[1] && planted[1] != planted[2], "the values tell orders apart");
    }

    #[test]
    fn a_step_that_is_not_finite_keeps_the_weights_and_names_the_node() {
        let mut trainer = Trainer::new(&lockstep_model::initial_weights(1), 0.01);
        let before = trainer.digest();
        trainer.combine(STEP, 2, WorkerId(4), leaf(0), Some(value(0)));
        let mut bad = value(1);
        let mut bytes = bad.gradient.to_vec();
        bytes[40..44].copy_from_slice(&f32::INFINITY.to_le_bytes());
        bad.gradient = bytes.into();
        trainer.combine(STEP, 2, WorkerId(5), leaf(1), Some(bad.clone()));
        assert!(trainer.step(STEP).is_err());
        assert_eq!(trainer.digest(), before);
        let suspect = trainer.suspect(STEP).unwrap();
        assert_eq!((suspect.sender, suspect.node), (WorkerId(5), leaf(1)));
        assert!(same_answer(&bad, &suspect.value) && !same_answer(&value(1), &suspect.value));
        // Without the bad node the step goes on.
        trainer.roll_back(STEP);
        trainer.combine(STEP, 2, WorkerId(4), leaf(0), Some(value(0)));
        trainer.combine(STEP, 2, WorkerId(4), leaf(1), Some(value(1)));
        assert!(trainer.step(STEP).is_ok());
    }

    #[test]
    fn a_copy_is_compared_with_what_was_counted() {
        let mut trainer = Trainer::new(&lockstep_model::initial_weights(1), 0.01);
        for index in 0..3 {
            trainer.combine(STEP, 4, WorkerId(1 + index), leaf(index), Some(value(index)));
        }
        trainer.combine(STEP, 4, WorkerId(4), leaf(3), None);
        let compare = |node, value: Option<&NodeValue>| trainer.compare(STEP, node, value);
        assert!(matches!(compare(leaf(1), Some(&value(1))), Comparison::Equal));
        assert!(matches!(compare(leaf(3), None), Comparison::Equal));
        // A node and its parts.
        let pair = Node::new(1, 0).unwrap();
        let [left, right] = [0, 1].map(|index| gradient_of(value(index)).map(Gradient::from));
        let sum = left.plus(right, &trainer.buffers);
        let sum = NodeValue::from(sum.map(|sum| Bytes::copy_from_slice(&sum.bytes())));
        assert!(matches!(compare(pair, Some(&sum)), Comparison::Equal));
        let half = Node::new(1, 1).unwrap();
        assert!(matches!(compare(half, Some(&value(2))), Comparison::Equal));
        // One bit.
        let mut bytes = sum.gradient.to_vec();
        bytes[4001] ^= 1;
        let other = NodeValue { gradient: bytes.into(), ..sum.clone() };
        let Comparison::Differs(parts) = compare(pair, Some(&other)) else { panic!("one bit differs") };
        assert_eq!(parts.iter().map(|part| part.sender).collect::<Vec<_>>(), [WorkerId(1), WorkerId(2)]);
        // What was counted in a larger node, or of a task that is over.
        trainer.combine(Task { step: 2, ..STEP }, 4, WorkerId(1), pair, Some(sum));
        let part = trainer.compare(Task { step: 2, ..STEP }, leaf(0), Some(&value(0)));
        assert!(matches!(part, Comparison::Unchecked));
        let over = trainer.compare(Task { step: 9, ..STEP }, leaf(0), Some(&value(0)));
        assert!(matches!(over, Comparison::Unchecked));
    }

    #[test]
    fn an_evaluation_adds_counts() {
        let task = Task { kind: TaskKind::Test, step: 7 };
        let mut trainer = Trainer::new(&lockstep_model::initial_weights(1), 0.01);
        for index in 0..2 {
            let mut confusion = vec![0; 400];
            confusion[44] = 3;
            let value = NodeValue {
                examples: 4,
                loss: 2.0,
                correct: 3,
                gradient: Bytes::new(),
                confusion: confusion.into(),
            };
            trainer.combine(task, 4, WorkerId(1), leaf(index), Some(value));
        }
        trainer.combine(task, 4, WorkerId(1), Node::new(1, 1).unwrap(), None);
        let (means, confusion) = trainer.evaluation(task);
        assert_eq!(means, Means { examples: 8, loss: 0.5, accuracy: 0.75 });
        assert_eq!(confusion[11], 6);
    }
}

//! The data plane of the coordinator: the weights, the trees of the tasks under way, the update.
//!
//! It decides nothing, and has no clock and no network: it does what the control plane's commands say.

use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use lockstep_control::{Task, TaskKind, WorkerId};
use lockstep_model::{Digest, PARAMETERS};
use lockstep_proto::NodeValue;
use lockstep_reduction::{Buffer, Node, Pool, Tree};

/// Counts of an evaluation, `[label * 10 + predicted]`.
pub type Confusion = [u32; 100];

/// The weights, and the sums that are under way.
pub struct Trainer {
    learning_rate: f32,
    /// Shared with the messages that carry them and with the journal, so never changed: a step makes new ones.
    weights: Shared,
    buffers: Pool,
    /// At most the control plane's window of tasks.
    sums: Vec<TaskSum>,
    /// Trees of tasks that are over, to be used again.
    spare: Vec<Tree<Sum>>,
}

struct TaskSum {
    task: Task,
    tree: Tree<Sum>,
    /// What came in, for the search after a step whose numbers are not finite.
    received: Vec<Received>,
}

#[derive(Clone)]
struct Shared(Arc<Buffer>);

impl Deref for Shared {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

/// A node as a worker sent it.
#[derive(Clone, Debug)]
pub struct Received {
    /// Who sent it.
    pub worker: WorkerId,
    /// Which node.
    pub node: Node,
    /// Its sum.
    pub value: NodeValue,
}

struct Sum {
    examples: u32,
    loss: f32,
    correct: u32,
    payload: Payload,
}

enum Payload {
    /// As it was received: nothing was added yet.
    Bytes(Bytes),
    Gradient(Buffer),
    Confusion(Box<Confusion>),
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

impl Trainer {
    /// Starts from the given weights, of [`PARAMETERS`] values.
    pub fn new(weights: &[f32], learning_rate: f32) -> Self {
        assert_eq!(weights.len(), PARAMETERS, "the network's weights");
        let buffers = Pool::new(PARAMETERS);
        let mut first = buffers.take();
        first.copy_from_slice(weights);
        Self { learning_rate, weights: Shared(Arc::new(first)), buffers, sums: Vec::new(), spare: Vec::new() }
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
        let at = match self.sums.iter().position(|sum| sum.task == task) {
            Some(at) => at,
            None => {
                let tree = self.take_tree(leaves);
                self.sums.push(TaskSum { task, tree, received: Vec::new() });
                self.sums.len() - 1
            }
        };
        let Self { sums, buffers, .. } = self;
        let TaskSum { tree, received, .. } = &mut sums[at];
        let sum = value.map(|value| {
            received.push(Received { worker, node, value: value.clone() });
            Sum::received(task.kind, value)
        });
        tree.insert(node, sum, |left, right| left.plus(right, buffers));
    }

    /// Forgets everything received for a task.
    pub fn roll_back(&mut self, task: Task) {
        if let Some(at) = self.sums.iter().position(|sum| sum.task == task) {
            let TaskSum { mut tree, .. } = self.sums.swap_remove(at);
            tree.clear();
            self.spare.push(tree);
        }
    }

    /// Divides a complete step's sum once, at the root, and updates the weights; `Err` if a number is not finite,
    /// and then the weights and the task's nodes stay as they were.
    pub fn step(&mut self, task: Task) -> Result<Means, NotFinite> {
        let Self { weights, sums, buffers, learning_rate, .. } = self;
        let (means, root) = root(sums, task);
        let mut updated = buffers.take();
        let mut update = |sum: &[f32]| {
            lockstep_model::sgd_update(weights, sum, *learning_rate, means.examples, &mut updated)
        };
        let finite = match &root.payload {
            Payload::Gradient(sum) => update(sum),
            Payload::Bytes(bytes) => {
                let mut sum = buffers.take();
                lockstep_model::copy_from_le_bytes(bytes, &mut sum);
                update(&sum)
            }
            Payload::Confusion(_) => unreachable!("a step has gradients"),
        };
        if !finite || !means.loss.is_finite() {
            return Err(NotFinite);
        }
        *weights = Shared(Arc::new(updated));
        self.roll_back(task);
        Ok(means)
    }

    /// Whether the loss of a complete evaluation is a number: that of weights which are too large is none.
    pub fn evaluation_is_finite(&self, task: Task) -> bool {
        root(&self.sums, task).0.loss.is_finite()
    }

    /// The result of a complete evaluation.
    pub fn evaluation(&mut self, task: Task) -> (Means, Confusion) {
        let (means, root) = root(&self.sums, task);
        let Payload::Confusion(counts) = &root.payload else { unreachable!("an evaluation has counts") };
        let counts = **counts;
        self.roll_back(task);
        (means, counts)
    }

    /// Compares a node of a task under way with what was counted for the same leaves.
    pub fn compare(&self, task: Task, node: Node, value: Option<&NodeValue>) -> Comparison {
        let Some(sum) = self.sums.iter().find(|sum| sum.task == task) else { return Comparison::Unchecked };
        let within = |inner: Node| {
            let (inner, outer) = (inner.leaves(), node.leaves());
            outer.start <= inner.start && inner.end <= outer.end
        };
        let parts: Vec<&Received> = sum.received.iter().filter(|received| within(received.node)).collect();
        let counted = self.sum_of_parts(task.kind, node, &parts);
        let examples = value.map_or(0, |value| value.examples);
        if counted.as_ref().map_or(0, |counted| counted.examples) != examples {
            // Some of it was counted as part of a larger node.
            return Comparison::Unchecked;
        }
        let same = match (counted, value) {
            (Some(counted), Some(value)) => same_answer(&counted.into_value(), value),
            _ => true,
        };
        if same { Comparison::Equal } else { Comparison::Differs(parts.into_iter().cloned().collect()) }
    }

    /// The sum over a node from parts of it, left + right; `None` where there are none.
    fn sum_of_parts(&self, kind: TaskKind, node: Node, parts: &[&Received]) -> Option<Sum> {
        if let Some(part) = parts.iter().find(|part| part.node == node) {
            return Some(Sum::received(kind, part.value.clone()));
        }
        let (left, right) = node.children()?;
        match (self.sum_of_parts(kind, left, parts), self.sum_of_parts(kind, right, parts)) {
            (Some(left), Some(right)) => Some(left.plus(right, &self.buffers)),
            (left, right) => left.or(right),
        }
    }

    /// The node to recompute after a task whose numbers are not finite: the first that came with such a number, else
    /// the first.
    pub fn suspect(&self, task: Task) -> Option<&Received> {
        let received = &self.sums.iter().find(|sum| sum.task == task)?.received;
        let not_finite = |received: &&Received| {
            let value = &received.value;
            !value.loss.is_finite() || floats(&value.gradient).any(|value| !value.is_finite())
        };
        received.iter().find(not_finite).or(received.first())
    }

    fn take_tree(&mut self, leaves: u32) -> Tree<Sum> {
        match self.spare.iter().position(|tree| tree.leaves() == leaves) {
            Some(at) => self.spare.swap_remove(at),
            None => Tree::new(leaves),
        }
    }
}

/// What comes of a node whose leaves are counted already.
#[derive(Clone, Debug)]
pub enum Comparison {
    /// The same bits.
    Equal,
    /// Nothing is at hand to compare it with.
    Unchecked,
    /// Other bits than the sum of these.
    Differs(Vec<Received>),
}

/// A step gave a loss or weights that are not finite.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NotFinite;

fn root(sums: &[TaskSum], task: Task) -> (Means, &Sum) {
    let sum = sums.iter().find(|sum| sum.task == task);
    let root = sum.and_then(|sum| sum.tree.root()).flatten();
    let root = root.expect("a committed task has examples and is complete");
    let examples = root.examples as f32;
    let means = Means {
        examples: root.examples,
        loss: root.loss / examples,
        accuracy: root.correct as f32 / examples,
    };
    (means, root)
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

/// Whether two answers to one assignment say the same; NaN equals NaN, as its payload is no result.
pub fn same_answer(left: &NodeValue, right: &NodeValue) -> bool {
    let same = |left: f32, right: f32| left.to_bits() == right.to_bits() || left.is_nan() && right.is_nan();
    left.examples == right.examples
        && left.correct == right.correct
        && left.confusion == right.confusion
        && same(left.loss, right.loss)
        && left.gradient.len() == right.gradient.len()
        && floats(&left.gradient).zip(floats(&right.gradient)).all(|(left, right)| same(left, right))
}

impl Sum {
    fn received(kind: TaskKind, value: NodeValue) -> Self {
        let payload = match kind {
            TaskKind::Train => Payload::Bytes(value.gradient),
            TaskKind::Validate | TaskKind::Test => {
                let mut counts = Box::new([0; 100]);
                for (count, bytes) in counts.iter_mut().zip(value.confusion.chunks_exact(4)) {
                    *count = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                }
                Payload::Confusion(counts)
            }
        };
        Self { examples: value.examples, loss: value.loss, correct: value.correct, payload }
    }

    /// As a worker would have sent it.
    fn into_value(self) -> NodeValue {
        let (gradient, confusion) = match self.payload {
            Payload::Bytes(bytes) => (bytes, Bytes::new()),
            Payload::Gradient(sum) => (lockstep_model::into_le_bytes(sum), Bytes::new()),
            Payload::Confusion(counts) => {
                let bytes: Vec<u8> = counts.iter().flat_map(|count| count.to_le_bytes()).collect();
                (Bytes::new(), bytes.into())
            }
        };
        NodeValue { examples: self.examples, loss: self.loss, correct: self.correct, gradient, confusion }
    }

    /// Left + right. Every addition of two numbers commutes, so either side's buffer may take the sum.
    fn plus(self, right: Self, buffers: &Pool) -> Self {
        let payload = match (self.payload, right.payload) {
            (Payload::Bytes(left), Payload::Bytes(right)) => {
                let mut sum = buffers.take();
                lockstep_model::copy_from_le_bytes(&left, &mut sum);
                lockstep_model::add_le_bytes(&mut sum, &right);
                Payload::Gradient(sum)
            }
            (Payload::Gradient(mut sum), Payload::Bytes(bytes))
            | (Payload::Bytes(bytes), Payload::Gradient(mut sum)) => {
                lockstep_model::add_le_bytes(&mut sum, &bytes);
                Payload::Gradient(sum)
            }
            (Payload::Gradient(mut left), Payload::Gradient(right)) => {
                lockstep_reduction::sum_into(&mut left, &right);
                Payload::Gradient(left)
            }
            (Payload::Confusion(mut left), Payload::Confusion(right)) => {
                left.iter_mut()
                    .zip(right.iter())
                    .for_each(|(left, right)| *left = left.saturating_add(*right));
                Payload::Confusion(left)
            }
            _ => unreachable!("the nodes of one task are of one kind"),
        };
        Self {
            examples: self.examples + right.examples,
            loss: self.loss + right.loss,
            correct: self.correct + right.correct,
            payload,
        }
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!((suspect.worker, suspect.node), (WorkerId(5), leaf(1)));
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
        let sum = Sum::received(TaskKind::Train, value(0))
            .plus(Sum::received(TaskKind::Train, value(1)), &trainer.buffers)
            .into_value();
        assert!(matches!(compare(pair, Some(&sum)), Comparison::Equal));
        let half = Node::new(1, 1).unwrap();
        assert!(matches!(compare(half, Some(&value(2))), Comparison::Equal));
        // One bit.
        let mut bytes = sum.gradient.to_vec();
        bytes[4001] ^= 1;
        let other = NodeValue { gradient: bytes.into(), ..sum.clone() };
        let Comparison::Differs(parts) = compare(pair, Some(&other)) else { panic!("one bit differs") };
        assert_eq!(parts.iter().map(|part| part.worker).collect::<Vec<_>>(), [WorkerId(1), WorkerId(2)]);
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

//! The arithmetic of an assignment: weights and pixels in, the sums over its maximal tree nodes out.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lockstep_failpoints::crash;
use lockstep_model::{CLASSES, Cpu, IMAGE_SIDE, Network, PARAMETERS, PIXELS, ShardResult, Workspace};
use lockstep_proto::{Assignment, NodeValue, SpanKind, Weights};
use lockstep_reduction::{Buffer, Node, NodeSum, Payload, Pool, Task, TaskKind, cover};
use ndarray::{ArrayView1, ArrayView3};
use rayon::iter::{IntoParallelIterator, ParallelIterator};

use crate::current::Current;
use crate::tracer::Tracer;

/// Why the engine cannot compute what it is given.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ComputeError {
    #[error("the weights after step {step} arrived damaged: CRC-32C {actual:08x} instead of {expected:08x}")]
    Checksum { step: u64, expected: u32, actual: u32 },
    #[error("an assignment that reaches beyond the largest tree")]
    Interval,
}

/// The network and all memory that computing takes; it is used again, step after step.
pub(crate) struct Engine {
    network: Network,
    weights: Box<[f32]>,
    gradients: Pool,
    workspaces: Mutex<Vec<Workspace>>,
}

/// How an assignment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Every node was sent.
    Complete,
    /// It was revoked or became obsolete: no node was sent after that.
    Stopped,
    /// Nobody listens any more.
    NoListener,
}

/// The examples of an interval of a task's leaves.
#[derive(Clone, Copy, Debug)]
pub struct LeafInputs<'a> {
    /// What they are a part of.
    pub task: Task,
    /// The first leaf of the interval.
    pub first_leaf: u32,
    /// Examples of each leaf.
    pub leaf_examples: &'a [u32],
    /// A byte an example.
    pub labels: &'a [u8],
    /// 784 bytes an example.
    pub pixels: &'a [u8],
}

impl<'a> From<&'a Assignment> for LeafInputs<'a> {
    fn from(assignment: &'a Assignment) -> Self {
        Self {
            task: assignment.task(),
            first_leaf: assignment.first_leaf,
            leaf_examples: &assignment.leaf_examples,
            labels: &assignment.labels,
            pixels: &assignment.pixels,
        }
    }
}

/// A node that is complete.
pub(crate) struct Complete {
    pub(crate) node: Node,
    /// `None` if it has no examples.
    pub(crate) value: Option<NodeValue>,
    /// Since the arithmetic of the interval began.
    pub(crate) elapsed: Duration,
}

/// The images and labels of one leaf.
#[derive(Clone, Copy)]
struct Shard<'a> {
    leaf: u32,
    images: ArrayView3<'a, u8>,
    labels: ArrayView1<'a, u8>,
}

/// What a leaf adds up to beside its counts; `None` if nobody wants it any more.
type OfLeaf<P> = fn(&Engine, &Leaves, Shard, &mut Workspace) -> Option<(ShardResult, P)>;

impl Engine {
    pub(crate) fn new(cpu: Cpu) -> Self {
        Self {
            network: Network::new(cpu),
            weights: vec![0.0; PARAMETERS].into_boxed_slice(),
            gradients: Pool::new(PARAMETERS),
            workspaces: Mutex::default(),
        }
    }

    /// Takes weights to compute with, if they are whole.
    pub(crate) fn load_received(&mut self, message: &Weights) -> Result<(), ComputeError> {
        let actual = crc32c::crc32c(&message.values);
        if actual != message.crc32c {
            return Err(ComputeError::Checksum { step: message.step, expected: message.crc32c, actual });
        }
        lockstep_model::copy_from_le_bytes(&message.values, &mut self.weights);
        self.network.load(&self.weights);
        Ok(())
    }

    /// Takes weights to compute with.
    pub(crate) fn load(&mut self, weights: &[f32]) {
        self.network.load(weights);
    }

    /// Sums each maximal node of the interval, and hands each to `emit` as soon as it is complete, while it is wanted.
    ///
    /// `emit` says whether anybody still listens. The times of a timed assignment go to `tracer`.
    pub(crate) fn answer(
        &self,
        inputs: LeafInputs,
        current: &Current,
        tracer: Option<&Tracer>,
        emit: &(impl Fn(Complete) -> bool + Sync),
    ) -> Result<Answer, ComputeError> {
        let start = Instant::now();
        let leaves = Leaves::new(inputs, current, tracer).ok_or(ComputeError::Interval)?;
        let nodes: Vec<Node> = cover(leaves.interval.clone()).collect();
        let step = inputs.task.step;
        let answer = nodes.into_par_iter().try_for_each(|node| {
            crash::point("compute", step);
            let value = self.value(&leaves, node)?;
            leaves.wanted()?;
            crash::point("computed", step);
            let sending = tracer.map(|_| Instant::now());
            let heard = emit(Complete { node, value, elapsed: start.elapsed() });
            if let (Some(tracer), Some(begin)) = (tracer, sending) {
                tracer.until_now(SpanKind::Send, node.leaves().start, begin);
            }
            crash::point("sent", step);
            if heard { Ok(()) } else { Err(Answer::NoListener) }
        });
        Ok(answer.err().unwrap_or(Answer::Complete))
    }

    /// The sum over a node as it travels, or `None` if it has no examples.
    fn value(&self, leaves: &Leaves, node: Node) -> Result<Option<NodeValue>, Answer> {
        Ok(match leaves.inputs.task.kind {
            TaskKind::Train => {
                let sum = self.sum(leaves, node, Self::gradient)?;
                // The gradient's buffer is used again once it was sent.
                sum.map(|sum| sum.map(lockstep_model::into_le_bytes).into())
            }
            TaskKind::Validate | TaskKind::Test => self.sum(leaves, node, Self::confusion)?.map(Into::into),
        })
    }

    /// The sum over a node, or `None` if it has no examples: left + right all the way down, on whatever threads.
    fn sum<P: Payload<Memory = ()> + Send>(
        &self,
        leaves: &Leaves,
        node: Node,
        of_leaf: OfLeaf<P>,
    ) -> Result<Option<NodeSum<P>>, Answer> {
        let examples = leaves.examples(node);
        if examples.is_empty() {
            return Ok(None);
        }
        let Some((left, right)) = node.children() else {
            leaves.wanted()?;
            let begin = leaves.tracer.map(|_| Instant::now());
            let sum = self.leaf(leaves, node.leaves().start, examples, of_leaf)?;
            if let (Some(tracer), Some(begin)) = (leaves.tracer, begin) {
                tracer.until_now(SpanKind::Leaf, node.leaves().start, begin);
            }
            return Ok(Some(sum));
        };
        let (left, right) =
            rayon::join(|| self.sum(leaves, left, of_leaf), || self.sum(leaves, right, of_leaf));
        Ok(match (left?, right?) {
            (Some(left), Some(right)) => Some(left.plus(right, &())),
            (left, right) => left.or(right),
        })
    }

    /// The sum over a leaf's examples, one after the other, by this thread, while it is wanted.
    fn leaf<P>(
        &self,
        leaves: &Leaves,
        leaf: u32,
        examples: Range<usize>,
        of_leaf: OfLeaf<P>,
    ) -> Result<NodeSum<P>, Answer> {
        let count = examples.len();
        let pixels = &leaves.inputs.pixels[examples.start * PIXELS..examples.end * PIXELS];
        let images = ArrayView3::from_shape((count, IMAGE_SIDE, IMAGE_SIDE), pixels)
            .expect("the pixels were cut for this many images");
        let labels = ArrayView1::from(&leaves.inputs.labels[examples]);
        crash::point("leaf", leaves.inputs.task.step);
        let mut workspace = self.lock_workspaces().pop().unwrap_or_default();
        let result = of_leaf(self, leaves, Shard { leaf, images, labels }, &mut workspace);
        self.lock_workspaces().push(workspace);
        let (ShardResult { loss, correct }, payload) = result.ok_or(Answer::Stopped)?;
        Ok(NodeSum { examples: count as u32, loss, correct, payload })
    }

    fn gradient(
        &self,
        leaves: &Leaves,
        shard: Shard,
        workspace: &mut Workspace,
    ) -> Option<(ShardResult, Buffer)> {
        let Shard { leaf, images, labels } = shard;
        let mut gradient = self.gradients.take();
        let go_on = |examples| leaves.done(examples);
        let network = &self.network;
        let result = match leaves.tracer.map(|tracer| tracer.parts(leaf)) {
            None => network.shard_gradient_while(images, labels, workspace, &mut gradient, |_| {}, go_on),
            Some(done) => network.shard_gradient_while(images, labels, workspace, &mut gradient, done, go_on),
        };
        Some((result?, gradient))
    }

    fn confusion(
        &self,
        leaves: &Leaves,
        shard: Shard,
        workspace: &mut Workspace,
    ) -> Option<(ShardResult, Box<[u32; CLASSES * CLASSES]>)> {
        let Shard { images, labels, .. } = shard;
        let mut confusion = Box::new([0; CLASSES * CLASSES]);
        let go_on = |examples| leaves.done(examples);
        let result = self.network.evaluate_while(images, labels, workspace, &mut confusion, go_on);
        Some((result?, confusion))
    }

    fn lock_workspaces(&self) -> MutexGuard<'_, Vec<Workspace>> {
        self.workspaces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The leaves of an interval and where each one's examples lie.
struct Leaves<'a> {
    inputs: LeafInputs<'a>,
    current: &'a Current,
    tracer: Option<&'a Tracer>,
    interval: Range<u32>,
    /// The first example of each leaf, and the end of the last.
    starts: Vec<usize>,
}

impl<'a> Leaves<'a> {
    /// `None` if the interval does not fit into a tree.
    fn new(inputs: LeafInputs<'a>, current: &'a Current, tracer: Option<&'a Tracer>) -> Option<Self> {
        let first = inputs.first_leaf;
        let end = first.checked_add(u32::try_from(inputs.leaf_examples.len()).ok()?)?;
        let mut starts = vec![0];
        starts.extend(inputs.leaf_examples.iter().scan(0, |sum, examples| {
            *sum += *examples as usize;
            Some(*sum)
        }));
        (end <= lockstep_reduction::MAX_LEAVES).then_some(Self {
            inputs,
            current,
            tracer,
            interval: first..end,
            starts,
        })
    }

    /// An error as soon as nobody wants the answer any more.
    fn wanted(&self) -> Result<(), Answer> {
        if self.current.is_wanted() { Ok(()) } else { Err(Answer::Stopped) }
    }

    /// So many examples more are done; whether somebody wants the rest.
    fn done(&self, examples: u32) -> bool {
        self.current.add_done(examples);
        self.current.is_wanted()
    }

    fn examples(&self, node: Node) -> Range<usize> {
        let leaves = node.leaves();
        let at = |leaf: u32| self.starts[(leaf - self.interval.start) as usize];
        at(leaves.start)..at(leaves.end)
    }
}

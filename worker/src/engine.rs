//! The arithmetic of an assignment: weights and pixels in, the sums over its maximal tree nodes out. It knows no network
//! and no order of work.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use lockstep_model::{Cpu, IMAGE_SIDE, Network, PARAMETERS, PIXELS, Workspace};
use lockstep_proto::{Assignment, NodeResult, NodeValue, SpanKind, TaskKind, Weights};
use lockstep_reduction::{Buffer, Node, Pool, cover, sum_into};
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

/// The step whose weights an assignment needs.
pub(crate) fn weights_of(assignment: &Assignment) -> u64 {
    match assignment.kind {
        TaskKind::Train => assignment.step - 1,
        TaskKind::Validate | TaskKind::Test => assignment.step,
    }
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
    Unheard,
}

/// A node's sum.
struct Sum {
    examples: u32,
    loss: f32,
    correct: u32,
    payload: Payload,
}

enum Payload {
    Gradient(Buffer),
    Confusion(Box<[u32; 100]>),
}

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
    pub(crate) fn load(&mut self, message: &Weights) -> Result<(), ComputeError> {
        let actual = crc32c::crc32c(&message.values);
        if actual != message.crc32c {
            return Err(ComputeError::Checksum { step: message.step, expected: message.crc32c, actual });
        }
        lockstep_model::copy_from_le_bytes(&message.values, &mut self.weights);
        self.network.load(&self.weights);
        Ok(())
    }

    /// Sends one message per maximal node of the assignment, each as soon as it is complete, while it is wanted.
    ///
    /// `emit` sends a node and says whether anybody still listens. The times of a timed assignment go to `tracer`.
    pub(crate) fn answer(
        &self,
        assignment: &Assignment,
        current: &Current,
        tracer: Option<&Tracer>,
        emit: &(impl Fn(NodeResult) -> bool + Sync),
    ) -> Result<Answer, ComputeError> {
        let start = Instant::now();
        let leaves = Leaves::new(assignment, current, tracer).ok_or(ComputeError::Interval)?;
        let nodes: Vec<Node> = cover(leaves.interval.clone()).collect();
        let answer = nodes.into_par_iter().try_for_each(|node| {
            crate::crash::point("compute", assignment.step);
            let sum = self.sum(&leaves, node)?;
            leaves.wanted()?;
            crate::crash::point("computed", assignment.step);
            let sending = tracer.map(|_| Instant::now());
            let heard = emit(NodeResult {
                fence: assignment.fence,
                assignment_id: assignment.assignment_id,
                kind: assignment.kind,
                step: assignment.step,
                level: node.level(),
                index: node.index(),
                compute_nanoseconds: u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
                value: sum.map(Sum::into_value),
            });
            if let (Some(tracer), Some(begin)) = (tracer, sending) {
                tracer.until_now(SpanKind::Send, node.leaves().start, begin);
            }
            crate::crash::point("sent", assignment.step);
            if heard { Ok(()) } else { Err(Answer::Unheard) }
        });
        Ok(answer.err().unwrap_or(Answer::Complete))
    }

    /// The sum over a node, or `None` if it has no examples: left + right all the way down, on whatever threads.
    fn sum(&self, leaves: &Leaves, node: Node) -> Result<Option<Sum>, Answer> {
        let examples = leaves.examples(node);
        if examples.is_empty() {
            return Ok(None);
        }
        let Some((left, right)) = node.children() else {
            leaves.wanted()?;
            let begin = leaves.tracer.map(|_| Instant::now());
            let sum = self.leaf(leaves, node.leaves().start, examples)?;
            if let (Some(tracer), Some(begin)) = (leaves.tracer, begin) {
                tracer.until_now(SpanKind::Leaf, node.leaves().start, begin);
            }
            return Ok(Some(sum));
        };
        let (left, right) = rayon::join(|| self.sum(leaves, left), || self.sum(leaves, right));
        Ok(match (left?, right?) {
            (Some(left), Some(right)) => Some(left.plus(right)),
            (left, right) => left.or(right),
        })
    }

    /// The sum over a leaf's examples, one after the other, by this thread, while it is wanted.
    fn leaf(&self, leaves: &Leaves, leaf: u32, examples: Range<usize>) -> Result<Sum, Answer> {
        let count = examples.len();
        let pixels = &leaves.assignment.pixels[examples.start * PIXELS..examples.end * PIXELS];
        let images = ArrayView3::from_shape((count, IMAGE_SIDE, IMAGE_SIDE), pixels)
            .expect("the pixels were cut for this many images");
        let labels = ArrayView1::from(&leaves.assignment.labels[examples]);
        crate::crash::point("leaf", leaves.assignment.step);
        let mut workspace = self.lock_workspaces().pop().unwrap_or_default();
        let go_on = |examples| {
            leaves.current.add_done(examples);
            leaves.current.is_wanted()
        };
        let (result, payload) = match leaves.assignment.kind {
            TaskKind::Train => {
                let mut gradient = self.gradients.take();
                let (network, ws) = (&self.network, &mut workspace);
                let result = match leaves.tracer.map(|tracer| tracer.parts(leaf)) {
                    None => network.shard_gradient_while(images, labels, ws, &mut gradient, |_| {}, go_on),
                    Some(done) => {
                        network.shard_gradient_while(images, labels, ws, &mut gradient, done, go_on)
                    }
                };
                (result, Payload::Gradient(gradient))
            }
            TaskKind::Validate | TaskKind::Test => {
                let mut confusion = Box::new([0; 100]);
                let ws = &mut workspace;
                let result = self.network.evaluate_while(images, labels, ws, &mut confusion, go_on);
                (result, Payload::Confusion(confusion))
            }
        };
        self.lock_workspaces().push(workspace);
        let result = result.ok_or(Answer::Stopped)?;
        Ok(Sum { examples: count as u32, loss: result.loss, correct: result.correct, payload })
    }

    fn lock_workspaces(&self) -> MutexGuard<'_, Vec<Workspace>> {
        self.workspaces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sum {
    fn plus(mut self, right: Self) -> Self {
        self.examples += right.examples;
        self.loss += right.loss;
        self.correct += right.correct;
        match (&mut self.payload, right.payload) {
            (Payload::Gradient(left), Payload::Gradient(right)) => sum_into(left, &right),
            (Payload::Confusion(left), Payload::Confusion(right)) => {
                left.iter_mut().zip(right.iter()).for_each(|(left, right)| *left += right);
            }
            _ => unreachable!("the nodes of one assignment are of one kind"),
        }
        self
    }

    fn into_value(self) -> NodeValue {
        let (gradient, confusion) = match self.payload {
            // Its buffer is used again once it was sent.
            Payload::Gradient(gradient) => (lockstep_model::into_le_bytes(gradient), Bytes::new()),
            Payload::Confusion(counts) => (
                Bytes::new(),
                counts.iter().flat_map(|count| count.to_le_bytes()).collect::<Vec<u8>>().into(),
            ),
        };
        NodeValue { examples: self.examples, loss: self.loss, correct: self.correct, gradient, confusion }
    }
}

/// The leaves of an assignment and where each one's examples lie.
struct Leaves<'a> {
    assignment: &'a Assignment,
    current: &'a Current,
    tracer: Option<&'a Tracer>,
    interval: Range<u32>,
    /// The first example of each leaf, and the end of the last.
    starts: Vec<usize>,
}

impl<'a> Leaves<'a> {
    /// `None` if the interval does not fit into a tree.
    fn new(assignment: &'a Assignment, current: &'a Current, tracer: Option<&'a Tracer>) -> Option<Self> {
        let first = assignment.first_leaf;
        let end = first.checked_add(u32::try_from(assignment.leaf_examples.len()).ok()?)?;
        let mut starts = vec![0];
        starts.extend(assignment.leaf_examples.iter().scan(0, |sum, examples| {
            *sum += *examples as usize;
            Some(*sum)
        }));
        (end <= lockstep_reduction::MAX_LEAVES).then_some(Self {
            assignment,
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

    fn examples(&self, node: Node) -> Range<usize> {
        let leaves = node.leaves();
        let at = |leaf: u32| self.starts[(leaf - self.interval.start) as usize];
        at(leaves.start)..at(leaves.end)
    }
}

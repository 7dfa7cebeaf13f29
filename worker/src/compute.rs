//! The thread that computes: weights and assignments in, complete nodes out. It knows no network.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::mpsc::Receiver;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use lockstep_model::{Cpu, IMAGE_SIDE, Network, PARAMETER_BYTES, PARAMETERS, PIXELS, Workspace};
use lockstep_proto::{Assignment, MAX_HELD_ASSIGNMENTS, NodeResult, NodeValue, TaskKind, Weights};
use lockstep_reduction::{Buffer, Node, Pool, cover, sum_into};
use ndarray::{ArrayView1, ArrayView3};
use rayon::iter::{IntoParallelIterator, ParallelIterator};

/// What the thread is told.
pub(crate) enum Job {
    Weights(Weights),
    Assignment(Assignment),
}

/// Why the thread ends before its channel does.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ComputeError {
    #[error("the weights after step {step} arrived damaged: CRC-32C {actual:08x} instead of {expected:08x}")]
    Checksum { step: u64, expected: u32, actual: u32 },
    #[error("the coordinator sent more than {MAX_HELD_ASSIGNMENTS} assignments ahead")]
    TooMany,
    #[error("an assignment reaches beyond the largest tree")]
    Interval,
    #[error("no threads to compute with: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}

/// Computes until the channel of jobs is closed. `emit` sends a node and says whether anybody still listens.
pub(crate) fn compute(
    cpu: Cpu,
    threads: u32,
    jobs: &Receiver<Job>,
    emit: impl Fn(NodeResult) -> bool + Sync,
) -> Result<(), ComputeError> {
    // This thread is one of the pool's, so that a worker of one thread never hands work over.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads as usize).use_current_thread().build()?;
    let mut engine = Engine::new(cpu);
    let mut held: VecDeque<Assignment> = VecDeque::with_capacity(MAX_HELD_ASSIGNMENTS);
    let mut weights = None;
    loop {
        let next = held.iter().position(|assignment| Some(weights_of(assignment)) == weights);
        // With nothing to compute it waits; otherwise it only takes what has come meanwhile.
        let job = if next.is_some() { jobs.try_recv().ok() } else { jobs.recv().ok() };
        match (job, next) {
            (Some(Job::Weights(message)), _) => {
                engine.load(&message)?;
                weights = Some(message.step);
                held.retain(|assignment| weights_of(assignment) >= message.step);
            }
            (Some(Job::Assignment(assignment)), _) => {
                if held.len() == MAX_HELD_ASSIGNMENTS {
                    return Err(ComputeError::TooMany);
                }
                held.push_back(assignment);
            }
            (None, Some(at)) => {
                let Some(assignment) = held.remove(at) else { continue };
                if !pool.install(|| engine.answer(&assignment, &emit))? {
                    return Ok(());
                }
            }
            (None, None) => return Ok(()),
        }
    }
}

/// What a worker without fault answers to an assignment: the coordinator's referee, on the same code.
///
/// # Panics
///
/// If `weights` are not those of the assignment, or damaged; the caller made both.
pub fn recompute(cpu: Cpu, weights: &Weights, assignment: &Assignment) -> Vec<NodeResult> {
    assert_eq!(weights_of(assignment), weights.step, "the weights that the assignment needs");
    let mut engine = Engine::new(cpu);
    engine.load(weights).expect("the coordinator's own weights are whole");
    let results = Mutex::new(Vec::new());
    let emit = |result| {
        results.lock().unwrap_or_else(PoisonError::into_inner).push(result);
        true
    };
    engine.answer(assignment, &emit).expect("the coordinator's own assignment fits the tree");
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// The step whose weights an assignment needs.
fn weights_of(assignment: &Assignment) -> u64 {
    match assignment.kind {
        TaskKind::Train => assignment.step - 1,
        TaskKind::Validate | TaskKind::Test => assignment.step,
    }
}

/// The network and all memory that computing takes; it is used again, step after step.
struct Engine {
    network: Network,
    weights: Box<[f32]>,
    gradients: Pool,
    workspaces: Mutex<Vec<Workspace>>,
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
    fn new(cpu: Cpu) -> Self {
        Self {
            network: Network::new(cpu),
            weights: vec![0.0; PARAMETERS].into_boxed_slice(),
            gradients: Pool::new(PARAMETERS),
            workspaces: Mutex::default(),
        }
    }

    fn load(&mut self, message: &Weights) -> Result<(), ComputeError> {
        let actual = crc32c::crc32c(&message.values);
        if actual != message.crc32c {
            return Err(ComputeError::Checksum { step: message.step, expected: message.crc32c, actual });
        }
        lockstep_model::copy_from_le_bytes(&message.values, &mut self.weights);
        self.network.load(&self.weights);
        Ok(())
    }

    /// Sends one message per maximal node of the assignment, each as soon as it is complete.
    fn answer(
        &self,
        assignment: &Assignment,
        emit: &(impl Fn(NodeResult) -> bool + Sync),
    ) -> Result<bool, ComputeError> {
        let start = Instant::now();
        let leaves = Leaves::new(assignment).ok_or(ComputeError::Interval)?;
        let nodes: Vec<Node> = cover(leaves.interval.clone()).collect();
        Ok(nodes.into_par_iter().all(|node| {
            let sum = self.sum(&leaves, node);
            emit(NodeResult {
                fence: assignment.fence,
                assignment_id: assignment.assignment_id,
                kind: assignment.kind,
                step: assignment.step,
                level: node.level(),
                index: node.index(),
                compute_nanoseconds: u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
                value: sum.map(Sum::into_value),
            })
        }))
    }

    /// The sum over a node, or `None` if it has no examples: left + right all the way down, on whatever threads.
    fn sum(&self, leaves: &Leaves, node: Node) -> Option<Sum> {
        let examples = leaves.examples(node);
        if examples.is_empty() {
            return None;
        }
        let Some((left, right)) = node.children() else { return Some(self.leaf(leaves, examples)) };
        let (left, right) = rayon::join(|| self.sum(leaves, left), || self.sum(leaves, right));
        match (left, right) {
            (Some(left), Some(right)) => Some(left.plus(right)),
            (left, right) => left.or(right),
        }
    }

    /// The sum over one leaf's examples, one after the other, by this thread.
    fn leaf(&self, leaves: &Leaves, examples: Range<usize>) -> Sum {
        let count = examples.len();
        let pixels = &leaves.assignment.pixels[examples.start * PIXELS..examples.end * PIXELS];
        let images = ArrayView3::from_shape((count, IMAGE_SIDE, IMAGE_SIDE), pixels)
            .expect("the pixels were cut for this many images");
        let labels = ArrayView1::from(&leaves.assignment.labels[examples]);
        let mut workspace = self.lock_workspaces().pop().unwrap_or_default();
        let (result, payload) = match leaves.assignment.kind {
            TaskKind::Train => {
                let mut gradient = self.gradients.take();
                let result = self.network.shard_gradient(images, labels, &mut workspace, &mut gradient);
                (result, Payload::Gradient(gradient))
            }
            TaskKind::Validate | TaskKind::Test => {
                let mut confusion = Box::new([0; 100]);
                let result = self.network.evaluate(images, labels, &mut workspace, &mut confusion);
                (result, Payload::Confusion(confusion))
            }
        };
        self.lock_workspaces().push(workspace);
        Sum { examples: count as u32, loss: result.loss, correct: result.correct, payload }
    }

    fn lock_workspaces(&self) -> std::sync::MutexGuard<'_, Vec<Workspace>> {
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
            Payload::Gradient(gradient) => {
                let mut bytes = vec![0; PARAMETER_BYTES];
                lockstep_model::copy_to_le_bytes(&gradient, &mut bytes);
                (Bytes::from(bytes), Bytes::new())
            }
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
    interval: Range<u32>,
    /// The first example of each leaf, and the end of the last.
    starts: Vec<usize>,
}

impl<'a> Leaves<'a> {
    /// `None` if the interval does not fit into a tree.
    fn new(assignment: &'a Assignment) -> Option<Self> {
        let first = assignment.first_leaf;
        let end = first.checked_add(u32::try_from(assignment.leaf_examples.len()).ok()?)?;
        let mut starts = vec![0];
        starts.extend(assignment.leaf_examples.iter().scan(0, |sum, examples| {
            *sum += *examples as usize;
            Some(*sum)
        }));
        (end <= lockstep_reduction::MAX_LEAVES).then_some(Self { assignment, interval: first..end, starts })
    }

    fn examples(&self, node: Node) -> Range<usize> {
        let leaves = node.leaves();
        let at = |leaf: u32| self.starts[(leaf - self.interval.start) as usize];
        at(leaves.start)..at(leaves.end)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use lockstep_model::{copy_from_le_bytes, initial_weights};
    use lockstep_proto::{Fence, RunId};
    use lockstep_reduction::{Cut, Tree};

    use super::*;

    const FENCE: Fence = Fence { run_id: RunId([1; 16]), term: 1 };

    fn weights(step: u64) -> Weights {
        let mut values = vec![0; PARAMETER_BYTES];
        lockstep_model::copy_to_le_bytes(&initial_weights(step), &mut values);
        Weights { fence: FENCE, step, crc32c: crc32c::crc32c(&values), values: values.into() }
    }

    /// An interval of a batch of 23 examples in 8 shards.
    fn assignment(id: u64, kind: TaskKind, step: u64, leaves: Range<u32>) -> Assignment {
        let cut = Cut::shards(23, 8);
        let positions = cut.positions(leaves.clone());
        Assignment {
            fence: FENCE,
            assignment_id: id,
            kind,
            step,
            first_leaf: leaves.start,
            leaf_examples: leaves.map(|leaf| cut.positions(leaf..leaf + 1).len() as u32).collect(),
            labels: positions.clone().map(|i| (i % 10) as u8).collect::<Vec<_>>().into(),
            pixels: positions
                .flat_map(|i| (0..PIXELS as u32).map(move |p| (i * 31 + p * p * 7) as u8 & 0x9f))
                .collect::<Vec<_>>()
                .into(),
        }
    }

    fn answers(threads: u32, jobs: Vec<Job>) -> Result<Vec<NodeResult>, ComputeError> {
        let (sender, receiver) = sync_channel(jobs.len());
        jobs.into_iter().for_each(|job| sender.send(job).unwrap());
        drop(sender);
        let results = Mutex::new(Vec::new());
        let results_of = &results;
        let emit = move |result| {
            results_of.lock().unwrap().push(result);
            true
        };
        // A thread may belong to one pool in its life.
        std::thread::scope(|scope| {
            scope.spawn(move || compute(Cpu::detect(), threads, &receiver, emit)).join().unwrap()
        })?;
        Ok(results.into_inner().unwrap())
    }

    fn root(threads: u32, intervals: &[Range<u32>]) -> (Vec<u32>, u32) {
        let mut jobs = vec![Job::Weights(weights(0))];
        for (id, interval) in intervals.iter().enumerate() {
            jobs.push(Job::Assignment(assignment(id as u64, TaskKind::Train, 1, interval.clone())));
        }
        let mut tree = Tree::new(8);
        for result in answers(threads, jobs).unwrap() {
            let value = result.value.map(|value| {
                let mut gradient = vec![0.0; PARAMETERS];
                copy_from_le_bytes(&value.gradient, &mut gradient);
                (gradient, value.loss)
            });
            tree.insert(Node::new(result.level, result.index).unwrap(), value, |mut left, right| {
                sum_into(&mut left.0, &right.0);
                (left.0, left.1 + right.1)
            });
        }
        let (gradient, loss) = tree.root().unwrap().unwrap();
        (gradient.iter().map(|value| value.to_bits()).collect(), loss.to_bits())
    }

    #[test]
    fn threads_and_intervals_change_no_bit() {
        let whole = std::slice::from_ref(&(0..8));
        let expected = root(1, whole);
        for threads in [1, 2, 3] {
            assert!(root(threads, whole) == expected, "{threads} threads");
            assert!(root(threads, &[5..8, 0..3, 3..5]) == expected, "{threads} threads, three intervals");
            assert!(root(threads, &[1..8, 0..1]) == expected, "{threads} threads, an odd interval");
        }
    }

    #[test]
    fn an_assignment_waits_for_its_weights_and_a_stale_one_is_forgotten() {
        let jobs = vec![
            Job::Assignment(assignment(1, TaskKind::Train, 5, 0..8)),
            Job::Assignment(assignment(2, TaskKind::Train, 4, 0..8)),
            Job::Weights(weights(4)),
            Job::Assignment(assignment(3, TaskKind::Test, 4, 0..8)),
            Job::Assignment(assignment(4, TaskKind::Train, 6, 0..8)),
        ];
        let answered: Vec<u64> =
            answers(1, jobs).unwrap().iter().map(|result| result.assignment_id).collect();
        assert_eq!(answered, [1, 3]);
    }

    #[test]
    fn damaged_weights_are_not_computed_with() {
        let damaged = Weights { crc32c: 1, ..weights(3) };
        let error = answers(1, vec![Job::Weights(damaged)]).unwrap_err();
        assert!(matches!(error, ComputeError::Checksum { step: 3, expected: 1, .. }), "{error}");
    }

    #[test]
    fn a_coordinator_cannot_fill_the_memory() {
        let jobs = (0..=MAX_HELD_ASSIGNMENTS as u64)
            .map(|id| Job::Assignment(assignment(id, TaskKind::Train, 9, 0..8)))
            .collect();
        assert!(matches!(answers(1, jobs), Err(ComputeError::TooMany)));
    }

    #[test]
    fn an_interval_without_examples_gives_absent_nodes() {
        let mut empty = assignment(1, TaskKind::Train, 1, 0..2);
        (empty.leaf_examples, empty.labels, empty.pixels) = (vec![0, 0], Bytes::new(), Bytes::new());
        let results = answers(2, vec![Job::Weights(weights(0)), Job::Assignment(empty)]).unwrap();
        assert_eq!(results.len(), 1);
        assert_eq!((results[0].level, &results[0].value), (1, &None));
    }
}

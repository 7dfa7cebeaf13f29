//! The oracle: the whole training in one plain loop. No network, no process, no thread, nothing of the coordinator,
//! the worker, the control plane or the tree; the kernels are the naive reference. It defines what every run must be.

use lockstep_dataset::{Dataset, Examples, epoch_order, validation_examples};
use lockstep_kernels::cpu::{Cpu, InstructionSet, Kernel};
use lockstep_model::{PARAMETERS, PIXELS, digest, initial_weights, reference, sgd_update};
use ndarray::{ArrayView1, ArrayView3};

/// What a run depends on.
pub struct Recipe {
    pub seed: u64,
    pub epochs: u64,
    pub batch_size: usize,
    pub shards: usize,
    pub learning_rate: f32,
    pub validation_split: f64,
}

/// What a run must find.
pub struct Trained {
    /// Of each step.
    pub steps: Vec<Means>,
    /// After each epoch: the weights' digest and the validation, if there is one.
    pub epochs: Vec<(String, Option<Means>)>,
    /// With the last weights.
    pub test: Means,
}

pub struct Means {
    pub loss: f32,
    pub accuracy: f32,
}

/// Loss sum, correct answers, gradient sum.
type Sums = (f32, u32, Vec<f32>);

pub fn train(data: &Dataset, recipe: &Recipe) -> Trained {
    let validation = validation_examples(data.train.len(), recipe.validation_split);
    let count = data.train.len() - validation;
    let mut weights = initial_weights(recipe.seed);
    let (mut epochs, mut steps) = (Vec::new(), Vec::new());
    for epoch in 1..=recipe.epochs {
        for batch in epoch_order(recipe.seed, epoch, count).chunks(recipe.batch_size) {
            let b = batch.len();
            let shard = |i| &batch[i * b / recipe.shards..(i + 1) * b / recipe.shards];
            let leaves = (0..recipe.shards).map(|i| sums(&data.train, shard(i), &weights));
            let (loss, correct, gradient) = tree(leaves.collect());
            let mut updated = weights.clone();
            assert!(sgd_update(&weights, &gradient, recipe.learning_rate, b as u32, &mut updated));
            weights = updated;
            steps.push(means(loss, correct, b));
        }
        let all: Vec<u32> = (count as u32..data.train.len() as u32).collect();
        let validation = (validation > 0).then(|| evaluate(&data.train, &all, &weights));
        epochs.push((digest(&weights).to_string(), validation));
    }
    let all: Vec<u32> = (0..data.test.len() as u32).collect();
    Trained { steps, epochs, test: evaluate(&data.test, &all, &weights) }
}

/// Blocks of 64 in file order, in the same tree; leaves beyond the last block are absent.
fn evaluate(examples: &Examples, indices: &[u32], weights: &[f32]) -> Means {
    let mut leaves: Vec<Option<Sums>> =
        indices.chunks(64).map(|block| sums(examples, block, weights)).collect();
    leaves.resize_with(leaves.len().next_power_of_two(), || None);
    let (loss, correct, _) = tree(leaves);
    means(loss, correct, indices.len())
}

fn means(loss: f32, correct: u32, examples: usize) -> Means {
    Means { loss: loss / examples as f32, accuracy: correct as f32 / examples as f32 }
}

fn tree(mut level: Vec<Option<Sums>>) -> Sums {
    while level.len() > 1 {
        let mut nodes = level.into_iter();
        level = std::iter::from_fn(|| Some((nodes.next()?, nodes.next()?)))
            .map(|(left, right)| sum(left, right))
            .collect();
    }
    level.remove(0).unwrap()
}

/// The sums over a leaf's examples, or `None` if it has none.
fn sums(examples: &Examples, leaf: &[u32], weights: &[f32]) -> Option<Sums> {
    if leaf.is_empty() {
        return None;
    }
    let pixels: Vec<u8> = leaf.iter().flat_map(|i| examples.image(*i as usize)).copied().collect();
    let labels: Vec<u8> = leaf.iter().map(|i| examples.labels[*i as usize]).collect();
    let images = ArrayView3::from_shape((leaf.len(), 28, 28), &pixels[..leaf.len() * PIXELS]).unwrap();
    let mut gradient = vec![0.0; PARAMETERS];
    let labels = ArrayView1::from(&labels);
    let result = Cpu::detect().run(Reference { weights, images, labels, gradient: &mut gradient });
    Some((result.loss, result.correct, gradient))
}

/// The naive program, compiled for this CPU's fused multiply-add.
struct Reference<'a> {
    weights: &'a [f32],
    images: ArrayView3<'a, u8>,
    labels: ArrayView1<'a, u8>,
    gradient: &'a mut [f32],
}

impl Kernel for Reference<'_> {
    type Output = reference::Sums<f32>;

    #[inline(always)]
    fn run<S: InstructionSet>(self) -> Self::Output {
        reference::shard_gradient::<f32, S>(self.weights, self.images, self.labels, self.gradient)
    }
}

fn sum(left: Option<Sums>, right: Option<Sums>) -> Option<Sums> {
    match (left, right) {
        (Some(left), Some(right)) => {
            let gradient = left.2.iter().zip(&right.2).map(|(left, right)| left + right).collect();
            Some((left.0 + right.0, left.1 + right.1, gradient))
        }
        (left, right) => left.or(right),
    }
}

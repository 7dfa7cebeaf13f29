//! The oracle: the whole training in one plain loop. No network, no process, no thread, nothing of the coordinator,
//! the worker, the control plane or the tree; the kernels are the naive reference. It defines what every run must be.

use lockstep_dataset::{Dataset, epoch_order, validation_examples};
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

/// Loss sum, correct answers, gradient sum.
type Sums = (f32, u32, Vec<f32>);

/// Digests after each epoch, and the mean loss and accuracy of each step.
pub fn train(data: &Dataset, recipe: &Recipe) -> (Vec<String>, Vec<(f32, f32)>) {
    let count = data.train.len() - validation_examples(data.train.len(), recipe.validation_split);
    let mut weights = initial_weights(recipe.seed);
    let (mut digests, mut steps) = (Vec::new(), Vec::new());
    for epoch in 1..=recipe.epochs {
        for batch in epoch_order(recipe.seed, epoch, count).chunks(recipe.batch_size) {
            let b = batch.len();
            let mut level: Vec<Option<Sums>> = (0..recipe.shards)
                .map(|i| &batch[i * b / recipe.shards..(i + 1) * b / recipe.shards])
                .map(|shard| (!shard.is_empty()).then(|| gradient(data, shard, &weights)))
                .collect();
            while level.len() > 1 {
                level = level.chunks(2).map(|pair| sum(pair[0].clone(), pair[1].clone())).collect();
            }
            let (loss, correct, gradient) = level.remove(0).unwrap();
            let mut updated = weights.clone();
            assert!(sgd_update(&weights, &gradient, recipe.learning_rate, b as u32, &mut updated));
            weights = updated;
            steps.push((loss / b as f32, correct as f32 / b as f32));
        }
        digests.push(digest(&weights).to_string());
    }
    (digests, steps)
}

fn gradient(data: &Dataset, shard: &[u32], weights: &[f32]) -> Sums {
    let pixels: Vec<u8> = shard.iter().flat_map(|i| data.train.image(*i as usize)).copied().collect();
    let labels: Vec<u8> = shard.iter().map(|i| data.train.labels[*i as usize]).collect();
    let images = ArrayView3::from_shape((shard.len(), 28, 28), &pixels[..shard.len() * PIXELS]).unwrap();
    let mut gradient = vec![0.0; PARAMETERS];
    let labels = ArrayView1::from(&labels);
    let result = Cpu::detect().run(Reference { weights, images, labels, gradient: &mut gradient });
    (result.loss, result.correct, gradient)
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
    let (Some(left), Some(right)) = (left.clone(), right.clone()) else { return left.or(right) };
    let gradient = left.2.iter().zip(&right.2).map(|(left, right)| left + right).collect();
    Some((left.0 + right.0, left.1 + right.1, gradient))
}

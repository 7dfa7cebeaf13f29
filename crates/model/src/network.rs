//! The network on this machine: a shard's gradient and its evaluation.

use lockstep_kernels::Cpu;
use lockstep_kernels::cpu::{InstructionSet, Kernel};
use ndarray::{ArrayView1, ArrayView3};

use crate::parameters::PARAMETERS;
use crate::reference;

/// The weights, laid out for this processor's kernels. Shared by all threads.
#[derive(Debug)]
pub struct Network {
    cpu: Cpu,
    weights: Box<[f32]>,
}

/// All scratch memory of a shard's computation; one per thread.
#[derive(Debug, Default)]
pub struct Workspace {
    scratch: Vec<f32>,
}

/// Loss and correct answers of a shard, as sums over its examples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShardResult {
    /// Sum of the losses.
    pub loss: f32,
    /// Number of examples whose argmax is their label.
    pub correct: u32,
}

impl Workspace {
    /// Memory for one thread.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Network {
    /// A network of zero weights on the instruction set `cpu`.
    pub fn new(cpu: Cpu) -> Self {
        Self { cpu, weights: vec![0.0; PARAMETERS].into() }
    }

    /// Takes over `weights [PARAMETERS]`.
    ///
    /// # Panics
    /// If the length is wrong.
    pub fn load(&mut self, weights: &[f32]) {
        self.weights.copy_from_slice(weights);
    }

    /// Overwrites `gradient [PARAMETERS]` with the sum over `images [N, 28, 28]` and `labels [N]`, in their order.
    ///
    /// `N` may be 0.
    ///
    /// # Panics
    /// If a length or shape is wrong, or a label is not below 10.
    pub fn shard_gradient(
        &self,
        images: ArrayView3<u8>,
        labels: ArrayView1<u8>,
        ws: &mut Workspace,
        gradient: &mut [f32],
    ) -> ShardResult {
        ws.scratch.clear();
        self.cpu.run(Naive { weights: &self.weights, images, labels, gradient })
    }

    /// Forward only: adds each of `images [N, 28, 28]` to `confusion[label * 10 + predicted]`.
    ///
    /// # Panics
    /// If a shape is wrong, or a label is not below 10.
    pub fn evaluate(
        &self,
        images: ArrayView3<u8>,
        labels: ArrayView1<u8>,
        ws: &mut Workspace,
        confusion: &mut [u32; 100],
    ) -> ShardResult {
        let mut total = ShardResult { loss: 0.0, correct: 0 };
        let mut gradient = vec![0.0; PARAMETERS];
        for (image, &label) in images.outer_iter().zip(labels) {
            let one = ndarray::arr1(&[label]);
            let result =
                self.shard_gradient(image.insert_axis(ndarray::Axis(0)), one.view(), ws, &mut gradient);
            total.loss += result.loss;
            total.correct += result.correct;
            let predicted = if result.correct == 1 { label } else { (label + 1) % 10 };
            confusion[usize::from(label) * 10 + usize::from(predicted)] += 1;
        }
        total
    }
}

struct Naive<'a> {
    weights: &'a [f32],
    images: ArrayView3<'a, u8>,
    labels: ArrayView1<'a, u8>,
    gradient: &'a mut [f32],
}

impl Kernel for Naive<'_> {
    type Output = ShardResult;
    #[inline(always)]
    fn run<S: InstructionSet>(self) -> ShardResult {
        let sums = reference::shard_gradient::<f32, S>(self.weights, self.images, self.labels, self.gradient);
        ShardResult { loss: sums.loss, correct: sums.correct }
    }
}

//! The network on this machine: a shard's gradient on one screen, and its evaluation.
//!
//! Owns the order of the layers and the private layouts of weights; the arithmetic is the kernels'. One thread
//! computes a shard, and its examples are summed one after the other. Never allocates after construction,
//! unless images come in an order of their own.

mod layers;
mod prediction;
mod views;
mod workspace;

use std::fmt;

use lockstep_kernels::reference::WINDOW_POINTS;
use lockstep_kernels::{AlignedBuffer, Cpu, conv2d, layout, pixels, softmax_cross_entropy};
use ndarray::{ArrayView1, ArrayView3, Axis, s};

use crate::parameters::{CLASSES, IMAGE_SIDE, PARAMETERS, TENSORS};
pub use layers::{Layer, UnknownLayer};
pub use prediction::Prediction;
use views::{
    filter_major_mut, ink_mut, kernel, matrix, padded_mut, points, points_mut, rows, rows_mut, vector,
};
pub use workspace::Workspace;

/// Examples that go through the layers together. Four share each load of the dense weights and still fit the
/// second-level cache; a shard of the default batch has four.
pub const GROUP: usize = 4;
/// Side of what conv2 reads of pool1: 12 of 13 places.
const POOL1: usize = 12;
/// Side of pool2.
const POOL2: usize = 5;
/// Side of conv3's output.
const CONV3: usize = 3;
/// Filters of the convolutions; the channels of the one behind.
const FILTERS: [usize; 3] = [16, 32, 32];
/// conv3's outputs in a row.
const FLAT: usize = CONV3 * CONV3 * FILTERS[2];
/// Outputs of dense1.
const HIDDEN: usize = 64;
/// Outputs of dense2, padded to a block.
const LOGITS: usize = 16;

/// The weights, laid out for this processor's kernels. Shared by all threads.
#[derive(Debug)]
pub struct Network {
    cpu: Cpu,
    /// The canonical layout; conv1, conv3 and dense1 read it as it is in the forward pass.
    canonical: AlignedBuffer,
    /// What conv1 makes of black, and conv2 of that.
    background1: conv2d::Background,
    background2: conv2d::Background,
    /// `[16, 16, 32]`.
    conv2_points: AlignedBuffer,
    /// `[32, 13, 16]`.
    conv2_padded: AlignedBuffer,
    /// `[32, 3, 3, 32]`.
    conv3_filter_major: AlignedBuffer,
    /// `[64, 288]`.
    dense1_transposed: AlignedBuffer,
    /// `[64, 16]`, its transpose, and `[16]`.
    dense2: AlignedBuffer,
    dense2_transposed: AlignedBuffer,
    dense2_bias: AlignedBuffer,
}

/// Loss and correct answers of a shard, as sums over its examples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ShardResult {
    /// Sum of the losses.
    pub loss: f32,
    /// Number of examples whose argmax is their label.
    pub correct: u32,
}

/// A part of the computation of a group of examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Pixels to input values.
    Pixels,
    /// A layer's outputs.
    Forward(Layer),
    /// The loss and its gradient.
    Loss,
    /// The gradients of a layer's parameters and inputs.
    Backward(Layer),
}

impl Part {
    /// All of them, in order: each needs what those before it leave in the workspace.
    pub const ALL: [Self; 12] = [
        Self::Pixels,
        Self::Forward(Layer::Conv1),
        Self::Forward(Layer::Conv2),
        Self::Forward(Layer::Conv3),
        Self::Forward(Layer::Dense1),
        Self::Forward(Layer::Dense2),
        Self::Loss,
        Self::Backward(Layer::Dense2),
        Self::Backward(Layer::Dense1),
        Self::Backward(Layer::Conv3),
        Self::Backward(Layer::Conv2),
        Self::Backward(Layer::Conv1),
    ];
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pixels => f.write_str("pixels"),
            Self::Forward(layer) => write!(f, "{layer} forward"),
            Self::Loss => f.write_str("loss"),
            Self::Backward(layer) => write!(f, "{layer} backward"),
        }
    }
}

impl Network {
    /// A network of zero weights on the instruction set `cpu`.
    pub fn new(cpu: Cpu) -> Self {
        Self {
            cpu,
            canonical: AlignedBuffer::zeros(PARAMETERS),
            background1: conv2d::Background::new(1, FILTERS[0]),
            background2: conv2d::Background::new(FILTERS[0], FILTERS[1]),
            conv2_points: AlignedBuffer::zeros(WINDOW_POINTS * FILTERS[0] * FILTERS[1]),
            conv2_padded: AlignedBuffer::zeros(FILTERS[0] * FILTERS[1] * layout::PADDED_TAPS),
            conv3_filter_major: AlignedBuffer::zeros(TENSORS[4].len()),
            dense1_transposed: AlignedBuffer::zeros(TENSORS[6].len()),
            dense2: AlignedBuffer::zeros(HIDDEN * LOGITS),
            dense2_transposed: AlignedBuffer::zeros(HIDDEN * LOGITS),
            dense2_bias: AlignedBuffer::zeros(LOGITS),
        }
    }

    /// Takes over `weights [PARAMETERS]`.
    ///
    /// # Panics
    /// If the length is wrong.
    pub fn load(&mut self, weights: &[f32]) {
        assert_eq!(weights.len(), PARAMETERS, "number of weights");
        let cpu = self.cpu;
        self.canonical.copy_from_slice(weights);
        let (w, b) = (kernel(weights, 0), vector(weights, 1));
        self.background1.update(&[0.0], |x, y, places| {
            conv2d::forward_first_relu_pool(cpu, x, w, b, None, y, places, ink_mut(&mut [0], 1, 1));
        });
        conv2d::kernel_points(cpu, kernel(weights, 2), points_mut(&mut self.conv2_points, FILTERS[1]));
        let (w, b) = (points(&self.conv2_points, FILTERS[1]), vector(weights, 3));
        self.background2.update(self.background1.y(), |x, y, places| {
            conv2d::forward_relu_pool(cpu, x, w, b, None, y, places);
        });
        let conv2 = padded_mut(&mut self.conv2_padded, FILTERS[1]);
        layout::to_padded_filter_major(cpu, kernel(weights, 2), conv2);
        let conv3 = filter_major_mut(&mut self.conv3_filter_major, FILTERS[2]);
        layout::to_filter_major(cpu, kernel(weights, 4), conv3);
        layout::transpose(cpu, matrix(weights, 6), rows_mut(&mut self.dense1_transposed, HIDDEN));
        let dense2 = matrix(weights, 8);
        rows_mut(&mut self.dense2, HIDDEN).slice_mut(s![.., ..CLASSES]).assign(&dense2);
        rows_mut(&mut self.dense2_transposed, LOGITS).slice_mut(s![..CLASSES, ..]).assign(&dense2.t());
        self.dense2_bias[..CLASSES].copy_from_slice(&weights[TENSORS[9].range()]);
    }

    /// Overwrites `gradient [PARAMETERS]` with the sum over `images [N, 28, 28]` and `labels [N]`, in their order.
    ///
    /// `N` may be 0: the sum of nothing is zero.
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
        let result = self.shard_gradient_while(images, labels, ws, gradient, |_| {}, |_| true);
        result.expect("nobody stops it")
    }

    /// Does what [`Self::shard_gradient`] does, and calls `done` after each part of each group of examples, so that the
    /// parts can be measured. After each group it calls `go_on` with the number of its examples, so that they can be
    /// counted; if that says stop, there is no result, and `gradient` is untouched.
    ///
    /// # Panics
    /// As it does.
    pub fn shard_gradient_while(
        &self,
        images: ArrayView3<u8>,
        labels: ArrayView1<u8>,
        ws: &mut Workspace,
        gradient: &mut [f32],
        mut done: impl FnMut(Part),
        mut go_on: impl FnMut(u32) -> bool,
    ) -> Option<ShardResult> {
        assert_eq!(gradient.len(), PARAMETERS, "number of gradient elements");
        assert_shapes(images, labels);
        let mut total = ShardResult::default();
        ws.sums.clear();
        for (images, labels) in
            images.axis_chunks_iter(Axis(0), GROUP).zip(labels.axis_chunks_iter(Axis(0), GROUP))
        {
            for part in Part::ALL {
                self.compute(part, images, labels, ws, &mut total);
                done(part);
            }
            if !go_on(labels.len() as u32) {
                return None;
            }
        }
        ws.sums.write(self.cpu, gradient);
        total.loss += 0.0;
        Some(total)
    }

    /// Computes one part for up to [`GROUP`] examples, `images [n, 28, 28]` and `labels [n]`.
    ///
    /// Public for measurements: the same part may be computed again, which adds its gradients to the sums again.
    ///
    /// # Panics
    /// If a shape is wrong, there are more than [`GROUP`] examples, or a label is not below 10.
    pub fn compute(
        &self,
        part: Part,
        images: ArrayView3<u8>,
        labels: ArrayView1<u8>,
        ws: &mut Workspace,
        total: &mut ShardResult,
    ) {
        let n = labels.len();
        match part {
            Part::Pixels => {
                assert!(n <= GROUP, "{n} examples, more than {GROUP}");
                let images = images.as_standard_layout();
                let images = images.as_slice().expect("the standard layout");
                pixels::forward(self.cpu, images, &mut ws.activations.x[..images.len()]);
            }
            Part::Forward(layer) => self.forward_layer(layer, n, ws),
            Part::Loss => {
                let z = rows(&ws.activations.z5, GROUP);
                let mut dz = rows_mut(&mut ws.dz5, GROUP);
                total.correct += softmax_cross_entropy::forward_backward(
                    z.slice(s![..n, ..CLASSES]),
                    labels,
                    dz.slice_mut(s![..n, ..CLASSES]),
                    &mut total.loss,
                );
            }
            Part::Backward(layer) => self.backward_layer(layer, n, ws),
        }
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
        confusion: &mut [u32; CLASSES * CLASSES],
    ) -> ShardResult {
        self.evaluate_while(images, labels, ws, confusion, |_| true).expect("nobody stops it")
    }

    /// Does what [`Self::evaluate`] does, and calls `go_on` after each group of examples with their number, so that
    /// they can be counted; if that says stop, there is no result, and `confusion` has a part of it.
    ///
    /// # Panics
    /// As it does.
    pub fn evaluate_while(
        &self,
        images: ArrayView3<u8>,
        labels: ArrayView1<u8>,
        ws: &mut Workspace,
        confusion: &mut [u32; CLASSES * CLASSES],
        mut go_on: impl FnMut(u32) -> bool,
    ) -> Option<ShardResult> {
        assert_shapes(images, labels);
        let mut total = ShardResult::default();
        for (images, labels) in
            images.axis_chunks_iter(Axis(0), GROUP).zip(labels.axis_chunks_iter(Axis(0), GROUP))
        {
            for part in Part::ALL.into_iter().take_while(|&part| part != Part::Loss) {
                self.compute(part, images, labels, ws, &mut total);
            }
            for (z5, &label) in rows(&ws.activations.z5, GROUP).outer_iter().zip(labels) {
                let label = usize::from(label);
                let (loss, predicted) = softmax_cross_entropy::forward(z5.slice(s![..CLASSES]), label);
                total.loss += loss;
                total.correct += u32::from(predicted == label);
                confusion[label * CLASSES + predicted] += 1;
            }
            if !go_on(labels.len() as u32) {
                return None;
            }
        }
        total.loss += 0.0;
        Some(total)
    }
}

fn assert_shapes(images: ArrayView3<u8>, labels: ArrayView1<u8>) {
    assert_eq!(
        images.dim(),
        (labels.len(), IMAGE_SIDE, IMAGE_SIDE),
        "shape of the images beside their labels"
    );
}

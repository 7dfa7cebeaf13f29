//! The network on this machine: a shard's gradient on one screen, and its evaluation.
//!
//! Owns the order of the layers and the private layouts of weights and sums; the arithmetic is the kernels'. One
//! thread computes a shard, and its examples are summed one after the other. Never allocates after construction.

use lockstep_kernels::{AlignedBuffer, Cpu, conv2d, dense, softmax_cross_entropy};
use ndarray::{ArrayView1, ArrayView2, ArrayView3, ArrayView4, ArrayView5, Axis, s};
use ndarray::{ArrayViewMut1, ArrayViewMut2, ArrayViewMut4, ArrayViewMut5};

use crate::parameters::{CLASSES, IMAGE_SIDE, PARAMETERS, TENSORS};

/// Examples that go through the layers together. Four share each load of the dense weights and still fit the
/// second-level cache; a shard of the default batch has four.
const GROUP: usize = 4;
/// Side of what conv2 reads of pool1: 12 of 13 places.
const POOL1: usize = 12;
/// Side of pool2.
const POOL2: usize = 5;
/// Side of conv3's output.
const CONV3: usize = 3;
/// Channels of conv1; filters of conv2 and conv3.
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
    /// The canonical layout; the forward convolutions and dense1 read it as it is.
    canonical: AlignedBuffer,
    /// `[1, 32, 13, 16]`.
    conv2_padded: AlignedBuffer,
    /// `[2, 32, 3, 3, 16]`.
    conv3_filter_major: AlignedBuffer,
    /// `[64, 288]`.
    dense1_transposed: AlignedBuffer,
    /// `[64, 16]`, its transpose, and `[16]`.
    dense2: AlignedBuffer,
    dense2_transposed: AlignedBuffer,
    dense2_bias: AlignedBuffer,
}

/// All scratch memory of a shard's computation; one per thread.
#[derive(Debug)]
pub struct Workspace {
    /// The input value of each pixel.
    pixels: [f32; 256],
    activations: Activations,
    sums: GradientSums,
    /// Gradients of the activations of the same names.
    dz5: AlignedBuffer,
    da4: AlignedBuffer,
    da3: AlignedBuffer,
    dp2: AlignedBuffer,
    dp1: AlignedBuffer,
    events: conv2d::Events,
}

/// Outputs of the layers for a group of examples.
#[derive(Debug)]
struct Activations {
    x: AlignedBuffer,
    p1: AlignedBuffer,
    places1: Box<[u32]>,
    p2: AlignedBuffer,
    places2: Box<[u32]>,
    a3: AlignedBuffer,
    a4: AlignedBuffer,
    z5: AlignedBuffer,
}

/// A shard's gradient sums in the kernels' layouts; they become canonical at the end of the shard, before any tree
/// node is formed, because added in another layout they would be other numbers.
#[derive(Debug)]
struct GradientSums {
    conv1: AlignedBuffer,
    conv1_bias: AlignedBuffer,
    conv2_filter_major: AlignedBuffer,
    conv2_bias: AlignedBuffer,
    conv3_filter_major: AlignedBuffer,
    conv3_bias: AlignedBuffer,
    dense1: AlignedBuffer,
    dense1_bias: AlignedBuffer,
    dense2: AlignedBuffer,
    dense2_bias: AlignedBuffer,
}

/// Loss and correct answers of a shard, as sums over its examples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ShardResult {
    /// Sum of the losses.
    pub loss: f32,
    /// Number of examples whose argmax is their label.
    pub correct: u32,
}

impl Network {
    /// A network of zero weights on the instruction set `cpu`.
    pub fn new(cpu: Cpu) -> Self {
        Self {
            cpu,
            canonical: AlignedBuffer::zeros(PARAMETERS),
            conv2_padded: AlignedBuffer::zeros(FILTERS[0] * FILTERS[1] * conv2d::PADDED_TAPS),
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
        self.canonical.copy_from_slice(weights);
        conv2d::to_padded_filter_major(kernel(weights, 2), padded_mut(&mut self.conv2_padded));
        conv2d::to_filter_major(kernel(weights, 4), filter_major_mut(&mut self.conv3_filter_major));
        dense::transpose(matrix(weights, 6), rows_mut(&mut self.dense1_transposed, HIDDEN));
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
        assert_eq!(gradient.len(), PARAMETERS, "number of gradient elements");
        assert_shapes(images, labels);
        let mut total = ShardResult { loss: 0.0, correct: 0 };
        ws.sums.clear();
        for (images, labels) in
            images.axis_chunks_iter(Axis(0), GROUP).zip(labels.axis_chunks_iter(Axis(0), GROUP))
        {
            self.forward(images, &ws.pixels, &mut ws.activations);
            let n = labels.len();
            let z5 = rows(&ws.activations.z5, GROUP);
            let z5 = z5.slice(s![..n, ..CLASSES]);
            let mut dz5 = rows_mut(&mut ws.dz5, GROUP);
            let dz5 = dz5.slice_mut(s![..n, ..CLASSES]);
            total.correct += softmax_cross_entropy::forward_backward(z5, labels, dz5, &mut total.loss);
            self.backward(n, ws);
        }
        ws.sums.write(gradient);
        total.loss += 0.0;
        total
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
        assert_shapes(images, labels);
        let mut total = ShardResult { loss: 0.0, correct: 0 };
        for (images, labels) in
            images.axis_chunks_iter(Axis(0), GROUP).zip(labels.axis_chunks_iter(Axis(0), GROUP))
        {
            self.forward(images, &ws.pixels, &mut ws.activations);
            for (z5, &label) in rows(&ws.activations.z5, GROUP).outer_iter().zip(labels) {
                let label = usize::from(label);
                let (loss, predicted) = softmax_cross_entropy::forward(z5.slice(s![..CLASSES]), label);
                total.loss += loss;
                total.correct += u32::from(predicted == label);
                confusion[label * CLASSES + predicted] += 1;
            }
        }
        total.loss += 0.0;
        total
    }

    /// A group of images to activations.
    fn forward(&self, images: ArrayView3<u8>, pixels: &[f32; 256], a: &mut Activations) {
        let (n, cpu, w) = (images.dim().0, self.cpu, &self.canonical);
        for (x, &pixel) in a.x.iter_mut().zip(images) {
            *x = pixels[usize::from(pixel)];
        }
        let x = maps(&a.x, n, IMAGE_SIDE, 1);
        let (p1, places1) =
            (maps_mut(&mut a.p1, n, POOL1, FILTERS[0]), maps_mut(&mut a.places1, n, POOL1, FILTERS[0]));
        conv2d::forward_relu_pool(cpu, x, kernel(w, 0), vector(w, 1), p1, places1);
        let x = maps(&a.p1, n, POOL1, FILTERS[0]);
        let (p2, places2) =
            (maps_mut(&mut a.p2, n, POOL2, FILTERS[1]), maps_mut(&mut a.places2, n, POOL2, FILTERS[1]));
        conv2d::forward_relu_pool(cpu, x, kernel(w, 2), vector(w, 3), p2, places2);
        let x = maps(&a.p2, n, POOL2, FILTERS[1]);
        conv2d::forward_relu(cpu, x, kernel(w, 4), vector(w, 5), maps_mut(&mut a.a3, n, CONV3, FILTERS[2]));
        let x = rows(&a.a3[..n * FLAT], n);
        dense::forward_relu(cpu, x, matrix(w, 6), vector(w, 7), rows_mut(&mut a.a4[..n * HIDDEN], n));
        let (x, bias) = (rows(&a.a4[..n * HIDDEN], n), ArrayView1::from(&*self.dense2_bias));
        dense::forward(cpu, x, rows(&self.dense2, HIDDEN), bias, rows_mut(&mut a.z5[..n * LOGITS], n));
    }

    /// Adds a group's gradients to the shard's sums, from `dz5` back to the first layer.
    fn backward(&self, n: usize, ws: &mut Workspace) {
        let Workspace { activations: a, sums, dz5, da4, da3, dp2, dp1, events, .. } = ws;
        let cpu = self.cpu;
        let dz5 = rows(&dz5[..n * LOGITS], n);
        let a4 = rows(&a.a4[..n * HIDDEN], n);
        let dw = rows_mut(&mut sums.dense2, HIDDEN);
        dense::backward_weights(cpu, a4, dz5, dw, ArrayViewMut1::from(&mut *sums.dense2_bias));
        let da4 = &mut da4[..n * HIDDEN];
        dense::backward_input(cpu, dz5, rows(&self.dense2_transposed, LOGITS), rows_mut(da4, n));

        dense::relu_backward(&a.a4[..n * HIDDEN], da4);
        let a3 = rows(&a.a3[..n * FLAT], n);
        let dw = rows_mut(&mut sums.dense1, FLAT);
        dense::backward_weights(cpu, a3, rows(da4, n), dw, ArrayViewMut1::from(&mut *sums.dense1_bias));
        let da3 = &mut da3[..n * FLAT];
        dense::backward_input(cpu, rows(da4, n), rows(&self.dense1_transposed, HIDDEN), rows_mut(da3, n));

        conv2d::backward_relu(
            cpu,
            maps(&a.p2, n, POOL2, FILTERS[1]),
            filter_major(&self.conv3_filter_major),
            maps(&a.a3, n, CONV3, FILTERS[2]),
            maps(da3, n, CONV3, FILTERS[2]),
            events,
            filter_major_mut(&mut sums.conv3_filter_major),
            ArrayViewMut1::from(&mut *sums.conv3_bias),
            maps_mut(dp2, n, POOL2, FILTERS[1]),
        );
        conv2d::backward_relu_pool(
            cpu,
            maps(&a.p1, n, POOL1, FILTERS[0]),
            padded(&self.conv2_padded),
            maps(&a.p2, n, POOL2, FILTERS[1]),
            maps(&a.places2, n, POOL2, FILTERS[1]),
            maps(dp2, n, POOL2, FILTERS[1]),
            events,
            filter_major_mut(&mut sums.conv2_filter_major),
            ArrayViewMut1::from(&mut *sums.conv2_bias),
            maps_mut(dp1, n, POOL1, FILTERS[0]),
        );
        conv2d::backward_first_relu_pool(
            cpu,
            maps(&a.x, n, IMAGE_SIDE, 1),
            maps(&a.p1, n, POOL1, FILTERS[0]),
            maps(&a.places1, n, POOL1, FILTERS[0]),
            maps(dp1, n, POOL1, FILTERS[0]),
            ArrayViewMut4::from_shape((3, 3, 1, FILTERS[0]), &mut sums.conv1).expect("conv1's kernel"),
            ArrayViewMut1::from(&mut *sums.conv1_bias),
        );
    }
}

impl Workspace {
    /// Memory for one thread.
    pub fn new() -> Self {
        let zeros = AlignedBuffer::zeros;
        let [p1, p2] = [GROUP * POOL1 * POOL1 * FILTERS[0], GROUP * POOL2 * POOL2 * FILTERS[1]];
        Self {
            pixels: std::array::from_fn(|value| value as f32 / 255.0),
            activations: Activations {
                x: zeros(GROUP * IMAGE_SIDE * IMAGE_SIDE),
                p1: zeros(p1),
                places1: vec![0; p1].into(),
                p2: zeros(p2),
                places2: vec![0; p2].into(),
                a3: zeros(GROUP * FLAT),
                a4: zeros(GROUP * HIDDEN),
                z5: zeros(GROUP * LOGITS),
            },
            sums: GradientSums {
                conv1: zeros(TENSORS[0].len()),
                conv1_bias: zeros(TENSORS[1].len()),
                conv2_filter_major: zeros(TENSORS[2].len()),
                conv2_bias: zeros(TENSORS[3].len()),
                conv3_filter_major: zeros(TENSORS[4].len()),
                conv3_bias: zeros(TENSORS[5].len()),
                dense1: zeros(TENSORS[6].len()),
                dense1_bias: zeros(TENSORS[7].len()),
                dense2: zeros(HIDDEN * LOGITS),
                dense2_bias: zeros(LOGITS),
            },
            dz5: zeros(GROUP * LOGITS),
            da4: zeros(GROUP * HIDDEN),
            da3: zeros(GROUP * FLAT),
            dp2: zeros(p2),
            dp1: zeros(p1),
            events: conv2d::Events::new(GROUP, POOL2 * POOL2, FILTERS[1]),
        }
    }
}

impl Default for Workspace {
    fn default() -> Self {
        Self::new()
    }
}

impl GradientSums {
    fn clear(&mut self) {
        for sums in [
            &mut self.conv1,
            &mut self.conv1_bias,
            &mut self.conv2_filter_major,
            &mut self.conv2_bias,
            &mut self.conv3_filter_major,
            &mut self.conv3_bias,
            &mut self.dense1,
            &mut self.dense1_bias,
            &mut self.dense2,
            &mut self.dense2_bias,
        ] {
            sums.fill(0.0);
        }
    }

    /// Writes the sums in the canonical layout and ends each with `+ 0.0`.
    fn write(&self, gradient: &mut [f32]) {
        for (tensor, sums) in [
            (0, &self.conv1),
            (1, &self.conv1_bias),
            (3, &self.conv2_bias),
            (5, &self.conv3_bias),
            (6, &self.dense1),
            (7, &self.dense1_bias),
        ] {
            gradient[TENSORS[tensor].range()].copy_from_slice(sums);
        }
        gradient[TENSORS[9].range()].copy_from_slice(&self.dense2_bias[..CLASSES]);
        conv2d::from_filter_major(filter_major(&self.conv2_filter_major), kernel_mut(gradient, 2));
        conv2d::from_filter_major(filter_major(&self.conv3_filter_major), kernel_mut(gradient, 4));
        let dense2 = &mut gradient[TENSORS[8].range()];
        for (row, padded) in dense2.chunks_exact_mut(CLASSES).zip(self.dense2.chunks_exact(LOGITS)) {
            row.copy_from_slice(&padded[..CLASSES]);
        }
        for sum in gradient {
            *sum += 0.0;
        }
    }
}

fn assert_shapes(images: ArrayView3<u8>, labels: ArrayView1<u8>) {
    assert_eq!(
        images.dim(),
        (labels.len(), IMAGE_SIDE, IMAGE_SIDE),
        "shape of the images beside their labels"
    );
}

/// Feature maps `[n, side, side, channels]` of the first `n` examples.
fn maps<T>(values: &[T], n: usize, side: usize, channels: usize) -> ArrayView4<'_, T> {
    let len = n * side * side * channels;
    ArrayView4::from_shape((n, side, side, channels), &values[..len]).expect("a buffer of that many elements")
}

fn maps_mut<T>(values: &mut [T], n: usize, side: usize, channels: usize) -> ArrayViewMut4<'_, T> {
    let len = n * side * side * channels;
    ArrayViewMut4::from_shape((n, side, side, channels), &mut values[..len])
        .expect("a buffer of that many elements")
}

/// All of `values` as `count` rows.
fn rows(values: &[f32], count: usize) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((count, values.len() / count), values).expect("whole rows")
}

fn rows_mut(values: &mut [f32], count: usize) -> ArrayViewMut2<'_, f32> {
    ArrayViewMut2::from_shape((count, values.len() / count), values).expect("whole rows")
}

/// All of `values` as a filter-major kernel `[C/16, 32, 3, 3, 16]`.
fn filter_major(values: &[f32]) -> ArrayView5<'_, f32> {
    let shape = (values.len() / (32 * 9 * 16), 32, 3, 3, 16);
    ArrayView5::from_shape(shape, values).expect("whole blocks of channels")
}

fn filter_major_mut(values: &mut [f32]) -> ArrayViewMut5<'_, f32> {
    let shape = (values.len() / (32 * 9 * 16), 32, 3, 3, 16);
    ArrayViewMut5::from_shape(shape, values).expect("whole blocks of channels")
}

/// All of `values` as a padded filter-major kernel `[1, 32, 13, 16]`.
fn padded(values: &[f32]) -> ArrayView4<'_, f32> {
    ArrayView4::from_shape((1, FILTERS[1], conv2d::PADDED_TAPS, 16), values).expect("conv2's kernel")
}

fn padded_mut(values: &mut [f32]) -> ArrayViewMut4<'_, f32> {
    ArrayViewMut4::from_shape((1, FILTERS[1], conv2d::PADDED_TAPS, 16), values).expect("conv2's kernel")
}

/// A tensor of the canonical layout.
fn vector(weights: &[f32], tensor: usize) -> ArrayView1<'_, f32> {
    ArrayView1::from(&weights[TENSORS[tensor].range()])
}

fn matrix(weights: &[f32], tensor: usize) -> ArrayView2<'_, f32> {
    rows(&weights[TENSORS[tensor].range()], TENSORS[tensor].shape[0])
}

fn kernel(weights: &[f32], tensor: usize) -> ArrayView4<'_, f32> {
    let [height, width, channels, filters] = *TENSORS[tensor].shape else {
        unreachable!("a convolution's kernel")
    };
    ArrayView4::from_shape((height, width, channels, filters), &weights[TENSORS[tensor].range()])
        .expect("the table's shape")
}

fn kernel_mut(weights: &mut [f32], tensor: usize) -> ArrayViewMut4<'_, f32> {
    let [height, width, channels, filters] = *TENSORS[tensor].shape else {
        unreachable!("a convolution's kernel")
    };
    ArrayViewMut4::from_shape((height, width, channels, filters), &mut weights[TENSORS[tensor].range()])
        .expect("the table's shape")
}

//! The layers, one at a time: which kernel computes each, from which buffers into which.
//!
//! Pooling belongs to the convolution before it, and a ReLU to the layer that it follows.

use std::fmt;
use std::str::FromStr;

use lockstep_kernels::{conv2d, dense};
use ndarray::{ArrayView1, ArrayViewMut1, ArrayViewMut4};

use super::views::{
    filter_major, filter_major_mut, ink, ink_mut, kernel, maps, maps_mut, matrix, padded, points, rows,
    rows_mut, vector,
};
use super::{CONV3, FILTERS, FLAT, HIDDEN, LOGITS, Network, POOL1, POOL2, Workspace};
use crate::parameters::IMAGE_SIDE;

/// A layer with parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layer {
    /// Convolution 3x3 to 16 filters, ReLU, max pooling.
    Conv1,
    /// Convolution 3x3 to 32 filters, ReLU, max pooling.
    Conv2,
    /// Convolution 3x3 to 32 filters, ReLU.
    Conv3,
    /// Dense to 64, ReLU.
    Dense1,
    /// Dense to 10 logits.
    Dense2,
}

impl Layer {
    /// In the order of the forward pass.
    pub const ALL: [Self; 5] = [Self::Conv1, Self::Conv2, Self::Conv3, Self::Dense1, Self::Dense2];

    /// Its name, that of its parameters before the dot.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Conv1 => "conv1",
            Self::Conv2 => "conv2",
            Self::Conv3 => "conv3",
            Self::Dense1 => "dense1",
            Self::Dense2 => "dense2",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// No layer of the network has that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no such layer; there are {}", Layer::ALL.map(Layer::name).join(", "))]
pub struct UnknownLayer;

impl FromStr for Layer {
    type Err = UnknownLayer;

    fn from_str(name: &str) -> Result<Self, UnknownLayer> {
        Self::ALL.into_iter().find(|layer| layer.name() == name).ok_or(UnknownLayer)
    }
}

impl Network {
    /// Computes one layer's outputs for the first `n` examples of the group whose inputs the workspace holds.
    pub(super) fn forward_layer(&self, layer: Layer, n: usize, ws: &mut Workspace) {
        let (cpu, w, a) = (self.cpu, &*self.canonical, &mut ws.activations);
        match layer {
            Layer::Conv1 => {
                let y = maps_mut(&mut a.p1, n, POOL1, FILTERS[0]);
                let places = maps_mut(&mut a.places1, n, POOL1, FILTERS[0]);
                let background = Some(&self.background1);
                let x = maps(&a.x, n, IMAGE_SIDE, 1);
                let (w, b, ink) = (kernel(w, 0), vector(w, 1), ink_mut(&mut a.ink1, n, POOL1));
                conv2d::forward_first_relu_pool(cpu, x, w, b, background, y, places, ink);
            }
            Layer::Conv2 => {
                let y = maps_mut(&mut a.p2, n, POOL2, FILTERS[1]);
                let places = maps_mut(&mut a.places2, n, POOL2, FILTERS[1]);
                let background = Some((&self.background2, ink(&a.ink1, n, POOL1)));
                let x = maps(&a.p1, n, POOL1, FILTERS[0]);
                let kernel = points(&self.conv2_points, FILTERS[1]);
                conv2d::forward_relu_pool(cpu, x, kernel, vector(w, 3), background, y, places);
            }
            Layer::Conv3 => {
                let y = maps_mut(&mut a.a3, n, CONV3, FILTERS[2]);
                let x = maps(&a.p2, n, POOL2, FILTERS[1]);
                conv2d::forward_relu(cpu, x, kernel(w, 4), vector(w, 5), y);
            }
            Layer::Dense1 => {
                let (x, y) = (rows(&a.a3[..n * FLAT], n), rows_mut(&mut a.a4[..n * HIDDEN], n));
                dense::forward_relu(cpu, x, matrix(w, 6), vector(w, 7), y);
            }
            Layer::Dense2 => {
                let (x, z) = (rows(&a.a4[..n * HIDDEN], n), rows_mut(&mut a.z5[..n * LOGITS], n));
                let bias = ArrayView1::from(&*self.dense2_bias);
                dense::forward(cpu, x, rows(&self.dense2, HIDDEN), bias, z);
            }
        }
    }

    /// Adds one layer's gradients to the shard's sums, and computes those of its inputs from those of its outputs.
    pub(super) fn backward_layer(&self, layer: Layer, n: usize, ws: &mut Workspace) {
        let Workspace { activations: a, sums, dz5, da4, da3, dp2, dp1, events, .. } = ws;
        let cpu = self.cpu;
        match layer {
            Layer::Dense2 => {
                let (x, dz) = (rows(&a.a4[..n * HIDDEN], n), rows(&dz5[..n * LOGITS], n));
                let db = ArrayViewMut1::from(&mut *sums.dense2_bias);
                dense::backward_weights(cpu, x, dz, rows_mut(&mut sums.dense2, HIDDEN), db);
                let dx = rows_mut(&mut da4[..n * HIDDEN], n);
                dense::backward_input(cpu, dz, rows(&self.dense2_transposed, LOGITS), dx);
                dense::relu_backward(&a.a4[..n * HIDDEN], &mut da4[..n * HIDDEN]);
            }
            Layer::Dense1 => {
                let (x, dz) = (rows(&a.a3[..n * FLAT], n), rows(&da4[..n * HIDDEN], n));
                let db = ArrayViewMut1::from(&mut *sums.dense1_bias);
                dense::backward_weights(cpu, x, dz, rows_mut(&mut sums.dense1, FLAT), db);
                let dx = rows_mut(&mut da3[..n * FLAT], n);
                dense::backward_input(cpu, dz, rows(&self.dense1_transposed, HIDDEN), dx);
            }
            Layer::Conv3 => conv2d::backward_relu(
                cpu,
                maps(&a.p2, n, POOL2, FILTERS[1]),
                filter_major(&self.conv3_filter_major, FILTERS[2]),
                maps(&a.a3, n, CONV3, FILTERS[2]),
                maps(da3, n, CONV3, FILTERS[2]),
                events,
                filter_major_mut(&mut sums.conv3_filter_major, FILTERS[2]),
                ArrayViewMut1::from(&mut *sums.conv3_bias),
                maps_mut(dp2, n, POOL2, FILTERS[1]),
            ),
            Layer::Conv2 => conv2d::backward_relu_pool(
                cpu,
                maps(&a.p1, n, POOL1, FILTERS[0]),
                padded(&self.conv2_padded, FILTERS[1]),
                maps(&a.p2, n, POOL2, FILTERS[1]),
                maps(&a.places2, n, POOL2, FILTERS[1]),
                maps(dp2, n, POOL2, FILTERS[1]),
                events,
                filter_major_mut(&mut sums.conv2_filter_major, FILTERS[1]),
                ArrayViewMut1::from(&mut *sums.conv2_bias),
                maps_mut(dp1, n, POOL1, FILTERS[0]),
            ),
            Layer::Conv1 => conv2d::backward_first_relu_pool(
                cpu,
                maps(&a.x, n, IMAGE_SIDE, 1),
                maps(&a.p1, n, POOL1, FILTERS[0]),
                maps(&a.places1, n, POOL1, FILTERS[0]),
                maps(dp1, n, POOL1, FILTERS[0]),
                ArrayViewMut4::from_shape((3, 3, 1, FILTERS[0]), &mut sums.conv1).expect("conv1's kernel"),
                ArrayViewMut1::from(&mut *sums.conv1_bias),
            ),
        }
    }
}

//! Scratch memory of one thread: activations of a group of examples, their gradients, and a shard's sums.
//!
//! Owns the kernels' private layouts of gradients and their way back to the canonical one.

use lockstep_kernels::layout::from_filter_major;
use lockstep_kernels::{AlignedBuffer, Cpu, conv2d, sums};

use super::views::{filter_major, kernel_mut};
use super::{CONV3, FILTERS, FLAT, GROUP, HIDDEN, LOGITS, POOL1, POOL2};
use crate::parameters::{CLASSES, IMAGE_SIDE, TENSORS};

/// All scratch memory of a shard's computation; one per thread.
#[derive(Debug)]
pub struct Workspace {
    pub(super) activations: Activations,
    pub(super) sums: GradientSums,
    /// Gradients of the activations of the same names.
    pub(super) dz5: AlignedBuffer,
    pub(super) da4: AlignedBuffer,
    pub(super) da3: AlignedBuffer,
    pub(super) dp2: AlignedBuffer,
    pub(super) dp1: AlignedBuffer,
    pub(super) events: conv2d::Events,
}

/// Outputs of the layers for a group of examples.
#[derive(Debug)]
pub(super) struct Activations {
    pub(super) x: AlignedBuffer,
    pub(super) p1: AlignedBuffer,
    pub(super) places1: Box<[u32]>,
    /// Where conv1 saw more than background.
    pub(super) ink1: Box<[u8]>,
    pub(super) p2: AlignedBuffer,
    pub(super) places2: Box<[u32]>,
    pub(super) a3: AlignedBuffer,
    pub(super) a4: AlignedBuffer,
    pub(super) z5: AlignedBuffer,
}

/// A shard's gradient sums in the kernels' layouts; they become canonical at the end of the shard, before any tree
/// node is formed, because added in another layout they would be other numbers.
#[derive(Debug)]
pub(super) struct GradientSums {
    pub(super) conv1: AlignedBuffer,
    pub(super) conv1_bias: AlignedBuffer,
    pub(super) conv2_filter_major: AlignedBuffer,
    pub(super) conv2_bias: AlignedBuffer,
    pub(super) conv3_filter_major: AlignedBuffer,
    pub(super) conv3_bias: AlignedBuffer,
    pub(super) dense1: AlignedBuffer,
    pub(super) dense1_bias: AlignedBuffer,
    pub(super) dense2: AlignedBuffer,
    pub(super) dense2_bias: AlignedBuffer,
}

impl Workspace {
    /// Memory for one thread.
    pub fn new() -> Self {
        let zeros = AlignedBuffer::zeros;
        let [p1, p2] = [GROUP * POOL1 * POOL1 * FILTERS[0], GROUP * POOL2 * POOL2 * FILTERS[1]];
        let windows = (POOL2 * POOL2).max(CONV3 * CONV3);
        Self {
            activations: Activations {
                x: zeros(GROUP * IMAGE_SIDE * IMAGE_SIDE),
                p1: zeros(p1),
                places1: vec![0; p1].into(),
                ink1: vec![0; GROUP * POOL1 * POOL1].into(),
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
            events: conv2d::Events::new(GROUP, windows, FILTERS[1].max(FILTERS[2])),
        }
    }
}

impl Default for Workspace {
    fn default() -> Self {
        Self::new()
    }
}

impl GradientSums {
    pub(super) fn clear(&mut self) {
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
    pub(super) fn write(&self, cpu: Cpu, gradient: &mut [f32]) {
        for (tensor, sums) in [
            (0, &self.conv1),
            (1, &self.conv1_bias),
            (3, &self.conv2_bias),
            (5, &self.conv3_bias),
            (6, &self.dense1),
            (7, &self.dense1_bias),
        ] {
            sums::close(cpu, sums, &mut gradient[TENSORS[tensor].range()]);
        }
        sums::close(cpu, &self.dense2_bias[..CLASSES], &mut gradient[TENSORS[9].range()]);
        from_filter_major(cpu, filter_major(&self.conv2_filter_major, FILTERS[1]), kernel_mut(gradient, 2));
        from_filter_major(cpu, filter_major(&self.conv3_filter_major, FILTERS[2]), kernel_mut(gradient, 4));
        let dense2 = &mut gradient[TENSORS[8].range()];
        for (row, padded) in dense2.chunks_exact_mut(CLASSES).zip(self.dense2.chunks_exact(LOGITS)) {
            for (closed, sum) in row.iter_mut().zip(padded) {
                *closed = sum + 0.0;
            }
        }
    }
}

//! Forward pass of a convolution with its ReLU, where no pooling follows.
//!
//! Lanes are filters. A tile of places times filters stays in registers while the terms run past it.

use ndarray::{ArrayView1, ArrayView4, ArrayViewMut4};

use super::Shape;
use crate::block::{LANES, Lanes, blocks, blocks_mut, elements, elements_mut, fma};
use crate::cpu::{Cpu, InstructionSet, Kernel};
use crate::reference::KERNEL_SIDE;

/// `x [N, H, W, C]` to `y [N, H-2, W-2, F]`: convolution and ReLU.
///
/// # Panics
/// If the shapes do not belong together, an array is not in standard layout, or `F` is neither 16 nor 32.
pub fn forward_relu(
    cpu: Cpu,
    x: ArrayView4<f32>,
    w: ArrayView4<f32>,
    b: ArrayView1<f32>,
    mut y: ArrayViewMut4<f32>,
) {
    let shape = Shape::of_maps(&x, b.len(), y.dim(), 1);
    let kernel = (KERNEL_SIDE, KERNEL_SIDE, shape.channels, shape.filters);
    assert_eq!(w.dim(), kernel, "shape of the convolution kernel");
    assert_eq!(shape.rows + 2, shape.height, "rows of the output");
    assert_eq!(shape.columns + 2, shape.width, "columns of the output");
    cpu.run(ForwardRelu {
        shape,
        x: elements(&x),
        w: elements(&w),
        b: elements(&b),
        y: elements_mut(&mut y),
    });
}

impl Shape {
    /// Of an input and of an output of `y.1` x `y.2` windows of side `window`.
    pub(super) fn of_maps(
        x: &ArrayView4<f32>,
        filters: usize,
        y: (usize, usize, usize, usize),
        window: usize,
    ) -> Self {
        let (examples, height, width, channels) = x.dim();
        let (_, rows, columns, _) = y;
        assert_eq!((y.0, y.3), (examples, filters), "examples and filters of the output");
        assert!(window * rows + 2 <= height && window * columns + 2 <= width, "windows beyond the input");
        assert!(filters == LANES || filters == 2 * LANES, "16 or 32 filters, not {filters}");
        Self { height, width, channels, filters, rows, columns }
    }
}

/// The weights and biases of a layer, in the blocks in which they are read.
#[derive(Clone, Copy)]
struct Weights<'a, const TOTAL: usize> {
    /// Terms in a row of the kernel: 3 C.
    row: usize,
    w: &'a [[Lanes<LANES>; TOTAL]],
    b: &'a [Lanes<LANES>; TOTAL],
}

impl<'a, const TOTAL: usize> Weights<'a, TOTAL> {
    #[inline(always)]
    fn new(w: &'a [f32], b: &'a [f32], channels: usize) -> Self {
        let b = blocks(b).first_chunk().expect("a bias for every filter");
        Self { row: KERNEL_SIDE * channels, w: blocks(blocks(w)), b }
    }

    /// `PLACES` places times `BLOCKS` blocks of filters from `first_block` on: the sums, without their final `+ 0.0`.
    ///
    /// `x` is one example, `stride` its row; `corners` are the elements of `x` under the upper left of the kernel.
    #[inline(always)]
    fn tile<S: InstructionSet, const PLACES: usize, const BLOCKS: usize>(
        &self,
        x: &[f32],
        stride: usize,
        corners: [usize; PLACES],
        first_block: usize,
    ) -> [[Lanes<LANES>; BLOCKS]; PLACES] {
        let mut sums = [[[0.0; LANES]; BLOCKS]; PLACES];
        for place in 0..PLACES {
            for block in 0..BLOCKS {
                sums[place][block] = self.b[first_block + block];
            }
        }
        for ky in 0..KERNEL_SIDE {
            let w = &self.w[ky * self.row..][..self.row];
            let mut under = [[].as_slice(); PLACES];
            for place in 0..PLACES {
                under[place] = &x[corners[place] + ky * stride..][..self.row];
            }
            for term in 0..self.row {
                for place in 0..PLACES {
                    for block in 0..BLOCKS {
                        let x = under[place][term];
                        fma::<S, LANES>(x, &w[term][first_block + block], &mut sums[place][block]);
                    }
                }
            }
        }
        sums
    }
}

struct ForwardRelu<'a> {
    shape: Shape,
    x: &'a [f32],
    w: &'a [f32],
    b: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for ForwardRelu<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: InstructionSet>(self) {
        match (self.shape.filters == LANES, S::WIDE) {
            (true, true) => self.filters::<S, 9, 1, 1>(),
            (true, false) => self.filters::<S, 3, 1, 1>(),
            (false, true) => self.filters::<S, 9, 2, 2>(),
            (false, false) => self.filters::<S, 2, 2, 2>(),
        }
    }
}

impl ForwardRelu<'_> {
    #[inline(always)]
    fn filters<S: InstructionSet, const PLACES: usize, const BLOCKS: usize, const TOTAL: usize>(self) {
        let shape = self.shape;
        let stride = shape.width * shape.channels;
        let weights = Weights::<TOTAL>::new(self.w, self.b, shape.channels);
        let places = shape.rows * shape.columns;
        let at = |place: usize| (place / shape.columns) * stride + (place % shape.columns) * shape.channels;
        for (x, y) in self.x.chunks_exact(shape.input()).zip(self.y.chunks_exact_mut(shape.output())) {
            let y: &mut [[Lanes<LANES>; TOTAL]] = blocks_mut(blocks_mut(y));
            for first_block in (0..TOTAL).step_by(BLOCKS) {
                let mut first = 0;
                while places - first >= PLACES {
                    let corners = std::array::from_fn(|place| at(first + place));
                    let z = weights.tile::<S, PLACES, BLOCKS>(x, stride, corners, first_block);
                    for place in 0..PLACES {
                        store_relu(&z[place], &mut y[first + place], first_block);
                    }
                    first += PLACES;
                }
                while first < places {
                    let z = weights.tile::<S, 1, BLOCKS>(x, stride, [at(first)], first_block);
                    store_relu(&z[0], &mut y[first], first_block);
                    first += 1;
                }
            }
        }
    }
}

#[inline(always)]
fn store_relu<const BLOCKS: usize, const TOTAL: usize>(
    z: &[Lanes<LANES>; BLOCKS],
    y: &mut [Lanes<LANES>; TOTAL],
    first_block: usize,
) {
    for block in 0..BLOCKS {
        for lane in 0..LANES {
            y[first_block + block][lane] = if z[block][lane] > 0.0 { z[block][lane] } else { 0.0 };
        }
    }
}

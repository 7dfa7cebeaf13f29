//! Forward passes: convolution and ReLU, with or without max pooling.
//!
//! Lanes are filters. A tile of places times filters stays in registers while the terms run past it; the pooling
//! takes the four places of a window straight from there.

use ndarray::{ArrayView1, ArrayView4, ArrayViewMut4};

use super::Shape;
use super::background::{Background, Ink};
use super::first::ForwardFirst;
use crate::block::{LANES, Lanes, blocks, blocks_mut, elements, elements_mut, fma};
use crate::cpu::{Cpu, InstructionSet, Kernel};
use crate::max_pool2d::relu_max;
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
    let shape = Shape::of_forward(&x, &w, &b, y.dim(), 1);
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

/// `x [N, H, W, C]` to `y [N, R, S, F]` and the winning `places` (0 to 3): convolution, ReLU, max pooling 2x2.
///
/// Only `R` rows of `S` windows are computed, from the upper left corner; nobody reads the rest. With a `background`
/// of this layer, windows that see nothing else are copied from it.
///
/// # Panics
/// If the shapes do not belong together, `x` has no room for the windows, an array is not in standard layout, or `F`
/// is neither 16 nor 32.
pub fn forward_relu_pool(
    cpu: Cpu,
    x: ArrayView4<f32>,
    w: ArrayView4<f32>,
    b: ArrayView1<f32>,
    background: Option<&Background>,
    mut y: ArrayViewMut4<f32>,
    mut places: ArrayViewMut4<u32>,
) {
    let shape = Shape::of_forward(&x, &w, &b, y.dim(), 2);
    assert_eq!(places.dim(), y.dim(), "shape of the winning places");
    if let Some(background) = background {
        let sizes = (background.x().len(), background.y().len());
        assert_eq!(sizes, (shape.channels, shape.filters), "channels and filters of the background");
    }
    let (x, w, b) = (elements(&x), elements(&w), elements(&b));
    let (y, places) = (elements_mut(&mut y), elements_mut(&mut places));
    if (shape.channels, shape.filters) == (1, LANES) {
        cpu.run(ForwardFirst { shape, x, w, b, background, y, places });
    } else {
        cpu.run(ForwardReluPool { shape, x, w, b, background, y, places });
    }
}

impl Shape {
    fn of_forward(
        x: &ArrayView4<f32>,
        w: &ArrayView4<f32>,
        b: &ArrayView1<f32>,
        y: (usize, usize, usize, usize),
        window: usize,
    ) -> Self {
        let (examples, height, width, channels) = x.dim();
        let filters = b.len();
        let (_, rows, columns, _) = y;
        assert_eq!(w.dim(), (KERNEL_SIDE, KERNEL_SIDE, channels, filters), "shape of the convolution kernel");
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

struct ForwardReluPool<'a> {
    shape: Shape,
    x: &'a [f32],
    w: &'a [f32],
    b: &'a [f32],
    background: Option<&'a Background>,
    y: &'a mut [f32],
    places: &'a mut [u32],
}

impl Kernel for ForwardReluPool<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: InstructionSet>(self) {
        // Places times blocks: 16 registers of 512 bits for sums, or 8 of 256 bits; the rest holds weights and inputs.
        match (self.shape.filters == LANES, S::WIDE) {
            (true, true) => self.filters::<S, 2, 8, 1, 1>(),
            (true, false) => self.filters::<S, 1, 4, 1, 1>(),
            (false, true) => self.filters::<S, 2, 8, 2, 2>(),
            (false, false) => self.filters::<S, 1, 4, 1, 2>(),
        }
    }
}

impl ForwardReluPool<'_> {
    /// `PLACES` is four times `WINDOWS`.
    #[inline(always)]
    fn filters<
        S: InstructionSet,
        const WINDOWS: usize,
        const PLACES: usize,
        const BLOCKS: usize,
        const TOTAL: usize,
    >(
        mut self,
    ) {
        // The constant lets the compiler drop checks.
        match self.shape.channels {
            LANES => self.examples::<S, WINDOWS, PLACES, BLOCKS, TOTAL>(LANES),
            channels => self.examples::<S, WINDOWS, PLACES, BLOCKS, TOTAL>(channels),
        }
    }

    #[inline(always)]
    fn examples<
        S: InstructionSet,
        const WINDOWS: usize,
        const PLACES: usize,
        const BLOCKS: usize,
        const TOTAL: usize,
    >(
        &mut self,
        channels: usize,
    ) {
        let shape = self.shape;
        let stride = shape.width * channels;
        let weights = Weights::<TOTAL>::new(self.w, self.b, channels);
        let y: &mut [[Lanes<LANES>; TOTAL]] = blocks_mut(blocks_mut(self.y));
        let places: &mut [[[u32; LANES]; TOTAL]] = blocks_mut(blocks_mut(self.places));
        let windows = shape.rows * shape.columns;
        let outputs = y.chunks_exact_mut(windows).zip(places.chunks_exact_mut(windows));
        for (x, (y, places)) in self.x.chunks_exact(shape.input()).zip(outputs) {
            // Windows with ink, until there are enough for a tile: their numbers, and the elements of `x` under them.
            let mut waiting = [(0, 0); WINDOWS];
            let mut count = 0;
            for row in 0..shape.rows {
                let ground = self.background.map(Background::x);
                let ink = Ink::of(&x[2 * row * stride..], ground, shape.width, channels);
                for column in 0..shape.columns {
                    let window = row * shape.columns + column;
                    if let Some(background) = self.background.filter(|_| !ink.is_under(column)) {
                        y[window].copy_from_slice(blocks(background.y()));
                        places[window].copy_from_slice(blocks(background.places()));
                        continue;
                    }
                    waiting[count] = (window, 2 * (row * stride + column * channels));
                    count += 1;
                    if count == WINDOWS {
                        count = 0;
                        pool::<S, WINDOWS, PLACES, BLOCKS, TOTAL>(&weights, x, stride, waiting, y, places);
                    }
                }
            }
            for &window in &waiting[..count] {
                pool::<S, 1, 4, BLOCKS, TOTAL>(&weights, x, stride, [window], y, places);
            }
        }
    }
}

/// Computes windows of one example, each given by its number and by the element of `x` under its upper left corner.
#[inline(always)]
fn pool<
    S: InstructionSet,
    const WINDOWS: usize,
    const PLACES: usize,
    const BLOCKS: usize,
    const TOTAL: usize,
>(
    weights: &Weights<TOTAL>,
    x: &[f32],
    stride: usize,
    windows: [(usize, usize); WINDOWS],
    y: &mut [[Lanes<LANES>; TOTAL]],
    places: &mut [[[u32; LANES]; TOTAL]],
) {
    let channels = weights.row / KERNEL_SIDE;
    let corners = std::array::from_fn(|place| {
        let (window, place) = (place / 4, place % 4);
        windows[window].1 + (place / 2) * stride + (place % 2) * channels
    });
    for first_block in (0..TOTAL).step_by(BLOCKS) {
        let z = weights.tile::<S, PLACES, BLOCKS>(x, stride, corners, first_block);
        for (index, (window, _)) in windows.into_iter().enumerate() {
            let z = &z[4 * index..4 * index + 4];
            for block in 0..BLOCKS {
                let (best, place) = relu_max([&z[0][block], &z[1][block], &z[2][block], &z[3][block]]);
                y[window][first_block + block] = best;
                places[window][first_block + block] = place;
            }
        }
    }
}

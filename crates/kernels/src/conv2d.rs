//! Convolution 3x3 without padding, with the ReLU and the pooling behind it: forward beside backward.
//!
//! `x [N, H, W, C]`, `w [3, 3, C, F]`, `b [F]`. Forward lanes are filters; a tile of places times filters stays in
//! registers while the 9 x C terms run past it. Backward lanes are input channels: behind a max pool and a ReLU only
//! one place in four has a gradient at all, so the backward pass walks over *events*, one for each (window, filter)
//! whose gradient is not zero, and each event adds its filter's nine blocks of weights to `dx` and nine blocks of `x`
//! to `dw`. For that, weights and their gradient are *filter-major*: `[C / 16, F, 3, 3, 16]`.

use std::ops::Range;

use ndarray::{ArrayView1, ArrayView4, ArrayView5, ArrayViewMut1, ArrayViewMut4, ArrayViewMut5};

use crate::block::{AlignedBuffer, LANES, Lanes, blocks, blocks_mut, elements, elements_mut, fma};
use crate::cpu::{Cpu, InstructionSet, Kernel};
use crate::max_pool2d::{relu_backward, relu_max, route};
use crate::reference::KERNEL_SIDE;

/// Places under a convolution kernel.
const TAPS: usize = KERNEL_SIDE * KERNEL_SIDE;

/// Blocks of one filter in the padded filter-major layout: a block of zeros before each row of the kernel and one
/// after the last, so that the four columns under a pooling window can be read from either of its places.
pub const PADDED_TAPS: usize = KERNEL_SIDE * (KERNEL_SIDE + 1) + 1;

/// The most windows of a layer with a backward pass: a filter's events are the bits of a word.
const MAX_WINDOWS: usize = u32::BITS as usize;

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
/// Only `R` rows of `S` windows are computed, from the upper left corner; nobody reads the rest.
///
/// # Panics
/// If the shapes do not belong together, `x` has no room for the windows, an array is not in standard layout, or `F`
/// is neither 16 nor 32.
pub fn forward_relu_pool(
    cpu: Cpu,
    x: ArrayView4<f32>,
    w: ArrayView4<f32>,
    b: ArrayView1<f32>,
    mut y: ArrayViewMut4<f32>,
    mut places: ArrayViewMut4<u32>,
) {
    let shape = Shape::of_forward(&x, &w, &b, y.dim(), 2);
    assert_eq!(places.dim(), y.dim(), "shape of the winning places");
    cpu.run(ForwardReluPool {
        shape,
        x: elements(&x),
        w: elements(&w),
        b: elements(&b),
        y: elements_mut(&mut y),
        places: elements_mut(&mut places),
    });
}

/// Gradients of [`forward_relu`] for a layer with `C` a multiple of 16.
///
/// From `x`, the outputs `y [N, H-2, W-2, F]`, their gradient `dy` and the filter-major weights: adds to the
/// filter-major `dw [C/16, F, 3, 3, 16]` and to `db [F]`, overwrites `dx [N, H, W, C]`.
///
/// # Panics
/// As [`backward_relu_pool`].
#[allow(clippy::too_many_arguments)] // One argument for each array of the layer.
pub fn backward_relu(
    cpu: Cpu,
    x: ArrayView4<f32>,
    w: ArrayView5<f32>,
    y: ArrayView4<f32>,
    dy: ArrayView4<f32>,
    events: &mut Events,
    mut dw: ArrayViewMut5<f32>,
    mut db: ArrayViewMut1<f32>,
    mut dx: ArrayViewMut4<f32>,
) {
    let shape = Shape::of_backward(&x, &y, &dy, &dw, &db, &dx, 1);
    assert_eq!(w.dim(), dw.dim(), "shape of the filter-major kernel");
    cpu.run(Backward::<false> {
        shape,
        x: elements(&x),
        w: elements(&w),
        y: elements(&y),
        places: &[],
        dy: elements(&dy),
        events,
        dw: elements_mut(&mut dw),
        db: elements_mut(&mut db),
        dx: elements_mut(&mut dx),
    });
}

/// Gradients of [`forward_relu_pool`] for a layer with `C` a multiple of 16.
///
/// From `x`, the outputs `y [N, R, S, F]`, their `places` and gradient `dy`, and the padded filter-major weights
/// `w [C/16, F, 13, 16]`: adds to the filter-major `dw [C/16, F, 3, 3, 16]` and to `db [F]`, overwrites
/// `dx [N, H, W, C]`.
///
/// # Panics
/// If the shapes do not belong together, an array is not in standard layout, `C` or `F` is not a multiple of 16, there
/// are more than 32 windows, or `events` is too small.
#[allow(clippy::too_many_arguments)] // One argument for each array of the layer.
pub fn backward_relu_pool(
    cpu: Cpu,
    x: ArrayView4<f32>,
    w: ArrayView4<f32>,
    y: ArrayView4<f32>,
    places: ArrayView4<u32>,
    dy: ArrayView4<f32>,
    events: &mut Events,
    mut dw: ArrayViewMut5<f32>,
    mut db: ArrayViewMut1<f32>,
    mut dx: ArrayViewMut4<f32>,
) {
    let shape = Shape::of_backward(&x, &y, &dy, &dw, &db, &dx, 2);
    let padded = (shape.channels / LANES, shape.filters, PADDED_TAPS, LANES);
    assert_eq!(w.dim(), padded, "shape of the padded filter-major kernel");
    assert_eq!(places.dim(), y.dim(), "shape of the winning places");
    cpu.run(Backward::<true> {
        shape,
        x: elements(&x),
        w: elements(&w),
        y: elements(&y),
        places: elements(&places),
        dy: elements(&dy),
        events,
        dw: elements_mut(&mut dw),
        db: elements_mut(&mut db),
        dx: elements_mut(&mut dx),
    });
}

/// Gradients of [`forward_relu_pool`] for the first layer, whose input has one channel and needs no gradient.
///
/// From `x [N, H, W, 1]`, the outputs `y [N, R, S, 16]`, their `places` and gradient `dy`: adds to
/// `dw [3, 3, 1, 16]` and `db [16]`.
///
/// # Panics
/// If the shapes do not belong together or an array is not in standard layout.
pub fn backward_first_relu_pool(
    cpu: Cpu,
    x: ArrayView4<f32>,
    y: ArrayView4<f32>,
    places: ArrayView4<u32>,
    dy: ArrayView4<f32>,
    mut dw: ArrayViewMut4<f32>,
    mut db: ArrayViewMut1<f32>,
) {
    let (examples, height, width, channels) = x.dim();
    let (_, rows, columns, filters) = y.dim();
    assert_eq!((channels, filters), (1, LANES), "channels and filters of the first layer");
    assert_eq!(y.dim().0, examples, "examples of the output");
    assert!(2 * rows + 2 <= height && 2 * columns + 2 <= width, "windows beyond the input");
    assert_eq!(places.dim(), y.dim(), "shape of the winning places");
    assert_eq!(dy.dim(), y.dim(), "shape of the output's gradient");
    assert_eq!(dw.dim(), (KERNEL_SIDE, KERNEL_SIDE, 1, LANES), "shape of the kernel's gradient");
    assert_eq!(db.len(), LANES, "length of the bias's gradient");
    cpu.run(BackwardFirst {
        shape: Shape { height, width, channels, filters, rows, columns },
        x: elements(&x),
        y: elements(&y),
        places: elements(&places),
        dy: elements(&dy),
        dw: elements_mut(&mut dw),
        db: elements_mut(&mut db),
    });
}

/// Scratch memory of a backward pass: where the gradients that are not zero are, for each example of a call.
#[derive(Debug)]
pub struct Events {
    /// `[N][windows][F]`: the gradient before the ReLU; zero if there is no event.
    dz: AlignedBuffer,
    /// `[N][windows][F]`: the element of the example's `x` under the upper left corner of the kernel.
    corners: Box<[u32]>,
    /// `[N][F]`: bit `v` is set if window `v` has an event.
    windows: Box<[u32]>,
}

impl Events {
    /// Memory for calls of up to `examples` examples, in layers of up to `windows` windows and `filters` filters.
    pub fn new(examples: usize, windows: usize, filters: usize) -> Self {
        Self {
            dz: AlignedBuffer::zeros(examples * windows * filters),
            corners: vec![0; examples * windows * filters].into(),
            windows: vec![0; examples * filters].into(),
        }
    }
}

/// The sizes of a layer; rows and columns count windows (places, where no pooling follows).
#[derive(Clone, Copy)]
struct Shape {
    height: usize,
    width: usize,
    channels: usize,
    filters: usize,
    rows: usize,
    columns: usize,
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

    #[allow(clippy::too_many_arguments)] // One argument for each array of the layer.
    fn of_backward(
        x: &ArrayView4<f32>,
        y: &ArrayView4<f32>,
        dy: &ArrayView4<f32>,
        dw: &ArrayViewMut5<f32>,
        db: &ArrayViewMut1<f32>,
        dx: &ArrayViewMut4<f32>,
        window: usize,
    ) -> Self {
        let (examples, height, width, channels) = x.dim();
        let (_, rows, columns, filters) = y.dim();
        let filter_major = (channels / LANES, filters, KERNEL_SIDE, KERNEL_SIDE, LANES);
        assert_eq!(channels % LANES, 0, "channels come in blocks of {LANES}");
        assert_eq!(filters % LANES, 0, "filters come in blocks of {LANES}");
        assert!(rows * columns <= MAX_WINDOWS, "{} windows, more than {MAX_WINDOWS}", rows * columns);
        assert_eq!(dw.dim(), filter_major, "shape of the filter-major kernel's gradient");
        assert_eq!(y.dim().0, examples, "examples of the output");
        assert!(window * rows + 2 <= height && window * columns + 2 <= width, "windows beyond the input");
        assert_eq!(dy.dim(), y.dim(), "shape of the output's gradient");
        assert_eq!(db.len(), filters, "length of the bias's gradient");
        assert_eq!(dx.dim(), x.dim(), "shape of the input's gradient");
        Self { height, width, channels, filters, rows, columns }
    }

    /// Elements of one example's `x`.
    #[inline(always)]
    fn input(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Elements of one example's `y`.
    #[inline(always)]
    fn output(&self) -> usize {
        self.rows * self.columns * self.filters
    }
}

/// `PLACES` places times `BLOCKS` blocks of filters: the sums, without their final `+ 0.0`.
///
/// `x` is one example, `offsets` are the elements of `x` under the upper left corners of the kernel, `row` is the
/// number of terms in a row of the kernel (3 C).
#[inline(always)]
fn tile<S: InstructionSet, const PLACES: usize, const BLOCKS: usize, const TOTAL: usize>(
    x: &[f32],
    stride: usize,
    row: usize,
    offsets: [usize; PLACES],
    w: &[[Lanes<LANES>; TOTAL]],
    b: &[Lanes<LANES>; TOTAL],
    first_block: usize,
) -> [[Lanes<LANES>; BLOCKS]; PLACES] {
    let mut sums = [[[0.0; LANES]; BLOCKS]; PLACES];
    for place in 0..PLACES {
        for block in 0..BLOCKS {
            sums[place][block] = b[first_block + block];
        }
    }
    for ky in 0..KERNEL_SIDE {
        let w = &w[ky * row..][..row];
        let mut under = [[].as_slice(); PLACES];
        for place in 0..PLACES {
            under[place] = &x[offsets[place] + ky * stride..][..row];
        }
        for term in 0..row {
            for place in 0..PLACES {
                for block in 0..BLOCKS {
                    fma::<S, LANES>(
                        under[place][term],
                        &w[term][first_block + block],
                        &mut sums[place][block],
                    );
                }
            }
        }
    }
    sums
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
            (false, false) => self.filters::<S, 3, 2, 2>(),
        }
    }
}

impl ForwardRelu<'_> {
    #[inline(always)]
    fn filters<S: InstructionSet, const PLACES: usize, const BLOCKS: usize, const TOTAL: usize>(self) {
        let shape = self.shape;
        let stride = shape.width * shape.channels;
        let w: &[[Lanes<LANES>; TOTAL]] = blocks(blocks(self.w));
        let b: &[Lanes<LANES>; TOTAL] = blocks(self.b).first_chunk().expect("a bias for every filter");
        let places = shape.rows * shape.columns;
        let at = |place: usize| (place / shape.columns) * stride + (place % shape.columns) * shape.channels;
        for (x, y) in self.x.chunks_exact(shape.input()).zip(self.y.chunks_exact_mut(shape.output())) {
            let y: &mut [[Lanes<LANES>; TOTAL]] = blocks_mut(blocks_mut(y));
            for first_block in (0..TOTAL).step_by(BLOCKS) {
                let mut first = 0;
                while places - first >= PLACES {
                    let offsets = std::array::from_fn(|place| at(first + place));
                    let z = tile::<S, PLACES, BLOCKS, TOTAL>(
                        x,
                        stride,
                        3 * shape.channels,
                        offsets,
                        w,
                        b,
                        first_block,
                    );
                    for place in 0..PLACES {
                        store_relu::<BLOCKS, TOTAL>(&z[place], &mut y[first + place], first_block);
                    }
                    first += PLACES;
                }
                while first < places {
                    let z = tile::<S, 1, BLOCKS, TOTAL>(
                        x,
                        stride,
                        3 * shape.channels,
                        [at(first)],
                        w,
                        b,
                        first_block,
                    );
                    store_relu::<BLOCKS, TOTAL>(&z[0], &mut y[first], first_block);
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
        // The constant lets the compiler unroll the first layer's rows of three terms.
        if self.shape.channels == 1 {
            self.rows::<S, WINDOWS, PLACES, BLOCKS, TOTAL>(1);
        } else {
            self.rows::<S, WINDOWS, PLACES, BLOCKS, TOTAL>(self.shape.channels);
        }
    }

    #[inline(always)]
    fn rows<
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
        for first_block in (0..TOTAL).step_by(BLOCKS) {
            for example in 0..self.x.len() / shape.input() {
                for row in 0..shape.rows {
                    let windows = (example * shape.rows + row) * shape.columns;
                    let corner = example * shape.input() + 2 * row * stride;
                    let mut column = 0;
                    while shape.columns - column >= WINDOWS {
                        let at = corner + 2 * column * channels;
                        self.windows::<S, WINDOWS, PLACES, BLOCKS, TOTAL>(
                            at,
                            windows + column,
                            channels,
                            first_block,
                        );
                        column += WINDOWS;
                    }
                    while column < shape.columns {
                        let at = corner + 2 * column * channels;
                        self.windows::<S, 1, 4, BLOCKS, TOTAL>(at, windows + column, channels, first_block);
                        column += 1;
                    }
                }
            }
        }
    }

    /// Neighbouring windows of a row: the first at element `at` of `x`, with number `window` of all examples'.
    #[inline(always)]
    fn windows<
        S: InstructionSet,
        const WINDOWS: usize,
        const PLACES: usize,
        const BLOCKS: usize,
        const TOTAL: usize,
    >(
        &mut self,
        at: usize,
        window: usize,
        channels: usize,
        first_block: usize,
    ) {
        let stride = self.shape.width * channels;
        let w: &[[Lanes<LANES>; TOTAL]] = blocks(blocks(self.w));
        let b: &[Lanes<LANES>; TOTAL] = blocks(self.b).first_chunk().expect("a bias for every filter");
        let offsets = std::array::from_fn(|place| {
            let (window, place) = (place / 4, place % 4);
            at + (place / 2) * stride + (2 * window + place % 2) * channels
        });
        let z = tile::<S, PLACES, BLOCKS, TOTAL>(self.x, stride, 3 * channels, offsets, w, b, first_block);
        let y: &mut [[Lanes<LANES>; TOTAL]] = blocks_mut(blocks_mut(self.y));
        let places: &mut [[[u32; LANES]; TOTAL]] = blocks_mut(blocks_mut(self.places));
        let (y, places) = (&mut y[window..window + WINDOWS], &mut places[window..window + WINDOWS]);
        for window in 0..WINDOWS {
            for block in 0..BLOCKS {
                let (best, place) = relu_max([
                    &z[4 * window][block],
                    &z[4 * window + 1][block],
                    &z[4 * window + 2][block],
                    &z[4 * window + 3][block],
                ]);
                y[window][first_block + block] = best;
                places[window][first_block + block] = place;
            }
        }
    }
}

/// Backward pass of a layer behind another; `POOL` tells whether a pooling follows it.
struct Backward<'a, const POOL: bool> {
    shape: Shape,
    x: &'a [f32],
    w: &'a [f32],
    y: &'a [f32],
    places: &'a [u32],
    dy: &'a [f32],
    events: &'a mut Events,
    dw: &'a mut [f32],
    db: &'a mut [f32],
    dx: &'a mut [f32],
}

impl<const POOL: bool> Kernel for Backward<'_, POOL> {
    type Output = ();

    #[inline(always)]
    fn run<S: InstructionSet>(mut self) {
        let shape = self.shape;
        let examples = self.x.len() / shape.input();
        assert!(
            self.events.dz.len() >= self.y.len() && self.events.windows.len() >= examples * shape.filters,
            "memory for the events of {examples} examples"
        );
        self.dx.fill(0.0);
        // Examples that share a load of `dw`: as many as leave their `x` and events in the first-level cache.
        let together = if POOL { 1 } else { examples };
        for first in (0..examples).step_by(together.max(1)) {
            // Eight or nine sums stay in registers: of 16 lanes, or of half of them where registers are fewer.
            if S::WIDE {
                self.examples::<S, LANES>(first..first + together)
            } else {
                self.examples::<S, 8>(first..first + together)
            }
        }
        for sum in self.dx {
            *sum += 0.0;
        }
    }
}

impl<const POOL: bool> Backward<'_, POOL> {
    #[inline(always)]
    fn examples<S: InstructionSet, const L: usize>(&mut self, examples: Range<usize>) {
        // For the sizes of the convnet the compiler knows every step in `x` and `dx`, and needs no bounds checks.
        let shape = self.shape;
        match (POOL, shape.width, shape.channels) {
            (true, 12, 16) => self.examples_of_width::<S, L>(examples, Steps { row: 12 * 16, column: 16 }),
            (false, 5, 32) => self.examples_of_width::<S, L>(examples, Steps { row: 5 * 32, column: 32 }),
            (_, width, column) => {
                self.examples_of_width::<S, L>(examples, Steps { row: width * column, column })
            }
        }
    }

    #[inline(always)]
    fn examples_of_width<S: InstructionSet, const L: usize>(&mut self, examples: Range<usize>, step: Steps) {
        for example in examples.clone() {
            self.input_gradient::<S, L>(example, step);
        }
        self.kernel_gradient::<S, L>(examples, step);
    }

    /// Notes one example's events, adds them to `db`, and computes `dx`.
    #[inline(always)]
    fn input_gradient<S: InstructionSet, const L: usize>(&mut self, example: usize, step: Steps) {
        let shape = self.shape;
        let side = if POOL { 2 } else { 1 };
        self.events.windows[example * shape.filters..][..shape.filters].fill(0);
        for row in 0..shape.rows {
            for column in 0..shape.columns {
                let corner = side * (row * step.row + column * step.column);
                for first in (0..shape.filters).step_by(LANES) {
                    let found = self.find_events(example, row * shape.columns + column, first, corner, step);
                    for channel in 0..shape.channels / LANES {
                        for part in (0..LANES).step_by(L) {
                            let lanes = channel * LANES + part;
                            if POOL {
                                self.add_window::<S, L>(example, &found, first, corner, lanes, step);
                            } else {
                                self.add_place::<S, L>(example, &found, first, corner, lanes, step);
                            }
                        }
                    }
                }
            }
        }
    }

    /// Notes the events of 16 filters from `first` on in one window, and adds them to `db`.
    #[inline(always)]
    fn find_events(
        &mut self,
        example: usize,
        window: usize,
        first: usize,
        corner: usize,
        step: Steps,
    ) -> Found {
        let shape = self.shape;
        let at = (example * shape.rows * shape.columns + window) * shape.filters + first;
        let y: &Lanes<LANES> = self.y[at..].first_chunk().expect("a whole block");
        let dy: &Lanes<LANES> = self.dy[at..].first_chunk().expect("a whole block");
        let mut found = Found { dz: relu_backward(y, dy), taps: [0; LANES], all: 0, upper: 0 };
        let dz = &found.dz;
        let db: &mut Lanes<LANES> = self.db[first..].first_chunk_mut().expect("a whole block");
        for lane in 0..LANES {
            db[lane] += dz[lane];
        }
        self.events.dz[at..at + LANES].copy_from_slice(dz);
        let windows = &mut self.events.windows[example * shape.filters + first..];
        let windows: &mut [u32; LANES] = windows.first_chunk_mut().expect("a whole block");
        // One short loop for each result: the compiler turns every one of them into a few vector instructions.
        for lane in 0..LANES {
            windows[lane] |= if dz[lane] != 0.0 { 1 << window } else { 0 };
        }
        found.all = mask(|lane| dz[lane] != 0.0);
        let mut corners = [corner as u32; LANES];
        if POOL {
            let places: &[u32; LANES] = self.places[at..].first_chunk().expect("a whole block");
            let (down, right) = (step.row as u32, step.column as u32);
            for lane in 0..LANES {
                corners[lane] += if places[lane] & 2 != 0 { down } else { 0 };
                corners[lane] += if places[lane] & 1 != 0 { right } else { 0 };
            }
            for lane in 0..LANES {
                let middle = (lane * PADDED_TAPS + KERNEL_SIDE + 2) as u32;
                found.taps[lane] = middle - 2 * (places[lane] & 2) - (places[lane] & 1);
            }
            found.upper = mask(|lane| places[lane] & 2 == 0);
        }
        self.events.corners[at..at + LANES].copy_from_slice(&corners);
        found
    }

    /// Adds a pooling window's events to the 4 x 4 places of `dx` under it, filters in ascending order at each.
    ///
    /// The sums stay in registers while the events run past them: first those of the two middle rows, under all of
    /// the window's places, then those of the first and of the last row, under its upper and its lower places.
    /// Columns that a place does not reach meet the zeros between the rows of the padded kernel.
    #[inline(always)]
    fn add_window<S: InstructionSet, const L: usize>(
        &mut self,
        example: usize,
        found: &Found,
        first: usize,
        corner: usize,
        lanes: usize,
        step: Steps,
    ) {
        let shape = self.shape;
        let at = (lanes / LANES * shape.filters + first) * PADDED_TAPS * LANES;
        let w = &self.w[at..at + LANES * PADDED_TAPS * LANES];
        let part = lanes % LANES;
        let corner = example * shape.input() + corner + lanes;

        let dx = &mut self.dx[corner..][..3 * (step.row + step.column) + L];
        let mut sums = [[[0.0; L]; 4]; 2];
        load(&dx[step.row..], step.column, &mut sums[0]);
        load(&dx[2 * step.row..], step.column, &mut sums[1]);
        for lane in bits(found.all) {
            let w = &w[found.taps[lane] as usize * LANES + part..][..7 * LANES + L];
            for row in 0..2 {
                for column in 0..4 {
                    let w: &Lanes<L> = w[(4 * row + column) * LANES..].first_chunk().expect("a whole block");
                    fma::<S, L>(found.dz[lane], w, &mut sums[row][column]);
                }
            }
        }
        store(&sums[0], step.column, &mut dx[step.row..]);
        store(&sums[1], step.column, &mut dx[2 * step.row..]);

        for (row, events, tap) in [(0, found.all & found.upper, -4), (3, found.all & !found.upper, 8)] {
            let mut sums = [[0.0; L]; 4];
            let dx = &mut dx[row * step.row..];
            load(dx, step.column, &mut sums);
            for lane in bits(events) {
                let tap = (found.taps[lane] as isize + tap) as usize;
                let w = &w[tap * LANES + part..][..3 * LANES + L];
                for column in 0..4 {
                    let w: &Lanes<L> = w[column * LANES..].first_chunk().expect("a whole block");
                    fma::<S, L>(found.dz[lane], w, &mut sums[column]);
                }
            }
            store(&sums, step.column, dx);
        }
    }

    /// Adds a place's events to the 3 x 3 places of `dx` under it, filters in ascending order.
    #[inline(always)]
    fn add_place<S: InstructionSet, const L: usize>(
        &mut self,
        example: usize,
        found: &Found,
        first: usize,
        corner: usize,
        lanes: usize,
        step: Steps,
    ) {
        let shape = self.shape;
        let at = (lanes / LANES * shape.filters + first) * TAPS * LANES;
        let w = &self.w[at..at + LANES * TAPS * LANES];
        let w: &[[Lanes<LANES>; TAPS]] = blocks(blocks(w));
        let part = lanes % LANES;
        let corner = example * shape.input() + corner + lanes;
        let dx = &mut self.dx[corner..][..2 * (step.row + step.column) + L];
        let mut sums = [[[0.0; L]; KERNEL_SIDE]; KERNEL_SIDE];
        for ky in 0..KERNEL_SIDE {
            load(&dx[ky * step.row..], step.column, &mut sums[ky]);
        }
        for lane in bits(found.all) {
            for ky in 0..KERNEL_SIDE {
                for kx in 0..KERNEL_SIDE {
                    let w = &w[lane][ky * KERNEL_SIDE + kx][part..];
                    fma::<S, L>(found.dz[lane], w.first_chunk().expect("a whole block"), &mut sums[ky][kx]);
                }
            }
        }
        for ky in 0..KERNEL_SIDE {
            store(&sums[ky], step.column, &mut dx[ky * step.row..]);
        }
    }

    /// Adds the examples' events to `dw`, filter by filter.
    #[inline(always)]
    fn kernel_gradient<S: InstructionSet, const L: usize>(&mut self, examples: Range<usize>, step: Steps) {
        let shape = self.shape;
        for lanes in (0..shape.channels).step_by(L) {
            let (channel, part) = (lanes / LANES, lanes % LANES);
            for filter in 0..shape.filters {
                let at = (channel * shape.filters + filter) * TAPS * LANES;
                let dw = &mut self.dw[at + part..at + TAPS * LANES];
                let mut sums = [[0.0; L]; TAPS];
                load(dw, LANES, &mut sums);
                for example in examples.clone() {
                    let x = &self.x[example * shape.input()..][..shape.input()];
                    for window in bits(self.events.windows[example * shape.filters + filter]) {
                        let event = (example * shape.rows * shape.columns + window) * shape.filters + filter;
                        let dz = self.events.dz[event];
                        let corner = self.events.corners[event] as usize + lanes;
                        let x = &x[corner..][..2 * (step.row + step.column) + L];
                        for ky in 0..KERNEL_SIDE {
                            for kx in 0..KERNEL_SIDE {
                                let x = x[ky * step.row + kx * step.column..].first_chunk();
                                let x: &Lanes<L> = x.expect("a whole block");
                                fma::<S, L>(dz, x, &mut sums[ky * KERNEL_SIDE + kx]);
                            }
                        }
                    }
                }
                store(&sums, LANES, dw);
            }
        }
    }
}

/// Elements from a place of `x` to the one below it and to the one beside it.
#[derive(Clone, Copy)]
struct Steps {
    row: usize,
    column: usize,
}

/// The events of 16 filters in one window.
struct Found {
    /// The gradients.
    dz: Lanes<LANES>,
    /// Behind a pooling: the block of the padded kernel, from the first filter's first one on, that meets the window's
    /// second row and first column.
    taps: [u32; LANES],
    /// Bit `lane` is set if the gradient is not zero.
    all: u32,
    /// Behind a pooling: bit `lane` is set if the place is an upper one.
    upper: u32,
}

/// A word whose bit `lane` is set if `is_set(lane)`.
#[inline(always)]
fn mask(is_set: impl Fn(usize) -> bool) -> u32 {
    let mut word = 0;
    for lane in 0..LANES {
        word |= if is_set(lane) { 1 << lane } else { 0 };
    }
    word
}

/// The positions of the bits that are set, in ascending order.
#[inline(always)]
fn bits(mut word: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = word.trailing_zeros() as usize;
        (word != 0).then(|| {
            word &= word - 1;
            lowest
        })
    })
}

/// Reads `COUNT` blocks, one every `step` elements.
#[inline(always)]
fn load<const L: usize, const COUNT: usize>(from: &[f32], step: usize, blocks: &mut [Lanes<L>; COUNT]) {
    for index in 0..COUNT {
        blocks[index].copy_from_slice(&from[index * step..][..L]);
    }
}

/// Writes `COUNT` blocks, one every `step` elements.
#[inline(always)]
fn store<const L: usize, const COUNT: usize>(blocks: &[Lanes<L>; COUNT], step: usize, to: &mut [f32]) {
    for index in 0..COUNT {
        to[index * step..][..L].copy_from_slice(&blocks[index]);
    }
}

struct BackwardFirst<'a> {
    shape: Shape,
    x: &'a [f32],
    y: &'a [f32],
    places: &'a [u32],
    dy: &'a [f32],
    dw: &'a mut [f32],
    db: &'a mut [f32],
}

impl Kernel for BackwardFirst<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: InstructionSet>(mut self) {
        if S::WIDE {
            self.lanes::<S, LANES>(0);
        } else {
            self.lanes::<S, 8>(0);
            self.lanes::<S, 8>(8);
        }
    }
}

impl BackwardFirst<'_> {
    /// The gradients of `L` filters from `first` on.
    #[inline(always)]
    fn lanes<S: InstructionSet, const L: usize>(&mut self, first: usize) {
        let shape = self.shape;
        let mut bias = [0.0; L];
        let mut sums = [[0.0; L]; TAPS];
        bias.copy_from_slice(&self.db[first..first + L]);
        for tap in 0..TAPS {
            sums[tap].copy_from_slice(&self.dw[tap * LANES + first..][..L]);
        }
        for (example, x) in self.x.chunks_exact(shape.input()).enumerate() {
            for row in 0..shape.rows {
                for column in 0..shape.columns {
                    let at = ((example * shape.rows + row) * shape.columns + column) * LANES + first;
                    let y: &Lanes<L> = self.y[at..].first_chunk().expect("a whole block");
                    let dy: &Lanes<L> = self.dy[at..].first_chunk().expect("a whole block");
                    let places: &[u32; L] = self.places[at..].first_chunk().expect("a whole block");
                    let dz = relu_backward(y, dy);
                    for lane in 0..L {
                        bias[lane] += dz[lane];
                    }
                    let corner = 2 * (row * shape.width + column);
                    let mut patch = [[0.0; 4]; 4];
                    for y in 0..4 {
                        patch[y].copy_from_slice(&x[corner + y * shape.width..][..4]);
                    }
                    for place in 0..4 {
                        let routed = route(&dz, places, place);
                        for ky in 0..KERNEL_SIDE {
                            for kx in 0..KERNEL_SIDE {
                                let x = patch[place / 2 + ky][place % 2 + kx];
                                fma::<S, L>(x, &routed, &mut sums[ky * KERNEL_SIDE + kx]);
                            }
                        }
                    }
                }
            }
        }
        self.db[first..first + L].copy_from_slice(&bias);
        for tap in 0..TAPS {
            self.dw[tap * LANES + first..][..L].copy_from_slice(&sums[tap]);
        }
    }
}

/// Re-lays a kernel `w [3, 3, C, F]` into the filter-major layout `[C/16, F, 3, 3, 16]`.
///
/// # Panics
/// If the shapes do not belong together or an array is not in standard layout.
pub fn to_filter_major(w: ArrayView4<f32>, mut filter_major: ArrayViewMut5<f32>) {
    let (_, _, channels, filters) = w.dim();
    let shape = (channels / LANES, filters, KERNEL_SIDE, KERNEL_SIDE, LANES);
    assert_eq!(filter_major.dim(), shape, "shape of the filter-major kernel");
    let (w, filter_major) = (elements(&w), elements_mut(&mut filter_major));
    for tap in 0..TAPS {
        for channel in 0..channels {
            let row = &w[(tap * channels + channel) * filters..][..filters];
            let (block, lane) = (channel / LANES, channel % LANES);
            for (filter, &value) in row.iter().enumerate() {
                filter_major[((block * filters + filter) * TAPS + tap) * LANES + lane] = value;
            }
        }
    }
}

/// Re-lays a kernel `w [3, 3, C, F]` into the padded filter-major layout `[C/16, F, 13, 16]`; leaves the padding zero.
///
/// # Panics
/// If the shapes do not belong together or an array is not in standard layout.
pub fn to_padded_filter_major(w: ArrayView4<f32>, mut padded: ArrayViewMut4<f32>) {
    let (_, _, channels, filters) = w.dim();
    let shape = (channels / LANES, filters, PADDED_TAPS, LANES);
    assert_eq!(padded.dim(), shape, "shape of the padded filter-major kernel");
    let (w, padded) = (elements(&w), elements_mut(&mut padded));
    padded.fill(0.0);
    for tap in 0..TAPS {
        let row = tap / KERNEL_SIDE;
        for channel in 0..channels {
            let values = &w[(tap * channels + channel) * filters..][..filters];
            let (block, lane) = (channel / LANES, channel % LANES);
            for (filter, &value) in values.iter().enumerate() {
                padded[((block * filters + filter) * PADDED_TAPS + tap + row + 1) * LANES + lane] = value;
            }
        }
    }
}

/// Re-lays a filter-major gradient `[C/16, F, 3, 3, 16]` into `dw [3, 3, C, F]`.
///
/// # Panics
/// If the shapes do not belong together or an array is not in standard layout.
pub fn from_filter_major(filter_major: ArrayView5<f32>, mut dw: ArrayViewMut4<f32>) {
    let (_, _, channels, filters) = dw.dim();
    let shape = (channels / LANES, filters, KERNEL_SIDE, KERNEL_SIDE, LANES);
    assert_eq!(filter_major.dim(), shape, "shape of the filter-major kernel");
    let (filter_major, dw) = (elements(&filter_major), elements_mut(&mut dw));
    for tap in 0..TAPS {
        for channel in 0..channels {
            let row = &mut dw[(tap * channels + channel) * filters..][..filters];
            let (block, lane) = (channel / LANES, channel % LANES);
            for (filter, value) in row.iter_mut().enumerate() {
                *value = filter_major[((block * filters + filter) * TAPS + tap) * LANES + lane];
            }
        }
    }
}

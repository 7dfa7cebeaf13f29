//! The first layer, forward and backward: one input channel, no input gradient, pooling behind it.
//!
//! Lanes are filters. A window's whole input is sixteen pixels, so all its terms are unrolled. Each lane's gradient belongs to one of its window's four places, and is zero at the others.

use ndarray::{ArrayView1, ArrayView4, ArrayViewMut1, ArrayViewMut3, ArrayViewMut4};

use super::background::{Background, Ink};
use super::{PATCH_SIDE, Shape, TAPS};
use crate::block::{LANES, Lanes, blocks, blocks_mut, elements, elements_mut, fma};
use crate::cpu::{Cpu, InstructionSet, Kernel};
use crate::max_pool2d::{relu_backward, relu_max, route};
use crate::reference::KERNEL_SIDE;

/// `x [N, H, W, 1]` to `y [N, R, S, 16]` and the winning `places` (0 to 3): convolution, ReLU, max pooling 2x2.
///
/// Only `R` rows of `S` windows are computed, from the upper left corner; nobody reads the rest. With a `background`
/// of this layer, windows that see nothing else are copied from it, and `ink [N, R, S]` is 0 there; elsewhere it is 1.
///
/// # Panics
/// If the shapes do not belong together, `x` has no room for the windows, or an array is not in standard layout.
#[allow(clippy::too_many_arguments)] // One argument for each array of the layer.
pub fn forward_first_relu_pool(
    cpu: Cpu,
    x: ArrayView4<f32>,
    w: ArrayView4<f32>,
    b: ArrayView1<f32>,
    background: Option<&Background>,
    mut y: ArrayViewMut4<f32>,
    mut places: ArrayViewMut4<u32>,
    mut ink: ArrayViewMut3<u8>,
) {
    let shape = Shape::of_maps(&x, b.len(), y.dim(), 2);
    assert_eq!(ink.dim(), (y.dim().0, shape.rows, shape.columns), "shape of the map of ink");
    assert_eq!(w.dim(), (KERNEL_SIDE, KERNEL_SIDE, 1, LANES), "shape of the convolution kernel");
    assert_eq!((shape.channels, shape.filters), (1, LANES), "channels and filters of the first layer");
    assert_eq!(places.dim(), y.dim(), "shape of the winning places");
    if let Some(background) = background {
        background.assert_of(shape);
    }
    cpu.run(ForwardFirst {
        shape,
        x: elements(&x),
        w: elements(&w),
        b: elements(&b),
        background,
        y: elements_mut(&mut y),
        places: elements_mut(&mut places),
        ink: elements_mut(&mut ink),
    });
}

/// Gradients of [`forward_first_relu_pool`]; the input needs none.
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

struct ForwardFirst<'a> {
    shape: Shape,
    x: &'a [f32],
    w: &'a [f32],
    b: &'a [f32],
    background: Option<&'a Background>,
    y: &'a mut [f32],
    places: &'a mut [u32],
    ink: &'a mut [u8],
}

impl Kernel for ForwardFirst<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: InstructionSet>(self) {
        // Eight places of 16 filters where there is room for their sums, four elsewhere.
        if S::WIDE { self.examples::<S, 2, 8, 6>() } else { self.examples::<S, 1, 4, 4>() }
    }
}

impl ForwardFirst<'_> {
    /// `PLACES` and `COLUMNS` are those of `WINDOWS` windows side by side.
    #[inline(always)]
    fn examples<S: InstructionSet, const WINDOWS: usize, const PLACES: usize, const COLUMNS: usize>(self) {
        let Shape { width, rows, columns, .. } = self.shape;
        let w: &[Lanes<LANES>; TAPS] = blocks(self.w).first_chunk().expect("a block for every tap");
        let b: &Lanes<LANES> = self.b.first_chunk().expect("a bias for every filter");
        let y: &mut [Lanes<LANES>] = blocks_mut(self.y);
        let places: &mut [[u32; LANES]] = blocks_mut(self.places);
        let ground = self.background.map(|background| background.x()[0]);
        let outputs = y.chunks_exact_mut(rows * columns).zip(places.chunks_exact_mut(rows * columns));
        let outputs = outputs.zip(self.ink.chunks_exact_mut(rows * columns));
        for (x, ((y, places), map)) in self.x.chunks_exact(self.shape.input()).zip(outputs) {
            let outputs = y.chunks_exact_mut(columns).zip(places.chunks_exact_mut(columns));
            for (row, ((y, places), map)) in outputs.zip(map.chunks_exact_mut(columns)).enumerate() {
                let x = &x[2 * row * width..][..PATCH_SIDE * width];
                let ink = Ink::of(x, ground, width);
                for (column, map) in map.iter_mut().enumerate() {
                    *map = u8::from(ink.is_under(column));
                }
                let mut column = 0;
                while columns - column >= WINDOWS {
                    let is_ink = (0..WINDOWS).any(|window| ink.is_under(column + window));
                    match self.background.filter(|_| !is_ink) {
                        Some(background) => {
                            for window in column..column + WINDOWS {
                                y[window].copy_from_slice(background.y());
                                places[window].copy_from_slice(background.places());
                            }
                        }
                        None => {
                            let (y, places) = (&mut y[column..], &mut places[column..]);
                            pool::<S, WINDOWS, PLACES, COLUMNS>(&x[2 * column..], width, w, b, y, places);
                        }
                    }
                    column += WINDOWS;
                }
                while column < columns {
                    let (y, places) = (&mut y[column..], &mut places[column..]);
                    pool::<S, 1, 4, PATCH_SIDE>(&x[2 * column..], width, w, b, y, places);
                    column += 1;
                }
            }
        }
    }
}

/// Computes windows side by side, the upper left corner of the first at the start of `x`.
#[inline(always)]
fn pool<S: InstructionSet, const WINDOWS: usize, const PLACES: usize, const COLUMNS: usize>(
    x: &[f32],
    width: usize,
    w: &[Lanes<LANES>; TAPS],
    b: &Lanes<LANES>,
    y: &mut [Lanes<LANES>],
    places: &mut [[u32; LANES]],
) {
    let x = &x[..(PATCH_SIDE - 1) * width + COLUMNS];
    let mut z = [[0.0; LANES]; PLACES];
    for place in 0..PLACES {
        z[place] = *b;
    }
    for ky in 0..KERNEL_SIDE {
        let lines = [&x[ky * width..][..COLUMNS], &x[(ky + 1) * width..][..COLUMNS]];
        for kx in 0..KERNEL_SIDE {
            for place in 0..PLACES {
                let x = lines[place / 2 % 2][place / 4 * 2 + place % 2 + kx];
                fma::<S, LANES>(x, &w[ky * KERNEL_SIDE + kx], &mut z[place]);
            }
        }
    }
    for window in 0..WINDOWS {
        let z = &z[4 * window..4 * window + 4];
        let (best, place) = relu_max([&z[0], &z[1], &z[2], &z[3]]);
        y[window] = best;
        places[window] = place;
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
                let ink = Ink::of(&x[2 * row * shape.width..], Some(0.0), shape.width);
                for column in 0..shape.columns {
                    let at = ((example * shape.rows + row) * shape.columns + column) * LANES + first;
                    let y: &Lanes<L> = self.y[at..].first_chunk().expect("a whole block");
                    let dy: &Lanes<L> = self.dy[at..].first_chunk().expect("a whole block");
                    let dz = relu_backward(y, dy);
                    for lane in 0..L {
                        bias[lane] += dz[lane];
                    }
                    // The black background adds zeros to everything but the bias.
                    if ink.is_under(column) {
                        let places = self.places[at..].first_chunk().expect("a whole block");
                        let corner = 2 * (row * shape.width + column);
                        add_window::<S, L>(&x[corner..], shape.width, &dz, places, &mut sums);
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

/// Adds a window, whose upper left corner is at the start of `x`, to the sums of every tap.
#[inline(always)]
fn add_window<S: InstructionSet, const L: usize>(
    x: &[f32],
    width: usize,
    dz: &Lanes<L>,
    places: &[u32; L],
    sums: &mut [Lanes<L>; TAPS],
) {
    let x = &x[..(PATCH_SIDE - 1) * width + PATCH_SIDE];
    let lines: [&[f32]; PATCH_SIDE] = std::array::from_fn(|line| &x[line * width..][..PATCH_SIDE]);
    for place in 0..4 {
        let routed = route(dz, places, place);
        for ky in 0..KERNEL_SIDE {
            for kx in 0..KERNEL_SIDE {
                let x = lines[place / 2 + ky][place % 2 + kx];
                fma::<S, L>(x, &routed, &mut sums[ky * KERNEL_SIDE + kx]);
            }
        }
    }
}

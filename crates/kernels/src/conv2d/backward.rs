//! Backward passes of the layers behind another: events to the input's gradient, then to the kernel's.
//!
//! Lanes are input channels. First every window's events add their filters' weights to the places of `dx` under it,
//! and are noted filter by filter; then every filter's events add the values of `x` under them to its `dw`. Weights
//! and their gradient are filter-major.

use ndarray::{ArrayView3, ArrayView4, ArrayViewMut1, ArrayViewMut4};

use super::events::{Events, Found, WORD, bits, mask};
use super::{PATCH_SIDE, Shape, TAPS};
use crate::block::{LANES, Lanes, elements, elements_mut, fma};
use crate::cpu::{Cpu, InstructionSet, Kernel};
use crate::layout::PADDED_TAPS;
use crate::max_pool2d::relu_backward;
use crate::reference::KERNEL_SIDE;

/// Gradients of [`forward_relu`](super::forward_relu) for a layer with `C` a multiple of 16.
///
/// From `x`, the outputs `y [N, H-2, W-2, F]`, their gradient `dy` and the filter-major weights `w [F, 3, 3, C]`: adds
/// to the filter-major `dw [F, 3, 3, C]` and to `db [F]`, overwrites `dx [N, H, W, C]`.
///
/// # Panics
/// As [`backward_relu_pool`].
#[allow(clippy::too_many_arguments)] // One argument for each array of the layer.
pub fn backward_relu(
    cpu: Cpu,
    x: ArrayView4<f32>,
    w: ArrayView4<f32>,
    y: ArrayView4<f32>,
    dy: ArrayView4<f32>,
    events: &mut Events,
    mut dw: ArrayViewMut4<f32>,
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

/// Gradients of [`forward_relu_pool`](super::forward_relu_pool) for a layer with `C` a multiple of 16.
///
/// From `x`, the outputs `y [N, R, S, F]`, their `places` and gradient `dy`, and the padded filter-major weights
/// `w [F, 13, C]`: adds to the filter-major `dw [F, 3, 3, C]` and to `db [F]`, overwrites `dx [N, H, W, C]`.
///
/// # Panics
/// If the shapes do not belong together, an array is not in standard layout, `C` or `F` is not a multiple of 16, or
/// `events` is too small.
#[allow(clippy::too_many_arguments)] // One argument for each array of the layer.
pub fn backward_relu_pool(
    cpu: Cpu,
    x: ArrayView4<f32>,
    w: ArrayView3<f32>,
    y: ArrayView4<f32>,
    places: ArrayView4<u32>,
    dy: ArrayView4<f32>,
    events: &mut Events,
    mut dw: ArrayViewMut4<f32>,
    mut db: ArrayViewMut1<f32>,
    mut dx: ArrayViewMut4<f32>,
) {
    let shape = Shape::of_backward(&x, &y, &dy, &dw, &db, &dx, 2);
    let padded = (shape.filters, PADDED_TAPS, shape.channels);
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

impl Shape {
    #[allow(clippy::too_many_arguments)] // One argument for each array of the layer.
    fn of_backward(
        x: &ArrayView4<f32>,
        y: &ArrayView4<f32>,
        dy: &ArrayView4<f32>,
        dw: &ArrayViewMut4<f32>,
        db: &ArrayViewMut1<f32>,
        dx: &ArrayViewMut4<f32>,
        window: usize,
    ) -> Self {
        let (examples, height, width, channels) = x.dim();
        let (_, rows, columns, filters) = y.dim();
        let filter_major = (filters, KERNEL_SIDE, KERNEL_SIDE, channels);
        assert_eq!(channels % LANES, 0, "channels come in blocks of {LANES}");
        assert_eq!(filters % LANES, 0, "filters come in blocks of {LANES}");
        assert_eq!(dw.dim(), filter_major, "shape of the filter-major kernel's gradient");
        assert_eq!(y.dim().0, examples, "examples of the output");
        assert!(window * rows + 2 <= height && window * columns + 2 <= width, "windows beyond the input");
        assert_eq!(dy.dim(), y.dim(), "shape of the output's gradient");
        assert_eq!(db.len(), filters, "length of the bias's gradient");
        assert_eq!(dx.dim(), x.dim(), "shape of the input's gradient");
        Self { height, width, channels, filters, rows, columns }
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
            self.events.capacity >= examples * shape.rows * shape.columns
                && self.events.counts.len() >= shape.filters,
            "memory for the events of {examples} examples"
        );
        // For the sizes of the convnet the compiler knows every step in `x` and `dx`, and needs no bounds checks.
        match (POOL, shape.width, shape.channels) {
            (true, 12, 16) => self.registers::<S, 1>(Steps { row: 12 * 16, column: 16 }),
            (false, 5, 32) => self.registers::<S, 2>(Steps { row: 5 * 32, column: 32 }),
            (_, width, column) => self.registers::<S, 1>(Steps { row: width * column, column }),
        }
    }
}

impl<const POOL: bool> Backward<'_, POOL> {
    /// Nine sums stay in registers: of `BLOCKS` blocks of channels, or of half a block where registers are fewer.
    #[inline(always)]
    fn registers<S: InstructionSet, const BLOCKS: usize>(&mut self, steps: Steps) {
        if S::WIDE {
            self.layer::<S, LANES, BLOCKS>(steps);
        } else {
            self.layer::<S, 8, 1>(steps);
        }
    }

    #[inline(always)]
    fn layer<S: InstructionSet, const L: usize, const B: usize>(&mut self, steps: Steps) {
        let examples = self.x.len() / self.shape.input();
        self.events.counts.fill(0);
        self.dx.fill(0.0);
        for example in 0..examples {
            self.input_gradient::<S, L, B>(example, steps);
        }
        self.kernel_gradient::<S, L, B>(steps);
    }

    /// Notes one example's events, adds them to `db`, and computes `dx`.
    #[inline(always)]
    fn input_gradient<S: InstructionSet, const L: usize, const B: usize>(
        &mut self,
        example: usize,
        steps: Steps,
    ) {
        let shape = self.shape;
        let side = if POOL { 2 } else { 1 };
        let words = shape.filters.div_ceil(WORD);
        let corner = |window: usize| {
            let (row, column) = (window / shape.columns, window % shape.columns);
            example * shape.input() + side * (row * steps.row + column * steps.column)
        };
        // The events of one window are found before those of the one before are added: where the loops over events
        // end is hard to predict, and what follows a wrong guess is then ready.
        let mut found = [Found::none(), Found::none()];
        let count = shape.rows * shape.columns * words;
        for ahead in 0..=count {
            if ahead < count {
                let (window, first) = (ahead / words, ahead % words * WORD);
                let all_examples = example * shape.rows * shape.columns + window;
                self.find(all_examples, first, corner(window), steps, &mut found[ahead % 2]);
            }
            let Some(now) = ahead.checked_sub(1) else { continue };
            let (corner, first) = (corner(now / words), now % words * WORD);
            for lanes in (0..steps.column).step_by(L * B) {
                if POOL {
                    self.add_window::<S, L>(&found[now % 2], first, corner + lanes, lanes, steps);
                } else {
                    self.add_place::<S, L, B>(&found[now % 2], first, corner + lanes, lanes, steps);
                }
            }
        }
    }

    /// The events of up to 32 filters from `first` on in one window, added to `db`.
    #[inline(always)]
    fn find(&mut self, window: usize, first: usize, corner: usize, steps: Steps, found: &mut Found) {
        let filters = self.shape.filters;
        (found.all, found.upper) = (0, 0);
        for block in (0..WORD.min(filters - first)).step_by(LANES) {
            let at = window * filters + first + block;
            let y: &Lanes<LANES> = self.y[at..].first_chunk().expect("a whole block");
            let dy: &Lanes<LANES> = self.dy[at..].first_chunk().expect("a whole block");
            let dz = relu_backward(y, dy);
            let db: &mut Lanes<LANES> = self.db[first + block..].first_chunk_mut().expect("a whole block");
            // One short loop for each result: the compiler turns every one of them into a few vector instructions.
            for lane in 0..LANES {
                db[lane] += dz[lane];
            }
            found.all |= mask(|lane| dz[lane] != 0.0) << block;
            let mut corners = [corner as u32; LANES];
            if POOL {
                let places: &[u32; LANES] = self.places[at..].first_chunk().expect("a whole block");
                let (down, right) = (steps.row as u32, steps.column as u32);
                for lane in 0..LANES {
                    corners[lane] += if places[lane] & 2 != 0 { down } else { 0 };
                    corners[lane] += if places[lane] & 1 != 0 { right } else { 0 };
                }
                for lane in 0..LANES {
                    let middle = ((block + lane) * PADDED_TAPS + PATCH_SIDE + 1) as u32;
                    found.taps[block + lane] = middle - 2 * (places[lane] & 2) - (places[lane] & 1);
                }
                found.upper |= mask(|lane| places[lane] & 2 == 0) << block;
            }
            found.dz[block..block + LANES].copy_from_slice(&dz);
            found.corners[block..block + LANES].copy_from_slice(&corners);
        }
    }

    /// Notes a pooling window's events and adds them to the 4 x 4 places of `dx` under it, filters in ascending order at each.
    ///
    /// The sums stay in registers while the events run past them: first those of the two middle rows, under all of
    /// the window's places, then those of the first and of the last row, under its upper and its lower places.
    /// Columns that a place does not reach meet the zeros between the rows of the padded kernel.
    #[inline(always)]
    fn add_window<S: InstructionSet, const L: usize>(
        &mut self,
        found: &Found,
        first: usize,
        corner: usize,
        lanes: usize,
        steps: Steps,
    ) {
        let channels = steps.column;
        let filters = WORD.min(self.shape.filters - first);
        let w = &self.w[first * PADDED_TAPS * channels..][..filters * PADDED_TAPS * channels];
        let dx = &mut self.dx[corner..][..3 * (steps.row + steps.column) + L];

        let mut sums = [[[0.0; L]; PATCH_SIDE]; 2];
        load(&dx[steps.row..], steps.column, &mut sums[0]);
        load(&dx[2 * steps.row..], steps.column, &mut sums[1]);
        for lane in bits(found.all) {
            if lanes == 0 {
                self.events.push(first + lane, found.event(lane));
            }
            let w = &w[found.taps[lane] as usize * channels + lanes..][..7 * channels + L];
            for row in 0..2 {
                for column in 0..PATCH_SIDE {
                    let w = w[(PATCH_SIDE * row + column) * channels..].first_chunk();
                    let w: &Lanes<L> = w.expect("a whole block");
                    fma::<S, L>(found.dz[lane], w, &mut sums[row][column]);
                }
            }
        }
        end(&sums[0], steps.column, &mut dx[steps.row..]);
        end(&sums[1], steps.column, &mut dx[2 * steps.row..]);

        for (row, events, tap) in [(0, found.all & found.upper, -4), (3, found.all & !found.upper, 8)] {
            let mut sums = [[0.0; L]; PATCH_SIDE];
            let dx = &mut dx[row * steps.row..];
            load(dx, steps.column, &mut sums);
            for lane in bits(events) {
                let tap = (found.taps[lane] as isize + tap) as usize;
                let w = &w[tap * channels + lanes..][..3 * channels + L];
                for column in 0..PATCH_SIDE {
                    let w: &Lanes<L> = w[column * channels..].first_chunk().expect("a whole block");
                    fma::<S, L>(found.dz[lane], w, &mut sums[column]);
                }
            }
            end(&sums, steps.column, dx);
        }
    }

    /// Notes a place's events and adds them to the 3 x 3 places of `dx` under it, filters in ascending order.
    #[inline(always)]
    fn add_place<S: InstructionSet, const L: usize, const B: usize>(
        &mut self,
        found: &Found,
        first: usize,
        corner: usize,
        lanes: usize,
        steps: Steps,
    ) {
        let channels = steps.column;
        let filters = WORD.min(self.shape.filters - first);
        let w = &self.w[first * TAPS * channels..][..filters * TAPS * channels];
        let dx = &mut self.dx[corner..][..2 * (steps.row + steps.column) + L * B];
        let mut sums = [[[[0.0; L]; KERNEL_SIDE]; KERNEL_SIDE]; B];
        for block in 0..B {
            for ky in 0..KERNEL_SIDE {
                load(&dx[ky * steps.row + block * L..], steps.column, &mut sums[block][ky]);
            }
        }
        for lane in bits(found.all) {
            if lanes == 0 {
                self.events.push(first + lane, found.event(lane));
            }
            let w = &w[lane * TAPS * channels + lanes..][..(TAPS - 1) * channels + L * B];
            for ky in 0..KERNEL_SIDE {
                for kx in 0..KERNEL_SIDE {
                    for block in 0..B {
                        let w = w[(ky * KERNEL_SIDE + kx) * channels + block * L..].first_chunk();
                        let w: &Lanes<L> = w.expect("a whole block");
                        fma::<S, L>(found.dz[lane], w, &mut sums[block][ky][kx]);
                    }
                }
            }
        }
        for block in 0..B {
            for ky in 0..KERNEL_SIDE {
                end(&sums[block][ky], steps.column, &mut dx[ky * steps.row + block * L..]);
            }
        }
    }

    /// Adds the events to `dw`, filter by filter.
    #[inline(always)]
    fn kernel_gradient<S: InstructionSet, const L: usize, const B: usize>(&mut self, steps: Steps) {
        let channels = steps.column;
        for (filter, dw) in self.dw.chunks_exact_mut(TAPS * channels).enumerate() {
            for lanes in (0..channels).step_by(L * B) {
                let mut sums = [[[0.0; L]; TAPS]; B];
                for block in 0..B {
                    load(&dw[lanes + block * L..], channels, &mut sums[block]);
                }
                for event in self.events.of(filter) {
                    let corner = event.corner as usize + lanes;
                    let x = &self.x[corner..][..2 * (steps.row + steps.column) + L * B];
                    for ky in 0..KERNEL_SIDE {
                        for kx in 0..KERNEL_SIDE {
                            for block in 0..B {
                                let x = x[ky * steps.row + kx * steps.column + block * L..].first_chunk();
                                let x: &Lanes<L> = x.expect("a whole block");
                                fma::<S, L>(event.dz, x, &mut sums[block][ky * KERNEL_SIDE + kx]);
                            }
                        }
                    }
                }
                for block in 0..B {
                    store(&sums[block], channels, &mut dw[lanes + block * L..]);
                }
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

/// [`store`], with the `+ 0.0` that ends a sum; a sum that goes on afterwards ends alike.
#[inline(always)]
fn end<const L: usize, const COUNT: usize>(blocks: &[Lanes<L>; COUNT], step: usize, to: &mut [f32]) {
    for index in 0..COUNT {
        let to: &mut Lanes<L> = to[index * step..].first_chunk_mut().expect("a whole block");
        for lane in 0..L {
            to[lane] = blocks[index][lane] + 0.0;
        }
    }
}

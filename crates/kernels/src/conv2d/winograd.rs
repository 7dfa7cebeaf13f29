//! Forward pass of a convolution with ReLU and pooling behind it, by Winograd's minimal filtering F(2x2, 3x3).
//!
//! A pooling window has four places; computed one by one they take 36 multiplications for each channel and filter, by
//! this method 16: the window's patch of 4x4 inputs and the 3x3 kernel are turned into 4x4 *points* each, multiplied
//! point by point and summed over the channels, and the sums turned into the four places. Between those two turns it is
//! sixteen small matrix products, with the kernel's points in the rows of each.
//!
//! Lanes are channels where patches are turned, filters everywhere else. Windows go through in groups, whatever rows and
//! examples they come from, so that the kernel's points are read once for many.
//!
//! S. Winograd, Arithmetic Complexity of Computations, 1980; A. Lavin and S. Gray, Fast Algorithms for Convolutional
//! Neural Networks, 2016. The order of every sum is that of
//! [`conv2d_by_windows`](crate::reference::conv2d_by_windows).

use ndarray::{ArrayView1, ArrayView3, ArrayView4, ArrayViewMut3, ArrayViewMut4};

use super::background::Background;
use super::{PATCH_SIDE, Shape, TAPS};
use crate::block::{LANES, Lanes, blocks, blocks_mut, elements, elements_mut, fma};
use crate::cpu::{Cpu, InstructionSet, Kernel};
use crate::max_pool2d::relu_max;
use crate::reference::{BIAS_POINT, KERNEL_SIDE, WINDOW_POINTS};

/// Windows in a group: eight, times two blocks of filters, are sixteen sums in registers, and what a group needs beside
/// the kernel's points fits into the first-level cache.
const WINDOWS: usize = 8;

/// Turns a kernel `w [3, 3, 16, F]` into its points `points [16, 16, F]`: point, channel, filter.
///
/// # Panics
/// If the shapes do not belong together, an array is not in standard layout, or `F` is neither 16 nor 32.
pub fn kernel_points(cpu: Cpu, w: ArrayView4<f32>, mut points: ArrayViewMut3<f32>) {
    let (_, _, channels, filters) = w.dim();
    assert_eq!(w.dim(), (KERNEL_SIDE, KERNEL_SIDE, LANES, filters), "shape of the convolution kernel");
    assert_eq!(points.dim(), (WINDOW_POINTS, channels, filters), "shape of the kernel's points");
    assert!(filters == LANES || filters == 2 * LANES, "16 or 32 filters, not {filters}");
    cpu.run(KernelPoints { blocks: filters / LANES, w: elements(&w), points: elements_mut(&mut points) });
}

/// `x [N, H, W, 16]` to `y [N, R, S, F]` and the winning `places` (0 to 3): convolution, ReLU, max pooling 2x2.
///
/// Takes the kernel as its `points` ([`kernel_points`]). Only `R` rows of `S` windows are computed, from the upper left
/// corner; nobody reads the rest. With a `background` of this layer and a map of where `x` may have other bits (`[N, H, W]`,
/// not 0 there), windows that see nothing but the background are copied from it.
///
/// # Panics
/// If the shapes do not belong together, `x` has no room for the windows, an array is not in standard layout, or `F`
/// is neither 16 nor 32.
pub fn forward_relu_pool(
    cpu: Cpu,
    x: ArrayView4<f32>,
    points: ArrayView3<f32>,
    b: ArrayView1<f32>,
    background: Option<(&Background, ArrayView3<u8>)>,
    mut y: ArrayViewMut4<f32>,
    mut places: ArrayViewMut4<u32>,
) {
    let shape = Shape::of_maps(&x, b.len(), y.dim(), 2);
    assert_eq!(shape.channels, LANES, "channels of the input");
    assert_eq!(points.dim(), (WINDOW_POINTS, LANES, shape.filters), "shape of the kernel's points");
    assert_eq!(places.dim(), y.dim(), "shape of the winning places");
    let (height, width) = (shape.height, shape.width);
    if let Some((background, ink)) = &background {
        background.assert_of(shape);
        assert_eq!(ink.dim(), (x.dim().0, height, width), "shape of the map of ink");
    }
    cpu.run(ForwardReluPool {
        shape,
        x: elements(&x),
        points: elements(&points),
        b: elements(&b),
        background: background.as_ref().map(|(background, ink)| (*background, elements(ink))),
        y: elements_mut(&mut y),
        places: elements_mut(&mut places),
    });
}

struct KernelPoints<'a> {
    blocks: usize,
    w: &'a [f32],
    points: &'a mut [f32],
}

impl Kernel for KernelPoints<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: InstructionSet>(self) {
        let w: &[Lanes<LANES>] = blocks(self.w);
        let points: &mut [Lanes<LANES>] = blocks_mut(self.points);
        // Blocks of one tap of the kernel, and of one point.
        let plane = LANES * self.blocks;
        let taps: [&[Lanes<LANES>]; TAPS] = std::array::from_fn(|tap| &w[tap * plane..][..plane]);
        for at in 0..plane {
            let tap = |row: usize, column: usize| &taps[KERNEL_SIDE * row + column][at];
            let column = |column: usize| turn_kernel([tap(0, column), tap(1, column), tap(2, column)]);
            let down = [column(0), column(1), column(2)];
            let row = |row: usize| turn_kernel([&down[0][row], &down[1][row], &down[2][row]]);
            let turned = [row(0), row(1), row(2), row(3)];
            for point in 0..WINDOW_POINTS {
                points[point * plane + at] = turned[point / PATCH_SIDE][point % PATCH_SIDE];
            }
        }
    }
}

/// Three values of a kernel to four points.
#[inline(always)]
fn turn_kernel(w: [&Lanes<LANES>; KERNEL_SIDE]) -> [Lanes<LANES>; PATCH_SIDE] {
    let mut points = [*w[0], [0.0; LANES], [0.0; LANES], *w[2]];
    for lane in 0..LANES {
        points[1][lane] = ((w[0][lane] + w[2][lane]) + w[1][lane]) * 0.5;
    }
    for lane in 0..LANES {
        points[2][lane] = ((w[0][lane] + w[2][lane]) - w[1][lane]) * 0.5;
    }
    points
}

/// Four inputs to four points.
#[inline(always)]
fn turn_patch(x: [&Lanes<LANES>; PATCH_SIDE]) -> [Lanes<LANES>; PATCH_SIDE] {
    let mut points = [[0.0; LANES]; PATCH_SIDE];
    for lane in 0..LANES {
        points[0][lane] = x[0][lane] - x[2][lane];
    }
    for lane in 0..LANES {
        points[1][lane] = x[1][lane] + x[2][lane];
    }
    for lane in 0..LANES {
        points[2][lane] = x[2][lane] - x[1][lane];
    }
    for lane in 0..LANES {
        points[3][lane] = x[1][lane] - x[3][lane];
    }
    points
}

/// Four points to two outputs.
#[inline(always)]
fn turn_back(points: [f32; PATCH_SIDE]) -> [f32; 2] {
    [(points[0] + points[1]) + points[2], (points[1] - points[2]) - points[3]]
}

struct ForwardReluPool<'a> {
    shape: Shape,
    x: &'a [f32],
    points: &'a [f32],
    b: &'a [f32],
    /// And the map of ink.
    background: Option<(&'a Background, &'a [u8])>,
    y: &'a mut [f32],
    places: &'a mut [u32],
}

impl Kernel for ForwardReluPool<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: InstructionSet>(self) {
        // Windows times blocks: 16 registers of 512 bits for sums, or 8 of 256 bits; the rest holds points.
        match (self.shape.filters == LANES, S::WIDE) {
            (true, true) => self.examples::<S, 8, 1, 1>(),
            (true, false) => self.examples::<S, 4, 1, 1>(),
            (false, true) => self.examples::<S, 8, 2, 2>(),
            (false, false) => self.examples::<S, 4, 1, 2>(),
        }
    }
}

impl ForwardReluPool<'_> {
    /// `TILE` windows times `BLOCKS` blocks of filters, of `TOTAL`, are summed in registers.
    #[inline(always)]
    fn examples<S: InstructionSet, const TILE: usize, const BLOCKS: usize, const TOTAL: usize>(self) {
        let shape = self.shape;
        let stride = shape.width * LANES;
        let mut group = Group::<TOTAL> {
            stride,
            x: self.x,
            kernel: blocks(blocks(self.points)),
            b: blocks(self.b).first_chunk().expect("a bias for every filter"),
            y: blocks_mut(blocks_mut(self.y)),
            places: blocks_mut(blocks_mut(self.places)),
            patches: Aligned([[[0.0; LANES]; WINDOWS]; WINDOW_POINTS]),
            sums: Aligned([[[[0.0; LANES]; TOTAL]; WINDOWS]; WINDOW_POINTS]),
        };
        // Windows with ink, until there are enough for a group: their numbers, and the elements of `x` under their
        // upper left corners.
        let mut waiting = [(0, 0); WINDOWS];
        let mut count = 0;
        let mut window = 0;
        for example in 0..self.x.len() / shape.input() {
            for row in 0..shape.rows {
                for column in 0..shape.columns {
                    // The place of `x` under the window's upper left corner.
                    let corner = (example * shape.height + 2 * row) * shape.width + 2 * column;
                    let is_ink = |ink: &[u8]| is_ink_under(&ink[corner..], shape.width);
                    match self.background.filter(|(_, ink)| !is_ink(ink)) {
                        Some((background, _)) => {
                            group.y[window].copy_from_slice(blocks(background.y()));
                            group.places[window].copy_from_slice(blocks(background.places()));
                        }
                        None => {
                            waiting[count] = (window, corner * LANES);
                            count += 1;
                            if count == WINDOWS {
                                count = 0;
                                group.compute::<S, TILE, BLOCKS>(&waiting);
                            }
                        }
                    }
                    window += 1;
                }
            }
        }
        if count > 0 {
            // The rest of the group computes its last window again, to the same bits.
            let last = waiting[count - 1];
            waiting[count..].fill(last);
            group.compute::<S, TILE, BLOCKS>(&waiting);
        }
    }
}

/// Whether a window sees any ink; `ink` begins at its upper left corner and has `width` columns.
#[inline(always)]
fn is_ink_under(ink: &[u8], width: usize) -> bool {
    let mut seen = 0;
    for row in 0..PATCH_SIDE {
        let row: &[u8; PATCH_SIDE] = ink[row * width..].first_chunk().expect("a patch's row");
        seen |= u32::from_ne_bytes(*row);
    }
    seen != 0
}

/// Cache lines hold whole blocks.
#[repr(align(64))]
struct Aligned<T>(T);

/// A group of windows on its way through: inputs, outputs, and the points between them.
struct Group<'a, const TOTAL: usize> {
    /// Elements of a row of `x`.
    stride: usize,
    x: &'a [f32],
    /// The kernel's points `[16 * 16]`: point, channel.
    kernel: &'a [[Lanes<LANES>; TOTAL]],
    b: &'a [Lanes<LANES>; TOTAL],
    y: &'a mut [[Lanes<LANES>; TOTAL]],
    places: &'a mut [[[u32; LANES]; TOTAL]],
    /// Lanes are channels.
    patches: Aligned<[[Lanes<LANES>; WINDOWS]; WINDOW_POINTS]>,
    /// Lanes are filters.
    sums: Aligned<[[[Lanes<LANES>; TOTAL]; WINDOWS]; WINDOW_POINTS]>,
}

impl<const TOTAL: usize> Group<'_, TOTAL> {
    /// Computes windows, each given by its number and by the element of `x` under its upper left corner.
    #[inline(always)]
    fn compute<S: InstructionSet, const TILE: usize, const BLOCKS: usize>(
        &mut self,
        windows: &[(usize, usize); WINDOWS],
    ) {
        for (slot, &(_, corner)) in windows.iter().enumerate() {
            self.turn_patch(slot, corner);
        }
        for point in 0..WINDOW_POINTS {
            for first_window in (0..WINDOWS).step_by(TILE) {
                for first_block in (0..TOTAL).step_by(BLOCKS) {
                    self.sum::<S, TILE, BLOCKS>(point, first_window, first_block);
                }
            }
        }
        for (slot, &(window, _)) in windows.iter().enumerate() {
            for block in 0..TOTAL {
                self.turn_back(slot, window, block);
            }
        }
    }

    #[inline(always)]
    fn turn_patch(&mut self, slot: usize, corner: usize) {
        let row = |row: usize| -> &[Lanes<LANES>; PATCH_SIDE] {
            let row: &[Lanes<LANES>] = blocks(&self.x[corner + row * self.stride..][..PATCH_SIDE * LANES]);
            row.first_chunk().expect("a patch's row")
        };
        let (x0, x1, x2, x3) = (row(0), row(1), row(2), row(3));
        let column = |column: usize| turn_patch([&x0[column], &x1[column], &x2[column], &x3[column]]);
        let down = [column(0), column(1), column(2), column(3)];
        let row = |row: usize| turn_patch([&down[0][row], &down[1][row], &down[2][row], &down[3][row]]);
        let turned = [row(0), row(1), row(2), row(3)];
        for point in 0..WINDOW_POINTS {
            self.patches.0[point][slot] = turned[point / PATCH_SIDE][point % PATCH_SIDE];
        }
    }

    /// The sums over the channels of one point, for a tile of windows and blocks of filters.
    #[inline(always)]
    fn sum<S: InstructionSet, const TILE: usize, const BLOCKS: usize>(
        &mut self,
        point: usize,
        first_window: usize,
        first_block: usize,
    ) {
        let kernel = &self.kernel[point * LANES..][..LANES];
        let patches = &self.patches.0[point];
        let mut sums = [[[0.0; LANES]; BLOCKS]; TILE];
        if point == BIAS_POINT {
            for window in 0..TILE {
                for block in 0..BLOCKS {
                    sums[window][block] = self.b[first_block + block];
                }
            }
        }
        for channel in 0..LANES {
            for window in 0..TILE {
                for block in 0..BLOCKS {
                    let x = patches[first_window + window][channel];
                    fma::<S, LANES>(x, &kernel[channel][first_block + block], &mut sums[window][block]);
                }
            }
        }
        for window in 0..TILE {
            for block in 0..BLOCKS {
                self.sums.0[point][first_window + window][first_block + block] = sums[window][block];
            }
        }
    }

    /// Lane by lane: of the two ways to write a turn, the compiler makes better code of this one here, and of whole
    /// blocks where patches and kernels are turned.
    #[inline(always)]
    fn turn_back(&mut self, slot: usize, window: usize, block: usize) {
        let sums = &self.sums.0;
        let mut z = [[0.0; LANES]; 4];
        for lane in 0..LANES {
            let column = |column: usize| {
                let row = |row: usize| sums[PATCH_SIDE * row + column][slot][block][lane];
                turn_back([row(0), row(1), row(2), row(3)])
            };
            let down = [column(0), column(1), column(2), column(3)];
            let row = |row: usize| turn_back([down[0][row], down[1][row], down[2][row], down[3][row]]);
            let [[left, right], [lower_left, lower_right]] = [row(0), row(1)];
            (z[0][lane], z[1][lane], z[2][lane], z[3][lane]) = (left, right, lower_left, lower_right);
        }
        let (best, place) = relu_max([&z[0], &z[1], &z[2], &z[3]]);
        self.y[window][block] = best;
        self.places[window][block] = place;
    }
}

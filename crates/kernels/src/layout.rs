//! Layouts of weights and gradients: transposes between the canonical layout and those that kernels read.
//!
//! Moves values, and computes nothing but the end of sums. A convolution's kernel `w [3, 3, C, F]` has lanes over filters; *filter-major*
//! `[F, 3, 3, C]` has lanes over channels. The *padded* one `[F, 13, C]` has a block of zeros before each row of the
//! kernel and one after the last, so that the four columns under a pooling window can be read from either of its
//! places.

use ndarray::{ArrayView2, ArrayView4, ArrayViewMut2, ArrayViewMut3, ArrayViewMut4};

use crate::block::{Lanes, elements, elements_mut};
use crate::cpu::{Cpu, InstructionSet, Kernel};
use crate::reference::KERNEL_SIDE;

/// Side of the squares that a transpose moves at a time. Larger ones measured no faster: the compiler takes them apart.
const SQUARE: usize = 4;

/// Blocks of one filter in the padded filter-major layout.
pub const PADDED_TAPS: usize = KERNEL_SIDE * (KERNEL_SIDE + 1) + 1;

/// Transposes `from [R, S]` into `to [S, R]`.
///
/// # Panics
/// If the shapes do not belong together or an array is not in standard layout.
pub fn transpose(cpu: Cpu, from: ArrayView2<f32>, mut to: ArrayViewMut2<f32>) {
    assert_eq!((to.ncols(), to.nrows()), from.dim(), "shape of the transposed matrix");
    let (rows, columns) = from.dim();
    let (from, to) = (elements(&from), elements_mut(&mut to));
    cpu.run(Transpose::<false> { from, to, rows, columns, to_stride: rows });
}

/// Re-lays a kernel `w [3, 3, C, F]` into the filter-major layout `[F, 3, 3, C]`.
///
/// # Panics
/// As [`transpose`].
pub fn to_filter_major(cpu: Cpu, w: ArrayView4<f32>, mut filter_major: ArrayViewMut4<f32>) {
    let (height, width, channels, filters) = w.dim();
    assert_eq!(filter_major.dim(), (filters, height, width, channels), "shape of the filter-major kernel");
    let rows = height * width * channels;
    let (from, to) = (elements(&w), elements_mut(&mut filter_major));
    cpu.run(Transpose::<false> { from, to, rows, columns: filters, to_stride: rows });
}

/// Re-lays a filter-major gradient `[F, 3, 3, C]` into `dw [3, 3, C, F]`, and closes its sums with `+ 0.0`.
///
/// # Panics
/// As [`transpose`].
pub fn from_filter_major(cpu: Cpu, filter_major: ArrayView4<f32>, mut dw: ArrayViewMut4<f32>) {
    let (height, width, channels, filters) = dw.dim();
    assert_eq!(filter_major.dim(), (filters, height, width, channels), "shape of the filter-major kernel");
    let columns = height * width * channels;
    let (from, to) = (elements(&filter_major), elements_mut(&mut dw));
    cpu.run(Transpose::<true> { from, to, rows: filters, columns, to_stride: filters });
}

/// Re-lays a kernel `w [3, 3, C, F]` into the padded filter-major layout `[F, 13, C]`.
///
/// # Panics
/// As [`transpose`].
pub fn to_padded_filter_major(cpu: Cpu, w: ArrayView4<f32>, mut padded: ArrayViewMut3<f32>) {
    let (height, width, channels, filters) = w.dim();
    assert_eq!((height, width), (KERNEL_SIDE, KERNEL_SIDE), "sides of the kernel");
    assert_eq!(padded.dim(), (filters, PADDED_TAPS, channels), "shape of the padded filter-major kernel");
    padded.fill(0.0);
    let (w, padded) = (elements(&w), elements_mut(&mut padded));
    for tap in 0..KERNEL_SIDE * KERNEL_SIDE {
        let from = &w[tap * channels * filters..][..channels * filters];
        let to = &mut padded[(tap + tap / KERNEL_SIDE + 1) * channels..];
        cpu.run(Transpose::<false> {
            from,
            to,
            rows: channels,
            columns: filters,
            to_stride: PADDED_TAPS * channels,
        });
    }
}

/// `to[column * to_stride + row] = from[row * columns + column]`, and `+ 0.0` if these are sums to `CLOSE`.
struct Transpose<'a, const CLOSE: bool> {
    from: &'a [f32],
    to: &'a mut [f32],
    rows: usize,
    columns: usize,
    to_stride: usize,
}

impl<const CLOSE: bool> Kernel for Transpose<'_, CLOSE> {
    type Output = ();

    #[inline(always)]
    fn run<S: InstructionSet>(self) {
        let Self { from, to, rows, columns, to_stride } = self;
        let (whole_rows, whole_columns) = (rows / SQUARE * SQUARE, columns / SQUARE * SQUARE);
        for column in (0..whole_columns).step_by(SQUARE) {
            for row in (0..whole_rows).step_by(SQUARE) {
                let from = &from[row * columns + column..][..(SQUARE - 1) * columns + SQUARE];
                let to = &mut to[column * to_stride + row..][..(SQUARE - 1) * to_stride + SQUARE];
                let mut square = [[0.0; SQUARE]; SQUARE];
                for line in 0..SQUARE {
                    square[line].copy_from_slice(&from[line * columns..][..SQUARE]);
                }
                for line in 0..SQUARE {
                    let to: &mut Lanes<SQUARE> =
                        to[line * to_stride..].first_chunk_mut().expect("a whole row");
                    for lane in 0..SQUARE {
                        to[lane] = close::<CLOSE>(square[lane][line]);
                    }
                }
            }
        }
        for row in 0..rows {
            let first = if row < whole_rows { whole_columns } else { 0 };
            for column in first..columns {
                to[column * to_stride + row] = close::<CLOSE>(from[row * columns + column]);
            }
        }
    }
}

#[inline(always)]
fn close<const CLOSE: bool>(value: f32) -> f32 {
    if CLOSE { value + 0.0 } else { value }
}

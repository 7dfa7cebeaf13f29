//! The naive program that *defines* every sum of the network, term by term.
//!
//! Generic over the float (f32 is the definition, f64 serves finite differences) and over the fused multiply-add.
//! Each loop stands here as the definition reads, one scalar after the other; the fast kernels must equal it bit for
//! bit. One example at a time, channels last: `x [H, W, C]`, kernels `w [3, 3, C, F]`, dense `w [I, O]`. Gradients of
//! parameters are added to the sums of the examples before; [`end_sums`] closes them after a shard's last example.

use std::ops::{Add, Div, Mul, Neg, Sub};

use ndarray::{Array1, Array3, ArrayView1, ArrayView2, ArrayView3, ArrayView4};
use ndarray::{ArrayViewMut1, ArrayViewMut2, ArrayViewMut4};

use crate::fma::Fma;

/// The side of every convolution kernel.
pub const KERNEL_SIDE: usize = 3;

/// A float that the reference can compute with.
pub trait Float:
    Copy
    + PartialOrd
    + std::fmt::Debug
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// Positive zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;
    /// The whole number `value`, exactly.
    fn from_u8(value: u8) -> Self;
    /// e to the power of `self`, by the `libm` crate.
    fn exp(self) -> Self;
    /// The natural logarithm of `self`, by the `libm` crate.
    fn ln(self) -> Self;
}

impl Float for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    fn from_u8(value: u8) -> Self {
        Self::from(value)
    }
    fn exp(self) -> Self {
        libm::expf(self)
    }
    fn ln(self) -> Self {
        libm::logf(self)
    }
}

impl Float for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    fn from_u8(value: u8) -> Self {
        Self::from(value)
    }
    fn exp(self) -> Self {
        libm::exp(self)
    }
    fn ln(self) -> Self {
        libm::log(self)
    }
}

/// The input value of one pixel: `pixel / 255`.
#[inline(always)]
pub fn pixel<T: Float>(pixel: u8) -> T {
    T::from_u8(pixel) / T::from_u8(255)
}

/// Convolution 3x3, no padding, stride 1: `x [H, W, C]`, `w [3, 3, C, F]`, `b [F]` to `z [H-2, W-2, F]`.
///
/// # Panics
/// If the shapes do not belong together or `x` is smaller than the kernel.
#[inline(always)]
pub fn conv2d<T: Float, M: Fma<T>>(x: ArrayView3<T>, w: ArrayView4<T>, b: ArrayView1<T>) -> Array3<T> {
    let (height, width, channels) = x.dim();
    let filters = b.len();
    assert_eq!(w.dim(), (KERNEL_SIDE, KERNEL_SIDE, channels, filters), "shape of the convolution kernel");
    let mut z = Array3::from_elem((height - 2, width - 2, filters), T::ZERO);
    for y in 0..height - 2 {
        for column in 0..width - 2 {
            for f in 0..filters {
                let mut sum = b[f];
                for ky in 0..KERNEL_SIDE {
                    for kx in 0..KERNEL_SIDE {
                        for c in 0..channels {
                            sum = M::fma(x[[y + ky, column + kx, c]], w[[ky, kx, c, f]], sum);
                        }
                    }
                }
                z[[y, column, f]] = sum + T::ZERO;
            }
        }
    }
    z
}

/// Values into which Winograd's method turns a window's patch of 4x4 inputs, and a kernel: its *points*, row-major.
pub const WINDOW_POINTS: usize = 16;

/// The point whose sum starts at the bias: it counts once in each of the four outputs.
pub const BIAS_POINT: usize = 5;

/// The convolution in front of a 2x2 pooling, by Winograd's method F(2x2, 3x3): `x [H, W, C]`, `w [3, 3, C, F]`, `b [F]`
/// to `z [H-2, W-2, F]`, in which places beyond the last whole window stay zero.
///
/// The four outputs of a window come from the 4x4 inputs that it sees: the inputs of a channel and the kernel are turned
/// into 16 points each, down every column first and then along every row; a point's products are summed over the
/// channels, and the 16 sums turned into the outputs, down first and then along. A. Lavin and S. Gray, Fast Algorithms
/// for Convolutional Neural Networks, 2016.
///
/// # Panics
/// If the shapes do not belong together or `x` is smaller than the kernel.
#[inline(always)]
pub fn conv2d_by_windows<T: Float, M: Fma<T>>(
    x: ArrayView3<T>,
    w: ArrayView4<T>,
    b: ArrayView1<T>,
) -> Array3<T> {
    let (height, width, channels) = x.dim();
    let filters = b.len();
    assert_eq!(w.dim(), (KERNEL_SIDE, KERNEL_SIDE, channels, filters), "shape of the convolution kernel");
    let mut z = Array3::from_elem((height - 2, width - 2, filters), T::ZERO);
    for top in (0..(height - 2) / 2 * 2).step_by(2) {
        for left in (0..(width - 2) / 2 * 2).step_by(2) {
            for f in 0..filters {
                let mut sums = [T::ZERO; WINDOW_POINTS];
                sums[BIAS_POINT] = b[f];
                for c in 0..channels {
                    let patch =
                        turn::<T, 4, 4>(winograd_inputs, |row, column| x[[top + row, left + column, c]]);
                    let kernel = turn::<T, 3, 4>(winograd_kernel, |row, column| w[[row, column, c, f]]);
                    for point in 0..WINDOW_POINTS {
                        sums[point] =
                            M::fma(patch[point / 4][point % 4], kernel[point / 4][point % 4], sums[point]);
                    }
                }
                let outputs = turn::<T, 4, 2>(winograd_outputs, |row, column| sums[4 * row + column]);
                for place in 0..4 {
                    let (row, column) = (place / 2, place % 2);
                    z[[top + row, left + column, f]] = outputs[row][column] + T::ZERO;
                }
            }
        }
    }
    z
}

/// Applies `line` down every column of the `N`x`N` values that `at(row, column)` gives, then along every row of that.
#[inline(always)]
fn turn<T: Float, const N: usize, const M: usize>(
    line: fn([T; N]) -> [T; M],
    at: impl Fn(usize, usize) -> T,
) -> [[T; M]; M] {
    let columns: [[T; M]; N] = std::array::from_fn(|column| line(std::array::from_fn(|row| at(row, column))));
    std::array::from_fn(|row| line(std::array::from_fn(|column| columns[column][row])))
}

/// Winograd's points of four inputs in a line.
#[inline(always)]
fn winograd_inputs<T: Float>(x: [T; 4]) -> [T; 4] {
    [x[0] - x[2], x[1] + x[2], x[2] - x[1], x[1] - x[3]]
}

/// Winograd's points of three values of a kernel in a line.
#[inline(always)]
fn winograd_kernel<T: Float>(w: [T; 3]) -> [T; 4] {
    let half = T::ONE / (T::ONE + T::ONE);
    let outer = w[0] + w[2];
    [w[0], (outer + w[1]) * half, (outer - w[1]) * half, w[2]]
}

/// The two outputs of four points in a line.
#[inline(always)]
fn winograd_outputs<T: Float>(points: [T; 4]) -> [T; 2] {
    [(points[0] + points[1]) + points[2], (points[1] - points[2]) - points[3]]
}

/// Gradients of [`conv2d`] and [`conv2d_by_windows`] for one example: adds to `dw [3, 3, C, F]` and `db [F]`, returns `dx [H, W, C]`.
///
/// `dz [H-2, W-2, F]` is visited by pooling windows of side `window` (1 where no pooling follows): windows in
/// row-major order; inside a window its places in row-major order, for `dx` filter by filter. Places beyond the last
/// whole window have no gradient and are not read; places whose gradient is zero add nothing.
///
/// # Panics
/// If the shapes do not belong together.
#[inline(always)]
pub fn conv2d_backward<T: Float, M: Fma<T>>(
    x: ArrayView3<T>,
    w: ArrayView4<T>,
    dz: ArrayView3<T>,
    window: usize,
    mut dw: ArrayViewMut4<T>,
    mut db: ArrayViewMut1<T>,
) -> Array3<T> {
    let (height, width, channels) = x.dim();
    let filters = db.len();
    assert_eq!(w.dim(), (KERNEL_SIDE, KERNEL_SIDE, channels, filters), "shape of the convolution kernel");
    assert_eq!(dw.dim(), w.dim(), "shape of the convolution kernel's gradient");
    assert_eq!(dz.dim(), (height - 2, width - 2, filters), "shape of the output gradient");
    let mut dx = Array3::from_elem(x.dim(), T::ZERO);
    for top in (0..(height - 2) / window * window).step_by(window) {
        for left in (0..(width - 2) / window * window).step_by(window) {
            for f in 0..filters {
                for place in 0..window * window {
                    let (y, column) = (top + place / window, left + place % window);
                    let gradient = dz[[y, column, f]];
                    // Not only a saving: it defines that a place without gradient adds nothing even where an
                    // activation overflowed, and zero times infinity is no number.
                    if gradient == T::ZERO {
                        continue;
                    }
                    db[f] = db[f] + gradient;
                    for ky in 0..KERNEL_SIDE {
                        for kx in 0..KERNEL_SIDE {
                            for c in 0..channels {
                                let at = [y + ky, column + kx, c];
                                dw[[ky, kx, c, f]] = M::fma(x[at], gradient, dw[[ky, kx, c, f]]);
                                dx[at] = M::fma(gradient, w[[ky, kx, c, f]], dx[at]);
                            }
                        }
                    }
                }
            }
        }
    }
    dx.mapv_into(|sum| sum + T::ZERO)
}

/// Rectified linear unit: `z` where it is greater than zero, else zero.
#[inline(always)]
pub fn relu<T: Float>(z: T) -> T {
    if z > T::ZERO { z } else { T::ZERO }
}

/// Gradient of [`relu`]: `dy` where `z` is greater than zero, else zero (also at zero itself).
#[inline(always)]
pub fn relu_backward<T: Float>(z: T, dy: T) -> T {
    if z > T::ZERO { dy } else { T::ZERO }
}

/// Max pooling 2x2: `x [H, W, C]` to `y [H/2, W/2, C]` and the winning places (0 to 3, row-major).
///
/// An odd last row or column is dropped. A later place wins only if it is strictly greater.
#[inline(always)]
pub fn max_pool2d<T: Float>(x: ArrayView3<T>) -> (Array3<T>, Array3<u32>) {
    let (height, width, channels) = x.dim();
    let mut y = Array3::from_elem((height / 2, width / 2, channels), T::ZERO);
    let mut places = Array3::zeros(y.dim());
    for row in 0..height / 2 {
        for column in 0..width / 2 {
            for c in 0..channels {
                let mut best = x[[2 * row, 2 * column, c]];
                for place in 1..4 {
                    let candidate = x[[2 * row + place / 2, 2 * column + place % 2, c]];
                    if candidate > best {
                        best = candidate;
                        places[[row, column, c]] = place as u32;
                    }
                }
                y[[row, column, c]] = best;
            }
        }
    }
    (y, places)
}

/// Gradient of [`max_pool2d`]: `dy [H/2, W/2, C]` goes to the winning places of a `dx [H, W, C]` of zeros.
///
/// # Panics
/// If `places` and `dy` have different shapes or do not fit into `H` and `W`.
#[inline(always)]
pub fn max_pool2d_backward<T: Float>(
    (height, width): (usize, usize),
    places: ArrayView3<u32>,
    dy: ArrayView3<T>,
) -> Array3<T> {
    let (rows, columns, channels) = dy.dim();
    assert_eq!(places.dim(), dy.dim(), "shape of the winning places");
    let mut dx = Array3::from_elem((height, width, channels), T::ZERO);
    for row in 0..rows {
        for column in 0..columns {
            for c in 0..channels {
                let place = places[[row, column, c]] as usize;
                dx[[2 * row + place / 2, 2 * column + place % 2, c]] = dy[[row, column, c]];
            }
        }
    }
    dx
}

/// Dense layer: `x [I]`, `w [I, O]`, `b [O]` to `z [O]`.
///
/// # Panics
/// If the shapes do not belong together.
#[inline(always)]
pub fn dense<T: Float, M: Fma<T>>(x: ArrayView1<T>, w: ArrayView2<T>, b: ArrayView1<T>) -> Array1<T> {
    assert_eq!(w.dim(), (x.len(), b.len()), "shape of the dense weights");
    let mut z = b.to_owned();
    for o in 0..b.len() {
        for i in 0..x.len() {
            z[o] = M::fma(x[i], w[[i, o]], z[o]);
        }
        z[o] = z[o] + T::ZERO;
    }
    z
}

/// Gradients of [`dense`] for one example: adds to `dw [I, O]` and `db [O]`, returns `dx [I]`.
///
/// # Panics
/// If the shapes do not belong together.
#[inline(always)]
pub fn dense_backward<T: Float, M: Fma<T>>(
    x: ArrayView1<T>,
    w: ArrayView2<T>,
    dz: ArrayView1<T>,
    mut dw: ArrayViewMut2<T>,
    mut db: ArrayViewMut1<T>,
) -> Array1<T> {
    assert_eq!(w.dim(), (x.len(), dz.len()), "shape of the dense weights");
    assert_eq!(dw.dim(), w.dim(), "shape of the dense weights' gradient");
    let mut dx = Array1::from_elem(x.len(), T::ZERO);
    for i in 0..x.len() {
        for o in 0..dz.len() {
            dw[[i, o]] = M::fma(x[i], dz[o], dw[[i, o]]);
            dx[i] = M::fma(dz[o], w[[i, o]], dx[i]);
        }
        dx[i] = dx[i] + T::ZERO;
    }
    for o in 0..dz.len() {
        db[o] = db[o] + dz[o];
    }
    dx
}

/// The index of the greatest value, the lowest one among equals.
#[inline(always)]
pub fn argmax<T: Float>(z: ArrayView1<T>) -> usize {
    let mut best = 0;
    for i in 1..z.len() {
        if z[i] > z[best] {
            best = i;
        }
    }
    best
}

/// Cross-entropy of the softmax of the logits `z [O]` against class `label`: the loss and `dz [O]`.
///
/// # Panics
/// If `label` is not below `O`.
#[inline(always)]
pub fn softmax_cross_entropy<T: Float>(z: ArrayView1<T>, label: usize) -> (T, Array1<T>) {
    assert!(label < z.len(), "label {label} of {} classes", z.len());
    let greatest = z[argmax(z)];
    let mut dz = z.mapv(|value| (value - greatest).exp());
    let mut sum = T::ZERO;
    for &e in &dz {
        sum = sum + e;
    }
    let loss = sum.ln() - (z[label] - greatest);
    for (i, value) in dz.iter_mut().enumerate() {
        *value = *value / sum - if i == label { T::ONE } else { T::ZERO };
    }
    (loss, dz)
}

/// Ends each of a shard's sums with `+ 0.0`, so that none is -0.0.
#[inline(always)]
pub fn end_sums<T: Float>(sums: &mut [T]) {
    for sum in sums {
        *sum = *sum + T::ZERO;
    }
}

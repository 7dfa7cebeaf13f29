//! Buffers and tensors of the canonical layout, seen in the shapes that the kernels take.
//!
//! A length that does not fit is a mistake in this crate's own tables, and panics.

use lockstep_kernels::layout::PADDED_TAPS;
use lockstep_kernels::reference::WINDOW_POINTS;
use ndarray::{ArrayView1, ArrayView2, ArrayView3, ArrayView4, ArrayViewMut2, ArrayViewMut3, ArrayViewMut4};

use crate::parameters::TENSORS;

/// Feature maps `[n, side, side, channels]` of the first `n` examples.
pub(super) fn maps<T>(values: &[T], n: usize, side: usize, channels: usize) -> ArrayView4<'_, T> {
    let len = n * side * side * channels;
    ArrayView4::from_shape((n, side, side, channels), &values[..len]).expect("a buffer of that many elements")
}

pub(super) fn maps_mut<T>(values: &mut [T], n: usize, side: usize, channels: usize) -> ArrayViewMut4<'_, T> {
    let len = n * side * side * channels;
    ArrayViewMut4::from_shape((n, side, side, channels), &mut values[..len])
        .expect("a buffer of that many elements")
}

/// All of `values` as `count` rows.
pub(super) fn rows(values: &[f32], count: usize) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((count, values.len() / count), values).expect("whole rows")
}

pub(super) fn rows_mut(values: &mut [f32], count: usize) -> ArrayViewMut2<'_, f32> {
    ArrayViewMut2::from_shape((count, values.len() / count), values).expect("whole rows")
}

/// All of `values` as a filter-major kernel `[filters, 3, 3, C]`.
pub(super) fn filter_major(values: &[f32], filters: usize) -> ArrayView4<'_, f32> {
    let shape = (filters, 3, 3, values.len() / (filters * 9));
    ArrayView4::from_shape(shape, values).expect("whole filters")
}

pub(super) fn filter_major_mut(values: &mut [f32], filters: usize) -> ArrayViewMut4<'_, f32> {
    let shape = (filters, 3, 3, values.len() / (filters * 9));
    ArrayViewMut4::from_shape(shape, values).expect("whole filters")
}

/// The first `n` maps of ink.
pub(super) fn ink(values: &[u8], n: usize, side: usize) -> ArrayView3<'_, u8> {
    ArrayView3::from_shape((n, side, side), &values[..n * side * side]).expect("whole maps")
}

pub(super) fn ink_mut(values: &mut [u8], n: usize, side: usize) -> ArrayViewMut3<'_, u8> {
    ArrayViewMut3::from_shape((n, side, side), &mut values[..n * side * side]).expect("whole maps")
}

/// All of `values` as a kernel's points `[16, C, filters]`.
pub(super) fn points(values: &[f32], filters: usize) -> ArrayView3<'_, f32> {
    let shape = (WINDOW_POINTS, values.len() / (filters * WINDOW_POINTS), filters);
    ArrayView3::from_shape(shape, values).expect("whole points")
}

pub(super) fn points_mut(values: &mut [f32], filters: usize) -> ArrayViewMut3<'_, f32> {
    let shape = (WINDOW_POINTS, values.len() / (filters * WINDOW_POINTS), filters);
    ArrayViewMut3::from_shape(shape, values).expect("whole points")
}

/// All of `values` as a padded filter-major kernel `[filters, 13, C]`.
pub(super) fn padded(values: &[f32], filters: usize) -> ArrayView3<'_, f32> {
    let shape = (filters, PADDED_TAPS, values.len() / (filters * PADDED_TAPS));
    ArrayView3::from_shape(shape, values).expect("whole filters")
}

pub(super) fn padded_mut(values: &mut [f32], filters: usize) -> ArrayViewMut3<'_, f32> {
    let shape = (filters, PADDED_TAPS, values.len() / (filters * PADDED_TAPS));
    ArrayViewMut3::from_shape(shape, values).expect("whole filters")
}

/// A tensor of the canonical layout.
pub(super) fn vector(weights: &[f32], tensor: usize) -> ArrayView1<'_, f32> {
    ArrayView1::from(&weights[TENSORS[tensor].range()])
}

pub(super) fn matrix(weights: &[f32], tensor: usize) -> ArrayView2<'_, f32> {
    rows(&weights[TENSORS[tensor].range()], TENSORS[tensor].shape[0])
}

pub(super) fn kernel(weights: &[f32], tensor: usize) -> ArrayView4<'_, f32> {
    let [height, width, channels, filters] = *TENSORS[tensor].shape else {
        unreachable!("a convolution's kernel")
    };
    ArrayView4::from_shape((height, width, channels, filters), &weights[TENSORS[tensor].range()])
        .expect("the table's shape")
}

pub(super) fn kernel_mut(weights: &mut [f32], tensor: usize) -> ArrayViewMut4<'_, f32> {
    let [height, width, channels, filters] = *TENSORS[tensor].shape else {
        unreachable!("a convolution's kernel")
    };
    ArrayViewMut4::from_shape((height, width, channels, filters), &mut weights[TENSORS[tensor].range()])
        .expect("the table's shape")
}

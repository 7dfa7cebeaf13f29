//! Blocks of 16 lanes, the unit in which every fast kernel loads, computes and stores.
//!
//! Plain arrays and plain loops of constant length: the compiler turns each loop into one 512-bit, two 256-bit or four
//! 128-bit instructions, whatever the surrounding `#[target_feature]` function allows.

use ndarray::{ArrayView, ArrayViewMut, Dimension};

use crate::cpu::InstructionSet;

/// Lanes of a block: the f32 of one 512-bit register, and of one 64-byte cache line.
pub const LANES: usize = 16;

/// One value for each of `L` neighbouring outputs.
pub(crate) type Lanes<const L: usize> = [f32; L];

/// `a * b + sum` in every lane, one rounding each.
#[inline(always)]
pub(crate) fn fma<S: InstructionSet, const L: usize>(a: f32, b: &Lanes<L>, sum: &mut Lanes<L>) {
    for lane in 0..L {
        sum[lane] = S::fma(a, b[lane], sum[lane]);
    }
}

/// `values` as blocks of `L`; its length is a multiple of `L`.
#[inline(always)]
pub(crate) fn blocks<T, const L: usize>(values: &[T]) -> &[[T; L]] {
    let (blocks, rest) = values.as_chunks();
    debug_assert!(rest.is_empty());
    blocks
}

/// `values` as blocks of `L`; its length is a multiple of `L`.
#[inline(always)]
pub(crate) fn blocks_mut<T, const L: usize>(values: &mut [T]) -> &mut [[T; L]] {
    let (blocks, rest) = values.as_chunks_mut();
    debug_assert!(rest.is_empty());
    blocks
}

/// The elements of a view, which the kernels want without gaps.
#[track_caller]
#[inline(always)]
pub(crate) fn elements<'a, T, D: Dimension>(view: &'a ArrayView<T, D>) -> &'a [T] {
    view.as_slice().expect("kernels take arrays in standard layout")
}

/// The elements of a view, which the kernels want without gaps.
#[track_caller]
#[inline(always)]
pub(crate) fn elements_mut<'a, T, D: Dimension>(view: &'a mut ArrayViewMut<T, D>) -> &'a mut [T] {
    view.as_slice_mut().expect("kernels take arrays in standard layout")
}

/// Zeros on the heap that start at a cache line, so that no block straddles two lines (which costs a second load).
#[derive(Debug)]
pub struct AlignedBuffer {
    memory: Box<[f32]>,
    start: usize,
    len: usize,
}

impl AlignedBuffer {
    /// A buffer of `len` zeros.
    pub fn zeros(len: usize) -> Self {
        let memory = vec![0.0; len + LANES].into_boxed_slice();
        let start = memory.as_ptr().align_offset(LANES * size_of::<f32>()).min(LANES);
        Self { memory, start, len }
    }
}

impl std::ops::Deref for AlignedBuffer {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl std::ops::DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

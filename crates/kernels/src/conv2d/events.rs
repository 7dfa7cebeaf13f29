//! Events: where a backward pass has gradients that are not zero, by window and by filter.
//!
//! Computes no sum; it only says what there is to add.

use crate::block::LANES;

/// Filters whose events in a window are the bits of a word.
pub(super) const WORD: usize = u32::BITS as usize;

/// A gradient that is not zero.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Event {
    /// The gradient before the ReLU.
    pub(super) dz: f32,
    /// The element of `x` under the upper left corner of the kernel.
    pub(super) corner: u32,
}

/// Scratch memory of a backward pass: every filter's events, in the order of examples and windows.
#[derive(Debug)]
pub struct Events {
    /// `[F][capacity]`.
    lists: Box<[Event]>,
    /// `[F]`: how many of them there are.
    pub(super) counts: Box<[u32]>,
    pub(super) capacity: usize,
}

impl Events {
    /// Memory for calls of up to `examples` examples, in layers of up to `windows` windows and `filters` filters.
    pub fn new(examples: usize, windows: usize, filters: usize) -> Self {
        let capacity = examples * windows;
        Self {
            lists: vec![Event::default(); filters * capacity].into(),
            counts: vec![0; filters].into(),
            capacity,
        }
    }

    #[inline(always)]
    pub(super) fn push(&mut self, filter: usize, event: Event) {
        let count = &mut self.counts[filter];
        self.lists[filter * self.capacity + *count as usize] = event;
        *count += 1;
    }

    #[inline(always)]
    pub(super) fn of(&self, filter: usize) -> &[Event] {
        &self.lists[filter * self.capacity..][..self.counts[filter] as usize]
    }
}

/// The events of up to 32 filters in one window.
pub(super) struct Found {
    /// The gradients, also those that are zero.
    pub(super) dz: [f32; WORD],
    /// The elements of `x` under the upper left corners of the kernel.
    pub(super) corners: [u32; WORD],
    /// Behind a pooling: the block of the padded kernel, from the first filter's first one on, that meets the window's
    /// second row and first column.
    pub(super) taps: [u32; WORD],
    /// Bit `lane` is set if the gradient is not zero.
    pub(super) all: u32,
    /// Behind a pooling: bit `lane` is set if the place is an upper one.
    pub(super) upper: u32,
}

impl Found {
    #[inline(always)]
    pub(super) fn none() -> Self {
        Self { dz: [0.0; WORD], corners: [0; WORD], taps: [0; WORD], all: 0, upper: 0 }
    }

    #[inline(always)]
    pub(super) fn event(&self, lane: usize) -> Event {
        Event { dz: self.dz[lane], corner: self.corners[lane] }
    }
}

/// A word whose bit `lane` is set if `is_set(lane)`.
#[inline(always)]
pub(super) fn mask(is_set: impl Fn(usize) -> bool) -> u32 {
    let mut word = 0;
    for lane in 0..LANES {
        word |= if is_set(lane) { 1 << lane } else { 0 };
    }
    word
}

/// The positions of the bits that are set, in ascending order.
#[inline(always)]
pub(super) fn bits(mut word: u32) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        // Asked first, this spares the lowest bit of nothing, for which older processors have no instruction.
        if word == 0 {
            return None;
        }
        let lowest = word.trailing_zeros() as usize;
        word &= word - 1;
        Some(lowest)
    })
}

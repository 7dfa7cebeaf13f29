//! What a layer with pooling makes of the background: computed once, copied wherever a window sees nothing else.
//!
//! The copy has the bits of the computation, because a window counts as background only if every value under it has
//! the background's bits. The first layer looks at the pixels, and leaves a map of where its windows saw *ink*; the next
//! one goes by that.

use ndarray::{ArrayView4, ArrayViewMut4};

use super::{PATCH_SIDE, Shape};
use crate::block::AlignedBuffer;

/// The most pairs of columns of an input whose background is looked for.
const MAX_PAIRS: usize = 16;

/// The input values of a place of the background, and the outputs of a window that sees nothing else.
#[derive(Debug)]
pub struct Background {
    /// `[4, 4, C]`: a window's whole input.
    x: AlignedBuffer,
    /// `[F]`.
    y: AlignedBuffer,
    /// `[F]`.
    places: Box<[u32]>,
}

impl Background {
    /// That of a layer of `channels` channels and `filters` filters, of zero input and zero weights.
    pub fn new(channels: usize, filters: usize) -> Self {
        Self {
            x: AlignedBuffer::zeros(PATCH_SIDE * PATCH_SIDE * channels),
            y: AlignedBuffer::zeros(filters),
            places: vec![0; filters].into(),
        }
    }

    /// Takes over the background `x [C]` and what the layer makes of it: `forward` computes the outputs and winning
    /// places of one window, `x [1, 4, 4, C]` to `y [1, 1, 1, F]`.
    ///
    /// # Panics
    /// If there are not `C` values, or `forward` finds the shapes wrong.
    pub fn update(
        &mut self,
        x: &[f32],
        forward: impl FnOnce(ArrayView4<f32>, ArrayViewMut4<f32>, ArrayViewMut4<u32>),
    ) {
        let (channels, filters) = (x.len(), self.y.len());
        assert_eq!(channels, self.x().len(), "channels of the background");
        self.x.chunks_exact_mut(channels).for_each(|place| place.copy_from_slice(x));
        let patch = ArrayView4::from_shape((1, PATCH_SIDE, PATCH_SIDE, channels), &self.x);
        let y = ArrayViewMut4::from_shape((1, 1, 1, filters), &mut self.y);
        let places = ArrayViewMut4::from_shape((1, 1, 1, filters), &mut self.places);
        forward(
            patch.expect("a patch of the background"),
            y.expect("a window of the background"),
            places.expect("a window of the background"),
        );
    }

    #[track_caller]
    pub(super) fn assert_of(&self, shape: Shape) {
        let sizes = (self.x().len(), self.y.len());
        assert_eq!(sizes, (shape.channels, shape.filters), "channels and filters of the background");
    }

    /// The outputs `[F]`: the background of the layer that reads them.
    pub fn y(&self) -> &[f32] {
        &self.y
    }

    /// The winning places `[F]`.
    pub(super) fn places(&self) -> &[u32] {
        &self.places
    }

    /// The input `[C]`.
    pub(super) fn x(&self) -> &[f32] {
        &self.x[..self.x.len() / (PATCH_SIDE * PATCH_SIDE)]
    }
}

/// What four rows of pixels, those under a row of windows, have of other bits than the background: a word for each pair
/// of columns. Windows begin at even columns and are two pairs wide.
pub(super) struct Ink {
    pairs: [u32; MAX_PAIRS],
}

impl Ink {
    /// Of the rows at the start of `x [H, W, 1]`. Without a background, or where it is not looked for, all is ink.
    #[inline(always)]
    pub(super) fn of(x: &[f32], background: Option<f32>, width: usize) -> Self {
        let Some(background) = background.filter(|_| width / 2 <= MAX_PAIRS) else {
            return Self { pairs: [1; MAX_PAIRS] };
        };
        let mut pairs = [0; MAX_PAIRS];
        for line in x[..PATCH_SIDE * width].chunks_exact(width) {
            let columns: &[[f32; 2]] = line.as_chunks().0;
            for (pair, [left, right]) in pairs.iter_mut().zip(columns) {
                *pair |= (left.to_bits() ^ background.to_bits()) | (right.to_bits() ^ background.to_bits());
            }
        }
        Self { pairs }
    }

    /// Whether the window in `column` sees any.
    #[inline(always)]
    pub(super) fn is_under(&self, column: usize) -> bool {
        // A window beyond the last pair can only be in a row that is ink altogether.
        let first = column.min(MAX_PAIRS - 2);
        self.pairs[first] | self.pairs[first + 1] != 0
    }
}

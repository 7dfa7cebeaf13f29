//! What a layer with pooling makes of the background: computed once, copied wherever a window sees nothing else.
//!
//! The copy has the bits of the computation, because a window counts as background only if every value under it has
//! the background's bits.

use ndarray::{ArrayView1, ArrayView4, ArrayViewMut4};

use super::PATCH_SIDE;
use crate::block::{AlignedBuffer, LANES, Lanes, blocks};
use crate::cpu::Cpu;

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

    /// Takes over the background `x [C]` and what the layer `w [3, 3, C, F]`, `b [F]` makes of it.
    ///
    /// # Panics
    /// If the shapes do not belong together or an array is not in standard layout.
    pub fn update(&mut self, cpu: Cpu, x: &[f32], w: ArrayView4<f32>, b: ArrayView1<f32>) {
        let (channels, filters) = (x.len(), b.len());
        self.x.chunks_exact_mut(channels).for_each(|place| place.copy_from_slice(x));
        let patch = ArrayView4::from_shape((1, PATCH_SIDE, PATCH_SIDE, channels), &self.x);
        let y = ArrayViewMut4::from_shape((1, 1, 1, filters), &mut self.y);
        let places = ArrayViewMut4::from_shape((1, 1, 1, filters), &mut self.places);
        super::forward_relu_pool(
            cpu,
            patch.expect("channels of the background"),
            w,
            b,
            None,
            y.expect("filters of the background"),
            places.expect("filters of the background"),
        );
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

/// What four rows of an example, those under a row of windows, have of other bits than the background: a word for each
/// pair of columns. Windows begin at even columns and are two pairs wide.
pub(super) struct Ink {
    pairs: [u32; MAX_PAIRS],
}

impl Ink {
    /// Of the rows at the start of `x [H, W, C]`. Without a background, or where it is not looked for, all is ink.
    #[inline(always)]
    pub(super) fn of(x: &[f32], background: Option<&[f32]>, width: usize, channels: usize) -> Self {
        let pairs = match (background, channels) {
            (Some(background), 1) if width / 2 <= MAX_PAIRS => differences::<1>(x, background, width),
            (Some(background), LANES) if width / 2 <= MAX_PAIRS => differences::<LANES>(x, background, width),
            _ => [1; MAX_PAIRS],
        };
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

#[inline(always)]
fn differences<const C: usize>(x: &[f32], background: &[f32], width: usize) -> [u32; MAX_PAIRS] {
    let background: &Lanes<C> = background.first_chunk().expect("a value for every channel");
    let x: &[Lanes<C>] = blocks(&x[..PATCH_SIDE * width * C]);
    let mut pairs = [0; MAX_PAIRS];
    for pair in 0..width / 2 {
        let mut difference = [0; C];
        for line in 0..PATCH_SIDE {
            let x: &[Lanes<C>; 2] = x[line * width + 2 * pair..].first_chunk().expect("a pair of columns");
            for column in 0..2 {
                for lane in 0..C {
                    difference[lane] |= x[column][lane].to_bits() ^ background[lane].to_bits();
                }
            }
        }
        pairs[pair] = difference.iter().fold(0, |word, lane| word | lane);
    }
    pairs
}

//! Max pooling 2x2 behind a ReLU, forward beside backward, as whole-block passes for the convolutions' tiles.
//!
//! Rows and columns beyond the last whole window are dropped. A later place wins only if it is strictly greater, in
//! row-major order. Never runs on its own: the convolution that feeds it has the four places in registers.

use crate::block::Lanes;

/// The four places of a window, before the ReLU, to the pooled outputs and the winning places (0 to 3, row-major).
///
/// The ReLU is taken of the first place only. The best is then at least zero, and a later place that is greater is
/// its own ReLU; so the results are those of pooling behind the ReLU.
#[inline(always)]
pub(crate) fn relu_max<const L: usize>(z: [&Lanes<L>; 4]) -> (Lanes<L>, [u32; L]) {
    let mut best = [0.0; L];
    let mut places = [0; L];
    for lane in 0..L {
        best[lane] = if z[0][lane] > 0.0 { z[0][lane] } else { 0.0 };
    }
    for place in 1..4 {
        for lane in 0..L {
            let greater = z[place][lane] > best[lane];
            best[lane] = if greater { z[place][lane] } else { best[lane] };
            places[lane] = if greater { place as u32 } else { places[lane] };
        }
    }
    (best, places)
}

/// Gradient behind the ReLU: `dy` where the output `y` is greater than zero, else zero.
#[inline(always)]
pub(crate) fn relu_backward<const L: usize>(y: &Lanes<L>, dy: &Lanes<L>) -> Lanes<L> {
    let mut dz = [0.0; L];
    for lane in 0..L {
        dz[lane] = keep(y[lane] > 0.0, dy[lane]);
    }
    dz
}

/// The part of a window's gradient that belongs to `place`: `dz` in the lanes where it won, else zero.
#[inline(always)]
pub(crate) fn route<const L: usize>(dz: &Lanes<L>, places: &[u32; L], place: usize) -> Lanes<L> {
    let mut routed = [0.0; L];
    for lane in 0..L {
        routed[lane] = keep(places[lane] == place as u32, dz[lane]);
    }
    routed
}

/// `value` if `condition`, else zero; by its bits, because the compiler makes branches of a choice between floats.
#[inline(always)]
fn keep(condition: bool, value: f32) -> f32 {
    f32::from_bits(u32::from(condition).wrapping_neg() & value.to_bits())
}

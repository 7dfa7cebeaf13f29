//! Convolution 3x3 without padding, with the ReLU and the pooling behind it: forward beside backward.
//!
//! `x [N, H, W, C]`, `w [3, 3, C, F]`, `b [F]`. Forward lanes are filters; a tile of places times filters stays in
//! registers while the terms run past it. Where a pooling follows, its window's four places are computed together, by
//! Winograd's method, with less than half of the multiplications. Backward lanes are input channels: behind a max pool and a ReLU only
//! one place in four has a gradient at all, so the backward pass walks over *events*, one for each (window, filter)
//! whose gradient is not zero. The first layer has a single channel, needs no input gradient and keeps lanes on
//! filters.
//!
//! Most of a drawing is background, where every window sees the same; [`Background`] computes that once.

mod background;
mod backward;
mod events;
mod first;
mod forward;
mod winograd;

pub use background::Background;
pub use backward::{backward_relu, backward_relu_pool};
pub use events::Events;
pub use first::{backward_first_relu_pool, forward_first_relu_pool};
pub use forward::forward_relu;
pub use winograd::{forward_relu_pool, kernel_points};

use crate::reference::KERNEL_SIDE;

/// Places under a convolution kernel.
const TAPS: usize = KERNEL_SIDE * KERNEL_SIDE;

/// Rows and columns of the input under a pooling window.
const PATCH_SIDE: usize = KERNEL_SIDE + 1;

/// The sizes of a layer; rows and columns count windows (places, where no pooling follows).
#[derive(Clone, Copy)]
struct Shape {
    height: usize,
    width: usize,
    channels: usize,
    filters: usize,
    rows: usize,
    columns: usize,
}

impl Shape {
    /// Elements of one example's `x`.
    #[inline(always)]
    fn input(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Elements of one example's `y`.
    #[inline(always)]
    fn output(&self) -> usize {
        self.rows * self.columns * self.filters
    }
}

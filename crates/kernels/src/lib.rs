//! Forward and backward kernels of the convnet, and the scalar reference that defines their bits.
//!
//! Owns every floating-point sum of the network. [`mod@reference`] says what the sums are, term by term; the files
//! beside it compute the same bits fast, on the instruction set that [`Cpu`] names. Never reads a clock, opens a
//! file, starts a thread or allocates during a kernel, and never splits a sum over lanes or threads.
//!
//! The alphabet: `N` examples, `H` height, `W` width, `C` input channels, `F` filters, `I` inputs, `O` outputs; the
//! gradient of `x` is `dx`. Channels are last. Lanes are always outputs.

#![warn(unreachable_pub)]
// Loops over lanes, places and terms read as the sums they compute, and compile as they stand.
#![allow(clippy::needless_range_loop, clippy::manual_memcpy)]

pub mod block;
pub mod conv2d;
pub mod cpu;
pub mod dense;
pub mod fma;
pub mod layout;
pub mod max_pool2d;
pub mod peak;
pub mod pixels;
pub mod reference;
pub mod softmax_cross_entropy;
pub mod sums;

pub use block::AlignedBuffer;
pub use cpu::{Cpu, CpuError};

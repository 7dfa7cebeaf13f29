//! A digit that somebody drew, as MNIST would have it.
//!
//! Owns the way from a picture of any size ([`Picture::decode`] reads PNG and PGM) to the 28x28 pixels that the network
//! was trained on: [`as_mnist`] for what is known to be a drawing, [`digit`] for a picture of anything. Pure: knows no
//! file, no network and no model; every cause of a refusal is a [`DrawingError`].
//!
//! In this order: a frame is taken off (`frame.rs`), the paper is told from its light (`paper.rs`) and ink from the paper
//! by any difference of colour (`contrast.rs`), the paper's lines go (`lines.rs`), then specks (`shapes.rs`); what is left
//! is judged (`ink.rs`), scaled and laid (`mnist.rs`).

mod contrast;
mod decode;
mod error;
mod frame;
mod ink;
mod lines;
mod mnist;
mod paper;
mod pgm;
mod picture;
mod shapes;
#[cfg(test)]
mod testing;

pub use error::DrawingError;
pub use mnist::{PIXELS, SIDE, as_mnist, digit};
pub use picture::{MAX_PIXELS, Picture};

//! A digit that somebody drew, as MNIST would have it.
//!
//! Owns the way from a picture of any size ([`Picture::decode`] reads PNG and PGM) to the 28x28 pixels that the network
//! was trained on ([`as_mnist`]). Pure: knows no file, no network and no model; every cause of a refusal is a
//! [`DrawingError`].

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

//! A digit that somebody drew, as MNIST would have it.
//!
//! Owns the way from a picture of any size ([`Grey::decode`] reads PNG and PGM) to the 28x28 pixels that the network
//! was trained on ([`as_mnist`]). Pure: knows no file, no network and no model; every cause of a refusal is a
//! [`DrawingError`].

mod decode;
mod error;
mod frame;
mod grey;
mod mnist;
mod pgm;

pub use error::DrawingError;
pub use grey::{Grey, MAX_PIXELS};
pub use mnist::{PIXELS, SIDE, as_mnist};

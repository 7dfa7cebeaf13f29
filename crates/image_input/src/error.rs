//! Why a picture cannot be taken for a drawing of a digit: one line each, without the file's name, which the caller
//! knows.

use crate::picture::MAX_PIXELS;

/// A picture was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DrawingError {
    /// There is nothing in it.
    #[error("it is empty; a PNG or PGM image is wanted")]
    NoBytes,
    /// It is no image that is known here.
    #[error("it is no PNG or PGM image; if it is an image, convert it to PNG")]
    NoImage,
    /// It is an image of a format that is not read.
    #[error("it is a {format} image; convert it to PNG or PGM")]
    OtherFormat {
        /// What it is.
        format: &'static str,
    },
    /// It begins like a PNG or PGM image and does not go on like one.
    #[error("it is a damaged {format} image: {reason}")]
    Damaged {
        /// What it begins like.
        format: &'static str,
        /// What is wrong, on one line.
        reason: String,
    },
    /// It has no pixels.
    #[error("it has {width} x {height} pixels; a drawing needs at least one")]
    NoPixels {
        /// Its width.
        width: u64,
        /// Its height.
        height: u64,
    },
    /// It has too many pixels.
    #[error("it has {width} x {height} pixels, more than {MAX_PIXELS} in all; make it smaller")]
    TooLarge {
        /// Its width.
        width: u64,
        /// Its height.
        height: u64,
    },
    /// There are not as many pixels as width and height ask for.
    #[error("{width} x {height} pixels are {} bytes of grey, and there are {actual}", width * height)]
    Length {
        /// The width.
        width: usize,
        /// The height.
        height: usize,
        /// How many there are.
        actual: usize,
    },
    /// Nothing is drawn in it.
    #[error("nothing is drawn in it: it is all of one colour")]
    Blank,
    /// What is in it is no digit on paper.
    #[error("it does not look like a digit in ink on paper: {reason}; take a picture of one digit alone")]
    NoDigit {
        /// What speaks against it.
        reason: &'static str,
    },
}

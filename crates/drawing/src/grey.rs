//! A grey picture of any size, within a bound.

use crate::DrawingError;

/// The most pixels of a picture: 4096 x 4096, more than most cameras take. A digit needs a thousandth of it, and the
/// memory that an image may ask for must have a bound.
pub const MAX_PIXELS: usize = 1 << 24;

/// A picture: 0 is black, 255 is white.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grey {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Grey {
    /// Takes `pixels`, `[height, width]` row-major.
    ///
    /// # Errors
    ///
    /// [`DrawingError::NoPixels`], [`DrawingError::TooLarge`] or [`DrawingError::Length`].
    pub fn new(width: usize, height: usize, pixels: Vec<u8>) -> Result<Self, DrawingError> {
        let expected = area(width as u64, height as u64)?;
        if pixels.len() != expected {
            return Err(DrawingError::Length { width, height, actual: pixels.len() });
        }
        Ok(Self { width, height, pixels })
    }

    /// Pixels of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// `[height, width]`, row-major.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }
}

/// The number of pixels, if it is one that is allowed.
pub(crate) fn area(width: u64, height: u64) -> Result<usize, DrawingError> {
    if width == 0 || height == 0 {
        return Err(DrawingError::NoPixels { width, height });
    }
    width
        .checked_mul(height)
        .and_then(|area| usize::try_from(area).ok())
        .filter(|area| *area <= MAX_PIXELS)
        .ok_or(DrawingError::TooLarge { width, height })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_the_pixels_that_it_says() {
        assert_eq!(Grey::new(2, 3, vec![0; 6]).unwrap().height(), 3);
        assert_eq!(Grey::new(0, 3, vec![]), Err(DrawingError::NoPixels { width: 0, height: 3 }));
        assert_eq!(
            Grey::new(2, 3, vec![0; 5]).unwrap_err().to_string(),
            "2 x 3 pixels are 6 bytes of grey, and there are 5"
        );
        assert!(area(4096, 4096).is_ok());
        let too_large = [(4096, 4097), (u64::from(u32::MAX), u64::from(u32::MAX)), (u64::MAX, 2)];
        for (width, height) in too_large {
            assert_eq!(area(width, height), Err(DrawingError::TooLarge { width, height }));
        }
    }
}

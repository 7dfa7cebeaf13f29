//! A picture of any size, within a bound: greys, or red, green and blue.

use std::borrow::Cow;
use std::ops::Range;

use crate::DrawingError;

/// The most pixels of a picture: 4096 x 4096, more than most cameras take. A digit needs a thousandth of it, and the
/// memory that an image may ask for must have a bound.
pub const MAX_PIXELS: usize = 1 << 24;

/// A picture: 0 is dark, 255 is light.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    /// One of greys, or three of red, green and blue: `[height, width]`, row-major.
    planes: Vec<Vec<u8>>,
}

impl Picture {
    /// Takes greys, `[height, width]` row-major.
    ///
    /// # Errors
    ///
    /// [`DrawingError::NoPixels`], [`DrawingError::TooLarge`] or [`DrawingError::Length`].
    pub fn grey(width: usize, height: usize, pixels: Vec<u8>) -> Result<Self, DrawingError> {
        let expected = area(width as u64, height as u64)?;
        if pixels.len() != expected {
            return Err(DrawingError::Length { width, height, actual: pixels.len() });
        }
        Ok(Self { width, height, planes: vec![pixels] })
    }

    /// Takes red, green and blue of every pixel; a picture whose colours are all greys is one of greys.
    pub(crate) fn colours(
        width: usize,
        height: usize,
        pixels: impl Iterator<Item = [u8; 3]>,
    ) -> Result<Self, DrawingError> {
        let mut planes = vec![Vec::new(); 3];
        for colour in pixels {
            planes.iter_mut().zip(colour).for_each(|(plane, value)| plane.push(value));
        }
        let first = Self::grey(width, height, planes[0].clone())?;
        Ok(if planes[0] == planes[1] && planes[0] == planes[2] { first } else { Self { planes, ..first } })
    }

    /// Pixels of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    pub(crate) fn planes(&self) -> &[Vec<u8>] {
        &self.planes
    }

    /// How bright each pixel is (Rec. 601).
    pub(crate) fn brightness(&self) -> Cow<'_, [u8]> {
        let [red, green, blue] = &*self.planes else { return Cow::Borrowed(&self.planes[0]) };
        let weighted = red.iter().zip(green).zip(blue).map(|((red, green), blue)| {
            // At most 255: the weights sum up to 1000.
            ((u32::from(*red) * 299 + u32::from(*green) * 587 + u32::from(*blue) * 114 + 500) / 1000) as u8
        });
        Cow::Owned(weighted.collect())
    }

    /// The part of it in these columns and rows, which it has.
    pub(crate) fn part(&self, columns: Range<usize>, rows: Range<usize>) -> Self {
        let part = |plane: &Vec<u8>| {
            let lines = plane.chunks_exact(self.width).skip(rows.start).take(rows.len());
            lines.flat_map(|line| &line[columns.clone()]).copied().collect()
        };
        Self { width: columns.len(), height: rows.len(), planes: self.planes.iter().map(part).collect() }
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
        assert_eq!(Picture::grey(2, 3, vec![0; 6]).unwrap().height(), 3);
        assert_eq!(Picture::grey(0, 3, vec![]), Err(DrawingError::NoPixels { width: 0, height: 3 }));
        assert_eq!(
            Picture::grey(2, 3, vec![0; 5]).unwrap_err().to_string(),
            "2 x 3 pixels are 6 bytes of grey, and there are 5"
        );
        assert!(area(4096, 4096).is_ok());
        let too_large = [(4096, 4097), (u64::from(u32::MAX), u64::from(u32::MAX)), (u64::MAX, 2)];
        for (width, height) in too_large {
            assert_eq!(area(width, height), Err(DrawingError::TooLarge { width, height }));
        }
    }

    #[test]
    fn colours_that_are_all_grey_are_greys() {
        let greys = Picture::grey(2, 1, vec![7, 9]).unwrap();
        assert_eq!(Picture::colours(2, 1, [[7; 3], [9; 3]].into_iter()).unwrap(), greys);
        let colours = Picture::colours(2, 1, [[7, 7, 8], [9; 3]].into_iter()).unwrap();
        assert_eq!((colours.planes().len(), &*colours.brightness()), (3, &[7, 9][..]));
    }
}

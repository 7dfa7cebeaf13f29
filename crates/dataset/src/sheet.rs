//! Owns pictures of many examples, as PNG: plain for documentation, or with what a network makes of them.
//!
//! Never changes a pixel's value, but where a predicted digit is written over it.

use crate::examples::{Examples, IMAGE_SIDE};

/// Side of a pixel of an example, in pixels of the picture.
const SCALE: usize = 2;
/// Black pixels between two examples and around all of them.
const MARGIN: usize = 4;
/// From one example to the next.
const PITCH: usize = IMAGE_SIDE * SCALE + MARGIN;

/// Digits of 3x5 dots; the highest of a row's three bits is the left dot.
const GLYPHS: [[u8; 5]; 10] = [
    [7, 5, 5, 5, 7],
    [2, 6, 2, 2, 7],
    [7, 1, 7, 4, 7],
    [7, 1, 3, 1, 7],
    [5, 5, 7, 1, 1],
    [7, 4, 7, 1, 7],
    [7, 4, 7, 5, 7],
    [7, 1, 2, 2, 2],
    [7, 5, 7, 5, 7],
    [7, 5, 7, 1, 7],
];
/// Side of a glyph's dot, in pixels of the picture.
const DOT: usize = 2;
/// A prediction that is the label, and one that is not: red, green, blue.
const RIGHT: [u8; 3] = [64, 224, 96];
const WRONG: [u8; 3] = [255, 72, 56];

/// Digits in a row of a sheet of test digits.
pub const SHEET_COLUMNS: usize = 10;

/// The first `columns * rows` examples as a grey PNG, row by row; places beyond the last example stay black.
///
/// # Panics
/// If `columns` or `rows` is 0, or the picture would be larger than PNG allows.
pub fn contact_sheet(examples: &Examples, columns: usize, rows: usize) -> Vec<u8> {
    let plane = Plane::draw(examples, columns, rows);
    // For a repository: as small as it gets.
    plane.encode(&plane.grey, png::ColorType::Grayscale, png::Compression::High)
}

/// A PNG of red, green and blue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// The file's content.
    pub png: Vec<u8>,
}

/// The first examples, `columns` in a row, each with the digit in `predicted` in its upper left corner: green where it
/// is the label, red where it is not.
///
/// # Panics
/// If there is nothing to draw, a prediction is not below 10, or there are more of them than examples.
pub fn prediction_sheet(examples: &Examples, predicted: &[u8], columns: usize) -> Picture {
    let plane = Plane::draw(examples, columns, predicted.len().div_ceil(columns.max(1)));
    let mut colors: Vec<u8> = plane.grey.iter().flat_map(|&grey| [grey; 3]).collect();
    for (i, (&digit, &label)) in predicted.iter().zip(&examples.labels[..predicted.len()]).enumerate() {
        let color = if digit == label { RIGHT } else { WRONG };
        let (left, top) = place(i, columns);
        for (y, row) in GLYPHS[usize::from(digit)].iter().enumerate() {
            for x in (0..3).filter(|x| row & (4 >> x) != 0) {
                for line in 0..DOT {
                    let pixel = (top + (y + 1) * DOT + line) * plane.width + left + (x + 1) * DOT;
                    colors[3 * pixel..][..3 * DOT].copy_from_slice(&color.repeat(DOT));
                }
            }
        }
    }
    // Made during a training, whose time it takes.
    let png = plane.encode(&colors, png::ColorType::Rgb, png::Compression::Fast);
    Picture { width: plane.width as u32, height: plane.height as u32, png }
}

/// Where example `i` begins.
fn place(i: usize, columns: usize) -> (usize, usize) {
    (i % columns * PITCH + MARGIN, i / columns * PITCH + MARGIN)
}

/// Examples side by side, a byte a pixel.
struct Plane {
    width: usize,
    height: usize,
    grey: Vec<u8>,
}

impl Plane {
    fn draw(examples: &Examples, columns: usize, rows: usize) -> Self {
        assert!(
            columns > 0 && rows > 0,
            "a sheet of {columns} columns and {rows} rows has no place for an image"
        );
        let (width, height) = (columns * PITCH + MARGIN, rows * PITCH + MARGIN);
        let mut grey = vec![0; width * height];
        for i in 0..examples.len().min(columns * rows) {
            let (left, top) = place(i, columns);
            let image = examples.image(i);
            for y in 0..IMAGE_SIDE * SCALE {
                let line = &image[y / SCALE * IMAGE_SIDE..][..IMAGE_SIDE];
                let start = (top + y) * width + left;
                for (x, pixel) in grey[start..start + IMAGE_SIDE * SCALE].iter_mut().enumerate() {
                    *pixel = line[x / SCALE];
                }
            }
        }
        Self { width, height, grey }
    }

    fn encode(&self, pixels: &[u8], color: png::ColorType, compression: png::Compression) -> Vec<u8> {
        let (width, height) = (self.width, self.height);
        encode(pixels, width, height, color, compression)
            .unwrap_or_else(|error| panic!("a PNG of {width}x{height} in memory: {error}"))
    }
}

fn encode(
    pixels: &[u8],
    width: usize,
    height: usize,
    color: png::ColorType,
    compression: png::Compression,
) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let side = |n: usize| u32::try_from(n).map_err(|_| png::EncodingError::LimitsExceeded);
    let mut encoder = png::Encoder::new(&mut bytes, side(width)?, side(height)?);
    encoder.set_color(color);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(compression);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::IMAGE_PIXELS;

    #[test]
    fn every_example_lies_in_its_place() {
        let mut images = vec![0; 3 * IMAGE_PIXELS];
        images[2 * IMAGE_PIXELS + IMAGE_SIDE + 5] = 200;
        let sheet = contact_sheet(&Examples { images, labels: vec![0; 3] }, 2, 2);
        let mut reader = png::Decoder::new(std::io::Cursor::new(sheet)).read_info().unwrap();
        let mut grey = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut grey).unwrap();
        assert_eq!((info.width, info.height), (124, 124));
        // Example 2 opens the second row; its pixel (1, 5) covers 2x2.
        let lit: Vec<_> = (0..grey.len()).filter(|&i| grey[i] == 200).map(|i| (i / 124, i % 124)).collect();
        assert_eq!(lit, [(66, 14), (66, 15), (67, 14), (67, 15)]);
        assert_eq!(grey.iter().filter(|&&pixel| pixel != 0).count(), 4);
    }
    #[test]
    fn a_prediction_stands_in_its_corner_in_the_color_of_its_truth() {
        let examples = Examples { images: vec![9; 3 * IMAGE_PIXELS], labels: vec![1, 7, 7] };
        let Picture { width, height, png } = prediction_sheet(&examples, &[1, 1], 2);
        assert_eq!((width, height), (124, 64));
        let mut reader = png::Decoder::new(std::io::Cursor::new(png)).read_info().unwrap();
        let mut colors = vec![0; reader.output_buffer_size().unwrap()];
        assert_eq!(reader.next_frame(&mut colors).unwrap().color_type, png::ColorType::Rgb);
        let places = |color: [u8; 3]| -> Vec<(usize, usize)> {
            let pixels = colors.chunks_exact(3).enumerate().filter(|(_, pixel)| *pixel == color);
            pixels.map(|(i, _)| (i / 124, i % 124)).collect()
        };
        // The 1's dots: one in the middle, two, one, one, three; each of 2x2 pixels.
        let right = places(RIGHT);
        assert_eq!(right.len(), 8 * 4);
        assert_eq!(right[..2], [(6, 8), (6, 9)]);
        assert_eq!(right.last(), Some(&(15, 11)));
        let wrong: Vec<_> = right.iter().map(|(y, x)| (*y, x + 60)).collect();
        assert_eq!(places(WRONG), wrong);
        assert_eq!(places([9; 3]).len(), 2 * 56 * 56 - 2 * 32);
    }
}

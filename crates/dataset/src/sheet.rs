//! Owns the picture of many examples, a PNG for documentation; never changes a pixel's value.

use crate::examples::{Examples, IMAGE_SIDE};

/// Side of a pixel of an example, in pixels of the picture.
const SCALE: usize = 2;
/// Black pixels between two examples and around all of them.
const MARGIN: usize = 4;

/// The first `columns * rows` examples as a grey PNG, row by row; places beyond the last example stay black.
///
/// # Panics
/// If `columns` or `rows` is 0, or the picture would be larger than PNG allows.
pub fn contact_sheet(examples: &Examples, columns: usize, rows: usize) -> Vec<u8> {
    assert!(
        columns > 0 && rows > 0,
        "a sheet of {columns} columns and {rows} rows has no place for an image"
    );
    let pitch = IMAGE_SIDE * SCALE + MARGIN;
    let (width, height) = (columns * pitch + MARGIN, rows * pitch + MARGIN);
    let mut grey = vec![0; width * height];
    for i in 0..examples.len().min(columns * rows) {
        let (left, top) = (i % columns * pitch + MARGIN, i / columns * pitch + MARGIN);
        let image = examples.image(i);
        for y in 0..IMAGE_SIDE * SCALE {
            let line = &image[y / SCALE * IMAGE_SIDE..][..IMAGE_SIDE];
            let start = (top + y) * width + left;
            for (x, pixel) in grey[start..start + IMAGE_SIDE * SCALE].iter_mut().enumerate() {
                *pixel = line[x / SCALE];
            }
        }
    }
    encode(&grey, width, height)
        .unwrap_or_else(|error| panic!("a PNG of {width}x{height} in memory: {error}"))
}

fn encode(grey: &[u8], width: usize, height: usize) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let side = |n: usize| u32::try_from(n).map_err(|_| png::EncodingError::LimitsExceeded);
    let mut encoder = png::Encoder::new(&mut bytes, side(width)?, side(height)?);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.set_compression(png::Compression::High);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(grey)?;
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
}

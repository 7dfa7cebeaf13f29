//! Bytes to a picture: what kind of image they are, and PNG.
//!
//! Sizes are checked before any memory is asked for. Transparent places become white, or black if nothing would be seen
//! otherwise.

use std::io::Cursor;

use png::{ColorType, Decoder, Limits, Transformations};

use crate::picture::{MAX_PIXELS, Picture, area};
use crate::{DrawingError, pgm};

/// How images that people have, and that are not read here, begin.
const OTHER_FORMATS: [(&[u8], &str); 11] = [
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"RIFF", "WebP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"P1", "PBM"),
    (b"P4", "PBM"),
    (b"P3", "PPM"),
    (b"P6", "PPM"),
    (b"P7", "PAM"),
];

const PNG_BEGIN: &[u8] = b"\x89PNG\r\n\x1a\n";

/// The greatest number of bytes of a pixel that the decoder gives out: eight bits each of red, green, blue, alpha.
const MAX_BYTES_PER_PIXEL: usize = 4;

impl Picture {
    /// Reads a PNG or PGM image.
    ///
    /// # Errors
    ///
    /// [`DrawingError`], for whatever is no such image, is damaged, cut short or too large.
    pub fn decode(bytes: &[u8]) -> Result<Self, DrawingError> {
        if bytes.is_empty() {
            return Err(DrawingError::NoBytes);
        }
        if bytes.starts_with(PNG_BEGIN) {
            return png(bytes);
        }
        if bytes.starts_with(b"P5") || bytes.starts_with(b"P2") {
            return pgm::decode(bytes);
        }
        let other = OTHER_FORMATS.iter().find(|(begin, _)| bytes.starts_with(begin));
        Err(other.map_or(DrawingError::NoImage, |(_, format)| DrawingError::OtherFormat { format }))
    }
}

fn png(bytes: &[u8]) -> Result<Picture, DrawingError> {
    let damaged = |error: png::DecodingError| DrawingError::Damaged {
        format: "PNG",
        reason: in_words(&error.to_string()),
    };
    let mut decoder =
        Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: 2 * MAX_BYTES_PER_PIXEL * MAX_PIXELS });
    // Palettes and few bits become eight bits a channel, sixteen bits become eight.
    decoder.set_transformations(Transformations::EXPAND | Transformations::STRIP_16);
    let header = decoder.read_header_info().map_err(damaged)?;
    let (width, height) = (header.width, header.height);
    let area = area(width.into(), height.into())?;
    let mut reader = decoder.read_info().map_err(damaged)?;
    let (color, _) = reader.output_color_type();
    let mut samples = vec![0; area * color.samples()];
    reader.next_frame(&mut samples).map_err(damaged)?;
    picture(width as usize, height as usize, color, samples)
}

/// What the decoder says, on one line and without its structures.
fn in_words(reason: &str) -> String {
    if reason.starts_with("CRC error") {
        return "its checksum is wrong; copy or save it again".to_owned();
    }
    let reason = reason.replace('\n', " ");
    // A part of the file, of whose structure people know the name at most: `ChunkType { type: IDAT, critical: ... }`.
    match reason.split_once("ChunkType { type: ") {
        Some((before, part)) => {
            let name = part.split(',').next().unwrap_or_default();
            let after = part.split_once('}').map_or("", |(_, after)| after);
            format!("{before}{name}{after}")
        }
        None => reason,
    }
}

fn picture(width: usize, height: usize, color: ColorType, samples: Vec<u8>) -> Result<Picture, DrawingError> {
    let opaque = |samples: &[u8]| {
        let (pixels, _) = samples.as_chunks::<3>();
        Picture::colours(width, height, pixels.iter().copied())
    };
    let grey = |[grey, alpha]: &[u8; 2]| [*grey, *grey, *grey, *alpha];
    match color {
        // The decoder has replaced every palette.
        ColorType::Grayscale | ColorType::Indexed => Picture::grey(width, height, samples),
        ColorType::Rgb => opaque(&samples),
        ColorType::GrayscaleAlpha => on_paper(width, height, samples.as_chunks().0.iter().map(grey)),
        ColorType::Rgba => on_paper(width, height, samples.as_chunks().0.iter().copied()),
    }
}

/// Red, green, blue and alpha on white paper; on black if everything is white then.
fn on_paper(
    width: usize,
    height: usize,
    pixels: impl Iterator<Item = [u8; 4]> + Clone,
) -> Result<Picture, DrawingError> {
    let on = |paper: u32| {
        let blend = move |[red, green, blue, alpha]: [u8; 4]| {
            let alpha = u32::from(alpha);
            [red, green, blue]
                .map(|value| ((u32::from(value) * alpha + paper * (255 - alpha) + 127) / 255) as u8)
        };
        Picture::colours(width, height, pixels.clone().map(blend))
    };
    let white = on(255)?;
    let blank = white.planes().iter().all(|plane| plane.iter().all(|value| *value == plane[0]));
    if blank { on(0) } else { Ok(white) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A PNG of two rows of three pixels.
    fn encoded(color: ColorType, depth: png::BitDepth, palette: Option<&[u8]>, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 3, 2);
        encoder.set_color(color);
        encoder.set_depth(depth);
        if let Some(palette) = palette {
            encoder.set_palette(palette.to_vec());
        }
        encoder.write_header().unwrap().write_image_data(data).unwrap();
        bytes
    }

    fn pixels(bytes: &[u8]) -> Vec<u8> {
        let picture = Picture::decode(bytes).unwrap();
        assert_eq!((picture.width(), picture.height()), (3, 2));
        picture.brightness().to_vec()
    }

    #[test]
    fn every_kind_of_png_is_read() {
        use png::BitDepth::{Eight, One, Sixteen};
        let grey = [0, 50, 100, 150, 200, 255];
        assert_eq!(pixels(&encoded(ColorType::Grayscale, Eight, None, &grey)), grey);
        let sixteen: Vec<u8> = grey.iter().flat_map(|value| [*value, 7]).collect();
        assert_eq!(pixels(&encoded(ColorType::Grayscale, Sixteen, None, &sixteen)), grey);
        let bits = encoded(ColorType::Grayscale, One, None, &[0b0100_0000, 0b1010_0000]);
        assert_eq!(pixels(&bits), [0, 255, 0, 255, 0, 255]);
        let rgb: Vec<u8> = grey.iter().flat_map(|value| [*value; 3]).collect();
        assert_eq!(pixels(&encoded(ColorType::Rgb, Eight, None, &rgb)), grey);
        let colors = [255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 0, 255, 0, 255, 0, 255, 255];
        assert_eq!(pixels(&encoded(ColorType::Rgb, Eight, None, &colors)), [76, 150, 29, 226, 105, 179]);
        let palette = [10, 10, 10, 90, 90, 90];
        let indexed = encoded(ColorType::Indexed, Eight, Some(&palette), &[0, 1, 0, 1, 1, 1]);
        assert_eq!(pixels(&indexed), [10, 90, 10, 90, 90, 90]);
    }

    #[test]
    fn transparent_places_are_paper() {
        let with_alpha = |samples: [[u8; 2]; 6]| {
            pixels(&encoded(ColorType::GrayscaleAlpha, png::BitDepth::Eight, None, samples.as_flattened()))
        };
        // Black strokes on nothing, half transparent at their edges.
        let black = with_alpha([[0, 0], [0, 128], [0, 255], [0, 0], [0, 0], [0, 0]]);
        assert_eq!(black, [255, 127, 0, 255, 255, 255]);
        // White strokes on nothing would not be seen on white.
        let white = with_alpha([[255, 0], [255, 128], [255, 255], [255, 0], [255, 0], [255, 0]]);
        assert_eq!(white, [0, 128, 255, 0, 0, 0]);
        let rgba = [[0, 0, 0, 0], [0, 0, 0, 255], [255, 0, 0, 255], [0, 0, 0, 0], [9, 9, 9, 0], [0, 0, 0, 0]];
        let rgba = encoded(ColorType::Rgba, png::BitDepth::Eight, None, rgba.as_flattened());
        assert_eq!(pixels(&rgba), [255, 0, 76, 255, 255, 255]);
    }

    #[test]
    fn what_is_no_image_is_told_apart() {
        let refusal = |bytes: &[u8]| Picture::decode(bytes).unwrap_err().to_string();
        assert_eq!(refusal(b""), "it is empty; a PNG or PGM image is wanted");
        let unknown = "it is no PNG or PGM image; if it is an image, convert it to PNG";
        for bytes in [&b"seven"[..], b"\0\0\0\x18ftypheic", b"<svg></svg>"] {
            assert_eq!(refusal(bytes), unknown);
        }
        assert_eq!(refusal(b"\xff\xd8\xff\xe0 JFIF"), "it is a JPEG image; convert it to PNG or PGM");
        assert_eq!(refusal(b"P1\n2 1\n0 1"), "it is a PBM image; convert it to PNG or PGM");
        assert_eq!(refusal(b"P4\n2 1\n\x40"), "it is a PBM image; convert it to PNG or PGM");
        assert_eq!(refusal(b"P7\nWIDTH 2"), "it is a PAM image; convert it to PNG or PGM");
        assert_eq!(refusal(b"P6\n1 1\n255\nrgb"), "it is a PPM image; convert it to PNG or PGM");
    }

    #[test]
    fn a_png_cut_short_or_changed_is_refused_and_never_panics() {
        let whole = encoded(ColorType::Grayscale, png::BitDepth::Eight, None, &[0, 50, 100, 150, 200, 255]);
        let end = whole.windows(4).position(|name| name == b"IEND").unwrap();
        for length in 8..end - 4 {
            let refused = Picture::decode(&whole[..length]);
            assert!(
                matches!(refused, Err(DrawingError::Damaged { format: "PNG", .. })),
                "{length}: {refused:?}"
            );
        }
        for place in 0..whole.len() {
            for bit in 0..8 {
                let mut changed = whole.clone();
                changed[place] ^= 1 << bit;
                let reason =
                    Picture::decode(&changed).map_or_else(|error| error.to_string(), |_| String::new());
                assert!(!reason.contains("ChunkType"), "{reason}");
            }
        }
    }

    #[test]
    fn a_damaged_png_is_spoken_of_in_words() {
        let whole = encoded(ColorType::Grayscale, png::BitDepth::Eight, None, &[0, 50, 100, 150, 200, 255]);
        let mut changed = whole.clone();
        changed[whole.windows(4).position(|name| name == b"IDAT").unwrap() + 8] ^= 1;
        assert_eq!(
            Picture::decode(&changed).unwrap_err().to_string(),
            "it is a damaged PNG image: its checksum is wrong; copy or save it again"
        );
        // The second header is a whole part, in a wrong place.
        let header = whole.windows(4).position(|name| name == b"IHDR").unwrap() - 4;
        let twice = [&whole[..header + 25], &whole[header..]].concat();
        let reason = Picture::decode(&twice).unwrap_err().to_string();
        assert!(reason.ends_with("Chunk IHDR must appear at most once."), "{reason}");
    }

    #[test]
    fn an_absurd_size_is_refused_before_memory_is_asked_for() {
        let mut huge = Vec::new();
        {
            let encoder = png::Encoder::new(&mut huge, 100_000, 100_000);
            // Only the header is written: nobody has these pixels.
            let _ = encoder.write_header().unwrap();
        }
        let refused = Picture::decode(&huge).unwrap_err();
        assert_eq!(refused, DrawingError::TooLarge { width: 100_000, height: 100_000 });
        assert_eq!(
            refused.to_string(),
            "it has 100000 x 100000 pixels, more than 16777216 in all; make it smaller"
        );
    }
}

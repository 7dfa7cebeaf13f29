//! A drawing as the network knows digits: MNIST's way of cutting, scaling and centring one.
//!
//! Grey values in, grey values out; the bits of training are not concerned.

use lockstep_dataset::{IMAGE_PIXELS, IMAGE_SIDE};

/// The longer side of the ink of an MNIST digit.
const INK_SIDE: f32 = 20.0;

/// Fainter than this is background.
const LEAST_INK: u8 = 16;

/// A square drawing of `side` pixels a side, bright ink on black, as 28x28: the ink is scaled to 20 pixels and its
/// centre of mass put into the middle. Without ink it is black.
///
/// # Panics
/// If `pixels` is not a square of that side.
pub fn normalise(pixels: &[u8], side: usize) -> [u8; IMAGE_PIXELS] {
    assert_eq!(pixels.len(), side * side, "pixels of a square");
    let mut image = [0; IMAGE_PIXELS];
    let inked = |x: usize, y: usize| pixels[y * side + x] >= LEAST_INK;
    let rows: Vec<usize> = (0..side).filter(|&y| (0..side).any(|x| inked(x, y))).collect();
    let columns: Vec<usize> = (0..side).filter(|&x| (0..side).any(|y| inked(x, y))).collect();
    let (Some(top), Some(bottom), Some(left), Some(right)) =
        (rows.first(), rows.last(), columns.first(), columns.last())
    else {
        return image;
    };
    let (mut mass, mut mass_x, mut mass_y) = (0.0_f32, 0.0_f32, 0.0_f32);
    for y in *top..=*bottom {
        for x in *left..=*right {
            let ink = f32::from(pixels[y * side + x]);
            mass += ink;
            mass_x += ink * (x as f32 + 0.5);
            mass_y += ink * (y as f32 + 0.5);
        }
    }
    let longer = (bottom - top).max(right - left) + 1;
    // Pixels of the drawing for one of the image.
    let scale = longer as f32 / INK_SIDE;
    let (centre_x, centre_y) = (mass_x / mass, mass_y / mass);
    let middle = IMAGE_SIDE as f32 / 2.0;
    for y in 0..IMAGE_SIDE {
        for x in 0..IMAGE_SIDE {
            let from = |at: usize, centre: f32| centre + (at as f32 - middle) * scale;
            let mean = mean_of(pixels, side, from(x, centre_x), from(y, centre_y), scale);
            image[y * IMAGE_SIDE + x] = mean.round() as u8;
        }
    }
    image
}

/// The mean over a square of `extent` pixels a side from `left` and `top` on; beyond the drawing it is black.
fn mean_of(pixels: &[u8], side: usize, left: f32, top: f32, extent: f32) -> f32 {
    let overlaps = |from: f32| {
        let to = from + extent;
        let cells = (from.floor().max(0.0) as usize)..(to.ceil().clamp(0.0, side as f32) as usize);
        cells.map(move |at| (at, to.min(at as f32 + 1.0) - from.max(at as f32)))
    };
    let mut sum = 0.0;
    for (y, height) in overlaps(top) {
        for (x, width) in overlaps(left) {
            sum += f32::from(pixels[y * side + x]) * height * width;
        }
    }
    sum / (extent * extent)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A filled rectangle.
    fn drawing(side: usize, columns: std::ops::Range<usize>, rows: std::ops::Range<usize>) -> Vec<u8> {
        let ink = |at: usize| columns.contains(&(at % side)) && rows.contains(&(at / side));
        (0..side * side).map(|at| if ink(at) { 255 } else { 0 }).collect()
    }

    #[test]
    fn ink_of_any_size_and_place_is_centred_at_the_size_of_mnist() {
        let expected = normalise(&drawing(28, 9..19, 4..24), 28);
        for y in 0..IMAGE_SIDE {
            for x in 0..IMAGE_SIDE {
                let inside = (9..19).contains(&x) && (4..24).contains(&y);
                assert_eq!(expected[y * 28 + x], if inside { 255 } else { 0 }, "{x}, {y}");
            }
        }
        assert_eq!(normalise(&drawing(112, 0..40, 32..112), 112), expected, "large, and in the corner");
        assert_eq!(normalise(&drawing(280, 200..205, 100..110), 280), expected, "tiny");
    }

    #[test]
    fn nothing_drawn_is_black_and_everything_drawn_is_no_trouble() {
        assert_eq!(normalise(&[0; 784], 28), [0; 784]);
        assert_eq!(normalise(&[LEAST_INK - 1; 784], 28), [0; 784]);
        let full = normalise(&[255; 784], 28);
        assert_eq!((full[0], full[14 * 28 + 14]), (0, 255));
        assert_eq!(
            normalise(&drawing(28, 27..28, 27..28), 28)[14 * 28 + 14],
            255,
            "a dot in the last corner"
        );
    }
}

//! A picture of a digit as MNIST's makers would have made it: light on black, its longer side 20 pixels, its centre of
//! mass in the middle of 28x28.
//!
//! An image of MNIST itself comes out as it is, but for the rounding of its brightest grey. Y. LeCun, L. Bottou,
//! Y. Bengio, P. Haffner, "Gradient-based learning applied to document recognition", 1998, section III.A, says in words
//! what is done here; where exactly the centre lies is measured (in all of MNIST it is in pixel 14, counted from 0).

use std::ops::Range;

use crate::ink::Ink;
use crate::{DrawingError, Picture};

/// Height and width of the result.
pub const SIDE: usize = 28;
/// Pixels of the result.
pub const PIXELS: usize = SIDE * SIDE;
/// The longer side of the digit in it.
pub(crate) const BOX: usize = 20;
/// The pixel that the centre of mass lies in, in both directions.
const CENTRE: f32 = 14.0;

/// The drawing in `picture`, dark on light or light on dark, of any size and anywhere, as an image of MNIST: `[28, 28]`
/// row-major, 0 is background. A thin frame of one colour around it is left out, and so are shadows, specks and the lines
/// of the paper.
///
/// # Errors
///
/// [`DrawingError::Blank`] or [`DrawingError::NoDigit`] if nothing is drawn in it.
pub fn as_mnist(picture: &Picture) -> Result<[u8; PIXELS], DrawingError> {
    Ok(Ink::of(picture)?.image)
}

/// The same of a picture that may show anything.
///
/// # Errors
///
/// [`DrawingError::Blank`] if nothing is drawn in it, [`DrawingError::NoDigit`] if it does not look like a digit in ink on
/// paper.
pub fn digit(picture: &Picture) -> Result<[u8; PIXELS], DrawingError> {
    let ink = Ink::of(picture)?;
    ink.doubt.map_or(Ok(ink.image), |reason| Err(DrawingError::NoDigit { reason }))
}

/// `ink [height, width]` scaled and laid as MNIST's digits are.
pub(crate) fn normalised(ink: &[u8], full_width: usize) -> Result<[u8; PIXELS], DrawingError> {
    let (columns, rows) = bounds(ink, full_width).ok_or(DrawingError::Blank)?;
    // Never both less than the box's side and more: one scale for both directions keeps the aspect.
    let scale = BOX as f32 / columns.len().max(rows.len()) as f32;
    let (across, down) = (Taps::new(columns, scale), Taps::new(rows, scale));

    // Columns first: each row that is needed once, then rows of it.
    let (width, height) = (across.len(), down.len());
    let narrow: Vec<f32> = down
        .source
        .clone()
        .flat_map(|row| {
            let line = &ink[row * full_width..][..full_width];
            (0..width).map(|column| across.sum(column, |at| f32::from(line[at]))).collect::<Vec<_>>()
        })
        .collect();
    let scaled: Vec<f32> = (0..height)
        .flat_map(|row| {
            let narrow = &narrow;
            let down = &down;
            (0..width)
                .map(move |column| down.sum(row, |at| narrow[(at - down.source.start) * width + column]))
        })
        .collect();
    Ok(centred(&scaled, width))
}

/// The columns and rows from the first to the last that have any ink.
pub(crate) fn bounds(ink: &[u8], width: usize) -> Option<(Range<usize>, Range<usize>)> {
    let (mut left, mut right, mut top, mut bottom) = (width, 0, None, 0);
    for (row, line) in ink.chunks_exact(width).enumerate() {
        let Some(first) = line.iter().position(|ink| *ink > 0) else { continue };
        let last = line.iter().rposition(|ink| *ink > 0).unwrap_or(first);
        (left, right) = (left.min(first), right.max(last + 1));
        top = top.or(Some(row));
        bottom = row + 1;
    }
    top.map(|top| (left..right, top..bottom))
}

/// How one direction is scaled: for every place of the result the mean of the source below it, or, where the source is
/// coarser than the result, between its two nearest pixels.
struct Taps {
    source: Range<usize>,
    /// For every place of the result, its first source pixel and the weights from there on, whose sum is 1 inside.
    places: Vec<(usize, Vec<f32>)>,
}

impl Taps {
    fn new(source: Range<usize>, scale: f32) -> Self {
        let extent = source.len() as f32 * scale;
        // At most the box's side, up to the rounding of the scale; half of what is cut off is on either side.
        let count = ((extent - 1e-3).ceil() as usize).clamp(1, BOX);
        let margin = (count as f32 - extent) / 2.0;
        let reach = (1.0 / scale).max(1.0);
        let place = |index: usize| {
            let centre = (index as f32 + 0.5 - margin) / scale;
            let (low, high) = (centre - reach / 2.0, centre + reach / 2.0);
            // Casts of floats to integers cut off and saturate: what lies before the source is not there.
            let (first, last) = (low as usize, (high.ceil() as usize).min(source.len()));
            let overlap = |at: usize| (high.min(at as f32 + 1.0) - low.max(at as f32)).max(0.0) / reach;
            (source.start + first, (first..last).map(overlap).collect())
        };
        Self { places: (0..count).map(place).collect(), source }
    }

    fn len(&self) -> usize {
        self.places.len()
    }

    fn sum(&self, place: usize, value: impl Fn(usize) -> f32) -> f32 {
        let (first, weights) = &self.places[place];
        weights.iter().zip(*first..).map(|(weight, at)| weight * value(at)).sum()
    }
}

/// `scaled [height, width]`, at most 20x20, laid so that its centre of mass is in the middle, its greatest value 255.
fn centred(scaled: &[f32], width: usize) -> [u8; PIXELS] {
    let total: f32 = scaled.iter().sum();
    let most = scaled.iter().copied().fold(0.0, f32::max);
    let height = scaled.len() / width;
    let mean = |coordinate: &dyn Fn(usize) -> usize| {
        let moment: f32 =
            scaled.iter().enumerate().map(|(at, ink)| (coordinate(at) as f32 + 0.5) * ink).sum();
        moment / total
    };
    let start = |mean: f32, extent: usize| ((CENTRE - mean).ceil().max(0.0) as usize).min(SIDE - extent);
    let left = start(mean(&|at| at % width), width);
    let top = start(mean(&|at| at / width), height);
    let mut image = [0; PIXELS];
    for (row, line) in scaled.chunks_exact(width).enumerate() {
        for (pixel, ink) in image[(top + row) * SIDE + left..].iter_mut().zip(line) {
            *pixel = (ink / most * 255.0).round() as u8;
        }
    }
    image
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    use super::*;

    /// The strokes of a 5, in a square of side 1: x, y.
    const FIVE: [(f32, f32); 8] = [
        (0.8, 0.05),
        (0.25, 0.05),
        (0.2, 0.45),
        (0.55, 0.4),
        (0.8, 0.6),
        (0.75, 0.85),
        (0.45, 0.97),
        (0.15, 0.85),
    ];
    const PEN: f32 = 0.07;

    /// How a 5 is drawn: on a sheet, with its upper left corner at `corner`, so large, in these greys.
    #[derive(Clone, Copy)]
    struct Sheet {
        width: usize,
        height: usize,
        corner: (f32, f32),
        side: f32,
        ink: f32,
        paper: f32,
    }

    const PLAIN: Sheet =
        Sheet { width: 200, height: 200, corner: (30.0, 30.0), side: 140.0, ink: 0.0, paper: 255.0 };

    fn draw(sheet: Sheet) -> Picture {
        let Sheet { width, height, corner, side, ink, paper } = sheet;
        let depth = |x: f32, y: f32| {
            let (x, y) = ((x - corner.0) / side, (y - corner.1) / side);
            let distance = |(a, b): ((f32, f32), (f32, f32))| {
                let (dx, dy) = (b.0 - a.0, b.1 - a.1);
                let along = (((x - a.0) * dx + (y - a.1) * dy) / (dx * dx + dy * dy)).clamp(0.0, 1.0);
                (x - a.0 - along * dx).hypot(y - a.1 - along * dy)
            };
            FIVE.windows(2).map(|line| distance((line[0], line[1]))).fold(PEN * 2.0, f32::min)
        };
        // Half a pixel inside is all ink, half a pixel outside is none.
        let pixel = |at: usize| {
            let outside = (depth((at % width) as f32 + 0.5, (at / width) as f32 + 0.5) - PEN) * side;
            let cover = (0.5 - outside).clamp(0.0, 1.0);
            (paper + (ink - paper) * cover).round() as u8
        };
        Picture::grey(width, height, (0..width * height).map(pixel).collect()).unwrap()
    }

    fn reference() -> [u8; PIXELS] {
        as_mnist(&draw(PLAIN)).unwrap()
    }

    /// Mean difference of the pixels in greys, at the best of the shifts by up to a pixel: the centre of mass may fall on
    /// either side of the border between two pixels.
    fn difference(left: &[u8; PIXELS], right: &[u8; PIXELS]) -> f32 {
        let at = |image: &[u8; PIXELS], row: usize, column: usize| i32::from(image[row * SIDE + column]);
        let shifted = |down: usize, across: usize| -> f32 {
            let places = (1..SIDE - 1).flat_map(|row| (1..SIDE - 1).map(move |column| (row, column)));
            let sum: i32 = places
                .map(|(row, column)| {
                    (at(left, row, column) - at(right, row + down - 1, column + across - 1)).abs()
                })
                .sum();
            sum as f32 / PIXELS as f32
        };
        (0..9).map(|shift| shifted(shift / 3, shift % 3)).fold(f32::INFINITY, f32::min)
    }

    #[test]
    fn size_place_colours_and_shape_of_the_sheet_do_not_matter() {
        let cases = [
            ("small", Sheet { width: 40, height: 40, corner: (7.0, 7.0), side: 26.0, ..PLAIN }, 10.0),
            (
                "large",
                Sheet { width: 2000, height: 2000, corner: (100.0, 100.0), side: 1800.0, ..PLAIN },
                2.0,
            ),
            ("light on dark", Sheet { ink: 255.0, paper: 0.0, ..PLAIN }, 0.1),
            ("grey on grey", Sheet { ink: 90.0, paper: 140.0, ..PLAIN }, 1.0),
            ("in a corner", Sheet { width: 600, height: 400, corner: (450.0, 250.0), ..PLAIN }, 1.0),
            ("on a strip", Sheet { width: 1200, height: 160, corner: (1000.0, 10.0), ..PLAIN }, 1.0),
            ("cut close", Sheet { width: 112, height: 149, corner: (-10.0, 2.0), ..PLAIN }, 3.0),
        ];
        for (name, sheet, most) in cases {
            let difference = difference(&as_mnist(&draw(sheet)).unwrap(), &reference());
            assert!(difference <= most, "{name}: {difference} greys");
        }
        // Its mirror image, for comparison.
        let mirrored: Vec<u8> =
            draw(PLAIN).planes()[0].chunks(200).flat_map(|row| row.iter().rev()).copied().collect();
        let mirrored = as_mnist(&Picture::grey(200, 200, mirrored).unwrap()).unwrap();
        assert!(difference(&mirrored, &reference()) > 20.0, "{}", difference(&mirrored, &reference()));
    }

    #[test]
    fn a_frame_is_no_part_of_the_drawing() {
        for (paper, ink) in [(255.0, 0.0), (0.0, 255.0)] {
            let sheet = draw(Sheet { paper, ink, ..PLAIN });
            let mut pixels = vec![ink as u8; 206 * 206];
            for (row, line) in sheet.planes()[0].chunks_exact(200).enumerate() {
                pixels[(3 + row) * 206 + 3..][..200].copy_from_slice(line);
            }
            assert_eq!(
                as_mnist(&Picture::grey(206, 206, pixels).unwrap()).unwrap(),
                as_mnist(&sheet).unwrap()
            );
        }
    }

    #[test]
    fn the_grain_of_paper_is_no_ink() {
        let clean = draw(Sheet { paper: 220.0, ink: 40.0, ..PLAIN });
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let grain = |pixel: &u8| {
            // The sum of four is nearly normal; from -12 to 12.
            let bytes = random.next_u32().to_be_bytes();
            let noise: i32 = bytes.iter().map(|byte| i32::from(*byte % 7) - 3).sum();
            (i32::from(*pixel) + noise).clamp(0, 255) as u8
        };
        let grainy = Picture::grey(200, 200, clean.planes()[0].iter().map(grain).collect()).unwrap();
        let image = as_mnist(&grainy).unwrap();
        assert!(difference(&image, &reference()) < 3.0, "{}", difference(&image, &reference()));
    }

    #[test]
    fn it_lies_as_mnist_lays_it_and_an_image_of_mnist_stays_as_it_is() {
        let image = reference();
        let ink: Vec<usize> = (0..PIXELS).filter(|at| image[*at] > 0).collect();
        let extent = |coordinate: &dyn Fn(usize) -> usize| {
            let all = || ink.iter().map(|at| coordinate(*at));
            all().max().unwrap() + 1 - all().min().unwrap()
        };
        assert_eq!(extent(&|at| at / SIDE), 20, "the longer side");
        assert!(extent(&|at| at % SIDE) < 20, "the aspect is kept");
        let mass: f32 = image.iter().map(|pixel| f32::from(*pixel)).sum();
        for coordinate in [&|at: usize| at / SIDE, &|at: usize| at % SIDE] as [&dyn Fn(usize) -> usize; 2] {
            let moment: f32 =
                (0..PIXELS).map(|at| (coordinate(at) as f32 + 0.5) * f32::from(image[at])).sum();
            assert!((14.0..15.0).contains(&(moment / mass)), "{}", moment / mass);
        }
        assert_eq!(image.iter().max(), Some(&255));
        assert_eq!(as_mnist(&Picture::grey(SIDE, SIDE, image.to_vec()).unwrap()).unwrap(), image);
    }

    #[test]
    fn thin_lines_and_single_dots_are_drawings() {
        // A line of one pixel on a sheet of a thousand would be a shade of five greys.
        let mut pixels = vec![255; 1_000_000];
        (100..900).for_each(|row| pixels[row * 1000 + 500] = 0);
        let image = as_mnist(&Picture::grey(1000, 1000, pixels).unwrap()).unwrap();
        let lit: Vec<usize> = (0..PIXELS).filter(|at| image[*at] > 0).collect();
        assert_eq!(lit.iter().map(|at| (at / SIDE, at % SIDE, image[*at])).collect::<Vec<_>>(), {
            (4..24).map(|row| (row, 14, 255)).collect::<Vec<_>>()
        });
        let mut pixels = vec![0; 9];
        pixels[4] = 200;
        let image = as_mnist(&Picture::grey(3, 3, pixels).unwrap()).unwrap();
        assert!(image.contains(&255));
    }

    #[test]
    fn nothing_drawn_is_refused() {
        for (width, height, grey) in [(28, 28, 0), (28, 28, 255), (1, 1, 7), (300, 1, 128)] {
            let blank = Picture::grey(width, height, vec![grey; width * height]).unwrap();
            assert_eq!(as_mnist(&blank), Err(DrawingError::Blank));
        }
        let mut faint = vec![255; 100];
        faint[55] = 250;
        assert_eq!(as_mnist(&Picture::grey(10, 10, faint).unwrap()), Err(DrawingError::Blank));
    }

    #[test]
    fn no_picture_of_any_size_panics() {
        for width in 1..40 {
            for height in 1..40 {
                let pixels = (0..width * height).map(|at| ((at * 7 + at / 3) * 31 % 251) as u8).collect();
                let _ = as_mnist(&Picture::grey(width, height, pixels).unwrap());
            }
        }
    }
}

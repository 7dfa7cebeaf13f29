//! The strokes of a digit, without what else is on the paper, and whether they look like strokes of ink at all.

use crate::contrast::{Contrast, Histogram};
use crate::frame::without_frames;
use crate::lines::without_lines;
use crate::mnist::{BOX, PIXELS, SIDE, bounds, normalised};
use crate::shapes::Shapes;
use crate::{DrawingError, Picture};

/// A pixel with less than this part of the contrast that tells ink from paper is the soft edge of no stroke.
const WEAK: u8 = 4;

// What follows is measured on MNIST's training digits, drawn in every way that `.ci/pictures` knows, and on photographs.
// Beside each bound is what the digits have.

/// A digit has at most so many strokes that do not touch: 2.
const MOST_STROKES: usize = 4;
/// What is as light as the strokes are dark, or the other way round, has at most this part of their pixels: none.
const MOST_OPPOSITE: usize = 4;
/// So many of a hundred pixels of a stroke are clearly ink: 59, under a strong blur.
const LEAST_SOLID_PERCENT: usize = 50;
/// The side of the largest square of ink in the box of 20 pixels: 9, but for one digit in two thousand.
const LARGEST_SQUARE: usize = 9;
/// The contrast of ink is at least so many halves of what the paper's grain explains: 5.
const LEAST_HALVES_OF_GRAIN: u32 = 5;
/// And at least two in so many of the greys by which the paper's light varies: it is four of five.
const TWO_PARTS_OF_LIGHT: u32 = 3;

/// Strokes on paper.
pub(crate) struct Ink {
    /// As an image of MNIST.
    pub(crate) image: [u8; PIXELS],
    /// What speaks against a digit in ink on paper.
    pub(crate) doubt: Option<&'static str>,
}

impl Ink {
    /// All strokes in a picture, whatever they are.
    pub(crate) fn of(picture: &Picture) -> Result<Self, DrawingError> {
        let picture = &*without_frames(picture);
        let contrast = Contrast::of(picture)?;
        if is_mnist(picture, &contrast) {
            return Ok(Self { image: normalised(&contrast.values, contrast.width)?, doubt: None });
        }
        Self::cleaned(contrast)
    }

    fn cleaned(contrast: Contrast) -> Result<Self, DrawingError> {
        let Contrast { width, mut values, grain, light, opposite } = contrast;
        let strong = values.iter().copied().collect::<Histogram>().threshold();
        let weak = strong / WEAK;
        let whole = values.clone();
        let lines = without_lines(&mut values, width, weak);
        if lines == 1 && values.iter().all(|value| *value <= strong) {
            // A thin 1 from edge to edge.
            values = whole;
        }
        let shapes = Shapes::of(&values, width, weak);
        let strokes = shapes.strokes(strong);
        let kept = shapes.keep(&strokes, &mut values, width);
        if kept == 0 {
            return Err(DrawingError::NoDigit { reason: "nothing but lines and specks is in it" });
        }

        let (solid, sum) = values
            .iter()
            .filter(|value| **value > strong)
            .fold((0, 0), |(count, sum), value| (count + 1, sum + u64::from(*value)));
        let ink = (sum / solid.max(1)) as u32;
        let uneven = ink * 2 < u32::from(grain) * LEAST_HALVES_OF_GRAIN
            || ink * TWO_PARTS_OF_LIGHT < u32::from(light) * 2;
        let image = normalised(&values, width)?;
        let both_sides = opposite.above(strong.saturating_add(grain)) as usize > kept / MOST_OPPOSITE;
        let doubts = [
            (uneven || both_sides, "what is around it is too uneven for paper"),
            (strokes.iter().filter(|stroke| **stroke).count() > MOST_STROKES, "many shapes are in it"),
            (shapes.area() > 2 * kept, "many specks are in it"),
            (solid as usize * 100 < kept * LEAST_SOLID_PERCENT, "what is in it has no edges"),
            (largest_square(&image) > LARGEST_SQUARE, "what is in it is too broad for a stroke"),
        ];
        let doubt = doubts.into_iter().find_map(|(doubtful, reason)| doubtful.then_some(reason));
        Ok(Self { image, doubt })
    }
}

/// Whether this is an image that MNIST's makers have cleaned and scaled already, to the last pixel: on so few a speck
/// cannot be told from a stroke.
fn is_mnist(picture: &Picture, contrast: &Contrast) -> bool {
    let sides = (picture.width(), picture.height());
    let extent =
        || bounds(&contrast.values, contrast.width).map(|(columns, rows)| columns.len().max(rows.len()));
    sides == (SIDE, SIDE)
        && (contrast.grain, contrast.light) == (0, 0)
        // One digit in five thousand has 19.
        && extent().is_some_and(|extent| extent == BOX || extent == BOX - 1)
}

/// The side of the largest square in which every pixel has some ink, a quarter at least.
fn largest_square(image: &[u8; PIXELS]) -> usize {
    // Of the squares whose lower right corner is this pixel.
    let mut sides = [[0; SIDE + 1]; SIDE + 1];
    for (at, _) in image.iter().enumerate().filter(|(_, ink)| **ink >= 64) {
        let (row, column) = (at / SIDE, at % SIDE);
        let around = [sides[row][column], sides[row][column + 1], sides[row + 1][column]];
        sides[row + 1][column + 1] = 1 + around.into_iter().min().unwrap_or(0);
    }
    sides.into_iter().flatten().max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    use super::*;
    use crate::testing::{FIVE, FOUR, SEVEN, Sheet};

    fn doubt(picture: &Picture) -> Option<String> {
        crate::digit(picture).err().map(|error| error.to_string())
    }

    /// Numbers from -1 to 1 that look like chance.
    fn chance() -> impl FnMut() -> f32 {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        move || (random.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0
    }

    fn picture(width: usize, height: usize, mut grey: impl FnMut(f32, f32) -> f32) -> Picture {
        let mut pixel = |at: usize| grey((at % width) as f32, (at / width) as f32).clamp(0.0, 255.0) as u8;
        let pixels = (0..width * height).map(&mut pixel).collect();
        Picture::grey(width, height, pixels).unwrap()
    }

    #[test]
    fn a_digit_is_the_same_image_on_any_paper() {
        let near = |left: &[u8; PIXELS], right: &[u8; PIXELS]| {
            let sum: u32 = left.iter().zip(right).map(|(left, right)| u32::from(left.abs_diff(*right))).sum();
            sum as f32 / PIXELS as f32
        };
        for strokes in [FOUR, FIVE, SEVEN] {
            let sheet = Sheet::of(strokes);
            let plain = crate::digit(&sheet.plain()).unwrap();
            let shade = |x: usize, y: usize| 225.0 - 105.0 * (x + y) as f32 / 460.0;
            let mut noise = chance();
            let mut grainy = |_: usize, _: usize| 215.0 + 25.0 * noise();
            let grainy: Vec<f32> = (0..240 * 220).map(|at| grainy(at, 0)).collect();
            let specks = sheet.clone().speck(3, 1, 1).speck(9, 229, 205);
            let pictures = [
                ("specks", specks.plain()),
                ("light on dark, with specks", specks.on(255.0, |_, _| 0.0)),
                ("a shadow", sheet.on(40.0, shade)),
                ("a shadow and specks", specks.on(40.0, shade)),
                ("ruled paper", sheet.on(30.0, |_, y| if y % 35 < 2 { 120.0 } else { 240.0 })),
                (
                    "squared paper",
                    sheet.on(30.0, |x, y| if x % 30 == 9 || y % 30 == 9 { 90.0 } else { 240.0 }),
                ),
                ("red on green", sheet.coloured([220.0, 40.0, 40.0], [20.0, 140.0, 63.0])),
                ("grain", sheet.on(20.0, |x, y| grainy[y * 240 + x])),
            ];
            for (name, picture) in pictures {
                let image = crate::digit(&picture).unwrap_or_else(|error| panic!("{name}: {error}"));
                assert!(near(&image, &plain) < 3.0, "{name}: {} greys", near(&image, &plain));
            }
        }
    }

    #[test]
    fn what_is_no_ink_on_paper_gets_a_sentence() {
        let mut noise = chance();
        let mut gentle = chance();
        let oval = |x: f32, y: f32, a: f32, b: f32| x.hypot(y * a / b) < a;
        let face = picture(240, 300, |x, y| {
            let (x, y) = (x - 120.0, y - 130.0);
            let eyes = oval(x.abs() - 25.0, y + 15.0, 9.0, 6.0);
            let tone = if eyes || oval(x, y - 40.0, 25.0, 7.0) { 50.0 } else { 140.0 };
            if oval(x, y, 65.0, 85.0) { tone } else { 225.0 + 8.0 * gentle() }
        });
        let soft =
            picture(200, 200, |x, y| 230.0 - 180.0 / (1.0 + ((x - 100.0).hypot(y - 100.0) / 25.0).powi(4)));
        let page = picture(400, 300, |x, y| {
            let (x, y) = (x as usize, y as usize);
            let letter = y % 30 > 8 && (x % 20 < 4 || (x % 20 < 14 && y % 30 < 13));
            if letter && (15..285).contains(&y) { 20.0 } else { 250.0 }
        });
        let bars = picture(200, 200, |x, y| match x as usize {
            60..75 if (40.0..160.0).contains(&y) => 20.0,
            120..130 if (40.0..160.0).contains(&y) => 240.0,
            _ => 128.0,
        });
        let specks = Sheet::of(SEVEN).with(|x, y| x % 9 < 4 && y % 9 < 4);
        let cases = [
            ("noise", picture(120, 90, |_, _| 127.5 + 127.0 * noise()), "too uneven for paper"),
            ("small noise", picture(28, 28, |_, _| 127.5 + 127.0 * noise()), "too uneven for paper"),
            (
                "hills",
                picture(200, 150, |x, y| {
                    127.0 + 60.0 * (x / 17.0).sin() + 50.0 * (y / 13.0 + x / 40.0).cos()
                }),
                "too uneven",
            ),
            ("a face", face, "too broad for a stroke"),
            ("as much light as dark", bars, "too uneven for paper"),
            ("a page", page, "many shapes"),
            (
                "lines",
                picture(200, 150, |_, y| if y as usize % 30 == 7 { 80.0 } else { 240.0 }),
                "nothing but lines",
            ),
            ("a digit under specks", specks.plain(), "many specks"),
            ("a soft spot", soft, "no edges"),
        ];
        for (name, picture, part) in cases {
            let sentence = doubt(&picture);
            let expected = "it does not look like a digit in ink on paper: ";
            assert!(
                sentence
                    .as_ref()
                    .is_some_and(|sentence| sentence.starts_with(expected) && sentence.contains(part)),
                "{name}: {sentence:?}"
            );
        }
    }

    #[test]
    fn a_drawing_that_is_known_to_be_one_is_not_doubted() {
        let blot = picture(100, 100, |x, y| if (x - 50.0).hypot(y - 50.0) < 30.0 { 255.0 } else { 0.0 });
        assert!(doubt(&blot).is_some());
        assert!(crate::as_mnist(&blot).unwrap().contains(&255));
    }

    #[test]
    fn a_thin_one_from_edge_to_edge_is_a_digit() {
        let one = picture(120, 150, |x, _| if (60.0..63.0).contains(&x) { 0.0 } else { 255.0 });
        assert_eq!(doubt(&one), None);
    }

    #[test]
    fn an_image_of_mnist_keeps_what_might_be_specks() {
        // A stroke of 20 pixels, and one that a larger picture would show as a speck.
        let small = picture(28, 28, |x, y| {
            let stroke = (14.0..16.0).contains(&x) && (4.0..24.0).contains(&y);
            if stroke || (x, y) == (10.0, 12.0) { 255.0 } else { 0.0 }
        });
        assert_eq!(crate::digit(&small).unwrap().iter().filter(|ink| **ink > 0).count(), 41);
        let moved = picture(28, 28, |x, y| {
            let stroke = (14.0..16.0).contains(&x) && (4.0..24.0).contains(&y);
            if stroke || (x, y) == (1.0, 1.0) { 255.0 } else { 0.0 }
        });
        assert_eq!(
            crate::digit(&moved).unwrap().iter().filter(|ink| **ink > 0).count(),
            40,
            "a speck outside"
        );
    }
}

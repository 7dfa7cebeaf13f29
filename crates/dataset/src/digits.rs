//! Owns the generated digits: which image gets which label, and how strokes, hand and ink make its pixels.
//!
//! Every image is a pure function of its number: images are drawn in parallel, in any order, and the first n
//! of a set are the same for every n. Only integers and IEEE-exact operations, so the arrays are the same bits
//! on every CPU. Independent of a run's seed.

use rayon::prelude::*;

use crate::draw::Draw;
use crate::examples::{CLASSES, Examples, IMAGE_PIXELS};
use crate::handwriting::Path;
use crate::raster::Canvas;
use crate::stream;

/// Training images that can be generated.
pub const DIGITS_TRAIN: usize = 60_000;
/// Test images that can be generated.
pub const DIGITS_TEST: usize = 10_000;

/// The seed of all generated digits; whoever changes it, or a draw, changes the data set.
const SEED: u64 = 0x4c6f_636b_7374_6570;

/// The first `n` generated training images.
///
/// # Panics
/// If `n` is more than [`DIGITS_TRAIN`].
pub fn digits_train(n: usize) -> Examples {
    assert!(n <= DIGITS_TRAIN, "{n} of {DIGITS_TRAIN} generated training images");
    generate(stream::DIGITS_TRAIN, n)
}

/// The first `n` generated test images.
///
/// # Panics
/// If `n` is more than [`DIGITS_TEST`].
pub fn digits_test(n: usize) -> Examples {
    assert!(n <= DIGITS_TEST, "{n} of {DIGITS_TEST} generated test images");
    generate(stream::DIGITS_TEST, n)
}

fn generate(stream: u64, n: usize) -> Examples {
    let mut examples = Examples { images: vec![0; n * IMAGE_PIXELS], labels: vec![0; n] };
    let images = examples.images.par_chunks_exact_mut(IMAGE_PIXELS);
    images.zip(&mut examples.labels).enumerate().for_each_init(
        || (Canvas::new(), Path::default()),
        |(canvas, path), (number, (image, label))| {
            let mut draw = Draw(stream::open(SEED, stream, number as u64));
            *label = draw.below(CLASSES as u32) as u8;
            path.write(usize::from(*label), &mut draw);
            canvas.clear();
            path.lines().for_each(|(a, b)| canvas.line(a, b));
            develop(canvas, image, &mut draw);
        },
    );
    examples
}

/// Turns ink into grey values: a soft edge, a pen that is more or less dark, a little noise on the ink.
fn develop(canvas: &Canvas, image: &mut [u8], draw: &mut Draw) {
    let softness = draw.between(0.9, 1.5);
    let dark = draw.between(235.0, 300.0);
    for (i, pixel) in image.iter_mut().enumerate() {
        let ink = canvas.ink(i, softness);
        if ink > 0.0 {
            // The cast cuts off: at 0 below, at 255 above.
            *pixel = (ink * dark + draw.between(-10.0, 10.0)) as u8;
        }
    }
}

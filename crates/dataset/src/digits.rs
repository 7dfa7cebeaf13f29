//! Owns the generated digits: which image gets which label, and how strokes, hand and ink make its pixels.
//!
//! Every image is a pure function of its number: images are drawn in parallel, in any order, and the first n
//! of a set are the same for every n. Only integers and IEEE-exact operations, so the arrays are the same bits
//! on every CPU. Independent of a run's seed.

use rayon::prelude::*;

use crate::draw::Draw;
use crate::examples::{CLASSES, Examples, IMAGE_PIXELS};
use crate::handwriting::Path;
use crate::raster::{Canvas, smaller};
use crate::stream;
use crate::threads::on_all_cores;

/// Training images that can be generated.
pub const DIGITS_TRAIN: usize = 60_000;
/// Test images that can be generated.
pub const DIGITS_TEST: usize = 10_000;

/// The seed of all generated digits; whoever changes it, or a draw, changes the data set.
const SEED: u64 = 0x4c6f_636b_7374_6570;

/// Farther than this outside the ink, in pixels, an edge shows nothing, however soft and rough.
const EDGE: f32 = 1.5;

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
    let pairs = images.zip(&mut examples.labels).enumerate();
    let tools = || (Canvas::new(), Path::default());
    on_all_cores(|| {
        pairs.for_each_init(tools, |(canvas, path), (number, (image, label))| {
            let mut draw = Draw(stream::open(SEED, stream, number as u64));
            *label = draw.below(CLASSES as u32) as u8;
            path.write(usize::from(*label), &mut draw);
            canvas.clear();
            path.lines().for_each(|(a, b)| canvas.line(a, b));
            develop(canvas, image, &mut draw);
        });
    });
    examples
}

/// Turns ink into grey values: a soft and rough edge, a pen that is more or less dark, a little noise.
fn develop(canvas: &Canvas, image: &mut [u8], draw: &mut Draw) {
    let softness = draw.between(0.8, 1.3);
    let roughness = draw.between(0.05, 0.4);
    let dark = draw.between(250.0, 320.0);
    for (i, pixel) in image.iter_mut().enumerate() {
        let depth = canvas.depth(i);
        if depth > -EDGE {
            let ink = (depth + draw.between(-roughness, roughness)) / softness + 0.5;
            let grey = smaller(ink, 1.0) * dark + draw.between(-10.0, 10.0);
            // `as u8` saturates: at 0 below, at 255 above. Where there is no ink there is no noise either.
            *pixel = if ink > 0.0 { grey as u8 } else { 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::{hex, sha256};

    fn digests(examples: &Examples) -> [String; 2] {
        [hex(&sha256(&examples.images)), hex(&sha256(&examples.labels))]
    }

    #[test]
    fn the_first_thousand_are_the_promised_ones() {
        assert_eq!(
            digests(&digits_train(1000)),
            [
                "612bb55c95cb45af9ad4842a6f0c5723ab81851078e87626382c547ef11e2b1c",
                "3b6acc412bc45e13e100276462aae34b779cd476bdb8aa11f004c43d88d634f1"
            ]
        );
        assert_eq!(
            digests(&digits_test(1000)),
            [
                "48fd7a4f343cdd54a757183af056d50d21e6694f9da361bf6ed2e5a33db35766",
                "c85e8687845c5ce99123ba39e0727890f412b08ae278e2574965f981dad85ffe"
            ]
        );
    }

    #[test]
    // Slow without optimisation.
    #[cfg(not(debug_assertions))]
    fn all_are_the_promised_ones() {
        assert_eq!(
            digests(&digits_train(DIGITS_TRAIN)),
            [
                "2a5c38f74a0776e9e0b2c08dc43e6a35103c14c1827ff8e8fd0348f3bd459161",
                "2d1615e5a2fd606205cceb0216150d1d4d495bf29e28445085659ba74dc48134"
            ]
        );
        assert_eq!(
            digests(&digits_test(DIGITS_TEST)),
            [
                "0aabf433a1bddc757cdcd284dc7e1478f290e39b1b221aa6b2bc389d6fed5b77",
                "e7c1d6462173869e016b420e63a9aed721a04daf6b44f5b6ec90141fcf131b61"
            ]
        );
    }

    #[test]
    fn the_first_n_are_the_same_for_every_n() {
        let many = digits_train(300);
        for n in [0, 1, 7, 299] {
            let few = digits_train(n);
            assert_eq!(few.images, many.images[..n * IMAGE_PIXELS]);
            assert_eq!(few.labels, many.labels[..n]);
        }
        assert_ne!(digits_test(300), many);
    }

    #[test]
    fn classes_are_balanced_and_in_no_order() {
        let labels = digits_train(3000).labels;
        for class in 0..CLASSES as u8 {
            let n = labels.iter().filter(|&&label| label == class).count();
            assert!((240..360).contains(&n), "{n} of class {class}");
        }
        let repeats = labels.windows(2).filter(|pair| pair[0] == pair[1]).count();
        assert!((220..380).contains(&repeats), "{repeats} labels follow an equal one");
    }

    #[test]
    fn every_image_is_ink_in_the_middle_of_black_paper() {
        let examples = digits_train(2000);
        for i in 0..examples.len() {
            let image = examples.image(i);
            let ink = image.iter().filter(|&&pixel| pixel > 127).count();
            assert!((15..350).contains(&ink), "image {i} has {ink} bright pixels");
            assert!(image.iter().any(|&pixel| pixel > 200), "image {i} is pale");
            let corners = [0, 27, 27 * 28, 783].map(|corner| image[corner]);
            assert_eq!(corners, [0; 4], "image {i}");
        }
    }
}

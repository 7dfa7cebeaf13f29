//! What the network makes of an image whose label nobody knows. Nothing that is promised as a bit is computed here.

use lockstep_kernels::reference::argmax;
use ndarray::{ArrayView1, ArrayView2, Axis, s};

use super::views::rows;
use super::{GROUP, Network, Part, ShardResult, Workspace};
use crate::parameters::CLASSES;
use crate::{IMAGE_SIDE, PIXELS};

/// What the network makes of one image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prediction {
    /// The outputs of the last layer, before the softmax.
    pub logits: [f32; CLASSES],
    /// Their softmax: not negative, and 1 in sum but for rounding.
    pub probabilities: [f32; CLASSES],
    /// The class of the greatest logit, the lowest one among equals.
    pub class: usize,
}

impl Network {
    /// Classifies one image, `[28, 28]`.
    ///
    /// # Panics
    /// If the shape is wrong.
    pub fn predict(&self, image: ArrayView2<u8>, ws: &mut Workspace) -> Prediction {
        let images = image.insert_axis(Axis(0));
        let nobody_knows = ArrayView1::from(&[0]);
        super::assert_shapes(images, nobody_knows);
        for part in Part::ALL.into_iter().take_while(|&part| part != Part::Loss) {
            self.compute(part, images, nobody_knows, ws, &mut ShardResult::default());
        }
        let mut logits = [0.0; CLASSES];
        for (logit, z) in logits.iter_mut().zip(rows(&ws.activations.z5, GROUP).slice(s![0, ..CLASSES])) {
            *logit = *z;
        }
        Prediction::of(logits)
    }

    /// The class that the network takes each of the images for, `[n, 28, 28]`, row-major.
    ///
    /// # Panics
    ///
    /// If the pixels are not those of whole images.
    pub fn classes(&self, pixels: &[u8], ws: &mut Workspace) -> Vec<u8> {
        let one = |image: &[u8]| {
            let image = ArrayView2::from_shape((IMAGE_SIDE, IMAGE_SIDE), image);
            // Below the number of classes, which fits a byte.
            self.predict(image.expect("the shape of an image"), ws).class as u8
        };
        pixels.chunks(PIXELS).map(one).collect()
    }
}

impl Prediction {
    fn of(logits: [f32; CLASSES]) -> Self {
        let class = argmax(ArrayView1::from(&logits));
        let exponentials = logits.map(|logit| libm::expf(logit - logits[class]));
        let sum = exponentials.iter().fold(0.0, |sum, e| sum + e);
        Self { logits, probabilities: exponentials.map(|e| e / sum), class }
    }
}

#[cfg(test)]
mod tests {
    use lockstep_kernels::Cpu;
    use ndarray::{Array1, Array3};

    use super::*;
    use crate::{IMAGE_SIDE, initial_weights};

    #[test]
    fn it_agrees_with_the_evaluation_of_the_same_images() {
        let mut network = Network::new(Cpu::detect());
        network.load(&initial_weights(5));
        let images = Array3::from_shape_fn((9, IMAGE_SIDE, IMAGE_SIDE), |(n, y, x)| {
            (((y * 13 + x * 7) * (n + 1)) % 251) as u8
        });
        let mut ws = Workspace::new();
        let predictions: Vec<Prediction> =
            images.outer_iter().map(|image| network.predict(image, &mut ws)).collect();
        let mut confusion = [0; CLASSES * CLASSES];
        let labels = Array1::from_elem(9, 3);
        let total = network.evaluate(images.view(), labels.view(), &mut ws, &mut confusion);
        let mut expected = [0; CLASSES * CLASSES];
        let mut loss = 0.0;
        for prediction in &predictions {
            expected[3 * CLASSES + prediction.class] += 1;
            loss -= f64::from(prediction.probabilities[3]).ln();
            let sum: f32 = prediction.probabilities.iter().sum();
            assert!((sum - 1.0).abs() < 1e-6, "{sum}");
        }
        assert_eq!(confusion, expected);
        assert!((f64::from(total.loss) - loss).abs() < 1e-5, "{} and {loss}", total.loss);
        assert!(predictions.windows(2).any(|pair| pair[0].logits != pair[1].logits), "images tell apart");
    }

    #[test]
    fn great_logits_stay_numbers() {
        let prediction = Prediction::of([500.0, -500.0, 500.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(
            (prediction.class, prediction.probabilities[0], prediction.probabilities[1]),
            (0, 0.5, 0.0)
        );
    }
}

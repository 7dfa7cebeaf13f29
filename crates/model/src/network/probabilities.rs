//! Predictions for whoever looks at the network: probabilities of the classes, image by image.
//!
//! Forward only, on the kernels of training; nothing of it enters a training.

use ndarray::{Array1, ArrayView3, ArrayViewMut2, Axis, s};

use super::views::rows;
use super::{GROUP, Network, Part, ShardResult, Workspace};
use crate::parameters::{CLASSES, IMAGE_SIDE};

impl Network {
    /// The probability of each class for `images [N, 28, 28]`, to `probabilities [N, 10]`.
    ///
    /// # Panics
    /// If a shape is wrong.
    pub fn probabilities(
        &self,
        images: ArrayView3<u8>,
        ws: &mut Workspace,
        mut probabilities: ArrayViewMut2<f32>,
    ) {
        let count = images.dim().0;
        assert_eq!(images.dim(), (count, IMAGE_SIDE, IMAGE_SIDE), "shape of the images");
        assert_eq!(probabilities.dim(), (count, CLASSES), "shape of the probabilities");
        let chunks = probabilities.axis_chunks_iter_mut(Axis(0), GROUP);
        for (images, mut group) in images.axis_chunks_iter(Axis(0), GROUP).zip(chunks) {
            // No part before the loss reads a label.
            let labels = Array1::zeros(images.dim().0);
            for part in Part::ALL.into_iter().take_while(|&part| part != Part::Loss) {
                self.compute(part, images, labels.view(), ws, &mut ShardResult::default());
            }
            for (z5, mut row) in rows(&ws.activations.z5, GROUP).outer_iter().zip(group.outer_iter_mut()) {
                row.assign(&z5.slice(s![..CLASSES]));
                let greatest = row.iter().copied().fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a });
                row.mapv_inplace(|z| libm::expf(z - greatest));
                let sum: f32 = row.iter().sum();
                row.mapv_inplace(|e| e / sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use lockstep_kernels::Cpu;
    use ndarray::{Array2, Array3};

    use super::*;
    use crate::initial_weights;

    #[test]
    fn the_loss_of_an_evaluation_is_the_logarithm_of_these() {
        let images = Array3::from_shape_fn((7, 28, 28), |(n, y, x)| ((n * 31 + y * 7 + x * 3) % 256) as u8);
        let labels = Array1::from_shape_fn(7, |n| n as u8);
        let mut network = Network::new(Cpu::detect());
        network.load(&initial_weights(3));
        let mut ws = Workspace::new();
        let mut probabilities = Array2::zeros((7, CLASSES));
        network.probabilities(images.view(), &mut ws, probabilities.view_mut());
        for row in probabilities.outer_iter() {
            assert!((row.sum() - 1.0).abs() < 1e-5);
        }
        let expected: f32 = (0..7).map(|n| -probabilities[[n, n]].ln()).sum();
        let loss = network.evaluate(images.view(), labels.view(), &mut ws, &mut [0; 100]).loss;
        assert!((loss - expected).abs() < 1e-4, "{loss} {expected}");
    }
}

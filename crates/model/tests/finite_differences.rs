//! The whole network's gradient, by the reference in f64, against finite differences of its loss.

use lockstep_kernels::fma::Soft;
use lockstep_model::{PARAMETERS, TENSORS, initial_weights, reference};
use ndarray::{Array3, arr1};

/// Half of the distance between the two points of a central difference: wide enough for f64, narrow enough that few
/// ReLUs or pools switch between them.
const STEP: f64 = 1e-6;

#[test]
fn the_gradient_is_the_derivative_of_the_loss() {
    let mut weights: Vec<f64> = initial_weights(3).iter().map(|&value| f64::from(value)).collect();
    for tensor in TENSORS.iter().filter(|tensor| tensor.shape.len() == 1) {
        for (index, bias) in weights[tensor.range()].iter_mut().enumerate() {
            *bias = 0.01 * (index % 7) as f64 - 0.02;
        }
    }
    let images = Array3::from_shape_fn((2, 28, 28), |(n, y, x)| ((n * 71 + y * y * 5 + x * 13) % 256) as u8);
    let labels = arr1(&[3, 8]);
    let loss = |weights: &[f64], gradient: &mut [f64]| {
        reference::shard_gradient::<f64, Soft>(weights, images.view(), labels.view(), gradient).loss
    };
    let mut gradient = vec![0.0; PARAMETERS];
    loss(&weights, &mut gradient);
    let mut unused = vec![0.0; PARAMETERS];
    for tensor in &TENSORS {
        // A dozen elements of each tensor, spread over it: the layers' own tests take every element.
        for element in tensor.range().step_by(tensor.len().div_ceil(12)) {
            let value = weights[element];
            weights[element] = value + STEP;
            let above = loss(&weights, &mut unused);
            weights[element] = value - STEP;
            let difference = (above - loss(&weights, &mut unused)) / (2.0 * STEP);
            weights[element] = value;
            let found = gradient[element];
            let error = (found - difference).abs() / difference.abs().max(1e-2);
            assert!(error < 1e-5, "{}: {found} at {element}, differences say {difference}", tensor.name);
        }
    }
}

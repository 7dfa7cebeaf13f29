//! Softmax and categorical cross-entropy: loss, prediction and gradient in one pass.
//!
//! Ten classes an example: not worth a vector. `exp` and `ln` are the `libm` crate's, the same bits everywhere.

use ndarray::{ArrayView1, ArrayView2, ArrayViewMut2};

use crate::reference;

/// Logits `z [N, O]` and `labels [N]` to `dz [N, O]`; adds each example's loss to `loss`, returns the number correct.
///
/// # Panics
/// If the shapes do not belong together, or a label is not below `O`.
pub fn forward_backward(
    z: ArrayView2<f32>,
    labels: ArrayView1<u8>,
    mut dz: ArrayViewMut2<f32>,
    loss: &mut f32,
) -> u32 {
    assert_eq!(dz.dim(), z.dim(), "shape of the logits' gradient");
    assert_eq!(labels.len(), z.nrows(), "labels beside logits");
    let mut correct = 0;
    for ((z, &label), mut dz) in z.outer_iter().zip(labels).zip(dz.outer_iter_mut()) {
        let label = usize::from(label);
        assert!(label < z.len(), "label {label} of {} classes", z.len());
        let prediction = reference::argmax(z);
        let greatest = z[prediction];
        let mut sum = 0.0;
        for (e, &value) in dz.iter_mut().zip(z) {
            *e = libm::expf(value - greatest);
            sum += *e;
        }
        *loss += libm::logf(sum) - (z[label] - greatest);
        for e in &mut dz {
            *e /= sum;
        }
        dz[label] -= 1.0;
        correct += u32::from(prediction == label);
    }
    correct
}

/// The loss and the prediction of one example's logits `z [O]`.
///
/// # Panics
/// If `label` is not below `O`.
pub fn forward(z: ArrayView1<f32>, label: usize) -> (f32, usize) {
    assert!(label < z.len(), "label {label} of {} classes", z.len());
    let prediction = reference::argmax(z);
    let greatest = z[prediction];
    let mut sum = 0.0;
    for &value in z {
        sum += libm::expf(value - greatest);
    }
    (libm::logf(sum) - (z[label] - greatest), prediction)
}

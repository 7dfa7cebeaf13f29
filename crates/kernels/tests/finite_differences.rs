//! The reference's gradients against finite differences in f64, layer by layer.

mod support;

use lockstep_kernels::fma::Soft;
use lockstep_kernels::reference::{
    conv2d, conv2d_backward, conv2d_by_windows, dense, dense_backward, max_pool2d, max_pool2d_backward, relu,
    relu_backward, softmax_cross_entropy,
};
use ndarray::{Array, Array1, Array2, Array3, Array4, Dimension, Zip};
use support::Values;

/// Half of the distance between the two points of a central difference.
const STEP: f64 = 1e-5;

fn array<D: Dimension, Sh: ndarray::ShapeBuilder<Dim = D>>(values: &mut Values, shape: Sh) -> Array<f64, D> {
    Array::from_shape_simple_fn(shape, || f64::from(values.ordinary()))
}

/// Compares `gradient` with central differences of `loss` around `at`, element by element.
#[track_caller]
fn assert_gradient<D: Dimension>(
    at: &Array<f64, D>,
    gradient: &Array<f64, D>,
    mut loss: impl FnMut(&Array<f64, D>) -> f64,
    what: &str,
) {
    assert_eq!(at.shape(), gradient.shape(), "{what}: shape");
    let gradient: Vec<f64> = gradient.iter().copied().collect();
    for (element, &found) in gradient.iter().enumerate() {
        let mut moved_loss = |step: f64| {
            let mut moved = at.clone();
            if let Some(value) = moved.iter_mut().nth(element) {
                *value += step;
            }
            loss(&moved)
        };
        let difference = (moved_loss(STEP) - moved_loss(-STEP)) / (2.0 * STEP);
        assert!(
            (found - difference).abs() < 1e-7,
            "{what}: {found} at element {element}, differences say {difference}"
        );
    }
}

#[test]
fn convolution() {
    let mut values = Values::new(11);
    // 6 x 6 outputs are whole windows; of 5 x 7 the last row and column have no gradient.
    for (height, width, window) in [(6, 5, 1), (8, 8, 2), (7, 9, 2)] {
        let x: Array3<f64> = array(&mut values, (height, width, 2));
        let w: Array4<f64> = array(&mut values, (3, 3, 2, 3));
        let b: Array1<f64> = array(&mut values, 3);
        let mut dz: Array3<f64> = array(&mut values, (height - 2, width - 2, 3));
        let (rows, columns) = ((height - 2) / window * window, (width - 2) / window * window);
        for ((y, x, _), value) in dz.indexed_iter_mut() {
            if y >= rows || x >= columns {
                *value = 0.0;
            }
        }
        let forward = if window == 2 { conv2d_by_windows::<f64, Soft> } else { conv2d::<f64, Soft> };
        let loss = |x: &Array3<f64>, w: &Array4<f64>, b: &Array1<f64>| {
            (forward(x.view(), w.view(), b.view()) * &dz).sum()
        };
        let (mut dw, mut db) = (Array4::zeros(w.dim()), Array1::zeros(3));
        let dx =
            conv2d_backward::<f64, Soft>(x.view(), w.view(), dz.view(), window, dw.view_mut(), db.view_mut());
        assert_gradient(&x, &dx, |x| loss(x, &w, &b), "dx");
        assert_gradient(&w, &dw, |w| loss(&x, w, &b), "dw");
        assert_gradient(&b, &db, |b| loss(&x, &w, b), "db");
    }
}

#[test]
fn relu_and_max_pooling() {
    let mut values = Values::new(12);
    let x: Array3<f64> = array(&mut values, (7, 6, 3));
    let dy: Array3<f64> = array(&mut values, (3, 3, 3));
    let loss = |x: &Array3<f64>| (max_pool2d(x.mapv(relu).view()).0 * &dy).sum();
    let (_, places) = max_pool2d(x.mapv(relu).view());
    let da = max_pool2d_backward((7, 6), places.view(), dy.view());
    let dx = Zip::from(&x).and(&da).map_collect(|&x, &da| relu_backward(x, da));
    assert_gradient(&x, &dx, loss, "dx");
}

#[test]
fn dense_layer() {
    let mut values = Values::new(13);
    let x: Array1<f64> = array(&mut values, 7);
    let w: Array2<f64> = array(&mut values, (7, 5));
    let b: Array1<f64> = array(&mut values, 5);
    let dz: Array1<f64> = array(&mut values, 5);
    let loss = |x: &Array1<f64>, w: &Array2<f64>, b: &Array1<f64>| {
        (dense::<f64, Soft>(x.view(), w.view(), b.view()) * &dz).sum()
    };
    let (mut dw, mut db) = (Array2::zeros((7, 5)), Array1::zeros(5));
    let dx = dense_backward::<f64, Soft>(x.view(), w.view(), dz.view(), dw.view_mut(), db.view_mut());
    assert_gradient(&x, &dx, |x| loss(x, &w, &b), "dx");
    assert_gradient(&w, &dw, |w| loss(&x, w, &b), "dw");
    assert_gradient(&b, &db, |b| loss(&x, &w, b), "db");
}

#[test]
fn softmax_and_cross_entropy() {
    let mut values = Values::new(14);
    let z: Array1<f64> = array(&mut values, 10) * 4.0;
    for label in 0..10 {
        let (_, dz) = softmax_cross_entropy(z.view(), label);
        assert_gradient(&z, &dz, |z| softmax_cross_entropy(z.view(), label).0, "dz");
    }
}

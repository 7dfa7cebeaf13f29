//! One exact test for each line of the numerical definitions, on values where any other reading gives other bits.

mod support;

use lockstep_kernels::fma::{Fma, Soft};
use lockstep_kernels::reference::{
    argmax, conv2d, conv2d_backward, conv2d_by_windows, dense, dense_backward, end_sums, max_pool2d,
    max_pool2d_backward, pixel, relu, relu_backward, softmax_cross_entropy,
};
use ndarray::{Array1, Array2, Array3, Array4, arr1, arr2};
use support::Values;

/// Half a unit in the last place of 1: added to 1 alone it is lost, added twice at once it is not.
const HALF_UNIT: f32 = 5.960_464_5e-8;

#[test]
fn a_pixel_is_divided_by_255() {
    assert_eq!(pixel::<f32>(0).to_bits(), 0);
    assert_eq!(pixel::<f32>(255), 1.0);
    // Multiplying by a rounded reciprocal differs on some values; the division is correctly rounded on all.
    let reciprocal = 1.0_f32 / 255.0;
    assert!((0..=255).any(|value| pixel::<f32>(value) != f32::from(value) * reciprocal));
    for value in 0..=255 {
        assert_eq!(pixel::<f32>(value), (f64::from(value) / 255.0) as f32);
    }
}

#[test]
fn a_forward_sum_starts_at_its_bias() {
    // From the bias each half unit is lost; summed before the bias they count.
    let x = arr1(&[1.0, 1.0]);
    let w = arr2(&[[HALF_UNIT], [HALF_UNIT]]);
    assert_eq!(dense::<f32, Soft>(x.view(), w.view(), arr1(&[1.0]).view())[0], 1.0);
    let mut kernel = Array4::zeros((3, 3, 1, 1));
    kernel[[0, 0, 0, 0]] = HALF_UNIT;
    kernel[[2, 2, 0, 0]] = HALF_UNIT;
    let z = conv2d::<f32, Soft>(Array3::ones((3, 3, 1)).view(), kernel.view(), arr1(&[1.0]).view());
    assert_eq!(z[[0, 0, 0]], 1.0);
}

#[test]
fn a_term_is_added_with_one_rounding() {
    // The product's low half survives: (1 + u)^2 - (1 + 2u) = u^2.
    let u = 2.0 * HALF_UNIT;
    let x = arr1(&[1.0 + u]);
    let w = arr2(&[[1.0 + u]]);
    let z = dense::<f32, Soft>(x.view(), w.view(), arr1(&[-(1.0 + 2.0 * u)]).view());
    assert_eq!(z[0], u * u);
}

#[test]
fn a_convolution_runs_over_rows_then_columns_then_channels() {
    // Big values that cancel: what is added between them is lost, what is added after them is kept.
    let places = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 2, 1), (1, 0, 0), (2, 0, 0), (2, 2, 1)];
    for i in 0..places.len() {
        for j in i + 1..places.len() {
            for k in 0..places.len() {
                let mut w = Array4::zeros((3, 3, 2, 1));
                for ((ky, kx, c), value) in [(places[i], 1e20), (places[j], -1e20)] {
                    w[[ky, kx, c, 0]] = value;
                }
                if k != i && k != j {
                    let (ky, kx, c) = places[k];
                    w[[ky, kx, c, 0]] = 1.0;
                    let z =
                        conv2d::<f32, Soft>(Array3::ones((3, 3, 2)).view(), w.view(), arr1(&[0.0]).view());
                    assert_eq!(z[[0, 0, 0]], if k > j { 1.0 } else { 0.0 }, "{i} {j} {k}");
                }
            }
        }
    }
}

#[test]
fn a_convolution_by_windows_is_a_convolution() {
    let mut values = Values::new(31);
    // The odd last row and column of outputs belong to no window.
    let x = Array3::from_shape_simple_fn((7, 9, 3), || f64::from(values.ordinary()));
    let w = Array4::from_shape_simple_fn((3, 3, 3, 2), || f64::from(values.ordinary()));
    let b = arr1(&[0.25, -3.0]);
    let one_by_one = conv2d::<f64, Soft>(x.view(), w.view(), b.view());
    let by_windows = conv2d_by_windows::<f64, Soft>(x.view(), w.view(), b.view());
    assert_eq!(by_windows.dim(), one_by_one.dim());
    for ((row, column, f), value) in by_windows.indexed_iter() {
        let want = if row < 4 && column < 6 { one_by_one[[row, column, f]] } else { 0.0 };
        assert!((value - want).abs() < 1e-13, "{value} at ({row}, {column}, {f}) instead of {want}");
    }
}

/// The outputs of one window, from one channel.
fn window(x: [[f32; 4]; 4], w: [[f32; 3]; 3], bias: f32) -> [f32; 4] {
    let (x, w) = (Array3::from_shape_fn((4, 4, 1), |(y, c, _)| x[y][c]), arr2(&w));
    let w = w.into_shape_with_order((3, 3, 1, 1)).expect("nine values");
    let z = conv2d_by_windows::<f32, Soft>(x.view(), w.view(), arr1(&[bias]).view());
    [z[[0, 0, 0]], z[[0, 1, 0]], z[[1, 0, 0]], z[[1, 1, 0]]]
}

#[test]
fn a_window_s_kernel_and_inputs_are_turned_down_first_and_then_along() {
    // Big values cancel down the first column, or along the first row; what is added to them before they do is lost.
    let kernel = |down: bool| {
        let mut w = [[0.0; 3]; 3];
        w[0][0] = 1e20;
        w[if down { 2 } else { 0 }][if down { 0 } else { 2 }] = -1e20;
        w[if down { 0 } else { 2 }][if down { 2 } else { 0 }] = 4.0;
        w
    };
    // All inputs alike: only their point (1, 1) is not zero.
    let patch = [[1.0; 4]; 4];
    assert_eq!(window(patch, kernel(true), 0.0), [4.0; 4], "down the column they cancel first");
    assert_eq!(window(patch, kernel(false), 0.0), [0.0; 4], "along the row the 4 is lost before");
    assert_eq!(window(patch, kernel(true), 1.0), [5.0; 4], "the bias counts once in every output");
}

#[test]
fn the_sum_of_a_window_s_point_starts_at_the_bias() {
    // All inputs alike leave one point, whose product is half a unit: from the bias it is lost.
    let w = [[HALF_UNIT, 0.0, 0.0], [0.0; 3], [0.0; 3]];
    assert_eq!(window([[1.0; 4]; 4], w, 0.0), [HALF_UNIT; 4]);
    assert_eq!(window([[1.0; 4]; 4], w, 1.0), [1.0; 4]);
    assert_eq!(window([[1.0; 4]; 4], [[-0.0; 3]; 3], -0.0).map(f32::to_bits), [0; 4], "no output is -0.0");
}

#[test]
fn no_sum_ends_as_negative_zero() {
    // A bias of -0.0 and products of -0.0; then gradients that underflow to -0.0.
    let zero = 0.0_f32.to_bits();
    let z = dense::<f32, Soft>(arr1(&[0.0]).view(), arr2(&[[-1.0]]).view(), arr1(&[-0.0]).view());
    assert_eq!(z[0].to_bits(), zero);
    let w = Array4::from_elem((3, 3, 1, 1), -1.0);
    let z = conv2d::<f32, Soft>(Array3::zeros((3, 3, 1)).view(), w.view(), arr1(&[-0.0]).view());
    assert_eq!(z[[0, 0, 0]].to_bits(), zero);

    let tiny = f32::MIN_POSITIVE;
    assert_eq!(
        Soft::fma(-tiny, tiny, 0.0).to_bits(),
        (-0.0_f32).to_bits(),
        "the sums below pass through -0.0"
    );
    let (mut dw, mut db) = (Array2::zeros((1, 1)), Array1::zeros(1));
    let (x, w, dz) = (arr1(&[-tiny]), arr2(&[[-tiny]]), arr1(&[tiny]));
    let dx = dense_backward::<f32, Soft>(x.view(), w.view(), dz.view(), dw.view_mut(), db.view_mut());
    assert_eq!(dx[0].to_bits(), zero);
    assert_eq!(dw[[0, 0]].to_bits(), (-0.0_f32).to_bits());
    end_sums(dw.as_slice_mut().unwrap());
    assert_eq!(dw[[0, 0]].to_bits(), zero);
    let w = Array4::from_elem((3, 3, 1, 1), -tiny);
    let (mut dw, mut db) = (Array4::zeros((3, 3, 1, 1)), Array1::zeros(1));
    let (x, dz) = (Array3::ones((3, 3, 1)), Array3::from_elem((1, 1, 1), tiny));
    let dx = conv2d_backward::<f32, Soft>(x.view(), w.view(), dz.view(), 1, dw.view_mut(), db.view_mut());
    assert!(dx.iter().all(|value| value.to_bits() == zero));
}

#[test]
fn a_gradient_sum_starts_at_positive_zero_and_adds_example_after_example() {
    let (mut dw, mut db) = (Array2::<f32>::zeros((1, 1)), Array1::zeros(1));
    let big = 2.0_f32.powi(40);
    for (x, dz) in [(big, big), (1.0, 1.0), (-big, big), (2.0, 3.0)] {
        let (x, dz) = (arr1(&[x]), arr1(&[dz]));
        dense_backward::<f32, Soft>(x.view(), arr2(&[[1.0]]).view(), dz.view(), dw.view_mut(), db.view_mut());
    }
    assert_eq!(dw[[0, 0]], 6.0);
    assert_eq!(db[0], 2.0 * big);
}

#[test]
fn a_convolutions_gradients_run_over_windows_then_places() {
    // One row of four places: windows {0, 1} and {2, 3} of two rows. Row-major places would be 0 1 2 3 4 5 6 7.
    let order = [(0, 0), (0, 1), (1, 0), (1, 1), (0, 2), (0, 3), (1, 2), (1, 3)];
    for first in 0..8 {
        for second in first + 1..8 {
            for small in 0..8 {
                if small == first || small == second {
                    continue;
                }
                let mut dz = Array3::<f32>::zeros((2, 4, 1));
                for (place, value) in [(first, 1e20), (second, -1e20), (small, 1.0)] {
                    dz[[order[place].0, order[place].1, 0]] = value;
                }
                let (mut dw, mut db) = (Array4::zeros((3, 3, 1, 1)), Array1::zeros(1));
                let (x, w) = (Array3::ones((4, 6, 1)), Array4::ones((3, 3, 1, 1)));
                let (dw_view, db_view) = (dw.view_mut(), db.view_mut());
                conv2d_backward::<f32, Soft>(x.view(), w.view(), dz.view(), 2, dw_view, db_view);
                let want = if small > second { 1.0 } else { 0.0 };
                assert_eq!((dw[[1, 1, 0, 0]], db[0]), (want, want), "{first} {second} {small}");
            }
        }
    }
}

#[test]
fn a_convolutions_input_gradient_runs_over_filters_inside_a_window() {
    let w = Array4::from_shape_fn((3, 3, 1, 3), |(_, _, _, f)| [1e20_f32, -1e20, 1.0][f]);
    let dx_of = |order: [usize; 3]| {
        let w = Array4::from_shape_fn(w.dim(), |(y, x, c, f)| w[[y, x, c, order[f]]]);
        let (mut dw, mut db) = (Array4::zeros((3, 3, 1, 3)), Array1::zeros(3));
        let (x, dz) = (Array3::ones((3, 3, 1)), Array3::ones((1, 1, 3)));
        conv2d_backward::<f32, Soft>(x.view(), w.view(), dz.view(), 1, dw.view_mut(), db.view_mut())
            [[1, 1, 0]]
    };
    assert_eq!(dx_of([0, 1, 2]), 1.0);
    assert_eq!(dx_of([0, 2, 1]), 0.0);
    assert_eq!(dx_of([2, 0, 1]), 0.0);
}

#[test]
fn relu_is_zero_at_zero_and_so_is_its_derivative() {
    assert_eq!(relu(3.0_f32), 3.0);
    for z in [0.0_f32, -0.0, -1.0, f32::NAN] {
        assert_eq!(relu(z).to_bits(), 0, "relu of {z}");
        assert_eq!(relu_backward(z, 7.0_f32).to_bits(), 0, "derivative at {z}");
    }
    assert_eq!(relu_backward(f32::from_bits(1), 7.0_f32), 7.0);
}

#[test]
fn a_pooling_tie_goes_to_the_first_place_and_its_gradient_to_it_alone() {
    for (window, winner) in [
        ([1.0, 1.0, 1.0, 1.0], 0),
        ([0.0, 2.0, 2.0, 1.0], 1),
        ([0.0, 1.0, 3.0, 3.0], 2),
        ([0.0, -0.0, 0.0, 0.5], 3),
    ] {
        let x = Array3::from_shape_vec((2, 2, 1), window.to_vec()).unwrap();
        let (y, places) = max_pool2d::<f32>(x.view());
        assert_eq!((y[[0, 0, 0]], places[[0, 0, 0]]), (window[winner], winner as u32));
        let dx = max_pool2d_backward((2, 2), places.view(), Array3::from_elem((1, 1, 1), 5.0_f32).view());
        let mut want = [0.0; 4];
        want[winner] = 5.0;
        assert_eq!(dx.as_slice().unwrap(), want);
    }
}

#[test]
fn pooling_drops_an_odd_last_row_and_column() {
    let x = Array3::from_shape_fn((5, 3, 1), |(y, x, _)| (10 * y + x) as f32);
    let (y, places) = max_pool2d::<f32>(x.view());
    assert_eq!(y.dim(), (2, 1, 1));
    assert_eq!(y.as_slice().unwrap(), [11.0, 31.0]);
    let dx = max_pool2d_backward((5, 3), places.view(), y.view());
    assert_eq!(dx.sum(), 42.0);
    assert_eq!((dx[[1, 1, 0]], dx[[3, 1, 0]]), (11.0, 31.0));
}

#[test]
fn argmax_takes_the_lowest_index() {
    assert_eq!(argmax(arr1(&[1.0_f32, 3.0, 3.0, 2.0]).view()), 1);
    assert_eq!(argmax(arr1(&[-0.0_f32, 0.0, 0.0]).view()), 0);
    assert_eq!(argmax(arr1(&[f32::NEG_INFINITY, -1.0, -1.0]).view()), 1);
}

#[test]
fn softmax_and_loss_follow_the_formula() {
    let z: [f32; 10] = [0.3, -1.7, 2.4, 2.4, 0.0, -30.0, 1.1, 0.7, -0.2, 2.3];
    let greatest = 2.4_f32;
    let e = z.map(|value| libm::expf(value - greatest));
    let mut sum = 0.0_f32;
    for value in e {
        sum += value;
    }
    for label in 0..10 {
        let (loss, dz) = softmax_cross_entropy(arr1(&z).view(), label);
        assert_eq!(loss.to_bits(), (libm::logf(sum) - (z[label] - greatest)).to_bits());
        for class in 0..10 {
            let want = e[class] / sum - if class == label { 1.0 } else { 0.0 };
            assert_eq!(dz[class].to_bits(), want.to_bits());
        }
    }
    // No clipping: a hopeless answer has its whole loss, and no overflow.
    let (loss, dz) = softmax_cross_entropy(arr1(&[1000.0_f32, 0.0]).view(), 1);
    assert_eq!((loss, dz[0], dz[1]), (1000.0, 1.0, -1.0));
}

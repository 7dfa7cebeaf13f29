//! Every fast kernel on every instruction set of this machine against the reference, bit for bit.

mod support;

use lockstep_kernels::fma::Soft;
use lockstep_kernels::{Cpu, conv2d, dense, layout, reference, softmax_cross_entropy};
use ndarray::{Array1, Array2, Array3, Array4, ArrayView4, ArrayViewMut4, Axis, Zip, s};
use support::{KINDS, Kind, Values, assert_bits};

/// What the reference says of a convolution with ReLU, and of its gradients, summed over the examples.
struct Convolution {
    y: Array4<f32>,
    places: Array4<u32>,
    dx: Array4<f32>,
    dw: Array4<f32>,
    db: Array1<f32>,
}

/// The forward pass of a convolution with pooling, whichever layer it is.
fn forward_relu_pool(
    cpu: Cpu,
    x: ArrayView4<f32>,
    w: &Array4<f32>,
    b: &Array1<f32>,
    background: Option<(&conv2d::Background, &Array1<f32>)>,
    y: ArrayViewMut4<f32>,
    places: ArrayViewMut4<u32>,
) {
    let (_, _, channels, filters) = w.dim();
    if channels == 1 {
        let mut ink = Array3::from_elem((y.dim().0, y.dim().1, y.dim().2), 9);
        let layer = background.map(|(layer, _)| layer);
        conv2d::forward_first_relu_pool(cpu, x, w.view(), b.view(), layer, y, places, ink.view_mut());
        for ((example, row, column), &ink) in ink.indexed_iter() {
            let patch = x.slice(s![example, 2 * row..2 * row + 4, 2 * column..2 * column + 4, 0]);
            let is_ground = background
                .is_some_and(|(_, ground)| patch.iter().all(|value| value.to_bits() == ground[0].to_bits()));
            assert_eq!(ink, u8::from(!is_ground || x.dim().2 / 2 > 16), "{cpu}: ink at ({row}, {column})");
        }
    } else {
        let ink = |ground: &Array1<f32>| {
            x.map_axis(Axis(3), |x| {
                u8::from(x.iter().zip(ground).any(|(x, ground)| x.to_bits() != ground.to_bits()))
            })
        };
        let ink = background.map(|(layer, ground)| (layer, ink(ground)));
        let background = ink.as_ref().map(|(layer, ink)| (*layer, ink.view()));
        let mut points = Array3::from_elem((reference::WINDOW_POINTS, channels, filters), f32::NAN);
        conv2d::kernel_points(cpu, w.view(), points.view_mut());
        conv2d::forward_relu_pool(cpu, x, points.view(), b.view(), background, y, places);
    }
}

/// `window` 1: no pooling. `rows` and `columns` of windows are read by later layers; the others have no gradient.
fn convolution(
    x: &Array4<f32>,
    w: &Array4<f32>,
    b: &Array1<f32>,
    dy: &Array4<f32>,
    window: usize,
    (mut dw, mut db): (Array4<f32>, Array1<f32>),
) -> Convolution {
    let (_, rows, columns, _) = dy.dim();
    let mut y = Array4::zeros(dy.dim());
    let mut places = Array4::zeros(dy.dim());
    let mut dx = Array4::zeros(x.dim());
    for (example, x) in x.outer_iter().enumerate() {
        let forward = match (window, x.dim().2) {
            (2, 2..) => reference::conv2d_by_windows::<f32, Soft>,
            _ => reference::conv2d::<f32, Soft>,
        };
        let z = forward(x, w.view(), b.view());
        let activation = z.mapv(reference::relu);
        let mut dz = Array3::zeros(z.dim());
        if window == 2 {
            let (pooled, winners) = reference::max_pool2d(activation.view());
            y.index_axis_mut(Axis(0), example).assign(&pooled.slice(s![..rows, ..columns, ..]));
            places.index_axis_mut(Axis(0), example).assign(&winners.slice(s![..rows, ..columns, ..]));
            let mut dp = Array3::zeros(pooled.dim());
            dp.slice_mut(s![..rows, ..columns, ..]).assign(&dy.index_axis(Axis(0), example));
            let da = reference::max_pool2d_backward((z.dim().0, z.dim().1), winners.view(), dp.view());
            Zip::from(&mut dz).and(&z).and(&da).for_each(|dz, &z, &da| *dz = reference::relu_backward(z, da));
        } else {
            y.index_axis_mut(Axis(0), example).assign(&activation);
            let dy = dy.index_axis(Axis(0), example);
            Zip::from(&mut dz).and(&z).and(&dy).for_each(|dz, &z, &dy| *dz = reference::relu_backward(z, dy));
        }
        let (dw, db) = (dw.view_mut(), db.view_mut());
        let one = reference::conv2d_backward::<f32, Soft>(x, w.view(), dz.view(), window, dw, db);
        dx.index_axis_mut(Axis(0), example).assign(&one);
    }
    Convolution { y, places, dx, dw, db }
}

/// The ReLU is exactly at zero for the filters that `dead` names: no weight and no bias, and of either sign.
fn kernel_and_bias(
    values: &mut Values,
    channels: usize,
    filters: usize,
    kind: Kind,
) -> (Array4<f32>, Array1<f32>) {
    let mut w = values.array((3, 3, channels, filters), kind);
    let mut b = values.array(filters, kind);
    for dead in [3, filters - 1] {
        let zero = if dead == 3 { -0.0 } else { 0.0 };
        w.slice_mut(s![.., .., .., dead]).fill(zero);
        b[dead] = zero;
    }
    (w, b)
}

#[test]
fn convolution_with_relu_and_pooling() {
    let mut values = Values::new(21);
    // Odd and even sizes, one to 25 windows an example (groups take eight at a time), and a cut below what fits.
    for (height, width, rows, columns, channels, filters) in [
        (4, 4, 1, 1, 1, 16),
        (28, 28, 12, 12, 1, 16),
        (4, 4, 1, 1, 16, 16),
        (9, 8, 3, 3, 16, 16),
        (7, 12, 2, 4, 16, 32),
        (12, 12, 5, 5, 16, 32),
        (12, 9, 4, 3, 16, 32),
        (8, 14, 3, 6, 16, 16),
    ] {
        for kind in KINDS {
            for n in [0, 1, 3] {
                let x = values.array((n, height, width, channels), kind);
                let (w, b) = kernel_and_bias(&mut values, channels, filters, kind);
                let dy = Array4::zeros((n, rows, columns, filters));
                let sums = (Array4::zeros(w.dim()), Array1::zeros(filters));
                let want = convolution(&x, &w, &b, &dy, 2, sums);
                for cpu in Cpu::available() {
                    let mut y = Array4::from_elem(dy.dim(), f32::NAN);
                    let mut places = Array4::from_elem(dy.dim(), 9);
                    let (y_view, places_view) = (y.view_mut(), places.view_mut());
                    forward_relu_pool(cpu, x.view(), &w, &b, None, y_view, places_view);
                    let what = format!("{cpu} {kind:?} {:?}, {filters} filters", x.dim());
                    assert_bits(&y, &want.y, &what);
                    assert_eq!(places, want.places, "{what}: winning places");
                }
            }
        }
    }
}

/// Windows that see the background only are copied; the bits must be those of the computation, also of windows that see
/// almost only background, and of values that are equal to it without having its bits.
#[test]
fn convolution_over_a_background() {
    let mut values = Values::new(27);
    for (height, width, rows, columns, channels, filters) in [
        (28, 28, 12, 12, 1, 16),
        (12, 12, 5, 5, 16, 32),
        (9, 32, 3, 15, 16, 32),
        (40, 6, 19, 2, 1, 16),
        (5, 40, 1, 19, 16, 32),
    ] {
        for kind in KINDS {
            let (w, b) = kernel_and_bias(&mut values, channels, filters, kind);
            let mut ground: Array1<f32> = values.array(channels, kind);
            ground[0] = if values.word().is_multiple_of(2) { 0.0 } else { ground[0] };
            let mut x = Array4::from_shape_fn((4, height, width, channels), |(_, _, _, c)| ground[c]);
            // No ink, single places of it, an inner square, and ink everywhere.
            for _ in 0..3 {
                let at = [values.word() as usize % height, values.word() as usize % width];
                x[[1, at[0], at[1], values.word() as usize % channels]] =
                    if ground[0] == 0.0 { -0.0 } else { 0.5 };
            }
            let inner = s![2, 2..height - 2, 2..width - 2, ..];
            x.slice_mut(inner).assign(&values.array((height - 4, width - 4, channels), kind));
            x.slice_mut(s![3, .., .., ..]).assign(&values.array((height, width, channels), kind));
            let dy = gradient(&mut values, (4, rows, columns, filters), kind);
            let sums = (Array4::zeros(w.dim()), Array1::zeros(filters));
            let want = convolution(&x, &w, &b, &dy, 2, sums);
            for cpu in Cpu::available() {
                let mut background = conv2d::Background::new(channels, filters);
                background.update(ground.as_slice().unwrap(), |x, y, places| {
                    forward_relu_pool(cpu, x, &w, &b, None, y, places);
                });
                let mut y = Array4::from_elem(dy.dim(), f32::NAN);
                let mut places = Array4::from_elem(dy.dim(), 9);
                let (y_view, places_view) = (y.view_mut(), places.view_mut());
                let x = x.view();
                forward_relu_pool(cpu, x, &w, &b, Some((&background, &ground)), y_view, places_view);
                let what = format!("{cpu} {kind:?} {:?}, {filters} filters", x.dim());
                assert_bits(&y, &want.y, &what);
                assert_eq!(places, want.places, "{what}: winning places");
                if channels == 1 {
                    let (mut dw, mut db) = (Array4::zeros(w.dim()), Array1::zeros(filters));
                    let (y, places, dy) = (y.view(), places.view(), dy.view());
                    conv2d::backward_first_relu_pool(cpu, x, y, places, dy, dw.view_mut(), db.view_mut());
                    assert_sums(&dw, &want.dw, &format!("{what}: dw"));
                    assert_sums(&db, &want.db, &format!("{what}: db"));
                }
            }
        }
    }
}

#[test]
fn layouts_move_every_value_to_its_place() {
    let mut values = Values::new(28);
    // Sizes at and around the block of 16.
    for (channels, filters) in [(16, 32), (32, 32), (1, 16), (15, 17), (33, 10), (48, 16)] {
        let w: Array4<f32> = values.array((3, 3, channels, filters), Kind::Ordinary);
        for cpu in Cpu::available() {
            let mut major = Array4::from_elem((filters, 3, 3, channels), f32::NAN);
            layout::to_filter_major(cpu, w.view(), major.view_mut());
            let mut back = Array4::from_elem(w.dim(), f32::NAN);
            layout::from_filter_major(cpu, major.view(), back.view_mut());
            assert_bits(&back, &w, &format!("{cpu}, {channels} channels, {filters} filters: there and back"));
            let mut padded = Array3::from_elem((filters, layout::PADDED_TAPS, channels), f32::NAN);
            layout::to_padded_filter_major(cpu, w.view(), padded.view_mut());
            for ((f, y, x, c), value) in major.indexed_iter() {
                assert_eq!(value.to_bits(), w[[y, x, c, f]].to_bits());
                assert_eq!(value.to_bits(), padded[[f, 1 + 4 * y + x, c]].to_bits());
            }
            for padding in [0, 4, 8, 12] {
                assert!(padded.slice(s![.., padding, ..]).iter().all(|value| value.to_bits() == 0));
            }
        }
    }
}

#[test]
fn convolution_with_relu() {
    let mut values = Values::new(22);
    // 1, 2, 3, 9, 10 and 30 places: tiles take nine or three at a time.
    for (height, width, channels, filters) in
        [(3, 3, 1, 16), (3, 4, 2, 32), (5, 3, 7, 16), (5, 5, 32, 32), (4, 7, 3, 32), (8, 7, 16, 16)]
    {
        for kind in KINDS {
            for n in [0, 1, 3] {
                let x = values.array((n, height, width, channels), kind);
                let (w, b) = kernel_and_bias(&mut values, channels, filters, kind);
                let dy = Array4::zeros((n, height - 2, width - 2, filters));
                let sums = (Array4::zeros(w.dim()), Array1::zeros(filters));
                let want = convolution(&x, &w, &b, &dy, 1, sums);
                for cpu in Cpu::available() {
                    let mut y = Array4::from_elem(dy.dim(), f32::NAN);
                    conv2d::forward_relu(cpu, x.view(), w.view(), b.view(), y.view_mut());
                    assert_bits(&y, &want.y, &format!("{cpu} {kind:?} {:?}, {filters} filters", x.dim()));
                }
            }
        }
    }
}

/// A gradient with zeros of both signs, as ReLU and dead filters make them.
fn gradient(values: &mut Values, shape: (usize, usize, usize, usize), kind: Kind) -> Array4<f32> {
    values.array(shape, kind).mapv_into(|value| if value.to_bits() % 5 == 0 { -0.0 } else { value })
}

#[test]
fn gradients_of_convolutions() {
    let mut values = Values::new(23);
    for (height, width, rows, columns, channels, filters, window) in [
        (4, 4, 1, 1, 16, 16, 2),
        (12, 12, 5, 5, 16, 32, 2),
        (9, 8, 3, 2, 32, 16, 2),
        (8, 13, 3, 5, 48, 32, 2),
        (3, 3, 1, 1, 16, 16, 1),
        (5, 5, 3, 3, 32, 32, 1),
        (4, 8, 2, 6, 16, 32, 1),
    ] {
        for kind in KINDS {
            for n in [0, 1, 3] {
                let x = values.array((n, height, width, channels), kind);
                let (w, b) = kernel_and_bias(&mut values, channels, filters, kind);
                let dy = gradient(&mut values, (n, rows, columns, filters), kind);
                // A shard's sums go on from those of the examples before.
                let dw_before = values.array(w.dim(), kind);
                let db_before = values.array(filters, kind);
                let want = convolution(&x, &w, &b, &dy, window, (dw_before.clone(), db_before.clone()));
                let major = (filters, 3, 3, channels);
                for cpu in Cpu::available() {
                    let (mut w_major, mut dw_major) = (Array4::zeros(major), Array4::zeros(major));
                    layout::to_filter_major(cpu, w.view(), w_major.view_mut());
                    layout::to_filter_major(cpu, dw_before.view(), dw_major.view_mut());
                    let mut db = db_before.clone();
                    let mut dx = Array4::from_elem(x.dim(), f32::NAN);
                    let mut events = conv2d::Events::new(n, rows * columns, filters);
                    let (dw_view, db_view, dx_view) = (dw_major.view_mut(), db.view_mut(), dx.view_mut());
                    let (x_view, w_view, y_view) = (x.view(), w_major.view(), want.y.view());
                    if window == 2 {
                        let mut padded =
                            Array3::from_elem((filters, layout::PADDED_TAPS, channels), f32::NAN);
                        layout::to_padded_filter_major(cpu, w.view(), padded.view_mut());
                        let (w_view, places, dy) = (padded.view(), want.places.view(), dy.view());
                        conv2d::backward_relu_pool(
                            cpu,
                            x_view,
                            w_view,
                            y_view,
                            places,
                            dy,
                            &mut events,
                            dw_view,
                            db_view,
                            dx_view,
                        );
                    } else {
                        let dy = dy.view();
                        conv2d::backward_relu(
                            cpu,
                            x_view,
                            w_view,
                            y_view,
                            dy,
                            &mut events,
                            dw_view,
                            db_view,
                            dx_view,
                        );
                    }
                    let mut dw = Array4::from_elem(w.dim(), f32::NAN);
                    layout::from_filter_major(cpu, dw_major.view(), dw.view_mut());
                    let what = format!("{cpu} {kind:?} {:?}, {filters} filters, window {window}", x.dim());
                    assert_bits(&dx, &want.dx, &format!("{what}: dx"));
                    assert_sums(&dw, &want.dw, &format!("{what}: dw"));
                    assert_sums(&db, &want.db, &format!("{what}: db"));
                }
            }
        }
    }
}

/// Compares sums that are still open: a zero gets its sign only when the shard ends.
#[track_caller]
fn assert_sums<D: ndarray::Dimension>(
    got: &ndarray::Array<f32, D>,
    want: &ndarray::Array<f32, D>,
    what: &str,
) {
    assert_bits(&got.mapv(|sum| sum + 0.0), &want.mapv(|sum| sum + 0.0), what);
}

#[test]
fn gradients_of_the_first_convolution() {
    let mut values = Values::new(24);
    for (height, width, rows, columns) in [(4, 4, 1, 1), (28, 28, 12, 12), (9, 12, 3, 4)] {
        for kind in KINDS {
            for n in [0, 1, 3] {
                let x = values.array((n, height, width, 1), kind);
                let (w, b) = kernel_and_bias(&mut values, 1, 16, kind);
                let dy = gradient(&mut values, (n, rows, columns, 16), kind);
                let dw_before = values.array(w.dim(), kind);
                let db_before = values.array(16, kind);
                let want = convolution(&x, &w, &b, &dy, 2, (dw_before.clone(), db_before.clone()));
                for cpu in Cpu::available() {
                    let (mut dw, mut db) = (dw_before.clone(), db_before.clone());
                    let (y, places) = (want.y.view(), want.places.view());
                    let (dw_view, db_view) = (dw.view_mut(), db.view_mut());
                    conv2d::backward_first_relu_pool(cpu, x.view(), y, places, dy.view(), dw_view, db_view);
                    let what = format!("{cpu} {kind:?} {:?}", x.dim());
                    assert_sums(&dw, &want.dw, &format!("{what}: dw"));
                    assert_sums(&db, &want.db, &format!("{what}: db"));
                }
            }
        }
    }
}

#[test]
fn dense_layers() {
    let mut values = Values::new(25);
    // One to five blocks of outputs and of inputs; one to nine examples: tiles take four, two and one.
    for (inputs, outputs) in [(16, 16), (288, 64), (64, 16), (48, 80), (80, 48), (32, 112)] {
        for kind in KINDS {
            for n in [0, 1, 2, 3, 4, 5, 9] {
                let x: Array2<f32> = values.array((n, inputs), kind);
                let w: Array2<f32> = values.array((inputs, outputs), kind);
                let mut b: Array1<f32> = values.array(outputs, kind);
                b[1] = -0.0;
                let dz: Array2<f32> = values.array((n, outputs), kind);
                let dw_before: Array2<f32> = values.array((inputs, outputs), kind);
                let db_before: Array1<f32> = values.array(outputs, kind);

                let mut z = Array2::zeros((n, outputs));
                let mut dx = Array2::zeros((n, inputs));
                let (mut dw, mut db) = (dw_before.clone(), db_before.clone());
                for i in 0..n {
                    z.row_mut(i).assign(&reference::dense::<f32, Soft>(x.row(i), w.view(), b.view()));
                    let (dw, db) = (dw.view_mut(), db.view_mut());
                    let one = reference::dense_backward::<f32, Soft>(x.row(i), w.view(), dz.row(i), dw, db);
                    dx.row_mut(i).assign(&one);
                }

                for cpu in Cpu::available() {
                    let what = format!("{cpu} {kind:?}, {n} examples, {inputs} to {outputs}");
                    let mut got = Array2::from_elem(z.dim(), f32::NAN);
                    dense::forward(cpu, x.view(), w.view(), b.view(), got.view_mut());
                    assert_bits(&got, &z, &what);
                    dense::forward_relu(cpu, x.view(), w.view(), b.view(), got.view_mut());
                    assert_bits(&got, &z.mapv(reference::relu), &format!("{what}: ReLU"));

                    let mut wt = Array2::zeros((outputs, inputs));
                    layout::transpose(cpu, w.view(), wt.view_mut());
                    assert_bits(&wt, &w.t(), "transpose");
                    let mut got = Array2::from_elem(dx.dim(), f32::NAN);
                    dense::backward_input(cpu, dz.view(), wt.view(), got.view_mut());
                    assert_bits(&got, &dx, &format!("{what}: dx"));

                    let (mut got_dw, mut got_db) = (dw_before.clone(), db_before.clone());
                    let (dw_view, db_view) = (got_dw.view_mut(), got_db.view_mut());
                    dense::backward_weights(cpu, x.view(), dz.view(), dw_view, db_view);
                    assert_sums(&got_dw, &dw, &format!("{what}: dw"));
                    assert_sums(&got_db, &db, &format!("{what}: db"));
                }
            }
        }
    }
}

#[test]
fn relu_of_dense_layers() {
    let y = [1.0, 0.0, f32::from_bits(1), 0.0];
    let mut dy = [2.0, 3.0, 4.0, -0.0];
    dense::relu_backward(&y, &mut dy);
    assert_eq!(dy.map(f32::to_bits), [2.0_f32, 0.0, 4.0, 0.0].map(f32::to_bits));
}

#[test]
fn softmax_and_cross_entropy() {
    let mut values = Values::new(26);
    for kind in KINDS {
        let z: Array2<f32> = values.array((40, 10), kind);
        let labels = Array1::from_shape_fn(40, |_| (values.word() % 10) as u8);
        let mut dz = Array2::from_elem((40, 10), f32::NAN);
        let mut loss = 0.0;
        let correct =
            softmax_cross_entropy::forward_backward(z.view(), labels.view(), dz.view_mut(), &mut loss);
        let (mut want_loss, mut want_correct) = (0.0_f32, 0);
        for (i, &label) in labels.iter().enumerate() {
            let label = usize::from(label);
            let (one, want) = reference::softmax_cross_entropy::<f32>(z.row(i), label);
            want_loss += one;
            want_correct += u32::from(reference::argmax(z.row(i)) == label);
            assert_bits(&dz.row(i), &want.view(), "dz");
            let (forward_loss, predicted) = softmax_cross_entropy::forward(z.row(i), label);
            assert_eq!((forward_loss.to_bits(), predicted), (one.to_bits(), reference::argmax(z.row(i))));
        }
        assert_eq!((loss.to_bits(), correct), (want_loss.to_bits(), want_correct));
    }
}

#[test]
fn pixels_have_the_bits_of_the_reference() {
    let pixels: Vec<u8> = (0..=255).chain(3..=40).collect();
    for cpu in Cpu::available() {
        let mut x = vec![f32::NAN; pixels.len()];
        lockstep_kernels::pixels::forward(cpu, &pixels, &mut x);
        for (x, &pixel) in x.iter().zip(&pixels) {
            assert_eq!(x.to_bits(), reference::pixel::<f32>(pixel).to_bits(), "{pixel}, {cpu}");
        }
    }
}

#[test]
fn closed_sums_have_the_bits_of_the_reference() {
    let sums: Array1<f32> = Values::new(29).array(77, Kind::Hostile);
    let mut want = sums.to_vec();
    reference::end_sums(&mut want);
    for cpu in Cpu::available() {
        let mut closed = vec![f32::NAN; 77];
        lockstep_kernels::sums::close(cpu, sums.as_slice().unwrap(), &mut closed);
        assert_eq!(
            closed.iter().map(|sum| sum.to_bits()).collect::<Vec<_>>(),
            want.iter().map(|sum| sum.to_bits()).collect::<Vec<_>>(),
            "{cpu}"
        );
    }
}

#[test]
fn the_peak_s_multiply_adds_are_counted() {
    for cpu in Cpu::available() {
        let one = lockstep_kernels::peak::multiply_adds(cpu, 1);
        assert!(one > 0);
        assert_eq!(lockstep_kernels::peak::multiply_adds(cpu, 7), 7 * one, "{cpu}");
    }
}

#[test]
fn every_instruction_set_has_a_name_and_scalar_is_the_last() {
    let available = Cpu::available();
    assert_eq!(available[0], Cpu::detect());
    assert_eq!(available.last(), Some(&Cpu::Scalar));
    let names: Vec<String> = available.iter().map(|cpu| cpu.to_string()).collect();
    assert!(
        names.iter().all(|name| ["avx512", "avx2", "neon", "scalar"].contains(&name.as_str())),
        "{names:?}"
    );
}

/// Sums that arrive at -0.0: from a bias of -0.0 and products of -0.0, and by underflow of a gradient.
#[test]
fn no_sum_of_a_dense_layer_ends_as_negative_zero() {
    let tiny = f32::MIN_POSITIVE;
    for cpu in Cpu::available() {
        for n in [1, 2, 4] {
            let (x, w) = (Array2::zeros((n, 16)), Array2::from_elem((16, 16), -1.0));
            let mut z = Array2::from_elem((n, 16), f32::NAN);
            dense::forward(cpu, x.view(), w.view(), Array1::from_elem(16, -0.0).view(), z.view_mut());
            assert!(z.iter().all(|value| value.to_bits() == 0), "z, {cpu}, {n} examples");
            let (dz, wt) = (Array2::from_elem((n, 16), tiny), Array2::from_elem((16, 16), -tiny));
            let mut dx = Array2::from_elem((n, 16), f32::NAN);
            dense::backward_input(cpu, dz.view(), wt.view(), dx.view_mut());
            assert!(dx.iter().all(|value| value.to_bits() == 0), "dx, {cpu}, {n} examples");
        }
    }
}

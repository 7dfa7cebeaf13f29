//! The whole network as the naive reference program: it defines the gradient of a shard, and nobody trains with it.

use lockstep_kernels::fma::Fma;
use lockstep_kernels::reference as layer;
use lockstep_kernels::reference::Float;
use ndarray::{ArrayView1, ArrayView2, ArrayView3, ArrayView4};
use ndarray::{ArrayViewMut2, ArrayViewMut4};

use crate::parameters::{PARAMETERS, TENSORS};

/// Loss and correct answers of a shard, as sums over its examples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sums<T> {
    /// Sum of the losses.
    pub loss: T,
    /// Number of examples whose argmax is their label.
    pub correct: u32,
}

/// Overwrites `gradient [PARAMETERS]` with the sum over `images [N, 28, 28]` and `labels [N]`.
///
/// # Panics
/// If a length or shape is wrong, or a label is not below 10.
#[inline(always)]
pub fn shard_gradient<T: Float, M: Fma<T>>(
    weights: &[T],
    images: ArrayView3<u8>,
    labels: ArrayView1<u8>,
    gradient: &mut [T],
) -> Sums<T> {
    assert_eq!(weights.len(), PARAMETERS, "number of weights");
    assert_eq!(gradient.len(), PARAMETERS, "number of gradient elements");
    assert_eq!(images.dim().0, labels.len(), "images beside labels");
    gradient.fill(T::ZERO);
    let mut sums = Sums { loss: T::ZERO, correct: 0 };
    for (image, &label) in images.outer_iter().zip(labels) {
        let label = usize::from(label);
        let x = image.mapv(layer::pixel::<T>).insert_axis(ndarray::Axis(2));

        let z1 = layer::conv2d::<T, M>(x.view(), kernel(weights, 0), vector(weights, 1));
        let (p1, places1) = layer::max_pool2d(z1.mapv(layer::relu).view());
        let z2 = layer::conv2d_by_windows::<T, M>(p1.view(), kernel(weights, 2), vector(weights, 3));
        let (p2, places2) = layer::max_pool2d(z2.mapv(layer::relu).view());
        let z3 = layer::conv2d::<T, M>(p2.view(), kernel(weights, 4), vector(weights, 5));
        let a3 = z3.mapv(layer::relu).into_flat();
        let z4 = layer::dense::<T, M>(a3.view(), matrix(weights, 6), vector(weights, 7));
        let a4 = z4.mapv(layer::relu);
        let z5 = layer::dense::<T, M>(a4.view(), matrix(weights, 8), vector(weights, 9));

        let (loss, dz5) = layer::softmax_cross_entropy(z5.view(), label);
        sums.loss = sums.loss + loss;
        sums.correct += u32::from(layer::argmax(z5.view()) == label);

        let [dw1, db1, dw2, db2, dw3, db3, dw4, db4, dw5, db5] = tensors_mut(gradient);
        let (dw4, dw5) = (matrix_mut(dw4, 6), matrix_mut(dw5, 8));
        let (dw1, dw2, dw3) = (kernel_mut(dw1, 0), kernel_mut(dw2, 2), kernel_mut(dw3, 4));
        let da4 = layer::dense_backward::<T, M>(a4.view(), matrix(weights, 8), dz5.view(), dw5, db5.into());
        let dz4 = ndarray::Zip::from(&z4).and(&da4).map_collect(|&z, &dy| layer::relu_backward(z, dy));
        let da3 = layer::dense_backward::<T, M>(a3.view(), matrix(weights, 6), dz4.view(), dw4, db4.into());
        let da3 = da3.into_shape_with_order(z3.dim()).expect("288 values are 3 x 3 x 32");
        let dz3 = ndarray::Zip::from(&z3).and(&da3).map_collect(|&z, &dy| layer::relu_backward(z, dy));
        let (w3, w2, w1) = (kernel(weights, 4), kernel(weights, 2), kernel(weights, 0));
        let dp2 = layer::conv2d_backward::<T, M>(p2.view(), w3, dz3.view(), 1, dw3, db3.into());
        let da2 = layer::max_pool2d_backward((z2.dim().0, z2.dim().1), places2.view(), dp2.view());
        let dz2 = ndarray::Zip::from(&z2).and(&da2).map_collect(|&z, &dy| layer::relu_backward(z, dy));
        let dp1 = layer::conv2d_backward::<T, M>(p1.view(), w2, dz2.view(), 2, dw2, db2.into());
        let da1 = layer::max_pool2d_backward((z1.dim().0, z1.dim().1), places1.view(), dp1.view());
        let dz1 = ndarray::Zip::from(&z1).and(&da1).map_collect(|&z, &dy| layer::relu_backward(z, dy));
        layer::conv2d_backward::<T, M>(x.view(), w1, dz1.view(), 2, dw1, db1.into());
    }
    layer::end_sums(gradient);
    sums.loss = sums.loss + T::ZERO;
    sums
}

fn vector<T>(weights: &[T], tensor: usize) -> ArrayView1<'_, T> {
    ArrayView1::from(&weights[TENSORS[tensor].range()])
}

fn matrix<T>(weights: &[T], tensor: usize) -> ArrayView2<'_, T> {
    let shape = TENSORS[tensor].shape;
    ArrayView2::from_shape((shape[0], shape[1]), &weights[TENSORS[tensor].range()])
        .expect("the table's shape")
}

fn kernel<T>(weights: &[T], tensor: usize) -> ArrayView4<'_, T> {
    let shape = TENSORS[tensor].shape;
    ArrayView4::from_shape((shape[0], shape[1], shape[2], shape[3]), &weights[TENSORS[tensor].range()])
        .expect("the table's shape")
}

fn tensors_mut<T>(gradient: &mut [T]) -> [&mut [T]; 10] {
    let mut rest = gradient;
    TENSORS.map(|tensor| {
        let (head, tail) = std::mem::take(&mut rest).split_at_mut(tensor.len());
        rest = tail;
        head
    })
}

fn matrix_mut<T>(values: &mut [T], tensor: usize) -> ArrayViewMut2<'_, T> {
    let shape = TENSORS[tensor].shape;
    ArrayViewMut2::from_shape((shape[0], shape[1]), values).expect("the table's shape")
}

fn kernel_mut<T>(values: &mut [T], tensor: usize) -> ArrayViewMut4<'_, T> {
    let shape = TENSORS[tensor].shape;
    ArrayViewMut4::from_shape((shape[0], shape[1], shape[2], shape[3]), values).expect("the table's shape")
}

//! What each layer of the network gets and gives for a group of digits, forward and backward.

use lockstep_dataset::{IMAGE_SIDE, digits_train};
use lockstep_kernels::reference::WINDOW_POINTS;
use lockstep_kernels::{Cpu, conv2d, dense, layout, pixels, softmax_cross_entropy};
use ndarray::{Array1, Array2, Array3, Array4, ArrayView2, ShapeBuilder, s};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Examples that go through the layers together, as in a training.
pub const EXAMPLES: usize = 4;
pub const CLASSES: usize = 10;
/// conv2's gradient as its kernel sums it up.
pub const CONV2_FILTER_MAJOR: (usize, usize, usize, usize) = (32, 3, 3, 16);

/// The names are those of `lockstep-model`: `p` behind a pool, `a` behind a ReLU, `z` before a softmax.
pub struct Tensors {
    pub pixels: Vec<u8>,
    pub x: Array4<f32>,
    pub labels: Array1<u8>,
    pub background1: conv2d::Background,
    pub background2: conv2d::Background,
    pub w1: Array4<f32>,
    pub b1: Array1<f32>,
    pub p1: Array4<f32>,
    pub places1: Array4<u32>,
    pub ink1: Array3<u8>,
    pub w2: Array4<f32>,
    pub w2_points: Array3<f32>,
    pub w2_padded: Array3<f32>,
    pub b2: Array1<f32>,
    pub p2: Array4<f32>,
    pub places2: Array4<u32>,
    pub w3: Array4<f32>,
    pub w3_filter_major: Array4<f32>,
    pub b3: Array1<f32>,
    pub a3: Array4<f32>,
    pub w4: Array2<f32>,
    pub w4_transposed: Array2<f32>,
    pub b4: Array1<f32>,
    pub a4: Array2<f32>,
    pub w5: Array2<f32>,
    pub w5_transposed: Array2<f32>,
    pub b5: Array1<f32>,
    pub z5: Array2<f32>,
    pub dz5: Array2<f32>,
    pub da4: Array2<f32>,
    pub da3: Array4<f32>,
    pub dp2: Array4<f32>,
    pub dp1: Array4<f32>,
}

/// Scratch memory of the backward passes.
pub fn events() -> conv2d::Events {
    conv2d::Events::new(EXAMPLES, 25, 32)
}

impl Tensors {
    /// Computed on any instruction set: all of them give the same.
    pub fn new() -> Self {
        let cpu = Cpu::detect();
        let mut random = ChaCha8Rng::from_seed([7; 32]);
        let digits = digits_train(EXAMPLES);
        let mut t = Self {
            x: Array4::zeros((EXAMPLES, IMAGE_SIDE, IMAGE_SIDE, 1)),
            labels: Array1::from_vec(digits.labels),
            background1: conv2d::Background::new(1, 16),
            background2: conv2d::Background::new(16, 32),
            w1: weights(&mut random, (3, 3, 1, 16), 9 + 144),
            b1: Array1::zeros(16),
            p1: Array4::zeros((EXAMPLES, 12, 12, 16)),
            places1: Array4::zeros((EXAMPLES, 12, 12, 16)),
            ink1: Array3::zeros((EXAMPLES, 12, 12)),
            w2: weights(&mut random, (3, 3, 16, 32), 144 + 288),
            w2_points: Array3::zeros((WINDOW_POINTS, 16, 32)),
            w2_padded: Array3::zeros((32, layout::PADDED_TAPS, 16)),
            b2: Array1::zeros(32),
            p2: Array4::zeros((EXAMPLES, 5, 5, 32)),
            places2: Array4::zeros((EXAMPLES, 5, 5, 32)),
            w3: weights(&mut random, (3, 3, 32, 32), 288 + 288),
            w3_filter_major: Array4::zeros((32, 3, 3, 32)),
            b3: Array1::zeros(32),
            a3: Array4::zeros((EXAMPLES, 3, 3, 32)),
            w4: weights(&mut random, (288, 64), 288 + 64),
            w4_transposed: Array2::zeros((64, 288)),
            b4: Array1::zeros(64),
            a4: Array2::zeros((EXAMPLES, 64)),
            w5: weights(&mut random, (64, 16), 64 + 10),
            w5_transposed: Array2::zeros((16, 64)),
            b5: Array1::zeros(16),
            z5: Array2::zeros((EXAMPLES, 16)),
            dz5: Array2::zeros((EXAMPLES, 16)),
            da4: Array2::zeros((EXAMPLES, 64)),
            da3: Array4::zeros((EXAMPLES, 3, 3, 32)),
            dp2: Array4::zeros((EXAMPLES, 5, 5, 32)),
            dp1: Array4::zeros((EXAMPLES, 12, 12, 16)),
            pixels: digits.images,
        };
        // Ten classes, padded to a block.
        t.w5.slice_mut(s![.., CLASSES..]).fill(0.0);
        t.lay_out(cpu);
        t.forward(cpu);
        t.backward(cpu);
        t
    }

    pub fn a3_flat(&self) -> ArrayView2<'_, f32> {
        self.a3.view().into_shape_with_order((EXAMPLES, 288)).expect("the standard layout")
    }

    pub fn da3_flat(&self) -> ArrayView2<'_, f32> {
        self.da3.view().into_shape_with_order((EXAMPLES, 288)).expect("the standard layout")
    }

    fn lay_out(&mut self, cpu: Cpu) {
        conv2d::kernel_points(cpu, self.w2.view(), self.w2_points.view_mut());
        let (w, b, mut ink) = (self.w1.view(), self.b1.view(), Array3::zeros((1, 1, 1)));
        self.background1.update(&[0.0], |x, y, places| {
            conv2d::forward_first_relu_pool(cpu, x, w, b, None, y, places, ink.view_mut());
        });
        let (w, b) = (self.w2_points.view(), self.b2.view());
        self.background2.update(self.background1.y(), |x, y, places| {
            conv2d::forward_relu_pool(cpu, x, w, b, None, y, places);
        });
        layout::to_padded_filter_major(cpu, self.w2.view(), self.w2_padded.view_mut());
        layout::to_filter_major(cpu, self.w3.view(), self.w3_filter_major.view_mut());
        layout::transpose(cpu, self.w4.view(), self.w4_transposed.view_mut());
        layout::transpose(cpu, self.w5.view(), self.w5_transposed.view_mut());
    }

    fn forward(&mut self, cpu: Cpu) {
        pixels::forward(cpu, &self.pixels, self.x.as_slice_mut().expect("the standard layout"));
        let (w, b, y, places) = (self.w1.view(), self.b1.view(), self.p1.view_mut(), self.places1.view_mut());
        let (background, ink) = (Some(&self.background1), self.ink1.view_mut());
        conv2d::forward_first_relu_pool(cpu, self.x.view(), w, b, background, y, places, ink);
        let (w, b, y) = (self.w2_points.view(), self.b2.view(), self.p2.view_mut());
        let (background, places) = (Some((&self.background2, self.ink1.view())), self.places2.view_mut());
        conv2d::forward_relu_pool(cpu, self.p1.view(), w, b, background, y, places);
        conv2d::forward_relu(cpu, self.p2.view(), self.w3.view(), self.b3.view(), self.a3.view_mut());
        let x = self.a3.view().into_shape_with_order((EXAMPLES, 288)).expect("the standard layout");
        dense::forward_relu(cpu, x, self.w4.view(), self.b4.view(), self.a4.view_mut());
        dense::forward(cpu, self.a4.view(), self.w5.view(), self.b5.view(), self.z5.view_mut());
    }

    fn backward(&mut self, cpu: Cpu) {
        let (z, dz) = (self.z5.slice(s![.., ..CLASSES]), self.dz5.slice_mut(s![.., ..CLASSES]));
        softmax_cross_entropy::forward_backward(z, self.labels.view(), dz, &mut 0.0);
        dense::backward_input(cpu, self.dz5.view(), self.w5_transposed.view(), self.da4.view_mut());
        let y = self.a4.as_slice().expect("the standard layout");
        dense::relu_backward(y, self.da4.as_slice_mut().expect("the standard layout"));
        let dx = self.da3.view_mut().into_shape_with_order((EXAMPLES, 288)).expect("the standard layout");
        dense::backward_input(cpu, self.da4.view(), self.w4_transposed.view(), dx);
        let mut events = events();
        let (mut dw, mut db) = (Array4::zeros(self.w3_filter_major.dim()), Array1::zeros(32));
        let (x, w, y, dy) = (self.p2.view(), self.w3_filter_major.view(), self.a3.view(), self.da3.view());
        let (dw, db, dx) = (dw.view_mut(), db.view_mut(), self.dp2.view_mut());
        conv2d::backward_relu(cpu, x, w, y, dy, &mut events, dw, db, dx);
        let (mut dw, mut db) = (Array4::zeros(CONV2_FILTER_MAJOR), Array1::zeros(32));
        let (x, w, y, dy) = (self.p1.view(), self.w2_padded.view(), self.p2.view(), self.dp2.view());
        let (places, dw, db, dx) = (self.places2.view(), dw.view_mut(), db.view_mut(), self.dp1.view_mut());
        conv2d::backward_relu_pool(cpu, x, w, y, places, dy, &mut events, dw, db, dx);
    }
}

/// Between plus and minus twice the deviation that the network's first weights have with so many inputs and outputs.
fn weights<D: ndarray::Dimension, Sh: ShapeBuilder<Dim = D>>(
    random: &mut ChaCha8Rng,
    shape: Sh,
    inputs_and_outputs: u16,
) -> ndarray::Array<f32, D> {
    let most = 2.0 * (2.0 / f32::from(inputs_and_outputs)).sqrt();
    ndarray::Array::from_shape_simple_fn(shape, || {
        most * (random.next_u32() as f32 * 2.0_f32.powi(-31) - 1.0)
    })
}

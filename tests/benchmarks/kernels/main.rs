//! `cargo bench -p lockstep-benchmarks --bench kernels`: each kernel, forward and backward, on each instruction set of this machine.
//!
//! The tensors are those of the network in a training step: four generated digits go through the layers once, and each kernel
//! is timed on what it was given there, so that as much of it is background, loses in a pool or is cut off by a ReLU as
//! in reality. `coordinator bench kernels` times the same kernels inside a whole computation, with the caches of that.

mod tensors;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lockstep_kernels::{Cpu, conv2d, dense, pixels, softmax_cross_entropy};
use ndarray::{Array1, Array2, Array4, s};
use tensors::{CLASSES, EXAMPLES, Tensors};

/// A benchmark for every instruction set, called `NAME/INSTRUCTION SET`; what it takes is for [`EXAMPLES`] examples.
fn each(criterion: &mut Criterion, name: &str, mut compute: impl FnMut(Cpu)) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(EXAMPLES as u64));
    for cpu in Cpu::available() {
        group.bench_function(cpu.to_string(), |bencher| bencher.iter(|| compute(black_box(cpu))));
    }
}

fn forward(criterion: &mut Criterion) {
    let t = Tensors::new();
    let mut x = vec![0.0; t.pixels.len()];
    each(criterion, "pixels", |cpu| pixels::forward(cpu, &t.pixels, &mut x));

    let (mut y, mut places, mut ink) = (t.p1.clone(), t.places1.clone(), t.ink1.clone());
    each(criterion, "conv1 forward", |cpu| {
        let (w, b, y, places) = (t.w1.view(), t.b1.view(), y.view_mut(), places.view_mut());
        let (background, ink) = (Some(&t.background1), ink.view_mut());
        conv2d::forward_first_relu_pool(cpu, t.x.view(), w, b, background, y, places, ink);
    });
    let (mut y, mut places) = (t.p2.clone(), t.places2.clone());
    each(criterion, "conv2 forward", |cpu| {
        let (w, b, y, places) = (t.w2_points.view(), t.b2.view(), y.view_mut(), places.view_mut());
        let background = Some((&t.background2, t.ink1.view()));
        conv2d::forward_relu_pool(cpu, t.p1.view(), w, b, background, y, places);
    });
    let mut y = t.a3.clone();
    each(criterion, "conv3 forward", |cpu| {
        conv2d::forward_relu(cpu, t.p2.view(), t.w3.view(), t.b3.view(), y.view_mut());
    });
    let mut y = t.a4.clone();
    each(criterion, "dense1 forward", |cpu| {
        dense::forward_relu(cpu, t.a3_flat(), t.w4.view(), t.b4.view(), y.view_mut());
    });
    let mut z = t.z5.clone();
    each(criterion, "dense2 forward", |cpu| {
        dense::forward(cpu, t.a4.view(), t.w5.view(), t.b5.view(), z.view_mut());
    });
}

fn loss(criterion: &mut Criterion) {
    let t = Tensors::new();
    let (mut dz, mut loss) = (t.dz5.clone(), 0.0);
    let mut group = criterion.benchmark_group("softmax cross entropy");
    group.throughput(Throughput::Elements(EXAMPLES as u64));
    // One code for all instruction sets.
    group.bench_function("any", |bencher| {
        bencher.iter(|| {
            let (z, dz) = (t.z5.slice(s![.., ..CLASSES]), dz.slice_mut(s![.., ..CLASSES]));
            softmax_cross_entropy::forward_backward(black_box(z), t.labels.view(), dz, &mut loss)
        });
    });
}

/// Gradients of parameters are added up, from call to call, as within a shard.
fn backward(criterion: &mut Criterion) {
    let t = Tensors::new();
    let mut events = tensors::events();

    let (mut dw, mut db, mut dx) = (Array2::zeros(t.w5.dim()), Array1::zeros(t.b5.len()), t.da4.clone());
    each(criterion, "dense2 backward", |cpu| {
        dense::backward_weights(cpu, t.a4.view(), t.dz5.view(), dw.view_mut(), db.view_mut());
        dense::backward_input(cpu, t.dz5.view(), t.w5_transposed.view(), dx.view_mut());
        let y = t.a4.as_slice().expect("the standard layout");
        dense::relu_backward(y, dx.as_slice_mut().expect("the standard layout"));
    });
    let (mut dw, mut db, mut dx) =
        (Array2::zeros(t.w4.dim()), Array1::zeros(t.b4.len()), t.da3_flat().to_owned());
    each(criterion, "dense1 backward", |cpu| {
        dense::backward_weights(cpu, t.a3_flat(), t.da4.view(), dw.view_mut(), db.view_mut());
        dense::backward_input(cpu, t.da4.view(), t.w4_transposed.view(), dx.view_mut());
    });
    let (mut dw, mut db) = (Array4::zeros(t.w3_filter_major.dim()), Array1::zeros(t.b3.len()));
    let mut dx = t.dp2.clone();
    each(criterion, "conv3 backward", |cpu| {
        let (x, w, y, dy) = (t.p2.view(), t.w3_filter_major.view(), t.a3.view(), t.da3.view());
        conv2d::backward_relu(cpu, x, w, y, dy, &mut events, dw.view_mut(), db.view_mut(), dx.view_mut());
    });
    let (mut dw, mut db) = (Array4::zeros(tensors::CONV2_FILTER_MAJOR), Array1::zeros(t.b2.len()));
    let mut dx = t.dp1.clone();
    each(criterion, "conv2 backward", |cpu| {
        let (x, w, y, places, dy) =
            (t.p1.view(), t.w2_padded.view(), t.p2.view(), t.places2.view(), t.dp2.view());
        let (dw, db, dx) = (dw.view_mut(), db.view_mut(), dx.view_mut());
        conv2d::backward_relu_pool(cpu, x, w, y, places, dy, &mut events, dw, db, dx);
    });
    let (mut dw, mut db) = (Array4::zeros(t.w1.dim()), Array1::zeros(t.b1.len()));
    each(criterion, "conv1 backward", |cpu| {
        let (x, y, places, dy) = (t.x.view(), t.p1.view(), t.places1.view(), t.dp1.view());
        conv2d::backward_first_relu_pool(cpu, x, y, places, dy, dw.view_mut(), db.view_mut());
    });
}

criterion_group! {
    name = kernels;
    // Some forty benchmarks: two minutes for all of them.
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = forward, loss, backward
}
criterion_main!(kernels);

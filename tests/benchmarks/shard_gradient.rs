//! `cargo bench -p lockstep-benchmarks --bench shard_gradient`: what a worker computes for a step, on each instruction set of this machine: the
//! gradient of a whole micro-shard, and the weights' way into the kernels' layouts.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lockstep_dataset::{IMAGE_SIDE, digits_train};
use lockstep_model::{Cpu, GROUP, Network, PARAMETERS, Workspace, initial_weights};
use ndarray::{Array1, Array3};

/// Examples of a micro-shard: a batch of 64 in 16.
const EXAMPLES: usize = GROUP;

fn shard_gradient(criterion: &mut Criterion) {
    let digits = digits_train(EXAMPLES);
    let images =
        Array3::from_shape_vec((EXAMPLES, IMAGE_SIDE, IMAGE_SIDE), digits.images).expect("whole images");
    let labels = Array1::from_vec(digits.labels);
    let weights = initial_weights(42);
    let (mut workspace, mut gradient) = (Workspace::new(), vec![0.0; PARAMETERS]);
    let mut group = criterion.benchmark_group("shard gradient");
    group.throughput(Throughput::Elements(EXAMPLES as u64));
    for cpu in Cpu::available() {
        let mut network = Network::new(cpu);
        network.load(&weights);
        group.bench_function(cpu.to_string(), |bencher| {
            bencher.iter(|| {
                network.shard_gradient(black_box(images.view()), labels.view(), &mut workspace, &mut gradient)
            });
        });
    }
}

fn load(criterion: &mut Criterion) {
    let weights = initial_weights(42);
    let mut group = criterion.benchmark_group("load weights");
    for cpu in Cpu::available() {
        let mut network = Network::new(cpu);
        group.bench_function(cpu.to_string(), |bencher| bencher.iter(|| network.load(black_box(&weights))));
    }
}

criterion_group! {
    name = model;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = shard_gradient, load
}
criterion_main!(model);

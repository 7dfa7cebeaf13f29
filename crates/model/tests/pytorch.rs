//! The gradient and a short loss curve of the convnet against PyTorch's, which shares no line with ours: the kernels
//! as far as float32 goes, and the reference program in float64 almost to the last bit.
//!
//! The expected values stand in `tests/fixtures`, made there in float64 by `make_pytorch_fixture.py`; its head describes
//! the inputs, which this file builds again from the same generator. It never runs Python.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test's helpers panic and print like the test"
)]

use std::fs;
use std::path::{Path, PathBuf};

use lockstep_kernels::fma::Soft;
use lockstep_model::{Cpu, Network, PARAMETERS, TENSORS, Workspace, reference, sgd_update};
use ndarray::{Array1, Array3};

const EXAMPLES: u32 = 8;
const STEPS: usize = 10;
const LEARNING_RATE: f64 = 0.025;
/// Scale of each tensor's uniform weights, in the canonical order.
const SCALES: [f32; 10] = [2.0, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25, 0.5, 0.25];
/// Float32 sums of a few thousand terms stay a decade below it: gradients as a part of their tensor's largest entry,
/// losses relatively.
const KERNELS_TOLERANCE: f64 = 1e-5;
/// The file holds float32.
const REFERENCE_GRADIENT_TOLERANCE: f64 = 1e-7;
const REFERENCE_LOSS_TOLERANCE: f64 = 1e-12;

/// The fixture's 32-bit linear congruential generator.
struct Lcg(u32);

impl Lcg {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        self.0
    }
}

struct Inputs {
    weights: Vec<f32>,
    /// `[N, 28, 28]`
    images: Array3<u8>,
    /// `[N]`
    labels: Array1<u8>,
}

fn inputs() -> Inputs {
    let mut lcg = Lcg(1);
    let mut weights = Vec::with_capacity(PARAMETERS);
    for (tensor, scale) in TENSORS.iter().zip(SCALES) {
        for _ in tensor.range() {
            // 24 bits and a power of two: every operation is exact.
            weights.push(((lcg.next() >> 8) as f32 / 16_777_216.0 - 0.5) * scale);
        }
    }
    let mut images = Array3::zeros((EXAMPLES as usize, 28, 28));
    for mut image in images.outer_iter_mut() {
        let mut lit = [[false; 7]; 7];
        for block in lit.as_flattened_mut() {
            *block = lcg.next() >> 24 < 64;
        }
        for ((row, column), pixel) in image.indexed_iter_mut() {
            let value = (lcg.next() >> 24) as u8;
            *pixel = if lit[row / 4][column / 4] { value } else { 0 };
        }
    }
    let labels = Array1::from_shape_simple_fn(EXAMPLES as usize, || ((lcg.next() >> 16) % 10) as u8);
    Inputs { weights, images, labels }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures").join(name)
}

fn expected_gradient() -> Vec<f32> {
    let bytes = fs::read(fixture("pytorch_gradient.f32")).unwrap();
    bytes.as_chunks::<4>().0.iter().map(|&entry| f32::from_le_bytes(entry)).collect()
}

fn expected_losses() -> Vec<f64> {
    let text = fs::read_to_string(fixture("pytorch_losses.txt")).unwrap();
    text.lines().filter(|line| !line.starts_with('#')).map(|line| line.parse().unwrap()).collect()
}

/// Largest difference per tensor, as a part of the tensor's largest expected entry.
fn assert_gradient(gradient: &[f64], tolerance: f64) {
    let expected = expected_gradient();
    assert_eq!(expected.len(), PARAMETERS);
    let mut failures = Vec::new();
    for tensor in &TENSORS {
        let largest = expected[tensor.range()].iter().fold(0.0_f64, |m, &g| m.max(f64::from(g).abs()));
        let (place, error) = tensor
            .range()
            .map(|i| (i - tensor.offset, (gradient[i] - f64::from(expected[i])).abs() / largest))
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .unwrap();
        println!("{}: largest difference {error:.1e} of the largest entry", tensor.name);
        // Total order puts NaN last, so a NaN is the largest difference, and it is not within the tolerance.
        if error.is_nan() || error > tolerance {
            failures.push(format!("{} at {place} of {:?}: {error:.1e}", tensor.name, tensor.shape));
        }
    }
    assert!(failures.is_empty(), "gradients differ from PyTorch's: {failures:#?}");
}

/// `losses` are means, one per step.
fn assert_losses(losses: &[f64], tolerance: f64) {
    let expected = expected_losses();
    assert_eq!(expected.len(), STEPS);
    assert_eq!(losses.len(), STEPS);
    for (step, (loss, expected)) in (1..).zip(losses.iter().zip(expected)) {
        let error = (loss / expected - 1.0).abs();
        println!("step {step}: loss {loss:.9}, PyTorch {expected:.9}, relative difference {error:.1e}");
        assert!(error <= tolerance, "step {step}: loss {loss}, PyTorch has {expected}");
    }
}

#[test]
fn kernels_agree_with_pytorch() {
    let Inputs { mut weights, images, labels } = inputs();
    let mut network = Network::new(Cpu::detect());
    let mut workspace = Workspace::new();
    let mut gradient = vec![0.0; PARAMETERS];
    let mut updated = vec![0.0; PARAMETERS];
    let mut losses = Vec::new();
    for step in 1..=STEPS {
        network.load(&weights);
        let result = network.shard_gradient(images.view(), labels.view(), &mut workspace, &mut gradient);
        losses.push(f64::from(result.loss) / f64::from(EXAMPLES));
        if step == 1 {
            let gradient: Vec<f64> = gradient.iter().copied().map(f64::from).collect();
            assert_gradient(&gradient, KERNELS_TOLERANCE);
        }
        sgd_update(&weights, &gradient, LEARNING_RATE as f32, EXAMPLES, &mut updated);
        std::mem::swap(&mut weights, &mut updated);
    }
    assert_losses(&losses, KERNELS_TOLERANCE);
}

#[test]
fn reference_in_f64_agrees_with_pytorch() {
    let Inputs { weights, images, labels } = inputs();
    let mut weights: Vec<f64> = weights.into_iter().map(f64::from).collect();
    let mut gradient = vec![0.0; PARAMETERS];
    let mut losses = Vec::new();
    for step in 1..=STEPS {
        let sums =
            reference::shard_gradient::<f64, Soft>(&weights, images.view(), labels.view(), &mut gradient);
        losses.push(sums.loss / f64::from(EXAMPLES));
        if step == 1 {
            assert_gradient(&gradient, REFERENCE_GRADIENT_TOLERANCE);
        }
        for (weight, gradient) in weights.iter_mut().zip(&gradient) {
            *weight -= LEARNING_RATE * (gradient / f64::from(EXAMPLES));
        }
    }
    assert_losses(&losses, REFERENCE_LOSS_TOLERANCE);
}

//! The join test: a canned shard whose result proves that a processor computes the promised bits.

use lockstep_kernels::Cpu;
use ndarray::{Array1, Array3};
use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::initial::initial_weights;
use crate::network::{Network, Workspace};
use crate::parameters::{CLASSES, IMAGE_SIDE, PARAMETERS, TENSORS};

/// What [`join_test`] gives on every processor that may take part.
pub const JOIN_TEST_DIGEST: &str = "eca87686795a198109e31a912fc84e20f3f22f6a7c952c3b0dcf65f89bc5e8b5";

/// Examples of the canned shard.
const EXAMPLES: usize = 5;

/// SHA-256 over the canned shard's loss, number of correct answers and gradient, all little-endian.
///
/// The shard has subnormal, tiny, ordinary and large weights, so that a processor that flushes subnormals to zero, or
/// rounds a multiply-add twice, gives another digest; every value of the result is finite.
pub fn join_test(cpu: Cpu) -> Digest {
    let (weights, images, labels) = canned_shard();
    let mut network = Network::new(cpu);
    network.load(&weights);
    let mut gradient = vec![0.0; PARAMETERS];
    let result = network.shard_gradient(images.view(), labels.view(), &mut Workspace::new(), &mut gradient);
    let mut hash = Sha256::new();
    hash.update(result.loss.to_le_bytes());
    hash.update(result.correct.to_le_bytes());
    for value in &gradient {
        hash.update(value.to_le_bytes());
    }
    Digest(hash.finalize().into())
}

/// The instruction set and the processor features behind it, for people: `avx512 (avx2 fma avx512f ...)`.
pub fn cpu_description(cpu: Cpu) -> String {
    format!("{cpu} ({})", cpu.features())
}

/// Weights, images `[N, 28, 28]` and labels `[N]`.
///
/// Among ordinary weights are subnormal ones, a conv2 filter and a hidden unit whose outputs are subnormal, a hidden
/// unit whose outputs are large and weighed down again, and one whose gradient is tiny.
fn canned_shard() -> (Box<[f32]>, Array3<u8>, Array1<u8>) {
    let power = |exponent| libm::exp2(exponent) as f32;
    let mut weights = initial_weights(1);
    for (index, weight) in weights.iter_mut().enumerate() {
        match index % 61 {
            7 => *weight *= power(-126.0),
            19 => *weight *= power(-60.0),
            31 => *weight *= 4.0,
            43 => *weight = f32::from_bits(1 + index as u32),
            _ => {}
        }
    }
    let column =
        |tensor: usize, column: usize, columns: usize| TENSORS[tensor].range().skip(column).step_by(columns);
    for index in column(2, 3, 32).chain(column(6, 5, 64)) {
        weights[index] *= power(-130.0);
    }
    for index in column(6, 6, 64) {
        weights[index] *= power(40.0);
    }
    for index in TENSORS[8].range().skip(6 * CLASSES).take(CLASSES) {
        weights[index] *= power(-40.0);
    }
    for index in TENSORS[8].range().skip(8 * CLASSES).take(CLASSES) {
        weights[index] *= power(-80.0);
    }
    let images = Array3::from_shape_fn((EXAMPLES, IMAGE_SIDE, IMAGE_SIDE), |(n, y, x)| {
        let value = (n * 131 + y * 37 + x * 11) * (y + 3 * x + 1) % 509;
        if value < 256 { value as u8 } else { 0 }
    });
    let labels = Array1::from_shape_fn(EXAMPLES, |n| (n * 3 % CLASSES) as u8);
    (weights, images, labels)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::FpCategory;

    #[test]
    fn every_instruction_set_passes() {
        for cpu in Cpu::available() {
            assert_eq!(join_test(cpu).to_string(), JOIN_TEST_DIGEST, "{}", cpu_description(cpu));
        }
    }

    /// Otherwise a processor that flushes subnormals to zero could pass.
    #[test]
    fn the_shard_has_subnormal_small_and_large_values_and_a_finite_result() {
        let (weights, images, labels) = canned_shard();
        let mut network = Network::new(Cpu::detect());
        network.load(&weights);
        let mut gradient = vec![0.0_f32; PARAMETERS];
        let result =
            network.shard_gradient(images.view(), labels.view(), &mut Workspace::new(), &mut gradient);
        assert!(result.loss.is_finite() && gradient.iter().all(|value| value.is_finite()));
        let count =
            |values: &[f32], what: fn(f32) -> bool| values.iter().filter(|&&value| what(value)).count();
        assert!(count(&weights, |value| value.classify() == FpCategory::Subnormal) > 1_000);
        assert!(count(&gradient, |value| value.classify() == FpCategory::Subnormal) > 10);
        assert!(count(&gradient, |value| value.is_normal() && value.abs() < 1e-20) > 100);
        assert!(count(&gradient, |value| value.abs() > 1e6) > 4);
        assert!(count(&gradient, |value| (1e-3..1e2).contains(&value.abs())) > 10_000);
    }
}

//! The join test: a canned shard whose result proves that a processor computes the promised bits.

use lockstep_kernels::Cpu;
use ndarray::{Array1, Array3};
use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::initial::initial_weights;
use crate::network::{Network, Workspace};
use crate::parameters::{IMAGE_SIDE, PARAMETERS};

/// What [`join_test`] gives on every processor that may take part.
pub const JOIN_TEST_DIGEST: &str = "0000000000000000000000000000000000000000000000000000000000000000";

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

/// Weights, images `[N, 28, 28]` and labels `[N]`, from integers only.
fn canned_shard() -> (Box<[f32]>, Array3<u8>, Array1<u8>) {
    let mut weights = initial_weights(1);
    for (index, weight) in weights.iter_mut().enumerate() {
        match index % 61 {
            7 => *weight *= 2.0_f32.powi(-126), // subnormal
            19 => *weight *= 2.0_f32.powi(-60),
            31 => *weight *= 4.0,
            43 => *weight = f32::from_bits(1 + index as u32), // subnormal
            _ => {}
        }
    }
    let images = Array3::from_shape_fn((EXAMPLES, IMAGE_SIDE, IMAGE_SIDE), |(n, y, x)| {
        let value = (n * 131 + y * 37 + x * 11) * (y + 3 * x + 1) % 509;
        if value < 256 { value as u8 } else { 0 }
    });
    let labels = Array1::from_shape_fn(EXAMPLES, |n| (n * 3 % 10) as u8);
    (weights, images, labels)
}

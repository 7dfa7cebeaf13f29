//! Initial weights: Glorot normal kernels (Glorot and Bengio 2010, as TensorFlow.js has it) and zero biases.
//!
//! A pure function of the seed, computed in f64 with the `libm` crate and rounded once, so that every machine has the
//! same bits.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::parameters::{PARAMETERS, TENSORS, TensorSpec};

/// The stream number of initial values; other uses of the seed have other numbers.
const STREAM: u64 = 0;

/// The weights before the first step: `[PARAMETERS]` in the canonical layout.
pub fn initial_weights(seed: u64) -> Box<[f32]> {
    let mut weights = vec![0.0; PARAMETERS].into_boxed_slice();
    for (index, tensor) in TENSORS.iter().enumerate() {
        if let Some(sigma) = glorot_sigma(tensor) {
            let mut normal = TruncatedNormal::new(seed, index as u64);
            for weight in &mut weights[tensor.range()] {
                *weight = (sigma * normal.next()) as f32;
            }
        }
    }
    weights
}

/// `sqrt(2 / (fan_in + fan_out))` of a kernel; none for a bias.
fn glorot_sigma(tensor: &TensorSpec) -> Option<f64> {
    let (window, channels_in, channels_out) = match *tensor.shape {
        [height, width, channels_in, channels_out] => (height * width, channels_in, channels_out),
        [inputs, outputs] => (1, inputs, outputs),
        _ => return None,
    };
    Some((2.0 / (window * (channels_in + channels_out)) as f64).sqrt())
}

/// Standard normal values truncated at 2 by rejection: Marsaglia's polar method, both values of a pair used in order.
struct TruncatedNormal {
    random: ChaCha8Rng,
    second: Option<f64>,
}

impl TruncatedNormal {
    fn new(seed: u64, index: u64) -> Self {
        let mut key = [0; 32];
        for (bytes, word) in key.as_chunks_mut::<8>().0.iter_mut().zip([seed, STREAM, index, 0]) {
            *bytes = word.to_le_bytes();
        }
        Self { random: ChaCha8Rng::from_seed(key), second: None }
    }

    fn next(&mut self) -> f64 {
        loop {
            let value = match self.second.take() {
                Some(value) => value,
                None => self.pair(),
            };
            if value.abs() <= 2.0 {
                return value;
            }
        }
    }

    /// The first value of a fresh pair; the second one is kept.
    fn pair(&mut self) -> f64 {
        loop {
            let x = self.uniform();
            let y = self.uniform();
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                let scale = (-2.0 * libm::log(square) / square).sqrt();
                self.second = Some(y * scale);
                return x * scale;
            }
        }
    }

    /// Uniform in [-1, 1), from the high 53 bits of one word.
    fn uniform(&mut self) -> f64 {
        const SCALE: f64 = 1.0 / (1_u64 << 52) as f64;
        (self.random.next_u64() >> 11) as f64 * SCALE - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest;

    #[test]
    fn biases_are_zero_and_kernels_are_within_two_sigma() {
        for seed in [0, 42, u64::MAX] {
            let weights = initial_weights(seed);
            for tensor in &TENSORS {
                let values = &weights[tensor.range()];
                let Some(sigma) = glorot_sigma(tensor) else {
                    assert!(values.iter().all(|value| value.to_bits() == 0), "{}", tensor.name);
                    continue;
                };
                assert!(values.iter().all(|&value| f64::from(value).abs() <= 2.0 * sigma * 1.000_001));
                // Truncated at two sigma, the standard deviation is 0.8796 sigma.
                let n = values.len() as f64;
                let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / n;
                let deviation =
                    (values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>() / n).sqrt();
                assert!(mean.abs() < 4.0 * sigma / n.sqrt(), "{}: mean {mean}", tensor.name);
                let error = deviation / (0.8796 * sigma) - 1.0;
                assert!(error.abs() < 3.0 / n.sqrt(), "{}: deviation {deviation}", tensor.name);
            }
        }
    }

    #[test]
    fn fans_count_the_window() {
        let sigma = |tensor: usize| glorot_sigma(&TENSORS[tensor]);
        assert_eq!(sigma(0), Some((2.0_f64 / (9.0 + 144.0)).sqrt()));
        assert_eq!(sigma(2), Some((2.0_f64 / (144.0 + 288.0)).sqrt()));
        assert_eq!(sigma(6), Some((2.0_f64 / (288.0 + 64.0)).sqrt()));
        assert_eq!(sigma(1), None);
    }

    /// Test vectors: the same on every machine and for every later version.
    #[test]
    fn the_values_of_seed_42() {
        let weights = initial_weights(42);
        assert_eq!(
            weights[..4].iter().map(|value| value.to_bits()).collect::<Vec<_>>(),
            [3185127076, 3189332831, 3159700664, 3154893966]
        );
        assert_eq!(
            digest(&weights).to_string(),
            "6da6738c3ad67cff5f2ec327572927f7ac36f87703a11c56b57c534a8ed2662e"
        );
    }

    #[test]
    fn another_seed_and_another_tensor_have_other_values() {
        let (one, other) = (initial_weights(1), initial_weights(2));
        assert_ne!(one[0], other[0]);
        assert_ne!(
            one[TENSORS[6].offset] / one[TENSORS[8].offset],
            other[TENSORS[6].offset] / other[TENSORS[8].offset]
        );
        let normal = |index| TruncatedNormal::new(1, index).next();
        assert_ne!(normal(0), normal(2));
    }
}

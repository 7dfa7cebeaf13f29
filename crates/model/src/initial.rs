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
        (self.random.next_u64() >> 11) as f64 * 2.0_f64.powi(-52) - 1.0
    }
}

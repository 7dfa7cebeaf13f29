//! Owns the kinds of random numbers that a generated digit needs, drawn from one stream in program order.
//!
//! Floats come from integers by one exact division or a fixed sequence of IEEE operations: the same bits on
//! every CPU.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

/// A stream of random numbers with memory of nothing but its place.
pub(crate) struct Draw(pub(crate) ChaCha8Rng);

impl Draw {
    /// Uniform on `0..n`, up to a bias of n / 2^32.
    pub(crate) fn below(&mut self, n: u32) -> u32 {
        ((u64::from(self.0.next_u32()) * u64::from(n)) >> 32) as u32
    }

    /// Uniform on `low` to `high`, a multiple of 2^-24 of the distance away from `low`.
    pub(crate) fn between(&mut self, low: f32, high: f32) -> f32 {
        const STEPS: f32 = (1 << 24) as f32;
        low + (high - low) * ((self.0.next_u32() >> 8) as f32 / STEPS)
    }

    /// A bell curve around 0 with standard deviation `sigma`, cut off at 3.5 of them: a sum of four 16-bit
    /// uniform numbers.
    pub(crate) fn bell(&mut self, sigma: f32) -> f32 {
        /// Standard deviation of the sum: sqrt(4 * (2^32 - 1) / 12).
        const SUM_SIGMA: f32 = 37_837.23;
        let bits = self.0.next_u64();
        let sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
        (sum as f32 - 131_070.0) * (sigma / SUM_SIGMA)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream;

    #[test]
    fn numbers_are_spread_as_promised() {
        let mut draw = Draw(stream::open(1, 99, 0));
        let n = 100_000;
        let bells: Vec<f64> = (0..n).map(|_| f64::from(draw.bell(2.0))).collect();
        let mean = bells.iter().sum::<f64>() / f64::from(n);
        let variance = bells.iter().map(|v| v * v).sum::<f64>() / f64::from(n);
        assert!(mean.abs() < 0.03 && (variance - 4.0).abs() < 0.1, "{mean} {variance}");
        assert!(bells.iter().all(|v| v.abs() < 7.0));
        let uniform: Vec<f32> = (0..n).map(|_| draw.between(-1.0, 3.0)).collect();
        assert!(uniform.iter().all(|v| (-1.0..3.0).contains(v)));
        let counts = (0..n).fold([0; 10], |mut counts, _| {
            counts[draw.below(10) as usize] += 1;
            counts
        });
        assert!(counts.iter().all(|count| (9_500..10_500).contains(count)), "{counts:?}");
    }
}

//! Random numbers by seed: every random choice of a simulated cluster comes from here, and the same seed gives the same ones.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng};

/// One stream of random numbers. Each subject has its own, so that one more draw in one does not move the others.
#[derive(Debug)]
pub struct Rng(ChaCha8Rng);

/// What a stream is for.
#[derive(Clone, Copy, Debug)]
pub enum Subject {
    /// The knobs of the cluster.
    Knobs,
    /// Latency, loss, order.
    Network,
    /// What workers do.
    Workers,
    /// When which fault comes.
    Faults,
    /// What is left on the disk.
    Disk,
    /// How long the disk needs for what.
    DiskTimes,
    /// Crashes tried out on a copy of the disk.
    Probe,
}

impl Rng {
    /// The stream of a subject of a seed.
    pub fn new(seed: u64, subject: Subject) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8] = subject as u8;
        Self(ChaCha8Rng::from_seed(bytes))
    }

    /// Uniform on `0..n`.
    ///
    /// # Panics
    ///
    /// If `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        assert!(n > 0, "a choice among nothing");
        ((u128::from(self.0.next_u64()) * u128::from(n)) >> 64) as u64
    }

    /// Uniform on `low..=high`.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// Between `low` and `high` with every magnitude alike: most values of a wide range are small.
    pub fn magnitude(&mut self, low: u64, high: u64) -> u64 {
        let (low, high) = (low.max(1), high.max(1));
        let bits = self.between(u64::from(low.ilog2()), u64::from(high.ilog2()));
        let (from, to) = ((1 << bits).max(low), ((2 << bits) - 1).min(high));
        self.between(from, to)
    }

    /// True `per_mille` times in a thousand.
    pub fn happens(&mut self, per_mille: u32) -> bool {
        per_mille > 0 && self.below(1000) < u64::from(per_mille)
    }

    /// One of several.
    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_subject_give_one_stream() {
        let draw = |seed, subject| {
            let mut rng = Rng::new(seed, subject);
            (0..8).map(|_| rng.below(1 << 40)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7, Subject::Network), draw(7, Subject::Network));
        assert_ne!(draw(7, Subject::Network), draw(8, Subject::Network));
        assert_ne!(draw(7, Subject::Network), draw(7, Subject::Disk));
    }

    #[test]
    fn numbers_keep_to_their_bounds() {
        let mut rng = Rng::new(1, Subject::Knobs);
        for _ in 0..10_000 {
            assert!(rng.below(3) < 3);
            assert!((5..=9).contains(&rng.between(5, 9)));
            assert!((3..=5000).contains(&rng.magnitude(3, 5000)));
            assert!(!rng.happens(0) && rng.happens(1000));
        }
    }
}

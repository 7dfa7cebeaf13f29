//! Owns the derivation of random streams from (seed, stream, index); never draws a number itself.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// The order of an epoch; the index is the epoch, counted from 1.
pub(crate) const EPOCH_ORDER: u64 = 1;
/// A generated training image; the index is its number, counted from 0.
pub(crate) const DIGITS_TRAIN: u64 = 2;
/// A generated test image; the index is its number, counted from 0.
pub(crate) const DIGITS_TEST: u64 = 3;

/// The generator for one use: ChaCha8 keyed with (seed, stream, index, 0) as little-endian u64.
pub(crate) fn open(seed: u64, stream: u64, index: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&stream.to_le_bytes());
    key[16..24].copy_from_slice(&index.to_le_bytes());
    ChaCha8Rng::from_seed(key)
}

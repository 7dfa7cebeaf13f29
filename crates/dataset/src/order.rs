//! Owns the order in which an epoch visits the training examples; never looks at the examples themselves.
//!
//! A pure function of seed, epoch and count, so that any process can recompute the batch of any step.

use rand_chacha::rand_core::Rng;

use crate::stream;

/// The permutation of `0..n` that `epoch` (counted from 1) visits.
///
/// Fisher-Yates from the last place down: place i swaps with j = the high 64 bits of `next_u64 * (i + 1)`.
///
/// # Panics
/// If `n` is more than `u32::MAX`.
pub fn epoch_order(seed: u64, epoch: u64, n: usize) -> Vec<u32> {
    let mut order = Vec::new();
    epoch_order_into(seed, epoch, n, &mut order);
    order
}

/// [`epoch_order`] into a vector that keeps its allocation from epoch to epoch.
///
/// # Panics
/// If `n` is more than `u32::MAX`.
pub fn epoch_order_into(seed: u64, epoch: u64, n: usize, order: &mut Vec<u32>) {
    let count = u32::try_from(n).unwrap_or_else(|_| panic!("{n} examples do not fit a u32 index"));
    order.clear();
    order.extend(0..count);
    let mut random = stream::open(seed, stream::EPOCH_ORDER, epoch);
    for i in (1..n).rev() {
        let j = (u128::from(random.next_u64()) * (i as u128 + 1)) >> 64;
        order.swap(i, j as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::{hex, sha256};

    #[test]
    fn the_permutation_is_the_promised_one() {
        // Both agree with an independent ChaCha8 and shuffle in another language.
        assert_eq!(epoch_order(42, 1, 10), [1, 7, 0, 2, 3, 9, 5, 6, 4, 8]);
        let bytes: Vec<u8> = epoch_order(42, 1, 51_000).iter().flat_map(|i| i.to_le_bytes()).collect();
        assert_eq!(hex(&sha256(&bytes)), "54ff78cd09cf6c238430d416095c55a2b98d5207908af4f27d0bc9440b7565ef");
    }

    #[test]
    fn small_counts_are_no_special_case() {
        assert_eq!(epoch_order(7, 1, 0), [0; 0]);
        assert_eq!(epoch_order(7, 1, 1), [0]);
    }

    #[test]
    fn seed_and_epoch_change_the_order() {
        assert_ne!(epoch_order(42, 1, 100), epoch_order(42, 2, 100));
        assert_ne!(epoch_order(42, 1, 100), epoch_order(43, 1, 100));
    }

    #[test]
    fn each_index_appears_once() {
        for n in (0..2000).step_by(7) {
            let (seed, epoch) = (n as u64 % 3, n as u64 + 1);
            let mut order = vec![9; 5];
            epoch_order_into(seed, epoch, n, &mut order);
            order.sort_unstable();
            assert!(order.iter().copied().eq(0..n as u32), "{n} indices");
        }
    }
}

//! Multiply-adds for their own sake: what a processor can do at most, to hold the kernels against.
//!
//! Reads no clock: the caller does.

use std::hint::black_box;

use crate::block::LANES;
use crate::cpu::{Cpu, InstructionSet, Kernel};
use crate::dense::product;

/// Terms of each sum: many against the start and the end of a sum, few enough for the first-level cache.
const TERMS: usize = 1024;

/// Computes `rounds` rounds of independent f32 multiply-adds on one thread and returns how many they were.
///
/// It is the innermost loop of the dense layers on data that never leave the first-level cache.
pub fn multiply_adds(cpu: Cpu, rounds: u64) -> u64 {
    cpu.run(MultiplyAdds { rounds })
}

struct MultiplyAdds {
    rounds: u64,
}

impl Kernel for MultiplyAdds {
    type Output = u64;

    #[inline(always)]
    fn run<S: InstructionSet>(self) -> u64 {
        if S::WIDE { self.tiles::<S, 4, 4>() } else { self.tiles::<S, 2, 2>() }
    }
}

impl MultiplyAdds {
    #[inline(always)]
    fn tiles<S: InstructionSet, const EXAMPLES: usize, const BLOCKS: usize>(self) -> u64 {
        // The compiler must not know the values, nor that all terms have the same weights.
        let x = black_box([[0.5; TERMS]; EXAMPLES]);
        let w = black_box([[0.25; LANES]; BLOCKS]);
        let bias = [[0.0; LANES]; BLOCKS];
        for _ in 0..self.rounds {
            let x = std::array::from_fn(|example| x[example].as_slice());
            black_box(&product::<S, EXAMPLES, BLOCKS>(&bias, x, &w, black_box(0)));
        }
        self.rounds * (EXAMPLES * BLOCKS * LANES * TERMS) as u64
    }
}

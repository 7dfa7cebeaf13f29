//! Random and hostile values, and comparison by bits.

#![allow(dead_code)] // Each test binary uses its part.

use lockstep_kernels::cpu::{InstructionSet, Kernel};
use lockstep_kernels::fma::Fma;
use ndarray::{Array, ArrayBase, Data, Dimension, ShapeBuilder};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A deterministic source of values; a failure repeats with its seed.
pub struct Values(ChaCha8Rng);

/// What kind of values an array holds.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Between -1 and 1.
    Ordinary,
    /// Small multiples of a quarter: exact sums, and many of them equal or exactly zero.
    Ties,
    /// Subnormals, both zeros, tiny and huge values among ordinary ones; no sum overflows.
    Hostile,
}

pub const KINDS: [Kind; 3] = [Kind::Ordinary, Kind::Ties, Kind::Hostile];

impl Values {
    pub fn new(seed: u64) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        Self(ChaCha8Rng::from_seed(key))
    }

    pub fn word(&mut self) -> u32 {
        self.0.next_u32()
    }

    pub fn ordinary(&mut self) -> f32 {
        (self.word() >> 8) as f32 * 2.0_f32.powi(-23) - 1.0
    }

    pub fn value(&mut self, kind: Kind) -> f32 {
        match kind {
            Kind::Ordinary => self.ordinary(),
            Kind::Ties => (self.word() % 7) as f32 * 0.25 - 0.75,
            Kind::Hostile => match self.word() % 12 {
                0 => f32::from_bits(self.word() & 0x807f_ffff),
                1 => 0.0,
                2 => -0.0,
                3 => f32::from_bits(self.word() & 0x8000_0003),
                4 => self.ordinary() * 2.0_f32.powi(-70),
                5 => self.ordinary() * 2.0_f32.powi(-140),
                6 => self.ordinary() * 2.0_f32.powi(20),
                7 => self.ordinary() * 2.0_f32.powi(50),
                _ => self.ordinary(),
            },
        }
    }

    pub fn array<D: Dimension, Sh: ShapeBuilder<Dim = D>>(&mut self, shape: Sh, kind: Kind) -> Array<f32, D> {
        Array::from_shape_simple_fn(shape, || self.value(kind))
    }
}

/// Fails unless both arrays have the same shape and the same bits.
#[track_caller]
pub fn assert_bits<D: Dimension, A: Data<Elem = f32>, B: Data<Elem = f32>>(
    got: &ArrayBase<A, D>,
    want: &ArrayBase<B, D>,
    what: &str,
) {
    assert_eq!(got.shape(), want.shape(), "{what}: shape");
    for ((index, got), want) in got.indexed_iter().zip(want) {
        assert_eq!(got.to_bits(), want.to_bits(), "{what}: {got:e} instead of {want:e} at {index:?}");
    }
}

/// `a * b + c` of every triple, compiled for an instruction set.
pub struct FmaOfTriples<'a>(pub &'a [[f32; 3]]);

impl Kernel for FmaOfTriples<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<S: InstructionSet>(self) -> Vec<f32> {
        self.0.iter().map(|&[a, b, c]| <S as Fma<f32>>::fma(a, b, c)).collect()
    }
}

//! Fused multiply-add: one rounding of `a * b + c`, by the hardware or by exact software that gives the same bits.
//!
//! Never falls back on a C library's or the `libm` crate's `fmaf`: those are wrong for some subnormal results.

/// A way to compute fused multiply-adds over the float `T`.
pub trait Fma<T>: Copy {
    /// `a * b + c`, rounded once, to nearest even.
    fn fma(a: T, b: T, c: T) -> T;
}

/// The machine's own instruction.
///
/// Fast only inside a function compiled with an FMA target feature, which is where [`Cpu`](crate::Cpu) runs it;
/// elsewhere it is a call into the C library.
#[derive(Clone, Copy, Debug)]
pub struct Hardware;

/// Software for machines without the instruction, equal to it bit for bit (NaN payloads aside).
///
/// Boldo and Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using rounding to odd".
#[derive(Clone, Copy, Debug)]
pub struct Soft;

impl Fma<f32> for Hardware {
    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        a.mul_add(b, c)
    }
}

impl Fma<f64> for Hardware {
    #[inline(always)]
    fn fma(a: f64, b: f64, c: f64) -> f64 {
        a.mul_add(b, c)
    }
}

impl Fma<f32> for Soft {
    #[inline(always)]
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        // The product of two f32 is exact in f64 (48 bits), and cannot overflow or underflow there.
        let product = f64::from(a) * f64::from(b);
        let addend = f64::from(c);
        let sum = product + addend;
        // Knuth's TwoSum: `sum + error` is exactly `product + addend`. NaN when an operand is not finite, and then
        // both comparisons below are false and `sum` (NaN or infinity) passes through.
        let addend_kept = sum - product;
        let error = (product - (sum - addend_kept)) + (addend - addend_kept);
        let inexact = (error > 0.0) | (error < 0.0);
        // Round to odd: of the two f64 around an inexact sum take the one with the odd last bit, so that the
        // rounding to f32 below still sees on which side of a tie the exact sum lies.
        let bits = sum.to_bits();
        let outwards = (error > 0.0) == (sum > 0.0);
        let even = bits & 1 == 0;
        let neighbour = if outwards { bits.wrapping_add(1) } else { bits.wrapping_sub(1) };
        f64::from_bits(if inexact & even { neighbour } else { bits }) as f32
    }
}

impl Fma<f64> for Soft {
    /// Rounded twice: f64 serves finite differences, where no bit is promised.
    #[inline(always)]
    fn fma(a: f64, b: f64, c: f64) -> f64 {
        a * b + c
    }
}

//! Pixels to input values.

use crate::cpu::{Cpu, InstructionSet, Kernel};

/// `pixels [n]` to the inputs `x [n]`: `pixel / 255`, a division.
///
/// # Panics
/// If the lengths differ.
pub fn forward(cpu: Cpu, pixels: &[u8], x: &mut [f32]) {
    assert_eq!(pixels.len(), x.len(), "pixels beside inputs");
    cpu.run(Pixels { pixels, x });
}

struct Pixels<'a> {
    pixels: &'a [u8],
    x: &'a mut [f32],
}

impl Kernel for Pixels<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: InstructionSet>(self) {
        for (x, &pixel) in self.x.iter_mut().zip(self.pixels) {
            *x = f32::from(pixel) / 255.0;
        }
    }
}

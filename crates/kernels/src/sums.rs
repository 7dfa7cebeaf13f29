//! The end of a shard's sums: each is closed with `+ 0.0`, so that none is -0.0.

use crate::cpu::{Cpu, InstructionSet, Kernel};

/// Writes every closed sum of `sums [n]` into `closed [n]`.
///
/// # Panics
/// If the lengths differ.
pub fn close(cpu: Cpu, sums: &[f32], closed: &mut [f32]) {
    assert_eq!(sums.len(), closed.len(), "closed sums beside open ones");
    cpu.run(Close { sums, closed });
}

struct Close<'a> {
    sums: &'a [f32],
    closed: &'a mut [f32],
}

impl Kernel for Close<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: InstructionSet>(self) {
        for (closed, &sum) in self.closed.iter_mut().zip(self.sums) {
            *closed = sum + 0.0;
        }
    }
}

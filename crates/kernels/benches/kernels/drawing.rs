//! Drawings to measure on, where the generated digits are out of reach.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

/// Rows and columns.
pub const SIDE: usize = 28;

/// A pen's walk over a black ground: about as much ink as a digit has, and it stays as far from the border.
pub fn drawing(random: &mut ChaCha8Rng) -> Vec<u8> {
    let mut pixels = vec![0; SIDE * SIDE];
    let (mut row, mut column) = (SIDE / 2, SIDE / 2);
    for _ in 0..60 {
        let step = random.next_u32();
        row = (row + (step % 3) as usize - 1).clamp(4, SIDE - 6);
        column = (column + (step / 3 % 3) as usize - 1).clamp(4, SIDE - 6);
        for (down, right) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            pixels[(row + down) * SIDE + column + right] = 128 + (step >> 25) as u8;
        }
    }
    pixels
}

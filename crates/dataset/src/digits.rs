//! wip
use crate::examples::*;
/// n
pub const DIGITS_TRAIN: usize = 60_000;
/// n
pub const DIGITS_TEST: usize = 10_000;
/// wip
pub fn digits_train(n: usize) -> Examples {
    Examples { images: vec![0; n * IMAGE_PIXELS], labels: vec![0; n] }
}
/// wip
pub fn digits_test(n: usize) -> Examples {
    digits_train(n)
}

//! coordinator binary.
fn main() {}

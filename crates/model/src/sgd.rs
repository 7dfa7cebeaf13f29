//! The SGD step: plain, without momentum.

/// Writes `weight - learning_rate * (gradient / examples)` into `updated`, three roundings each. All `[PARAMETERS]`.
///
/// `gradient` is a batch's sum over its `examples`. Returns whether every updated weight is finite.
///
/// # Panics
/// If the three lengths differ.
pub fn sgd_update(
    weights: &[f32],
    gradient: &[f32],
    learning_rate: f32,
    examples: u32,
    updated: &mut [f32],
) -> bool {
    assert_eq!(gradient.len(), weights.len(), "gradient's length beside the weights'");
    assert_eq!(updated.len(), weights.len(), "updated weights' length beside the weights'");
    let divisor = examples as f32;
    // Exponent bits all set mean infinity or NaN. An `or` over integers may be reordered; a float test may not.
    const EXPONENT: u32 = 0x7f80_0000;
    let mut not_finite = 0;
    for ((updated, &weight), &gradient) in updated.iter_mut().zip(weights).zip(gradient) {
        let value = weight - learning_rate * (gradient / divisor);
        not_finite |= u32::from(value.to_bits() & EXPONENT == EXPONENT);
        *updated = value;
    }
    not_finite == 0
}

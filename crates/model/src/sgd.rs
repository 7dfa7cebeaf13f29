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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_update_has_three_roundings_in_this_order() {
        // Many values: on some of them every other order or fusion rounds differently.
        let weights: Vec<f32> = (0..1_000).map(|i| 1.0 / (3 + i) as f32).collect();
        let gradient: Vec<f32> = (0..1_000).map(|i| (i - 500) as f32 / 7.0).collect();
        let (rate, examples) = (0.01_f32, 60_u32);
        let mut updated = vec![0.0; 1_000];
        assert!(sgd_update(&weights, &gradient, rate, examples, &mut updated));
        let mut others = [0; 3];
        for i in 0..1_000 {
            let (w, g) = (weights[i], gradient[i]);
            // Each operation exactly in f64 (or, for the quotient, far beyond f32), then rounded to f32.
            let quotient = (f64::from(g) / 60.0) as f32;
            let product = (f64::from(rate) * f64::from(quotient)) as f32;
            let difference = (f64::from(w) - f64::from(product)) as f32;
            assert_eq!(updated[i].to_bits(), difference.to_bits(), "element {i}");
            let fused = (f64::from(w) - f64::from(rate) * f64::from(quotient)) as f32;
            let reciprocal = w - rate * (g * (1.0 / 60.0));
            let rate_first = w - rate / 60.0 * g;
            for (count, other) in others.iter_mut().zip([fused, reciprocal, rate_first]) {
                *count += u32::from(other != difference);
            }
        }
        assert!(others.iter().all(|&count| count > 0), "{others:?} values tell other formulas apart");
    }

    #[test]
    fn it_says_whether_every_weight_is_finite() {
        for (place, value) in [(0, f32::INFINITY), (7, f32::NAN), (8, f32::NEG_INFINITY), (8, f32::MAX)] {
            let mut gradient = [1.0; 9];
            gradient[place] = value;
            let finite = sgd_update(&[1.0; 9], &gradient, 1.0, 1, &mut [0.0; 9]);
            assert_eq!(finite, value.is_finite(), "{value} at {place}");
        }
        assert!(!sgd_update(&[f32::MAX], &[f32::MIN], 1.0, 1, &mut [0.0]), "overflow of the update itself");
        assert!(!sgd_update(&[1.0], &[1.0], 1.0, 0, &mut [0.0]), "a batch of no examples");
    }
}

//! Numbers as the lines of a run show them, and numbers that are not finite, which JSON does not have.

use serde::{Deserialize, Deserializer};

/// A share of 0 to 1 with so many decimals: `96.1 %` with one.
pub fn percent(share: impl Into<f64>, decimals: usize) -> String {
    format!("{:.decimals$} %", share.into() * 100.0)
}

/// A number with a comma before every three digits.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A float that is null in JSON when it is not finite.
pub(crate) trait Float {
    const NOT_FINITE: Self;
}

impl Float for f32 {
    const NOT_FINITE: Self = Self::NAN;
}

impl Float for f64 {
    const NOT_FINITE: Self = Self::NAN;
}

/// Reads null as NaN: what was not finite is null in the files.
///
/// # Errors
///
/// If it is neither a number nor null.
pub(crate) fn or_nan<'de, D, F>(deserializer: D) -> Result<F, D::Error>
where
    D: Deserializer<'de>,
    F: Float + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(|number| number.unwrap_or(F::NOT_FINITE))
}

/// The value of a float that a file does not have.
pub(crate) fn nan<F: Float>() -> F {
    F::NOT_FINITE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_for_people() {
        assert_eq!((percent(0.961, 1), percent(0.5_f32, 2)), ("96.1 %".to_string(), "50.00 %".to_string()));
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}

//! The digest that proves equality of two sets of weights: SHA-256 over the canonical layout.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// A SHA-256 digest, shown as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

/// A text that is not 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("a SHA-256 digest has 64 hexadecimal digits, found {found:?}")]
pub struct ParseDigestError {
    found: String,
}

/// SHA-256 over `weights` as little-endian f32, in their order.
pub fn digest(weights: &[f32]) -> Digest {
    let mut hash = Sha256::new();
    let mut bytes = [0; 4 * 1024];
    for values in weights.chunks(1024) {
        let bytes = &mut bytes[..4 * values.len()];
        crate::copy_to_le_bytes(values, bytes);
        hash.update(bytes);
    }
    Digest(hash.finalize().into())
}

/// The same for weights that are little-endian f32 already, as they travel.
pub fn digest_of_bytes(weights: &[u8]) -> Digest {
    Digest(Sha256::digest(weights).into())
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    /// Reads what `Display` writes; upper-case digits are accepted too.
    ///
    /// # Errors
    /// If `text` is not 64 hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || ParseDigestError { found: text.chars().take(80).collect() };
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(invalid());
        }
        let mut bytes = [0; 32];
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = str::from_utf8(digits).map_err(|_| invalid())?;
            *byte = u8::from_str_radix(digits, 16).map_err(|_| invalid())?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_sha_256_of_the_little_endian_bytes() {
        // printf '\0\0\200\77\0\0\0\300' | sha256sum
        let want = "ee4ac73c2bd27756ab82780f27c73a7bc4d3f0bb6acb37e008bc27eccd7e588b";
        assert_eq!(digest(&[1.0, -2.0]).to_string(), want);
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(digest(&[]).to_string(), empty);
        // Longer than the buffer that it goes through.
        let values: Vec<f32> = (0..2_500).map(|value| value as f32).collect();
        let mut bytes = vec![0; 4 * values.len()];
        crate::copy_to_le_bytes(&values, &mut bytes);
        assert_eq!(digest(&values).0, <[u8; 32]>::from(Sha256::digest(&bytes)));
    }

    #[test]
    fn zeros_of_both_signs_differ() {
        assert_ne!(digest(&[0.0]), digest(&[-0.0]));
    }

    #[test]
    fn its_text_is_read_back() {
        let one = digest(&[1.0]);
        assert_eq!(one.to_string().parse(), Ok(one));
        assert_eq!(one.to_string().to_uppercase().parse(), Ok(one));
        for wrong in
            ["", "00", &"0".repeat(63), &"0".repeat(65), &"g".repeat(64), &"é".repeat(32), &"+0".repeat(32)]
        {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
    }
}

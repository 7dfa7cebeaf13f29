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

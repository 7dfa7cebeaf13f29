//! The join token: what lets a worker into a run. It never shows itself in logs.

use std::fmt;

use crate::RunId;

/// What lets a worker into a run. Its `Debug` shows nothing of it.
#[derive(Clone)]
pub struct Token(String);

/// Why a text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is empty or too long.
    #[error("a join token has 1 to 128 characters, this one has {0}")]
    Length(usize),
    /// It has blanks or control characters.
    #[error("a join token has neither blanks nor control characters")]
    Character,
}

impl Token {
    /// Takes a token as people write it.
    ///
    /// # Errors
    ///
    /// If it is empty, longer than 128 bytes, or not printable.
    pub fn new(text: &str) -> Result<Self, TokenError> {
        if text.is_empty() || text.len() > 128 {
            return Err(TokenError::Length(text.len()));
        }
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(TokenError::Character);
        }
        Ok(Self(text.to_string()))
    }

    /// A token of 128 random bits, given by the caller.
    pub fn from_random(bits: [u8; 16]) -> Self {
        Self(RunId(bits).to_string())
    }

    /// The text, to hand it to a worker.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Compares without revealing by its time where two tokens differ.
    pub fn matches(&self, other: &Self) -> bool {
        let (a, b) = (self.0.as_bytes(), other.0.as_bytes());
        a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_hides_itself_and_compares() {
        let token = Token::new("secret").unwrap();
        assert_eq!(format!("{token:?}"), "Token(…)");
        assert!(token.matches(&Token::new("secret").unwrap()));
        assert!(!token.matches(&Token::new("secreT").unwrap()));
        assert!(!token.matches(&Token::new("secret2").unwrap()));
        assert_eq!(Token::new("").unwrap_err(), TokenError::Length(0));
        assert_eq!(Token::new("a b").unwrap_err(), TokenError::Character);
    }
}

//! The identity of a cluster: 128 random bits, drawn once by `convoke init`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{PkiError, hex, random};

/// 128 random bits, written as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterId([u8; 16]);

/// A text that is not 32 lower-case hexadecimal digits.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not a cluster id of 32 lower-case hexadecimal digits")]
pub struct ClusterIdError {
    text: String,
}

impl ClusterId {
    /// Draws a new one.
    pub fn generate() -> Result<Self, PkiError> {
        random().map(Self)
    }

    /// The id with these bits.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bits.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ClusterId {
    type Err = ClusterIdError;

    /// Reads exactly one spelling, so that two ids are equal if and only if their texts are.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ClusterIdError { text: text.chars().take(64).collect() };
        let digits = text.as_bytes();
        if digits.len() != 32 {
            return Err(wrong());
        }
        let value = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(wrong()),
        };
        let mut id = [0; 16];
        for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = value(pair[0])? << 4 | value(pair[1])?;
        }
        Ok(Self(id))
    }
}

impl TryFrom<String> for ClusterId {
    type Error = ClusterIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ClusterId> for String {
    fn from(id: ClusterId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_id_has_one_spelling() {
        let id = ClusterId::generate().expect("random bytes");
        assert_eq!(id.to_string().parse::<ClusterId>().expect("own text"), id);
        for text in ["", "00", &id.to_string().to_uppercase().replace(char::is_numeric, "A"), &"é".repeat(16)]
        {
            assert!(text.parse::<ClusterId>().is_err(), "{text}");
        }
    }
}

//! The token: one line that a person carries from the cluster to a machine.
//!
//! `convoke1:` and base64url of MessagePack with a checksum. It holds a secret; the cluster keeps only its SHA-256, so
//! that neither its log nor a backup lets anybody join.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::pki::{ClusterId, PkiError, hex, random, sha256};

const WORD: &str = "convoke";
const VERSION: &str = "1";

/// Bytes of SHA-256 at the end: enough to tell a cut or mistyped line.
const CHECKSUM: usize = 4;

/// What the machine learns from the line.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// The cluster to join.
    pub cluster: ClusterId,
    /// What people call it.
    pub cluster_name: String,
    /// SHA-256 of the certificate of its signing key.
    #[serde(with = "serde_bytes")]
    pub authority: [u8; 32],
    /// Where voters can be reached.
    pub addresses: Vec<SocketAddr>,
    /// Names the token in the cluster's state.
    #[serde(with = "serde_bytes")]
    pub id: [u8; 16],
    /// The proof of being asked for.
    #[serde(with = "serde_bytes")]
    pub secret: [u8; 32],
    /// When it ends, in seconds of Unix time.
    pub expires_unix: i64,
}

/// What the cluster keeps of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Names the token.
    #[serde(with = "serde_bytes")]
    pub id: [u8; 16],
    /// SHA-256 of the secret.
    #[serde(with = "serde_bytes")]
    pub secret_sha256: [u8; 32],
    /// When it ends, in seconds of Unix time.
    pub expires_unix: i64,
}

/// Why a line is no token to join with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It begins otherwise.
    #[error(
        "this is not a token; `convoke token` on a node of the cluster prints one, a line that begins with `convoke1:`"
    )]
    NotAToken,
    /// A later kind.
    #[error(
        "this token has version {version}, and this convoke reads version 1; install the version that the cluster runs"
    )]
    WrongVersion {
        /// What it says.
        version: String,
    },
    /// A part is missing, or a character is wrong.
    #[error("this token is incomplete or was changed on the way; copy the whole line again")]
    Damaged,
    /// It was good once.
    #[error(
        "this token expired {ago} ago; `convoke token` on a node of cluster `{cluster_name}` prints a new one"
    )]
    Expired {
        /// How long ago, for people.
        ago: String,
        /// Where to ask for another.
        cluster_name: String,
    },
}

impl Token {
    /// Draws a token, with the record that the cluster keeps of it.
    pub fn generate(
        cluster: ClusterId,
        cluster_name: impl Into<String>,
        authority: [u8; 32],
        addresses: Vec<SocketAddr>,
        expires_unix: i64,
    ) -> Result<(Self, TokenRecord), PkiError> {
        let (id, secret) = (random()?, random()?);
        let cluster_name = cluster_name.into();
        let token = Self { cluster, cluster_name, authority, addresses, id, secret, expires_unix };
        let record = TokenRecord { id, secret_sha256: sha256(&secret), expires_unix };
        Ok((token, record))
    }

    /// Refuses an expired token, by this machine's clock. The cluster judges by its own once more.
    pub fn check_expiry(&self, now_unix: i64) -> Result<(), TokenError> {
        let late = now_unix.saturating_sub(self.expires_unix);
        if late < 0 {
            return Ok(());
        }
        Err(TokenError::Expired { ago: rough(late), cluster_name: self.cluster_name.clone() })
    }
}

impl TokenRecord {
    /// Whether a joiner's secret, as its SHA-256, is this token's.
    pub fn matches(&self, id: &[u8; 16], secret_sha256: &[u8; 32]) -> bool {
        // Hashes: how long the comparison takes tells nothing of the secret.
        self.id == *id && self.secret_sha256 == *secret_sha256
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = rmp_serde::to_vec_named(self).map_err(|_| fmt::Error)?;
        let sum = sha256(&bytes);
        bytes.extend_from_slice(&sum[..CHECKSUM]);
        write!(f, "{WORD}{VERSION}:{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl fmt::Debug for Token {
    /// Without the secret: debug texts end in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token")
            .field("id", &hex(&self.id))
            .field("cluster", &self.cluster)
            .field("addresses", &self.addresses)
            .field("expires_unix", &self.expires_unix)
            .finish_non_exhaustive()
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (head, body) = text.trim().split_once(':').ok_or(TokenError::NotAToken)?;
        let version = head.strip_prefix(WORD).ok_or(TokenError::NotAToken)?;
        if version.is_empty() || !version.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(TokenError::NotAToken);
        }
        if version != VERSION {
            return Err(TokenError::WrongVersion { version: version.to_owned() });
        }
        let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| TokenError::Damaged)?;
        let (payload, sum) = bytes.split_last_chunk::<CHECKSUM>().ok_or(TokenError::Damaged)?;
        if sha256(payload)[..CHECKSUM] != *sum {
            return Err(TokenError::Damaged);
        }
        rmp_serde::from_slice(payload).map_err(|_| TokenError::Damaged)
    }
}

fn rough(seconds: i64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token() -> (Token, TokenRecord) {
        let address = "10.0.0.1:7433".parse().expect("address");
        Token::generate(ClusterId::from_bytes([3; 16]), "harbour", [7; 32], vec![address], 1_000)
            .expect("token")
    }

    #[test]
    fn a_line_reads_back() {
        let (token, record) = token();
        let line = format!("  {token}\n");
        assert_eq!(line.parse::<Token>().expect("token"), token);
        assert!(record.matches(&token.id, &sha256(&token.secret)));
        assert!(!record.matches(&token.id, &sha256(b"another")));
        assert!(line.trim().bytes().all(|byte| byte.is_ascii_graphic()), "{line}");
    }

    #[test]
    fn every_cut_is_noticed() {
        let line = token().0.to_string();
        for length in "convoke1:".len()..line.len() {
            assert_eq!(line[..length].parse::<Token>(), Err(TokenError::Damaged), "{length}");
        }
        for length in 0.."convoke1:".len() {
            assert_eq!(line[..length].parse::<Token>(), Err(TokenError::NotAToken), "{length}");
        }
    }

    #[test]
    fn a_changed_character_is_noticed() {
        let line = token().0.to_string();
        for at in "convoke1:".len()..line.len() {
            let mut bytes = line.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).expect("ASCII");
            assert_eq!(changed.parse::<Token>(), Err(TokenError::Damaged), "{changed}");
        }
    }

    #[test]
    fn each_kind_of_wrong_line_has_its_own_error() {
        let line = token().0.to_string();
        assert_eq!("swordfish".parse::<Token>(), Err(TokenError::NotAToken));
        assert_eq!("convoke:x".parse::<Token>(), Err(TokenError::NotAToken));
        let later = line.replace("convoke1", "convoke2").parse::<Token>();
        assert_eq!(later, Err(TokenError::WrongVersion { version: "2".to_owned() }));
        let (token, _) = token();
        assert_eq!(token.check_expiry(999), Ok(()));
        let text = token.check_expiry(1_000 + 3 * 3_600).expect_err("expired").to_string();
        assert!(text.starts_with("this token expired 3 h ago"), "{text}");
    }

    #[test]
    fn debug_output_keeps_the_secret() {
        let (token, _) = token();
        assert!(!format!("{token:?}").contains(&hex(&token.secret)));
        assert!(!format!("{token:?}").contains("secret"));
    }
}

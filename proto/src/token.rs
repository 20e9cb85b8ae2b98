//! The join token's text: what `wavegate token create` prints and an agent enrols with. Making and judging them is the
//! coordinator's.

use std::fmt;

const PREFIX: &str = "wg1";

/// A join token: `wg1.ID.SECRET.FINGERPRINT`, all hexadecimal.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Names the token; not secret. 8 bytes, 16 digits.
    pub id: String,
    /// Proves that its bearer was given the token. 32 bytes, 64 digits.
    pub secret: String,
    /// SHA-256 of the fleet's CA certificate: the one authority that the agent trusts while it enrols.
    pub ca_sha256: [u8; 32],
}

/// Why a text is not a join token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not a join token; copy all of what `wavegate token create` printed, which begins with '{PREFIX}.'"
)]
pub struct BadToken;

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}.{}.{}.{}", self.id, self.secret, hex(&self.ca_sha256))
    }
}

/// The secret stays out of logs.
impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken").field("id", &self.id).finish_non_exhaustive()
    }
}

impl std::str::FromStr for JoinToken {
    type Err = BadToken;
    fn from_str(text: &str) -> Result<Self, BadToken> {
        let parts: Vec<&str> = text.trim().split('.').collect();
        let [PREFIX, id, secret, fingerprint] = parts.as_slice() else { return Err(BadToken) };
        if unhex::<8>(id).is_none() || unhex::<32>(secret).is_none() {
            return Err(BadToken);
        }
        let ca_sha256 = unhex::<32>(fingerprint).ok_or(BadToken)?;
        Ok(Self { id: (*id).to_owned(), secret: (*secret).to_owned(), ca_sha256 })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N || !text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut bytes = [0; N];
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * index..2 * index + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_being_copied() {
        let token =
            JoinToken { id: "0123456789abcdef".into(), secret: "5a".repeat(32), ca_sha256: [0xc4; 32] };
        assert_eq!(format!(" {token}\n").parse(), Ok(token.clone()));
        assert!(!format!("{token:?}").contains("5a5a"), "the secret stays out of logs");
    }

    #[test]
    fn other_texts_are_not_tokens() {
        let token =
            JoinToken { id: "0123456789abcdef".into(), secret: "5a".repeat(32), ca_sha256: [0xc4; 32] };
        let text = token.to_string();
        let not_hex = text.replace("5a", "5g");
        let not_ascii = text.replacen("5a", "é", 1);
        for bad in [
            "",
            "wg1",
            "wg1...",
            &text[..text.len() - 1],
            &text[4..],
            &not_hex,
            &not_ascii,
            &format!("{text}."),
        ] {
            assert_eq!(bad.parse::<JoinToken>(), Err(BadToken), "{bad}");
        }
    }
}

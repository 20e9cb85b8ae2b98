//! SHA-256 as it is written in manifests and names: in lower-case hexadecimal. Files are read elsewhere.

use sha2::{Digest, Sha256};

/// The SHA-256 of a content.
pub(crate) fn of(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

/// Bytes in lower-case hexadecimal, those of a digest or the first of them.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

//! Hashes and bytes as hexadecimal text. Pure.

use sha2::{Digest, Sha256};

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The SHA-256 of `data`, in hexadecimal.
pub fn sha256(data: impl AsRef<[u8]>) -> String {
    hex(Sha256::digest(data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_digests_come_out() {
        assert_eq!(hex([0, 0x1f, 0xff]), "001fff");
        assert_eq!(&sha256("")[..16], "e3b0c44298fc1c14"); // the digest of nothing, FIPS 180-4
    }
}

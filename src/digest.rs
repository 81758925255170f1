//! Hashes and bytes as hexadecimal text. Pure.

use sha2::{Digest, Sha256};

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Bytes from their hexadecimal digits; none if there is something else in the text.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let (digits, rest) = text.as_bytes().as_chunks();
    let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    rest.is_empty().then(|| digits.iter().map(byte).collect())?
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
        assert_eq!(unhex("001fFF"), Some(vec![0, 0x1f, 0xff]));
        assert_eq!((unhex("001"), unhex("0x"), unhex("")), (None, None, Some(vec![])));
        assert_eq!(&sha256("")[..16], "e3b0c44298fc1c14"); // the digest of nothing, FIPS 180-4
    }
}

//! API keys: how one is made, written, and recognised. What is kept of it is its SHA-256 alone.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// What every key begins with, for people and for scanners that look for leaked secrets.
pub const PREFIX: &str = "escqrs_";
/// Random bytes of a key.
const SECRET_BYTES: usize = 32;
/// Their length as text.
const TEXT_LENGTH: usize = 43;

/// A new key. It is shown once; `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    /// 256 bits of the system's randomness.
    #[must_use]
    pub fn generate() -> Self {
        let secret: [u8; SECRET_BYTES] = rand::random();
        Self(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(secret)))
    }

    /// The key itself, for the one time it is shown.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    #[must_use]
    pub fn digest(&self) -> KeyDigest {
        KeyDigest::of(&self.0)
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(***)")
    }
}

/// SHA-256 of a key. A key has 256 random bits, so nothing slower is needed: there is nothing to guess. Equality is
/// decided in constant time.
#[derive(Clone, Copy, Eq)]
pub struct KeyDigest(pub [u8; 32]);

impl KeyDigest {
    /// Of a text that a caller sent.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text.as_bytes()).into())
    }

    /// Of a text that could be a key by its looks.
    #[must_use]
    pub fn of_plausible(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(PREFIX)?;
        (rest.len() == TEXT_LENGTH).then(|| Self::of(text))
    }

    /// From 64 hexadecimal digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut digest = [0; 32];
        hex::decode_to_slice(text, &mut digest).ok()?;
        Some(Self(digest))
    }

    /// As 64 hexadecimal digits.
    #[must_use]
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }

    /// Where to look for it: what a timing could tell of this is nothing about the key.
    pub(super) fn bucket(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

impl PartialEq for KeyDigest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyDigest(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_random_recognisable_and_never_shown_by_accident() {
        let (one, other) = (ApiKey::generate(), ApiKey::generate());
        assert_ne!(one, other);
        assert!(one.expose().starts_with(PREFIX) && one.expose().len() == PREFIX.len() + TEXT_LENGTH);
        assert_eq!(KeyDigest::of_plausible(one.expose()), Some(one.digest()));
        assert_ne!(one.digest(), other.digest());
        assert!(!format!("{one:?} {:?}", one.digest()).contains(&one.expose()[PREFIX.len()..]));
        assert_eq!(KeyDigest::from_hex(&one.digest().to_hex()), Some(one.digest()));
        for wrong in ["", PREFIX, "escqrs_short", &one.expose()[1..], &format!("{}x", one.expose())] {
            assert_eq!(KeyDigest::of_plausible(wrong), None, "{wrong}");
        }
    }
}

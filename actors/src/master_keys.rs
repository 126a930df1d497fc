//! Master keys: they wrap the keys of subjects, and lie outside the database.
//!
//! The first is current and wraps what is new; the others open what was wrapped before a rotation. This module reads and
//! writes their text; where it lies is not known here.

use std::fmt;

use rand::Rng;
use sha2::{Digest, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    id::AggregateId,
    personal::{SubjectKey, decrypt, encrypt},
};

const WRAP_TAG: &[u8] = b"event-sourcing-cqrs/subject-key/v1";
const NONCE_BYTES: usize = 24;

/// The text is no list of master keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MasterKeysError {
    /// A line is something else.
    #[error("line {line} is not a key of 64 hexadecimal digits")]
    Line {
        /// Counted from 1.
        line: usize,
    },
    /// There is none.
    #[error("it holds no key")]
    Empty,
}

/// One or more keys; the first is current.
pub struct MasterKeys(Vec<(String, Zeroizing<[u8; 32]>)>);

impl fmt::Debug for MasterKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

impl MasterKeys {
    /// A single new one, from the system's randomness.
    #[must_use]
    pub fn random() -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        rand::rng().fill_bytes(&mut *secret);
        Self(vec![(id(&secret), secret)])
    }

    /// Reads one key per line, the current one first; empty lines and those that begin with `#` are passed over.
    ///
    /// # Errors
    /// [`MasterKeysError`]; it never repeats the line.
    pub fn parse(text: &str) -> Result<Self, MasterKeysError> {
        let mut keys = Vec::new();
        for (line, text) in (1..).zip(text.lines().map(str::trim)) {
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let mut secret = Zeroizing::new([0; 32]);
            hex::decode_to_slice(text, &mut *secret).map_err(|_| MasterKeysError::Line { line })?;
            keys.push((id(&secret), secret));
        }
        if keys.is_empty() { Err(MasterKeysError::Empty) } else { Ok(Self(keys)) }
    }

    /// As [`parse`](Self::parse) reads it.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(self.0.len() * 65));
        for (_, secret) in &self.0 {
            *text += &Zeroizing::new(hex::encode(**secret));
            *text += "\n";
        }
        text
    }

    /// The name of the current one: part of its digest, no secret.
    #[must_use]
    pub fn current(&self) -> &str {
        self.0.first().map_or("", |(id, _)| id)
    }

    /// The names of all.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(id, _)| id.as_str())
    }

    /// A subject's key under the current one: nonce and ciphertext, bound to subject and key id. `None`: the cipher
    /// refused.
    #[must_use]
    pub fn wrap(&self, subject: &AggregateId, key: &SubjectKey) -> Option<Vec<u8>> {
        let (_, secret) = self.0.first()?;
        let (nonce, sealed) = encrypt(secret, key.secret(), &bound_to(subject, key.id()))?;
        Some([&nonce[..], &sealed].concat())
    }

    /// Opens what `master` wrapped; `None`: it is not here, or the bytes are not what it wrapped.
    #[must_use]
    pub fn unwrap(&self, master: &str, subject: &AggregateId, id: Uuid, wrapped: &[u8]) -> Option<SubjectKey> {
        let (_, secret) = self.0.iter().find(|(id, _)| id == master)?;
        let (nonce, sealed) = wrapped.split_at_checked(NONCE_BYTES)?;
        let plain = decrypt(secret, nonce, sealed, &bound_to(subject, id))?;
        let mut secret = Zeroizing::new([0; 32]);
        (plain.len() == secret.len()).then(|| secret.copy_from_slice(&plain))?;
        Some(SubjectKey::from_parts(id, secret))
    }
}

fn id(secret: &[u8; 32]) -> String {
    hex::encode(&Sha256::new_with_prefix(b"event-sourcing-cqrs/master-key/v1").chain_update(secret).finalize()[..8])
}

fn bound_to(subject: &AggregateId, id: Uuid) -> Vec<u8> {
    [WRAP_TAG, id.as_bytes(), subject.as_str().as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrapped_key_opens_for_its_subject_and_also_after_a_rotation() {
        let (ann, bo) = (AggregateId::new("ann").unwrap(), AggregateId::new("bo").unwrap());
        let (old, key) = (MasterKeys::random(), SubjectKey::random());
        let wrapped = old.wrap(&ann, &key).unwrap();
        let both = format!("# new\n{}\n{}", *MasterKeys::random().to_text(), *old.to_text());
        let both = MasterKeys::parse(&both).unwrap();
        assert_ne!(both.current(), old.current());
        for keys in [&old, &both] {
            let opened = keys.unwrap(old.current(), &ann, key.id(), &wrapped).unwrap();
            assert_eq!(opened.secret(), key.secret());
        }
        assert!(old.unwrap(old.current(), &bo, key.id(), &wrapped).is_none());
        assert!(old.unwrap(old.current(), &ann, Uuid::nil(), &wrapped).is_none());
        assert!(MasterKeys::random().unwrap(old.current(), &ann, key.id(), &wrapped).is_none());
        assert!(old.unwrap(old.current(), &ann, key.id(), &wrapped[..20]).is_none());
    }

    #[test]
    fn wrong_text_is_told_by_its_line_and_never_repeated() {
        assert_eq!(MasterKeys::parse("# none\n").unwrap_err(), MasterKeysError::Empty);
        let error = MasterKeys::parse("\nhunter2").unwrap_err();
        assert_eq!(error, MasterKeysError::Line { line: 2 });
        assert!(!error.to_string().contains("hunter2"));
        let keys = MasterKeys::random();
        assert!(!format!("{keys:?}").contains(&keys.to_text()[..16]));
    }
}

//! Checkpoints as text: C2SP `tlog-checkpoint` in a C2SP `signed-note`, and the keys that sign them. Pure.
//!
//! <https://c2sp.org/signed-note>, <https://c2sp.org/tlog-checkpoint>

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::tree::TreeHead;

/// The byte that stands for Ed25519.
const ED25519: u8 = 1;
const SECRET: &str = "PRIVATE+KEY+";
/// Longest note that is looked at: many times what this program writes.
pub const NOTE_BYTES_MAX: usize = 64 << 10;

/// Why a text is no note, key or checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It has not the form.
    #[error("this is no {what}")]
    Malformed {
        /// What was expected.
        what: &'static str,
    },
    /// None of the known keys has signed it.
    #[error("none of the known keys has signed it")]
    UnknownKey,
    /// A known key is named, but the signature is not its.
    #[error("the signature in the name of {name} is not of its key: the text was altered")]
    WrongSignature {
        /// The key's name.
        name: String,
    },
}

fn malformed(what: &'static str) -> NoteError {
    NoteError::Malformed { what }
}

/// The first four bytes of a digest of name and public key.
fn key_id(name: &str, public: &[u8; 32]) -> [u8; 4] {
    let digest = Sha256::new().chain_update(name).chain_update([b'\n', ED25519]).chain_update(public).finalize();
    [digest[0], digest[1], digest[2], digest[3]]
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '+')
}

/// `name+id+key`: the three parts, the key's bytes without the one that stands for Ed25519.
fn keyed(text: &str, what: &'static str) -> Result<(String, [u8; 4], [u8; 32]), NoteError> {
    let mut parts = text.splitn(3, '+');
    let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(malformed(what));
    };
    let id = hex::decode(id).ok().and_then(|id| id.try_into().ok()).ok_or(malformed(what))?;
    let key = STANDARD.decode(key).map_err(|_| malformed(what))?;
    match key.split_first() {
        Some((&ED25519, key)) if is_name(name) => {
            Ok((name.to_owned(), id, key.try_into().map_err(|_| malformed(what))?))
        }
        _ => Err(malformed(what)),
    }
}

fn spelled(name: &str, id: [u8; 4], key: &[u8; 32]) -> String {
    format!("{name}+{}+{}", hex::encode(id), STANDARD.encode([&[ED25519], &key[..]].concat()))
}

/// A public key: `name+id+key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: [u8; 4],
    key: VerifyingKey,
}

impl VerifierKey {
    /// From its text.
    ///
    /// # Errors
    /// [`NoteError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        const WHAT: &str = "public key of a signed note";
        let (name, id, public) = keyed(text.trim(), WHAT)?;
        let key = VerifyingKey::from_bytes(&public).map_err(|_| malformed(WHAT))?;
        if key_id(&name, &public) != id {
            return Err(malformed(WHAT));
        }
        Ok(Self { name, id, key })
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&spelled(&self.name, self.id, self.key.as_bytes()))
    }
}

/// A secret key with the name it signs under.
#[derive(Clone)]
pub struct Signer {
    name: String,
    key: SigningKey,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Signer {
    /// A new key of the system's randomness.
    #[must_use]
    pub fn generate(name: &str) -> Self {
        Self { name: name.to_owned(), key: SigningKey::from_bytes(&rand::random()) }
    }

    /// From its text, `PRIVATE+KEY+name+id+key`.
    ///
    /// # Errors
    /// [`NoteError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        const WHAT: &str = "secret key of a signed note";
        let text = text.trim().strip_prefix(SECRET).ok_or(malformed(WHAT))?;
        let (name, id, seed) = keyed(text, WHAT)?;
        let signer = Self { name, key: SigningKey::from_bytes(&seed) };
        (signer.verifier().id == id).then_some(signer).ok_or(malformed(WHAT))
    }

    /// Its text. Whoever reads it can sign.
    #[must_use]
    pub fn secret(&self) -> String {
        format!("{SECRET}{}", spelled(&self.name, self.verifier().id, &self.key.to_bytes()))
    }

    /// Its public half.
    #[must_use]
    pub fn verifier(&self) -> VerifierKey {
        let key = self.key.verifying_key();
        VerifierKey { id: key_id(&self.name, key.as_bytes()), name: self.name.clone(), key }
    }

    /// The same key under another name.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        Self { name: name.to_owned(), key: self.key.clone() }
    }

    /// A text, which ends with a line's end, as a signed note.
    #[must_use]
    pub fn sign(&self, text: &str) -> String {
        let signature = self.key.sign(text.as_bytes());
        let signature = [&self.verifier().id, &signature.to_bytes()[..]].concat();
        format!("{text}\n— {} {}\n", self.name, STANDARD.encode(signature))
    }
}

/// A note, read but not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<(String, Vec<u8>)>,
}

impl Note {
    /// From its text.
    ///
    /// # Errors
    /// [`NoteError::Malformed`].
    pub fn parse(note: &str) -> Result<Self, NoteError> {
        const WHAT: &str = "signed note";
        let is_odd = note.len() > NOTE_BYTES_MAX || note.contains(|c: char| c < ' ' && c != '\n');
        let (text, signatures) = note.rsplit_once("\n\n").filter(|_| !is_odd).ok_or(malformed(WHAT))?;
        let lines = signatures.strip_suffix('\n').ok_or(malformed(WHAT))?.split('\n');
        let signatures = lines.map(|line| {
            let (name, signature) = line.strip_prefix("— ")?.split_once(' ')?;
            let signature = STANDARD.decode(signature).ok()?;
            (is_name(name) && signature.len() > 4).then(|| (name.to_owned(), signature))
        });
        let signatures = signatures.collect::<Option<Vec<_>>>().ok_or(malformed(WHAT))?;
        Ok(Self { text: format!("{text}\n"), signatures })
    }

    /// What was signed.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Checks the signatures: one of a known key must be there, and none of a known key may be wrong.
    ///
    /// # Errors
    /// [`NoteError::UnknownKey`], [`NoteError::WrongSignature`].
    pub fn verify(&self, keys: &[VerifierKey]) -> Result<(), NoteError> {
        let mut is_signed = false;
        for (name, signature) in &self.signatures {
            let (id, signature) = signature.split_at(4);
            for key in keys.iter().filter(|key| key.name == *name && key.id == id) {
                let right = Signature::from_slice(signature)
                    .is_ok_and(|signature| key.key.verify_strict(self.text.as_bytes(), &signature).is_ok());
                if !right {
                    return Err(NoteError::WrongSignature { name: name.clone() });
                }
                is_signed = true;
            }
        }
        is_signed.then_some(()).ok_or(NoteError::UnknownKey)
    }
}

/// Which log: the store, and how often an operator has accepted that it went back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The store's own id.
    pub store_id: Uuid,
    /// Acceptances so far.
    pub acceptances: u64,
}

const LEAD: &str = "event-sourcing-cqrs/";

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.acceptances {
            0 => write!(f, "{LEAD}{}", self.store_id),
            acceptances => write!(f, "{LEAD}{}/{acceptances}", self.store_id),
        }
    }
}

impl Origin {
    fn parse(line: &str) -> Option<Self> {
        let rest = line.strip_prefix(LEAD)?;
        let (id, acceptances) = match rest.split_once('/') {
            Some((id, number)) => (id, number.parse().ok().filter(|number| *number > 0)?),
            None => (rest, 0),
        };
        let origin = Self { store_id: id.parse().ok()?, acceptances };
        (origin.to_string() == line).then_some(origin)
    }
}

/// What a checkpoint says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: Origin,
    /// Which tree.
    pub head: TreeHead,
}

impl Checkpoint {
    /// From the text of a note.
    ///
    /// # Errors
    /// [`NoteError::Malformed`].
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        const WHAT: &str = "checkpoint of this kind of log";
        let mut lines = text.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(malformed(WHAT));
        };
        let origin = Origin::parse(origin).ok_or(malformed(WHAT))?;
        let number: u64 = size.parse().map_err(|_| malformed(WHAT))?;
        let root = STANDARD.decode(root).ok().and_then(|root| root.try_into().ok()).ok_or(malformed(WHAT))?;
        if number.to_string() != size {
            return Err(malformed(WHAT));
        }
        Ok(Self { origin, head: TreeHead { size: number, root } })
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", self.origin, self.head.size, STANDARD.encode(self.head.root))
    }
}

/// A checkpoint with the note that says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCheckpoint {
    /// What it says.
    pub checkpoint: Checkpoint,
    /// The note, byte for byte.
    pub note: String,
    /// Whether a known key has signed it.
    pub is_signed: bool,
}

impl SignedCheckpoint {
    /// Reads a note.
    ///
    /// # Errors
    /// [`NoteError`]; a note that only unknown keys have signed is none.
    pub fn read(note: &str, keys: &[VerifierKey]) -> Result<Self, NoteError> {
        let parsed = Note::parse(note)?;
        let is_signed = match parsed.verify(keys) {
            Ok(()) => true,
            Err(NoteError::UnknownKey) => false,
            Err(error) => return Err(error),
        };
        Ok(Self { checkpoint: Checkpoint::parse(parsed.text())?, note: note.to_owned(), is_signed })
    }

    /// Signs what is to be said.
    #[must_use]
    pub fn sign(checkpoint: Checkpoint, signer: &Signer) -> Self {
        Self { checkpoint, note: signer.sign(&checkpoint.to_string()), is_signed: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = "If you think cryptography is the answer to your problem,\n\
        then you don't know what your problem is.\n\n\
        — PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
    const EXAMPLE_KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const EXAMPLE_SECRET: &str = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";

    #[test]
    fn published_examples_verify_and_sign_alike() {
        // The example of C2SP's signed-note.
        let note = "This is an example message.\n\n— example.com/foo \
            Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
        let key = VerifierKey::parse("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k").unwrap();
        assert_eq!(Note::parse(note).unwrap().verify(&[key]), Ok(()));
        // The example of the format's first program, whose secret key is published too.
        let key = VerifierKey::parse(EXAMPLE_KEY).unwrap();
        let parsed = Note::parse(EXAMPLE).unwrap();
        assert_eq!(parsed.verify(std::slice::from_ref(&key)), Ok(()));
        let signer = Signer::parse(EXAMPLE_SECRET).unwrap();
        assert_eq!((signer.verifier(), signer.secret().as_str()), (key.clone(), EXAMPLE_SECRET));
        assert_eq!(signer.sign(parsed.text()), EXAMPLE);
        assert_eq!(key.to_string(), EXAMPLE_KEY);
    }

    #[test]
    fn altered_and_foreign_notes_are_refused() {
        let key = VerifierKey::parse(EXAMPLE_KEY).unwrap();
        let altered = Note::parse(&EXAMPLE.replace("answer", "Answer")).unwrap();
        assert!(matches!(altered.verify(&[key]), Err(NoteError::WrongSignature { .. })));
        let foreign = Signer::generate("PeterNeumann").verifier();
        assert_eq!(Note::parse(EXAMPLE).unwrap().verify(&[foreign]), Err(NoteError::UnknownKey));
        for wrong in
            ["", "\n\n", "text\n", "text\n\n", "text\n\n- a b\n", "text\n\n— a b\n", "te\txt\n\n— a AAAAAAA=\n"]
        {
            assert!(Note::parse(wrong).is_err(), "{wrong:?}");
        }
        for wrong in ["", "a+b", "a+00000000+AQ==", &EXAMPLE_KEY.replace("c74f", "c74e"), EXAMPLE_SECRET] {
            assert!(VerifierKey::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn checkpoint_is_what_it_says() {
        let origin = Origin { store_id: Uuid::nil(), acceptances: 2 };
        let checkpoint = Checkpoint { origin, head: TreeHead { size: 7, root: [3; 32] } };
        let signer = Signer::generate(&origin.to_string());
        let signed = SignedCheckpoint::sign(checkpoint, &signer);
        assert_eq!(signed.note.lines().nth(1), Some("7"));
        assert_eq!(SignedCheckpoint::read(&signed.note, &[signer.verifier()]).unwrap(), signed);
        let unknown = SignedCheckpoint::read(&signed.note, &[]).unwrap();
        assert_eq!((unknown.checkpoint, unknown.is_signed), (checkpoint, false));
        for wrong in [signed.note.replace("/2\n", "/0\n"), signed.note.replace("\n7\n", "\n07\n")] {
            assert!(SignedCheckpoint::read(&wrong, &[]).is_err(), "{wrong}");
        }
        assert!(matches!(
            SignedCheckpoint::read(&signed.note.replace("\n7\n", "\n8\n"), &[signer.verifier()]),
            Err(NoteError::WrongSignature { .. })
        ));
    }
}

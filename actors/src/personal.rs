//! Personal members of events: declared by the domain, stored under a key of the person they tell of, read as a tombstone
//! once that key is destroyed.
//!
//! A declared member's JSON value is replaced, before digests are made, by `{"$enc":{"v":1,"k":…,"n":…,"c":…}}`: key id,
//! nonce and ciphertext (XChaCha20-Poly1305). The ciphertext is bound to its stream, event type, event id and pointer, so
//! it opens nowhere else. Everything else of the payload keeps its bytes. This module knows no store.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use bytes::Bytes;
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305,
    aead::{Aead, Payload},
};
use rand::Rng;
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::value::{RawValue, to_raw_value};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    envelope::NewEvent,
    id::{AggregateId, EventId, EventType},
};

/// The event that ends a stream's personal data: what came before reads as tombstones, and read models rewrite their
/// rows. Written by the runtime only; it is of no aggregate's own and changes no state.
pub const SUBJECT_ERASED: &str = "SubjectErased";

/// What an erased member reads as.
pub const ERASED: &str = "[erased]";
/// The same as JSON.
const TOMBSTONE: &str = "\"[erased]\"";
/// What a member reads as, in JSON, whose key is not in this store, as after a restoration from a backup; also when the
/// subject has got another key since.
const OUT_OF_REACH: &str = "\"[sealed]\"";

/// Which members of one event type tell of a person.
///
/// The person is the stream's own: the aggregate id names the subject. A member must be readable from a text, as that is
/// what it becomes. What the list does not name, members unknown to the domain included, is stored in the clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Personal {
    /// The event type.
    pub event_type: &'static str,
    /// JSON pointers into the payload; `*` stands for each element of a list. One that leads nowhere is passed over, so
    /// names that older schema versions used may stay listed.
    pub members: &'static [&'static str],
}

/// One subject's key.
pub struct SubjectKey {
    id: Uuid,
    secret: Zeroizing<[u8; 32]>,
}

impl fmt::Debug for SubjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubjectKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl SubjectKey {
    /// A new one, from the system's randomness.
    #[must_use]
    pub fn random() -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        rand::rng().fill_bytes(&mut *secret);
        Self { id: Uuid::now_v7(), secret }
    }

    pub(crate) fn from_parts(id: Uuid, secret: Zeroizing<[u8; 32]>) -> Self {
        Self { id, secret }
    }

    /// Names it; no secret.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id
    }

    pub(crate) fn secret(&self) -> &[u8; 32] {
        &self.secret
    }
}

/// What is known of a subject's key.
#[derive(Debug, Clone)]
pub enum KeyState {
    /// It is there.
    Live(std::sync::Arc<SubjectKey>),
    /// It was destroyed: nothing personal of the subject can be read, and none is taken any more.
    Destroyed,
    /// There was never one here. What is sealed all the same came from elsewhere, and stays so.
    Absent,
}

/// The place of a ciphertext; it opens there and nowhere else.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The stream.
    pub aggregate_id: &'a AggregateId,
    /// The event's type.
    pub event_type: &'a EventType,
    /// The event.
    pub event_id: EventId,
}

impl<'a> Place<'a> {
    fn of(event: &'a NewEvent) -> Self {
        Self { aggregate_id: &event.aggregate_id, event_type: &event.event_type, event_id: event.event_id }
    }

    fn bound_to(&self, pointer: &str) -> Vec<u8> {
        let mut bytes = b"event-sourcing-cqrs/personal/v1".to_vec();
        for part in [self.aggregate_id.as_str(), self.event_type.as_str(), pointer] {
            bytes.extend((part.len() as u64).to_be_bytes());
            bytes.extend(part.as_bytes());
        }
        bytes.extend(self.event_id.0.as_bytes());
        bytes
    }
}

/// A member as it is stored.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sealed {
    #[serde(rename = "$enc")]
    inner: Ciphertext,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ciphertext {
    v: u8,
    k: Uuid,
    n: String,
    c: String,
}

const NONCE_BYTES: usize = 24;

/// Encrypts under a key, with a random nonce of 24 bytes.
pub(crate) fn encrypt(secret: &[u8; 32], plain: &[u8], bound_to: &[u8]) -> Option<([u8; NONCE_BYTES], Vec<u8>)> {
    let mut nonce = [0; NONCE_BYTES];
    rand::rng().fill_bytes(&mut nonce);
    let payload = Payload { msg: plain, aad: bound_to };
    let sealed = XChaCha20Poly1305::new(secret.into()).encrypt(&nonce.into(), payload).ok()?;
    Some((nonce, sealed))
}

/// Decrypts; `None` when key, place or bytes do not fit.
pub(crate) fn decrypt(secret: &[u8; 32], nonce: &[u8], sealed: &[u8], bound_to: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let nonce: [u8; NONCE_BYTES] = nonce.try_into().ok()?;
    let payload = Payload { msg: sealed, aad: bound_to };
    XChaCha20Poly1305::new(secret.into()).decrypt(&nonce.into(), payload).ok().map(Zeroizing::new)
}

/// The payload as it is to be stored: declared members under the key, everything else byte for byte. `None`: it is no
/// JSON object, or a cipher refused.
#[must_use]
pub fn seal(key: &SubjectKey, members: &[&str], place: Place<'_>, data: &Bytes) -> Option<Bytes> {
    let mut document: Box<RawValue> = serde_json::from_slice(data).ok()?;
    let mut is_sealed = true;
    for pointer in members {
        let bound_to = place.bound_to(pointer);
        let changed = replaced(&document, &tokens(pointer), &mut |plain| {
            if plain.get() == "null" {
                return None; // nothing is told of anybody
            }
            let sealed = encrypt(key.secret(), plain.get().as_bytes(), &bound_to);
            let raw = sealed.and_then(|(nonce, sealed)| {
                let inner = Ciphertext { v: 1, k: key.id, n: BASE64.encode(nonce), c: BASE64.encode(sealed) };
                to_raw_value(&Sealed { inner }).ok()
            });
            is_sealed &= raw.is_some();
            raw
        });
        document = changed.unwrap_or(document);
    }
    is_sealed.then(|| Bytes::from(document.get().as_bytes().to_vec()))
}

/// The payload as it is to be read; `None`: as it is stored. A ciphertext that does not open stays as it is, and is then
/// no member the domain can read.
#[must_use]
pub fn open(state: &KeyState, members: &[&str], event: &NewEvent) -> Option<Bytes> {
    open_at(state, members, Place::of(event), &event.data)
}

/// The same for a payload that is not recorded yet.
pub(crate) fn open_at(state: &KeyState, members: &[&str], place: Place<'_>, data: &[u8]) -> Option<Bytes> {
    let mut document: Option<Box<RawValue>> = None;
    let stored: Box<RawValue> = serde_json::from_slice(data).ok()?;
    for pointer in members {
        let bound_to = place.bound_to(pointer);
        let opened = replaced(document.as_ref().unwrap_or(&stored), &tokens(pointer), &mut |member| match state {
            KeyState::Destroyed if member.get() == "null" => None,
            KeyState::Destroyed => RawValue::from_string(TOMBSTONE.to_owned()).ok(),
            KeyState::Absent if is_ciphertext(member.get()) => RawValue::from_string(OUT_OF_REACH.to_owned()).ok(),
            KeyState::Absent => None,
            KeyState::Live(key) => {
                let Sealed { inner } = serde_json::from_str(member.get()).ok()?;
                if inner.k != key.id {
                    return RawValue::from_string(OUT_OF_REACH.to_owned()).ok();
                }
                if inner.v != 1 {
                    return None;
                }
                let (nonce, sealed) = (BASE64.decode(inner.n).ok()?, BASE64.decode(inner.c).ok()?);
                let plain = decrypt(key.secret(), &nonce, &sealed, &bound_to)?;
                RawValue::from_string(String::from_utf8(plain.to_vec()).ok()?).ok()
            }
        });
        document = opened.or(document);
    }
    document.map(|document| Bytes::from(document.get().as_bytes().to_vec()))
}

/// Whether a stored payload holds a declared member in the clear, as events from before the declaration do.
#[must_use]
pub fn is_in_the_clear(members: &[&str], data: &[u8]) -> bool {
    any(members, data, |member| member != "null" && !is_ciphertext(member))
}

/// Whether a payload holds a declared member that is sealed.
pub(crate) fn is_sealed(members: &[&str], data: &[u8]) -> bool {
    any(members, data, is_ciphertext)
}

/// Whether what declared members a payload holds in the clear tells of nobody any more.
pub(crate) fn is_erased(members: &[&str], data: &[u8]) -> bool {
    !any(members, data, |member| member != "null" && !is_ciphertext(member) && member != TOMBSTONE)
}

fn is_ciphertext(member: &str) -> bool {
    serde_json::from_str::<Sealed>(member).is_ok()
}

/// Whether some declared member is like that.
fn any(members: &[&str], data: &[u8], is_so: impl Fn(&str) -> bool) -> bool {
    let Ok(document) = serde_json::from_slice::<Box<RawValue>>(data) else { return false };
    members.iter().any(|pointer| {
        let mut is_found = false;
        let _ = replaced(&document, &tokens(pointer), &mut |member| {
            is_found |= is_so(member.get());
            None
        });
        is_found
    })
}

/// The tokens of a JSON pointer (RFC 6901).
fn tokens(pointer: &str) -> Vec<String> {
    pointer.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~")).collect()
}

/// A JSON object whose members keep their order, their bytes, and each other's company if they share a name.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(InOrder)
    }
}

impl Serialize for Members {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// A document with what `with` gives in the place of each member named by the tokens; `None` when nothing changed.
fn replaced(
    document: &RawValue,
    tokens: &[String],
    with: &mut dyn FnMut(&RawValue) -> Option<Box<RawValue>>,
) -> Option<Box<RawValue>> {
    let Some((token, rest)) = tokens.split_first() else { return with(document) };
    let mut is_changed = false;
    let mut visit = |value: &mut Box<RawValue>| {
        if let Some(new) = replaced(value, rest, with) {
            *value = new;
            is_changed = true;
        }
    };
    if document.get().starts_with('{') {
        let Members(mut members) = serde_json::from_str(document.get()).ok()?;
        members.iter_mut().filter(|(name, _)| name == token).for_each(|(_, value)| visit(value));
        return is_changed.then(|| to_raw_value(&Members(members)).ok())?;
    }
    if document.get().starts_with('[') && token == "*" {
        let mut elements: Vec<Box<RawValue>> = serde_json::from_str(document.get()).ok()?;
        elements.iter_mut().for_each(visit);
        return is_changed.then(|| to_raw_value(&elements).ok())?;
    }
    None
}

#[cfg(test)]
mod tests;

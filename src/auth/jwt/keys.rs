//! A set of public keys, and which of them checks a token.

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse},
};
use serde_json::Value;

use super::crypto;

/// Keys of one set at most.
const KEYS_MAX: usize = 100;

#[derive(Clone)]
struct Key {
    kid: Option<String>,
    /// What it can check.
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// A set.
#[derive(Clone, Default)]
pub(super) struct KeySet(Vec<Key>);

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.kid)).finish()
    }
}

impl KeySet {
    /// Reads a set; keys that are of no use here are passed over, as RFC 7517 says.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let set: Value = serde_json::from_slice(text).map_err(|_| "the key set is no JSON".to_owned())?;
        let keys = set.get("keys").and_then(Value::as_array).ok_or("the key set has no list \"keys\"")?;
        if keys.len() > KEYS_MAX {
            return Err(format!("the key set has more than {KEYS_MAX} keys"));
        }
        let keys: Vec<Key> = keys.iter().filter_map(usable).collect();
        if keys.is_empty() {
            return Err("the key set has no key of a kind that is known here (RSA, P-256, P-384, Ed25519)".to_owned());
        }
        Ok(Self(keys))
    }

    /// The key of this id for this algorithm; without an id the only one that could be meant.
    pub fn find(&self, kid: Option<&str>, algorithm: Algorithm) -> Option<&DecodingKey> {
        let mut fitting = self.0.iter().filter(|key| key.algorithms.contains(&algorithm));
        match kid {
            Some(_) => fitting.find(|key| key.kid.as_deref() == kid).map(|key| &key.key),
            None => match (fitting.next(), fitting.next()) {
                (Some(only), None) => Some(&only.key),
                _ => None,
            },
        }
    }
}

fn usable(value: &Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
    if jwk.common.public_key_use.as_ref().is_some_and(|usage| *usage != PublicKeyUse::Signature) {
        return None;
    }
    let family: &[Algorithm] = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => crypto::RSA,
        AlgorithmParameters::EllipticCurve(key) => match key.curve {
            EllipticCurve::P256 => &[Algorithm::ES256],
            EllipticCurve::P384 => &[Algorithm::ES384],
            _ => return None,
        },
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => &[Algorithm::EdDSA],
        // A shared secret in a set of public keys is a mistake.
        _ => return None,
    };
    let algorithms = match jwk.common.key_algorithm {
        None => family.to_vec(),
        Some(own) => family.iter().copied().filter(|known| own.to_string() == format!("{known:?}")).collect(),
    };
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    (!algorithms.is_empty()).then_some(Key { kid: jwk.common.key_id, algorithms, key })
}

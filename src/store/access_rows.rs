//! Rows of keys and of the audit as both databases hold them, checked on the way out.

use event_sourcing_actors::ports::StoreError;

use crate::auth::{key::KeyDigest, port::Outcome, role::Role};

macro_rules! token_columns {
    () => {
        "id, name, roles, digest, created_at, created_by, expires_at, revoked_at"
    };
}
macro_rules! audit_columns {
    () => {
        "id, at, principal, peer, act, target, outcome, status, request_id, count"
    };
}
pub(super) use {audit_columns, token_columns};

/// Roles as one text.
pub(super) fn joined(roles: &[Role]) -> String {
    roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(",")
}

/// Roles from one text.
pub(super) fn roles(text: &str) -> Result<Vec<Role>, StoreError> {
    let roles = text.split(',').filter(|name| !name.is_empty()).map(str::parse).collect::<Result<_, _>>();
    roles.map_err(|error| StoreError::Corrupt { reason: format!("the roles of a key: {error}") })
}

/// A digest from its bytes.
pub(super) fn digest(bytes: &[u8]) -> Result<KeyDigest, StoreError> {
    let digest = bytes.try_into().map(KeyDigest);
    digest.map_err(|_| StoreError::Corrupt { reason: "the digest of a key has not 32 bytes".to_owned() })
}

/// An outcome from its name.
pub(super) fn outcome(name: &str) -> Result<Outcome, StoreError> {
    let known = Outcome::ALL.into_iter().find(|outcome| outcome.as_str() == name);
    known.ok_or_else(|| StoreError::Corrupt { reason: format!("{name:?} is no outcome of an act") })
}

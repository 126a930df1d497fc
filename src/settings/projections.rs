//! The sections of `projections.yaml`.

use serde::{Deserialize, Deserializer, Serialize};

use super::url::SecretUrl;

/// How read models follow the log. Nothing to set in this version.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Projections {}

/// Where read models are kept. Nothing to set in this version.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReadModels {}

/// The cache of query results.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// The Redis that replicas share; also `REDIS_URL`. Without it the cache lies in the process.
    #[serde(deserialize_with = "redis_url")]
    pub redis_url: Option<SecretUrl>,
}

fn redis_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretUrl>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    if ["redis://", "rediss://"].iter().any(|scheme| text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty())) {
        return Ok(Some(SecretUrl::new(text)));
    }
    Err(serde::de::Error::custom("must be redis://host:port or rediss://host:port (TLS)"))
}

//! The section `auth` of `event_store.yaml`.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize, Serializer};

use super::{
    schema::{Bound, bound},
    url::SecretUrl,
};
use crate::auth::{ConfiguredKey, is_name, key::KeyDigest, retention::DAYS_MIN};

/// Who may come in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Auth {
    /// How callers prove who they are.
    pub mode: AuthMode,
    /// Keys beside those of the store, for `api_key`.
    pub keys: Vec<KeyLine>,
    /// What JSON web tokens must be like, for `jwt`.
    pub jwt: JwtSettings,
    /// Days for which lines of the audit stay; 0 = for ever.
    pub audit_retention_days: u32,
}

/// How callers prove who they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuthMode {
    /// Not at all: everyone may do everything.
    #[default]
    None,
    /// By an API key.
    ApiKey,
    /// By a JSON web token.
    Jwt,
}

/// A key of the settings as it is written: `name:role:sha256` or `name:role+role:sha256`. Shown without its digest.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct KeyLine(String);

impl KeyLine {
    /// Wraps a line.
    #[must_use]
    pub fn new(line: impl Into<String>) -> Self {
        Self(line.into())
    }

    /// What it says.
    ///
    /// # Errors
    /// A sentence about what is wrong, without what may be a secret.
    pub fn parsed(&self) -> Result<ConfiguredKey, String> {
        let form =
            "a key is written name:role:digest, or name:role+role:digest; `token create --for-settings` prints one";
        let mut parts = self.0.trim().splitn(3, ':');
        let (Some(name), Some(roles), Some(digest)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(form.to_owned());
        };
        if !is_name(name) {
            return Err(format!("the name of a key is 1 to 100 letters, digits and . _ @ -; {form}"));
        }
        let roles = roles.split('+').map(str::parse).collect::<Result<Vec<_>, _>>();
        let roles = roles.map_err(|error| format!("the key of {name}: {error}"))?;
        let digest = KeyDigest::from_hex(digest);
        let digest =
            digest.ok_or_else(|| format!("the digest of {name}'s key must be 64 hexadecimal digits: {form}"))?;
        Ok(ConfiguredKey { name: name.to_owned(), roles, digest })
    }

    fn masked(&self) -> String {
        self.parsed().map_or_else(
            |_| "***".to_owned(),
            |key| {
                let roles: Vec<&str> = key.roles.iter().map(|role| role.as_str()).collect();
                format!("{}:{}:***", key.name, roles.join("+"))
            },
        )
    }
}

impl fmt::Debug for KeyLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl Serialize for KeyLine {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.masked())
    }
}

/// What JSON web tokens must be like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtSettings {
    /// The set of public keys, as a file.
    pub jwks_file: Option<PathBuf>,
    /// The same by `http://` or `https://`.
    pub jwks_url: Option<SecretUrl>,
    /// Who must have issued them.
    pub issuer: Option<String>,
    /// For whom they must be: one of these.
    pub audience: Vec<String>,
    /// By which algorithms they may be signed.
    pub algorithms: Vec<String>,
    /// Where roles are in them.
    pub roles_claim: String,
    /// Seconds by which clocks may differ.
    pub leeway_s: u64,
    /// Seconds between two looks at the set.
    pub refresh_s: u64,
}

/// The algorithms that can be allowed.
pub(super) const ALGORITHMS: [&str; 9] =
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"];

impl Default for JwtSettings {
    fn default() -> Self {
        Self {
            jwks_file: None,
            jwks_url: None,
            issuer: None,
            audience: Vec::new(),
            algorithms: ["RS256", "ES256", "EdDSA"].map(str::to_owned).to_vec(),
            roles_claim: "roles".to_owned(),
            leeway_s: 30,
            refresh_s: 300,
        }
    }
}

impl JwtSettings {
    /// What is missing or wrong, with its key.
    fn problem(&self) -> Option<(String, String)> {
        let wrong = |problem: &str, key: &str| Some((problem.to_owned(), format!("auth.jwt.{key}")));
        match (&self.jwks_file, &self.jwks_url) {
            (None, None) => {
                return wrong("auth.mode jwt needs the set of public keys: set jwks_file or jwks_url", "jwks_url");
            }
            (Some(_), Some(_)) => return wrong("set jwks_file or jwks_url, not both", "jwks_url"),
            (None, Some(url)) if !["http://", "https://"].iter().any(|scheme| url.expose().starts_with(scheme)) => {
                return wrong("must begin with https:// or http://", "jwks_url");
            }
            _ => {}
        }
        if self.issuer.as_deref().is_none_or(str::is_empty) {
            return wrong("auth.mode jwt needs to know whose tokens count", "issuer");
        }
        if self.audience.iter().all(String::is_empty) {
            return wrong("auth.mode jwt needs to know for whom tokens must be: the name of this server", "audience");
        }
        let unknown = self.algorithms.iter().find(|name| !ALGORITHMS.contains(&name.as_str()));
        if let Some(name) = unknown {
            let problem = format!("{name:?} cannot be allowed; known are {}", ALGORITHMS.join(", "));
            return wrong(&problem, "algorithms");
        }
        if self.algorithms.is_empty() {
            return wrong("must name an algorithm", "algorithms");
        }
        None
    }
}

impl Auth {
    /// What is wrong, with its key.
    pub(super) fn problem(&self) -> Option<(String, String)> {
        let wrong = self.keys.iter().find_map(|line| line.parsed().err());
        if let Some(problem) = wrong {
            return Some((problem, "auth.keys".to_owned()));
        }
        if (1..DAYS_MIN).contains(&self.audit_retention_days) {
            let problem = format!("must be 0, for ever, or at least {DAYS_MIN} days");
            return Some((problem, "auth.audit_retention_days".to_owned()));
        }
        if self.mode == AuthMode::Jwt { self.jwt.problem() } else { None }
    }

    pub(super) fn bounds(&self) -> [Bound; 3] {
        [
            bound("auth.audit_retention_days", self.audit_retention_days, 0..=36_500),
            bound("auth.jwt.leeway_s", self.jwt.leeway_s, 0..=300),
            bound("auth.jwt.refresh_s", self.jwt.refresh_s, 10..=86_400),
        ]
    }
}

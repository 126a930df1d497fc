//! JSON web tokens (RFC 7519) by a set of keys (RFC 7517), from a file or a URL.
//!
//! Only signatures by asymmetric keys count, only by the algorithms that are named, and only with issuer, audience, subject
//! and an end. The set is fetched now and then by one task, never by a request: an unknown key id asks that task, waits a
//! moment, and asks again no sooner than [`FETCH_PAUSE`]. A set that cannot be fetched any more counts for [`KEEP_MAX`].

mod crypto;
mod fetch;
mod keys;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use event_sourcing_actors::{command_bus::Principal, ports::Clock};
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde_json::{Map, Value};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{Denied, Role, principal_of, tokens::is_reserved};
use keys::KeySet;

/// Time between two fetches at least, whoever asks.
pub const FETCH_PAUSE: Duration = Duration::from_secs(10);
/// How long a request with an unknown key id waits for a fetch.
pub const FETCH_WAIT: Duration = Duration::from_secs(2);
/// How long a set counts that cannot be fetched any more.
pub const KEEP_MAX: Duration = Duration::from_secs(24 * 3_600);
/// Longest token.
const TOKEN_BYTES_MAX: usize = 16 << 10;
const SUBJECT_BYTES_MAX: usize = 255;

/// Where the set of keys is.
#[derive(Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A file, read again as a URL is.
    File(PathBuf),
    /// `http://…` or `https://…`.
    Url(String),
}

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            // It may hold a password.
            Self::Url(_) => f.write_str("Url(***)"),
        }
    }
}

/// What a token must be like.
#[derive(Debug, Clone)]
pub struct JwtOptions {
    /// Where the set of keys is.
    pub source: KeySource,
    /// Who must have issued it.
    pub issuer: String,
    /// For whom it must be: one of these.
    pub audience: Vec<String>,
    /// By which algorithms it may be signed, by name.
    pub algorithms: Vec<String>,
    /// Where its roles are: a member of its claims, or a JSON pointer into them.
    pub roles_claim: String,
    /// How far clocks may differ.
    pub leeway: Duration,
    /// Time between two fetches of the set.
    pub refresh: Duration,
    /// The same at least, whoever asks: [`FETCH_PAUSE`], but for tests.
    pub fetch_pause: Duration,
    /// How long a set counts that cannot be fetched any more: [`KEEP_MAX`], but for tests.
    pub keep: Duration,
}

/// What one fetch after the other has brought.
#[derive(Debug, Clone)]
struct Fetched {
    keys: Arc<KeySet>,
    /// When the set was fetched that is held.
    at: Option<Instant>,
    /// How often it was tried, and when last.
    tries: u64,
    tried_at: Instant,
}

/// Checks tokens.
#[derive(Debug)]
pub struct Jwt {
    options: JwtOptions,
    algorithms: Vec<Algorithm>,
    clock: Arc<dyn Clock>,
    fetched: watch::Sender<Fetched>,
    wanted: Notify,
}

/// The algorithm of this name, if it can be allowed: a shared secret is no public key.
#[must_use]
pub fn is_algorithm(name: &str) -> bool {
    algorithm(name).is_some()
}

fn algorithm(name: &str) -> Option<Algorithm> {
    let algorithm: Algorithm = name.parse().ok()?;
    crypto::is_supported(algorithm).then_some(algorithm)
}

impl Jwt {
    /// Fetches the set once. A file must be there; a URL that does not answer is tried again while the server runs.
    pub(super) async fn open(options: JwtOptions, clock: Arc<dyn Clock>) -> Result<Self, String> {
        crypto::install();
        let algorithms: Vec<_> = options.algorithms.iter().filter_map(|name| algorithm(name)).collect();
        let first = Fetched { keys: Arc::default(), at: None, tries: 0, tried_at: Instant::now() };
        let jwt = Self { algorithms, clock, fetched: watch::Sender::new(first), wanted: Notify::new(), options };
        match jwt.fetch().await {
            Err(reason) if matches!(jwt.options.source, KeySource::File(_)) => Err(reason),
            Err(reason) => {
                tracing::warn!(reason, "the key set for JSON web tokens cannot be fetched yet: nobody is let in");
                Ok(jwt)
            }
            Ok(()) => Ok(jwt),
        }
    }

    async fn fetch(&self) -> Result<(), String> {
        let began = Instant::now();
        let set = fetch::fetch(&self.options.source).await.and_then(|text| KeySet::parse(&text));
        self.fetched.send_modify(|fetched| {
            fetched.tries += 1;
            fetched.tried_at = Instant::now();
            if let Ok(keys) = &set {
                (fetched.keys, fetched.at) = (Arc::new(keys.clone()), Some(began));
            }
        });
        set.map(drop)
    }

    /// Fetches again and again, and when asked to.
    pub(super) async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let mut is_told = false;
        loop {
            let is_held = self.fetched.borrow().at.is_some();
            let least = self.options.fetch_pause;
            let pause = if is_held { self.options.refresh } else { least };
            let due = async {
                tokio::time::sleep(least.min(pause)).await;
                let _ = tokio::time::timeout(pause.saturating_sub(least), self.wanted.notified()).await;
            };
            if stop.run_until_cancelled(due).await.is_none() {
                return;
            }
            match stop.run_until_cancelled(self.fetch()).await {
                None => return,
                Some(Ok(())) => is_told = false,
                Some(Err(reason)) if !std::mem::replace(&mut is_told, true) => {
                    tracing::warn!(reason, "the key set for JSON web tokens cannot be fetched; the last one counts on");
                }
                Some(Err(_)) => {}
            }
        }
    }

    /// Who this is, and until when.
    pub(super) async fn authenticate(&self, token: &str) -> Result<(Principal, DateTime<Utc>), Denied> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Denied::Invalid("the token is too long"));
        }
        let header = decode_header(token).map_err(|_| Denied::Invalid("this is no JSON web token"))?;
        if !self.algorithms.contains(&header.alg) {
            return Err(Denied::Invalid("the token is signed by an algorithm that does not count here"));
        }
        let keys = self.keys(header.kid.as_deref(), header.alg).await?;
        let key = keys.find(header.kid.as_deref(), header.alg);
        let key = key.ok_or(Denied::Invalid("the token is signed by a key that is not in the set"))?;
        let claims = decode::<Map<String, Value>>(token, key, &self.validation(header.alg));
        let claims = claims.map_err(|error| Denied::Invalid(told(error.kind())))?.claims;
        self.principal(&claims)
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = self.options.leeway.as_secs();
        validation.validate_exp = true;
        validation.validate_nbf = true;
        validation.validate_aud = true;
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[&self.options.issuer]);
        validation.set_audience(&self.options.audience);
        validation
    }

    /// The set, fetched anew if this key is not in it and that may be tried.
    async fn keys(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<Arc<KeySet>, Denied> {
        let mut news = self.fetched.subscribe();
        let held = news.borrow_and_update().clone();
        let is_fresh = held.at.is_some_and(|at| at.elapsed() < self.options.keep);
        if is_fresh && held.keys.find(kid, algorithm).is_some() {
            return Ok(held.keys);
        }
        if held.tried_at.elapsed() >= self.options.fetch_pause {
            self.wanted.notify_one();
            let _ = tokio::time::timeout(FETCH_WAIT, news.wait_for(|news| news.tries > held.tries)).await;
        }
        let held = news.borrow().clone();
        match held.at {
            Some(at) if at.elapsed() < self.options.keep => Ok(held.keys),
            _ => Err(Denied::Unavailable),
        }
    }

    fn principal(&self, claims: &Map<String, Value>) -> Result<(Principal, DateTime<Utc>), Denied> {
        let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
        let is_usable = (1..=SUBJECT_BYTES_MAX).contains(&subject.len()) && !subject.contains(char::is_control);
        if !is_usable || is_reserved(subject) {
            return Err(Denied::Invalid("the subject of the token cannot be used as a name here"));
        }
        let seconds = claims.get("exp").and_then(Value::as_f64).unwrap_or_default();
        #[allow(clippy::cast_possible_truncation, reason = "a float saturates, and an instant is checked")]
        let end = DateTime::from_timestamp(seconds as i64, 0).unwrap_or(DateTime::<Utc>::MAX_UTC);
        let end = end.checked_add_signed(chrono::Duration::seconds(self.options.leeway.as_secs().cast_signed()));
        // The crate looks at the machine's clock; this is the process's own, which must agree.
        let end = end.unwrap_or(DateTime::<Utc>::MAX_UTC);
        if self.clock.now() > end {
            return Err(Denied::Invalid("the token has expired"));
        }
        Ok((principal_of(subject, &self.roles(claims)), end))
    }

    /// The roles that the claims name; other names are those of other programs.
    fn roles(&self, claims: &Map<String, Value>) -> Vec<Role> {
        let claim = &self.options.roles_claim;
        let value = match claim.strip_prefix('/') {
            Some(rest) => {
                let (first, below) = rest.split_once('/').map_or((rest, None), |(first, rest)| (first, Some(rest)));
                let first = claims.get(&first.replace("~1", "/").replace("~0", "~"));
                below.map_or(first, |below| first.and_then(|value| value.pointer(&format!("/{below}"))))
            }
            None => claims.get(claim),
        };
        let names: Vec<&str> = match value {
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            Some(Value::String(names)) => names.split([' ', ',']).collect(),
            _ => Vec::new(),
        };
        let mut roles: Vec<Role> = names.into_iter().filter_map(|name| name.parse().ok()).collect();
        roles.sort_unstable();
        roles.dedup();
        roles
    }
}

/// What is wrong, in words that hold nothing of the token.
fn told(kind: &jsonwebtoken::errors::ErrorKind) -> &'static str {
    use jsonwebtoken::errors::ErrorKind;
    match kind {
        ErrorKind::ExpiredSignature => "the token has expired",
        ErrorKind::ImmatureSignature => "the token is not valid yet",
        ErrorKind::InvalidIssuer => "the token is of another issuer",
        ErrorKind::InvalidAudience => "the token is for another audience",
        ErrorKind::MissingRequiredClaim(_) => "the token lacks one of exp, iss, aud and sub",
        ErrorKind::InvalidSignature => "the signature of the token is wrong",
        _ => "the token is not valid",
    }
}

//! Who may come in, and what is kept of what was done or refused at the door.
//!
//! [`Auth`] tells who a caller is: by an API key ([`key`], [`port`]) or by a JSON web token (`jwt`, feature `jwt`). What a
//! caller may do is a matter of [`role`]s: the HTTP door asks for one by route before it reads a body, the buses by command
//! and query type ([`authorizer`]). [`audit`] keeps administrative and refused acts, [`rate`] counts requests.
//!
//! This module knows no HTTP, no settings and no SQL.

pub mod audit;
pub mod authorizer;
#[cfg(feature = "jwt")]
pub mod jwt;
pub mod key;
mod keyring;
pub mod memory;
pub mod port;
pub mod proxies;
pub mod rate;
pub(crate) mod retention;
pub mod role;
mod tokens;

use std::{fmt, num::NonZeroU32, sync::Arc};

use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    command_bus::Principal,
    ports::{Clock, StoreError},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use keyring::{REFRESH, TRUST};
pub use role::Role;
pub use tokens::{NewToken, TokenError, is_name};

use audit::Audit;
use key::KeyDigest;
use keyring::{Held, Keyring};
use port::AccessStore;
use retention::Retention;

/// A key that the settings give: a name, what it may do, and the SHA-256 of the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfiguredKey {
    /// The principal.
    pub name: String,
    /// What it may do.
    pub roles: Vec<Role>,
    /// What is kept of the key.
    pub digest: KeyDigest,
}

/// How callers prove who they are.
#[derive(Debug)]
pub enum Method {
    /// Not at all: everyone may do everything.
    None,
    /// By an API key: one of these, or one of the store's.
    ApiKey(Vec<ConfiguredKey>),
    /// By a JSON web token.
    #[cfg(feature = "jwt")]
    Jwt(jwt::JwtOptions),
}

/// What [`Auth`] is made of.
#[derive(Debug)]
pub struct Parts {
    /// Where keys and audit are.
    pub store: Arc<dyn AccessStore>,
    /// By which keys end.
    pub clock: Arc<dyn Clock>,
    /// How callers prove who they are.
    pub method: Method,
    /// Whether this process lets callers in. Else it only looks after keys and the audit, and looks at no key by itself.
    pub guards: bool,
}

/// Why nobody can be let in.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The keys cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The set of keys for JSON web tokens cannot be used.
    #[error("auth.jwt.jwks: {0}")]
    KeySet(String),
}

/// Why a caller is not let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// Nothing was sent.
    Missing,
    /// What was sent opens nothing. The reason is for the caller, and never says which part of a secret was right.
    Invalid(&'static str),
    /// It cannot be told at the moment.
    Unavailable,
}

/// Somebody who was let in.
#[derive(Debug, Clone)]
pub struct Access {
    /// Who, and what they may do.
    pub principal: Principal,
    ends: Ends,
}

#[derive(Debug, Clone)]
enum Ends {
    Never,
    WithKey(Arc<Keyring>, Box<Held>),
    #[cfg_attr(not(feature = "jwt"), allow(dead_code, reason = "only JSON web tokens end so"))]
    At(DateTime<Utc>, Arc<dyn Clock>),
}

impl Access {
    /// Anybody, where nobody has to prove anything.
    #[must_use]
    pub fn unguarded() -> Self {
        Self { principal: Principal::unguarded(), ends: Ends::Never }
    }

    /// Somebody unknown at a door that is open to everybody.
    #[must_use]
    pub fn anonymous() -> Self {
        Self { principal: Principal::anonymous(), ends: Ends::Never }
    }

    /// Resolves when this access is over: its key was revoked, or its time is up. For answers that go on.
    pub async fn ended(self) {
        match self.ends {
            Ends::Never => std::future::pending().await,
            Ends::WithKey(keyring, held) => keyring.ended(&held).await,
            Ends::At(end, clock) => {
                // In steps, since the machine's clock may be set.
                while let Ok(left) = (end - clock.now()).to_std() {
                    tokio::time::sleep(left.min(TRUST)).await;
                }
            }
        }
    }
}

/// Lets callers in, and keeps the audit. It ends with [`close`](Self::close).
pub struct Auth {
    store: Arc<dyn AccessStore>,
    clock: Arc<dyn Clock>,
    audit: Audit,
    keyring: Option<Arc<Keyring>>,
    #[cfg(feature = "jwt")]
    jwt: Option<Arc<jwt::Jwt>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").field("is_guarded", &self.is_guarded()).finish_non_exhaustive()
    }
}

impl Auth {
    /// Starts what is needed; with [`Method::None`] that is the audit alone.
    ///
    /// # Errors
    /// [`AuthError`].
    pub async fn start(parts: Parts) -> Result<Self, AuthError> {
        let Parts { store, clock, method, guards } = parts;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let mut auth = Self {
            audit: Audit::start(store.clone(), clock.clone(), &tasks, stop.clone()),
            store,
            clock,
            keyring: None,
            #[cfg(feature = "jwt")]
            jwt: None,
            tasks,
            stop,
        };
        match method {
            _ if !guards => {}
            Method::None => {}
            Method::ApiKey(keys) => {
                let held = keys.iter().map(|key| Held::of_settings(&key.name, &key.roles, key.digest)).collect();
                let keyring = Arc::new(Keyring::open(auth.store.clone(), auth.clock.clone(), held).await?);
                auth.tasks.spawn(keyring.clone().keep(auth.stop.clone()));
                auth.keyring = Some(keyring);
            }
            #[cfg(feature = "jwt")]
            Method::Jwt(options) => {
                let jwt = Arc::new(jwt::Jwt::open(options, auth.clock.clone()).await.map_err(AuthError::KeySet)?);
                auth.tasks.spawn(jwt.clone().keep(auth.stop.clone()));
                auth.jwt = Some(jwt);
            }
        }
        Ok(auth)
    }

    /// Whether callers have to prove who they are.
    #[must_use]
    pub fn is_guarded(&self) -> bool {
        #[cfg(feature = "jwt")]
        if self.jwt.is_some() {
            return true;
        }
        self.keyring.is_some()
    }

    /// Whether API keys are asked for and there is none, so that nobody can come in.
    #[must_use]
    pub fn has_no_key(&self) -> bool {
        self.keyring.as_ref().is_some_and(|keyring| keyring.is_empty())
    }

    /// Who this is, by the key or token that was sent.
    ///
    /// # Errors
    /// [`Denied`].
    pub async fn authenticate(&self, bearer: Option<&str>) -> Result<Access, Denied> {
        if let Some(keyring) = &self.keyring {
            let digest = KeyDigest::of_plausible(bearer.ok_or(Denied::Missing)?);
            let digest = digest.ok_or(Denied::Invalid("this is no API key of this server"))?;
            let held = keyring.find(digest).await.map_err(|error| {
                tracing::warn!(%error, "an API key could not be looked up");
                Denied::Unavailable
            })?;
            let held = held.ok_or(Denied::Invalid("the API key is unknown, revoked or expired"))?;
            return Ok(Access {
                principal: held.principal.clone(),
                ends: Ends::WithKey(keyring.clone(), Box::new(held)),
            });
        }
        #[cfg(feature = "jwt")]
        if let Some(jwt) = &self.jwt {
            let (principal, end) = jwt.authenticate(bearer.ok_or(Denied::Missing)?).await?;
            return Ok(Access { principal, ends: Ends::At(end, self.clock.clone()) });
        }
        Ok(Access::unguarded())
    }

    /// Removes lines of the audit that are older than so many days from now on; at least 7 days stay.
    pub fn retain(&self, days: NonZeroU32) {
        let retention = Retention { store: self.store.clone(), clock: self.clock.clone(), days };
        self.tasks.spawn(retention.keep(self.stop.clone()));
    }

    /// Where administrative and refused acts are told.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Ends every task; what the audit was told is written.
    pub async fn close(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Auth {
    /// Whoever forgets to close it leaves no task behind.
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A name with its roles, as the buses know them.
fn principal_of(name: &str, roles: &[Role]) -> Principal {
    Principal { name: Arc::from(name), roles: roles.iter().map(|role| Arc::from(role.as_str())).collect() }
}

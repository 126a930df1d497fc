//! The keys that open something, as this process knows them: read anew every [`REFRESH`], and trusted no longer than
//! [`TRUST`]. So a key that was revoked anywhere opens nothing anywhere after that time, even where the database no
//! longer answers: there requests get 503.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    command_bus::Principal,
    ports::{Clock, StoreError},
};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    key::KeyDigest,
    port::{AccessStore, TokenRecord},
    principal_of,
    role::Role,
};

/// Pause between two looks at the keys.
pub const REFRESH: Duration = Duration::from_secs(1);
/// How long a look is trusted. Beyond it a request looks itself, and is refused if it cannot.
pub const TRUST: Duration = Duration::from_secs(5);
/// How long a request waits for such a look.
const LOOK: Duration = Duration::from_secs(2);

/// One key in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    /// `None` for one of the settings.
    pub id: Option<Uuid>,
    pub digest: KeyDigest,
    pub principal: Principal,
    pub expires_at: Option<DateTime<Utc>>,
}

impl Held {
    /// A key that the settings give.
    pub fn of_settings(name: &str, roles: &[Role], digest: KeyDigest) -> Self {
        Self { id: None, digest, principal: principal_of(name, roles), expires_at: None }
    }

    fn of_record(record: &TokenRecord) -> Self {
        Self {
            id: Some(record.id),
            digest: record.digest,
            principal: principal_of(&record.name, &record.roles),
            expires_at: record.expires_at,
        }
    }

    fn is_live(&self, now: DateTime<Utc>) -> bool {
        self.expires_at.is_none_or(|at| now < at)
    }
}

/// Keys by the first bits of their digests.
type Ring = HashMap<u64, Vec<Held>>;

/// The keys of the settings and of the store.
#[derive(Debug)]
pub(super) struct Keyring {
    store: Arc<dyn AccessStore>,
    clock: Arc<dyn Clock>,
    of_settings: Vec<Held>,
    ring: watch::Sender<Arc<Ring>>,
    /// When the look began whose outcome is held.
    looked: Mutex<Instant>,
    looking: tokio::sync::Mutex<()>,
}

impl Keyring {
    /// Looks once; that must succeed.
    pub async fn open(
        store: Arc<dyn AccessStore>,
        clock: Arc<dyn Clock>,
        of_settings: Vec<Held>,
    ) -> Result<Self, StoreError> {
        let keyring = Self {
            store,
            clock,
            of_settings,
            ring: watch::Sender::new(Arc::default()),
            looked: Mutex::new(Instant::now()),
            looking: tokio::sync::Mutex::default(),
        };
        keyring.look().await?;
        Ok(keyring)
    }

    /// Whether there is any key at all.
    pub fn is_empty(&self) -> bool {
        self.ring.borrow().is_empty()
    }

    /// The key that a caller sent, if it opens anything.
    pub async fn find(&self, digest: KeyDigest) -> Result<Option<Held>, StoreError> {
        if self.age() > TRUST {
            self.look_again().await?;
        }
        Ok(self.held(&digest))
    }

    fn held(&self, digest: &KeyDigest) -> Option<Held> {
        let ring = self.ring.borrow();
        let held = ring.get(&digest.bucket())?.iter().find(|held| held.digest == *digest)?;
        held.is_live(self.clock.now()).then(|| held.clone())
    }

    fn age(&self) -> Duration {
        self.looked.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    /// One look for all that wait for one.
    async fn look_again(&self) -> Result<(), StoreError> {
        let look = async {
            let _turn = self.looking.lock().await;
            if self.age() > TRUST { self.look().await } else { Ok(()) }
        };
        let late = || StoreError::Unavailable { reason: "the keys could not be read in time".to_owned() };
        tokio::time::timeout(LOOK, look).await.unwrap_or_else(|_| Err(late()))
    }

    /// Reads the keys.
    pub async fn look(&self) -> Result<(), StoreError> {
        let began = Instant::now();
        let active = self.store.active_tokens(self.clock.now()).await?;
        let mut ring = Ring::new();
        for held in self.of_settings.iter().cloned().chain(active.iter().map(Held::of_record)) {
            ring.entry(held.digest.bucket()).or_default().push(held);
        }
        // Whoever follows a key is woken only when something changed.
        self.ring.send_if_modified(|known| {
            let is_new = **known != ring;
            if is_new {
                *known = Arc::new(ring);
            }
            is_new
        });
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        *looked = (*looked).max(began);
        Ok(())
    }

    /// Looks again and again.
    pub async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let mut is_told = false;
        while stop.run_until_cancelled(tokio::time::sleep(REFRESH)).await.is_some() {
            let look = tokio::time::timeout(TRUST, self.look()).await;
            match look.unwrap_or_else(|_| Err(StoreError::Unavailable { reason: "no answer in time".to_owned() })) {
                Ok(()) => is_told = false,
                Err(error) if !std::mem::replace(&mut is_told, true) => {
                    tracing::warn!(%error, "the API keys cannot be read; soon requests are refused");
                }
                Err(_) => {}
            }
        }
    }

    /// Resolves when a key that was found no longer opens anything, or when that is no longer known.
    pub async fn ended(&self, held: &Held) {
        let mut ring = self.ring.subscribe();
        while self.age() <= TRUST * 2 && self.held(&held.digest).is_some() {
            let now = self.clock.now();
            let left = held.expires_at.and_then(|at| (at - now).to_std().ok()).unwrap_or(TRUST);
            // A change, an end by time, or a look whether the ring is still fresh.
            let pause = left.clamp(Duration::from_millis(1), TRUST);
            let _ = tokio::time::timeout(pause, ring.changed()).await;
        }
    }
}

//! How fresh read models are known to be, and the rule by which a cached answer may be served.
//!
//! The truth comes from the view store. One task per runtime (`Follower`) asks it again and again what has changed
//! since the revision it knows; an owner in this process tells its own commits first.
//!
//! # Why a served answer is right
//! Each commit that changes served rows has a *revision* of its own and records the *tags* of what it touched. An entry
//! is (revision r, position p, data), all of one instant, under a key that names its selection, whose tag is t.
//! 1. The follower asked at instant c and heard: revision R, position P, and what was touched since the revision it
//!    knew. So every commit up to R has raised `fence[its tags]` (or the floor) to its revision: by this answer, by an
//!    earlier one, or, from before the start, by the floor, which began at the first R. No commit after R ended before c.
//! 2. Serve iff r ≥ max(floor, fence\[t\]) and now − c ≤ 250 ms. If r ≤ R, no commit in (r, R] touched t: the data is
//!    what a read at R gives, so it rests on max(p, P). If r > R it is younger than what is known at c, and rests on p
//!    alone: between R and r there may have been a rollback, after which positions are lower. Either way the data was
//!    right at some instant not before c, so it is at most 250 ms late; and *that* position is compared with the token
//!    or the head, so an unrelated write costs no hit. How old, reordered or revived an entry is plays no part. One whose
//!    r nobody here has heard of is refused: a restored backup may have undone it.
//! 3. *A lost announcement.* An owner in this process raises fences to the next revision before it commits. If the commit
//!    is lost, entries of the present revision are refused until the next one: misses. If it gets a higher revision than
//!    announced, its fence is late until the follower hears, inside the 250 ms; the token is compared with what the
//!    *store* confirmed, never with what an owner said.
//! 4. *A slow fill.* A page read before a commit and put after it carries the old r, and is refused at serving.
//! 5. *Another owner* starts a leap above. So commits that a database's crash undid (view commits are not flushed) are
//!    never counted again under another meaning, as long as an owner that lost track takes the lease anew as a new
//!    owner. If the follower sees the revision fall, the floor rises above all it has ever heard of.
//! 6. *Rollback and swap* touch everything, so the floor rises; the revision never falls, positions may. A record with a
//!    hole (it is kept for minutes) counts as everything. *A replaced database* has another incarnation, part of the key.
//! 7. *Bounds.* Fences older than two lives of an entry are dropped and the floor rises to them; above a number, the
//!    older half is. Both cost misses only. The clock is the monotonic one of the process; of a suspended machine it may
//!    stand still, then the first answers after it may be late by one poll, but never below their token.

mod follower;
mod known;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

pub(crate) use follower::Follower;
use known::Known;

use crate::{
    ports::{ProjectionState, Revision, ViewChanges},
    version::Position,
    view::{Tag, Touched},
};

/// How long what the store confirmed may be rested on.
pub const CONFIRMED_AGE_MAX: Duration = Duration::from_millis(250);

/// Fences kept for one projection.
const FENCES_MAX: usize = 1 << 18;

/// Queries come as long as the last one is not longer ago than this.
const BUSY: Duration = Duration::from_secs(3);

/// How far the served rows of one projection are known to have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// They have applied this.
    pub position: Position,
    /// They stand at this revision.
    pub revision: Revision,
}

/// What a cached answer is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Nothing is known that it could be judged by.
    Unconfirmed,
    /// What it is made of may have changed.
    Refused,
    /// It is what a read would have given a moment ago, and rests on every event up to here.
    Good(Position),
}

/// What is known of every projection's freshness. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Freshness {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    projections: Mutex<HashMap<String, Known>>,
    /// Makes the follower ask now.
    poke: Notify,
    started: Instant,
    /// When the last query came, in milliseconds since the start; 0 = none came yet.
    last_query_ms: AtomicU64,
    /// Queries that wait for a projection.
    waiting: AtomicUsize,
    #[cfg(any(test, feature = "testing"))]
    is_trusting: std::sync::atomic::AtomicBool,
}

impl Default for Freshness {
    fn default() -> Self {
        Self {
            shared: Arc::new(Shared {
                projections: Mutex::default(),
                poke: Notify::new(),
                started: Instant::now(),
                last_query_ms: AtomicU64::new(0),
                waiting: AtomicUsize::new(0),
                #[cfg(any(test, feature = "testing"))]
                is_trusting: std::sync::atomic::AtomicBool::new(false),
            }),
        }
    }
}

impl Freshness {
    /// Before an owner's commit: from now on answers made of what it touches are not served from the cache. `next` is the
    /// revision the commit will have.
    pub fn announce(&self, projection: &str, touched: &Touched, next: Revision) {
        self.with(projection, |known| known.raise(touched, next, Instant::now()));
    }

    /// After an owner's commit, or whenever a state was read.
    pub fn note(&self, state: &ProjectionState) {
        self.heard(&state.name, Progress { position: state.checkpoint.position, revision: state.revision });
        if self.is_busy() {
            self.shared.poke.notify_one();
        }
    }

    /// A receiver that is woken whenever a projection moves.
    #[must_use]
    pub fn subscribe(&self, projection: &str) -> watch::Receiver<Progress> {
        self.with(projection, |known| known.progress.subscribe())
    }

    /// A read told how far it is.
    pub(crate) fn heard(&self, projection: &str, progress: Progress) {
        self.with(projection, |known| known.note(progress));
    }

    /// A query came: the store is asked more often for a while.
    pub(crate) fn query_came(&self) {
        let was_busy = self.is_busy();
        self.shared.last_query_ms.store(self.now_ms().max(1), Ordering::Relaxed);
        if !was_busy {
            self.shared.poke.notify_one();
        }
    }

    /// Whether cached answers of a projection can be judged at all at the moment.
    pub(crate) fn is_confirmed(&self, projection: &str) -> bool {
        self.with(projection, |known| known.is_confirmed(Instant::now(), CONFIRMED_AGE_MAX)) || self.is_trusting()
    }

    /// The serve rule.
    pub(crate) fn judge(&self, projection: &str, tag: Tag, made_of: Progress) -> Standing {
        if self.is_trusting() {
            return Standing::Good(Position(u64::MAX));
        }
        self.with(projection, |known| {
            if known.is_confirmed(Instant::now(), CONFIRMED_AGE_MAX) {
                known.judge(tag, made_of)
            } else {
                Standing::Unconfirmed
            }
        })
    }

    /// Counts somebody who waits for a projection, as long as the guard lives.
    pub(crate) fn waiting(&self) -> Waiting {
        self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        self.shared.poke.notify_one();
        Waiting(self.clone())
    }

    /// Whether somebody waited for the head in vain and nothing has moved since.
    pub(crate) fn is_stuck(&self, projection: &str) -> bool {
        self.with(projection, |known| known.stuck_at == Some(*known.progress.borrow()))
    }

    /// Somebody waited for the head in vain: who comes next need not.
    pub(crate) fn stuck(&self, projection: &str, at: Progress) {
        self.with(projection, |known| known.stuck_at = Some(at));
    }

    /// Serves whatever the cache holds as if it were the newest: the control of tests, which must fail with it.
    #[cfg(any(test, feature = "testing"))]
    pub fn trust_everything(&self) {
        self.shared.is_trusting.store(true, Ordering::Relaxed);
    }

    #[cfg(any(test, feature = "testing"))]
    fn is_trusting(&self) -> bool {
        self.shared.is_trusting.load(Ordering::Relaxed)
    }

    #[cfg(not(any(test, feature = "testing")))]
    #[allow(clippy::unused_self, reason = "the same call as in tests")]
    const fn is_trusting(&self) -> bool {
        false
    }

    fn confirm(&self, said: &ViewChanges, before: Instant) {
        self.with(&said.projection, |known| known.confirm(said, before));
    }

    fn confirmed_revision(&self, projection: &str) -> Option<Revision> {
        self.with(projection, |known| known.confirmed_revision())
    }

    fn forget(&self, before: Instant) {
        self.lock().values_mut().for_each(|known| known.forget(before));
    }

    fn is_busy(&self) -> bool {
        let last = self.shared.last_query_ms.load(Ordering::Relaxed);
        last > 0 && self.now_ms().saturating_sub(last) <= u64::try_from(BUSY.as_millis()).unwrap_or(u64::MAX)
    }

    fn is_waited_for(&self) -> bool {
        self.shared.waiting.load(Ordering::Relaxed) > 0
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.shared.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.shared.projections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, projection: &str, look: impl FnOnce(&mut Known) -> T) -> T {
        let mut all = self.lock();
        if let Some(known) = all.get_mut(projection) {
            return look(known);
        }
        look(all.entry(projection.to_owned()).or_default())
    }
}

/// Somebody waits for a projection.
#[derive(Debug)]
pub(crate) struct Waiting(Freshness);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.shared.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

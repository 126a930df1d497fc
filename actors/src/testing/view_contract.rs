//! What every view store must do, as a list of cases; each wants a fresh, empty store.
//!
//! ```
//! # use std::sync::Arc;
//! # use event_sourcing_actors::{memory::MemoryStore, ports::SystemClock, testing::view_contract};
//! # tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime").block_on(async {
//! for case in view_contract::cases() {
//!     println!("{}", case.name);
//!     (case.run)(Arc::new(MemoryStore::new(Arc::new(SystemClock)))).await;
//! }
//! # });
//! ```

#![allow(clippy::unwrap_used, reason = "a failed expectation is how a case fails")]

mod changes;
mod commits;
mod controls;
mod leases;
mod parking;
mod racing;
mod reading;
mod rebuilds;
mod upkeep;

use std::{fmt, num::NonZeroU32, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use uuid::Uuid;

use crate::{
    digest::LeafHash,
    id::{AggregateId, EventType},
    ports::{
        Checkpoint, Control, Controlled, Direction, Generation, LeaseClaim, Move, NewParked, ProjectionState, Revision,
        Transition, ViewCommit, ViewOutcome, ViewPage, ViewStore,
    },
    version::Position,
    view::{ListRange, Row, RowKey, Selection, Touched},
};

/// One demand on a store.
#[derive(Clone, Copy)]
pub struct Case {
    /// The demand, as a claim.
    pub name: &'static str,
    /// Panics if the store does not meet it.
    pub run: fn(Arc<dyn ViewStore>) -> BoxFuture<'static, ()>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Case").field(&self.name).finish()
    }
}

/// All cases, in reading order.
#[must_use]
pub fn cases() -> Vec<Case> {
    let steps = [leases::cases(), commits::cases(), reading::cases(), changes::cases(), controls::cases()].concat();
    [steps, rebuilds::cases(), parking::cases(), upkeep::cases(), racing::cases()].concat()
}

/// Lists functions as cases under their own names.
macro_rules! listed {
    ($($name:ident),* $(,)?) => {
        pub(super) fn cases() -> Vec<super::Case> {
            vec![$(super::Case { name: stringify!($name), run: |store| Box::pin($name(store)) }),*]
        }
    };
}
use listed;

type Tested = Arc<dyn ViewStore>;

/// Longer than any case runs.
const LEASE: Duration = Duration::from_secs(600);

fn at_most(limit: u32) -> NonZeroU32 {
    NonZeroU32::new(limit).unwrap()
}

fn leaf(position: u64) -> Option<LeafHash> {
    (position > 0).then(|| LeafHash([u8::try_from(position % 251).unwrap(); 32]))
}

fn checkpoint(position: u64) -> Checkpoint {
    Checkpoint { position: Position(position), leaf: leaf(position) }
}

fn key(sort: &str) -> RowKey {
    RowKey::new("things", "", sort)
}

fn data(text: &str) -> Bytes {
    format!(r#"{{"is":"{text}"}}"#).into()
}

fn row(sort: &str, text: &str) -> Row {
    Row { key: key(sort), data: data(text) }
}

fn parked(position: u64, key: &str) -> NewParked {
    NewParked {
        position: Position(position),
        key: key.to_owned(),
        aggregate_id: AggregateId::new("stream").unwrap(),
        event_type: EventType::new("Happened").unwrap(),
        error: format!("cannot apply {position}"),
        attempts: 3,
    }
}

/// A move that writes these rows.
fn puts(from: u64, to: u64, rows: Vec<Row>) -> Move {
    Move { from: Position(from), to: checkpoint(to), puts: rows, ..Move::default() }
}

/// The owner of a projection, with what it knows.
struct Owner {
    store: Tested,
    id: Uuid,
    state: ProjectionState,
}

impl Owner {
    /// Declares and leases a projection.
    async fn of(store: &Tested, projection: &str) -> Self {
        store.declare(projection, 1).await.unwrap();
        let id = Uuid::now_v7();
        let state = store.acquire(claim(projection, id, LEASE)).await.unwrap().unwrap();
        Self { store: store.clone(), id, state }
    }

    /// The projection `p`.
    async fn new(store: &Tested) -> Self {
        Self::of(store, "p").await
    }

    /// A step that does nothing.
    fn idle(&self) -> ViewCommit {
        ViewCommit {
            projection: self.state.name.clone(),
            owner: self.id,
            epoch: self.state.epoch,
            lease: LEASE,
            served: None,
            shadow: None,
            touched: Touched::Tags(Vec::new()),
            transition: None,
            operation: None,
        }
    }

    /// A step of the served rows.
    fn served(&self, step: Move) -> ViewCommit {
        let touched = Touched::rows(step.puts.iter().map(|row| &row.key).chain(&step.deletes));
        ViewCommit { served: Some((self.state.generation, step)), touched, ..self.idle() }
    }

    /// A step of the shadow.
    fn shadow(&self, step: Move) -> ViewCommit {
        ViewCommit { shadow: Some((self.state.shadow.unwrap().generation, step)), ..self.idle() }
    }

    /// Both at once.
    fn both(&self, served: Move, shadow: Move) -> ViewCommit {
        ViewCommit { shadow: self.shadow(shadow).shadow, ..self.served(served) }
    }

    fn with(&self, transition: Transition) -> ViewCommit {
        ViewCommit { transition: Some(transition), ..self.idle() }
    }

    /// Commits, and learns the new state.
    async fn step(&mut self, commit: ViewCommit) -> &ProjectionState {
        match self.store.commit(commit).await.unwrap() {
            ViewOutcome::Committed(state) => self.state = *state,
            ViewOutcome::Lost => panic!("the step was lost"),
        }
        assert_eq!(Some(&self.state), self.stored().await.as_ref(), "what a commit answers is what is stored");
        &self.state
    }

    /// Commits in vain: nothing is stored.
    async fn lose(&self, commit: ViewCommit) {
        let before = (self.stored().await, self.dump().await);
        assert_eq!(self.store.commit(commit).await.unwrap(), ViewOutcome::Lost);
        assert_eq!((self.stored().await, self.dump().await), before, "a lost step leaves nothing behind");
    }

    /// Writes one row at the next position.
    async fn put(&mut self, sort: &str, text: &str) -> &ProjectionState {
        let at = self.state.checkpoint.position.0;
        let commit = self.served(puts(at, at + 1, vec![row(sort, text)]));
        self.step(commit).await
    }

    /// Grants a wish, and learns the new state.
    async fn control(&mut self, control: Control) -> &ProjectionState {
        self.state = granted(self.store.control(&self.state.name, control).await.unwrap());
        assert_eq!(Some(&self.state), self.stored().await.as_ref(), "what a control answers is what is stored");
        &self.state
    }

    /// A wish that is refused: the operation in the way.
    async fn refused(&self, control: Control) -> Option<Uuid> {
        let before = self.stored().await;
        let answer = self.store.control(&self.state.name, control).await.unwrap();
        assert_eq!(self.stored().await, before, "a refusal changes nothing");
        let Controlled::Refused { operation, reason } = answer else { panic!("expected a refusal, got {answer:?}") };
        assert!(!reason.is_empty());
        operation
    }

    /// Begins a rebuild; its operation.
    async fn rebuild(&mut self, version: u64) -> Uuid {
        let operation = Uuid::now_v7();
        self.control(Control::Rebuild { operation, version, accepts_difference: false }).await;
        operation
    }

    async fn stored(&self) -> Option<ProjectionState> {
        state(&self.store, &self.state.name).await
    }

    /// All rows of the generations known to the owner.
    async fn dump(&self) -> Vec<(Generation, Vec<Row>)> {
        let mut all = Vec::new();
        let shadow = self.state.shadow.map(|shadow| shadow.generation);
        for generation in std::iter::once(self.state.generation).chain(shadow) {
            all.push((generation, self.store.dump(generation, None, at_most(1_000)).await.unwrap()));
        }
        all
    }
}

fn claim(projection: &str, owner: Uuid, lease: Duration) -> LeaseClaim {
    LeaseClaim { projection: projection.to_owned(), owner, lease }
}

async fn state(store: &Tested, projection: &str) -> Option<ProjectionState> {
    store.states().await.unwrap().into_iter().find(|state| state.name == projection)
}

#[track_caller]
fn granted(answer: Controlled) -> ProjectionState {
    match answer {
        Controlled::Done(state) => *state,
        other => panic!("expected it to be done, got {other:?}"),
    }
}

async fn page(store: &Tested, selection: Selection) -> ViewPage {
    store.read("p", &selection).await.unwrap().unwrap()
}

/// The data of one served row.
async fn one(store: &Tested, sort: &str) -> Option<Bytes> {
    page(store, Selection::Row(key(sort))).await.rows.pop().map(|(_, data)| data)
}

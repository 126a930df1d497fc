//! A purse: an aggregate whose sum must never be negative; and runtimes over it.

use std::sync::Arc;

use event_sourcing_actors::{
    Aggregate, AggregateId, CommandData, DecisionContext, Limits, Rejection, Runtime, RuntimeBuilder, Sequence,
    commands, events,
    memory::MemoryStore,
    ports::{EventStore, SnapshotStore, SystemClock},
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Put {
    pub amount: i64,
}
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Take {
    pub amount: i64,
}
/// Panics when decided, or when its event is folded.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Panic {}
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}
impl CommandData for Put {}
impl CommandData for Take {}
impl CommandData for Panic {}
impl CommandData for Nothing {}
commands! { pub enum PurseCommand { Put, Take, Panic, Nothing } }

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Added {
    pub amount: i64,
}
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cursed {}
events! { pub enum PurseEvent { Added = 1, Cursed = 1 } }

#[derive(Debug, thiserror::Error)]
pub enum PurseRejection {
    #[error("{sum} is not enough for {amount}")]
    Insufficient { sum: i64, amount: i64 },
}
impl Rejection for PurseRejection {
    fn code(&self) -> &'static str {
        "insufficient"
    }
}

#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Purse {
    pub sum: i64,
}
impl Aggregate for Purse {
    const TYPE: &'static str = "purse";
    type Command = PurseCommand;
    type Event = PurseEvent;
    type Rejection = PurseRejection;

    fn decide(&self, command: &PurseCommand, _: &DecisionContext<'_>) -> Result<Vec<PurseEvent>, PurseRejection> {
        match command {
            PurseCommand::Put(Put { amount }) => Ok(vec![Added { amount: *amount }.into()]),
            PurseCommand::Take(Take { amount }) if *amount > self.sum => {
                Err(PurseRejection::Insufficient { sum: self.sum, amount: *amount })
            }
            PurseCommand::Take(Take { amount }) => Ok(vec![Added { amount: -amount }.into()]),
            PurseCommand::Panic(_) => panic!("as told"),
            PurseCommand::Nothing(_) => Ok(Vec::new()),
        }
    }

    fn apply(&mut self, event: &PurseEvent) {
        match event {
            PurseEvent::Added(Added { amount }) => self.sum += amount,
            PurseEvent::Cursed(_) => panic!("cursed"),
        }
    }
}

pub fn store() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::new(Arc::new(SystemClock)))
}

pub fn builder(store: &Arc<impl EventStore + SnapshotStore>) -> RuntimeBuilder {
    RuntimeBuilder::new(store.clone(), store.clone()).aggregate::<Purse>().unwrap()
}

pub async fn runtime(store: &Arc<impl EventStore + SnapshotStore>, limits: Limits) -> Runtime {
    builder(store).limits(limits).start().await.unwrap()
}

pub fn id(text: &str) -> AggregateId {
    AggregateId::new(text).unwrap()
}

/// The sum of a purse by a full fold of what is stored.
pub async fn sum(runtime: &Runtime, purse: &str) -> i64 {
    let state = runtime.history().state_at(&id(purse), Sequence(u64::MAX), false).await.unwrap().unwrap();
    serde_json::from_slice::<Purse>(&state.state).unwrap().sum
}

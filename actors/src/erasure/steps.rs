//! The steps of one erasure, each of which may be done again.

use std::{num::NonZeroU32, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Account, Parts};
use crate::{
    envelope::{EventBody, Metadata, NewEvent},
    id::{AggregateId, CommandId, EventId, EventType},
    personal::{SUBJECT_ERASED, is_in_the_clear},
    ports::{
        AppendBatch, AppendUnit, CommandProbe, Direction, OperationStatus, OperationUpdate, StoreError, StreamClaim,
        StreamRange, UnitOutcome,
    },
    saga::derived_command_id,
    version::{Position, Sequence},
};

/// Steps of an erasure, as its progress counts them.
pub(super) const TOTAL: u64 = 6;
/// Beside the life of keys, for a read that was under way.
const MARGIN: Duration = Duration::from_millis(250);
/// Between two attempts at a stream that others write to.
const TURN: Duration = Duration::from_millis(20);
/// Between two attempts at a cache.
const CACHE_PAUSE: Duration = Duration::from_secs(1);
const PAGE: NonZeroU32 = NonZeroU32::MIN.saturating_add(999);

/// What no erasure reaches.
const ELSEWHERE: &str = "key files (`keys backup`) and copies of the database that were made before the key was destroyed \
     still hold it, wrapped: whoever has one, the master key file and an old backup of the log can read what was erased, until \
     those copies are deleted, or the master key is rotated and the old one destroyed";

fn erasing_command_id(subject: &AggregateId, destroyed_at: DateTime<Utc>) -> CommandId {
    derived_command_id(subject, destroyed_at, "erase")
}

/// Names the event that says that a subject, whose key was destroyed then, is erased.
pub(super) fn erased_event_id(subject: &AggregateId, destroyed_at: DateTime<Utc>) -> EventId {
    EventId::derived(erasing_command_id(subject, destroyed_at), 0)
}

/// One erasure under way.
pub(super) struct Erasure<'a> {
    pub(super) parts: &'a Parts,
    pub(super) id: Uuid,
    pub(super) subject: &'a AggregateId,
    pub(super) account: Account,
    pub(super) done: u64,
}

impl Erasure<'_> {
    /// All steps, from the first.
    pub(super) async fn run(&mut self) -> Result<(), StoreError> {
        let destroyed_at = self.destroy_key().await?;
        self.step(1).await?;
        self.outlive_keys(destroyed_at).await;
        self.step(2).await?;
        let tainted = self.parts.projections.views.states().await?;
        // From here on the steps are work for the store: many erasures at once take turns.
        let place = self.parts.places.acquire().await;
        let position = self.append(destroyed_at).await?;
        self.account.waiting_for.clear();
        self.parts.write_side.registry.let_go(self.subject);
        self.count_clear_events().await?;
        self.step(3).await?;
        self.rewrite_read_models(position, &tainted).await?;
        self.step(4).await?;
        self.parts.snapshots.discard(self.subject, Sequence(1)).await?;
        for scrubber in &self.parts.scrubbers {
            scrubber.forget(self.subject).await?;
        }
        self.sweep_cache().await;
        self.step(5).await?;
        drop(place);
        self.account.database = self.parts.scrubbing.run(self.scrub()).await?;
        self.account.elsewhere = Some(ELSEWHERE.to_owned());
        self.done = TOTAL;
        Ok(())
    }

    /// Why the data is not gone everywhere although all steps were done.
    pub(super) fn shortcoming(&self) -> Option<String> {
        let count = self.account.events_in_the_clear;
        (count > 0).then(|| {
            format!(
                "{count} events of this subject hold personal data in the clear: they were recorded before it was \
                 encrypted, and the log is never changed. They are read as erased, but the database still holds them"
            )
        })
    }

    /// Notes how far it has come.
    async fn step(&mut self, done: u64) -> Result<(), StoreError> {
        self.done = done;
        self.note().await
    }

    pub(super) async fn note(&self) -> Result<(), StoreError> {
        let update = OperationUpdate {
            id: self.id,
            status: OperationStatus::Running,
            done: self.done,
            total: TOTAL,
            result: self.account.written(),
            error: None,
        };
        self.parts.projections.views.update_operation(update).await
    }

    async fn destroy_key(&mut self) -> Result<DateTime<Utc>, StoreError> {
        let at = self.parts.write_side.vault.destroy(self.subject).await?;
        self.account.key_destroyed_at = Some(at.to_rfc3339_opts(SecondsFormat::Micros, true));
        // What they hold could still be folded on.
        self.parts.snapshots.discard(self.subject, Sequence(1)).await?;
        self.parts.graveyard.catch_up().await?;
        Ok(at)
    }

    /// Waits until nobody can use the key any more. The instant is the store's: one that lies ahead counts as now.
    async fn outlive_keys(&self, destroyed_at: DateTime<Utc>) {
        let life = self.parts.write_side.vault.life() + MARGIN;
        let passed = self.parts.write_side.clock.now() - destroyed_at;
        let passed = passed.max(TimeDelta::zero()).to_std().unwrap_or_default();
        // Clocks differ: less than twice the time that is needed is no proof that it has passed.
        if passed < life * 2 {
            tokio::time::sleep(life).await;
        }
    }

    /// Appends the event that says so, once for ever; its position. `None`: the subject has no events.
    async fn append(&mut self, destroyed_at: DateTime<Utc>) -> Result<Option<Position>, StoreError> {
        let store = &self.parts.sealed;
        let command_id = erasing_command_id(self.subject, destroyed_at);
        let event_id = erased_event_id(self.subject, destroyed_at);
        let mut losses = 0;
        loop {
            if let Some(event) = store.find_events(&[event_id]).await?.first() {
                self.account.position = Some(event.position.0);
                return Ok(Some(event.position));
            }
            let Some(stream) = store.stream(self.subject).await? else { return Ok(None) };
            let metadata = Metadata {
                command_id,
                correlation_id: self.id.to_string().into(),
                causation_id: None,
                traceparent: None,
                actor: Some(self.account.requested_by.as_str().into()),
            };
            let data = serde_json::json!({ "key_destroyed_at": self.account.key_destroyed_at });
            let refused = |error: serde_json::Error| StoreError::Refused { reason: error.to_string() };
            let body = EventBody {
                event_id,
                event_type: EventType::new(SUBJECT_ERASED)
                    .map_err(|error| StoreError::Refused { reason: error.to_string() })?,
                schema_version: 1,
                data: Bytes::from(data.to_string()),
                metadata: Bytes::from(serde_json::to_vec(&metadata).map_err(refused)?),
            };
            let claim = StreamClaim { aggregate_id: self.subject.clone(), head: stream.head, losses };
            let event = NewEvent::following(&mut stream.head.clone(), self.subject, &stream.aggregate_type, body);
            let commands = vec![CommandProbe { event_ids: vec![event_id], key: None, record: None }];
            let batch = AppendBatch { units: vec![AppendUnit { streams: vec![claim], commands, events: vec![event] }] };
            match store.append(batch).await?.pop() {
                Some(UnitOutcome::Committed(committed)) => {
                    self.account.position = Some(committed.first_position.0);
                    self.parts.publisher.raise(committed.first_position);
                    return Ok(Some(committed.first_position));
                }
                Some(UnitOutcome::Failed(error)) => return Err(error),
                Some(UnitOutcome::Stale) => losses += 1,
                Some(UnitOutcome::Known { .. } | UnitOutcome::Wait) | None => {}
            }
            tokio::time::sleep(TURN).await;
        }
    }

    /// Counts what the log keeps readable.
    async fn count_clear_events(&mut self) -> Result<(), StoreError> {
        let catalog = &self.parts.write_side.recovery.catalog;
        let (mut count, mut from) = (0, Sequence(1));
        loop {
            let range = StreamRange { from, to: Sequence(u64::MAX), direction: Direction::Forward, limit: PAGE };
            let events = self.parts.sealed.read_stream(self.subject, range).await?;
            for event in &events {
                let members = catalog.personal(&event.event_type);
                count += u64::from(members.is_some_and(|members| is_in_the_clear(members, &event.data)));
            }
            match events.last() {
                Some(last) if events.len() >= PAGE.get() as usize => from = last.sequence.next(),
                _ => break,
            }
        }
        self.account.events_in_the_clear = count;
        Ok(())
    }

    /// Takes cached answers away. A cache that does not answer loses them by itself, as no answer outlives its time.
    async fn sweep_cache(&mut self) {
        let Some(cache) = &self.parts.cache else { return };
        let give_up = Instant::now() + self.parts.cache_life;
        let incarnation = self.parts.projections.views.incarnation();
        let prefix = format!("es:{}:", incarnation.simple());
        let words = loop {
            match cache.sweep(&prefix).await {
                Ok(()) => break "swept",
                Err(_) if Instant::now() >= give_up => break "did not answer; its answers are past their time",
                Err(_) => tokio::time::sleep(CACHE_PAUSE).await,
            }
        };
        self.account.cache = Some(words.to_owned());
    }

    /// Has what was removed overwritten.
    async fn scrub(&self) -> Result<Vec<String>, StoreError> {
        let views = &self.parts.projections.views;
        // Rows that no reader can reach any more; the changes themselves hold nothing personal.
        while views.prune(DateTime::UNIX_EPOCH, PAGE).await? > 0 {}
        let mut words = Vec::with_capacity(self.parts.scrubbers.len());
        for scrubber in &self.parts.scrubbers {
            words.push(scrubber.scrub().await?);
        }
        Ok(words)
    }
}

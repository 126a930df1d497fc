//! Steps of a projection's owner, each in one short transaction.

use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    Position,
    ports::{Generation, Move, StoreError, ViewCommit, ViewOutcome},
    view::RowKey,
};
use sqlx::SqliteConnection;

use super::{
    super::view_rows::{storable, text},
    SqliteStore,
    error::store_error,
    inserts::{Insert, Inserts},
    operations, projections,
};

static PUT: LazyLock<Inserts> = LazyLock::new(|| {
    Inserts::new(
        "INSERT INTO view_rows (partition, generation, collection, grp, sort, data) VALUES ",
        "(0, ?, ?, ?, ?, ?)",
        " ON CONFLICT DO UPDATE SET data = excluded.data",
    )
});
const DELETE: &str = "DELETE FROM view_rows WHERE (partition, generation, collection, grp, sort) IN ( \
     SELECT 0, ?1, k.value ->> 0, k.value ->> 1, k.value ->> 2 FROM json_each(?2) k)";
const PARK: &str = "INSERT INTO parked_events (partition, generation, position, key, aggregate_id, event_type, error, \
         attempts, parked_at) \
     SELECT 0, ?1, n.value ->> 0, n.value ->> 1, n.value ->> 2, n.value ->> 3, n.value ->> 4, n.value ->> 5, ?3 \
     FROM json_each(?2) n WHERE true ON CONFLICT DO NOTHING";
const RELEASE: &str = "DELETE FROM parked_events WHERE partition = 0 AND generation = ?1 AND skipped_at IS NULL \
     AND position IN (SELECT value FROM json_each(?2))";
const SKIP: &str = "UPDATE parked_events SET skipped_at = ?3, skipped_by = coalesce(request_principal, ''), \
         request = NULL, request_operation = NULL, request_principal = NULL \
     WHERE partition = 0 AND generation = ?1 AND skipped_at IS NULL AND position IN (SELECT value FROM json_each(?2))";
const RETRIED: &str = "UPDATE parked_events SET error = ?3, attempts = ?4, request = NULL, request_operation = NULL, \
         request_principal = NULL WHERE partition = 0 AND generation = ?1 AND position = ?2";

fn json<T: serde::Serialize>(list: &[T]) -> Result<String, StoreError> {
    serde_json::to_string(list).map_err(|error| StoreError::Refused { reason: error.to_string() })
}

fn positions(list: &[Position]) -> Result<String, StoreError> {
    json(&list.iter().map(|position| position.as_i64()).collect::<Vec<_>>())
}

impl SqliteStore {
    pub(super) async fn commit_view(&self, commit: ViewCommit) -> Result<ViewOutcome, StoreError> {
        if let Some(reason) = commit.malformed() {
            return Err(StoreError::Refused { reason });
        }
        let mut writing = self.writer.begin(commit.transition.is_some() || commit.operation.is_some()).await?;
        let (now, connection) = (self.clock.now(), &mut writing.connection);
        let before = projections::load(connection, &commit.projection).await?;
        let Some((mut ruling, before)) = before.and_then(|before| Some((before.stepped(&commit, now)?, before))) else {
            writing.rollback().await?;
            return Ok(ViewOutcome::Lost);
        };
        for (generation, step) in commit.moves() {
            let parked = apply(connection, *generation, step, now).await?;
            if *generation == before.generation {
                ruling.state.parked = before.parked.saturating_add_signed(parked);
            }
        }
        if let Some(update) = &commit.operation {
            operations::update(connection, update, now).await?;
        }
        projections::save(connection, &before, &ruling, now).await?;
        let state = projections::load(connection, &commit.projection).await?;
        writing.commit().await?;
        Ok(state.map_or(ViewOutcome::Lost, |state| ViewOutcome::Committed(Box::new(state))))
    }
}

/// Stores a move; by how much the number of waiting parked events rises.
async fn apply(
    connection: &mut SqliteConnection,
    generation: Generation,
    step: &Move,
    now: DateTime<Utc>,
) -> Result<i64, StoreError> {
    let generation = generation.0.cast_signed();
    if !step.deletes.is_empty() {
        let keys: Vec<_> =
            step.deletes.iter().map(|RowKey { collection, group, sort }| (collection, group, sort)).collect();
        let query = sqlx::query(DELETE).bind(generation).bind(json(&keys)?);
        query.execute(&mut *connection).await.map_err(store_error)?;
    }
    let rows: Vec<(&RowKey, &str)> =
        step.puts.iter().map(|row| Ok((&row.key, text(&row.data)?))).collect::<Result<_, StoreError>>()?;
    let bind = |query: Insert, (key, data): &(&RowKey, &str)| {
        let query = query.bind(generation).bind(key.collection.to_string()).bind(key.group.to_string());
        query.bind(key.sort.to_string()).bind((*data).to_owned())
    };
    PUT.run(connection, &rows, bind).await.map_err(store_error)?;
    park(connection, generation, step, now).await
}

async fn park(
    connection: &mut SqliteConnection,
    generation: i64,
    step: &Move,
    now: DateTime<Utc>,
) -> Result<i64, StoreError> {
    let mut waiting = 0_i64;
    if !step.parked.is_empty() {
        let events: Vec<_> = (step.parked.iter())
            .map(|new| {
                let (key, error) = (storable(&new.key), storable(&new.error));
                (new.position.as_i64(), key, new.aggregate_id.as_str(), new.event_type.as_str(), error, new.attempts)
            })
            .collect();
        let query = sqlx::query(PARK).bind(generation).bind(json(&events)?).bind(now.timestamp_micros());
        let done = query.execute(&mut *connection).await.map_err(store_error)?;
        waiting = waiting.saturating_add_unsigned(done.rows_affected());
    }
    if !step.released.is_empty() {
        let query = sqlx::query(RELEASE).bind(generation).bind(positions(&step.released)?);
        let done = query.execute(&mut *connection).await.map_err(store_error)?;
        waiting = waiting.saturating_sub_unsigned(done.rows_affected());
    }
    if !step.skipped.is_empty() {
        let query = sqlx::query(SKIP).bind(generation).bind(positions(&step.skipped)?).bind(now.timestamp_micros());
        let done = query.execute(&mut *connection).await.map_err(store_error)?;
        waiting = waiting.saturating_sub_unsigned(done.rows_affected());
    }
    for again in &step.retried {
        let query = sqlx::query(RETRIED).bind(generation).bind(again.position.as_i64());
        let query = query.bind(storable(&again.error)).bind(i64::from(again.attempts));
        query.execute(&mut *connection).await.map_err(store_error)?;
    }
    Ok(waiting)
}

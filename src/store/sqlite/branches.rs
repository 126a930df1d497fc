//! Branches: made, listed, deleted, and read; what is appended to them is in `branch_appends`.

use std::num::NonZeroU32;

use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    AggregateId, AggregateType, BranchId, EventFilter, EventId, Position, RecordedEvent,
    ports::{
        BRANCHES_LIVE_MAX, Branch, BranchAppend, BranchCommand, BranchCreated, BranchKey, BranchMerge, BranchStore,
        Direction, KeyRecord, LogPage, MergeOutcome, NewBranch, StoreError, StreamRange, StreamSummary, UnitOutcome,
    },
};
use futures_util::{FutureExt, future::BoxFuture};
use sqlx::{Error, Row, SqliteConnection, sqlite::SqliteRow};

use super::{
    super::{
        branch_rows::{RawBranch, RawCommand},
        rows::{UNFILTERED_ROWS, WINDOW_POSITIONS_MAX},
    },
    SqliteStore,
    error::store_error,
    events::{event, event_columns, instant, json, key_record, page, stream},
};

macro_rules! branch_columns {
    () => {
        "branch_id, name, fork_position, status, created_at, report"
    };
}

const BRANCH: &str = concat!("SELECT ", branch_columns!(), " FROM branches WHERE partition = 0 AND branch_id = ?1");
const BRANCHES: &str = concat!(
    "SELECT ",
    branch_columns!(),
    " FROM branches WHERE partition = 0 AND (?1 IS NULL OR branch_id < ?1) ORDER BY branch_id DESC LIMIT ?2"
);
const OF_KEY: &str = concat!(
    "SELECT ",
    branch_columns!(),
    ", key_fingerprint FROM branches WHERE partition = 0 AND key_principal = ?1 AND key_name = ?2"
);
const OPEN: &str = "SELECT count(*) FROM branches WHERE partition = 0 AND status = 'open'";
const CREATE: &str = "INSERT INTO branches (partition, branch_id, name, fork_position, fork_at, status, created_at, \
     key_principal, key_name, key_fingerprint) VALUES (0, ?1, ?2, ?3, ?4, 'open', ?5, ?6, ?7, ?8)";
const DELETE: [&str; 4] = [
    "DELETE FROM branch_events WHERE partition = 0 AND branch_id = ?1",
    "DELETE FROM branch_commands WHERE partition = 0 AND branch_id = ?1",
    "DELETE FROM branch_idempotency WHERE partition = 0 AND branch_id = ?1",
    "DELETE FROM branches WHERE partition = 0 AND branch_id = ?1",
];

const STREAM_FORWARD: &str = concat!(
    "SELECT ",
    event_columns!(),
    " FROM branch_events e WHERE e.partition = 0 AND e.branch_id = ?5 AND e.aggregate_id = ?1 \
     AND e.sequence BETWEEN ?2 AND ?3 ORDER BY e.sequence LIMIT ?4"
);
const STREAM_BACKWARD: &str = concat!(
    "SELECT ",
    event_columns!(),
    " FROM branch_events e WHERE e.partition = 0 AND e.branch_id = ?5 AND e.aggregate_id = ?1 \
     AND e.sequence BETWEEN ?2 AND ?3 ORDER BY e.sequence DESC LIMIT ?4"
);
const PAGE: &str = concat!(
    "SELECT h.head, ",
    event_columns!(),
    " FROM (SELECT coalesce((SELECT position FROM branch_events WHERE partition = 0 AND branch_id = ?8 \
         ORDER BY position DESC LIMIT 1), 0) AS head) h \
     LEFT JOIN (SELECT * FROM branch_events e WHERE e.partition = 0 AND e.branch_id = ?8 \
         AND e.position > ?1 AND e.position <= ?2 \
         AND (?3 IS NULL OR e.event_type IN (SELECT value FROM json_each(?3))) \
         AND (?4 IS NULL OR e.aggregate_type IN (SELECT value FROM json_each(?4))) \
         AND (?5 IS NULL OR e.recorded_at >= ?5) AND (?6 IS NULL OR e.recorded_at <= ?6) \
         ORDER BY e.position LIMIT ?7) e ON true ORDER BY e.position"
);
const HEAD: &str =
    "SELECT position FROM branch_events WHERE partition = 0 AND branch_id = ?1 ORDER BY position DESC LIMIT 1";
/// Its type is that of the stream's first event.
const LAST: &str = "SELECT e.aggregate_id, (SELECT f.aggregate_type FROM branch_events f WHERE f.partition = 0 \
         AND f.branch_id = ?1 AND f.aggregate_id = ?2 ORDER BY f.sequence LIMIT 1), \
         e.sequence, e.chain, e.position, e.recorded_at \
     FROM branch_events e WHERE e.partition = 0 AND e.branch_id = ?1 AND e.aggregate_id = ?2 \
     ORDER BY e.sequence DESC LIMIT 1";
const STREAMS: &str = "SELECT e.aggregate_id, f.aggregate_type, e.sequence, e.chain, e.position, e.recorded_at \
     FROM (SELECT aggregate_id, min(sequence) AS first, max(sequence) AS last FROM branch_events \
         WHERE partition = 0 AND branch_id = ?1 AND aggregate_id > ?2 GROUP BY aggregate_id) s \
     JOIN branch_events f ON f.partition = 0 AND f.branch_id = ?1 AND f.aggregate_id = s.aggregate_id \
         AND f.sequence = s.first AND (?3 IS NULL OR f.aggregate_type = ?3) \
     JOIN branch_events e ON e.partition = 0 AND e.branch_id = ?1 AND e.aggregate_id = s.aggregate_id \
         AND e.sequence = s.last ORDER BY e.aggregate_id LIMIT ?4";
const EVENTS_BY_ID: &str = concat!(
    "SELECT ",
    event_columns!(),
    " FROM branch_events e WHERE e.partition = 0 AND e.branch_id = ?2 \
     AND e.event_id IN (SELECT unhex(value) FROM json_each(?1)) ORDER BY e.position"
);
const KEY: &str = "SELECT fingerprint, outcome FROM branch_idempotency \
     WHERE partition = 0 AND branch_id = ?1 AND principal = ?2 AND key = ?3";
const SWEEP: &str = "DELETE FROM branch_idempotency WHERE (partition, branch_id, principal, key) IN ( \
         SELECT partition, branch_id, principal, key FROM branch_idempotency WHERE partition = 0 AND branch_id = ?1 \
         AND recorded_at < ?2 ORDER BY recorded_at LIMIT ?3)";
const COMMANDS: &str = "SELECT position, command_id, aggregate_id, command_type, content FROM branch_commands \
     WHERE partition = 0 AND branch_id = ?1 AND position > ?2 ORDER BY position LIMIT ?3";

fn branch(row: &SqliteRow) -> Result<Branch, StoreError> {
    let raw = || -> Result<RawBranch, Error> {
        Ok(RawBranch {
            id: row.try_get(0)?,
            name: row.try_get(1)?,
            fork_position: row.try_get(2)?,
            status: row.try_get(3)?,
            created_at: instant(row, 4)?,
            report: row.try_get(5)?,
        })
    };
    raw().map_err(store_error)?.checked()
}

fn command(row: &SqliteRow) -> Result<BranchCommand, StoreError> {
    let raw = || -> Result<RawCommand, Error> {
        Ok(RawCommand {
            position: row.try_get(0)?,
            command_id: row.try_get(1)?,
            aggregate_id: row.try_get(2)?,
            command_type: row.try_get(3)?,
            content: row.try_get(4)?,
        })
    };
    raw().map_err(store_error)?.checked()
}

/// One branch, as this connection sees it.
pub(super) async fn one(connection: &mut SqliteConnection, id: BranchId) -> Result<Option<Branch>, StoreError> {
    let row = sqlx::query(BRANCH).bind(id.0).fetch_optional(connection).await.map_err(store_error)?;
    row.as_ref().map(branch).transpose()
}

async fn of_key(connection: &mut SqliteConnection, key: &BranchKey) -> Result<Option<BranchCreated>, StoreError> {
    let query = sqlx::query(OF_KEY).bind(&*key.principal).bind(&*key.key);
    let Some(row) = query.fetch_optional(connection).await.map_err(store_error)? else { return Ok(None) };
    let fingerprint: Vec<u8> = row.try_get(6).map_err(store_error)?;
    let is_same = fingerprint[..] == key.fingerprint[..];
    Ok(Some(if is_same { BranchCreated::Known(branch(&row)?) } else { BranchCreated::KeyReused }))
}

impl SqliteStore {
    async fn create(&self, new: NewBranch) -> Result<BranchCreated, StoreError> {
        let mut writing = self.writer.begin(true).await?;
        if let Some(key) = &new.key
            && let Some(known) = of_key(&mut writing.connection, key).await?
        {
            writing.rollback().await?;
            return Ok(known);
        }
        let open: i64 = sqlx::query_scalar(OPEN).fetch_one(&mut writing.connection).await.map_err(store_error)?;
        if usize::try_from(open).unwrap_or(usize::MAX) >= BRANCHES_LIVE_MAX {
            writing.rollback().await?;
            return Ok(BranchCreated::Full);
        }
        let key = new.key.as_ref();
        let query = sqlx::query(CREATE).bind(new.id.0).bind(&new.name).bind(new.fork.as_i64());
        let query = query.bind(new.fork_at.timestamp_micros()).bind(self.clock.now().timestamp_micros());
        let query = query.bind(key.map(|key| &*key.principal)).bind(key.map(|key| &*key.key));
        let query = query.bind(key.map(|key| key.fingerprint.to_vec()));
        query.execute(&mut writing.connection).await.map_err(store_error)?;
        let made = one(&mut writing.connection, new.id).await?;
        writing.commit().await?;
        let missing = || StoreError::Corrupt { reason: format!("branch {} was made and is not there", new.id) };
        made.map(BranchCreated::Created).ok_or_else(missing)
    }

    async fn delete(&self, id: BranchId) -> Result<bool, StoreError> {
        let mut writing = self.writer.begin(true).await?;
        let mut deleted = 0;
        for statement in DELETE {
            let done = sqlx::query(statement).bind(id.0).execute(&mut writing.connection).await.map_err(store_error)?;
            deleted = done.rows_affected();
        }
        writing.commit().await?;
        Ok(deleted > 0)
    }

    async fn page_on(
        &self,
        id: BranchId,
        after: Position,
        filter: &EventFilter,
        limit: i64,
    ) -> Result<LogPage, StoreError> {
        let window_end = after.as_i64().saturating_add(WINDOW_POSITIONS_MAX);
        let rows_max = if filter.correlation_id.is_some() { limit.max(UNFILTERED_ROWS) } else { limit };
        let types: Vec<&str> = filter.event_types.iter().map(|kind| kind.as_str()).collect();
        let kinds: Vec<&str> = filter.aggregate_types.iter().map(|kind| kind.as_str()).collect();
        let query = sqlx::query(PAGE).bind(after.as_i64()).bind(window_end).bind(json(types)?).bind(json(kinds)?);
        let query = query.bind(filter.from_time.map(|from| from.timestamp_micros()));
        let query = query.bind(filter.to_time.map(|to| to.timestamp_micros())).bind(rows_max).bind(id.0);
        let rows = query.fetch_all(&self.pool).await.map_err(store_error)?;
        page(&rows, after, filter, limit, rows_max)
    }
}

impl BranchStore for SqliteStore {
    fn create_branch(&self, new: NewBranch) -> BoxFuture<'_, Result<BranchCreated, StoreError>> {
        self.create(new).boxed()
    }

    fn branch(&self, id: BranchId) -> BoxFuture<'_, Result<Option<Branch>, StoreError>> {
        async move {
            let row = sqlx::query(BRANCH).bind(id.0).fetch_optional(&self.pool).await.map_err(store_error)?;
            row.as_ref().map(branch).transpose()
        }
        .boxed()
    }

    fn branches(&self, before: Option<BranchId>, limit: NonZeroU32) -> BoxFuture<'_, Result<Vec<Branch>, StoreError>> {
        async move {
            let query = sqlx::query(BRANCHES).bind(before.map(|id| id.0)).bind(i64::from(limit.get()));
            query.fetch_all(&self.pool).await.map_err(store_error)?.iter().map(branch).collect()
        }
        .boxed()
    }

    fn delete_branch(&self, id: BranchId) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.delete(id).boxed()
    }

    fn append_on(&self, id: BranchId, append: BranchAppend) -> BoxFuture<'_, Result<Vec<UnitOutcome>, StoreError>> {
        self.append_to_branch(id, append).boxed()
    }

    fn read_stream_on<'a>(
        &'a self,
        id: BranchId,
        stream: &'a AggregateId,
        range: StreamRange,
    ) -> BoxFuture<'a, Result<Vec<RecordedEvent>, StoreError>> {
        async move {
            let query = match range.direction {
                Direction::Forward => STREAM_FORWARD,
                Direction::Backward => STREAM_BACKWARD,
            };
            let query = sqlx::query(query).bind(stream.as_str()).bind(range.from.as_i64()).bind(range.to.as_i64());
            let query = query.bind(i64::from(range.limit.get())).bind(id.0);
            query.fetch_all(&self.pool).await.map_err(store_error)?.iter().map(|row| event(row, 0)).collect()
        }
        .boxed()
    }

    fn read_all_on<'a>(
        &'a self,
        id: BranchId,
        after: Position,
        filter: &'a EventFilter,
        limit: NonZeroU32,
    ) -> BoxFuture<'a, Result<LogPage, StoreError>> {
        self.page_on(id, after, filter, i64::from(limit.get())).boxed()
    }

    fn head_on(&self, id: BranchId) -> BoxFuture<'_, Result<Option<Position>, StoreError>> {
        async move {
            let head: Option<i64> =
                sqlx::query_scalar(HEAD).bind(id.0).fetch_optional(&self.pool).await.map_err(store_error)?;
            Ok(head.map(Position::from_i64))
        }
        .boxed()
    }

    fn stream_on<'a>(
        &'a self,
        id: BranchId,
        stream_id: &'a AggregateId,
    ) -> BoxFuture<'a, Result<Option<StreamSummary>, StoreError>> {
        async move {
            let query = sqlx::query(LAST).bind(id.0).bind(stream_id.as_str());
            query.fetch_optional(&self.pool).await.map_err(store_error)?.as_ref().map(stream).transpose()
        }
        .boxed()
    }

    fn streams_on<'a>(
        &'a self,
        id: BranchId,
        aggregate_type: Option<&'a AggregateType>,
        after: Option<&'a AggregateId>,
        limit: NonZeroU32,
    ) -> BoxFuture<'a, Result<Vec<StreamSummary>, StoreError>> {
        async move {
            let query = sqlx::query(STREAMS).bind(id.0).bind(after.map_or("", AggregateId::as_str));
            let query = query.bind(aggregate_type.map(AggregateType::as_str)).bind(i64::from(limit.get()));
            query.fetch_all(&self.pool).await.map_err(store_error)?.iter().map(stream).collect()
        }
        .boxed()
    }

    fn find_events_on<'a>(
        &'a self,
        id: BranchId,
        ids: &'a [EventId],
    ) -> BoxFuture<'a, Result<Vec<RecordedEvent>, StoreError>> {
        async move {
            let ids: Vec<String> = ids.iter().map(|id| id.0.simple().to_string()).collect();
            let ids = json(ids.iter().map(String::as_str).collect())?;
            let rows = sqlx::query(EVENTS_BY_ID).bind(ids).bind(id.0).fetch_all(&self.pool).await;
            rows.map_err(store_error)?.iter().map(|row| event(row, 0)).collect()
        }
        .boxed()
    }

    fn find_key_on<'a>(
        &'a self,
        id: BranchId,
        principal: &'a str,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<KeyRecord>, StoreError>> {
        async move {
            let query = sqlx::query(KEY).bind(id.0).bind(principal).bind(key);
            let row = query.fetch_optional(&self.pool).await.map_err(store_error)?;
            row.map(|row| key_record(&row, 0, principal, key)).transpose()
        }
        .boxed()
    }

    fn sweep_keys_on(
        &self,
        id: BranchId,
        before: DateTime<Utc>,
        limit: NonZeroU32,
    ) -> BoxFuture<'_, Result<u64, StoreError>> {
        async move {
            let query = sqlx::query(SWEEP).bind(id.0).bind(before.timestamp_micros()).bind(i64::from(limit.get()));
            self.journal.unflushed(query).await
        }
        .boxed()
    }

    fn commands_on(
        &self,
        id: BranchId,
        after: Position,
        limit: NonZeroU32,
    ) -> BoxFuture<'_, Result<Vec<BranchCommand>, StoreError>> {
        async move {
            let query = sqlx::query(COMMANDS).bind(id.0).bind(after.as_i64()).bind(i64::from(limit.get()));
            query.fetch_all(&self.pool).await.map_err(store_error)?.iter().map(command).collect()
        }
        .boxed()
    }

    fn merge_branch(&self, id: BranchId, merge: BranchMerge) -> BoxFuture<'_, Result<MergeOutcome, StoreError>> {
        self.journal.merge(id, merge).boxed()
    }
}

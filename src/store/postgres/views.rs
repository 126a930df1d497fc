//! The view store port over PostgreSQL: what readers and owners read. What changes a projection is in `projections`.

use std::num::NonZeroU32;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    AggregateId, EventType, Position,
    digest::row_digest,
    ports::{
        Control, Controlled, Direction, Generation, LeaseClaim, NewParked, Operation, OperationUpdate, ParkedEvent,
        ParkedFilter, ParkedRequest, ProjectionState, Revision, StoreError, Tally, VIEW_CHANGES_MAX, ViewChanges,
        ViewCommit, ViewOutcome, ViewPage, ViewStore,
    },
    view::{Row, RowKey, Selection},
};
use futures_util::{FutureExt, future::BoxFuture};
use sqlx::{Error, PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{
    super::projection_row::{signed, touched_of, unbroken, unsigned},
    PostgresStore,
    error::store_error,
    projections::bind_keys,
};

/// The served row and what it rests on in one statement, so that both are of one instant.
const ROW: &str = "SELECT p.generation, p.checkpoint, p.revision, r.sort, r.data FROM projections p \
     LEFT JOIN view_rows r ON r.partition = 0 AND r.generation = p.generation AND r.collection = $2 AND r.grp = $3 \
         AND r.sort = $4 \
     WHERE p.partition = 0 AND p.name = $1";

macro_rules! list {
    ($bounds:literal, $order:literal) => {
        concat!(
            "SELECT p.generation, p.checkpoint, p.revision, r.sort, r.data FROM projections p LEFT JOIN LATERAL ( \
                 SELECT v.sort, v.data FROM view_rows v WHERE v.partition = 0 AND v.generation = p.generation \
                     AND v.collection = $2 AND v.grp = $3 AND v.sort >= $4 AND v.sort IS DISTINCT FROM $5",
            $bounds,
            " ORDER BY v.sort ",
            $order,
            " LIMIT $6) r ON true WHERE p.partition = 0 AND p.name = $1 ORDER BY r.sort ",
            $order
        )
    };
}
// With an upper bound and without: a bound that may be absent could not be looked up in the index.
const FORWARD: &str = list!("", "ASC");
const FORWARD_TO: &str = list!(" AND v.sort <= $7", "ASC");
const BACKWARD: &str = list!("", "DESC");
const BACKWARD_TO: &str = list!(" AND v.sort <= $7", "DESC");

/// One look-up for each key, whatever the planner thinks of their number.
const ROWS: &str = "SELECT k.ordinal, r.data \
     FROM unnest($2::text[], $3::text[], $4::text[]) WITH ORDINALITY k(collection, grp, sort, ordinal) \
     CROSS JOIN LATERAL (SELECT v.data FROM view_rows v WHERE v.partition = 0 AND v.generation = $1 \
         AND v.collection = k.collection AND v.grp = k.grp AND v.sort = k.sort LIMIT 1) r";
const DUMP: &str = "SELECT collection, grp, sort, data FROM view_rows WHERE partition = 0 AND generation = $1 \
     AND (collection, grp, sort) > ($2, $3, $4) ORDER BY collection, grp, sort LIMIT $5";
const TALLIED: &str = "SELECT generation, checkpoint, shadow_generation, shadow_checkpoint FROM projections \
     WHERE partition = 0 AND name = $1 AND shadow_generation IS NOT NULL";
const PARKED_COUNT: &str = "SELECT count(*) FROM parked_events WHERE partition = 0 AND generation = $1";

macro_rules! parked {
    ($which:literal) => {
        concat!(
            "SELECT position, park_key, aggregate_id, event_type, error, attempts, parked_at, request, operation, \
                 skipped_at, skipped_by FROM parked_events \
             WHERE partition = 0 AND generation = $1 AND position > $2",
            $which,
            " ORDER BY position LIMIT $3"
        )
    };
}
const PARKED_ALL: &str = parked!("");
const PARKED_WAITING: &str = parked!(" AND skipped_at IS NULL");
const PARKED_OF_KEY: &str = parked!(" AND skipped_at IS NULL AND park_key = $4");
const PARKED_REQUESTED: &str = parked!(" AND request IS NOT NULL");
const PARKED_KEYS: &str = "SELECT DISTINCT park_key FROM parked_events WHERE partition = 0 AND generation = $1 \
     AND skipped_at IS NULL ORDER BY park_key LIMIT $2";

const CHANGES: &str = "SELECT s.name, s.since, p.checkpoint, p.revision, c.revision, c.previous_revision, c.touched \
     FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY s(name, since, ordinal) \
     JOIN projections p ON p.partition = 0 AND p.name = s.name \
     LEFT JOIN LATERAL (SELECT v.revision, v.previous_revision, v.touched FROM view_changes v \
         WHERE v.partition = 0 AND v.projection = s.name AND v.revision > s.since ORDER BY v.revision LIMIT $3) c ON true \
     ORDER BY s.ordinal, c.revision";

/// Generations that have rows or parked events, found without reading them all, and that no projection can reach.
const DEAD: &str = "WITH RECURSIVE \
     rows_of(n) AS (SELECT min(generation) FROM view_rows WHERE partition = 0 UNION ALL \
         SELECT (SELECT min(v.generation) FROM view_rows v WHERE v.partition = 0 AND v.generation > g.n) FROM rows_of g \
         WHERE g.n IS NOT NULL), \
     parked_of(n) AS (SELECT min(generation) FROM parked_events WHERE partition = 0 UNION ALL \
         SELECT (SELECT min(v.generation) FROM parked_events v WHERE v.partition = 0 AND v.generation > g.n) \
         FROM parked_of g WHERE g.n IS NOT NULL) \
     SELECT n FROM (SELECT n FROM rows_of UNION SELECT n FROM parked_of) g WHERE n IS NOT NULL AND NOT EXISTS ( \
         SELECT FROM projections p WHERE p.partition = 0 AND n IN (p.generation, p.shadow_generation, p.previous_generation)) \
     ORDER BY n LIMIT 1";
const PRUNE_ROWS: &str = "DELETE FROM view_rows WHERE ctid = ANY (ARRAY( \
     SELECT ctid FROM view_rows WHERE partition = 0 AND generation = $1 LIMIT $2 FOR UPDATE SKIP LOCKED))";
const PRUNE_PARKED: &str = "DELETE FROM parked_events WHERE ctid = ANY (ARRAY( \
     SELECT ctid FROM parked_events WHERE partition = 0 AND generation = $1 LIMIT $2 FOR UPDATE SKIP LOCKED))";
/// The newest change of each projection stays: the next one names it.
const PRUNE_CHANGES: &str = "DELETE FROM view_changes WHERE ctid = ANY (ARRAY( \
     SELECT c.ctid FROM view_changes c JOIN projections p ON p.partition = 0 AND p.name = c.projection \
     WHERE c.partition = 0 AND c.recorded_at < $1 AND c.revision < p.revision LIMIT $2 FOR UPDATE OF c SKIP LOCKED))";

/// Rows of one page of a tally.
const TALLY_ROWS: i64 = 5_000;

fn page(rows: &[PgRow]) -> Result<Option<ViewPage>, Error> {
    let Some(first) = rows.first() else { return Ok(None) };
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        // No sort: there is a projection, but no such row.
        if let Some(sort) = row.try_get::<Option<String>, _>(3)? {
            found.push((sort.into(), Bytes::from(row.try_get::<String, _>(4)?)));
        }
    }
    Ok(Some(ViewPage {
        generation: Generation(unsigned(first.try_get(0)?)),
        position: Position::from_i64(first.try_get(1)?),
        revision: Revision(unsigned(first.try_get(2)?)),
        rows: found,
    }))
}

fn row(row: &PgRow) -> Result<Row, Error> {
    let text = |column: usize| row.try_get::<String, _>(column);
    let key = RowKey { collection: text(0)?.into(), group: text(1)?.into(), sort: text(2)?.into() };
    Ok(Row { key, data: text(3)?.into() })
}

fn parked(row: &PgRow) -> Result<ParkedEvent, StoreError> {
    let columns = |row: &PgRow| -> Result<_, Error> {
        let attempts = row.try_get::<i64, _>(5)?;
        let request = match row.try_get::<Option<&str>, _>(7)? {
            Some("skip") => Some(ParkedRequest::Skip),
            Some(_) => Some(ParkedRequest::Retry),
            None => None,
        };
        let skipped = row.try_get::<Option<DateTime<Utc>>, _>(9)?.zip(row.try_get::<Option<String>, _>(10)?);
        let ids = (row.try_get::<String, _>(2)?, row.try_get::<String, _>(3)?);
        let request = request.zip(row.try_get::<Option<Uuid>, _>(8)?);
        Ok((row.try_get(0)?, row.try_get(1)?, ids, row.try_get(4)?, attempts, row.try_get(6)?, request, skipped))
    };
    let (position, key, (aggregate_id, event_type), error, attempts, parked_at, request, skipped) =
        columns(row).map_err(store_error)?;
    let corrupt = |what: &str| StoreError::Corrupt { reason: format!("parked event {position}: {what}") };
    Ok(ParkedEvent {
        event: NewParked {
            position: Position::from_i64(position),
            key,
            aggregate_id: AggregateId::new(aggregate_id).map_err(|_| corrupt("aggregate_id"))?,
            event_type: EventType::new(event_type).map_err(|_| corrupt("event_type"))?,
            error,
            attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
        },
        parked_at,
        request,
        skipped,
    })
}

/// A number of rows as the database takes it.
fn limit(most: NonZeroU32) -> i64 {
    most.get().into()
}

impl PostgresStore {
    async fn read_selection(&self, projection: &str, selection: &Selection) -> Result<Option<ViewPage>, StoreError> {
        let rows = match selection {
            Selection::Row(key) => {
                let query = sqlx::query(ROW).bind(projection).bind(&*key.collection);
                query.bind(&*key.group).bind(&*key.sort).fetch_all(&self.pool).await
            }
            Selection::List(list) => {
                let (from, to, after) = (list.from.as_deref(), list.to.as_deref(), list.after.as_deref());
                let is_forward = list.direction == Direction::Forward;
                let lower = if is_forward { from.max(after) } else { from };
                let upper = if is_forward { to } else { [to, after].into_iter().flatten().min() };
                let statement = match (is_forward, upper.is_some()) {
                    (true, false) => FORWARD,
                    (true, true) => FORWARD_TO,
                    (false, false) => BACKWARD,
                    (false, true) => BACKWARD_TO,
                };
                let query = sqlx::query(statement).bind(projection).bind(&*list.collection).bind(&*list.group);
                let query = query.bind(lower.unwrap_or_default()).bind(after).bind(limit(list.limit));
                match upper {
                    Some(upper) => query.bind(upper).fetch_all(&self.pool).await,
                    None => query.fetch_all(&self.pool).await,
                }
            }
        };
        rows.and_then(|rows| page(&rows)).map_err(store_error)
    }

    async fn tally_generations(self, projection: String) -> Result<Option<(Tally, Tally)>, StoreError> {
        const SNAPSHOT: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        let mut transaction = self.pool.begin_with(SNAPSHOT).await.map_err(store_error)?;
        let found = sqlx::query(TALLIED).bind(&projection).fetch_optional(&mut *transaction).await;
        let Some(found) = found.map_err(store_error)? else { return Ok(None) };
        let mut tallies = Vec::with_capacity(2);
        for columns in [0, 2] {
            let number = |column: usize| found.try_get::<i64, _>(column).map_err(store_error);
            let (generation, position) = (number(columns)?, Position::from_i64(number(columns + 1)?));
            tallies.push(tally(&mut transaction, generation, position).await?);
        }
        transaction.rollback().await.map_err(store_error)?;
        Ok(tallies.pop().zip(tallies.pop()).map(|(shadow, served)| (served, shadow)))
    }

    async fn remove_unreachable(&self, changes_before: DateTime<Utc>, most: NonZeroU32) -> Result<u64, StoreError> {
        let old = sqlx::query(PRUNE_CHANGES).bind(changes_before).bind(limit(most));
        let mut gone = old.execute(&self.pool).await.map_err(store_error)?.rows_affected();
        let dead = sqlx::query(DEAD).fetch_optional(&self.pool).await.map_err(store_error)?;
        let Some(dead) = dead else { return Ok(gone) };
        let generation: i64 = dead.try_get(0).map_err(store_error)?;
        for statement in [PRUNE_ROWS, PRUNE_PARKED] {
            let rest = limit(most).saturating_sub_unsigned(gone);
            if rest > 0 {
                let delete = sqlx::query(statement).bind(generation).bind(rest).execute(&self.pool).await;
                gone += delete.map_err(store_error)?.rows_affected();
            }
        }
        Ok(gone)
    }
}

/// Reads a generation page by page within one transaction.
async fn tally(session: &mut PgConnection, generation: i64, position: Position) -> Result<Tally, StoreError> {
    let (mut rows, mut digest, mut after) = (0_u64, 0_u64, (String::new(), String::new(), String::new()));
    loop {
        let query = sqlx::query(DUMP).bind(generation).bind(&after.0).bind(&after.1).bind(&after.2).bind(TALLY_ROWS);
        let page = query.fetch_all(&mut *session).await.map_err(store_error)?;
        for found in &page {
            let Row { key, data } = row(found).map_err(store_error)?;
            rows += 1;
            digest = digest.wrapping_add(row_digest(&key.collection, &key.group, &key.sort, &data));
            after = (key.collection.into_owned(), key.group.into(), key.sort.into());
        }
        if page.is_empty() {
            break;
        }
    }
    let parked = sqlx::query(PARKED_COUNT).bind(generation).fetch_one(session).await.map_err(store_error)?;
    let parked = unsigned(parked.try_get(0).map_err(store_error)?);
    Ok(Tally { generation: Generation(unsigned(generation)), position, rows, digest, parked })
}

fn changes(rows: &[PgRow]) -> Result<Vec<ViewChanges>, Error> {
    let mut all = Vec::new();
    for of_one in rows.chunk_by(|a, b| a.try_get::<&str, _>(0).ok() == b.try_get::<&str, _>(0).ok()) {
        let first = &of_one[0];
        let (since, revision) = (Revision(unsigned(first.try_get(1)?)), Revision(unsigned(first.try_get(3)?)));
        let mut stored = Vec::with_capacity(of_one.len());
        for row in of_one {
            if let Some(after) = row.try_get::<Option<i64>, _>(4)? {
                let before = Revision(unsigned(row.try_get(5)?));
                stored.push((Revision(unsigned(after)), before, touched_of(row.try_get(6)?)));
            }
        }
        all.push(ViewChanges {
            projection: first.try_get(0)?,
            position: Position::from_i64(first.try_get(2)?),
            revision,
            changes: unbroken(since, revision, stored, VIEW_CHANGES_MAX),
        });
    }
    Ok(all)
}

type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

impl ViewStore for PostgresStore {
    fn incarnation(&self) -> Uuid {
        self.store_id
    }

    fn declare<'a>(&'a self, projection: &'a str, version: u64) -> Answer<'a, ProjectionState> {
        self.declare_projection(projection, version).boxed()
    }

    fn states(&self) -> Answer<'_, Vec<ProjectionState>> {
        self.projection_states().boxed()
    }

    fn acquire(&self, claim: LeaseClaim) -> Answer<'_, Option<ProjectionState>> {
        async move { self.lease_projection(&claim).await }.boxed()
    }

    fn release<'a>(&'a self, projection: &'a str, owner: Uuid) -> Answer<'a, ()> {
        self.release_projection(projection, owner).boxed()
    }

    fn commit(&self, commit: ViewCommit) -> Answer<'_, ViewOutcome> {
        self.commit_step(commit).boxed()
    }

    fn control<'a>(&'a self, projection: &'a str, control: Control) -> Answer<'a, Controlled> {
        async move { self.control_projection(projection, &control).await }.boxed()
    }

    fn read<'a>(&'a self, projection: &'a str, selection: &'a Selection) -> Answer<'a, Option<ViewPage>> {
        self.read_selection(projection, selection).boxed()
    }

    fn rows<'a>(&'a self, generation: Generation, keys: &'a [RowKey]) -> Answer<'a, Vec<Option<Bytes>>> {
        async move {
            let keys: Vec<&RowKey> = keys.iter().collect();
            let mut found = vec![None; keys.len()];
            let query = bind_keys(sqlx::query(ROWS).bind(signed(generation.0)), &keys);
            for row in query.fetch_all(&self.pool).await.map_err(store_error)? {
                let ordinal: i64 = row.try_get(0).map_err(store_error)?;
                let place = usize::try_from(ordinal - 1).ok().and_then(|index| found.get_mut(index));
                if let Some(place) = place {
                    *place = Some(Bytes::from(row.try_get::<String, _>(1).map_err(store_error)?));
                }
            }
            Ok(found)
        }
        .boxed()
    }

    fn dump<'a>(&'a self, generation: Generation, after: Option<&'a RowKey>, most: NonZeroU32) -> Answer<'a, Vec<Row>> {
        async move {
            let (collection, group, sort) =
                after.map_or(("", "", ""), |after| (&*after.collection, &*after.group, &*after.sort));
            let query = sqlx::query(DUMP).bind(signed(generation.0)).bind(collection).bind(group).bind(sort);
            let rows = query.bind(limit(most)).fetch_all(&self.pool).await.map_err(store_error)?;
            rows.iter().map(row).collect::<Result<_, _>>().map_err(store_error)
        }
        .boxed()
    }

    fn tally<'a>(&'a self, projection: &'a str) -> Answer<'a, Option<(Tally, Tally)>> {
        // A transaction of several calls: in a task of its own, so that nobody drops it half-way.
        let work = tokio::spawn(self.clone().tally_generations(projection.to_owned()));
        async move {
            work.await
                .unwrap_or_else(|error| Err(StoreError::Unavailable { reason: format!("the tally ended: {error}") }))
        }
        .boxed()
    }

    fn parked<'a>(
        &'a self,
        generation: Generation,
        which: ParkedFilter<'a>,
        after: Position,
        most: NonZeroU32,
    ) -> Answer<'a, Vec<ParkedEvent>> {
        async move {
            let statement = match which {
                ParkedFilter::All => PARKED_ALL,
                ParkedFilter::Waiting => PARKED_WAITING,
                ParkedFilter::Key(_) => PARKED_OF_KEY,
                ParkedFilter::Requested => PARKED_REQUESTED,
            };
            let query = sqlx::query(statement).bind(signed(generation.0)).bind(after.as_i64()).bind(limit(most));
            let query = match which {
                ParkedFilter::Key(key) => query.bind(key),
                ParkedFilter::All | ParkedFilter::Waiting | ParkedFilter::Requested => query,
            };
            let rows = query.fetch_all(&self.pool).await.map_err(store_error)?;
            rows.iter().map(parked).collect()
        }
        .boxed()
    }

    fn parked_keys(&self, generation: Generation, most: NonZeroU32) -> Answer<'_, Vec<String>> {
        async move {
            let query = sqlx::query(PARKED_KEYS).bind(signed(generation.0)).bind(limit(most));
            let rows = query.fetch_all(&self.pool).await.map_err(store_error)?;
            rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map_err(store_error)
        }
        .boxed()
    }

    fn changes<'a>(&'a self, since: &'a [(String, Revision)]) -> Answer<'a, Vec<ViewChanges>> {
        async move {
            let names: Vec<&str> = since.iter().map(|(name, _)| name.as_str()).collect();
            let revisions: Vec<i64> = since.iter().map(|(_, revision)| signed(revision.0)).collect();
            let most = i64::try_from(VIEW_CHANGES_MAX).unwrap_or(i64::MAX).saturating_add(1);
            let query = sqlx::query(CHANGES).bind(names).bind(revisions).bind(most);
            let rows = query.fetch_all(&self.pool).await.map_err(store_error)?;
            changes(&rows).map_err(store_error)
        }
        .boxed()
    }

    fn prune(&self, changes_before: DateTime<Utc>, most: NonZeroU32) -> Answer<'_, u64> {
        self.remove_unreachable(changes_before, most).boxed()
    }

    fn begin_operation(&self, operation: Operation) -> Answer<'_, ()> {
        self.record_operation(operation).boxed()
    }

    fn update_operation(&self, update: OperationUpdate) -> Answer<'_, ()> {
        self.note_operation(update).boxed()
    }

    fn operation(&self, id: Uuid) -> Answer<'_, Option<Operation>> {
        self.find_operation(id).boxed()
    }

    fn operations(&self, before: Option<Uuid>, most: NonZeroU32) -> Answer<'_, Vec<Operation>> {
        self.list_operations(before, most).boxed()
    }
}

//! The view store port over PostgreSQL, and how rows are read.

use std::{num::NonZeroU32, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    Position,
    ports::{
        Control, Controlled, Generation, LeaseClaim, Operation, OperationUpdate, OperationsKept, ParkedEvent,
        ParkedFilter, ProjectionState, Revision, StoreError, Tally, ViewChanges, ViewCommit, ViewOutcome, ViewPage,
        ViewStore,
    },
    view::{ListRange, Row, RowKey, Selection},
};
use futures_util::{FutureExt, future::BoxFuture};
use sqlx::{PgConnection, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{
    super::view_rows::{Bounds, LOOK_UPS_MAX, storable},
    PostgresStore,
    error::store_error,
};

/// Rows, position and revision in one statement, so that all are of one instant; these come also when there is no row.
macro_rules! read {
    ($condition:literal, $order:literal) => {
        concat!(
            "SELECT p.generation, p.checkpoint, p.revision, r.sort, r.data FROM projections p \
             LEFT JOIN LATERAL (SELECT v.sort, v.data FROM view_rows v WHERE v.partition = 0 \
                 AND v.generation = p.generation AND v.collection = $2 AND v.grp = $3 AND ",
            $condition,
            $order,
            ") r ON true WHERE p.partition = 0 AND p.name = $1"
        )
    };
}
const ROW: &str = read!("v.sort = $4", " LIMIT 1");
const FORWARD: &str = read!("v.sort >= $4", " ORDER BY v.sort LIMIT $5");
const FORWARD_BELOW: &str = read!("v.sort >= $4 AND v.sort < $6", " ORDER BY v.sort LIMIT $5");
const BACKWARD: &str = read!("v.sort >= $4", " ORDER BY v.sort DESC LIMIT $5");
const BACKWARD_BELOW: &str = read!("v.sort >= $4 AND v.sort < $6", " ORDER BY v.sort DESC LIMIT $5");
const ROWS: &str = "SELECT k.place, r.data FROM unnest($2::text[], $3::text[], $4::text[]) \
         WITH ORDINALITY k(collection, grp, sort, place) \
     CROSS JOIN LATERAL (SELECT v.data FROM view_rows v WHERE v.partition = 0 AND v.generation = $1 \
         AND v.collection = k.collection AND v.grp = k.grp AND v.sort = k.sort LIMIT 1) r";
const DUMP: &str = "SELECT collection, grp, sort, data FROM view_rows WHERE partition = 0 AND generation = $1 \
     ORDER BY collection, grp, sort LIMIT $2";
const DUMP_AFTER: &str = "SELECT collection, grp, sort, data FROM view_rows WHERE partition = 0 AND generation = $1 \
     AND (collection, grp, sort) > ($3, $4, $5) ORDER BY collection, grp, sort LIMIT $2";

fn page(rows: &[PgRow]) -> Result<Option<ViewPage>, sqlx::Error> {
    let Some(first) = rows.first() else { return Ok(None) };
    let mut page = ViewPage {
        generation: Generation(first.try_get::<i64, _>(0)?.cast_unsigned()),
        position: Position::from_i64(first.try_get(1)?),
        revision: Revision(first.try_get::<i64, _>(2)?.cast_unsigned()),
        rows: Vec::with_capacity(rows.len()),
    };
    for row in rows {
        if let Some(sort) = row.try_get::<Option<String>, _>(3)? {
            page.rows.push((sort.into(), Bytes::from(row.try_get::<String, _>(4)?)));
        }
    }
    Ok(Some(page))
}

/// A page of a generation's rows in order.
pub(super) async fn dump(
    connection: &mut PgConnection,
    generation: Generation,
    after: Option<&RowKey>,
    limit: NonZeroU32,
) -> Result<Vec<Row>, StoreError> {
    let query = sqlx::query(if after.is_some() { DUMP_AFTER } else { DUMP });
    let mut query = query.bind(generation.0.cast_signed()).bind(i64::from(limit.get()));
    if let Some(after) = after {
        query = query.bind(&*after.collection).bind(&*after.group).bind(&*after.sort);
    }
    let rows = query.fetch_all(connection).await.map_err(store_error)?;
    let row = |row: &PgRow| -> Result<Row, sqlx::Error> {
        let (collection, group, sort): (String, String, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let key = RowKey { collection: collection.into(), group: group.into(), sort: sort.into() };
        Ok(Row { key, data: Bytes::from(row.try_get::<String, _>(3)?) })
    };
    rows.iter().map(row).collect::<Result<_, _>>().map_err(store_error)
}

impl PostgresStore {
    async fn read_row(&self, projection: &str, key: &RowKey) -> Result<Option<ViewPage>, StoreError> {
        let query = sqlx::query(ROW).bind(projection).bind(storable(&key.collection));
        let query = query.bind(storable(&key.group)).bind(storable(&key.sort));
        page(&query.fetch_all(&self.pool).await.map_err(store_error)?).map_err(store_error)
    }

    async fn read_list(&self, projection: &str, list: &ListRange) -> Result<Option<ViewPage>, StoreError> {
        let Bounds { least, below, is_forward } = Bounds::of(list);
        let query = sqlx::query(match (is_forward, &below) {
            (true, None) => FORWARD,
            (true, Some(_)) => FORWARD_BELOW,
            (false, None) => BACKWARD,
            (false, Some(_)) => BACKWARD_BELOW,
        });
        let query = query.bind(projection).bind(storable(&list.collection));
        let query = query.bind(storable(&list.group)).bind(least);
        let query = query.bind(i64::from(list.limit.get()));
        let query = if let Some(below) = below { query.bind(below) } else { query };
        page(&query.fetch_all(&self.pool).await.map_err(store_error)?).map_err(store_error)
    }

    async fn look_up(&self, generation: Generation, keys: &[RowKey]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let mut found = vec![None; keys.len()];
        for (keys, found) in keys.chunks(LOOK_UPS_MAX).zip(found.chunks_mut(LOOK_UPS_MAX)) {
            // A key that no row can have is asked for as one that no row has.
            let text = |text: fn(&RowKey) -> &str| keys.iter().map(|key| storable(text(key))).collect::<Vec<_>>();
            let query = sqlx::query(ROWS).bind(generation.0.cast_signed()).bind(text(|key| &key.collection));
            let query = query.bind(text(|key| &key.group)).bind(text(|key| &key.sort));
            for row in query.fetch_all(&self.pool).await.map_err(store_error)? {
                let place: i64 = row.try_get(0).map_err(store_error)?;
                let data: String = row.try_get(1).map_err(store_error)?;
                if let Some(found) = usize::try_from(place - 1).ok().and_then(|place| found.get_mut(place)) {
                    *found = Some(Bytes::from(data));
                }
            }
        }
        Ok(found)
    }
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
        self.acquire_projection(claim).boxed()
    }

    fn release<'a>(&'a self, projection: &'a str, owner: Uuid) -> Answer<'a, ()> {
        self.release_projection(projection, owner).boxed()
    }

    /// Safe to drop: it is one autocommitted call, which the server ends or undoes by itself.
    fn commit(&self, commit: ViewCommit) -> Answer<'_, ViewOutcome> {
        self.commit_view(commit).boxed()
    }

    fn control<'a>(&'a self, projection: &'a str, control: Control) -> Answer<'a, Controlled> {
        self.control_projection(projection, control).boxed()
    }

    fn read<'a>(&'a self, projection: &'a str, selection: &'a Selection) -> Answer<'a, Option<ViewPage>> {
        match selection {
            Selection::Row(key) => self.read_row(projection, key).boxed(),
            Selection::List(list) => self.read_list(projection, list).boxed(),
        }
    }

    fn rows<'a>(&'a self, generation: Generation, keys: &'a [RowKey]) -> Answer<'a, Vec<Option<Bytes>>> {
        self.look_up(generation, keys).boxed()
    }

    fn dump<'a>(
        &'a self,
        generation: Generation,
        after: Option<&'a RowKey>,
        limit: NonZeroU32,
    ) -> Answer<'a, Vec<Row>> {
        async move {
            let mut connection = self.pool.acquire().await.map_err(store_error)?;
            dump(&mut connection, generation, after, limit).await
        }
        .boxed()
    }

    fn tally<'a>(&'a self, projection: &'a str) -> Answer<'a, Option<(Tally, Tally)>> {
        self.measure(projection).boxed()
    }

    fn parked<'a>(
        &'a self,
        generation: Generation,
        which: ParkedFilter<'a>,
        after: Position,
        limit: NonZeroU32,
    ) -> Answer<'a, Vec<ParkedEvent>> {
        self.parked_events(generation, which, after, limit).boxed()
    }

    fn parked_keys(&self, generation: Generation, limit: NonZeroU32) -> Answer<'_, Vec<String>> {
        self.waiting_keys(generation, limit).boxed()
    }

    fn changes<'a>(&'a self, since: &'a [(String, Revision)]) -> Answer<'a, Vec<ViewChanges>> {
        self.changes_since(since).boxed()
    }

    fn prune(&self, changes_before: DateTime<Utc>, limit: NonZeroU32) -> Answer<'_, u64> {
        self.remove_unreached(changes_before, limit).boxed()
    }

    fn end_silent<'a>(&'a self, kind: &'a str, silence: Duration, reason: &'a str) -> Answer<'a, Vec<Uuid>> {
        self.end_silent_operations(kind, silence, reason).boxed()
    }

    fn prune_operations(&self, kept: OperationsKept, limit: NonZeroU32) -> Answer<'_, u64> {
        self.remove_operations(kept, limit).boxed()
    }

    fn begin_operation(&self, operation: Operation) -> Answer<'_, ()> {
        self.record_operation(operation).boxed()
    }

    fn update_operation(&self, update: OperationUpdate) -> Answer<'_, ()> {
        self.note_operation(update).boxed()
    }

    fn operation(&self, id: Uuid) -> Answer<'_, Option<Operation>> {
        self.one_operation(id).boxed()
    }

    fn operations(&self, before: Option<Uuid>, limit: NonZeroU32) -> Answer<'_, Vec<Operation>> {
        self.newest_operations(before, limit).boxed()
    }
}

//! The rows that decide who may write a projection: declared, leased, controlled.

use chrono::{DateTime, Utc};
use event_sourcing_actors::ports::{
    Checkpoint, Control, Controlled, Generation, LeaseClaim, Objection, OperationStatus, ProjectionState, Ruling,
    StoreError,
};
use sqlx::{Error, Row, SqliteConnection, sqlite::SqliteRow};
use uuid::Uuid;

use super::{
    super::{
        verdicts::replaced,
        view_rows::{
            RawCheckpoint, RawPrevious, RawProjection, RawShadow, projection_columns, request_word, storable,
            touched_bytes,
        },
    },
    SqliteStore,
    error::store_error,
    events::instant,
    operations,
};

const STATES: &str =
    concat!("SELECT ", projection_columns!(), " FROM projection_states WHERE partition = 0 ORDER BY name");
const STATE: &str =
    concat!("SELECT ", projection_columns!(), " FROM projection_states WHERE partition = 0 AND name = ?1");
/// Nobody keeps read models of another log than the one that was opened.
const SAME_LOG: &str = "SELECT 1 FROM log_head WHERE partition = 0 AND store_id = ?1";
const FRESH: &str = "UPDATE view_generations SET last = last + 1 WHERE partition = 0 RETURNING last";
const DECLARE: &str = "INSERT INTO projections (partition, name, version, generation) VALUES (0, ?1, ?2, ?3)";
const RELEASE: &str =
    "UPDATE projections SET owner = NULL, lease_until = NULL WHERE partition = 0 AND name = ?1 AND owner = ?2";
const SAVE: &str = "UPDATE projections SET version = ?2, generation = ?3, checkpoint = ?4, checkpoint_leaf = ?5, \
     revision = ?6, owner = ?7, lease_until = ?8, epoch = ?9, paused = ?10, frozen = ?11, shadow_generation = ?12, \
     shadow_version = ?13, shadow_checkpoint = ?14, shadow_leaf = ?15, shadow_operation = ?16, \
     shadow_accepts_difference = ?17, previous_generation = ?18, previous_version = ?19, previous_checkpoint = ?20, \
     previous_leaf = ?21, fault_reason = ?22, fault_position = ?23, fault_at = ?24, parked = ?25 \
     WHERE partition = 0 AND name = ?1";
const RECORD: &str = "INSERT INTO view_changes (partition, projection, revision, previous_revision, touched, recorded_at) \
     VALUES (0, ?1, ?2, ?3, ?4, ?5)";
const WAITING: &str =
    "SELECT count(*) FROM parked_events WHERE partition = 0 AND generation = ?1 AND skipped_at IS NULL";
const REQUEST: &str = "UPDATE parked_events SET request = ?3, request_operation = ?4, request_principal = ?5 \
     WHERE partition = 0 AND generation = ?1 AND position = ?2";
const REQUESTED: &str = "SELECT request_operation FROM parked_events \
     WHERE partition = 0 AND generation = ?1 AND position = ?2 AND skipped_at IS NULL";

fn checkpoint(row: &SqliteRow, first: usize) -> Result<RawCheckpoint, Error> {
    Ok(RawCheckpoint { position: row.try_get(first)?, leaf: row.try_get(first + 1)? })
}

pub(super) fn state(row: &SqliteRow) -> Result<ProjectionState, StoreError> {
    let raw = || -> Result<RawProjection, Error> {
        let (owner, shadow, previous, reason): (Option<Uuid>, Option<i64>, Option<i64>, Option<String>) =
            (row.try_get(6)?, row.try_get(11)?, row.try_get(17)?, row.try_get(21)?);
        let lease = owner.map(|owner| -> Result<_, Error> { Ok((owner, instant(row, 7)?)) });
        let shadow = shadow.map(|generation| -> Result<_, Error> {
            Ok(RawShadow {
                generation,
                version: row.try_get(12)?,
                checkpoint: checkpoint(row, 13)?,
                operation: row.try_get(15)?,
                accepts_difference: row.try_get(16)?,
            })
        });
        let previous = previous.map(|generation| -> Result<_, Error> {
            Ok(RawPrevious { generation, version: row.try_get(18)?, checkpoint: checkpoint(row, 19)? })
        });
        let fault = reason.map(|reason| -> Result<_, Error> { Ok((reason, row.try_get(22)?, instant(row, 23)?)) });
        Ok(RawProjection {
            name: row.try_get(0)?,
            version: row.try_get(1)?,
            generation: row.try_get(2)?,
            checkpoint: checkpoint(row, 3)?,
            revision: row.try_get(5)?,
            lease: lease.transpose()?,
            epoch: row.try_get(8)?,
            is_paused: row.try_get(9)?,
            is_frozen: row.try_get(10)?,
            shadow: shadow.transpose()?,
            previous: previous.transpose()?,
            fault: fault.transpose()?,
            parked: row.try_get(24)?,
            has_requests: row.try_get(25)?,
        })
    };
    raw().map_err(store_error)?.checked()
}

/// A projection's row, under the write lock.
pub(super) async fn load(
    connection: &mut SqliteConnection,
    projection: &str,
) -> Result<Option<ProjectionState>, StoreError> {
    let row = sqlx::query(STATE).bind(projection).fetch_optional(connection).await.map_err(store_error)?;
    row.as_ref().map(state).transpose()
}

/// Stores a projection's row, and what readers may notice of it. `parked` is the state's own; where the served generation
/// is another than before, it is counted anew.
pub(super) async fn save(
    connection: &mut SqliteConnection,
    before: &ProjectionState,
    ruling: &Ruling,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let Ruling { state, change } = ruling;
    if let Some(touched) = change {
        let query = sqlx::query(RECORD).bind(&state.name).bind(state.revision.0.cast_signed());
        let query = query.bind(before.revision.0.cast_signed()).bind(touched_bytes(touched));
        query.bind(now.timestamp_micros()).execute(&mut *connection).await.map_err(store_error)?;
    }
    let generation = state.generation.0.cast_signed();
    let parked: i64 = if state.generation == before.generation {
        state.parked.cast_signed()
    } else {
        sqlx::query_scalar(WAITING).bind(generation).fetch_one(&mut *connection).await.map_err(store_error)?
    };
    let leaf = |checkpoint: Checkpoint| checkpoint.leaf.map(|leaf| leaf.0.to_vec());
    let (shadow, previous) = (state.shadow.as_ref(), state.previous.as_ref());
    let query = sqlx::query(SAVE).bind(&state.name).bind(state.version.cast_signed()).bind(generation);
    let query = query.bind(state.checkpoint.position.as_i64()).bind(leaf(state.checkpoint));
    let query = query.bind(state.revision.0.cast_signed()).bind(state.lease.map(|lease| lease.owner));
    let query = query.bind(state.lease.map(|lease| lease.expires_at.timestamp_micros()));
    let query = query.bind(state.epoch.cast_signed()).bind(state.is_paused).bind(state.is_frozen);
    let query = query.bind(shadow.map(|shadow| shadow.generation.0.cast_signed()));
    let query = query.bind(shadow.map(|shadow| shadow.version.cast_signed()));
    let query = query.bind(shadow.map(|shadow| shadow.checkpoint.position.as_i64()));
    let query = query.bind(shadow.and_then(|shadow| leaf(shadow.checkpoint)));
    let query = query.bind(shadow.map(|shadow| shadow.operation));
    let query = query.bind(shadow.map(|shadow| shadow.accepts_difference));
    let query = query.bind(previous.map(|previous| previous.generation.0.cast_signed()));
    let query = query.bind(previous.map(|previous| previous.version.cast_signed()));
    let query = query.bind(previous.map(|previous| previous.checkpoint.position.as_i64()));
    let query = query.bind(previous.and_then(|previous| leaf(previous.checkpoint)));
    let query = query.bind(state.fault.as_ref().map(|fault| storable(&fault.reason).into_owned()));
    let query = query.bind(state.fault.as_ref().map(|fault| fault.position.as_i64()));
    let query = query.bind(state.fault.as_ref().map(|fault| fault.at.timestamp_micros()));
    query.bind(parked).execute(connection).await.map(|_| ()).map_err(store_error)
}

async fn fresh(connection: &mut SqliteConnection) -> Result<Generation, StoreError> {
    let fresh: i64 = sqlx::query_scalar(FRESH).fetch_one(connection).await.map_err(store_error)?;
    Ok(Generation(fresh.cast_unsigned()))
}

/// Notes what an operator wants of a parked event.
async fn settle(
    connection: &mut SqliteConnection,
    generation: Generation,
    control: &Control,
) -> Result<Result<(), Objection>, StoreError> {
    let Control::Settle { position, request, operation, principal } = control else { return Ok(Ok(())) };
    let query = sqlx::query_scalar(REQUESTED).bind(generation.0.cast_signed()).bind(position.as_i64());
    let waiting: Option<Option<Uuid>> = query.fetch_optional(&mut *connection).await.map_err(store_error)?;
    match waiting {
        None => return Ok(Err(Objection { operation: None, reason: Objection::NOT_PARKED })),
        Some(Some(operation)) => {
            return Ok(Err(Objection { operation: Some(operation), reason: Objection::REQUESTED }));
        }
        Some(None) => {}
    }
    let query = sqlx::query(REQUEST).bind(generation.0.cast_signed()).bind(position.as_i64());
    let query = query.bind(request_word(*request)).bind(operation).bind(storable(principal));
    query.execute(connection).await.map_err(store_error)?;
    Ok(Ok(()))
}

impl SqliteStore {
    pub(super) async fn declare_projection(
        &self,
        projection: &str,
        version: u64,
    ) -> Result<ProjectionState, StoreError> {
        let mut writing = self.writer.begin(true).await?;
        if load(&mut writing.connection, projection).await?.is_none() {
            let fresh = fresh(&mut writing.connection).await?;
            let query = sqlx::query(DECLARE).bind(projection).bind(version.cast_signed());
            query.bind(fresh.0.cast_signed()).execute(&mut writing.connection).await.map_err(store_error)?;
        }
        let state = load(&mut writing.connection, projection).await?;
        writing.commit().await?;
        state.ok_or_else(|| StoreError::Corrupt { reason: format!("projection {projection:?} is gone") })
    }

    pub(super) async fn projection_states(&self) -> Result<Vec<ProjectionState>, StoreError> {
        let rows = sqlx::query(STATES).fetch_all(&self.pool).await.map_err(store_error)?;
        rows.iter().map(state).collect()
    }

    async fn projection_state(&self, projection: &str) -> Result<Option<ProjectionState>, StoreError> {
        let row = sqlx::query(STATE).bind(projection).fetch_optional(&self.pool).await.map_err(store_error)?;
        row.as_ref().map(state).transpose()
    }

    pub(super) async fn acquire_projection(&self, claim: LeaseClaim) -> Result<Option<ProjectionState>, StoreError> {
        // Whoever asks in vain does not get in the way of those who write.
        let seen = self.projection_state(&claim.projection).await?;
        let Some(ruling) = seen.and_then(|state| state.leased(&claim, self.clock.now())) else { return Ok(None) };
        // A change of owner is flushed; should it only turn out under the lock, then at the second attempt.
        for is_flushed in [ruling.change.is_some(), true] {
            let mut writing = self.writer.begin(is_flushed).await?;
            let now = self.clock.now();
            let same = sqlx::query(SAME_LOG).bind(self.store_id).fetch_optional(&mut writing.connection).await;
            if same.map_err(store_error)?.is_none() {
                writing.rollback().await?;
                return Err(replaced());
            }
            let before = load(&mut writing.connection, &claim.projection).await?;
            let ruled = before.and_then(|before| Some((before.leased(&claim, now)?, before)));
            let Some((ruling, before)) = ruled else {
                writing.rollback().await?;
                return Ok(None);
            };
            if ruling.change.is_some() && !is_flushed {
                writing.rollback().await?;
                continue;
            }
            save(&mut writing.connection, &before, &ruling, now).await?;
            let state = load(&mut writing.connection, &claim.projection).await?;
            writing.commit().await?;
            return Ok(state);
        }
        Ok(None)
    }

    pub(super) async fn release_projection(&self, projection: &str, owner: Uuid) -> Result<(), StoreError> {
        let mut writing = self.writer.begin(false).await?;
        let query = sqlx::query(RELEASE).bind(projection).bind(owner);
        query.execute(&mut writing.connection).await.map_err(store_error)?;
        writing.commit().await
    }

    pub(super) async fn control_projection(
        &self,
        projection: &str,
        control: Control,
    ) -> Result<Controlled, StoreError> {
        let mut writing = self.writer.begin(true).await?;
        let (now, connection) = (self.clock.now(), &mut writing.connection);
        let Some(before) = load(connection, projection).await? else {
            writing.rollback().await?;
            return Ok(Controlled::UnknownProjection);
        };
        let fresh = if matches!(control, Control::Rebuild { .. }) { fresh(connection).await? } else { Generation(0) };
        let ruled = match before.controlled(&control, fresh) {
            Ok(ruling) => settle(connection, before.generation, &control).await?.map(|()| ruling),
            Err(objection) => Err(objection),
        };
        let ruling = match ruled {
            Ok(ruling) => ruling,
            Err(Objection { operation, reason }) => {
                writing.rollback().await?;
                return Ok(Controlled::Refused { operation, reason: reason.to_owned() });
            }
        };
        if let Some(operation) = control.operation(projection, now) {
            operations::begin(connection, &operation).await?;
        }
        if let Control::Cancel { operation } = control {
            operations::end(connection, operation, OperationStatus::Cancelled, now).await?;
        }
        save(connection, &before, &ruling, now).await?;
        let state = load(connection, projection).await?;
        writing.commit().await?;
        Ok(state.map_or(Controlled::UnknownProjection, |state| Controlled::Done(Box::new(state))))
    }
}

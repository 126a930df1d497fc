//! The rows that decide who may write a projection: declared, leased, controlled.

use std::time::Duration;

use chrono::DateTime;
use event_sourcing_actors::ports::{
    Control, Controlled, LeaseClaim, Objection, ProjectionState, REVISION_LEAP, StoreError,
};
use sqlx::{Error, Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    super::view_rows::{
        RawCheckpoint, RawPrevious, RawProjection, RawShadow, projection_columns, request_word, storable,
    },
    PostgresStore,
    error::store_error,
};

const STATES: &str =
    concat!("SELECT ", projection_columns!(), " FROM projection_states WHERE partition = 0 ORDER BY name");
const STATE: &str =
    concat!("SELECT ", projection_columns!(), " FROM projection_states WHERE partition = 0 AND name = $1");
const DECLARE: &str = concat!("SELECT ", projection_columns!(), " FROM declare_projection($1, $2)");
/// Nobody keeps read models of another log than the one that was opened: the function is not called then.
const ACQUIRE: &str = concat!(
    "SELECT ",
    projection_columns!(),
    " FROM acquire_projection($1, $2, $3, $4) \
     WHERE EXISTS (SELECT FROM log_head l WHERE l.partition = 0 AND l.store_id = $5)"
);
const RELEASE: &str =
    "UPDATE projections SET owner = NULL, lease_until = NULL WHERE partition = 0 AND name = $1 AND owner = $2";
const CONTROL: &str = "SELECT is_known, objection, in_the_way \
     FROM control_projection($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

fn checkpoint(row: &PgRow, first: usize) -> Result<RawCheckpoint, Error> {
    Ok(RawCheckpoint { position: row.try_get(first)?, leaf: row.try_get(first + 1)? })
}

pub(super) fn state(row: &PgRow) -> Result<ProjectionState, StoreError> {
    let raw = || -> Result<RawProjection, Error> {
        let (owner, shadow, previous, reason): (Option<Uuid>, Option<i64>, Option<i64>, Option<String>) =
            (row.try_get(6)?, row.try_get(11)?, row.try_get(17)?, row.try_get(21)?);
        let lease = owner.map(|owner| -> Result<_, Error> { Ok((owner, row.try_get(7)?)) });
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
        let fault = reason.map(|reason| -> Result<_, Error> { Ok((reason, row.try_get(22)?, row.try_get(23)?)) });
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

/// Nothing that readers could notice changes.
const FORGET_PREVIOUS: &str = "UPDATE projections SET previous_generation = NULL, previous_version = NULL, \
     previous_checkpoint = NULL, previous_leaf = NULL WHERE partition = 0 AND name = $1";

/// The function's word for an objection.
fn reason(word: &str) -> &'static str {
    match word {
        "rebuilding" => Objection::REBUILDING,
        "not rebuilding" => Objection::NOT_REBUILDING,
        "no previous" => Objection::NO_PREVIOUS,
        "requested" => Objection::REQUESTED,
        _ => Objection::NOT_PARKED,
    }
}

/// A wish in the function's words.
#[derive(Default)]
struct Wish<'a> {
    word: &'static str,
    operation: Option<Uuid>,
    version: Option<i64>,
    accepts_difference: Option<bool>,
    position: Option<i64>,
    request: Option<&'static str>,
    principal: Option<&'a str>,
}

impl<'a> From<&'a Control> for Wish<'a> {
    fn from(control: &'a Control) -> Self {
        match control {
            Control::Pause => Self { word: "pause", ..Self::default() },
            Control::Resume => Self { word: "resume", ..Self::default() },
            Control::Rollback => Self { word: "rollback", ..Self::default() },
            // A statement of its own.
            Control::ForgetPrevious => Self { word: "forget", ..Self::default() },
            Control::Cancel { operation } => Self { word: "cancel", operation: Some(*operation), ..Self::default() },
            Control::Rebuild { operation, version, accepts_difference } => Self {
                word: "rebuild",
                operation: Some(*operation),
                version: Some(version.cast_signed()),
                accepts_difference: Some(*accepts_difference),
                ..Self::default()
            },
            Control::Settle { position, request, operation, principal } => Self {
                word: "settle",
                operation: Some(*operation),
                position: Some(position.as_i64()),
                request: Some(request_word(*request)),
                principal: Some(principal),
                ..Self::default()
            },
        }
    }
}

/// A lease in milliseconds, as the functions take it: at most a thousand years, which a timestamp can hold.
pub(super) fn lease_ms(lease: Duration) -> i64 {
    i64::try_from(lease.as_millis()).unwrap_or(i64::MAX).min(31_536_000_000_000)
}

impl PostgresStore {
    pub(super) async fn declare_projection(
        &self,
        projection: &str,
        version: u64,
    ) -> Result<ProjectionState, StoreError> {
        let query = sqlx::query(DECLARE).bind(projection).bind(version.cast_signed());
        state(&query.fetch_one(&self.pool).await.map_err(store_error)?)
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
        let query = sqlx::query(ACQUIRE).bind(&claim.projection).bind(claim.owner).bind(lease_ms(claim.lease));
        let query = query.bind(REVISION_LEAP.cast_signed()).bind(self.store_id);
        match query.fetch_optional(&self.pool).await.map_err(store_error)? {
            Some(row) => state(&row).map(Some),
            // Another owner, or another log.
            None => self.ping().await.map(|()| None),
        }
    }

    pub(super) async fn release_projection(&self, projection: &str, owner: Uuid) -> Result<(), StoreError> {
        let query = sqlx::query(RELEASE).bind(projection).bind(owner);
        query.execute(&self.pool).await.map(|_| ()).map_err(store_error)
    }

    pub(super) async fn control_projection(
        &self,
        projection: &str,
        control: Control,
    ) -> Result<Controlled, StoreError> {
        if matches!(control, Control::ForgetPrevious) {
            let query = sqlx::query(FORGET_PREVIOUS).bind(projection);
            query.execute(&self.pool).await.map_err(store_error)?;
            let state = self.projection_state(projection).await?;
            return Ok(state.map_or(Controlled::UnknownProjection, |state| Controlled::Done(Box::new(state))));
        }
        let wish = Wish::from(&control);
        // Its instant is the database's own.
        let begun = control.operation(projection, DateTime::UNIX_EPOCH);
        let query = sqlx::query(CONTROL).bind(projection).bind(wish.word).bind(wish.operation);
        let query = query.bind(begun.as_ref().map(|operation| storable(&operation.kind)));
        let query = query.bind(begun.as_ref().map(|operation| storable(&operation.subject)));
        let query = query.bind(wish.version).bind(wish.accepts_difference).bind(wish.position);
        let query = query.bind(wish.request).bind(wish.principal.map(storable));
        let row = query.fetch_one(&self.pool).await.map_err(store_error)?;
        let (is_known, word): (bool, Option<String>) =
            (row.try_get(0).map_err(store_error)?, row.try_get(1).map_err(store_error)?);
        if let Some(word) = word {
            let operation = row.try_get(2).map_err(store_error)?;
            return Ok(Controlled::Refused { operation, reason: reason(&word).to_owned() });
        }
        let state = if is_known { self.projection_state(projection).await? } else { None };
        Ok(state.map_or(Controlled::UnknownProjection, |state| Controlled::Done(Box::new(state))))
    }
}

//! The row of a projection: read, decided on by the port's rules, moved by one call.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use event_sourcing_actors::{
    ports::{
        Control, Controlled, Generation, LeaseClaim, Move, NewParked, Objection, OperationStatus, OperationUpdate,
        ParkedRequest, ProjectionState, Ruling, StoreError, ViewCommit, ViewOutcome,
    },
    view::{Row, RowKey},
};
use serde_json::{Value, json};
use sqlx::{Error, Row as _, postgres::PgRow};
use uuid::Uuid;

use super::{
    super::projection_row::{ProjectionRow, signed, touched_bytes, unsigned},
    PostgresStore,
    error::store_error,
};

const STATES: &str = "SELECT * FROM projection_states s WHERE s.partition = 0 ORDER BY s.name";
const STATE: &str = "SELECT * FROM projection_states s WHERE s.partition = 0 AND s.name = $1";
const DECLARE: &str = "INSERT INTO projections (partition, name, row_version, version, generation, checkpoint, revision, \
         epoch, paused, frozen) VALUES (0, $1, 0, $2, $3, 0, 0, 0, false, false) \
     ON CONFLICT ON CONSTRAINT projections_pkey DO NOTHING";
const NEXT_GENERATION: &str = "UPDATE view_generations SET last = last + 1 WHERE partition = 0 RETURNING last";
const RELEASE: &str = "UPDATE projections SET owner = NULL, lease_until = NULL, row_version = row_version + 1 \
     WHERE partition = 0 AND name = $1 AND owner = $2";
const REQUESTED: &str = "SELECT operation FROM parked_events \
     WHERE partition = 0 AND generation = $1 AND position = $2 AND skipped_at IS NULL";
const MOVE: &str = "SELECT * FROM move_projection($1, $2, $3, $4::text::jsonb, $5, $6, $7, $8, $9, $10, $11, $12, $13, \
     $14, $15, $16, $17::text::jsonb)";

/// How often a decision is made again because the row has changed under it.
const DECISIONS_MAX: u32 = 16;

/// A projection's row as it was read: its state, which of its changes that is, and the instant of the look.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub state: ProjectionState,
    row_version: i64,
    looked_at: DateTime<Utc>,
}

/// The rows this process saw last: an owner's next step is decided on them, without asking.
#[derive(Debug, Default)]
pub(super) struct Remembered(Mutex<HashMap<String, Seen>>);

impl Remembered {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Seen>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A decision on a row, and what goes with it.
#[derive(Debug, Default)]
struct Step<'a> {
    lease: Option<Duration>,
    is_flushed: bool,
    moves: Vec<(Generation, &'a Move)>,
    rest: Option<Value>,
}

fn seen(row: &PgRow) -> Result<Seen, StoreError> {
    let columns = |row: &PgRow| -> Result<_, Error> {
        let raw = ProjectionRow {
            version: row.try_get("version")?,
            generation: row.try_get("generation")?,
            checkpoint: row.try_get("checkpoint")?,
            checkpoint_leaf: row.try_get("checkpoint_leaf")?,
            revision: row.try_get("revision")?,
            owner: row.try_get("owner")?,
            lease_until: row.try_get("lease_until")?,
            epoch: row.try_get("epoch")?,
            paused: row.try_get("paused")?,
            frozen: row.try_get("frozen")?,
            shadow_generation: row.try_get("shadow_generation")?,
            shadow_version: row.try_get("shadow_version")?,
            shadow_checkpoint: row.try_get("shadow_checkpoint")?,
            shadow_leaf: row.try_get("shadow_leaf")?,
            shadow_operation: row.try_get("shadow_operation")?,
            shadow_accepts_difference: row.try_get("shadow_accepts_difference")?,
            previous_generation: row.try_get("previous_generation")?,
            previous_version: row.try_get("previous_version")?,
            previous_checkpoint: row.try_get("previous_checkpoint")?,
            previous_leaf: row.try_get("previous_leaf")?,
            fault_reason: row.try_get("fault_reason")?,
            fault_position: row.try_get("fault_position")?,
            fault_at: row.try_get("fault_at")?,
        };
        let counted = (row.try_get("parked")?, row.try_get("has_requests")?);
        Ok((raw, row.try_get("name")?, counted, row.try_get("row_version")?, row.try_get("looked_at")?))
    };
    let (raw, name, (parked, has_requests), row_version, looked_at) = columns(row).map_err(store_error)?;
    Ok(Seen { state: raw.checked(name, parked, has_requests)?, row_version, looked_at })
}

/// The row as `move_projection` takes it.
fn document(state: &ProjectionState) -> Value {
    let row = ProjectionRow::from(state);
    let hex = |bytes: Vec<u8>| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let bytes = |bytes: Option<Vec<u8>>| bytes.map(|bytes| format!("\\x{}", hex(bytes)));
    json!({
        "version": row.version, "generation": row.generation, "checkpoint": row.checkpoint,
        "checkpoint_leaf": bytes(row.checkpoint_leaf), "revision": row.revision, "owner": row.owner,
        "lease_until": row.lease_until, "epoch": row.epoch, "paused": row.paused, "frozen": row.frozen,
        "shadow_generation": row.shadow_generation, "shadow_version": row.shadow_version,
        "shadow_checkpoint": row.shadow_checkpoint, "shadow_leaf": bytes(row.shadow_leaf),
        "shadow_operation": row.shadow_operation, "shadow_accepts_difference": row.shadow_accepts_difference,
        "previous_generation": row.previous_generation, "previous_version": row.previous_version,
        "previous_checkpoint": row.previous_checkpoint, "previous_leaf": bytes(row.previous_leaf),
        "fault_reason": row.fault_reason, "fault_position": row.fault_position, "fault_at": row.fault_at,
    })
}

/// Text that every database can store.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// The parked events of a step, and news of an operation, as `move_parked` takes them.
fn rest_of(moves: &[(Generation, &Move)], operation: Option<&OperationUpdate>) -> Option<Value> {
    let events = |each: fn(&Move) -> &Vec<NewParked>| -> Vec<Value> {
        let all = moves.iter().flat_map(|(generation, step)| each(step).iter().map(move |event| (generation, event)));
        all.map(|(generation, event)| {
            json!({
                "generation": signed(generation.0), "position": event.position.as_i64(),
                "park_key": storable(&event.key), "aggregate_id": event.aggregate_id, "event_type": event.event_type,
                "error": storable(&event.error), "attempts": event.attempts,
            })
        })
        .collect()
    };
    let places = |each: fn(&Move) -> &Vec<event_sourcing_actors::Position>| -> Vec<Value> {
        let all = moves.iter().flat_map(|(generation, step)| each(step).iter().map(move |place| (generation, place)));
        all.map(|(generation, place)| json!({ "generation": signed(generation.0), "position": place.as_i64() }))
            .collect()
    };
    let (parked, retried) = (events(|step| &step.parked), events(|step| &step.retried));
    let (released, skipped) = (places(|step| &step.released), places(|step| &step.skipped));
    let operations: Vec<Value> = operation.map(operation_document).into_iter().collect();
    let lists = [&parked, &retried, &released, &skipped, &operations];
    lists.iter().any(|list| !list.is_empty()).then(|| {
        json!({
            "parked": parked, "retried": retried, "released": released, "skipped": skipped,
            "operations": operations, "requested": [], "begun": [],
        })
    })
}

fn operation_document(update: &OperationUpdate) -> Value {
    json!({
        "id": update.id, "status": update.status, "done": signed(update.done), "total": signed(update.total),
        "result": update.result.as_ref().map(|result| String::from_utf8_lossy(result).into_owned()),
        "error": update.error.as_deref().map(storable),
    })
}

/// What an operator's wish stores beside the projection's row.
fn rest_of_control(projection: &str, state: &ProjectionState, control: &Control, now: DateTime<Utc>) -> Option<Value> {
    let begun: Vec<Value> = (control.operation(projection, now).into_iter())
        .map(|begun| {
            json!({ "id": begun.id, "kind": begun.kind, "subject": storable(&begun.subject), "status": begun.status })
        })
        .collect();
    let (mut requested, mut operations) = (Vec::new(), Vec::new());
    match control {
        Control::Settle { position, request, operation, principal } => requested.push(json!({
            "generation": signed(state.generation.0), "position": position.as_i64(), "operation": operation,
            "request": request_text(*request), "principal": storable(principal),
        })),
        Control::Cancel { operation } => {
            operations.push(json!({ "id": operation, "status": OperationStatus::Cancelled }));
        }
        Control::Pause | Control::Resume | Control::Rebuild { .. } | Control::Rollback => {}
    }
    let is_nothing = begun.is_empty() && requested.is_empty() && operations.is_empty();
    (!is_nothing).then(|| {
        json!({
            "begun": begun, "requested": requested, "operations": operations,
            "parked": [], "retried": [], "released": [], "skipped": [],
        })
    })
}

/// How a request is stored.
pub(super) fn request_text(request: ParkedRequest) -> &'static str {
    match request {
        ParkedRequest::Retry => "retry",
        ParkedRequest::Skip => "skip",
    }
}

impl PostgresStore {
    pub(super) async fn projection_states(&self) -> Result<Vec<ProjectionState>, StoreError> {
        let rows = sqlx::query(STATES).fetch_all(&self.pool).await.map_err(store_error)?;
        rows.iter().map(|row| seen(row).map(|seen| seen.state)).collect()
    }

    async fn look(&self, projection: &str) -> Result<Option<Seen>, StoreError> {
        let row = sqlx::query(STATE).bind(projection).fetch_optional(&self.pool).await.map_err(store_error)?;
        row.as_ref().map(seen).transpose()
    }

    pub(super) async fn declare_projection(&self, name: &str, version: u64) -> Result<ProjectionState, StoreError> {
        for _ in 0..2 {
            if let Some(seen) = self.look(name).await? {
                return Ok(seen.state);
            }
            let declare = sqlx::query(DECLARE).bind(name).bind(signed(version)).bind(self.next_generation().await?);
            declare.execute(&self.pool).await.map_err(store_error)?;
        }
        Err(StoreError::Corrupt { reason: format!("projection {name:?} was declared but is not there") })
    }

    async fn next_generation(&self) -> Result<i64, StoreError> {
        let row = sqlx::query(NEXT_GENERATION).fetch_one(&self.pool).await.map_err(store_error)?;
        row.try_get(0).map_err(store_error)
    }

    pub(super) async fn lease_projection(&self, claim: &LeaseClaim) -> Result<Option<ProjectionState>, StoreError> {
        for _ in 0..DECISIONS_MAX {
            let Some(seen) = self.look(&claim.projection).await? else { return Ok(None) };
            let Some(ruling) = seen.state.leased(claim, seen.looked_at) else { return Ok(None) };
            // A change of owner must outlive a crash: its leap is what tells undone commits from new ones.
            let step = Step { lease: Some(claim.lease), is_flushed: ruling.change.is_some(), ..Step::default() };
            if let Some(state) = self.store_step(&seen, &ruling, &step).await? {
                return Ok(Some(state));
            }
        }
        Err(contended(&claim.projection))
    }

    pub(super) async fn release_projection(&self, projection: &str, owner: Uuid) -> Result<(), StoreError> {
        let release = sqlx::query(RELEASE).bind(projection).bind(owner);
        release.execute(&self.pool).await.map(|_| ()).map_err(store_error)
    }

    pub(super) async fn commit_step(&self, commit: ViewCommit) -> Result<ViewOutcome, StoreError> {
        if let Some(reason) = commit.malformed() {
            return Err(StoreError::Refused { reason });
        }
        let moves: Vec<_> = commit.moves().map(|(generation, step)| (*generation, step)).collect();
        let step = Step {
            lease: Some(commit.lease),
            is_flushed: commit.transition.is_some() || commit.operation.is_some(),
            rest: rest_of(&moves, commit.operation.as_ref()),
            moves,
        };
        // What was seen last is as a rule what the last step of this owner left.
        let mut remembered = self.remembered.all().remove(&commit.projection);
        for _ in 0..DECISIONS_MAX {
            let is_fresh = remembered.is_none();
            let seen = match remembered.take() {
                Some(seen) => seen,
                None => match self.look(&commit.projection).await? {
                    Some(seen) => seen,
                    None => return Ok(ViewOutcome::Lost),
                },
            };
            let ruling = match seen.state.stepped(&commit, seen.looked_at) {
                Some(ruling) => ruling,
                None if is_fresh => return Ok(ViewOutcome::Lost),
                None => continue,
            };
            if let Some(state) = self.store_step(&seen, &ruling, &step).await? {
                return Ok(ViewOutcome::Committed(Box::new(state)));
            }
        }
        Err(contended(&commit.projection))
    }

    pub(super) async fn control_projection(&self, name: &str, control: &Control) -> Result<Controlled, StoreError> {
        let refused = |objection: Objection| Controlled::Refused {
            operation: objection.operation,
            reason: objection.reason.to_owned(),
        };
        let fresh = match control {
            Control::Rebuild { .. } => unsigned(self.next_generation().await?),
            _ => 0,
        };
        for _ in 0..DECISIONS_MAX {
            let Some(seen) = self.look(name).await? else { return Ok(Controlled::UnknownProjection) };
            let ruling = match seen.state.controlled(control, Generation(fresh)) {
                Ok(ruling) => ruling,
                Err(objection) => return Ok(refused(objection)),
            };
            if let Some(objection) = self.objection(&seen.state, control).await? {
                return Ok(refused(objection));
            }
            let rest = rest_of_control(name, &seen.state, control, seen.looked_at);
            let step = Step { is_flushed: true, rest, ..Step::default() };
            if let Some(state) = self.store_step(&seen, &ruling, &step).await? {
                return Ok(Controlled::Done(Box::new(state)));
            }
        }
        Err(contended(name))
    }

    /// Why a parked event cannot be settled. Each change of what is parked is a change of the projection's row, so what
    /// is read here still holds if the row does.
    async fn objection(&self, state: &ProjectionState, control: &Control) -> Result<Option<Objection>, StoreError> {
        let Control::Settle { position, .. } = control else { return Ok(None) };
        let asked = sqlx::query(REQUESTED).bind(signed(state.generation.0)).bind(position.as_i64());
        let row = asked.fetch_optional(&self.pool).await.map_err(store_error)?;
        let Some(row) = row else {
            return Ok(Some(Objection { operation: None, reason: Objection::NOT_PARKED }));
        };
        let operation: Option<Uuid> = row.try_get(0).map_err(store_error)?;
        Ok(operation.map(|operation| Objection { operation: Some(operation), reason: Objection::REQUESTED }))
    }

    /// Stores a decision, if the row is still the one it was made on.
    async fn store_step(
        &self,
        seen: &Seen,
        ruling: &Ruling,
        step: &Step<'_>,
    ) -> Result<Option<ProjectionState>, StoreError> {
        let lease_ms = step.lease.map(|lease| i64::try_from(lease.as_millis()).unwrap_or(i64::MAX));
        let query = sqlx::query(MOVE)
            .bind(seen.state.name.as_str())
            .bind(seen.row_version)
            .bind(signed(seen.state.revision.0))
            .bind(document(&ruling.state).to_string())
            .bind(lease_ms)
            .bind(step.is_flushed)
            .bind(ruling.change.as_ref().map(touched_bytes));
        let puts = step.moves.iter().flat_map(|(generation, step)| step.puts.iter().map(move |row| (generation, row)));
        let (generations, rows): (Vec<i64>, Vec<&Row>) =
            puts.map(|(generation, row)| (signed(generation.0), row)).unzip();
        let keys: Vec<&RowKey> = rows.iter().map(|row| &row.key).collect();
        // `malformed` has looked: it is text.
        let datas: Vec<&str> = rows.iter().map(|row| std::str::from_utf8(&row.data).unwrap_or("null")).collect();
        let query = bind_keys(query.bind(generations), &keys).bind(datas);
        let gone =
            step.moves.iter().flat_map(|(generation, step)| step.deletes.iter().map(move |key| (generation, key)));
        let (generations, keys): (Vec<i64>, Vec<&RowKey>) =
            gone.map(|(generation, key)| (signed(generation.0), key)).unzip();
        let query = bind_keys(query.bind(generations), &keys);
        // The row can arrive before the commit: it counts only when the whole answer is in.
        let rows = query.bind(step.rest.as_ref().map(Value::to_string)).fetch_all(&self.pool).await;
        let Some(row) = rows.map_err(store_error)?.into_iter().next() else { return Ok(None) };
        let now = self::seen(&row)?;
        let state = now.state.clone();
        self.remembered.all().insert(state.name.clone(), now);
        Ok(Some(state))
    }
}

fn contended(projection: &str) -> StoreError {
    let reason = format!("the row of projection {projection:?} changed {DECISIONS_MAX} times while it was decided on");
    StoreError::Unavailable { reason }
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

/// Collections, groups and sorts, as three lists.
pub(super) fn bind_keys<'q>(query: Query<'q>, keys: &[&RowKey]) -> Query<'q> {
    let of = |part: fn(&RowKey) -> &str| keys.iter().map(|key| part(key).to_owned()).collect::<Vec<String>>();
    query.bind(of(|key| &key.collection)).bind(of(|key| &key.group)).bind(of(|key| &key.sort))
}

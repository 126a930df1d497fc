//! Keys and audit in SQLite.

use std::num::NonZeroU32;

use chrono::{DateTime, Utc};
use event_sourcing_actors::ports::StoreError;
use futures_util::{FutureExt, future::BoxFuture};
use sqlx::{Error, Row, SqliteConnection, sqlite::SqliteRow};
use uuid::Uuid;

use super::{
    super::{
        access_rows::{audit_columns, digest, joined, outcome, roles, token_columns},
        view_rows::storable,
    },
    SqliteStore,
    error::store_error,
    events::instant,
};
use crate::auth::{
    port::{ACTIVE_TOKENS_MAX, AccessStore, AuditRecord, TokenRecord},
    retention::first_id,
};

const ADD: &str = concat!(
    "INSERT INTO tokens (partition, ",
    token_columns!(),
    ") SELECT 0, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8 WHERE (SELECT count(*) FROM tokens \
     WHERE partition = 0 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?5)) < ?9"
);
const TOKENS: &str = concat!(
    "SELECT ",
    token_columns!(),
    " FROM tokens WHERE partition = 0 AND (?1 IS NULL OR id < ?1) ORDER BY id DESC LIMIT ?2"
);
const ACTIVE: &str = concat!(
    "SELECT ",
    token_columns!(),
    " FROM tokens WHERE partition = 0 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > ?1) ORDER BY id"
);
const TOKEN: &str = concat!("SELECT ", token_columns!(), " FROM tokens WHERE partition = 0 AND id = ?1");
const REVOKE: &str = "UPDATE tokens SET revoked_at = ?2 WHERE partition = 0 AND id = ?1 AND revoked_at IS NULL";
const RECORD: &str = concat!(
    "INSERT INTO audit (partition, ",
    audit_columns!(),
    ") VALUES (0, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
);
const AUDIT: &str = concat!(
    "SELECT ",
    audit_columns!(),
    " FROM audit WHERE partition = 0 AND (?1 IS NULL OR id < ?1) ORDER BY id DESC LIMIT ?2"
);

const ANNOUNCE: &str = "INSERT INTO audit_prunings (partition, before, at) SELECT 0, ?1, ?2 \
     WHERE EXISTS (SELECT 1 FROM audit WHERE partition = 0 AND id < ?3 AND at < ?1) \
     AND NOT EXISTS (SELECT 1 FROM audit_prunings WHERE partition = 0 AND before >= ?1)";
const PRUNE: &str = "DELETE FROM audit WHERE partition = 0 AND id IN \
     (SELECT id FROM audit WHERE partition = 0 AND id < ?2 AND at < ?1 ORDER BY id LIMIT ?3)";

fn optional_instant(row: &SqliteRow, column: usize) -> Result<Option<DateTime<Utc>>, Error> {
    let micros: Option<i64> = row.try_get(column)?;
    micros.map(|_| instant(row, column)).transpose()
}

fn token(row: &SqliteRow) -> Result<TokenRecord, StoreError> {
    let texts = || -> Result<(String, Vec<u8>), Error> { Ok((row.try_get(2)?, row.try_get(3)?)) };
    let (names, bytes) = texts().map_err(store_error)?;
    let (roles, digest) = (roles(&names)?, digest(&bytes)?);
    let rest = || -> Result<TokenRecord, Error> {
        Ok(TokenRecord {
            id: row.try_get(0)?,
            name: row.try_get(1)?,
            roles,
            digest,
            created_at: instant(row, 4)?,
            created_by: row.try_get(5)?,
            expires_at: optional_instant(row, 6)?,
            revoked_at: optional_instant(row, 7)?,
        })
    };
    rest().map_err(store_error)
}

fn line(row: &SqliteRow) -> Result<AuditRecord, StoreError> {
    let name: String = row.try_get(6).map_err(store_error)?;
    let outcome = outcome(&name)?;
    let rest = || -> Result<AuditRecord, Error> {
        Ok(AuditRecord {
            id: row.try_get(0)?,
            at: instant(row, 1)?,
            principal: row.try_get(2)?,
            peer: row.try_get(3)?,
            act: row.try_get(4)?,
            target: row.try_get(5)?,
            outcome,
            status: row.try_get::<Option<i64>, _>(7)?.and_then(|status| u16::try_from(status).ok()),
            request_id: row.try_get(8)?,
            count: row.try_get::<i64, _>(9)?.cast_unsigned(),
        })
    };
    rest().map_err(store_error)
}

async fn insert(connection: &mut SqliteConnection, line: AuditRecord) -> Result<(), StoreError> {
    let query = sqlx::query(RECORD).bind(line.id).bind(line.at.timestamp_micros());
    let query = query.bind(line.principal.as_deref().map(storable)).bind(line.peer.as_deref().map(storable));
    let query = query.bind(storable(&line.act)).bind(storable(&line.target)).bind(line.outcome.as_str());
    let query = query.bind(line.status.map(i64::from)).bind(line.request_id.as_deref().map(storable));
    query.bind(line.count.cast_signed()).execute(connection).await.map(|_| ()).map_err(store_error)
}

impl SqliteStore {
    async fn add(&self, token: TokenRecord) -> Result<bool, StoreError> {
        let mut writing = self.writer.begin(true).await?;
        let query = sqlx::query(ADD).bind(token.id).bind(token.name).bind(joined(&token.roles));
        let query = query.bind(token.digest.0.to_vec()).bind(token.created_at.timestamp_micros());
        let query = query.bind(token.created_by).bind(token.expires_at.map(|at| at.timestamp_micros()));
        let query = query.bind(token.revoked_at.map(|at| at.timestamp_micros())).bind(i64::from(ACTIVE_TOKENS_MAX));
        let done = query.execute(&mut writing.connection).await.map_err(store_error)?;
        writing.commit().await?;
        Ok(done.rows_affected() > 0)
    }

    async fn revoke(&self, id: Uuid, at: DateTime<Utc>) -> Result<Option<TokenRecord>, StoreError> {
        let mut writing = self.writer.begin(true).await?;
        let query = sqlx::query(REVOKE).bind(id).bind(at.timestamp_micros());
        query.execute(&mut writing.connection).await.map_err(store_error)?;
        let row = sqlx::query(TOKEN).bind(id).fetch_optional(&mut writing.connection).await.map_err(store_error)?;
        writing.commit().await?;
        row.as_ref().map(token).transpose()
    }

    async fn append_audit(&self, lines: Vec<AuditRecord>) -> Result<(), StoreError> {
        let mut writing = self.writer.begin(true).await?;
        for line in lines {
            insert(&mut writing.connection, line).await?;
        }
        writing.commit().await
    }

    async fn announce(&self, before: DateTime<Utc>, line: AuditRecord) -> Result<bool, StoreError> {
        let mut writing = self.writer.begin(true).await?;
        let query = sqlx::query(ANNOUNCE).bind(before.timestamp_micros()).bind(line.at.timestamp_micros());
        let query = query.bind(first_id(before));
        let is_new = query.execute(&mut writing.connection).await.map_err(store_error)?.rows_affected() > 0;
        if is_new {
            insert(&mut writing.connection, line).await?;
        }
        writing.commit().await?;
        Ok(is_new)
    }

    async fn prune(&self, before: DateTime<Utc>, limit: NonZeroU32) -> Result<u64, StoreError> {
        let mut writing = self.writer.begin(true).await?;
        let query = sqlx::query(PRUNE).bind(before.timestamp_micros()).bind(first_id(before));
        let query = query.bind(i64::from(limit.get()));
        let removed = query.execute(&mut writing.connection).await.map_err(store_error)?.rows_affected();
        writing.commit().await?;
        Ok(removed)
    }
}

impl AccessStore for SqliteStore {
    fn add_token(&self, token: TokenRecord) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.add(token).boxed()
    }

    fn tokens(&self, before: Option<Uuid>, limit: NonZeroU32) -> BoxFuture<'_, Result<Vec<TokenRecord>, StoreError>> {
        async move {
            let query = sqlx::query(TOKENS).bind(before).bind(i64::from(limit.get()));
            query.fetch_all(&self.pool).await.map_err(store_error)?.iter().map(token).collect()
        }
        .boxed()
    }

    fn active_tokens(&self, now: DateTime<Utc>) -> BoxFuture<'_, Result<Vec<TokenRecord>, StoreError>> {
        async move {
            let query = sqlx::query(ACTIVE).bind(now.timestamp_micros());
            query.fetch_all(&self.pool).await.map_err(store_error)?.iter().map(token).collect()
        }
        .boxed()
    }

    fn revoke_token(&self, id: Uuid, at: DateTime<Utc>) -> BoxFuture<'_, Result<Option<TokenRecord>, StoreError>> {
        self.revoke(id, at).boxed()
    }

    fn record(&self, lines: Vec<AuditRecord>) -> BoxFuture<'_, Result<(), StoreError>> {
        self.append_audit(lines).boxed()
    }

    fn announce_pruning(&self, before: DateTime<Utc>, line: AuditRecord) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.announce(before, line).boxed()
    }

    fn prune_audit(&self, before: DateTime<Utc>, limit: NonZeroU32) -> BoxFuture<'_, Result<u64, StoreError>> {
        self.prune(before, limit).boxed()
    }

    fn audit(&self, before: Option<Uuid>, limit: NonZeroU32) -> BoxFuture<'_, Result<Vec<AuditRecord>, StoreError>> {
        async move {
            let query = sqlx::query(AUDIT).bind(before).bind(i64::from(limit.get()));
            query.fetch_all(&self.pool).await.map_err(store_error)?.iter().map(line).collect()
        }
        .boxed()
    }
}

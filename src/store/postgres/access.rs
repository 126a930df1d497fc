//! Keys and audit in PostgreSQL.

use std::num::NonZeroU32;

use chrono::{DateTime, Utc};
use event_sourcing_actors::ports::StoreError;
use futures_util::{FutureExt, future::BoxFuture};
use sqlx::{Error, Row, postgres::PgRow};
use uuid::Uuid;

use super::{
    super::{
        access_rows::{audit_columns, digest, joined, outcome, roles, token_columns},
        view_rows::storable,
    },
    PostgresStore,
    error::store_error,
};
use crate::auth::{
    port::{ACTIVE_TOKENS_MAX, AccessStore, AuditRecord, TokenRecord},
    retention::first_id,
};

const ADD: &str = concat!(
    "INSERT INTO tokens (partition, ",
    token_columns!(),
    ") SELECT 0, $1, $2, $3, $4, $5, $6, $7::timestamptz, $8::timestamptz WHERE (SELECT count(*) FROM tokens \
     WHERE partition = 0 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $5)) < $9"
);
const TOKENS: &str = concat!(
    "SELECT ",
    token_columns!(),
    " FROM tokens WHERE partition = 0 AND ($1::uuid IS NULL OR id < $1) ORDER BY id DESC LIMIT $2"
);
const ACTIVE: &str = concat!(
    "SELECT ",
    token_columns!(),
    " FROM tokens WHERE partition = 0 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > $1) ORDER BY id"
);
const TOKEN: &str = concat!("SELECT ", token_columns!(), " FROM tokens WHERE partition = 0 AND id = $1");
const REVOKE: &str = "UPDATE tokens SET revoked_at = $2 WHERE partition = 0 AND id = $1 AND revoked_at IS NULL";
/// One statement: all or nothing, also when whoever waits for it goes away.
const RECORD: &str = concat!(
    "INSERT INTO audit (partition, ",
    audit_columns!(),
    ") SELECT 0, * FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::text[], $6::text[], \
     $7::text[], $8::int[], $9::text[], $10::bigint[])"
);
const AUDIT: &str = concat!(
    "SELECT ",
    audit_columns!(),
    " FROM audit WHERE partition = 0 AND ($1::uuid IS NULL OR id < $1) ORDER BY id DESC LIMIT $2"
);

/// One statement, as above; two processes at once meet at the key.
const ANNOUNCE: &str = concat!(
    "WITH announced AS (INSERT INTO audit_prunings (partition, before, at) SELECT 0, $11::timestamptz, $2::timestamptz \
     WHERE EXISTS (SELECT 1 FROM audit WHERE partition = 0 AND id < $12::uuid AND at < $11) \
     AND NOT EXISTS (SELECT 1 FROM audit_prunings WHERE partition = 0 AND before >= $11) \
     ON CONFLICT DO NOTHING RETURNING before) INSERT INTO audit (partition, ",
    audit_columns!(),
    ") SELECT 0, $1::uuid, $2, $3::text, $4::text, $5::text, $6::text, $7::text, $8::int, $9::text, $10::bigint \
     FROM announced"
);
const PRUNE: &str = "DELETE FROM audit WHERE partition = 0 AND id IN \
     (SELECT id FROM audit WHERE partition = 0 AND id < $2 AND at < $1 ORDER BY id LIMIT $3)";

fn token(row: &PgRow) -> Result<TokenRecord, StoreError> {
    let texts = || -> Result<(String, Vec<u8>), Error> { Ok((row.try_get(2)?, row.try_get(3)?)) };
    let (names, bytes) = texts().map_err(store_error)?;
    let (roles, digest) = (roles(&names)?, digest(&bytes)?);
    let rest = || -> Result<TokenRecord, Error> {
        Ok(TokenRecord {
            id: row.try_get(0)?,
            name: row.try_get(1)?,
            roles,
            digest,
            created_at: row.try_get(4)?,
            created_by: row.try_get(5)?,
            expires_at: row.try_get(6)?,
            revoked_at: row.try_get(7)?,
        })
    };
    rest().map_err(store_error)
}

fn line(row: &PgRow) -> Result<AuditRecord, StoreError> {
    let name: String = row.try_get(6).map_err(store_error)?;
    let outcome = outcome(&name)?;
    let rest = || -> Result<AuditRecord, Error> {
        Ok(AuditRecord {
            id: row.try_get(0)?,
            at: row.try_get(1)?,
            principal: row.try_get(2)?,
            peer: row.try_get(3)?,
            act: row.try_get(4)?,
            target: row.try_get(5)?,
            outcome,
            status: row.try_get::<Option<i32>, _>(7)?.and_then(|status| u16::try_from(status).ok()),
            request_id: row.try_get(8)?,
            count: row.try_get::<i64, _>(9)?.cast_unsigned(),
        })
    };
    rest().map_err(store_error)
}

impl PostgresStore {
    async fn add(&self, token: TokenRecord) -> Result<bool, StoreError> {
        let query = sqlx::query(ADD).bind(token.id).bind(token.name).bind(joined(&token.roles));
        let query = query.bind(token.digest.0.to_vec()).bind(token.created_at).bind(token.created_by);
        let query = query.bind(token.expires_at).bind(token.revoked_at).bind(i64::from(ACTIVE_TOKENS_MAX));
        Ok(query.execute(&self.pool).await.map_err(store_error)?.rows_affected() > 0)
    }

    async fn revoke(&self, id: Uuid, at: DateTime<Utc>) -> Result<Option<TokenRecord>, StoreError> {
        sqlx::query(REVOKE).bind(id).bind(at).execute(&self.pool).await.map_err(store_error)?;
        let row = sqlx::query(TOKEN).bind(id).fetch_optional(&self.pool).await.map_err(store_error)?;
        row.as_ref().map(token).transpose()
    }

    async fn append_audit(&self, lines: Vec<AuditRecord>) -> Result<(), StoreError> {
        let text = |text: &str| storable(text).into_owned();
        let maybe = |text: &Option<String>| text.as_deref().map(|text| storable(text).into_owned());
        macro_rules! column {
            ($line:ident => $value:expr) => {
                lines.iter().map(|$line| $value).collect::<Vec<_>>()
            };
        }
        let query = sqlx::query(RECORD).bind(column!(line => line.id)).bind(column!(line => line.at));
        let query = query.bind(column!(line => maybe(&line.principal))).bind(column!(line => maybe(&line.peer)));
        let query = query.bind(column!(line => text(&line.act))).bind(column!(line => text(&line.target)));
        let query = query.bind(column!(line => line.outcome.as_str().to_owned()));
        let query = query.bind(column!(line => line.status.map(i32::from)));
        let query = query.bind(column!(line => maybe(&line.request_id)));
        let query = query.bind(column!(line => line.count.cast_signed()));
        query.execute(&self.pool).await.map(|_| ()).map_err(store_error)
    }
}

impl PostgresStore {
    async fn announce(&self, before: DateTime<Utc>, line: AuditRecord) -> Result<bool, StoreError> {
        let query = sqlx::query(ANNOUNCE).bind(line.id).bind(line.at);
        let query = query.bind(line.principal.as_deref().map(storable)).bind(line.peer.as_deref().map(storable));
        let query = query.bind(storable(&line.act)).bind(storable(&line.target)).bind(line.outcome.as_str());
        let query = query.bind(line.status.map(i32::from)).bind(line.request_id.as_deref().map(storable));
        let query = query.bind(line.count.cast_signed()).bind(before).bind(first_id(before));
        Ok(query.execute(&self.pool).await.map_err(store_error)?.rows_affected() > 0)
    }

    async fn prune(&self, before: DateTime<Utc>, limit: NonZeroU32) -> Result<u64, StoreError> {
        let query = sqlx::query(PRUNE).bind(before).bind(first_id(before)).bind(i64::from(limit.get()));
        Ok(query.execute(&self.pool).await.map_err(store_error)?.rows_affected())
    }
}

impl AccessStore for PostgresStore {
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
            let query = sqlx::query(ACTIVE).bind(now);
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

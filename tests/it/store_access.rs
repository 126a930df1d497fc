//! Keys and audit on every store: what is kept, and that nothing of it is changed.

use std::{num::NonZeroU32, sync::Arc};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use event_sourcing_actors::ports::{Clock, SystemClock};
use event_sourcing_cqrs::{
    auth::{
        Role,
        key::ApiKey,
        memory::MemoryAccess,
        port::{AccessStore, AuditRecord, Outcome, TokenRecord},
    },
    store::{PostgresOptions, PostgresStore, SqliteOptions, SqliteStore},
};
use sqlx::{ConnectOptions, sqlite::SqliteConnectOptions};
use uuid::Uuid;

use crate::support::postgres;

const MANY: NonZeroU32 = NonZeroU32::MIN.saturating_add(999);

fn token(now: DateTime<Utc>, name: &str, expires_in: Option<i64>) -> TokenRecord {
    TokenRecord {
        id: Uuid::now_v7(),
        name: name.to_owned(),
        roles: vec![Role::Writer, Role::Auditor],
        digest: ApiKey::generate().digest(),
        created_at: now,
        created_by: "test".to_owned(),
        expires_at: expires_in.map(|seconds| now + TimeDelta::seconds(seconds)),
        revoked_at: None,
    }
}

async fn keeps_keys(store: &dyn AccessStore) {
    let now = SystemClock.now().trunc_subsecs(6);
    let (one, short, other) = (token(now, "one", None), token(now, "short", Some(60)), token(now, "other", None));
    for token in [&one, &short, &other] {
        assert!(store.add_token(token.clone()).await.unwrap());
    }
    let again = TokenRecord { id: Uuid::now_v7(), ..one.clone() };
    assert!(store.add_token(again).await.is_err(), "a digest is one key's");
    assert_eq!(store.tokens(None, MANY).await.unwrap(), [other.clone(), short.clone(), one.clone()]);
    assert_eq!(store.tokens(None, NonZeroU32::MIN).await.unwrap(), std::slice::from_ref(&other));
    assert_eq!(store.tokens(Some(other.id), MANY).await.unwrap(), [short.clone(), one.clone()]);
    assert_eq!(store.active_tokens(now).await.unwrap(), [one.clone(), short.clone(), other.clone()]);
    let later = now + TimeDelta::seconds(60);
    assert_eq!(store.active_tokens(later).await.unwrap(), [one.clone(), other.clone()], "the end is exclusive");
    let revoked = TokenRecord { revoked_at: Some(now), ..other.clone() };
    assert_eq!(store.revoke_token(other.id, now).await.unwrap(), Some(revoked.clone()));
    assert_eq!(store.revoke_token(other.id, later).await.unwrap(), Some(revoked), "the first time counts");
    assert_eq!(store.revoke_token(Uuid::now_v7(), now).await.unwrap(), None);
    assert_eq!(store.active_tokens(later).await.unwrap(), [one]);
}

async fn keeps_audit(store: &dyn AccessStore) {
    let now = SystemClock.now().trunc_subsecs(6);
    let line = |outcome: Outcome, status: Option<u16>, principal: Option<&str>| AuditRecord {
        id: Uuid::now_v7(),
        at: now,
        principal: principal.map(str::to_owned),
        peer: principal.map(|_| "::1".to_owned()),
        act: "POST /x".to_owned(),
        target: "/x/日本".to_owned(),
        outcome,
        status,
        request_id: principal.map(|_| "r".to_owned()),
        count: 7,
    };
    let mut lines: Vec<_> = Outcome::ALL.iter().map(|outcome| line(*outcome, Some(599), Some("p"))).collect();
    lines.push(line(Outcome::Begun, None, None));
    store.record(lines.clone()).await.unwrap();
    store.record(Vec::new()).await.unwrap();
    let newest: Vec<_> = lines.iter().rev().cloned().collect();
    assert_eq!(store.audit(None, MANY).await.unwrap(), newest);
    assert_eq!(store.audit(Some(newest[1].id), NonZeroU32::MIN).await.unwrap(), newest[2..3]);
    // All or none.
    let fresh = line(Outcome::Begun, None, None);
    let _ = store.record(vec![fresh.clone(), lines[0].clone()]).await.unwrap_err();
    assert_eq!(store.audit(None, MANY).await.unwrap(), newest);
    // What no text of a database can hold is replaced.
    let mut strange = fresh;
    strange.target = "a\0b".to_owned();
    store.record(vec![strange]).await.unwrap();
    assert!(!store.audit(None, NonZeroU32::MIN).await.unwrap()[0].target.contains('\0'));
}

/// Lines leave once it was announced, and no others; what is announced is on record.
async fn lets_old_lines_leave(store: &dyn AccessStore) {
    let now = SystemClock.now().trunc_subsecs(6);
    let aged = |days: i64, number: u128| {
        let at = now - TimeDelta::days(days);
        let millis = u128::try_from(at.timestamp_millis()).unwrap();
        AuditRecord {
            id: Uuid::from_u128(millis << 80 | number),
            at,
            principal: None,
            peer: None,
            act: "POST /x".to_owned(),
            target: days.to_string(),
            outcome: Outcome::Succeeded,
            status: None,
            request_id: None,
            count: 1,
        }
    };
    let told = || AuditRecord { id: Uuid::now_v7(), act: "audit prune".to_owned(), ..aged(0, 0) };
    let before = now - TimeDelta::days(30);
    let lines = async || store.audit(None, MANY).await.unwrap();
    let others = lines().await;
    assert!(!store.announce_pruning(before, told()).await.unwrap(), "nothing is so old");
    assert_eq!(lines().await, others);
    store.record((1..=5).map(|number| aged(31, number)).chain([aged(29, 1)]).collect()).await.unwrap();
    let _ = store.prune_audit(before, MANY).await.unwrap_err();
    assert_eq!(lines().await.len(), others.len() + 6, "without an announcement nothing leaves");
    let announced = told();
    assert!(store.announce_pruning(before, announced.clone()).await.unwrap());
    assert!(!store.announce_pruning(before, told()).await.unwrap(), "another process of the same day");
    let three = NonZeroU32::MIN.saturating_add(2);
    assert_eq!(store.prune_audit(before, three).await.unwrap(), 3);
    let _ = store.prune_audit(now - TimeDelta::days(20), MANY).await.unwrap_err();
    assert_eq!(store.prune_audit(before, three).await.unwrap(), 2);
    assert_eq!(store.prune_audit(before, three).await.unwrap(), 0);
    let left: Vec<_> = lines().await.into_iter().filter(|line| !others.contains(line)).collect();
    assert_eq!(left, [announced, aged(29, 1)]);
}

/// After [`lets_old_lines_leave`]: what a session of the database is refused all the same.
const FORBIDDEN_STILL: [&str; 3] =
    ["DELETE FROM audit", "DELETE FROM audit_prunings", "UPDATE audit_prunings SET at = before"];

const FORBIDDEN: [&str; 8] = [
    "UPDATE audit SET count = 1",
    "DELETE FROM audit",
    "DELETE FROM tokens",
    "UPDATE tokens SET roles = 'admin'",
    "UPDATE tokens SET revoked_at = NULL",
    "UPDATE tokens SET expires_at = NULL, revoked_at = created_at WHERE expires_at IS NOT NULL",
    "UPDATE tokens SET name = 'root', revoked_at = created_at",
    "UPDATE tokens SET revoked_at = created_at WHERE revoked_at IS NOT NULL",
];

#[tokio::test]
async fn memory_keeps_keys_and_audit() {
    keeps_keys(&MemoryAccess::default()).await;
    keeps_audit(&MemoryAccess::default()).await;
    lets_old_lines_leave(&MemoryAccess::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_keeps_keys_and_audit_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.db");
    let store = SqliteStore::open(SqliteOptions::new(&path)).await.unwrap();
    keeps_keys(&store).await;
    keeps_audit(&store).await;
    let mut session = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    for statement in FORBIDDEN {
        let error = sqlx::query(statement).execute(&mut session).await.unwrap_err().to_string();
        assert!(error.contains("is refused"), "{statement}: {error}");
    }
    lets_old_lines_leave(&store).await;
    let recent = "INSERT INTO audit_prunings SELECT 0, (unixepoch() - 6 * 86400) * 1000000, 0";
    let again = "INSERT OR REPLACE INTO audit_prunings SELECT partition, before, 0 FROM audit_prunings";
    let replaced = "INSERT OR REPLACE INTO audit SELECT * FROM audit LIMIT 1";
    for statement in FORBIDDEN_STILL.into_iter().chain([recent, again, replaced]) {
        let error = sqlx::query(statement).execute(&mut session).await.unwrap_err().to_string();
        assert!(error.contains("is refused"), "{statement}: {error}");
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_keeps_keys_and_audit_and_changes_nothing() {
    let Some(database) = postgres::database().await else { return };
    let store = PostgresStore::connect(PostgresOptions::new(&database.url)).await.unwrap();
    keeps_keys(&store).await;
    keeps_audit(&store).await;
    let mut session = database.session().await;
    for statement in FORBIDDEN.into_iter().chain(["TRUNCATE audit", "TRUNCATE tokens"]) {
        let error = sqlx::query(statement).execute(&mut session).await.unwrap_err().to_string();
        assert!(error.contains("is refused"), "{statement}: {error}");
    }
    lets_old_lines_leave(&store).await;
    let recent = "INSERT INTO audit_prunings SELECT 0, now() - interval '6 days', now()";
    for statement in FORBIDDEN_STILL.into_iter().chain([recent, "TRUNCATE audit", "TRUNCATE audit_prunings"]) {
        let error = sqlx::query(statement).execute(&mut session).await.unwrap_err().to_string();
        assert!(error.contains("is refused"), "{statement}: {error}");
    }
    // One replica revokes, another knows.
    let other = PostgresStore::connect(PostgresOptions::new(&database.url)).await.unwrap();
    let active = other.active_tokens(SystemClock.now()).await.unwrap();
    store.revoke_token(active[0].id, SystemClock.now()).await.unwrap();
    assert!(other.active_tokens(SystemClock.now()).await.unwrap().iter().all(|token| token.id != active[0].id));
    let _: Arc<dyn AccessStore> = Arc::new(other);
}

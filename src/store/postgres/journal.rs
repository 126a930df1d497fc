//! The session that appends: one, of its own, thrown away whenever its state is in doubt.

use std::time::Duration;

use event_sourcing_actors::ports::{AppendBatch, StoreError, UnitOutcome};
use sqlx::{ConnectOptions, Connection, Error, PgConnection, PgPool, Row, postgres::PgConnectOptions};
use tokio::sync::Mutex;

use super::{
    super::verdicts::Verdicts,
    call::{Writer, send},
    error::store_error,
    heads::Heads,
};

/// Acknowledged means flushed, also on a server that is set up otherwise; a dead peer is noticed from both ends.
const SESSION: &str = "SELECT pg_backend_pid(), pg_is_in_recovery() OR current_setting('transaction_read_only')::bool, \
     set_config('synchronous_commit', \
         CASE current_setting('synchronous_commit') WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false), \
     set_config('default_transaction_isolation', 'read committed', false), \
     set_config('tcp_keepalives_idle', '10', false), set_config('tcp_keepalives_interval', '5', false), \
     set_config('tcp_keepalives_count', '2', false), set_config('tcp_user_timeout', '10000', false), \
     set_config('statement_timeout', $1, false), set_config('lock_timeout', '0', false), \
     set_config('plan_cache_mode', 'force_generic_plan', false), set_config('jit', 'off', false), \
     set_config('enable_hashjoin', 'off', false), set_config('enable_mergejoin', 'off', false), \
     set_config('idle_in_transaction_session_timeout', '2s', false)";

/// Some platforms refuse this one, so it goes alone.
const CONNECTION_CHECK: &str = "SELECT set_config('client_connection_check_interval', '10s', false)";

/// Ends the sessions that block ours, directly or through others that wait, if their client has been silent for a second
/// inside a transaction: its host stopped, or somebody left a console open.
const BREAK: &str = "WITH RECURSIVE blockers (pid) AS ( \
         SELECT unnest(pg_blocking_pids($1)) UNION SELECT unnest(pg_blocking_pids(pid)) FROM blockers) \
     SELECT a.pid, pg_terminate_backend(a.pid) FROM blockers JOIN pg_stat_activity a USING (pid) \
     WHERE a.pid <> $1 AND a.wait_event_type = 'Client' AND a.wait_event = 'ClientRead' \
         AND a.state_change < clock_timestamp() - interval '1 second'";

/// Waits of the journal.
#[derive(Debug, Clone, Copy)]
pub(super) struct JournalLimits {
    pub connect_timeout: Duration,
    pub append_timeout: Duration,
    pub head_wait: Duration,
}

fn unavailable(error: &Error) -> StoreError {
    StoreError::Unavailable { reason: error.to_string() }
}

/// The one session, or none while it has to be made anew.
pub(super) struct Journal {
    options: PgConnectOptions,
    pool: PgPool,
    writer: Writer,
    limits: JournalLimits,
    slot: Mutex<Slot>,
}

enum Slot {
    Empty,
    Idle(Session),
    Closed,
}

struct Session {
    connection: PgConnection,
    pid: i32,
    heads: Heads,
}

impl Journal {
    pub(super) fn new(options: PgConnectOptions, pool: PgPool, writer: Writer, limits: JournalLimits) -> Self {
        Self { options, pool, writer, limits, slot: Mutex::new(Slot::Empty) }
    }

    /// Who appends.
    pub(super) fn writer(&self) -> Writer {
        self.writer
    }

    /// Makes the session before the first append, so that what is wrong shows at once.
    pub(super) async fn connect_now(&self) -> Result<(), Error> {
        let mut slot = self.slot.lock().await;
        *slot = Slot::Idle(self.session().await?);
        Ok(())
    }

    pub(super) async fn close(&self) {
        let mut slot = self.slot.lock().await;
        if let Slot::Idle(session) = std::mem::replace(&mut *slot, Slot::Closed) {
            // The server notices a session that went without a word as well.
            let _ = session.connection.close().await;
        }
    }

    /// Sends the batch; the session goes back to its place only when the whole answer is in.
    pub(super) async fn append(&self, batch: AppendBatch) -> Result<Vec<UnitOutcome>, StoreError> {
        let mut slot = self.slot.lock().await;
        // Taken out: if this future is dropped half-way, so is the session, and nobody meets its transaction.
        let mut session = match std::mem::replace(&mut *slot, Slot::Empty) {
            Slot::Idle(session) => session,
            // Whatever keeps us from connecting, an earlier attempt with this batch may have been stored.
            Slot::Empty => self.session().await.map_err(|error| unavailable(&error))?,
            Slot::Closed => {
                *slot = Slot::Closed;
                return Err(StoreError::Unavailable { reason: "the store is closed".to_owned() });
            }
        };
        let malformed = batch.malformed();
        let verdicts = match self.call(&mut session, &batch, &malformed).await {
            Ok(verdicts) => verdicts,
            Err(error) => {
                if matches!(error, StoreError::Refused { .. }) {
                    *slot = Slot::Idle(session);
                }
                return Err(error);
            }
        };
        let outcomes = verdicts.settle(&batch, malformed);
        session.heads.learn(&batch, verdicts.head, &outcomes);
        *slot = Slot::Idle(session);
        Ok(outcomes)
    }

    /// Calls the function, and ends sessions that keep the head from it.
    async fn call(
        &self,
        session: &mut Session,
        batch: &AppendBatch,
        malformed: &[Option<String>],
    ) -> Result<Verdicts, StoreError> {
        let Session { connection, pid, heads } = session;
        // A little more than the server's own limit, which gives the better message.
        let limit = self.limits.append_timeout + Duration::from_secs(1);
        let call = tokio::time::timeout(limit, send(connection, self.writer, heads, batch, malformed));
        tokio::pin!(call);
        let answer = loop {
            tokio::select! {
                answer = &mut call => break answer,
                () = tokio::time::sleep(self.limits.head_wait) => self.break_blockers(*pid).await,
            }
        };
        match answer {
            Ok(answer) => answer.map_err(|error| match store_error(error) {
                // An answer that cannot be read says nothing about what was stored.
                StoreError::Corrupt { reason } => StoreError::Unavailable { reason },
                other => other,
            }),
            Err(_) => Err(StoreError::Unavailable { reason: format!("no answer to an append within {limit:?}") }),
        }
    }

    async fn break_blockers(&self, pid: i32) {
        let query = sqlx::query(BREAK).bind(pid).fetch_all(&self.pool);
        match tokio::time::timeout(self.limits.connect_timeout, query).await {
            Ok(Ok(rows)) => {
                for row in rows {
                    let blocker: Option<i32> = row.try_get(0).ok();
                    tracing::warn!(blocker, "ended a silent session that held the log's head");
                }
            }
            Ok(Err(error)) => tracing::warn!(%error, "cannot look for sessions that hold the log's head"),
            Err(_) => tracing::warn!("no connection to look for sessions that hold the log's head"),
        }
    }

    /// A new session on a server that accepts writes.
    async fn session(&self) -> Result<Session, Error> {
        let limit = self.limits.connect_timeout;
        let made = tokio::time::timeout(limit, async {
            let mut connection = self.options.connect().await?;
            let timeout = format!("{}ms", self.limits.append_timeout.as_millis());
            let row = sqlx::query(SESSION).bind(timeout).fetch_one(&mut connection).await?;
            if row.try_get(1)? {
                return Err(std::io::Error::other("the server is a standby or read-only").into());
            }
            if let Err(error) = sqlx::query(CONNECTION_CHECK).execute(&mut connection).await {
                tracing::info!(%error, "the server cannot watch for clients that went away");
            }
            Ok(Session { pid: row.try_get(0)?, connection, heads: Heads::default() })
        });
        made.await.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
    }
}

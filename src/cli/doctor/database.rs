//! The database: reachable, of the right schema, and set so that what it confirms is durable.

use event_sourcing_cqrs::{
    app::{AppError, Storage},
    settings::Database,
    store::OpenError,
};

use super::{super::Context, Check};

const NAME: &str = "database";

/// What was found, and whether the store may be opened.
#[cfg_attr(not(feature = "postgres"), allow(unused_mut, reason = "no other database has settings of its own"))]
pub(super) async fn checks(context: &Context) -> (Vec<Check>, bool) {
    let settings = &context.settings.event_store;
    let shown = settings.database_url.to_string();
    if settings.database_url == Database::Memory {
        let next = "choose sqlite:// or postgres:// for what must outlive the process";
        return (vec![Check::warn(NAME, "memory: is gone with the process", next)], false);
    }
    let storage = match Storage::open_to_look(settings, context.timeout).await {
        Ok(storage) => storage,
        Err(error) => return (vec![unopened(&shown, &error)], false),
    };
    let schema = storage.schema_version().await.ok().flatten().unwrap_or_default();
    let mut checks = vec![Check::pass(NAME, format!("{shown} answers; its schema {schema} is this program's"))];
    #[cfg(feature = "postgres")]
    match storage.postgres_facts().await {
        Ok(facts) => checks.extend(facts.iter().flat_map(|facts| postgres(context, facts))),
        Err(error) => checks.push(Check::warn("postgres", error.to_string(), "look into the log of PostgreSQL")),
    }
    storage.close().await;
    (checks, true)
}

fn unopened(shown: &str, error: &AppError) -> Check {
    let said = error.to_string();
    match error {
        AppError::Missing { .. } => {
            Check::warn(NAME, said, "`event-sourcing-cqrs migrate` or the first `serve` makes it; or name another")
        }
        AppError::Open(OpenError::OlderSchema { found, needed, .. }) => Check::warn(
            NAME,
            format!("{shown} has schema {found}, this program needs {needed}"),
            "back up, then `event-sourcing-cqrs migrate`; a server does it by itself at its start",
        ),
        AppError::Open(OpenError::NewerSchema { .. }) => {
            Check::fail(NAME, said, "run the newer program, or restore a backup from before the upgrade")
        }
        AppError::Open(OpenError::UnfinishedRestore { .. }) => {
            Check::fail(NAME, said, "`restore` the same file again, or `restore --discard`")
        }
        AppError::Open(OpenError::Unavailable { .. }) => {
            Check::fail(NAME, said, "start the database, and check host, port and firewall in DATABASE_URL")
        }
        AppError::Open(OpenError::Configuration { .. }) => {
            Check::fail(NAME, said, "correct DATABASE_URL as the sentence says")
        }
        _ => Check::fail(NAME, said, "correct DATABASE_URL, or restore a backup if the database is damaged"),
    }
}

/// The oldest PostgreSQL this program is for.
#[cfg(feature = "postgres")]
const VERSION_LEAST: i32 = 140_000;

#[cfg(feature = "postgres")]
fn postgres(context: &Context, facts: &event_sourcing_cqrs::store::PostgresFacts) -> Vec<Check> {
    let mut checks = Vec::new();
    let mut is = |name, holds: bool, good: String, bad: Check| {
        checks.push(if holds { Check::pass(name, good) } else { bad });
    };
    let version = &facts.version;
    is(
        "postgres version",
        facts.version_number >= VERSION_LEAST,
        format!("PostgreSQL {version}"),
        Check::fail("postgres version", format!("PostgreSQL {version} is too old"), "upgrade it to 14 or later"),
    );
    is(
        "postgres primary",
        !facts.is_standby,
        "it is no standby and takes writes".to_owned(),
        Check::fail("postgres primary", "it is a standby, which takes no writes", "name the primary in DATABASE_URL"),
    );
    let commit = &facts.synchronous_commit;
    is(
        "postgres durability",
        facts.fsync && facts.full_page_writes,
        format!("fsync and full_page_writes are on; synchronous_commit is {commit}, appends set their own"),
        Check::fail(
            "postgres durability",
            "fsync or full_page_writes is off: a power cut may lose or tear what was confirmed",
            "set fsync = on and full_page_writes = on in postgresql.conf and reload",
        ),
    );
    is(
        "postgres sessions",
        facts.keeps_sessions,
        "a session keeps its backend".to_owned(),
        Check::fail(
            "postgres sessions",
            "a pooler in transaction mode lies between: settings of sessions, LISTEN and prepared statements get lost",
            "connect to PostgreSQL itself, or set the pooler to session mode for this database",
        ),
    );
    is(
        "postgres encoding",
        facts.encoding == "UTF8",
        "text is kept as UTF-8".to_owned(),
        Check::fail(
            "postgres encoding",
            format!("text is kept as {}, which cannot hold every id", facts.encoding),
            "create the database with ENCODING 'UTF8' and move over with backup and restore",
        ),
    );
    let (most, own) =
        (i64::from(facts.max_connections), i64::from(context.settings.event_store.pool_connections_max) + 2);
    let free = most - facts.connections;
    is(
        "postgres connections",
        free >= own,
        format!(
            "{} of {most} sessions are in use, {} by this program; another server takes up to {own}",
            facts.connections, facts.own_connections
        ),
        Check::warn(
            "postgres connections",
            format!("{} of {most} sessions are in use; another server takes up to {own}", facts.connections),
            "raise max_connections, or lower event_store.pool_connections_max on each server",
        ),
    );
    checks.push(clock(facts.clock_s));
    checks
}

/// Two clocks that differ by more make instants misleading; the order of events never rests on them.
#[cfg(feature = "postgres")]
const CLOCK_SECONDS_MAX: f64 = 5.0;

#[cfg(feature = "postgres")]
fn clock(database_s: f64) -> Check {
    use event_sourcing_actors::ports::{Clock, SystemClock};
    let difference = (SystemClock.now().timestamp_micros() as f64 / 1e6 - database_s).abs();
    if difference <= CLOCK_SECONDS_MAX {
        return Check::pass("database clock", "the clocks of this machine and the database agree");
    }
    let said = format!("the clocks of this machine and the database differ by {difference:.0} s");
    Check::warn("database clock", said, "let both follow the same time server")
}

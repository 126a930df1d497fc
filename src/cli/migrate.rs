//! `migrate`.

use event_sourcing_cqrs::{app::Storage, settings::Database};
use serde::Serialize;

use super::{Context, exit::Failure, text::harmless};

#[derive(Debug, Serialize)]
struct Answer {
    database: String,
    schema_before: i64,
    schema: i64,
}

/// Brings the schema of the configured database up to date.
pub(crate) async fn run(context: Context) -> Result<(), Failure> {
    if context.url.is_some() {
        return Err(Failure::usage("migrate works on the configured database; a server migrates its own at its start"));
    }
    let settings = &context.settings.event_store;
    if settings.database_url == Database::Memory {
        return Err(Failure::usage("memory: has no schema"));
    }
    let migrated = Storage::migrate(settings, context.timeout).await?;
    let answer =
        Answer { database: settings.database_url.to_string(), schema_before: migrated.before, schema: migrated.after };
    context.output.document(&answer, || {
        let database = harmless(&answer.database);
        match answer.schema_before {
            before if before == answer.schema => format!("{database}: schema {before}, already up to date"),
            before => format!("{database}: schema {before} -> {}", answer.schema),
        }
    })
}

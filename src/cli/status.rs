//! `status`: where the store or the server stands.

use std::num::NonZeroU32;

use event_sourcing_cqrs::settings::Database;
use serde::Serialize;

use super::{Context, exit::Failure, local::Local, target::Part, text::pairs};

/// Streams are counted up to here: no store can count all of them cheaply.
const STREAMS_MAX: NonZeroU32 = NonZeroU32::MIN.saturating_add(999);

#[derive(Debug, Serialize)]
struct Status {
    store: &'static str,
    database: String,
    store_id: Option<String>,
    schema: Option<i64>,
    head_position: u64,
    /// `null` when there are at least [`STREAMS_MAX`].
    streams: Option<usize>,
    warnings: Vec<String>,
    version: &'static str,
}

/// Tells where the store, or with `--url` the server, stands.
pub(crate) async fn run(context: Context) -> Result<(), Failure> {
    if let Some(url) = &context.url {
        return of_server(&context, url).await;
    }
    let local = Local::open(&context, Part::Inspects).await?;
    let status = of_store(&context, &local).await;
    local.close().await;
    let status = status?;
    context.output.document(&status, || human(&status))
}

async fn of_store(context: &Context, local: &Local) -> Result<Status, Failure> {
    let (storage, feed) = (local.app().storage(), local.app().runtime().feed());
    let database: &Database = &context.settings.event_store.database_url;
    let streams = local.bounded(feed.streams(None, None, STREAMS_MAX)).await?.len();
    Ok(Status {
        store: storage.kind(),
        database: database.to_string(),
        store_id: storage.id().map(|id| id.to_string()),
        schema: local.bounded(storage.schema_version()).await?,
        head_position: local.bounded(feed.head()).await?.0,
        streams: Some(streams).filter(|streams| *streams < STREAMS_MAX.get() as usize),
        warnings: context.settings.warnings(),
        version: env!("CARGO_PKG_VERSION"),
    })
}

fn human(status: &Status) -> String {
    let unknown = || "-".to_owned();
    let mut rows = vec![
        ("store", status.store.to_owned()),
        ("database", status.database.clone()),
        ("store id", status.store_id.clone().unwrap_or_else(unknown)),
        ("schema", status.schema.map_or_else(unknown, |schema| schema.to_string())),
        ("head position", status.head_position.to_string()),
        ("streams", status.streams.map_or_else(|| format!("{STREAMS_MAX} or more"), |streams| streams.to_string())),
        ("program", status.version.to_owned()),
    ];
    rows.extend(status.warnings.iter().map(|warning| ("warning", warning.clone())));
    pairs(&rows)
}

#[cfg(not(feature = "http"))]
async fn of_server(_: &Context, _: &str) -> Result<(), Failure> {
    Err(Failure::usage("--url needs the feature \"http\", which this program was built without"))
}

#[cfg(feature = "http")]
async fn of_server(context: &Context, url: &str) -> Result<(), Failure> {
    use serde_json::json;

    let remote = super::remote::Remote::new(url, context.timeout)?.with_token(context.token.clone());
    let (code, health) = remote.document("/health").await?;
    // Health answers everybody; what else is asked needs a token where the server asks for one.
    let version = remote.version().await;
    let document = json!({ "health": health, "version": version.as_ref().ok() });
    context.output.document(&document, || {
        let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let mut rows = vec![
            ("server", url.to_owned()),
            ("health", text(&health["status"])),
            ("program", version.as_ref().map_or_else(|_| "-".to_owned(), |version| text(&version["version"]))),
        ];
        for (name, checks) in health["checks"].as_object().into_iter().flatten() {
            let check = &checks[0];
            let words = [&check["status"], &check["observedValue"], &check["observedUnit"], &check["output"]];
            let words = words.into_iter().filter(|word| !word.is_null()).map(text);
            rows.push((name, words.collect::<Vec<_>>().join(" ")));
        }
        pairs(&rows)
    })?;
    version?;
    // The server has answered what there is to say; the code says that it is not serving.
    if code == 200 { Ok(()) } else { Err(Failure::silent(super::exit::Exit::Unavailable)) }
}

//! `openapi`: the document of the HTTP API under these settings, without opening the store; with `--url` that of a
//! running server.

use super::{Context, exit::Failure};

/// Prints it.
#[cfg(feature = "http")]
pub(crate) async fn run(context: Context) -> Result<(), Failure> {
    use event_sourcing_cqrs::{
        app::App,
        http::{Registered, openapi},
        settings::AuthMode,
    };

    use super::{output::Format, remote::Remote};

    let document = match &context.url {
        Some(url) => Remote::new(url, context.timeout)?.openapi().await?,
        None => {
            let is_guarded = context.settings.auth.mode != AuthMode::None;
            let app = App::builder().settings(context.settings).registered()?;
            openapi(Registered { catalog: &app.catalog, queries: &app.queries, sagas: &app.sagas, is_guarded })
        }
    };
    let text = match context.output.format {
        // It is a document for programs: people get the same.
        Format::Human | Format::Json => serde_json::to_string_pretty(&document),
        Format::Ndjson => serde_json::to_string(&document),
    };
    context.output.text(&text.map_err(std::io::Error::from)?)
}

/// There is no HTTP API to be described.
#[cfg(not(feature = "http"))]
pub(crate) async fn run(_: Context) -> Result<(), Failure> {
    Err(Failure::usage("openapi needs the feature \"http\", which this program was built without"))
}

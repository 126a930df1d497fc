//! `serve`.

use super::{Context, exit::Failure};

/// Serves until it is told to stop.
#[cfg(feature = "http")]
pub(crate) async fn run(context: Context) -> Result<(), Failure> {
    use super::exit::Exit;
    use crate::bootstrap::{ServeError, serve};

    if context.url.is_some() {
        return Err(Failure::usage("--url is for words that talk to a server, not for the server itself"));
    }
    Box::pin(serve(context.settings, context.log, context.tracing)).await.map_err(|error| match error {
        ServeError::App(error) => error.into(),
        ServeError::Name { .. } => Failure::usage(error.to_string()),
        ServeError::Bind { .. } | ServeError::Io(_) | ServeError::Died(_) | ServeError::Stop(_) => {
            Failure::new(Exit::Failed, error.to_string())
        }
    })
}

/// There is no door to serve at.
#[cfg(not(feature = "http"))]
pub(crate) async fn run(_: Context) -> Result<(), Failure> {
    Err(Failure::usage("serve needs the feature \"http\", which this program was built without"))
}

//! `serve`.

use super::{Context, exit::Failure};

/// Serves until it is told to stop.
pub(crate) async fn run(_context: Context) -> Result<(), Failure> {
    Err(Failure::usage("not yet"))
}

/// Resolves when the process is told to stop.
pub(crate) fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}

//! How the process ends: told by a signal, in an order that loses no answer.
//!
//! Not ready → grace for load balancers → listener closed, event streams ended, requests in flight answered → runtime
//! drained → store closed. A second signal ends all of it at once.

use std::io;

#[cfg(feature = "http")]
pub(crate) use order::{Ending, StopError};

/// The signals that end a process, from the first on.
#[derive(Debug)]
pub(crate) struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    /// Takes the signals over: from now on they no longer end the process by themselves.
    #[cfg(unix)]
    pub(crate) fn take() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The next signal's name.
    #[cfg(unix)]
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Takes Ctrl-C over.
    #[cfg(not(unix))]
    pub(crate) fn take() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Ctrl-C.
    #[cfg(not(unix))]
    pub(crate) async fn next(&mut self) -> &'static str {
        let _ = tokio::signal::ctrl_c().await;
        "Ctrl-C"
    }
}

#[cfg(feature = "http")]
mod order {
    use std::{sync::Arc, time::Duration};

    use event_sourcing_cqrs::{
        app::App,
        http::{Drained, HttpContext},
    };
    use tokio::{task::JoinHandle, time::Instant};
    use tokio_util::sync::CancellationToken;

    use super::Signals;

    /// For what comes after the last answer: actors, the journal, connections to the database.
    const CLOSING: Duration = Duration::from_secs(4);

    /// Everything that has to end.
    #[derive(Debug)]
    pub(crate) struct Ending {
        /// The door.
        pub(crate) context: Arc<HttpContext>,
        /// Its task.
        pub(crate) server: JoinHandle<Drained>,
        /// Ends it.
        pub(crate) stop: CancellationToken,
        /// What is behind it.
        pub(crate) app: App,
        /// Time for load balancers.
        pub(crate) grace: Duration,
        /// Time for requests and commands in flight.
        pub(crate) drain: Duration,
    }

    /// Why an end was not a clean one.
    #[derive(Debug, thiserror::Error)]
    pub(crate) enum StopError {
        /// A second signal came.
        #[error("told a second time to stop: requests in flight are cut off")]
        Forced,
        /// Something took longer than it was given.
        #[error("{what} had not ended in time")]
        Late {
            /// What was cut off.
            what: String,
        },
    }

    impl Ending {
        /// Ends all of it in order.
        pub(crate) async fn run(self, signals: &mut Signals) -> Result<(), StopError> {
            tokio::select! {
                result = Box::pin(self.in_order()) => result,
                _ = signals.next() => Err(StopError::Forced),
            }
        }

        async fn in_order(self) -> Result<(), StopError> {
            let deadline = Instant::now() + self.grace + self.drain + CLOSING;
            self.context.start_draining();
            tokio::time::sleep(self.grace).await;
            self.stop.cancel();
            // The server bounds its own end; if its task failed there is nothing left to wait for.
            let cut = self.server.await.map_or(0, |drained| drained.connections_cut);
            let late = |what: String| Err(StopError::Late { what });
            match tokio::time::timeout_at(deadline, self.app.shutdown()).await {
                Err(_) => late("the store".to_owned()),
                Ok(false) => late("commands in flight".to_owned()),
                Ok(true) if cut > 0 => late(format!("{cut} of the connections")),
                Ok(true) => Ok(()),
            }
        }
    }
}

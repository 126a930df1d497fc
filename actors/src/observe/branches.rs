//! Metrics of the branches that are live in a process. What happens on a branch is measured apart, and shown nowhere: it is
//! not the log's.

use prometheus::{IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use super::{registered, vec_counter};

/// Why a live branch was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BranchEnd {
    /// Nobody used it for a while.
    Idle,
    /// Another one needed its place.
    Room,
    /// It was deleted.
    Deleted,
    /// The process ends.
    Shutdown,
}

impl BranchEnd {
    const ALL: [Self; 4] = [Self::Idle, Self::Room, Self::Deleted, Self::Shutdown];

    fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Room => "room",
            Self::Deleted => "deleted",
            Self::Shutdown => "shutdown",
        }
    }
}

/// What is measured of live branches.
#[derive(Debug, Clone)]
pub(crate) struct BranchMetrics {
    live: IntGauge,
    begun: IntCounter,
    ended: IntCounterVec,
    pub crowded: IntCounter,
}

impl BranchMetrics {
    pub fn new(r: &Registry) -> Self {
        let counter = |name: &str, help: &str| {
            IntCounter::with_opts(Opts::new(name, help))
                .map(|metric| registered(r, metric))
                .unwrap_or_else(|error| unreachable!("metric names are constants and valid: {error}"))
        };
        let ended = vec_counter(r, "es_branches_ended_total", "Live branches that were ended, by reason.", &["reason"]);
        for end in BranchEnd::ALL {
            let _ = ended.with_label_values(&[end.as_str()]);
        }
        Self {
            live: IntGauge::new("es_branches_live", "Branches that are live in this process.")
                .map(|metric| registered(r, metric))
                .unwrap_or_else(|error| unreachable!("metric names are constants and valid: {error}")),
            begun: counter("es_branches_begun_total", "Branches that became live in this process."),
            ended,
            crowded: counter(
                "es_branches_crowded_total",
                "Requests to a branch that were refused because all live ones were in use.",
            ),
        }
    }

    /// One more is live.
    pub fn begin(&self) {
        self.begun.inc();
        self.live.inc();
    }

    /// One is live no more.
    pub fn end(&self, why: BranchEnd) {
        self.ended.with_label_values(&[why.as_str()]).inc();
        self.live.dec();
    }
}

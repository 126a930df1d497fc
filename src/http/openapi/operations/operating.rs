//! Health, metrics, settings, and documents.

use super::{BASE, HEALTH, HTML, JSON, PLAIN, found};
use crate::{
    http::{
        error::NOT_FOUND,
        health::HealthReport,
        index,
        openapi::operation::{Body, Operation, Shape, Success, shape},
        problems, version,
    },
    wire,
};

const HEALTHS: &[Success] = &[
    Success::new(200, "`pass` or `warn`.", &[(HEALTH, shape::<HealthReport>())], &[]),
    Success::new(503, "`fail`.", &[(HEALTH, shape::<HealthReport>())], &["Retry-After"]),
];

/// A health check: 503 with the same body when it fails.
const fn health(path: &'static str, id: &'static str, summary: &'static str) -> Operation {
    Operation { path, id, tag: "Operations", summary, successes: HEALTHS, ..BASE }
}

pub(super) const ALL: &[Operation] = &[
    health("/health", "health", "Everything the server needs"),
    health("/health/live", "live", "Whether the process works at all; no I/O"),
    health("/health/ready", "ready", "Whether requests should come here"),
    health("/health/startup", "startup", "Whether the start is over"),
    Operation {
        path: "/metrics",
        id: "metrics",
        tag: "Operations",
        summary: "Metrics for Prometheus",
        successes: &[found(&[(PLAIN, Shape::Text)])],
        ..BASE
    },
    Operation {
        path: "/version",
        id: "version",
        tag: "Operations",
        summary: "Which program this is",
        successes: &[found(&[(JSON, shape::<version::Version>())])],
        ..BASE
    },
    Operation {
        path: "/api/v1/config",
        id: "showConfig",
        tag: "Operations",
        summary: "Every effective setting with its source; secrets are masked",
        successes: &[found(&[(JSON, shape::<wire::Page<wire::Setting, String>>())])],
        codes: &[NOT_FOUND],
        ..BASE
    },
    Operation {
        method: "PUT",
        path: "/api/v1/log-level",
        id: "setLogLevel",
        tag: "Operations",
        summary: "Change the level of the log while the process runs",
        description: "Until the next change or the end of the process.",
        body: Body::of(shape::<wire::LogLevelWanted>()),
        successes: &[Success::new(200, "Changed.", &[(JSON, shape::<wire::LogLevelChanged>())], &[])],
        codes: &[NOT_FOUND],
        ..BASE
    },
    Operation {
        path: "/",
        id: "index",
        tag: "Documents",
        summary: "Every path with its methods",
        successes: &[found(&[(JSON, shape::<index::Index>())])],
        ..BASE
    },
    Operation {
        path: "/api/v1/openapi.json",
        id: "openapi",
        tag: "Documents",
        summary: "This document",
        successes: &[found(&[(JSON, Shape::Named("OpenApi"))])],
        ..BASE
    },
    Operation {
        path: "/docs",
        id: "docs",
        tag: "Documents",
        summary: "This document as a page",
        successes: &[found(&[(HTML, Shape::Text)])],
        ..BASE
    },
    Operation {
        path: "/docs/{file}",
        id: "docsFile",
        tag: "Documents",
        summary: "A file of that page",
        successes: &[found(&[("text/javascript", Shape::Text), ("text/css", Shape::Text)])],
        codes: &[NOT_FOUND],
        ..BASE
    },
    #[cfg(feature = "console")]
    Operation {
        path: "/console",
        id: "console",
        tag: "Documents",
        summary: "The console for people",
        successes: &[
            Success::new(200, "Found.", &[(HTML, Shape::Text)], &["FileETag"]),
            Success::new(304, "The client holds it already.", &[], &["FileETag"]),
        ],
        ..BASE
    },
    #[cfg(feature = "console")]
    Operation {
        path: "/console/",
        id: "consoleWithSlash",
        tag: "Documents",
        summary: "Leads to the console",
        successes: &[Success::new(308, "It is at `Location`.", &[], &["Location"])],
        ..BASE
    },
    #[cfg(feature = "console")]
    Operation {
        path: "/console/assets/{release}/{folder}/{name}",
        id: "consoleFile",
        tag: "Documents",
        summary: "A file of the console",
        successes: &[
            Success::new(
                200,
                "Found.",
                &[("text/javascript", Shape::Text), ("text/css", Shape::Text), ("image/svg+xml", Shape::Text)],
                &["FileETag"],
            ),
            Success::new(304, "The client holds it already.", &[], &["FileETag"]),
        ],
        codes: &[NOT_FOUND],
        ..BASE
    },
    Operation {
        path: "/problems/{code}",
        id: "showProblem",
        tag: "Documents",
        summary: "What a problem's code means and what to do",
        successes: &[found(&[(HTML, Shape::Text), (JSON, shape::<problems::Explanation>())])],
        codes: &[NOT_FOUND],
        ..BASE
    },
];

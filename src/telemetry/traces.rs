//! Whether spans go to a collector: what the standard `OTEL_*` variables say about it.

use std::sync::Arc;

use event_sourcing_actors::ports::{NoTraces, Traces};

use super::{SpanLayer, TelemetryError};

/// Traces of the process: on where the variables name a collector, else nothing.
#[derive(Debug, Default)]
pub struct Tracing {
    #[cfg(feature = "otlp")]
    exporter: Option<super::otlp::Exporter>,
    warning: Option<String>,
}

/// What the variables ask for.
#[derive(Debug, PartialEq, Eq)]
enum Wish {
    /// No collector is named, or traces are switched off.
    Nothing,
    /// Spans go to it.
    Spans,
    /// Something this program does not do; in words.
    Other(String),
}

impl Tracing {
    /// As the variables say. It never keeps a server from starting: what it cannot do is a [`Self::warning`].
    ///
    /// Call it outside of asynchronous code.
    #[must_use]
    pub fn from_environment() -> Self {
        match wish(&|name| std::env::var(name).ok().filter(|value| !value.trim().is_empty())) {
            Wish::Nothing => Self::default(),
            Wish::Spans => Self::to_collector().unwrap_or_else(|error| Self::without(error.to_string())),
            Wish::Other(what) => Self::without(what),
        }
    }

    fn without(reason: String) -> Self {
        Self {
            #[cfg(feature = "otlp")]
            exporter: None,
            warning: Some(format!("no traces are sent: {reason}")),
        }
    }

    #[cfg(feature = "otlp")]
    fn to_collector() -> Result<Self, TelemetryError> {
        Ok(Self { exporter: Some(super::otlp::Exporter::from_environment()?), warning: None })
    }

    #[cfg(not(feature = "otlp"))]
    fn to_collector() -> Result<Self, TelemetryError> {
        Err(TelemetryError::Collector { reason: "this program was built without the feature \"otlp\"".to_owned() })
    }

    /// What an operator should know, in one sentence.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// Whether spans go anywhere.
    #[must_use]
    pub fn is_on(&self) -> bool {
        #[cfg(feature = "otlp")]
        return self.exporter.is_some();
        #[cfg(not(feature = "otlp"))]
        false
    }

    /// What hears the spans.
    pub(super) fn layer(&self) -> Option<SpanLayer> {
        #[cfg(feature = "otlp")]
        return self.exporter.as_ref().map(super::otlp::Exporter::layer);
        #[cfg(not(feature = "otlp"))]
        None
    }

    /// What ties spans to traces of others, for the runtime.
    #[must_use]
    pub fn traces(&self) -> Arc<dyn Traces> {
        #[cfg(feature = "otlp")]
        if self.exporter.is_some() {
            return super::otlp::traces();
        }
        Arc::new(NoTraces)
    }

    /// Sends the last spans; two seconds at most.
    pub async fn close(self) {
        #[cfg(feature = "otlp")]
        if let Some(exporter) = self.exporter {
            // The exporter waits for its thread, which is nothing for a worker of the runtime.
            let _ = tokio::task::spawn_blocking(move || exporter.close()).await;
        }
    }
}

fn wish(variable: &dyn Fn(&str) -> Option<String>) -> Wish {
    let is = |name: &str, wanted: &str| variable(name).is_some_and(|value| value.trim().eq_ignore_ascii_case(wanted));
    let endpoints = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
    let Some(endpoint) = endpoints.into_iter().find_map(variable) else { return Wish::Nothing };
    if is("OTEL_SDK_DISABLED", "true") || is("OTEL_TRACES_EXPORTER", "none") {
        return Wish::Nothing;
    }
    let exporter = variable("OTEL_TRACES_EXPORTER").unwrap_or_else(|| "otlp".to_owned());
    if !exporter.trim().eq_ignore_ascii_case("otlp") {
        return Wish::Other(format!("OTEL_TRACES_EXPORTER is {exporter:?}; this program knows otlp and none"));
    }
    let protocols = ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
    let protocol = protocols.into_iter().find_map(variable).unwrap_or_else(|| "http/protobuf".to_owned());
    if protocol.trim() != "http/protobuf" {
        return Wish::Other(format!(
            "OTEL_EXPORTER_OTLP_PROTOCOL is {protocol:?}; this program speaks http/protobuf, which collectors take on \
             port 4318"
        ));
    }
    if !endpoint.trim().starts_with("http://") {
        // It may hold a secret, so it is not shown.
        return Wish::Other(
            "the OTLP endpoint does not begin with http://; this program has no TLS towards collectors: let one run \
             beside it"
                .to_owned(),
        );
    }
    Wish::Spans
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(variables: &[(&str, &str)]) -> Wish {
        wish(&|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");

    #[test]
    fn traces_are_sent_only_where_a_collector_is_named() {
        assert_eq!(asked(&[]), Wish::Nothing);
        assert_eq!(asked(&[("OTEL_SERVICE_NAME", "x")]), Wish::Nothing);
        assert_eq!(asked(&[ENDPOINT]), Wish::Spans);
        assert_eq!(asked(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c/v1/traces")]), Wish::Spans);
        assert_eq!(asked(&[ENDPOINT, ("OTEL_SDK_DISABLED", "true")]), Wish::Nothing);
        assert_eq!(asked(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "none")]), Wish::Nothing);
        assert_eq!(asked(&[ENDPOINT, ("OTEL_TRACES_EXPORTER", "otlp")]), Wish::Spans);
    }

    #[test]
    fn what_cannot_be_done_is_said_and_no_secret_with_it() {
        let secret = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://user:hunter2@collector");
        for wrong in [
            vec![ENDPOINT, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
            vec![ENDPOINT, ("OTEL_TRACES_EXPORTER", "zipkin")],
            vec![secret],
        ] {
            let Wish::Other(said) = asked(&wrong) else { panic!("{wrong:?}") };
            assert!(!said.contains("hunter2"), "{said}");
        }
    }
}

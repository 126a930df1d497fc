//! Spans on their way to a collector, over OTLP/HTTP, when the standard variables name one.
//!
//! What is sent are this project's own spans: names, ids, positions and times, never payloads, and no lines of the log.
//! Spans wait in a bounded queue of a thread of their own; a collector that is dead or slow costs spans, nothing else, and
//! is told of once in the log.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use event_sourcing_actors::ports::Traces;
use opentelemetry::{
    Context, KeyValue,
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState, TracerProvider},
};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{SdkTracerProvider, SpanData},
};
use tracing::{Level, Span, level_filters::LevelFilter};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, filter::Targets};

use super::{OWN, SpanLayer, TelemetryError};

/// What the service is called unless a variable says otherwise.
const SERVICE: &str = "event-sourcing-cqrs";

/// How long the end of the process waits for the last spans to leave.
const CLOSING: Duration = Duration::from_secs(2);

/// A running exporter.
#[derive(Debug)]
pub(super) struct Exporter(SdkTracerProvider);

impl Exporter {
    /// Makes it from the `OTEL_*` variables of the process.
    pub fn from_environment() -> Result<Self, TelemetryError> {
        let exporter = SpanExporter::builder().with_http().build().map_err(|error| TelemetryError::Collector {
            // Nothing of it is secret: headers are not told.
            reason: error.to_string(),
        })?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder().with_attribute(version);
        let is_named = ["OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES"].into_iter().any(|name| {
            let value = std::env::var(name).unwrap_or_default();
            !value.is_empty() && (name == "OTEL_SERVICE_NAME" || value.contains("service.name="))
        });
        let resource = if is_named { resource } else { resource.with_service_name(SERVICE) };
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(Watched { exporter, is_failing: AtomicBool::new(false) })
            .with_resource(resource.build())
            .build();
        Ok(Self(provider))
    }

    /// What hears the spans.
    pub fn layer(&self) -> SpanLayer {
        let own = Targets::new().with_default(LevelFilter::OFF).with_target(OWN, Level::DEBUG);
        let spans = tracing_subscriber::filter::filter_fn(|metadata| metadata.is_span());
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer(SERVICE))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(tracing_subscriber::filter::FilterExt::and(own, spans))
            .boxed()
    }

    /// Sends what is left, for a while.
    pub fn close(&self) {
        if let Err(error) = self.0.shutdown_with_timeout(CLOSING) {
            tracing::debug!(%error, "the last spans did not reach the collector");
        }
    }
}

/// Tells once that spans do not arrive, and once that they do again.
#[derive(Debug)]
struct Watched {
    exporter: SpanExporter,
    is_failing: AtomicBool,
}

impl opentelemetry_sdk::trace::SpanExporter for Watched {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let result = self.exporter.export(batch).await;
        match &result {
            Err(error) if !self.is_failing.swap(true, Ordering::Relaxed) => {
                tracing::warn!(%error, "the collector of traces takes no spans; they are lost until it does");
            }
            Ok(()) if self.is_failing.swap(false, Ordering::Relaxed) => {
                tracing::info!("the collector of traces takes spans again");
            }
            _ => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Ties `tracing` spans to trace contexts.
#[derive(Debug)]
struct Otlp;

/// The tie, for the runtime.
pub(super) fn traces() -> Arc<dyn Traces> {
    Arc::new(Otlp)
}

impl Traces for Otlp {
    fn is_on(&self) -> bool {
        true
    }

    fn continue_from(&self, span: &Span, traceparent: &str) {
        if let Some(context) = parsed(traceparent) {
            // It fails where the span is not heard, or its trace is settled: then nothing is to be tied.
            let _ = span.set_parent(Context::new().with_remote_span_context(context));
        }
    }

    fn link(&self, span: &Span, traceparent: &str) {
        if let Some(context) = parsed(traceparent) {
            span.add_link(context);
        }
    }

    fn traceparent(&self, span: &Span) -> Option<String> {
        let context = span.context();
        let context = context.span().span_context().clone();
        let flags = context.trace_flags() & TraceFlags::SAMPLED;
        context.is_valid().then(|| format!("00-{}-{}-{:02x}", context.trace_id(), context.span_id(), flags.to_u8()))
    }
}

/// A trace context from its text.
fn parsed(traceparent: &str) -> Option<SpanContext> {
    let mut parts = traceparent.split('-').skip(1);
    let trace = TraceId::from_hex(parts.next()?).ok()?;
    let span = SpanId::from_hex(parts.next()?).ok()?;
    let flags = u8::from_str_radix(parts.next()?, 16).ok()?;
    let context = SpanContext::new(trace, span, TraceFlags::new(flags), true, TraceState::default());
    context.is_valid().then_some(context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_contexts_are_read_as_w3c_writes_them() {
        let context = parsed("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01").unwrap();
        assert_eq!(context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(context.span_id().to_string(), "00f067aa0ba902b7");
        assert!(context.is_remote() && context.is_sampled());
        for wrong in ["", "00", "00-xyz-00f067aa0ba902b7-01", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"]
        {
            assert!(parsed(wrong).is_none(), "{wrong:?}");
        }
    }
}

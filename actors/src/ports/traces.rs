//! Where spans meet traces that began elsewhere: in another process, or earlier, as recorded in events.

use std::fmt::Debug;

use tracing::Span;

/// Ties spans to W3C trace contexts. By itself it does nothing: then spans are for the log alone.
///
/// Within a process spans find each other by themselves. This is for what passes through a header or through the log: a
/// request goes on with its caller's trace, a saga's command with the trace of the call that started the saga; a
/// projection's commit, which has many causes, is linked to each of them.
///
/// Texts that are no trace context are ignored.
pub trait Traces: Debug + Send + Sync + 'static {
    /// Whether anybody listens; if not, nothing need be made ready for it.
    fn is_on(&self) -> bool {
        false
    }

    /// `span` goes on with the trace of this context. To be called before anything else is done with the span.
    fn continue_from(&self, span: &Span, traceparent: &str) {
        let _ = (span, traceparent);
    }

    /// `span` was caused, among others, by the one this context names.
    fn link(&self, span: &Span, traceparent: &str) {
        let _ = (span, traceparent);
    }

    /// By what others name `span`; `None` if nobody listens to it.
    fn traceparent(&self, span: &Span) -> Option<String> {
        let _ = span;
        None
    }
}

/// Nobody listens.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTraces;

impl Traces for NoTraces {}

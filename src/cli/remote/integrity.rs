//! Evidence of a running server.

use event_sourcing_actors::AggregateId;
use event_sourcing_cqrs::{integrity::StreamReport, wire};
use serde_json::json;

use super::{Ask, Remote, encoded, refused};
use crate::cli::exit::{Exit, Failure};

impl Remote {
    pub(crate) async fn verify_stream(&self, stream: &AggregateId) -> Result<StreamReport, Failure> {
        self.get(format!("/api/v1/aggregates/{}/verify", encoded(stream.as_str()))).await
    }

    pub(crate) async fn begin_verification(&self, from: Option<&str>) -> Result<wire::Operation, Failure> {
        let body = from.map_or_else(|| json!({}), |note| json!({ "checkpoint": note }));
        let path = "/api/v1/integrity/verify".to_owned();
        self.answer(Ask { path, body: Some(body.to_string()), ..Ask::default() }).await
    }

    /// An answer that is plain text.
    pub(crate) async fn text(&self, path: &str) -> Result<String, Failure> {
        let (status, body) = self.exchange(Ask { path: path.to_owned(), ..Ask::default() }).await?;
        if status != 200 {
            return Err(refused(status, &body));
        }
        String::from_utf8(body.to_vec()).map_err(|_| Failure::new(Exit::Failed, "the server's answer is no text"))
    }
}

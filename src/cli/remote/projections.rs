//! Queries, projections and operations on a running server.

use std::{num::NonZeroU32, time::Duration};

use event_sourcing_actors::{AggregateId, Position, ports::ParkedRequest};
use event_sourcing_cqrs::wire;
use hyper::{Method, header::HeaderName};
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{Ask, Remote, encoded, json};
use crate::cli::{
    exit::Failure,
    target::{Switch, Wanted},
};

impl Remote {
    pub(crate) async fn query(&self, wanted: &Wanted) -> Result<wire::Answered, Failure> {
        #[derive(Serialize)]
        struct Body<'a> {
            query_type: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            projection: Option<&'a str>,
            filters: &'a RawValue,
        }
        let body =
            Body { query_type: &wanted.query_type, projection: wanted.projection.as_deref(), filters: &wanted.filters };
        let min_position = wanted.min_position.map(|position| ("es-min-position", position.to_string()));
        let as_of = wanted.as_of.map(|position| ("es-as-of-position", position.to_string()));
        let wait = wanted.wait.map(|wait| ("prefer", format!("wait={}", wait.as_secs())));
        let handling = wanted.is_lenient.then(|| ("prefer", "handling=lenient".to_owned()));
        let headers = [min_position, as_of, wait, handling].into_iter().flatten();
        let ask = Ask {
            path: "/api/v1/queries".to_owned(),
            body: Some(json(&body)?),
            headers: headers.map(|(name, value)| (HeaderName::from_static(name), value)).collect(),
            ..Ask::default()
        };
        // The server may take its time, because it was told so.
        let patient = Self { timeout: self.timeout + wanted.wait.unwrap_or(Duration::ZERO), ..self.clone() };
        patient.answer(ask).await
    }

    pub(crate) async fn projections(&self) -> Result<wire::Page<wire::Projection, String>, Failure> {
        self.get("/api/v1/projections".to_owned()).await
    }

    pub(crate) async fn projection(&self, name: &str) -> Result<wire::Projection, Failure> {
        self.get(of(name, "")).await
    }

    pub(crate) async fn rebuild(&self, name: &str, accepts_difference: bool) -> Result<wire::Operation, Failure> {
        let body = serde_json::json!({ "accept_difference": accepts_difference }).to_string();
        self.answer(Ask { path: of(name, "/rebuild"), body: Some(body), ..Ask::default() }).await
    }

    pub(crate) async fn switch(&self, name: &str, switch: Switch) -> Result<wire::Projection, Failure> {
        let action = match switch {
            Switch::Rollback => "/rollback",
            Switch::Pause => "/pause",
            Switch::Resume => "/resume",
        };
        self.answer(Ask { path: of(name, action), body: Some("{}".to_owned()), ..Ask::default() }).await
    }

    pub(crate) async fn parked(
        &self,
        name: &str,
        after: Position,
        limit: NonZeroU32,
    ) -> Result<wire::Page<wire::Parked, Position>, Failure> {
        self.get(of(name, &format!("/parked?after={after}&limit={limit}"))).await
    }

    pub(crate) async fn settle(
        &self,
        name: &str,
        position: Position,
        request: ParkedRequest,
    ) -> Result<wire::Operation, Failure> {
        let action = match request {
            ParkedRequest::Retry => "retry",
            ParkedRequest::Skip => "skip",
        };
        let path = of(name, &format!("/parked/{position}/{action}"));
        self.answer(Ask { path, body: Some("{}".to_owned()), ..Ask::default() }).await
    }

    pub(crate) async fn erase(&self, subject: &AggregateId) -> Result<wire::Operation, Failure> {
        let path = format!("/api/v1/subjects/{}/erase", encoded(subject.as_str()));
        self.answer(Ask { path, body: Some("{}".to_owned()), ..Ask::default() }).await
    }

    pub(crate) async fn operation(&self, id: Uuid) -> Result<wire::Operation, Failure> {
        self.get(format!("/api/v1/operations/{id}")).await
    }

    pub(crate) async fn operations(
        &self,
        before: Option<Uuid>,
        limit: NonZeroU32,
    ) -> Result<wire::Page<wire::Operation, Uuid>, Failure> {
        let cursor = before.map_or(String::new(), |id| format!("&cursor={id}"));
        self.get(format!("/api/v1/operations?limit={limit}{cursor}")).await
    }

    pub(crate) async fn cancel(&self, id: Uuid) -> Result<wire::Operation, Failure> {
        let path = format!("/api/v1/operations/{id}");
        self.answer(Ask { path, method: Some(Method::DELETE), ..Ask::default() }).await
    }
}

fn of(name: &str, rest: &str) -> String {
    format!("/api/v1/projections/{}{rest}", encoded(name))
}

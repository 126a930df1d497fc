//! Sagas on a running server.

use event_sourcing_actors::AggregateId;
use event_sourcing_cqrs::wire;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Ask, Remote, encoded, json, keyed};
use crate::cli::{
    exit::Failure,
    saga::{ListQuery, NewSaga},
    target::SagaChange,
};

impl Remote {
    pub(crate) async fn start_saga(&self, new: &NewSaga) -> Result<wire::SagaAccepted, Failure> {
        #[derive(Serialize)]
        struct Body<'a> {
            saga_type: &'a str,
            data: &'a RawValue,
            #[serde(skip_serializing_if = "Option::is_none")]
            timeout_ms: Option<u64>,
        }
        let body = Body { saga_type: &new.saga_type, data: &new.data, timeout_ms: new.timeout_ms };
        let headers = keyed(new.key.as_deref()).into_iter().collect();
        let ask = Ask { path: "/api/v1/sagas".to_owned(), body: Some(json(&body)?), headers, ..Ask::default() };
        self.answer(ask).await
    }

    pub(crate) async fn saga(&self, id: &AggregateId) -> Result<wire::Saga, Failure> {
        self.get(of(id, "")).await
    }

    pub(crate) async fn sagas(&self, query: &ListQuery) -> Result<wire::Page<wire::ListedSaga, String>, Failure> {
        let members = [
            ("status", query.status.map(|status| status.as_str())),
            ("saga_type", query.saga_type.as_deref()),
            ("cursor", query.cursor.as_deref()),
        ];
        let members = members.into_iter().filter_map(|(name, value)| Some((name, value?)));
        let rest: String = members.map(|(name, value)| format!("&{name}={}", encoded(value))).collect();
        self.get(format!("/api/v1/sagas?limit={}{rest}", query.limit)).await
    }

    pub(crate) async fn change_saga(
        &self,
        id: &AggregateId,
        change: SagaChange,
        key: Option<&str>,
    ) -> Result<wire::SagaAccepted, Failure> {
        let action = match change {
            SagaChange::Retry => "/retry",
            SagaChange::Cancel => "/cancel",
        };
        let headers = keyed(key).into_iter().collect();
        self.answer(Ask { path: of(id, action), body: Some("{}".to_owned()), headers, ..Ask::default() }).await
    }
}

fn of(id: &AggregateId, rest: &str) -> String {
    format!("/api/v1/sagas/{}{rest}", encoded(id.as_str()))
}

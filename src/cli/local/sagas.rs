//! Sagas on the configured store.

use std::time::Duration;

use event_sourcing_actors::{
    AggregateId, FieldError,
    command_bus::{Idempotency, Principal, RequestContext},
    error::CommandError,
    saga::{DEFINITION_UNKNOWN, SAGA_ENDED, SAGA_NOT_FAILED},
    sagas::{INDEX, SagaCallError, SagaCaller, SagaFilter, Sagas, StartSaga},
};
use event_sourcing_cqrs::wire;

use super::{Local, fingerprint, projections::sentence};
use crate::cli::{
    exit::{Exit, Failure, invalid},
    saga::{ListQuery, NewSaga},
    target::SagaChange,
};

/// Refusals by an instance itself: the thing is another than expected.
const REFUSALS: [&str; 3] = [SAGA_ENDED, SAGA_NOT_FAILED, DEFINITION_UNKNOWN];

impl Local {
    fn sagas_handle(&self) -> &Sagas {
        self.runtime().sagas()
    }

    pub(crate) async fn start_saga(&self, new: &NewSaga) -> Result<wire::SagaAccepted, Failure> {
        let data = serde_json::from_str(new.data.get())
            .map_err(|error| Failure::usage(format!("--data cannot be read: {error}")))?;
        let timeout = new.timeout_ms.map(Duration::from_millis);
        let asked =
            ["saga", &new.saga_type, new.data.get(), &new.timeout_ms.map_or(String::new(), |ms| ms.to_string())];
        let caller = caller(new.key.as_deref(), &asked);
        let request = StartSaga { saga_type: new.saga_type.clone(), data, timeout, caller };
        Ok(wire::SagaAccepted::from(&*self.bounded(self.sagas_handle().start(request)).await?.record))
    }

    pub(crate) async fn saga(&self, id: &AggregateId) -> Result<wire::Saga, Failure> {
        let saga = self.bounded(wire::Saga::read(self.runtime(), id)).await?;
        saga.ok_or_else(|| SagaCallError::UnknownSaga { saga_id: id.clone() }.into())
    }

    pub(crate) async fn sagas(&self, query: &ListQuery) -> Result<wire::Page<wire::ListedSaga, String>, Failure> {
        let filter = SagaFilter { saga_type: query.saga_type.clone(), status: query.status };
        let (runtime, cursor) = (self.runtime(), query.cursor.as_deref());
        self.bounded(wire::ListedSaga::page(runtime, &filter, cursor, query.limit)).await
    }

    pub(crate) async fn change_saga(
        &self,
        id: &AggregateId,
        change: SagaChange,
        key: Option<&str>,
    ) -> Result<wire::SagaAccepted, Failure> {
        let caller = |act| caller(key, &[act, id.as_str()]);
        let report = match change {
            SagaChange::Retry => self.bounded(self.sagas_handle().retry(id, caller("saga retry"))).await?,
            SagaChange::Cancel => self.bounded(self.sagas_handle().cancel(id, caller("saga cancel"))).await?,
        };
        Ok(wire::SagaAccepted::from(&*report.record))
    }

    /// Whether a process beside this one works on the sagas. What cannot be read is no promise.
    pub(crate) async fn has_saga_worker_beside(&self) -> bool {
        let report = self.bounded(self.runtime().projections().show(INDEX)).await;
        report.is_ok_and(|report| report.owner.is_some() && !report.is_owned_here)
    }
}

/// As whoever calls a server without authentication, with a key for what is asked.
fn caller(key: Option<&str>, asked: &[&str]) -> SagaCaller {
    let (principal, context) = (Principal::unguarded(), RequestContext::new());
    let idempotency = key.map(|key| Idempotency { key: key.into(), fingerprint: fingerprint(asked) });
    SagaCaller { principal, context, idempotency, deadline: None }
}

impl From<SagaCallError> for Failure {
    fn from(error: SagaCallError) -> Self {
        let detail = error.to_string();
        match error {
            SagaCallError::UnknownType { nearest, .. } => {
                Self::new(Exit::Failed, sentence(detail, &nearest, "unknown-saga-type"))
            }
            SagaCallError::Invalid { errors } => invalid(within_data(errors)),
            SagaCallError::UnknownSaga { .. } => Self::not_found(sentence(detail, &[], "unknown-saga")),
            SagaCallError::Command(CommandError::Rejected { refusal, .. })
                if REFUSALS.contains(&refusal.code.as_str()) =>
            {
                Self::new(Exit::Conflict, sentence(refusal.message, &[], &refusal.code))
            }
            SagaCallError::Command(CommandError::Invalid { errors }) => invalid(within_data(errors)),
            SagaCallError::Command(error) => error.into(),
            SagaCallError::Recovery(error) => error.into(),
            SagaCallError::Store(error) => error.into(),
        }
    }
}

/// Pointers as those of the HTTP API.
fn within_data(errors: Vec<FieldError>) -> Vec<FieldError> {
    errors.into_iter().map(|error| FieldError { pointer: format!("/data{}", error.pointer), ..error }).collect()
}

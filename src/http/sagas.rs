//! `/api/v1/sagas`: long-running transactions started, shown, listed, retried and cancelled.
//!
//! What is asked is recorded in the instance's stream before the answer; the process that works on sagas does the rest,
//! whether or not the caller waits.

use std::time::Duration;

use event_sourcing_actors::{
    AggregateId, FieldError,
    codec::escaped,
    error::CommandError,
    saga::SagaStatus,
    sagas::{SagaCallError, SagaCaller, SagaFilter, SagaReport, StartSaga},
};
use serde_json::{Value, value::RawValue};
use tokio::time::Instant;
use warp::{
    http::{HeaderValue, StatusCode, header},
    reply::Response,
};

use super::{
    body::{Envelope, Members},
    error::{self, Answer, Code, Problem, hinted},
    negotiate::{Media, negotiate},
    prefer::Preferences,
    query::Query,
    reply,
    request::Call,
};
use crate::wire::{ListedSaga, Saga, SagaAccepted};

/// How long an instance may be told to take: a year of 365 days.
const TIMEOUT_MS_MAX: u64 = 31_536_000_000;

/// Starts an instance; with `Prefer: wait` it waits for the end.
pub(super) async fn start(mut call: Call) -> Answer {
    let body = call.read_body(call.server.options.body_bytes_max).await?;
    let mut envelope = Envelope::parse(&body, call.server.options.json_depth_max)?;
    let saga_type: String = envelope.required("saga_type", "a text");
    let data = envelope.object("data");
    let timeout_ms: Option<i128> = envelope.optional("timeout_ms", "a whole number of milliseconds");
    envelope.finish()?;
    let caller = call.caller(&body)?;
    call.enter_branch().await?;
    let preferences = Preferences { is_lenient: None, ..Preferences::of(&call.headers) };
    let started = async {
        call.query().finish()?;
        let (data, timeout) = (data_of(&data)?, timeout_of(timeout_ms)?);
        Ok(call.runtime().sagas().start(StartSaga { saga_type, data, timeout, caller }).await?)
    };
    let answer = match started.await {
        Ok(report) => call.ended(&report, preferences.wait).await.map(|answer| call.located(answer)),
        Err(problem) => Err(problem),
    };
    preferences.told(answer)
}

/// One instance with its steps, timers and timeline.
pub(super) async fn show(mut call: Call) -> Answer {
    negotiate(&call.headers, &[Media::Json])?;
    let id = call.saga_id()?;
    call.enter_branch().await?;
    let saga = call.saga(&id).await?;
    call.query().finish()?;
    if reply::is_unchanged(&call.headers, saga.version) {
        return Ok(reply::not_modified(saga.version));
    }
    Ok(shown(&saga))
}

/// Instances, newest first.
pub(super) async fn list(mut call: Call) -> Answer {
    negotiate(&call.headers, &[Media::Json])?;
    call.enter_branch().await?;
    let mut query = call.query();
    let filter = SagaFilter { status: status(&mut query), saga_type: query.text("saga_type") };
    let (cursor, limit) = (query.text("cursor"), query.limit());
    query.finish()?;
    match ListedSaga::page(call.runtime(), &filter, cursor.as_deref(), limit).await {
        Ok(page) => Ok(reply::json(&page)),
        Err(SagaCallError::UnknownType { saga_type, nearest }) => {
            Err(unknown_type(&saga_type, nearest, "/query/saga_type"))
        }
        Err(error) => Err(error.into()),
    }
}

/// Lets an instance go on that was set aside.
pub(super) async fn retry(mut call: Call) -> Answer {
    let (id, caller) = call.change().await?;
    Ok(call.located(accepted(&call.runtime().sagas().retry(&id, caller).await?)))
}

/// Has an instance undo what it did.
pub(super) async fn cancel(mut call: Call) -> Answer {
    let (id, caller) = call.change().await?;
    Ok(call.located(accepted(&call.runtime().sagas().cancel(&id, caller).await?)))
}

impl Call {
    /// Who asks, from the headers of a request that changes something.
    fn caller(&self, body: &[u8]) -> Result<SagaCaller, Box<Problem>> {
        self.check_ids()?;
        let (principal, context) = (self.principal().clone(), self.ids.context());
        Ok(SagaCaller { principal, context, idempotency: self.idempotency(body)?, deadline: None })
    }

    fn saga_id(&self) -> Result<AggregateId, Box<Problem>> {
        AggregateId::new(self.decoded(0)?)
            .map_err(|reason| Problem::new(error::INVALID_ID, format!("the saga id {reason}")))
    }

    async fn saga(&self, id: &AggregateId) -> Result<Saga, Box<Problem>> {
        let saga = Saga::read(self.runtime(), id).await?;
        saga.ok_or_else(|| SagaCallError::UnknownSaga { saga_id: id.clone() }.into())
    }

    /// The instance in the path of a request without members, and who asks.
    async fn change(&mut self) -> Result<(AggregateId, SagaCaller), Box<Problem>> {
        let body = self.read_body(self.server.options.body_bytes_max).await?;
        Envelope::parse(&body, self.server.options.json_depth_max)?.finish()?;
        let (caller, id) = (self.caller(&body)?, self.saga_id()?);
        self.enter_branch().await?;
        if let Err(wrong) = self.query().finish() {
            // An unknown instance is told before a wrong parameter.
            self.saga(&id).await?;
            return Err(wrong);
        }
        Ok((id, caller))
    }

    /// The answer to a start: 200 with all of it when the instance ends while the client has patience, else 202.
    async fn ended(&self, started: &SagaReport, wait: Option<Duration>) -> Answer {
        let Some(wait) = wait else { return Ok(accepted(started)) };
        let (id, until) = (&started.record.saga_id, Instant::now() + wait.min(self.server.options.wait_max));
        let waited = tokio::select! {
            waited = self.runtime().sagas().wait(id, until) => waited,
            // The client is told where it stands while there is time.
            () = self.server.shutdown.cancelled() => Ok(started.clone()),
        };
        // It is started, whatever the look at it came to: that must not be told as a failure.
        let report = match waited {
            Ok(report) => SagaReport { replayed: started.replayed, ..report },
            Err(_) => started.clone(),
        };
        if report.record.status.is_open() {
            return Ok(accepted(&report));
        }
        Ok(match Saga::read(self.runtime(), id).await {
            Ok(Some(saga)) => replayed(shown(&saga), report.replayed),
            Ok(None) | Err(_) => accepted(&report),
        })
    }
}

fn status(query: &mut Query) -> Option<SagaStatus> {
    let text = query.text("status")?;
    let status = SagaStatus::ALL.into_iter().find(|status| status.as_str() == text);
    if status.is_none() {
        let all = SagaStatus::ALL.map(SagaStatus::as_str).join(", ");
        query.note("status", format!("must be one of {all}, not {text:?}"));
    }
    status
}

/// The data as the sagas read it. A repeated member would be lost on the way, so it is refused here.
fn data_of(data: &RawValue) -> Result<Value, Box<Problem>> {
    let wrong = |pointer: String, detail: &str| Problem::at(error::VALIDATION_FAILED, pointer, detail);
    let Members(members) = serde_json::from_str(data.get()).map_err(|_| wrong("/data".to_owned(), "is not JSON"))?;
    let mut names: Vec<&str> = members.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(wrong(format!("/data/{}", escaped(twice[0])), "occurs more than once"));
    }
    serde_json::from_str(data.get()).map_err(|_| wrong("/data".to_owned(), "holds a number out of range"))
}

fn timeout_of(timeout_ms: Option<i128>) -> Result<Option<Duration>, Box<Problem>> {
    let Some(asked) = timeout_ms else { return Ok(None) };
    match u64::try_from(asked) {
        Ok(ms @ 1..=TIMEOUT_MS_MAX) => Ok(Some(Duration::from_millis(ms))),
        _ => {
            let detail = format!("must be from 1 to {TIMEOUT_MS_MAX} (365 days), not {asked}");
            Err(Problem::at(error::VALIDATION_FAILED, "/timeout_ms", detail))
        }
    }
}

/// 202 with the instance, and where to follow it.
fn accepted(report: &SagaReport) -> Response {
    let mut response = reply::json(&SagaAccepted::from(&*report.record));
    *response.status_mut() = StatusCode::ACCEPTED;
    response.headers_mut().insert(header::LOCATION, reply::saga_location(&report.record.saga_id));
    replayed(response, report.replayed)
}

/// 200 with everything about the instance.
fn shown(saga: &Saga) -> Response {
    let mut response = reply::json(saga);
    response.headers_mut().insert(header::ETAG, reply::etag(saga.version));
    response
}

fn replayed(mut response: Response, is_replayed: bool) -> Response {
    if is_replayed {
        response.headers_mut().insert(reply::IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

fn unknown_type(saga_type: &str, nearest: Vec<String>, pointer: &str) -> Box<Problem> {
    Problem::new(error::UNKNOWN_SAGA_TYPE, hinted(format!("unknown saga type {saga_type:?}"), &nearest))
        .naming(pointer.to_owned(), "is not a known saga type")
        .with("nearest", nearest)
}

/// The code of an instance's own refusals; those of a saga's code have none.
fn code_of(refusal: &str) -> Option<&'static Code> {
    let own = [error::SAGA_ENDED, error::SAGA_NOT_FAILED, error::SAGA_DEFINITION_UNKNOWN];
    own.into_iter().find(|code| code.name == refusal)
}

impl From<SagaCallError> for Box<Problem> {
    fn from(error: SagaCallError) -> Self {
        let detail = error.to_string();
        let within = |pointer: &str| format!("/data{pointer}");
        match error {
            SagaCallError::UnknownType { saga_type, nearest } => unknown_type(&saga_type, nearest, "/saga_type"),
            SagaCallError::Invalid { errors } => {
                let errors = errors.into_iter();
                let errors = errors.map(|error| FieldError { pointer: within(&error.pointer), ..error });
                Problem::invalid(error::VALIDATION_FAILED, errors.collect())
            }
            SagaCallError::UnknownSaga { .. } => Problem::new(error::UNKNOWN_SAGA, detail),
            SagaCallError::Command(error) => {
                let code = match &error {
                    CommandError::Rejected { refusal, .. } => code_of(&refusal.code),
                    _ => None,
                };
                let mut problem = Problem::of_command(error, within);
                problem.code = code.unwrap_or(problem.code);
                problem
            }
            SagaCallError::Recovery(error) => Problem::of_recovery(error),
            SagaCallError::Store(error) => Problem::of_store(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use event_sourcing_actors::{RecoveryError, Refusal, ports::StoreError};

    use super::*;

    #[test]
    fn every_refusal_has_its_code() {
        let text = String::new;
        let refused = |code: &str| {
            let refusal = Refusal { code: code.to_owned(), message: text(), details: None };
            SagaCallError::Command(CommandError::Rejected { refusal, replayed: false })
        };
        let saga_id = AggregateId::new("s").unwrap();
        let cases = [
            (SagaCallError::UnknownType { saga_type: text(), nearest: Vec::new() }, 422, "unknown-saga-type"),
            (SagaCallError::Invalid { errors: Vec::new() }, 422, "validation-failed"),
            (SagaCallError::UnknownSaga { saga_id: saga_id.clone() }, 404, "unknown-saga"),
            (refused("saga-ended"), 409, "saga-ended"),
            (refused("saga-not-failed"), 409, "saga-not-failed"),
            (refused("saga-definition-unknown"), 409, "saga-definition-unknown"),
            (refused("unknown-saga"), 422, "domain-rejected"),
            (SagaCallError::Command(CommandError::KeyReused), 422, "idempotency-key-reused"),
            (SagaCallError::Recovery(RecoveryError::LoadPanic { aggregate_id: saga_id.clone() }), 500, "internal"),
            (SagaCallError::Store(StoreError::Unavailable { reason: text() }), 503, "store-unavailable"),
        ];
        for (error, status, code) in cases {
            let problem = Box::<Problem>::from(error);
            assert_eq!((problem.code.status.as_u16(), problem.code.name), (status, code));
        }
    }

    #[test]
    fn timeouts_are_from_a_millisecond_to_a_year() {
        assert_eq!(timeout_of(None).unwrap(), None);
        assert_eq!(timeout_of(Some(1)).unwrap(), Some(Duration::from_millis(1)));
        assert_eq!(timeout_of(Some(31_536_000_000)).unwrap(), Some(Duration::from_secs(31_536_000)));
        for wrong in [0, -1, 31_536_000_001, i128::MAX] {
            assert_eq!(timeout_of(Some(wrong)).unwrap_err().code, error::VALIDATION_FAILED);
        }
    }
}

//! `POST /api/v1/commands` and `POST /api/v1/events`: what changes something, through the command bus.

use event_sourcing_actors::{
    AggregateId, AggregateType, EventId, EventType, FieldError,
    catalog::nearest,
    codec::escaped,
    command_bus::{Action, CommandAccepted, CommandRequest, RawAppend, RawEvent},
};
use serde_json::value::RawValue;
use warp::{
    http::{HeaderValue, StatusCode, header},
    reply::Response,
};

use super::{
    body::{Envelope, Members, empty_object},
    error::{self, Answer, ERRORS_MAX, Problem, hinted},
    reply,
    request::Call,
};
use crate::wire;

/// Sends a command.
pub(super) async fn send(mut call: Call) -> Answer {
    let body = call.read_body(call.server.options.body_bytes_max).await?;
    let mut envelope = Envelope::parse(&body, call.server.options.json_depth_max)?;
    let command_type: String = envelope.required("command_type", "a text");
    let id: String = envelope.required("aggregate_id", "a text");
    let data = envelope.object("data");
    envelope.finish()?;
    let action = Action::Named { command_type: command_type.clone(), data: data.into() };
    let accepted = call.submit(&id, &body, action, |pointer| format!("/data{pointer}"), None).await?;
    Ok(call.located(accepted.answer(&command_type, StatusCode::OK)))
}

/// Appends events nobody decided.
pub(super) async fn append(mut call: Call) -> Answer {
    let body = call.read_body(call.server.options.events_body_bytes_max).await?;
    let mut envelope = Envelope::parse(&body, call.server.options.json_depth_max)?;
    let id: String = envelope.required("aggregate_id", "a text");
    let aggregate_type: Option<String> = envelope.optional("aggregate_type", "a text");
    let is_batch = envelope.raw("events").is_some();
    let mut events = Events::default();
    if is_batch {
        for name in ["event_type", "data"] {
            if envelope.raw(name).is_some() {
                envelope.note(name, "belongs into `events`, or `events` has to go");
            }
        }
        let items: Vec<Box<RawValue>> = envelope.required("events", "a list");
        envelope.finish()?;
        for (index, item) in items.iter().enumerate() {
            if !events.is_full() {
                events.item(index, item);
            }
        }
    } else {
        let event_type: String = envelope.required("event_type", "a text");
        if envelope.raw("event_id").is_some() {
            envelope.note("event_id", "goes into the elements of `events`; an event on its own takes no id");
        }
        let data = envelope.raw("data").map_or_else(empty_object, ToOwned::to_owned);
        envelope.finish()?;
        events.push("", None, &event_type, data);
    }
    let aggregate_type = aggregate_type.and_then(|name| events.noted("/aggregate_type", AggregateType::new(name)));
    let Events { events, errors } = events;
    let early = (!errors.is_empty()).then(|| Problem::invalid(error::VALIDATION_FAILED, errors));
    let types: Vec<EventType> = events.iter().map(|event| event.event_type.clone()).collect();
    let pointer = |pointer: &str| pointer_of(pointer, is_batch, &types);
    let action = Action::Append(RawAppend { aggregate_type, events });
    let accepted = call.submit(&id, &body, action, pointer, early).await?;
    Ok(call.located(accepted.answer(wire::APPEND, StatusCode::CREATED)))
}

/// A pointer of the bus, or an event type, as a pointer into the body.
fn pointer_of(pointer: &str, is_batch: bool, types: &[EventType]) -> String {
    match (pointer, is_batch) {
        ("/aggregate_type", _) => pointer.to_owned(),
        ("", _) => "/events".to_owned(),
        (within, true) if within.starts_with('/') => format!("/events{within}"),
        // A single event is the bus's number 0.
        (within, false) if within.starts_with('/') => within.trim_start_matches("/0").to_owned(),
        (_, false) => "/event_type".to_owned(),
        (event_type, true) => {
            let index = types.iter().position(|known| known.as_str() == event_type).unwrap_or_default();
            format!("/events/{index}/event_type")
        }
    }
}

/// Raw events as they are read, and what is wrong with them.
#[derive(Default)]
struct Events {
    events: Vec<RawEvent>,
    errors: Vec<FieldError>,
}

impl Events {
    fn is_full(&self) -> bool {
        self.errors.len() >= ERRORS_MAX
    }

    fn noted<T, E: std::fmt::Display>(&mut self, pointer: impl Into<String>, value: Result<T, E>) -> Option<T> {
        value.map_err(|error| self.errors.push(FieldError { pointer: pointer.into(), detail: error.to_string() })).ok()
    }

    fn push(&mut self, place: &str, event_id: Option<EventId>, event_type: &str, data: Box<RawValue>) {
        if let Some(event_type) = self.noted(format!("{place}/event_type"), EventType::new(event_type)) {
            self.events.push(RawEvent { event_id, event_type, data: data.into() });
        }
    }

    /// One element of `events`.
    fn item(&mut self, index: usize, item: &RawValue) {
        let place = format!("/events/{index}");
        let object = Err("must be a JSON object").or_else(|wrong| {
            if item.get().starts_with('{') { serde_json::from_str(item.get()).map_err(|_| wrong) } else { Err(wrong) }
        });
        let Some(Members(members)) = self.noted(&*place, object) else { return };
        let (mut event_type, mut data, mut event_id) = (None, None, None);
        for (position, (name, value)) in members.iter().enumerate() {
            // Also a bound on the names before this one: all but three are faults.
            if self.is_full() {
                break;
            }
            let at = format!("{place}/{}", escaped(name));
            if members[..position].iter().any(|(earlier, _)| earlier == name) {
                let _ = self.noted(at, Err::<(), _>("occurs more than once"));
                continue;
            }
            match name.as_str() {
                "event_type" => event_type = Some(self.noted(at, text(value)).unwrap_or_default()),
                "data" => data = Some((*value).to_owned()),
                "event_id" => {
                    let id = text(value).and_then(|id| id.parse().map_err(|_| "must be a UUID"));
                    event_id = self.noted(at, id).map(EventId);
                }
                _ => {
                    let near = nearest(name, ["event_type", "data", "event_id"].into_iter());
                    let _ = self.noted(at, Err::<(), _>(hinted("is not a member of an event".to_owned(), &near)));
                }
            }
        }
        match event_type {
            None => drop(self.noted(format!("{place}/event_type"), Err::<(), _>("is missing"))),
            Some(event_type) => self.push(&place, event_id, &event_type, data.unwrap_or_else(empty_object)),
        }
    }
}

fn text(value: &RawValue) -> Result<String, &'static str> {
    serde_json::from_str(value.get()).map_err(|_| "must be a text")
}

impl Call {
    /// Sends an action through the bus. `early` is what is wrong with it already: told after what weighs more.
    async fn submit(
        &mut self,
        id: &str,
        body: &[u8],
        action: Action,
        pointer: impl Fn(&str) -> String,
        early: Option<Box<Problem>>,
    ) -> Result<Accepted, Box<Problem>> {
        let id = AggregateId::new(id)
            .map_err(|reason| Problem::at(error::INVALID_ID, "/aggregate_id", reason.to_string()))?;
        self.check_ids()?;
        let (expected, idempotency) = (self.expected()?, self.idempotency(body)?);
        self.enter_branch().await?;
        let mut query = self.query();
        let dry_run = query.flag("dry_run").unwrap_or(false);
        if let Some(problem) = early.or(query.finish().err()) {
            return Err(self.after_precondition(&id, expected, problem).await);
        }
        let runtime = self.runtime();
        let mut request = CommandRequest::new(id, action, runtime.limits().command_deadline);
        request.expected = expected;
        request.idempotency = idempotency;
        request.dry_run = dry_run;
        request.principal = self.principal().clone();
        request.context = self.ids.context();
        let accepted = runtime.bus().send(request).await.map_err(|error| Problem::of_command(error, pointer))?;
        Ok(Accepted { accepted, dry_run })
    }
}

/// An accepted command.
struct Accepted {
    accepted: CommandAccepted,
    dry_run: bool,
}

impl Accepted {
    fn answer(&self, command_type: &str, status: StatusCode) -> Response {
        let Self { accepted, dry_run } = self;
        let mut response = reply::json(&wire::Accepted::new(command_type, accepted, *dry_run));
        let headers = response.headers_mut();
        if accepted.replayed {
            headers.insert(reply::IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
        }
        if !dry_run {
            headers.insert(header::ETAG, reply::etag(accepted.version));
            headers.insert(header::LOCATION, reply::location(&accepted.aggregate_id));
            *response.status_mut() = status;
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pointers_of_the_bus_become_pointers_of_the_body() {
        let types = ["A", "B"].map(|name| EventType::new(name).unwrap());
        let cases = [
            ("/0/data/amount", false, "/data/amount"),
            ("/1/data/amount", true, "/events/1/data/amount"),
            ("/aggregate_type", true, "/aggregate_type"),
            ("", true, "/events"),
            ("B", true, "/events/1/event_type"),
            ("A", false, "/event_type"),
        ];
        for (pointer, is_batch, expected) in cases {
            assert_eq!(pointer_of(pointer, is_batch, &types), expected);
        }
    }
}

//! Tells instances of events of the log, in order; the index has found out whom they concern.

use std::{collections::HashSet, num::NonZeroU32, sync::Arc};

use bytes::Bytes;

use super::{
    desk::{Desk, Telling, Told},
    index::{INBOX, INDEX, InboxRow},
    worker::Setback,
};
use crate::{
    command_bus::RequestContext,
    envelope::EventFilter,
    failpoint,
    id::AggregateId,
    ports::StoreError,
    saga::{Delivery, Initiator, RoutedEvent, SagaOrder, SagaRecord, StartOrder, derived_command_id},
    version::Position,
    view::{ListRange, Selection},
};

impl From<StoreError> for Setback {
    fn from(error: StoreError) -> Self {
        Self::Silence(error.to_string())
    }
}

/// Whether events may wait for an instance: only for sagas that want some, and for those that have not begun.
pub(super) fn concerns(desk: &Desk, known: Option<&SagaRecord>) -> bool {
    known.is_none_or(|known| desk.definitions.newest(&known.saga_type).is_some_and(|saga| !saga.interest().is_empty()))
}

/// Tells the first event that was not told yet; none if there is none.
pub(super) async fn deliver_next(
    desk: &Arc<Desk>,
    id: &AggregateId,
    known: Option<&SagaRecord>,
    delivered: &mut HashSet<Position>,
) -> Result<Option<Told>, Setback> {
    let mut list = ListRange { limit: PAGE, ..ListRange::new(INBOX, id.as_str()) };
    loop {
        let page = desk.views.read(INDEX, &Selection::List(list.clone())).await?;
        let rows = page.map(|page| page.rows).unwrap_or_default();
        for (sort, data) in &rows {
            let Ok(position) = sort.parse().map(Position) else { continue };
            // The row stays until the index has seen that the event came in.
            if !delivered.contains(&position) {
                let told = deliver(desk, id, known, position, data).await?;
                delivered.insert(position);
                if told.is_some() {
                    return Ok(told);
                }
            }
        }
        match rows.last() {
            Some((sort, _)) if rows.len() >= PAGE.get() as usize => list.after = Some(sort.clone()),
            _ => return Ok(None),
        }
    }
}

const PAGE: NonZeroU32 = NonZeroU32::MIN.saturating_add(99);

async fn deliver(
    desk: &Arc<Desk>,
    id: &AggregateId,
    known: Option<&SagaRecord>,
    position: Position,
    row: &Bytes,
) -> Result<Option<Told>, Setback> {
    let row: InboxRow = serde_json::from_slice(row).map_err(|error| Setback::Fault(error.to_string()))?;
    let page = desk.events.read_all(Position(position.0 - 1), &EventFilter::default(), NonZeroU32::MIN).await?;
    let event = page.events.into_iter().next().filter(|event| event.position == position);
    let event = event.ok_or_else(|| Setback::Silence(format!("event {position} cannot be read yet")))?;
    let context = |correlation_id: Option<Arc<str>>| RequestContext {
        correlation_id: correlation_id.unwrap_or_else(|| RequestContext::new().correlation_id),
        causation_id: Some(Arc::from(event.event_id.to_string())),
        traceparent: event.parsed_metadata().and_then(|metadata| metadata.traceparent),
    };
    failpoint::pass("saga-input-delivering");
    let told = match (row, known) {
        (InboxRow::Start { saga_type, key, data, trigger, correlation_id }, None) => {
            let initiator = Initiator { name: Arc::from("system"), roles: vec![Arc::from("admin")] };
            let start =
                StartOrder { saga_type, data, timeout: None, initiator, trigger: Some(trigger), key: Some(key) };
            let command = derived_command_id(id, event.recorded_at, &format!("start/{position}"));
            desk.tell(id, SagaOrder::Start(start), Telling::internal(command, context(correlation_id))).await?
        }
        // It has begun: the index will see so.
        (InboxRow::Start { .. }, Some(_)) => return Ok(None),
        (InboxRow::Continue, None) => return Err(Setback::Silence("the saga has not begun yet".to_owned())),
        (InboxRow::Continue, Some(known)) => {
            let catalog = &desk.bus.write_side.recovery.catalog;
            let data = catalog.current_data(&event).map_err(|error| Setback::Fault(error.to_string()))?;
            let routed = RoutedEvent {
                position,
                aggregate_id: event.aggregate_id.clone(),
                aggregate_type: event.aggregate_type.clone(),
                event_type: event.event_type.clone(),
                data: serde_json::from_slice(&data).map_err(|error| Setback::Fault(error.to_string()))?,
            };
            let command = derived_command_id(id, known.started_at, &format!("event/{position}"));
            let telling = Telling::internal(command, context(Some(known.correlation_id.clone())));
            desk.tell(id, SagaOrder::Deliver(Delivery::Event(routed)), telling).await?
        }
    };
    failpoint::pass("saga-input-delivered");
    Ok(Some(told))
}

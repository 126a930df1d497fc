//! `inventory`: the stock of each product, its movements and reservations, and what runs low.

use event_sourcing_actors::{
    AggregateId, EventFilter,
    projection::{ApplyError, ProjectedEvent, Projection, RowGauge, Rows},
    view::sort_of_number,
};

use super::{expected, interest_in, unexpected, within};
use crate::{
    domain::inventory::{InventoryEvent, InventoryItem, InventoryItemCreated},
    views::inventory::{InventoryTotalsRow, MovementKind, MovementRow, ReservationRow, StockRow},
};

/// Stock, by product id.
pub const STOCK: &str = "stock";
/// Movements of a product's stock, by sequence.
pub const MOVEMENTS: &str = "movements";
/// What is set aside of a product, by order id.
pub const RESERVATIONS: &str = "reservations";
/// Stock that is low, by product id.
pub const LOW_STOCK: &str = "low_stock";
/// Counts over all products: one row.
pub const TOTALS: &str = "totals";

/// The projection.
#[derive(Debug, Clone, Copy, Default)]
pub struct Inventory;

impl Inventory {
    /// Its name.
    pub const NAME: &'static str = "inventory";
    /// Version of what it does.
    pub const VERSION: u64 = 1;
}

impl Projection for Inventory {
    fn name(&self) -> &str {
        Self::NAME
    }

    fn version(&self) -> u64 {
        Self::VERSION
    }

    fn interest(&self) -> EventFilter {
        interest_in::<InventoryItem>()
    }

    fn apply(&self, event: &ProjectedEvent<'_>, rows: &mut Rows<'_>) -> Result<(), ApplyError> {
        let id = event.aggregate_id.as_str();
        let known: Option<StockRow> = rows.get(STOCK, "", id)?;
        let was_low = known.as_ref().map(|stock| stock.low);
        let (mut stock, movement) = match event.domain::<InventoryEvent>()? {
            InventoryEvent::InventoryItemCreated(created) => {
                unexpected(known, event)?;
                begin(event, created)
            }
            change => {
                let mut stock = expected(known, event)?;
                let movement = change_stock(event, rows, &mut stock, change)?;
                (stock, movement)
            }
        };
        stock.available = within(stock.on_hand.checked_sub(stock.reserved), "available")?;
        stock.low = stock.available <= stock.low_stock_threshold;
        stock.version = event.sequence;
        stock.updated_at = event.recorded_at;
        rows.put(STOCK, "", id, &stock)?;
        put_movement(event, rows, &stock, movement)?;
        if stock.low {
            rows.put(LOW_STOCK, "", id, &stock)?;
        } else if was_low == Some(true) {
            rows.delete(LOW_STOCK, "", id);
        }
        recount(rows, was_low, stock.low)
    }

    fn gauges(&self) -> &'static [RowGauge] {
        &[RowGauge {
            metric: "es_inventory_low_stock_products",
            help: "Products of which no more is available than their threshold.",
            row: (TOTALS, "", ""),
            member: "low_stock",
        }]
    }
}

/// What the history is to say.
struct Movement {
    kind: MovementKind,
    quantity: i64,
    order_id: Option<AggregateId>,
    reason: Option<String>,
}

impl Movement {
    fn of(kind: MovementKind, quantity: i64) -> Self {
        Self { kind, quantity, order_id: None, reason: None }
    }

    fn for_order(kind: MovementKind, quantity: i64, order_id: AggregateId) -> Self {
        Self { order_id: Some(order_id), ..Self::of(kind, quantity) }
    }
}

fn begin(event: &ProjectedEvent<'_>, created: InventoryItemCreated) -> (StockRow, Movement) {
    let stock = StockRow {
        product_id: event.aggregate_id.clone(),
        name: created.name,
        on_hand: created.initial_quantity,
        reserved: 0,
        available: created.initial_quantity,
        low_stock_threshold: created.low_stock_threshold,
        low: false,
        version: event.sequence,
        updated_at: event.recorded_at,
    };
    (stock, Movement::of(MovementKind::Created, created.initial_quantity))
}

fn change_stock(
    event: &ProjectedEvent<'_>,
    rows: &mut Rows<'_>,
    stock: &mut StockRow,
    change: InventoryEvent,
) -> Result<Movement, ApplyError> {
    let product_id = &event.aggregate_id;
    Ok(match change {
        // The caller has begun that stock.
        InventoryEvent::InventoryItemCreated(created) => Movement::of(MovementKind::Created, created.initial_quantity),
        InventoryEvent::StockReceived(received) => {
            stock.on_hand = within(stock.on_hand.checked_add(received.quantity), "on_hand")?;
            Movement::of(MovementKind::Received, received.quantity)
        }
        InventoryEvent::StockReserved(reserved) => {
            stock.reserved = within(stock.reserved.checked_add(reserved.quantity), "reserved")?;
            let (order_id, quantity) = (reserved.order_id, reserved.quantity);
            let reservation = ReservationRow { product_id: product_id.clone(), order_id, quantity };
            rows.put(RESERVATIONS, product_id.as_str(), reservation.order_id.as_str(), &reservation)?;
            Movement::for_order(MovementKind::Reserved, quantity, reservation.order_id)
        }
        InventoryEvent::StockReleased(released) => {
            let quantity = free(event, rows, stock, &released.order_id)?;
            Movement::for_order(MovementKind::Released, quantity, released.order_id)
        }
        InventoryEvent::StockShipped(shipped) => {
            let quantity = free(event, rows, stock, &shipped.order_id)?;
            stock.on_hand = within(stock.on_hand.checked_sub(quantity), "on_hand")?;
            Movement::for_order(MovementKind::Shipped, quantity, shipped.order_id)
        }
        InventoryEvent::StockAdjusted(adjusted) => {
            stock.on_hand = within(stock.on_hand.checked_add(adjusted.delta), "on_hand")?;
            Movement { reason: Some(adjusted.reason), ..Movement::of(MovementKind::Adjusted, adjusted.delta) }
        }
    })
}

/// Ends a reservation; returns how much it held.
fn free(
    event: &ProjectedEvent<'_>,
    rows: &mut Rows<'_>,
    stock: &mut StockRow,
    order_id: &AggregateId,
) -> Result<i64, ApplyError> {
    let product_id = event.aggregate_id.as_str();
    let reservation: Option<ReservationRow> = rows.get(RESERVATIONS, product_id, order_id.as_str())?;
    let Some(ReservationRow { quantity, .. }) = reservation else {
        let (kind, order) = (&event.event_type, order_id.as_str());
        return Err(ApplyError::failed(format!("{kind}: nothing of {product_id:?} is reserved for order {order:?}")));
    };
    rows.delete(RESERVATIONS, product_id, order_id.as_str());
    stock.reserved = within(stock.reserved.checked_sub(quantity), "reserved")?;
    Ok(quantity)
}

fn put_movement(
    event: &ProjectedEvent<'_>,
    rows: &mut Rows<'_>,
    stock: &StockRow,
    movement: Movement,
) -> Result<(), ApplyError> {
    let row = MovementRow {
        product_id: stock.product_id.clone(),
        sequence: event.sequence,
        position: event.position,
        kind: movement.kind,
        quantity: movement.quantity,
        on_hand_after: stock.on_hand,
        reserved_after: stock.reserved,
        order_id: movement.order_id,
        reason: movement.reason,
        at: event.recorded_at,
    };
    rows.put(MOVEMENTS, event.aggregate_id.as_str(), &sort_of_number(event.sequence.0), &row)
}

/// Keeps the totals; `was_low` is none for a new product. Events that change no count leave that busy row alone.
fn recount(rows: &mut Rows<'_>, was_low: Option<bool>, is_low: bool) -> Result<(), ApplyError> {
    let (new, low) = (i64::from(was_low.is_none()), i64::from(is_low) - i64::from(was_low.unwrap_or(false)));
    if (new, low) == (0, 0) {
        return Ok(());
    }
    let totals: InventoryTotalsRow = rows.get(TOTALS, "", "")?.unwrap_or_default();
    let totals = InventoryTotalsRow {
        products: within(totals.products.checked_add(new), "products")?,
        low_stock: within(totals.low_stock.checked_add(low), "low_stock")?,
    };
    rows.put(TOTALS, "", "", &totals)
}

#[cfg(test)]
mod tests;

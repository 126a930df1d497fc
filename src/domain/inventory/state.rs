//! A product's stock: decisions and folding.

use std::collections::BTreeMap;

use event_sourcing_actors::{Aggregate, AggregateId, DecisionContext, schema::SchemaOf};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    InventoryCommand, InventoryEvent, InventoryItemCreated, InventoryRejection, StockAdjusted, StockReceived,
    StockReleased, StockReserved, StockShipped,
};

/// The stock of one product; `null` as JSON before its first event.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct InventoryItem(Option<InventoryState>);

/// A product whose stock is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InventoryState {
    /// The product.
    pub product_id: AggregateId,
    /// Its name.
    pub name: String,
    /// Pieces in the house; never fewer than are reserved.
    #[schemars(range(min = 0))]
    pub on_hand: i64,
    /// Pieces set aside, over all orders.
    #[schemars(range(min = 0))]
    pub reserved: i64,
    /// Pieces set aside, by order.
    pub reservations: BTreeMap<AggregateId, i64>,
    /// Stock is low when no more than this is available.
    #[schemars(range(min = 0))]
    pub low_stock_threshold: i64,
}

impl InventoryState {
    /// Pieces that can be reserved: on hand and not reserved.
    #[must_use]
    pub fn available(&self) -> i64 {
        self.on_hand.saturating_sub(self.reserved)
    }

    fn takes_in(&self, requested: i64) -> Result<(), InventoryRejection> {
        match self.on_hand.checked_add(requested) {
            Some(_) => Ok(()),
            None => Err(InventoryRejection::QuantityOverflow { on_hand: self.on_hand, requested }),
        }
    }

    fn gives(&self, requested: u64) -> Result<(), InventoryRejection> {
        let available = self.available();
        if i128::from(requested) <= i128::from(available) {
            return Ok(());
        }
        Err(InventoryRejection::InsufficientStock { available, requested })
    }

    fn holds_for(&self, order_id: &AggregateId) -> Result<(), InventoryRejection> {
        if self.reservations.contains_key(order_id) {
            return Ok(());
        }
        Err(InventoryRejection::ReservationNotFound { order_id: order_id.clone() })
    }

    fn free(&mut self, order_id: &AggregateId) -> i64 {
        let quantity = self.reservations.remove(order_id).unwrap_or(0);
        self.reserved = self.reserved.saturating_sub(quantity);
        quantity
    }
}

impl InventoryItem {
    /// The state, once stock is kept.
    #[must_use]
    pub fn get(&self) -> Option<&InventoryState> {
        self.0.as_ref()
    }

    fn kept(&self) -> Result<&InventoryState, InventoryRejection> {
        self.0.as_ref().ok_or(InventoryRejection::ItemNotFound)
    }
}

impl Aggregate for InventoryItem {
    const TYPE: &'static str = "inventory";
    const ID_MEMBER: Option<&'static str> = Some("product_id");
    type Command = InventoryCommand;
    type Event = InventoryEvent;
    type Rejection = InventoryRejection;

    fn decide(
        &self,
        command: &InventoryCommand,
        context: &DecisionContext<'_>,
    ) -> Result<Vec<InventoryEvent>, InventoryRejection> {
        let event: InventoryEvent = match command {
            InventoryCommand::CreateInventoryItem(create) => InventoryItemCreated {
                product_id: context.aggregate_id.clone(),
                name: create.name.clone(),
                initial_quantity: create.initial_quantity,
                low_stock_threshold: create.low_stock_threshold,
            }
            .into(),
            InventoryCommand::ReceiveStock(receive) => StockReceived { quantity: receive.quantity }.into(),
            InventoryCommand::ReserveStock(reserve) => {
                StockReserved { order_id: reserve.order_id.clone(), quantity: reserve.quantity }.into()
            }
            InventoryCommand::ReleaseStock(release) => StockReleased { order_id: release.order_id.clone() }.into(),
            InventoryCommand::ShipStock(ship) => StockShipped { order_id: ship.order_id.clone() }.into(),
            InventoryCommand::AdjustStock(adjust) => {
                StockAdjusted { delta: adjust.delta, reason: adjust.reason.clone() }.into()
            }
        };
        self.admits(&event)?;
        Ok(vec![event])
    }

    fn state_schema() -> Option<SchemaOf> {
        Some(SchemaOf::type_of::<InventoryState>())
    }

    fn apply(&mut self, event: &InventoryEvent) {
        if let InventoryEvent::InventoryItemCreated(created) = event {
            self.0 = Some(InventoryState {
                product_id: created.product_id.clone(),
                name: created.name.clone(),
                on_hand: created.initial_quantity,
                reserved: 0,
                reservations: BTreeMap::new(),
                low_stock_threshold: created.low_stock_threshold,
            });
            return;
        }
        let Some(item) = &mut self.0 else { return };
        match event {
            InventoryEvent::InventoryItemCreated(_) => {}
            InventoryEvent::StockReceived(received) => item.on_hand = item.on_hand.saturating_add(received.quantity),
            InventoryEvent::StockReserved(reserved) => {
                item.free(&reserved.order_id);
                item.reservations.insert(reserved.order_id.clone(), reserved.quantity);
                item.reserved = item.reserved.saturating_add(reserved.quantity);
            }
            InventoryEvent::StockReleased(released) => {
                item.free(&released.order_id);
            }
            InventoryEvent::StockShipped(shipped) => {
                let quantity = item.free(&shipped.order_id);
                item.on_hand = item.on_hand.saturating_sub(quantity);
            }
            InventoryEvent::StockAdjusted(adjusted) => item.on_hand = item.on_hand.saturating_add(adjusted.delta),
        }
    }

    fn admits(&self, event: &InventoryEvent) -> Result<(), InventoryRejection> {
        event.check()?;
        match event {
            InventoryEvent::InventoryItemCreated(_) if self.0.is_some() => Err(InventoryRejection::ItemExists),
            InventoryEvent::InventoryItemCreated(_) => Ok(()),
            InventoryEvent::StockReceived(received) => self.kept()?.takes_in(received.quantity),
            InventoryEvent::StockReserved(reserved) => {
                let item = self.kept()?;
                if let Some(quantity) = item.reservations.get(&reserved.order_id) {
                    let order_id = reserved.order_id.clone();
                    return Err(InventoryRejection::AlreadyReserved { order_id, quantity: *quantity });
                }
                item.gives(reserved.quantity.unsigned_abs())
            }
            InventoryEvent::StockReleased(released) => self.kept()?.holds_for(&released.order_id),
            InventoryEvent::StockShipped(shipped) => self.kept()?.holds_for(&shipped.order_id),
            InventoryEvent::StockAdjusted(adjusted) if adjusted.delta < 0 => {
                self.kept()?.gives(adjusted.delta.unsigned_abs())
            }
            InventoryEvent::StockAdjusted(adjusted) => self.kept()?.takes_in(adjusted.delta),
        }
    }
}

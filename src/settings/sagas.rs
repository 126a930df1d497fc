//! The section `sagas` of `cqrs.yaml`.

use std::time::Duration;

use event_sourcing_actors::saga::StepPolicy;
use serde::{Deserialize, Serialize};

use super::schema::{Bound, bound};

const WEEK_MS: u64 = 604_800_000;
const DAY_MS: u64 = 86_400_000;

/// Long-running transactions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sagas {
    /// Instances that are worked on at once by the process that owns them.
    pub in_flight_max: usize,
    /// Faults of one instance in a row before it is set aside.
    pub attempts_max: u32,
    /// Longest pause between two tries while something does not answer.
    pub retry_pause_max_ms: u64,
    /// How long each saga may take, and how often its steps are tried.
    pub definitions: SagaDefinitions,
}

impl Default for Sagas {
    fn default() -> Self {
        Self { in_flight_max: 512, attempts_max: 8, retry_pause_max_ms: 5_000, definitions: SagaDefinitions::default() }
    }
}

/// The sagas that are built in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SagaDefinitions {
    /// Money from one account to another.
    #[serde(rename = "TransferSaga")]
    pub transfer: SagaDefinition,
    /// An order with its stock and its payment.
    #[serde(rename = "OrderFulfillmentSaga")]
    pub order_fulfillment: SagaDefinition,
}

impl Default for SagaDefinitions {
    fn default() -> Self {
        let transfer = SagaDefinition {
            timeout_ms: 60_000,
            step_timeout_ms: 30_000,
            attempts: 1,
            undo_attempts: 10,
            retry_pause_ms: 1_000,
        };
        Self { transfer, order_fulfillment: SagaDefinition { timeout_ms: 300_000, ..transfer } }
    }
}

/// How long a saga may take, and how often its steps are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SagaDefinition {
    /// For the whole, unless its start says otherwise; then it turns round.
    pub timeout_ms: u64,
    /// For one step; then the saga turns round.
    pub step_timeout_ms: u64,
    /// How often a step is tried that is refused.
    pub attempts: u32,
    /// How often an undo is tried that is refused, before an operator must act.
    pub undo_attempts: u32,
    /// Between two tries.
    pub retry_pause_ms: u64,
}

impl SagaDefinition {
    /// For the whole.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// For each step.
    #[must_use]
    pub fn step_policy(&self) -> StepPolicy {
        StepPolicy {
            timeout: Some(Duration::from_millis(self.step_timeout_ms)),
            attempts: self.attempts,
            undo_attempts: self.undo_attempts,
            pause: Duration::from_millis(self.retry_pause_ms),
        }
    }

    fn bounds(&self, name: &str) -> [Bound; 5] {
        let key = |member: &str| format!("sagas.definitions.{name}.{member}");
        [
            bound(key("timeout_ms"), self.timeout_ms, 1..=WEEK_MS),
            bound(key("step_timeout_ms"), self.step_timeout_ms, 1..=WEEK_MS),
            bound(key("attempts"), self.attempts, 1..=1_000),
            bound(key("undo_attempts"), self.undo_attempts, 1..=1_000),
            bound(key("retry_pause_ms"), self.retry_pause_ms, 1..=DAY_MS),
        ]
    }
}

impl Sagas {
    pub(super) fn bounds(&self) -> Vec<Bound> {
        let mut bounds = vec![
            bound("sagas.in_flight_max", self.in_flight_max, 1..=100_000),
            bound("sagas.attempts_max", self.attempts_max, 1..=1_000),
            bound("sagas.retry_pause_max_ms", self.retry_pause_max_ms, 1..=600_000),
        ];
        bounds.extend(self.definitions.transfer.bounds("TransferSaga"));
        bounds.extend(self.definitions.order_fulfillment.bounds("OrderFulfillmentSaga"));
        bounds
    }
}

//! Long work as the outside follows it.

use chrono::{DateTime, Utc};
use event_sourcing_actors::ports::{self, OperationStatus, StoreError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::microseconds;

/// An operation.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Operation {
    /// Its id; ids grow with time.
    pub operation_id: Uuid,
    /// What is done, such as `projection-rebuild`.
    pub kind: String,
    /// To what, such as a projection's name.
    pub subject: String,
    /// `running`, `succeeded`, `failed` or `cancelled`.
    pub status: OperationStatus,
    /// How far it has come.
    pub progress: OperationProgress,
    /// What came of it: an object.
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub result: Option<Box<RawValue>>,
    /// Why it failed.
    pub error: Option<String>,
    /// When it was asked for.
    #[serde(serialize_with = "microseconds")]
    pub created_at: DateTime<Utc>,
    /// When something was last heard of it.
    #[serde(serialize_with = "microseconds")]
    pub updated_at: DateTime<Utc>,
}

/// How far an operation has come, in units of its own (events).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OperationProgress {
    /// How much is done.
    pub done: u64,
    /// How much there is to do, as far as it is known.
    pub total: u64,
}

impl Operation {
    /// Whether it is over, whatever came of it.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.status != OperationStatus::Running
    }
}

impl TryFrom<ports::Operation> for Operation {
    type Error = StoreError;

    /// Fails with [`StoreError::Corrupt`] when its result is no JSON.
    fn try_from(operation: ports::Operation) -> Result<Self, StoreError> {
        let unreadable = |_| StoreError::Corrupt { reason: format!("the result of {} is not JSON", operation.id) };
        let result = operation.result.as_deref().map(serde_json::from_slice).transpose().map_err(unreadable)?;
        Ok(Self {
            operation_id: operation.id,
            kind: operation.kind,
            subject: operation.subject,
            status: operation.status,
            progress: OperationProgress { done: operation.done, total: operation.total },
            result,
            error: operation.error,
            created_at: operation.created_at,
            updated_at: operation.updated_at,
        })
    }
}

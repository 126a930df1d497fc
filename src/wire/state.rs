//! The place of an aggregate's state in a document: what it looks like depends on what is registered.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// An aggregate's state, as the schema named `AggregateState`.
pub(super) enum AggregateState {}

impl JsonSchema for AggregateState {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "AggregateState".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "$ref": "#/components/schemas/AggregateState" })
    }
}

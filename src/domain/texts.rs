//! What the domains' texts may be, as schemas: the checks themselves are those of `Violations::text`.

use std::borrow::Cow;

use event_sourcing_actors::schema::text_schema;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::{REFERENCE_BYTES_MAX, TEXT_BYTES_MAX};

/// A name, title or reason.
pub(crate) enum Text {}

/// A reference to something that is not ours.
pub(crate) enum Reference {}

impl JsonSchema for Text {
    fn schema_name() -> Cow<'static, str> {
        "Text".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        text_schema("A name, title or reason.", TEXT_BYTES_MAX)
    }
}

impl JsonSchema for Reference {
    fn schema_name() -> Cow<'static, str> {
        "Reference".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        text_schema(
            "A reference to something that is kept elsewhere, such as a session or a parcel.",
            REFERENCE_BYTES_MAX,
        )
    }
}

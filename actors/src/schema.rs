//! Schemas of what is registered: commands, events, states, queries and sagas, for documents about them.
//!
//! Nothing here is needed to run. A type with `schemars::JsonSchema` shows its members; one without it is shown as an
//! object, so nobody is made to derive anything.

use std::{fmt, marker::PhantomData, sync::Arc};

pub use schemars::{JsonSchema, Schema, SchemaGenerator, generate::SchemaSettings, json_schema};

/// Makes the schema of one type, and those of the types within it in the generator.
#[derive(Clone)]
pub struct SchemaOf(Arc<dyn Fn(&mut SchemaGenerator) -> Schema + Send + Sync>);

impl fmt::Debug for SchemaOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SchemaOf")
    }
}

impl SchemaOf {
    /// The schema of a type.
    #[must_use]
    pub fn type_of<T: JsonSchema + 'static>() -> Self {
        Self(Arc::new(SchemaGenerator::subschema_for::<T>))
    }

    /// A schema that is only known at run time, such as that of declared rows.
    #[must_use]
    pub fn new(make: impl Fn(&mut SchemaGenerator) -> Schema + Send + Sync + 'static) -> Self {
        Self(Arc::new(make))
    }

    /// Makes it.
    #[must_use]
    pub fn make(&self, generator: &mut SchemaGenerator) -> Schema {
        (self.0)(generator)
    }
}

/// The schema of a text of 1 to so many bytes of UTF-8 without control characters. JSON Schema counts characters, of
/// which there are at most as many as bytes.
#[must_use]
pub fn text_schema(description: &str, bytes_max: usize) -> Schema {
    json_schema!({
        "type": "string",
        "description": format!("{description} 1 to {bytes_max} bytes of UTF-8 without control characters."),
        "minLength": 1,
        "maxLength": bytes_max,
        "pattern": NO_CONTROLS,
    })
}

/// A regular expression (ECMA-262) for texts without control characters.
pub const NO_CONTROLS: &str = "^[^\\u0000-\\u001f\\u007f-\\u009f]*$";

/// Asks whether a type has a schema, inside of [`commands!`](crate::commands) and [`events!`](crate::events): a method
/// call prefers [`Derived`], which takes one reference less.
#[doc(hidden)]
#[derive(Debug)]
pub struct Probe<T>(PhantomData<fn() -> T>);

impl<T> Default for Probe<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

/// For types with a schema.
#[doc(hidden)]
pub trait Derived {
    /// Their schema.
    fn schema_of(&self) -> Option<SchemaOf>;
}

/// For all others.
#[doc(hidden)]
pub trait Underived {
    /// None.
    fn schema_of(&self) -> Option<SchemaOf>;
}

impl<T: JsonSchema + 'static> Derived for Probe<T> {
    fn schema_of(&self) -> Option<SchemaOf> {
        Some(SchemaOf::type_of::<T>())
    }
}

impl<T> Underived for &Probe<T> {
    fn schema_of(&self) -> Option<SchemaOf> {
        None
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::{Command, CommandData, commands};

    /// Adds.
    #[derive(Debug, Clone, serde::Deserialize, schemars::JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Told {
        /// How much.
        #[expect(dead_code, reason = "only its schema is looked at")]
        by: i64,
    }
    impl CommandData for Told {}

    #[derive(Debug, Clone, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Untold {}
    impl CommandData for Untold {}

    commands! {
        /// Both.
        enum Both { Told, Untold }
    }

    #[test]
    fn a_type_that_derives_its_schema_shows_it_and_another_does_without() {
        let mut generator = super::SchemaSettings::draft2020_12().into_generator();
        let made = Both::schema("Told").unwrap().make(&mut generator);
        assert_eq!(made.get("$ref"), Some(&json!("#/$defs/Told")));
        let told = &generator.definitions()["Told"];
        assert_eq!((&told["description"], &told["required"]), (&json!("Adds."), &json!(["by"])));
        assert!(Both::schema("Untold").is_none() && Both::schema("Unknown").is_none());
    }
}

//! Read models that an operator declares in `projections.yaml`: per event type a key, and what happens to the fields of
//! the row with that key.
//!
//! A declaration is checked at the start ([`declare`]); what only shows in an event, such as a text where a number
//! should be, parks that event. Its version is a digest of the declaration, so every edit builds the rows anew.

mod declaration;
mod error;
mod operation;
mod parse;
#[cfg(test)]
mod tests;
mod value;

use std::{collections::BTreeMap, sync::Arc};

use event_sourcing_actors::{
    EventFilter, EventType,
    projection::{ApplyError, ProjectedEvent, Projection, Rows},
};
use serde_json::{Value, value::RawValue};

pub use error::DeclarationError;

use declaration::{Declaration, Effect};

/// The one collection: rows by key.
pub const ROWS: &str = "rows";

/// The member that every row has: its key.
const KEY: &str = "key";

/// What a declaration is held against.
#[derive(Clone, Copy)]
pub struct Known<'a> {
    /// Names of projections that are taken.
    pub projections: &'a [&'a str],
    /// Event types that aggregates own.
    pub event_types: &'a [&'a str],
    /// Where a part of the declarations is written, by its JSON pointer: `config/projections.yaml, line 12`.
    pub place: &'a dyn Fn(&str) -> String,
}

/// Makes the projections of the declarations, by name.
///
/// # Errors
/// The first mistake, with its place and what would be right.
pub fn declare(
    declarations: &BTreeMap<String, Value>,
    known: Known<'_>,
) -> Result<Vec<Arc<Declared>>, DeclarationError> {
    let read = |(name, tree): (&String, &Value)| {
        let declaration = parse::declaration(name, tree, known)?;
        let event_types = declaration.on.keys().filter_map(|name| EventType::new(name).ok()).collect();
        Ok(Arc::new(Declared { name: name.clone(), version: declaration.version(), event_types, declaration }))
    };
    declarations.iter().map(read).collect()
}

/// A declared projection.
#[derive(Debug, Clone)]
pub struct Declared {
    name: String,
    version: u64,
    event_types: Vec<EventType>,
    declaration: Declaration,
}

impl Projection for Declared {
    fn name(&self) -> &str {
        &self.name
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn is_version_ordered(&self) -> bool {
        false
    }

    fn interest(&self) -> EventFilter {
        EventFilter { event_types: self.event_types.clone(), ..EventFilter::default() }
    }

    fn apply(&self, event: &ProjectedEvent<'_>, rows: &mut Rows<'_>) -> Result<(), ApplyError> {
        let Some(rule) = self.declaration.on.get(event.event_type.as_str()) else { return Ok(()) };
        let told = |error: String| ApplyError::failed(format!("{} of {}: {error}", self.name, event.event_type));
        let payload: &RawValue = serde_json::from_slice(event.payload())
            .map_err(|error| told(format!("the payload is no JSON: {error}")))?;
        let read = value::Reader { event, payload };
        let key = read.key(&rule.key).map_err(|error| told(format!("key {error}")))?;
        let Effect::Change { fields } = &rule.effect else {
            rows.delete(ROWS, "", &key);
            return Ok(());
        };
        let mut row: BTreeMap<String, Box<RawValue>> = rows.get(ROWS, "", &key)?.unwrap_or_default();
        row.insert(KEY.to_owned(), value::raw(&key));
        for (field, operation) in fields {
            let old = row.remove(field);
            let new = operation.apply(old, &read).map_err(|error| told(format!("field {field:?}: {error}")))?;
            if let Some(new) = new {
                row.insert(field.clone(), new);
            }
        }
        rows.put(ROWS, "", &key, &row)
    }
}

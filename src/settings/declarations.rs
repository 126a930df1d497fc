//! `projections.declarations`: a tree of the operator's own, passed on as it is, with the line of each part.

use std::{collections::BTreeMap, path::Path};

use config::{Map, Value, ValueKind};
use serde_json::{Number, Value as Json};

use super::{
    SettingsError,
    lines::lines,
    schema::{DECLARATIONS, leaves_below},
};

/// What was declared.
#[derive(Debug)]
pub(super) struct Declarations {
    pub(super) tree: Json,
    /// File and line, by JSON pointer.
    pub(super) places: BTreeMap<String, String>,
    origin: String,
}

impl Default for Declarations {
    fn default() -> Self {
        Self { tree: Json::Object(serde_json::Map::new()), places: BTreeMap::new(), origin: String::new() }
    }
}

impl Declarations {
    /// Takes the declarations out of the values of a file; other files have none.
    pub(super) fn take(
        &mut self,
        values: &mut Map<String, Value>,
        text: &str,
        path: &Path,
    ) -> Result<(), SettingsError> {
        let (section, member) = DECLARATIONS.split_once('.').unwrap_or_default();
        let Some(Value { kind: ValueKind::Table(members), .. }) = values.get_mut(section) else { return Ok(()) };
        let Some(declared) = members.remove(member) else { return Ok(()) };
        self.origin = format!("file {}", path.display());
        match json(declared) {
            Json::Null => {}
            tree @ Json::Object(_) => self.tree = tree,
            other => {
                let problem = format!("must be a section with a name for each read model, not {other}");
                let (key, origin) = (DECLARATIONS.to_owned(), self.origin.clone());
                return Err(SettingsError::Invalid { key, origin, problem });
            }
        }
        let root = format!("/{section}/{member}");
        for (pointer, line) in lines(text) {
            if let Some(part) = pointer.strip_prefix(&root).filter(|part| part.is_empty() || part.starts_with('/')) {
                self.places.insert(part.to_owned(), format!("{}, line {line}", self.origin));
            }
        }
        Ok(())
    }

    /// Where each leaf came from, as for all other settings.
    pub(super) fn origins(&self) -> impl Iterator<Item = (String, String)> {
        let leaves = if self.origin.is_empty() { Vec::new() } else { leaves_below(DECLARATIONS, &self.tree) };
        leaves.into_iter().map(|(key, _)| (key, self.origin.clone()))
    }
}

fn json(value: Value) -> Json {
    match value.kind {
        ValueKind::Nil => Json::Null,
        ValueKind::Boolean(truth) => Json::from(truth),
        ValueKind::I64(number) => Json::from(number),
        ValueKind::U64(number) => Json::from(number),
        ValueKind::Float(number) => Number::from_f64(number).map_or(Json::Null, Json::Number),
        ValueKind::String(text) => Json::from(text),
        ValueKind::Array(elements) => elements.into_iter().map(json).collect(),
        ValueKind::Table(members) => members.into_iter().map(|(name, member)| (name, json(member))).collect(),
        // Wider numbers come from no file.
        other => Json::from(other.to_string()),
    }
}

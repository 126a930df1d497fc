//! What is known: the tree of the defaults. Each layer is held against it before layers are merged, while it is still
//! known where a value came from.

use std::ops::RangeInclusive;

use config::{Map, Value, ValueKind};
use event_sourcing_actors::catalog::nearest;
use serde_json::{Value as Json, json};

use super::{Settings, SettingsError};

/// The three files and the sections that may stand in each.
pub(super) const FILES: [(&str, &[&str]); 3] = [
    ("event_store.yaml", &["event_store", "auth", "integrity", "erasure"]),
    ("projections.yaml", &["projections", "read_models", "cache"]),
    ("cqrs.yaml", &["commands", "queries", "aggregates", "branches", "sagas", "http", "log"]),
];

/// The member of a schema's section that stands for names of the operator's own.
const ANY: &str = "*";

/// The section that is a tree of its own; it never comes here.
pub(super) const DECLARATIONS: &str = "projections.declarations";

/// The defaults, plus what may stand under names of the operator's own.
pub(super) fn schema() -> Json {
    let mut tree = defaults();
    tree["event_store"]["aggregates"][ANY] = json!({"snapshot_frequency": 100});
    tree["projections"]["definitions"][ANY] =
        json!({"enabled": true, "batch_events_max": 1_000, "consistency": "latest"});
    tree["commands"]["types"][ANY] = json!({"role": null});
    tree["queries"]["types"][ANY] = json!({"timeout_ms": 5_000, "role": null});
    tree
}

pub(super) fn defaults() -> Json {
    serde_json::to_value(Settings::default()).unwrap_or_default()
}

/// The leaves of a tree of settings with their dotted names, in the order of the files.
pub(super) fn leaves(tree: &Json) -> Vec<(String, Json)> {
    let mut found = Vec::new();
    for section in FILES.iter().flat_map(|(_, sections)| *sections) {
        collect(section, &tree[section], &mut found);
    }
    found
}

/// The leaves of one part of the tree.
pub(super) fn leaves_below(key: &str, tree: &Json) -> Vec<(String, Json)> {
    let mut found = Vec::new();
    collect(key, tree, &mut found);
    found
}

fn collect(key: &str, value: &Json, found: &mut Vec<(String, Json)>) {
    match value {
        Json::Object(members) if members.is_empty() && !key.contains('.') => {}
        Json::Object(members) if !members.is_empty() => {
            for (name, member) in members {
                collect(&format!("{key}.{name}"), member, found);
            }
        }
        leaf => found.push((key.to_owned(), leaf.clone())),
    }
}

/// A number and the range it must lie in.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) key: String,
    value: u64,
    range: RangeInclusive<u64>,
}

pub(super) fn bound(key: impl Into<String>, value: impl TryInto<u64>, range: RangeInclusive<u64>) -> Bound {
    Bound { key: key.into(), value: value.try_into().unwrap_or(u64::MAX), range }
}

impl Bound {
    pub(super) fn problem(&self) -> Option<String> {
        let (least, most) = (self.range.start(), self.range.end());
        (!self.range.contains(&self.value)).then(|| format!("must be {least} to {most}, not {}", self.value))
    }
}

/// Holds the values of one source against the schema.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub(super) schema: &'a Json,
    /// File, variable or flag.
    pub(super) origin: String,
    /// Whether the source knows only text, so that numbers are read from it.
    pub(super) is_text: bool,
}

impl Reader<'_> {
    /// The same tree with its origin at each leaf, numbers read, and sections without members left out.
    pub(super) fn adopt(&self, values: Map<String, Value>) -> Result<Map<String, Value>, SettingsError> {
        let root = Value::new(None, ValueKind::Table(values));
        match self.value("", root, self.schema)?.map(|root| root.kind) {
            Some(ValueKind::Table(values)) => Ok(values),
            _ => Ok(Map::new()),
        }
    }

    fn value(&self, key: &str, value: Value, schema: &Json) -> Result<Option<Value>, SettingsError> {
        let kind = match (schema, value.kind) {
            (Json::Object(_), ValueKind::Nil) => return Ok(None),
            (Json::Object(_), ValueKind::Table(members)) => self.section(key, members, schema)?,
            (Json::Object(known), other) => return Err(self.wrong(key, &section_expected(known), &other)),
            (Json::Number(_), kind) => match self.number(&kind) {
                Some(number) => ValueKind::U64(number),
                None => return Err(self.wrong(key, "a whole number", &kind)),
            },
            (Json::Bool(_), kind) => match self.truth(&kind) {
                Some(truth) => ValueKind::Boolean(truth),
                None => return Err(self.wrong(key, "true or false", &kind)),
            },
            (Json::Array(_), kind) => match self.texts(kind) {
                Ok(texts) => ValueKind::Array(texts),
                Err(kind) => return Err(self.wrong(key, "a list of texts", &kind)),
            },
            (Json::Null, ValueKind::Nil) => ValueKind::Nil,
            (_, ValueKind::String(text)) => ValueKind::String(if self.is_text { text.trim().to_owned() } else { text }),
            // The value may be a secret: say its type only.
            (_, ValueKind::I64(_) | ValueKind::U64(_) | ValueKind::Float(_)) => {
                return Err(self.invalid(key, "must be text: write the number in quotes"));
            }
            (_, other) => return Err(self.wrong(key, "text", &other)),
        };
        Ok(Some(Value::new(Some(&self.origin), kind)))
    }

    fn section(&self, key: &str, members: Map<String, Value>, schema: &Json) -> Result<ValueKind, SettingsError> {
        let mut adopted = Map::new();
        for (name, member) in members {
            let name = self.as_known(name, schema);
            let path = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
            let known = schema.get(&name).filter(|_| name != ANY).or_else(|| schema.get(ANY));
            let Some(known) = known else { return Err(self.unknown(key, &name)) };
            if let Some(member) = self.value(&path, member, known)? {
                adopted.insert(name, member);
            }
        }
        Ok(ValueKind::Table(adopted))
    }

    /// A name as the schema spells it: variables have no capital letters.
    fn as_known(&self, name: String, schema: &Json) -> String {
        if !self.is_text || schema.get(&name).is_some() {
            return name;
        }
        let known = schema.as_object().into_iter().flatten().map(|(known, _)| known);
        known.into_iter().find(|known| known.eq_ignore_ascii_case(&name)).cloned().unwrap_or(name)
    }

    /// The crate `config` would round `1000.7` to 1001 and read `yes` as 1.
    fn number(&self, kind: &ValueKind) -> Option<u64> {
        match kind {
            ValueKind::I64(number) => u64::try_from(*number).ok(),
            ValueKind::U64(number) => Some(*number),
            ValueKind::String(text) if self.is_text => text.trim().parse().ok(),
            _ => None,
        }
    }

    fn truth(&self, kind: &ValueKind) -> Option<bool> {
        match kind {
            ValueKind::Boolean(truth) => Some(*truth),
            ValueKind::String(text) if self.is_text => text.trim().to_lowercase().parse().ok(),
            _ => None,
        }
    }

    /// A list of texts; from where there is only text, with commas between them.
    fn texts(&self, kind: ValueKind) -> Result<Vec<Value>, ValueKind> {
        let text = |text: &str| Value::new(Some(&self.origin), ValueKind::String(text.trim().to_owned()));
        match kind {
            ValueKind::Nil => Ok(Vec::new()),
            ValueKind::String(all) if self.is_text => Ok(all.split(',').map(text).collect()),
            ValueKind::Array(items) => {
                let is_text = |item: &Value| matches!(item.kind, ValueKind::String(_));
                if items.iter().all(is_text) { Ok(items) } else { Err(ValueKind::Array(items)) }
            }
            other => Err(other),
        }
    }

    fn invalid(&self, key: &str, problem: impl Into<String>) -> SettingsError {
        SettingsError::Invalid { key: key.to_owned(), origin: self.origin.clone(), problem: problem.into() }
    }

    fn wrong(&self, key: &str, expected: &str, found: &ValueKind) -> SettingsError {
        self.invalid(key, format!("must be {expected}, not {}", describe(found)))
    }

    fn unknown(&self, section: &str, name: &str) -> SettingsError {
        let key = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
        SettingsError::Unknown { hint: self.hint(section, name), key, origin: self.origin.clone() }
    }

    fn hint(&self, section: &str, name: &str) -> String {
        if section == DECLARATIONS {
            return "read models can only be declared in projections.yaml".to_owned();
        }
        let place = section
            .split('.')
            .filter(|part| !part.is_empty())
            .fold(self.schema, |tree, part| tree.get(part).unwrap_or(&tree[ANY]));
        let siblings: Vec<&str> = place.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect();
        let near = nearest(name, siblings.iter().copied()).into_iter().next();
        let near = near.map(|near| if section.is_empty() { near } else { format!("{section}.{near}") });
        if let Some(near) = self.elsewhere(name).or(near) {
            return format!("did you mean {}?", self.spelled(&near));
        }
        format!("known here: {}", siblings.join(", "))
    }

    /// The key that has this last word, but in another section.
    fn elsewhere(&self, name: &str) -> Option<String> {
        let keys = leaves(self.schema).into_iter().map(|(key, _)| key);
        keys.into_iter().find(|key| key.rsplit('.').next() == Some(name))
    }

    fn spelled(&self, key: &str) -> String {
        let is_variable = self.origin.starts_with("environment ");
        if is_variable { format!("ES__{}", key.replace('.', "__").to_uppercase()) } else { format!("{key:?}") }
    }
}

fn section_expected(known: &serde_json::Map<String, Json>) -> String {
    let names: Vec<&str> = known.keys().map(String::as_str).filter(|name| *name != ANY).collect();
    if names.is_empty() { "a section".to_owned() } else { format!("a section of {}", names.join(", ")) }
}

fn describe(kind: &ValueKind) -> String {
    match kind {
        ValueKind::Nil => "nothing".to_owned(),
        ValueKind::Boolean(value) => value.to_string(),
        ValueKind::Float(value) => format!("the fraction {value:?}"),
        ValueKind::String(text) => format!("the text {text:?}"),
        ValueKind::Table(_) => "a section".to_owned(),
        ValueKind::Array(_) => "a list".to_owned(),
        number => number.to_string(),
    }
}

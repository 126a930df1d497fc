//! The schemas of a document: collected under their names, merged, and with the bounds that numbers have.
//!
//! What comes in and what goes out are two contracts of one type: a member that may be left out of a request can be
//! there in every answer. Types whose two schemas differ appear twice, the one of requests as `<Name>Input`.

use std::collections::BTreeSet;

use event_sourcing_actors::schema::{JsonSchema, SchemaGenerator, SchemaOf, SchemaSettings};
use serde_json::{Map, Value, json};

const OUTPUT: &str = "#/components/schemas/";
const INPUT: &str = "#/components/input/";

/// Schemas by name.
#[derive(Debug)]
pub(super) struct Components {
    input: SchemaGenerator,
    output: SchemaGenerator,
    named: Map<String, Value>,
}

impl Components {
    pub fn new() -> Self {
        let settings = |path: &str| {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = path.to_owned().into();
                settings.meta_schema = None;
            })
        };
        Self {
            input: settings("/components/input").for_deserialize().into_generator(),
            output: settings("/components/schemas").for_serialize().into_generator(),
            named: Map::new(),
        }
    }

    /// The schema of something that comes in; an object if it shows none.
    pub fn input(&mut self, schema: Option<&SchemaOf>) -> Value {
        schema.map_or_else(object, |schema| schema.make(&mut self.input).to_value())
    }

    /// The schema of something that goes out; an object if it shows none.
    pub fn output(&mut self, schema: Option<&SchemaOf>) -> Value {
        schema.map_or_else(object, |schema| schema.make(&mut self.output).to_value())
    }

    /// For entries of the table, which name types.
    pub fn output_generator(&mut self) -> &mut SchemaGenerator {
        &mut self.output
    }

    /// For entries of the table, which name types.
    pub fn input_generator(&mut self) -> &mut SchemaGenerator {
        &mut self.input
    }

    /// A type's own schema, to be made into something more precise, which then takes its name.
    pub fn base<T: JsonSchema>(&mut self) -> Map<String, Value> {
        let _ = self.output.subschema_for::<T>();
        let schema = self.output.definitions_mut().remove(&*T::schema_name());
        schema.and_then(|schema| schema.as_object().cloned()).unwrap_or_default()
    }

    /// Puts a schema under a name, or a longer one if it is taken; answers the reference to it.
    pub fn add(&mut self, name: &str, schema: Value) -> Value {
        let mut name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        while self.named.contains_key(&name)
            || self.input.definitions().contains_key(&name)
            || self.output.definitions().contains_key(&name)
        {
            name.push('_');
        }
        self.named.insert(name.clone(), schema);
        reference(&name)
    }

    /// Puts a schema under exactly this name.
    pub fn define(&mut self, name: &str, schema: Value) {
        self.named.insert(name.to_owned(), schema);
    }

    /// Whether an empty object does not do.
    pub fn has_required(&self, schema: &Value) -> bool {
        let name = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix(INPUT));
        let schema = name.and_then(|name| self.input.definitions().get(name)).unwrap_or(schema);
        schema["required"].as_array().is_some_and(|required| !required.is_empty())
    }

    /// Writes all schemas into the document, and turns references to what comes in into their final names.
    pub fn finish(mut self, document: &mut Value) {
        let (input, mut all) = (self.input.take_definitions(true), self.output.take_definitions(true));
        all.extend(self.named);
        let apart = differing(&input, &all);
        let name = |name: &str| if apart.contains(name) { format!("{name}Input") } else { name.to_owned() };
        for (own, schema) in input {
            all.entry(name(&own)).or_insert(schema);
        }
        all.sort_keys();
        document["components"]["schemas"] = Value::Object(all);
        walk(document, &mut |members| {
            bound(members);
            if let Some(Value::String(reference)) = members.get_mut("$ref")
                && let Some(own) = reference.strip_prefix(INPUT)
            {
                *reference = format!("{OUTPUT}{}", name(own));
            }
            for value in members.get_mut("mapping").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut)
            {
                if let Some(own) = value.as_str().and_then(|reference| reference.strip_prefix(INPUT)) {
                    *value = Value::String(format!("{OUTPUT}{}", name(own)));
                }
            }
        });
    }
}

/// The names under which requests and answers differ, also by what they refer to.
fn differing(input: &Map<String, Value>, output: &Map<String, Value>) -> BTreeSet<String> {
    let text = |schema: &Value| schema.to_string().replace(INPUT, OUTPUT);
    let differs =
        |(name, schema): &(&String, &Value)| output.get(*name).is_some_and(|other| text(schema) != text(other));
    let mut apart: BTreeSet<String> = input.iter().filter(differs).map(|(name, _)| name.clone()).collect();
    loop {
        let refers =
            |schema: &Value| apart.iter().any(|name| schema.to_string().contains(&format!("\"{INPUT}{name}\"")));
        let more = input.iter().filter(|(name, schema)| !apart.contains(*name) && refers(schema));
        let more: Vec<String> = more.map(|(name, _)| name.clone()).collect();
        if more.is_empty() {
            return apart;
        }
        apart.extend(more);
    }
}

/// A reference to a schema by its name.
pub(super) fn reference(name: &str) -> Value {
    json!({ "$ref": format!("{OUTPUT}{name}") })
}

/// What is known of something that shows no schema.
fn object() -> Value {
    json!({ "type": "object" })
}

/// Visits every object within.
fn walk(value: &mut Value, visit: &mut impl FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Object(members) => {
            visit(members);
            members.values_mut().for_each(|member| walk(member, visit));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| walk(item, visit)),
        _ => {}
    }
}

/// Says the bounds that a number's format stands for: not every reader knows the formats.
fn bound(members: &mut Map<String, Value>) {
    let Some(format) = members.get("format").and_then(Value::as_str) else { return };
    let (minimum, maximum) = match format {
        "int64" => (json!(i64::MIN), json!(i64::MAX)),
        "uint64" | "uint" => (json!(0), json!(u64::MAX)),
        "uint32" => (json!(0), json!(u32::MAX)),
        _ => return,
    };
    if format.starts_with('u') {
        members.remove("format");
    }
    members.entry("minimum").or_insert(minimum);
    members.entry("maximum").or_insert(maximum);
}

//! The schemas that depend on what is registered: one per command, event, query and saga, and the unions of them.

use event_sourcing_actors::{
    AggregateId, AggregateType, EventId, EventType,
    query::QueryType,
    saga::SAGA_TYPE,
    schema::{JsonSchema, SchemaOf},
};
use serde_json::{Map, Value, json};

use super::{
    Registered,
    components::{Components, reference},
};
use crate::wire;

/// Adds all of them.
pub(super) fn define(components: &mut Components, registered: Registered<'_>) {
    commands(components, registered);
    appends(components, registered);
    events(components, registered);
    queries(components, registered);
    answers(components, registered);
    sagas(components, registered);
    states(components, registered);
}

/// One of several, told apart by a member.
struct Union {
    member: &'static str,
    variants: Vec<(String, Value)>,
    others: Vec<Value>,
}

impl Union {
    fn new(member: &'static str) -> Self {
        Self { member, variants: Vec::new(), others: Vec::new() }
    }

    fn define(self, components: &mut Components, name: &str, description: &str) {
        let Self { member, variants, others } = self;
        if variants.is_empty() && others.is_empty() {
            // Nothing is registered: nothing fits.
            return components.define(name, json!({ "description": description, "not": {} }));
        }
        let all: Vec<&Value> = variants.iter().map(|(_, variant)| variant).chain(&others).collect();
        let mut schema = json!({ "description": description, "oneOf": all });
        if others.is_empty() {
            let mapping: Map<String, Value> =
                variants.iter().map(|(value, variant)| (value.clone(), variant["$ref"].clone())).collect();
            schema["discriminator"] = json!({ "propertyName": member, "mapping": mapping });
        }
        components.define(name, schema);
    }
}

fn word(value: &str) -> Value {
    json!({ "type": "string", "const": value })
}

fn input<T: JsonSchema + 'static>(components: &mut Components) -> Value {
    components.input(Some(&SchemaOf::type_of::<T>()))
}

/// An object with these members and no others.
fn closed(description: &str, required: Vec<&str>, properties: Value) -> Value {
    json!({
        "type": "object", "description": description, "required": required, "properties": properties,
        "additionalProperties": false,
    })
}

fn with_data<'a>(components: &Components, mut required: Vec<&'a str>, data: &Value) -> Vec<&'a str> {
    if components.has_required(data) {
        required.push("data");
    }
    required
}

fn commands(components: &mut Components, registered: Registered<'_>) {
    let mut union = Union::new("command_type");
    for (aggregate_type, commands, _) in registered.catalog.entries() {
        for name in commands {
            let data = components.input(registered.catalog.command_schema(name).as_ref());
            let required = with_data(components, vec!["command_type", "aggregate_id"], &data);
            let id = input::<AggregateId>(components);
            let members = json!({ "command_type": word(name), "aggregate_id": id, "data": data });
            let mut schema =
                closed(&format!("The command {name} to an aggregate of type {aggregate_type}."), required, members);
            // For those who make forms: which aggregate it is for, as a word.
            schema["x-aggregate-type"] = json!(aggregate_type.as_str());
            union.variants.push(((*name).to_owned(), components.add(&format!("{name}Command"), schema)));
        }
    }
    union.define(components, "Command", "A command; `command_type` says which.");
}

/// What an append takes: events of aggregates, whose members are known, and those that nobody owns, which hold any JSON.
fn appends(components: &mut Components, registered: Registered<'_>) {
    let (mut one, mut item) = (Union::new("event_type"), Union::new("event_type"));
    let entries = registered.catalog.entries().filter(|(kind, ..)| kind.as_str() != SAGA_TYPE);
    for (aggregate_type, _, events) in entries {
        for (name, _) in events {
            let data = components.input(registered.catalog.event_schema(name).as_ref());
            let (own, kind) = (word(name), word(aggregate_type.as_str()));
            let description = format!("The event {name} of an aggregate of type {aggregate_type}.");
            let (single, element) = append_pair(components, &description, own, kind, &data);
            one.variants.push(((*name).to_owned(), components.add(&format!("Append{name}"), single)));
            item.variants.push(((*name).to_owned(), components.add(&format!("{name}ToAppend"), element)));
        }
    }
    let generic = not_owned(components, registered);
    let kind = input::<AggregateType>(components);
    let (single, element) =
        append_pair(components, "An event that no aggregate owns; its data is any JSON.", generic, kind, &json!({}));
    one.others.push(components.add("AppendGenericEvent", single));
    item.others.push(components.add("GenericEventToAppend", element));
    one.define(components, "AppendOne", "One event; `event_type` says which.");
    item.define(components, "EventToAppend", "One event of several; `event_type` says which.");
    let (id, kind) = (input::<AggregateId>(components), input::<AggregateType>(components));
    let items = json!({ "type": "array", "items": reference("EventToAppend"), "minItems": 1, "maxItems": 1_000 });
    let members = json!({ "aggregate_id": id, "aggregate_type": kind, "events": items });
    let many = closed("Several events of one stream: all of them, or none.", vec!["aggregate_id", "events"], members);
    let many = components.add("AppendMany", many);
    let description = "Events that nobody decided, for one stream.";
    components.define("Append", json!({ "description": description, "oneOf": [reference("AppendOne"), many] }));
}

/// The two forms of an event to append: on its own, and in a list.
fn append_pair(
    components: &mut Components,
    description: &str,
    own: Value,
    kind: Value,
    data: &Value,
) -> (Value, Value) {
    let (id, event_id) = (input::<AggregateId>(components), input::<EventId>(components));
    let required = with_data(components, vec!["aggregate_id", "event_type"], data);
    let members = json!({ "aggregate_id": id, "aggregate_type": kind, "event_type": own, "data": data });
    let single = closed(description, required, members);
    let required = with_data(components, vec!["event_type"], data);
    let members = json!({ "event_type": own, "data": data, "event_id": event_id });
    (single, closed(description, required, members))
}

fn not_owned(components: &mut Components, registered: Registered<'_>) -> Value {
    let owned: Vec<&str> =
        registered.catalog.entries().flat_map(|(_, _, events)| events.iter().map(|(name, _)| *name)).collect();
    json!({ "allOf": [input::<EventType>(components)], "not": { "enum": owned } })
}

/// Recorded events. A payload of an older schema version may have had other members.
fn events(components: &mut Components, registered: Registered<'_>) {
    let base = components.base::<wire::Event>();
    let mut union = Union::new("event_type");
    for (aggregate_type, _, events) in registered.catalog.entries() {
        for (name, version) in events {
            let data = components.input(registered.catalog.event_schema(name).as_ref());
            let description = format!("The event {name} of an aggregate of type {aggregate_type}, as recorded.");
            let mut schema = with(&base, &description, &[("event_type", word(name)), ("data", data.clone())]);
            if *version > 1 {
                schema["properties"]["data"] = json!({ "type": "object" });
                schema["properties"]["schema_version"] = json!({ "type": "integer", "minimum": 1, "maximum": version });
                let current = json!({ "properties": { "schema_version": { "const": version } } });
                schema["if"] = current;
                schema["then"] = json!({ "properties": { "data": data } });
            }
            union.variants.push(((*name).to_owned(), components.add(&format!("{name}Event"), schema)));
        }
    }
    let generic = not_owned(components, registered);
    let generic = with(&base, "An event that no aggregate owns; its data is any JSON.", &[("event_type", generic)]);
    union.others.push(components.add("GenericEvent", generic));
    union.define(components, "Event", "An event of the log; `event_type` says which.");
}

/// A type's schema with some of its members made more precise.
fn with(base: &Map<String, Value>, description: &str, members: &[(&str, Value)]) -> Value {
    let mut schema = base.clone();
    schema.insert("description".to_owned(), description.into());
    let mut schema = Value::Object(schema);
    for (name, member) in members {
        schema["properties"][*name] = member.clone();
    }
    schema
}

/// The query types of one name; more than one if several projections have it.
fn by_name<'a>(registered: Registered<'a>) -> impl Iterator<Item = (&'static str, Vec<&'a QueryType>)> {
    registered.queries.names().map(move |name| (name, registered.queries.of_name(name).collect()))
}

fn queries(components: &mut Components, registered: Registered<'_>) {
    let mut union = Union::new("query_type");
    for (name, types) in by_name(registered) {
        let mut of_name = Union::new("projection");
        for query in &types {
            let filters = components.input(query.filters.as_ref());
            let mut required = vec!["query_type"];
            if types.len() > 1 {
                required.push("projection");
            }
            if components.has_required(&filters) {
                required.push("filters");
            }
            let members =
                json!({ "query_type": word(name), "filters": filters, "projection": word(&query.projection) });
            let schema = closed(query.description, required, members);
            let place =
                if types.len() > 1 { format!("{name}_{}Query", query.projection) } else { format!("{name}Query") };
            of_name.variants.push((query.projection.clone(), components.add(&place, schema)));
        }
        union.variants.push((name.to_owned(), one_of(components, of_name, &format!("{name}Query"))));
    }
    union.define(components, "Query", "A query; `query_type` says which.");
}

fn answers(components: &mut Components, registered: Registered<'_>) {
    let base = components.base::<wire::Answered>();
    let mut union = Union::new("query_type");
    for (name, types) in by_name(registered) {
        let mut of_name = Union::new("projection");
        for query in &types {
            let data = components.output(query.data.as_ref());
            let members = [("query_type", word(name)), ("projection", word(&query.projection)), ("data", data)];
            let schema = with(&base, query.description, &members);
            let place =
                if types.len() > 1 { format!("{name}_{}Answer", query.projection) } else { format!("{name}Answer") };
            of_name.variants.push((query.projection.clone(), components.add(&place, schema)));
        }
        union.variants.push((name.to_owned(), one_of(components, of_name, &format!("{name}Answer"))));
    }
    union.define(components, "Answered", "An answered query; `query_type` says which.");
}

/// The union, or its only variant.
fn one_of(components: &mut Components, union: Union, name: &str) -> Value {
    match union.variants.as_slice() {
        [(_, only)] => only.clone(),
        _ => {
            union.define(components, name, "One per projection.");
            reference(name)
        }
    }
}

fn sagas(components: &mut Components, registered: Registered<'_>) {
    let mut union = Union::new("saga_type");
    let mut all_data = Vec::new();
    for name in registered.sagas.names() {
        let data = components.input(registered.sagas.data_schema(name).as_ref());
        all_data.push(data.clone());
        let required = with_data(components, vec!["saga_type"], &data);
        let timeout = json!({
            "type": "integer", "minimum": 1, "maximum": 31_536_000_000_u64,
            "description": "How long it may take, in milliseconds; else its definition says.",
        });
        let members = json!({ "saga_type": word(name), "data": data, "timeout_ms": timeout });
        let schema = closed(&format!("Starts a {name}."), required, members);
        union.variants.push((name.to_owned(), components.add(&format!("Start{name}"), schema)));
    }
    union.define(components, "StartSaga", "The start of a saga; `saga_type` says which.");
    // A store may hold sagas of programs that this one does not know.
    all_data.push(json!({ "type": "object" }));
    let base = components.base::<wire::Saga>();
    let saga = with(&base, "Everything about one instance.", &[("data", json!({ "anyOf": all_data }))]);
    components.define("Saga", saga);
}

fn states(components: &mut Components, registered: Registered<'_>) {
    let mut all = Vec::new();
    for (aggregate_type, ..) in registered.catalog.entries() {
        let state = components.output(registered.catalog.state_schema(aggregate_type).as_ref());
        if !all.contains(&state) {
            all.push(state);
        }
    }
    all.push(json!({ "type": "null" }));
    let description = "An aggregate's state; null before its first event, and for a stream that no aggregate owns.";
    components.define("AggregateState", json!({ "description": description, "anyOf": all }));
}

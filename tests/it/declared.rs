//! Declared read models from file to row, as an operator writes them.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use bytes::Bytes;
use chrono::DateTime;
use event_sourcing_actors::{
    AggregateId, AggregateType, EventId, EventType, NewEvent, Position, RecordedEvent, StreamHead,
    catalog::Catalog,
    envelope::EventBody,
    projection::{Applied, Projection, RowMemory},
    query::QueryCatalog,
    view::{RowKey, Selection},
};
use event_sourcing_cqrs::{
    domain,
    projections::{self, DeclarationError, Declared, Known},
    queries,
    settings::{Settings, Source},
};
use serde_json::{Value, json};
use uuid::Uuid;

/// What a start does with this `projections.yaml`.
fn start(yaml: &str) -> Result<Vec<Arc<Declared>>, DeclarationError> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("projections.yaml"), yaml).unwrap();
    let source = Source { config_dir: Some(folder.path().to_owned()), ..Source::default() };
    let settings = Settings::load(source).unwrap();
    let (built_in, catalog) = (projections::all(), catalog());
    let names: Vec<&str> = built_in.iter().map(|projection| projection.name()).collect();
    let event_types: Vec<&str> =
        catalog.entries().flat_map(|(.., events)| events.iter().map(|(name, _)| *name)).collect();
    let place = |pointer: &str| settings.declaration_place(pointer);
    let known = Known { projections: &names, event_types: &event_types, place: &place };
    projections::declared::declare(&settings.projections.declarations, known)
}

fn catalog() -> Catalog {
    let mut catalog = Catalog::default();
    domain::register(&mut catalog).unwrap();
    catalog
}

/// The rows after these events: type, stream, event type, payload.
fn rows(projection: &Declared, events: &[(&str, &str, &str, Value)]) -> BTreeMap<String, Value> {
    let (catalog, mut memory, mut stored) = (catalog(), RowMemory::default(), BTreeMap::<RowKey, Bytes>::new());
    let mut heads = BTreeMap::new();
    for (number, (kind, id, event_type, payload)) in (1_u64..).zip(events) {
        let id = AggregateId::new(id).unwrap();
        let body = EventBody {
            event_id: EventId(Uuid::from_u128(u128::from(number))),
            event_type: EventType::new(event_type).unwrap(),
            schema_version: 1,
            data: payload.to_string().into(),
            metadata: Bytes::from_static(b"{}"),
        };
        let head = heads.entry(id.clone()).or_insert(StreamHead::EMPTY);
        let event = NewEvent::following(head, &id, &AggregateType::new(kind).unwrap(), body);
        let recorded_at = DateTime::from_timestamp(1_704_067_200, 0).unwrap();
        let event = RecordedEvent::new(Position(number), recorded_at, event);
        if !projection.interest().matches(&event) {
            continue;
        }
        let changes = loop {
            match memory.apply(projection, &event, &catalog) {
                Applied::Changes(changes) => break changes,
                Applied::NotLoaded(keys) => keys.into_iter().for_each(|key| {
                    let data = stored.get(&key).cloned();
                    memory.remember(key, data);
                }),
                Applied::Failed(reason) => panic!("{reason}"),
            }
        };
        memory.take_over(&changes);
        for (key, data) in changes {
            match data {
                Some(data) => stored.insert(key, data),
                None => stored.remove(&key),
            };
        }
    }
    stored.into_iter().map(|(key, data)| (key.sort.into(), serde_json::from_slice(&data).unwrap())).collect()
}

fn repository_file(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// The YAML of the documentation.
fn documented() -> String {
    let text = repository_file("docs/read-models.md");
    let (_, rest) = text.split_once("```yaml\n").unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

#[test]
fn the_documented_declarations_do_what_the_page_says() {
    let declared = start(&documented()).unwrap_or_else(|error| panic!("{error}"));
    let names: Vec<&str> = declared.iter().map(|projection| projection.name()).collect();
    assert_eq!(names, ["account_turnover", "views_by_day"]);
    let events = [
        ("account", "a", "AccountCreated", json!({"account_id": "a", "owner": "Ann", "initial_balance": 5})),
        ("account", "b", "AccountCreated", json!({"account_id": "b", "owner": "Bob", "initial_balance": 0})),
        ("account", "a", "MoneyDeposited", json!({"amount": 7, "transfer_id": "t-1"})),
        ("account", "a", "MoneyDeposited", json!({"amount": 3})),
        ("account", "b", "AccountClosed", json!({})),
        ("site", "s", "PageViewed", json!({"page": {"path": "/"}})),
        ("site", "s", "PageViewed", json!({"page": {"path": "/shop"}})),
    ];
    let turnover = json!({"key": "a", "owner": "Ann", "status": "open", "opened_at": "2024-01-01T00:00:00.000000Z",
        "deposits": 2, "turnover": 10, "largest": 7, "transfers": ["t-1"]});
    assert_eq!(rows(&declared[0], &events), BTreeMap::from([("a".to_owned(), turnover)]));
    let views = json!({"key": "2024-01-01", "views": 2, "last_page": "/shop"});
    assert_eq!(rows(&declared[1], &events), BTreeMap::from([("2024-01-01".to_owned(), views)]));
}

#[test]
fn the_example_in_the_shipped_file_is_a_declaration() {
    let shipped = repository_file("config/projections.yaml");
    let lines = shipped.lines().skip_while(|line| line.trim() != "#   declarations:");
    let yaml: String = lines.map_while(|line| Some(format!("  {}\n", line.trim().strip_prefix("#   ")?))).collect();
    let declared = start(&format!("projections:\n{yaml}")).unwrap_or_else(|error| panic!("{error}\n{yaml}"));
    assert_eq!(declared[0].name(), "account_turnover");
}

#[test]
fn a_mistake_stops_the_start_with_file_line_and_the_nearest_word() {
    let sound = documented();
    let mistakes = [
        ("MoneyDeposited:", "MoneyDepositd:", 12, "did you mean MoneyDeposited?"),
        ("deposits: count", "deposits: cuont", 15, "did you mean count?"),
        ("{ max: /amount }", "{ maximum: /amount }", 17, "did you mean max?"),
        ("{ set: /owner }", "{ set: owner }", 9, "did you mean /owner?"),
        ("remove: true", "remvoe: true", 21, "did you mean remove?"),
        ("account_turnover:", "account_balance:", 4, "there is a projection \"account_balance\" already"),
        ("          key: $recorded_on\n", "", 26, "key is missing"),
    ];
    for (right, wrong, line, hint) in mistakes {
        let yaml = sound.replacen(right, wrong, 1);
        assert_ne!(yaml, sound, "{right} is not there");
        let told = start(&yaml).unwrap_err().to_string();
        for part in [&format!("projections.yaml, line {line}: projections.declarations."), hint] {
            assert!(told.contains(part), "{told:?} does not say {part:?}");
        }
    }
}

#[test]
fn declared_read_models_are_asked_like_built_in_ones() {
    let mut catalog = QueryCatalog::default();
    queries::register(&mut catalog).unwrap();
    for declared in start(&documented()).unwrap() {
        queries::register_declared(&mut catalog, declared.name()).unwrap();
    }
    assert_eq!(catalog.of_name("GetView").count(), 2);
    let filters = serde_json::value::to_raw_value(&json!({"key": "a"})).unwrap();
    let plan = catalog.get("GetView", "account_turnover").unwrap().plan(&filters).unwrap();
    assert_eq!(plan.selection, Selection::Row(RowKey::new(projections::declared::ROWS, "", "a")));
    assert_eq!(plan.missing, "there is no row \"a\" in account_turnover");
}

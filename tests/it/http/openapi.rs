//! The OpenAPI document is complete, and what the server really answers is what it says.

mod edges;
mod embedded;
mod hostile;
mod walk;

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex},
};

use event_sourcing_cqrs::{
    app::App,
    http::{HttpContext, HttpOptions, documented_operations, route_table, serve},
    settings::{Log, Settings, Source},
    telemetry,
};
use jsonschema::Validator;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::support::http::{Reply, TestServer};

const DECLARATIONS: &str = "projections:
  declarations:
    owners:
      on:
        AccountCreated: { key: $aggregate_id, fields: { owner: { set: /owner } } }
    deposits:
      on:
        MoneyDeposited: { key: $aggregate_id, fields: { count: count, total: { add: /amount } } }
";

/// The whole server, with evidence, settings, a log and two declared projections.
struct Whole {
    server: TestServer,
    app: App,
    _folder: TempDir,
    _log: Box<dyn Send + Sync>,
}

impl Whole {
    async fn start() -> Self {
        Self::with(HttpOptions::default()).await
    }

    async fn with(options: HttpOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("projections.yaml"), DECLARATIONS).unwrap();
        let source = Source { config_dir: Some(folder.path().to_owned()), ..Source::default() };
        let mut settings = Settings::load(source).unwrap();
        settings.integrity.directory = Some(folder.path().to_owned());
        settings.event_store.database_url = "memory:".parse().unwrap();
        let explained = settings.explain();
        let app = App::builder().settings(settings).start().await.unwrap();
        let (log, control) = telemetry::subscriber(&Log::default(), false, std::io::sink);
        let context = HttpContext::new(app.runtime().clone()).settings(explained).log(control).auth(app.auth().clone());
        let context = Arc::new(app.integrity().cloned().into_iter().fold(context, HttpContext::integrity));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, context.clone(), options, shutdown.clone()));
        let server = TestServer { address, runtime: app.runtime().clone(), context, shutdown, serving };
        Self { server, app, _folder: folder, _log: Box::new(log) }
    }

    async fn document(&self) -> Value {
        let reply = self.server.get("/api/v1/openapi.json").await;
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/json")));
        reply.json()
    }
}

/// A schema of the document, ready to judge.
fn judge(document: &Value, schema: &Value) -> Validator {
    let whole = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "allOf": [schema], "components": document["components"],
    });
    jsonschema::options().build(&whole).unwrap_or_else(|error| panic!("{error} in {schema}"))
}

fn faults(validator: &Validator, value: &Value) -> Vec<String> {
    validator.iter_errors(value).map(|error| format!("{} at {}", error, error.instance_path)).take(5).collect()
}

/// A document, and its schemas as far as they were needed.
struct Judged {
    document: Value,
    ready: Mutex<HashMap<String, Arc<Validator>>>,
}

impl Judged {
    fn new(document: Value) -> Self {
        Self { document, ready: Mutex::default() }
    }

    fn schema(&self, schema: &Value) -> Arc<Validator> {
        let mut ready = self.ready.lock().unwrap();
        ready.entry(schema.to_string()).or_insert_with(|| Arc::new(judge(&self.document, schema))).clone()
    }

    /// Panics unless the document foresees this answer: status, media type, headers and body.
    fn check(&self, method: &str, path: &str, reply: &Reply) {
        let what = format!("{method} {path} answered {}", reply.status);
        let operation = &self.document["paths"][path][method.to_lowercase()];
        let answer = &operation["responses"][reply.status.to_string()];
        let text = String::from_utf8_lossy(&reply.body);
        assert!(answer.is_object(), "{what}, which its entry in src/http/openapi/operations does not tell: {text}");
        for name in ["x-request-id", "x-correlation-id", "x-causation-id", "traceparent"] {
            assert!(reply.header(name).is_some(), "{what} without {name}");
        }
        for name in [
            "etag",
            "location",
            "retry-after",
            "preference-applied",
            "idempotency-replayed",
            "www-authenticate",
            "ratelimit",
            "ratelimit-policy",
        ] {
            let told = answer["headers"].as_object().unwrap().keys().any(|known| known.eq_ignore_ascii_case(name));
            assert!(told || reply.header(name).is_none(), "{what} with the header {name}, which the document lacks");
        }
        if reply.body.is_empty() {
            return assert!(answer["content"].is_null(), "{what} without a body");
        }
        let media = reply.header("content-type").unwrap().split(';').next().unwrap();
        let content = &answer["content"][media];
        assert!(content.is_object(), "{what} as {media}, which the document does not tell");
        if media.ends_with("json") && media != "application/x-ndjson" {
            let faults = faults(&self.schema(&content["schema"]), &reply.json());
            assert!(faults.is_empty(), "{what}, which its schema does not take: {faults:#?}\n{text}");
        }
    }
}

#[test]
fn every_route_and_method_is_in_the_document_and_nothing_else() {
    let routes: BTreeSet<(&str, &str)> =
        route_table().flat_map(|(path, methods)| methods.into_iter().map(move |method| (method, path))).collect();
    let documented: BTreeSet<(&str, &str)> = documented_operations().into_iter().collect();
    let missing: Vec<_> = routes.difference(&documented).collect();
    assert!(
        missing.is_empty(),
        "{missing:?} of src/http/routes.rs are not documented: add an `Operation {{ method, path, id, tag, summary, \
         parameters, body, successes, codes, ..BASE }}` for each to the file of its resource in \
         src/http/openapi/operations/ (a path's parameters and the codes that follow from path and body come by themselves)"
    );
    let gone: Vec<_> = documented.difference(&routes).collect();
    assert!(gone.is_empty(), "src/http/openapi/operations documents {gone:?}, which src/http/routes.rs does not have");
    assert_eq!(documented_operations().len(), documented.len(), "an operation is documented twice");
}

#[tokio::test]
async fn the_document_is_sound() {
    let whole = Whole::start().await;
    let document = whole.document().await;
    assert_eq!(document["openapi"], "3.1.0");
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(!id.is_empty() && ids.insert(id.to_owned()), "{method} {path} needs an id of its own, not {id:?}");
            assert!(operation["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{id} needs a summary");
            let successes = operation["responses"].as_object().unwrap().keys().filter(|status| status.as_str() < "400");
            assert!(successes.count() > 0, "{id} needs a success");
        }
    }
    // Every reference leads somewhere, and every schema is one.
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1).map(|rest| rest.split('"').next().unwrap()) {
        assert!(document.pointer(reference).is_some(), "{reference} leads nowhere");
    }
    let names = document["components"]["schemas"].as_object().unwrap().keys();
    let all: Vec<Value> = names.map(|name| json!({ "$ref": format!("#/components/schemas/{name}") })).collect();
    judge(&document, &json!({ "anyOf": all }));
}

#[tokio::test]
async fn every_registered_type_has_its_schema() {
    let whole = Whole::start().await;
    let document = whole.document().await;
    let schemas = &document["components"]["schemas"];
    let (runtime, mut count) = (whole.app.runtime(), 0);
    let mut has = |name: String, member: &str, value: &str| {
        let schema = &schemas[&name];
        assert_eq!(schema["properties"][member]["const"], value, "there is no schema {name} for {value}");
        count += 1;
        schema["properties"].clone()
    };
    for (_, commands, events) in runtime.catalog().entries() {
        for name in commands {
            let members = has(format!("{name}Command"), "command_type", name);
            assert_eq!(members["data"]["$ref"], format!("#/components/schemas/{name}"), "{name} derives no JsonSchema");
        }
        for (name, _) in events {
            has(format!("{name}Event"), "event_type", name);
            assert!(
                schemas[*name]["properties"].is_object() || schemas[*name]["type"] == "object",
                "{name} derives no JsonSchema"
            );
        }
    }
    for query in runtime.queries().catalog().iter() {
        let many = runtime.queries().catalog().of_name(query.name).count() > 1;
        let name = if many { format!("{}_{}", query.name, query.projection) } else { query.name.to_owned() };
        has(format!("{name}Query"), "query_type", query.name);
        let members = has(format!("{name}Answer"), "projection", &query.projection);
        assert!(members["data"]["$ref"].is_string(), "{name} does not say what it answers: add `.documented()`");
    }
    for name in runtime.sagas().definitions().names() {
        let members = has(format!("Start{name}"), "saga_type", name);
        assert!(members["data"]["$ref"].is_string(), "{name} does not say what it starts with: add `.documented()`");
    }
    assert!(count > 90, "{count}");
    // Both declared projections have the two query types that all of them have.
    for name in ["GetView_owners", "ListView_owners", "GetView_deposits", "ListView_deposits"] {
        assert_eq!(schemas[format!("{name}Query")]["required"][1], "projection", "{name}");
    }
    let discriminator = &schemas["Command"]["discriminator"];
    assert_eq!(discriminator["propertyName"], "command_type");
    assert_eq!(discriminator["mapping"]["DepositMoney"], "#/components/schemas/DepositMoneyCommand");
    for (union, member) in [("Query", "query_type"), ("StartSaga", "saga_type")] {
        assert_eq!(schemas[union]["discriminator"]["propertyName"], member);
    }
}

#[tokio::test]
async fn bodies_are_judged_as_the_server_judges_them() {
    let whole = Whole::start().await;
    let judged = Judged::new(whole.document().await);
    let document = &judged.document;
    for (path, item) in document["paths"].as_object().unwrap() {
        let content = &item["post"]["requestBody"]["content"]["application/json"];
        for (name, example) in content["examples"].as_object().into_iter().flatten() {
            let faults = faults(&judged.schema(&content["schema"]), &example["value"]);
            assert!(faults.is_empty(), "example {name} of {path}: {faults:#?}");
        }
    }
    let command = judged.schema(&json!({ "$ref": "#/components/schemas/Command" }));
    let deposit = |data: Value| json!({ "command_type": "DepositMoney", "aggregate_id": "a", "data": data });
    assert!(command.is_valid(&deposit(json!({ "amount": 1 }))));
    for wrong in [
        deposit(json!({ "amount": 0 })),
        deposit(json!({ "amount": 1.5 })),
        deposit(json!({ "amount": 9_223_372_036_854_775_808_u64 })),
        deposit(json!({ "amount": 1, "strange": true })),
        json!({ "command_type": "DepositMoney", "aggregate_id": "a" }),
        json!({ "command_type": "DepositMony", "aggregate_id": "a", "data": { "amount": 1 } }),
        json!({ "command_type": "DepositMoney", "aggregate_id": "", "data": { "amount": 1 } }),
    ] {
        assert!(!command.is_valid(&wrong), "{wrong}");
        let reply = whole.server.post("/api/v1/commands", &wrong.to_string()).await;
        assert!([400, 422].contains(&reply.status), "{wrong}: {}", reply.text());
        judged.check("POST", "/api/v1/commands", &reply);
    }
}

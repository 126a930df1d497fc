//! What an embedder registers appears in the document, with members if its types derive a schema and without if not.

use event_sourcing_actors::{
    Aggregate, CommandData, DecisionContext, Rejection, commands, events,
    query::{QueryPlan, QueryType},
    saga::{Step, StepSaga},
    view::RowKey,
};
use event_sourcing_cqrs::{
    app::App,
    http::{Registered, openapi},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::judge;

/// Lights it.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct LightLamp {
    /// In percent.
    #[schemars(range(min = 1, max = 100))]
    brightness: u8,
}
impl CommandData for LightLamp {}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct BreakLamp {}
impl CommandData for BreakLamp {}

commands! {
    /// All a lamp can be told.
    enum LampCommand { LightLamp, BreakLamp }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct LampLit {
    brightness: u8,
}

events! {
    /// All that happens to a lamp.
    enum LampEvent { LampLit = 1 }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Lamp {
    brightness: u8,
}

#[derive(Debug, thiserror::Error)]
#[error("it is broken")]
struct Broken;
impl Rejection for Broken {
    fn code(&self) -> &'static str {
        "broken"
    }
}

impl Aggregate for Lamp {
    const TYPE: &'static str = "lamp";
    type Command = LampCommand;
    type Event = LampEvent;
    type Rejection = Broken;
    fn decide(&self, command: &LampCommand, _: &DecisionContext<'_>) -> Result<Vec<LampEvent>, Broken> {
        match command {
            LampCommand::LightLamp(light) => Ok(vec![LampLit { brightness: light.brightness }.into()]),
            LampCommand::BreakLamp(_) => Err(Broken),
        }
    }
    fn apply(&mut self, LampEvent::LampLit(lit): &LampEvent) {
        self.brightness = lit.brightness;
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(inline)]
struct OneLamp {
    lamp_id: String,
}

#[derive(Debug, Serialize, JsonSchema)]
struct LampRow {
    brightness: u8,
}

#[derive(Debug)]
struct Lamps;
impl event_sourcing_actors::projection::Projection for Lamps {
    fn name(&self) -> &str {
        "lamps"
    }
    fn version(&self) -> u64 {
        1
    }
    fn interest(&self) -> event_sourcing_actors::EventFilter {
        event_sourcing_actors::EventFilter::default()
    }
    fn apply(
        &self,
        _: &event_sourcing_actors::projection::ProjectedEvent<'_>,
        _: &mut event_sourcing_actors::projection::Rows<'_>,
    ) -> Result<(), event_sourcing_actors::projection::ApplyError> {
        Ok(())
    }
}

fn document() -> Value {
    let plan = |filters: OneLamp| Ok(QueryPlan::row(RowKey::new("lamps", "", filters.lamp_id.as_str()), "lamp"));
    let refuse = |_: &Value, _: &_| {
        Ok(Step::refuse("dim", event_sourcing_actors::saga::Reason::new("dark", "there is no light")))
    };
    let app = App::builder().without_domains().aggregate::<Lamp>().unwrap();
    let app = app.projection(Lamps);
    let app = app.query_type(QueryType::new("GetLamp", "lamps", "A lamp.", plan).documented::<OneLamp, LampRow>());
    let app = app.saga(StepSaga::<Value>::new("DimSaga").step(refuse)).unwrap().registered().unwrap();
    openapi(Registered { catalog: &app.catalog, queries: &app.queries, sagas: &app.sagas, is_guarded: true })
}

#[test]
fn an_embedders_own_types_are_in_the_document() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["LightLamp"]["properties"]["brightness"]["maximum"], 100);
    assert_eq!(schemas["BreakLampCommand"]["properties"]["data"], json!({ "type": "object" }));
    assert_eq!(schemas["LampLitEvent"]["properties"]["data"], json!({ "type": "object" }));
    assert_eq!(schemas["GetLampQuery"]["properties"]["filters"]["required"], json!(["lamp_id"]));
    assert_eq!(schemas["GetLampAnswer"]["properties"]["data"]["$ref"], "#/components/schemas/LampRow");
    assert_eq!(schemas["StartDimSaga"]["properties"]["data"], json!({ "type": "object" }));
    assert!(schemas["CreateAccountCommand"].is_null(), "the domains of this crate are not registered");
    let command = judge(&document, &json!({ "$ref": "#/components/schemas/Command" }));
    let light = |brightness: i64| json!({ "command_type": "LightLamp", "aggregate_id": "l", "data": { "brightness": brightness } });
    assert!(command.is_valid(&light(100)) && !command.is_valid(&light(101)));
    // Examples of commands that nobody registered are left out.
    assert!(
        !document.to_string().contains("acc-123")
            || document
                .pointer("/paths/~1api~1v1~1commands/post/requestBody/content/application~1json/examples")
                .is_none()
    );
}

//! Instances as streams: what is told to them, what counts once, and what a definition may not do.

use std::sync::Arc;

use super::*;
use crate::testing::given_saga::{Scenario, scenario};

type Script = Arc<dyn Fn(&mut u32, &SagaInput, &SagaRecord) -> Result<Vec<Reaction>, SagaError> + Send + Sync>;

/// A saga that does what it is told here; it counts what came in.
#[derive(Clone)]
struct Scripted {
    version: u32,
    is_migrating: bool,
    script: Script,
}

impl Debug for Scripted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scripted").field("version", &self.version).finish_non_exhaustive()
    }
}

impl Saga for Scripted {
    type State = u32;

    fn name(&self) -> &str {
        "Scripted"
    }
    fn version(&self) -> u32 {
        self.version
    }
    fn interest(&self) -> Vec<EventType> {
        ["Begun", "GoneOn"].map(|name| EventType::new(name).unwrap()).to_vec()
    }
    fn route(&self, event: &ProjectedEvent<'_>) -> Result<Vec<Route>, SagaError> {
        let data: Value = event.read().map_err(|error| SagaError::new(format!("{error:?}")))?;
        let key = data["key"].as_str().ok_or_else(|| SagaError::new("no key"))?.to_owned();
        Ok(vec![match event.event_type.as_str() {
            "Begun" => Route::Start { key, data },
            _ => Route::Continue { key },
        }])
    }
    fn react(
        &self,
        count: &mut u32,
        input: &SagaInput,
        saga: &SagaRecord,
        _: DateTime<Utc>,
    ) -> Result<Vec<Reaction>, SagaError> {
        *count += 1;
        (self.script)(count, input, saga)
    }
    fn migrate(&self, from_version: u32, state: Value) -> Result<u32, SagaError> {
        match state.as_u64() {
            Some(count) if self.is_migrating => Ok(u32::try_from(count).unwrap() + 100 * from_version),
            _ => Err(SagaError::new(format!("version {from_version} is too old"))),
        }
    }
}

fn scripted(script: impl Fn(&SagaInput) -> Vec<Reaction> + Send + Sync + 'static) -> Scripted {
    Scripted { version: 1, is_migrating: false, script: Arc::new(move |_, input, _| Ok(script(input))) }
}

/// It starts with these reactions, and reacts to nothing else.
fn starting(reactions: Vec<Reaction>) -> Scenario {
    let script = move |input: &SagaInput| if *input == SagaInput::Started { reactions.clone() } else { Vec::new() };
    scenario(scripted(script)).start(Value::Null)
}

fn command(step: &str) -> Reaction {
    Reaction::Command(StepCommand {
        step: step.to_owned(),
        direction: StepDirection::Forward,
        aggregate_id: AggregateId::new("target").unwrap(),
        command_type: "Do".to_owned(),
        data: Value::Null,
        expected: None,
        timeout: None,
    })
}

fn timer(name: &str, seconds: u64) -> Reaction {
    Reaction::SetTimer { timer: name.to_owned(), after: Duration::from_secs(seconds), step: None }
}

fn fire(timer: &str, due_at: DateTime<Utc>) -> SagaOrder {
    SagaOrder::Fire { timer: timer.to_owned(), due_at }
}

#[test]
fn a_second_start_changes_nothing() {
    let script = |input: &SagaInput| if *input == SagaInput::Started { vec![command("do")] } else { vec![] };
    let begun = scenario(scripted(script)).start(serde_json::json!(1));
    assert_eq!(begun.start(serde_json::json!(2)).then_events([]).record().data, serde_json::json!(1));
}

#[test]
fn what_an_instance_remembers_is_kept_when_it_changes() {
    let begun = starting(vec![command("do")]);
    let begun = begun.then_events(["SagaStarted", "SagaStateChanged", "SagaCommandIssued"]).answered("do");
    assert_eq!(begun.then_events(["SagaCommandAnswered", "SagaStateChanged"]).record().state, serde_json::json!(2));
}

#[test]
fn nothing_ends_while_an_answer_is_awaited() {
    for end in [Reaction::Complete, Reaction::Compensated] {
        starting(vec![command("do"), end.clone()]).then_error("while an answer is awaited");
        let read = Reaction::Read { step: "look".to_owned(), aggregate_id: AggregateId::new("target").unwrap() };
        starting(vec![read, end]).then_error("while an answer is awaited");
    }
}

#[test]
fn nothing_is_done_after_the_end_or_once_it_is_set_aside() {
    let reason = Reason::new("stop", "it stops");
    let ends = [Reaction::Complete, Reaction::Compensated, Reaction::Fail { reason: reason.clone() }];
    for end in ends {
        for after in [command("do"), timer("t", 1), Reaction::Complete, Reaction::Compensate { reason: reason.clone() }]
        {
            starting(vec![end.clone(), after]).then_error("after the end");
        }
    }
}

#[test]
fn a_step_has_one_command_at_a_time_and_is_not_called_like_the_timer_of_the_whole() {
    starting(vec![command("do"), command("do")]).then_error("step \"do\" has no answer yet");
    starting(vec![command(TIMEOUT)]).then_error("no step can be called \"timeout\"");
    starting(vec![command("a"), command("b")]).answered("b").answered("a");
}

#[test]
fn a_saga_that_never_ends_its_reactions_fails() {
    starting(vec![timer("t", 1); 1_001]).then_error("at most 1000");
}

#[test]
fn a_panic_is_an_error_and_records_nothing() {
    let saga = scripted(|input| match input {
        SagaInput::Started => vec![command("do")],
        _ => panic!("on purpose"),
    });
    let begun = scenario(saga).start(Value::Null);
    let begun = begun.answered("do").then_error("the code of \"Scripted\" panicked");
    begun.set_aside("code-fails").then_status(SagaStatus::Failed).answered("do").then_events([]);
}

#[test]
fn an_answer_to_no_pending_command_does_nothing() {
    let outcome = CommandOutcome::Accepted { version: Sequence(1), position: Position(1) };
    let command_id = CommandId::generate();
    let unknown = SagaOrder::Deliver(Delivery::Outcome { command_id, outcome });
    starting(vec![command("do")]).told(unknown).then_events([]).answered("do");
    let read = ReadRecord {
        aggregate_id: AggregateId::new("target").unwrap(),
        aggregate_type: None,
        version: Sequence(1),
        state: Value::Null,
    };
    let unknown = SagaOrder::Deliver(Delivery::Read { step: "do".to_owned(), read });
    starting(vec![command("do")]).told(unknown).then_events([]);
}

#[test]
fn a_timer_fires_at_its_instant_and_only_as_it_was_set_last() {
    let begun = || starting(vec![timer("t", 5), timer("u", 9)]);
    let due_at = begun().record().timers[0].due_at;
    begun().told(fire("t", due_at)).then_events([]);
    let due = || begun().after(Duration::from_secs(5));
    due().told(fire("t", due_at)).then_events(["SagaTimerFired", "SagaStateChanged"]);
    due().told(fire("u", due_at)).then_events([]).told(fire("v", due_at)).then_events([]);
    due().timer_fires("t").told(fire("t", due_at)).then_events([]);

    let anew = starting(vec![timer("t", 5), timer("t", 7)]).after(Duration::from_secs(60));
    anew.told(fire("t", due_at)).then_events([]).due_timers_fire().then_timers([("t", TimerStatus::Fired)]);

    let cancel = Reaction::CancelTimer { timer: "t".to_owned() };
    let cancelled = starting(vec![timer("t", 5), cancel]).after(Duration::from_secs(60));
    cancelled.told(fire("t", due_at)).then_events([]).then_timers([("t", TimerStatus::Cancelled)]);
}

#[test]
fn a_timer_for_ever_is_a_timer_in_the_calendar() {
    let far = Reaction::SetTimer { timer: "t".to_owned(), after: Duration::MAX, step: None };
    assert!(starting(vec![far]).record().timers[0].due_at > DateTime::<Utc>::default());
}

#[test]
fn timers_go_with_their_step() {
    let of_step =
        Reaction::SetTimer { timer: "t".to_owned(), after: Duration::from_secs(5), step: Some("do".to_owned()) };
    let both = || starting(vec![command("do"), of_step.clone(), timer("u", 5)]);
    let expected = [("t", TimerStatus::Cancelled), ("u", TimerStatus::Set)];
    both().answered("do").then_timers(expected);
    both().refused("do", "no").then_timers(expected);
}

#[test]
fn words_to_an_instance_that_is_not_there_or_needs_none_are_refused() {
    let nobody = || scenario(scripted(|_| Vec::new()));
    nobody().cancelled().then_refused(SAGA_NOT_FOUND).retried().then_refused(SAGA_NOT_FOUND);
    starting(vec![command("do")]).retried().then_refused(SAGA_NOT_FAILED);
    starting(vec![Reaction::Complete]).retried().then_refused(SAGA_ENDED).cancelled().then_refused(SAGA_ENDED);
}

fn data(key: &str) -> Value {
    serde_json::json!({ "key": key })
}

#[test]
fn an_event_starts_the_instance_that_its_key_names_once() {
    let begun = scenario(scripted(|_| Vec::new())).happens("a", "a-1", "Begun", data("k")).then_keys(["k"]);
    let record = begun.record();
    assert_eq!(record.saga_id, started_by_key("Scripted", "k"));
    assert_eq!((record.trigger.unwrap().aggregate_id.as_str(), record.data), ("a-1", data("k")));
    begun.happens("a", "a-2", "Begun", data("k")).then_events([]);
}

#[test]
fn an_event_concerns_the_instances_that_are_correlated_by_its_key() {
    let saga = scripted(|input| match input {
        SagaInput::Started => vec![Reaction::Correlate { key: "x".into() }, Reaction::Correlate { key: "x".into() }],
        SagaInput::Event(event) if event.data["key"] == "x" => vec![Reaction::Complete],
        _ => Vec::new(),
    });
    let begun = scenario(saga).happens("a", "a-1", "Begun", data("k")).then_keys(["k", "x"]);
    let begun = begun.happens("a", "a-1", "GoneOn", data("y")).then_events([]);
    let begun = begun.happens("a", "a-1", "Unwanted", data("x")).then_events([]);
    let begun = begun.happens("a", "a-1", "GoneOn", data("k")).then_events(["SagaEventReceived", "SagaStateChanged"]);
    let ended = begun.happens("a", "a-1", "GoneOn", data("x")).then_status(SagaStatus::Completed);
    ended.happens("a", "a-1", "GoneOn", data("x")).then_events([]);
}

/// Version 1 waits for an answer; whatever comes after is another version's.
fn waiting(version: u32, is_migrating: bool) -> Scripted {
    let script: Script = Arc::new(move |count, input, _| {
        let step = format!("v{version}/{count}");
        Ok(if *input == SagaInput::Started { vec![command("do")] } else { vec![command(&step)] })
    });
    Scripted { version, is_migrating, script }
}

#[test]
fn an_instance_keeps_its_version_while_that_is_registered() {
    let begun = scenario(waiting(1, false)).start(Value::Null).also(waiting(2, true)).answered("do");
    let record = begun.then_events(["SagaCommandAnswered", "SagaStateChanged", "SagaCommandIssued"]).record();
    assert_eq!((record.definition_version, record.pending[0].step.as_str()), (1, "v1/2"));
    let newest = scenario(waiting(1, false)).also(waiting(2, false)).start(Value::Null).record();
    assert_eq!(newest.definition_version, 2);
}

#[test]
fn an_instance_goes_on_under_a_newer_version_that_says_how() {
    let migrated = scenario(waiting(1, false)).start(Value::Null).instead(waiting(3, true)).answered("do");
    let events = ["SagaMigrated", "SagaCommandAnswered", "SagaStateChanged", "SagaCommandIssued"];
    let record = migrated.then_events(events).record();
    assert_eq!((record.definition_version, record.state), (3, serde_json::json!(102)));
    assert_eq!(record.pending[0].step, "v3/102");
}

#[test]
fn an_instance_whose_newer_version_does_not_say_how_is_set_aside_with_the_reason() {
    let set_aside = scenario(waiting(1, false)).start(Value::Null).instead(waiting(2, false)).answered("do");
    let set_aside = set_aside.then_events(["SagaFailed"]).then_reason("definition-refused");
    let reason = set_aside.then_status(SagaStatus::Failed).record().reason.unwrap();
    assert!(reason.message.contains("version 1 is too old"), "{reason:?}");
}

#[test]
fn an_instance_set_aside_for_its_version_loses_no_answer() {
    let set_aside = scenario(waiting(1, false)).start(Value::Null).instead(waiting(2, false)).answered("do");
    let still = set_aside.retried().then_status(SagaStatus::Failed).instead(waiting(2, true));
    assert_eq!(still.retried().then_status(SagaStatus::Running).answered("do").record().definition_version, 2);
}

#[test]
fn an_instance_of_a_version_that_is_not_known_here_is_left_alone() {
    let foreign = scenario(waiting(2, false)).start(Value::Null).instead(waiting(1, true));
    let foreign = foreign.answered("do").then_refused(DEFINITION_UNKNOWN).cancelled().then_refused(DEFINITION_UNKNOWN);
    foreign.instead(waiting(2, false)).answered("do").then_status(SagaStatus::Running);
}

#[test]
fn a_saga_is_adopted_once_and_its_stream_is_no_instance() {
    let adopt = || SagaOrder::Adopt { saga_type: "Scripted".to_owned() };
    let adopted = scenario(scripted(|_| Vec::new())).told(adopt()).then_events(["SagaDefinitionAdopted"]);
    adopted.told(adopt()).then_events([]).cancelled().then_refused(SAGA_NOT_FOUND);
}

#[test]
fn two_sagas_of_one_name_and_version_are_refused() {
    let mut definitions = SagaDefinitions::default();
    definitions.register(waiting(1, false)).unwrap();
    definitions.register(waiting(2, false)).unwrap();
    let twice = definitions.register(waiting(2, true)).unwrap_err();
    assert_eq!((twice.name.as_str(), twice.version), ("Scripted", 2));
    assert_eq!(definitions.names().collect::<Vec<_>>(), ["Scripted"]);
    assert_eq!(definitions.nearest("Scriptet"), ["Scripted"]);
}

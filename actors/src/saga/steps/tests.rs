//! When steps begin, are tried again, and are undone.

use serde_json::json;

use super::*;
use crate::{
    saga::{SagaStatus, TimerStatus::*},
    testing::given_saga::{Scenario, scenario},
};

const POLICY: StepPolicy =
    StepPolicy { timeout: Some(Duration::from_secs(10)), attempts: 1, undo_attempts: 2, pause: Duration::from_secs(1) };

fn call(target: &str, command_type: &str) -> Call {
    Call::new(target, command_type, json!({})).unwrap()
}

/// Takes jars out of the cellar, puts them on the shelf, and tells the cook, which cannot be undone.
fn moving() -> StepSaga<Value> {
    StepSaga::new("Moving")
        .step(|_, _| Ok(Step::command("take", call("cellar", "Take")).undo(call("cellar", "Return"))))
        .step(|_, _| Ok(Step::command("put", call("shelf", "Put")).undo(call("shelf", "Remove"))))
        .step(|_, _| Ok(Step::command("tell", call("cook", "Tell"))))
        .policy(POLICY)
        .timeout(Duration::from_secs(60))
}

fn sent(command_type: &'static str, target: &'static str) -> [(&'static str, &'static str, Value); 1] {
    [(command_type, target, json!({}))]
}

fn begun(saga: StepSaga<Value>) -> Scenario {
    scenario(saga).start(json!({}))
}

#[test]
fn steps_are_done_one_after_the_other_and_their_timers_go_with_them() {
    begun(moving())
        .then_commands(sent("Take", "cellar"))
        .then_timers([(TIMEOUT, Set), ("take", Set)])
        .then_known_steps(["take", "put", "tell"])
        .answered("take")
        .then_events(["SagaCommandAnswered", "SagaCommandIssued"])
        .then_commands(sent("Put", "shelf"))
        .then_timers([(TIMEOUT, Set), ("take", Cancelled), ("put", Set)])
        .answered("put")
        .then_commands(sent("Tell", "cook"))
        .answered("tell")
        .then_events(["SagaCommandAnswered", "SagaEnded"])
        .then_status(SagaStatus::Completed)
        .then_timers([(TIMEOUT, Cancelled), ("take", Cancelled), ("put", Cancelled), ("tell", Cancelled)]);
}

#[test]
fn a_refused_step_turns_round_and_undoes_the_last_one_first() {
    begun(moving())
        .answered("take")
        .answered("put")
        .refused("tell", "asleep")
        .then_events(["SagaCommandRefused", "SagaCompensationStarted", "SagaCommandIssued"])
        .then_reason("asleep")
        .then_undo(sent("Remove", "shelf"))
        .answered("put")
        .then_undo(sent("Return", "cellar"))
        .answered("take")
        .then_events(["SagaCommandAnswered", "SagaEnded"])
        .then_status(SagaStatus::Compensated)
        .then_steps([
            ("take", StepStatus::Compensated),
            ("put", StepStatus::Compensated),
            ("tell", StepStatus::Refused),
        ]);
    begun(moving()).refused("take", "empty").then_nothing().then_status(SagaStatus::Compensated);
}

#[test]
fn a_refused_step_is_tried_again_after_a_pause_as_often_as_its_policy_says() {
    let tried = || {
        let policy = StepPolicy { attempts: 3, ..POLICY };
        begun(moving().policy(policy))
            .answered("take")
            .refused("put", "busy")
            .then_nothing()
            .then_timers([(TIMEOUT, Set), ("take", Cancelled), ("put", Cancelled), ("put/retry", Set)])
            .timer_fires("put/retry")
            .then_commands(sent("Put", "shelf"))
    };
    let again = tried().answered("put").then_commands(sent("Tell", "cook")).record();
    assert_eq!((again.steps[1].attempts, again.steps[1].status), (2, StepStatus::Completed));
    tried()
        .refused("put", "busy")
        .then_nothing()
        .timer_fires("put/retry")
        .refused("put", "full")
        .then_undo(sent("Return", "cellar"))
        .then_reason("full");
}

#[test]
fn a_step_may_have_a_policy_of_its_own() {
    let own = StepPolicy { timeout: None, attempts: 2, ..POLICY };
    let saga = moving().step(move |_, _| Ok(Step::command("sing", call("cook", "Sing")).policy(own)));
    let singing = begun(saga).answered("take").answered("put").answered("tell").then_commands(sent("Sing", "cook"));
    singing.refused("sing", "hoarse").timer_fires("sing/retry").then_commands(sent("Sing", "cook")).then_timers([
        (TIMEOUT, Set),
        ("take", Cancelled),
        ("put", Cancelled),
        ("tell", Cancelled),
        ("sing/retry", Fired),
    ]);
}

#[test]
fn without_an_answer_in_time_it_turns_round_and_undoes_only_what_the_answer_shows() {
    let late = || {
        let turned = begun(moving()).answered("take").timer_fires("put").then_reason("timeout");
        turned.then_nothing().then_status(SagaStatus::Compensating).after(Duration::from_secs(3_600))
    };
    late()
        .answered("put")
        .then_undo(sent("Remove", "shelf"))
        .answered("put")
        .then_undo(sent("Return", "cellar"))
        .answered("take")
        .then_status(SagaStatus::Compensated);
    late()
        .refused("put", "full")
        .then_undo(sent("Return", "cellar"))
        .then_steps([("take", StepStatus::Compensating), ("put", StepStatus::Refused)])
        .answered("take")
        .then_status(SagaStatus::Compensated)
        .then_reason("timeout");
}

#[test]
fn a_late_refusal_is_not_tried_again() {
    let tries = StepPolicy { attempts: 3, ..POLICY };
    begun(moving().policy(tries)).timer_fires("take").refused("take", "busy").then_status(SagaStatus::Compensated);
}

/// What was put on the shelf is not taken back: with it all is done.
fn delivering() -> StepSaga<Value> {
    StepSaga::new("Delivering")
        .step(|_, _| Ok(Step::command("take", call("cellar", "Take")).undo(call("cellar", "Return"))))
        .step(|_, _| Ok(Step::command("put", call("shelf", "Put")).pivot()))
        .policy(POLICY)
}

#[test]
fn the_answer_to_a_pivot_decides_though_it_comes_after_a_turn() {
    let turns: [fn(Scenario) -> Scenario; 2] = [Scenario::cancelled, |putting| putting.timer_fires("put")];
    for turn in turns {
        let waiting = || turn(begun(delivering()).answered("take")).then_nothing();
        let waiting = || waiting().then_status(SagaStatus::Compensating);
        waiting().answered("put").then_nothing().then_status(SagaStatus::Completed);
        waiting()
            .refused("put", "full")
            .then_undo(sent("Return", "cellar"))
            .answered("take")
            .then_steps([("take", StepStatus::Compensated), ("put", StepStatus::Refused)]);
    }
    begun(delivering()).answered("take").answered("put").then_status(SagaStatus::Completed);
    begun(delivering()).cancelled().answered("take").then_undo(sent("Return", "cellar"));
    let after = delivering().step(|_, _| Ok(Step::command("tell", call("cook", "Tell"))));
    begun(after).answered("take").answered("put").then_error("step \"tell\" follows a pivot");
}

#[test]
fn the_time_of_the_whole_ends_it_wherever_it_is() {
    let started = || scenario(moving()).within(Duration::from_secs(5)).start(json!({}));
    started().after(Duration::from_secs(5)).due_timers_fire().then_reason("timeout").then_nothing();
    let waits = started().answered("take").timer_fires(TIMEOUT).then_nothing().then_status(SagaStatus::Compensating);
    waits.refused("put", "full").then_undo(sent("Return", "cellar")).then_timers([
        (TIMEOUT, Fired),
        ("take", Cancelled),
        ("put", Cancelled),
    ]);
    // While it undoes, its time means nothing any more.
    let undoing = begun(moving()).answered("take").refused("put", "full").timer_fires(TIMEOUT).then_nothing();
    undoing.answered("take").then_status(SagaStatus::Compensated).then_reason("full");
}

#[test]
fn it_can_be_cancelled_at_each_point_once() {
    begun(moving()).cancelled().then_nothing().refused("take", "empty").then_status(SagaStatus::Compensated);
    let put = begun(moving()).answered("take").cancelled().then_reason("cancelled").then_nothing();
    let put = put.cancelled().then_events([]).answered("put").then_undo(sent("Remove", "shelf")).cancelled();
    put.then_events([]).answered("put").answered("take").then_status(SagaStatus::Compensated);
    let told = begun(moving()).answered("take").answered("put").cancelled().answered("tell");
    told.then_undo(sent("Remove", "shelf")).answered("put").answered("take").cancelled().then_refused("saga-ended");
    let done = begun(moving()).answered("take").answered("put").answered("tell").cancelled();
    done.then_refused("saga-ended").retried().then_refused("saga-ended");
}

#[test]
fn cancelling_takes_a_waiting_try_back() {
    let policy = StepPolicy { attempts: 3, ..POLICY };
    let waiting = begun(moving().policy(policy)).answered("take").refused("put", "busy");
    waiting
        .cancelled()
        .then_events(["SagaCancelRequested", "SagaCompensationStarted", "SagaTimerCancelled", "SagaCommandIssued"])
        .then_undo(sent("Return", "cellar"))
        .then_timers([(TIMEOUT, Set), ("take", Cancelled), ("put", Cancelled), ("put/retry", Cancelled)]);
}

#[test]
fn an_undo_that_is_refused_is_tried_again_then_fails_until_an_operator_retries_it() {
    let failed = begun(moving())
        .answered("take")
        .refused("put", "full")
        .refused("take", "locked")
        .then_nothing()
        .then_status(SagaStatus::Compensating)
        .timer_fires("take/undo-retry")
        .then_undo(sent("Return", "cellar"))
        .refused("take", "locked")
        .then_nothing()
        .then_status(SagaStatus::Failed)
        .then_reason("locked")
        .then_steps([("take", StepStatus::Failed), ("put", StepStatus::Refused)]);
    assert!(failed.record().reason.unwrap().message.contains("step \"take\" could not be undone"));
    let again = failed.retried().then_undo(sent("Return", "cellar")).then_status(SagaStatus::Compensating);
    let again = again.refused("take", "locked").then_status(SagaStatus::Failed).cancelled();
    again.then_undo(sent("Return", "cellar")).answered("take").then_status(SagaStatus::Compensated);
}

#[test]
fn a_failed_instance_hears_no_timer_until_it_is_retried() {
    let failed = begun(moving()).answered("take").set_aside("code-fails").then_status(SagaStatus::Failed);
    let timer = failed.timer_fires("put").then_events([]).timer_fires(TIMEOUT).then_events([]);
    timer
        .retried()
        .then_events(["SagaRetried"])
        .then_status(SagaStatus::Running)
        .due_timers_fire()
        .then_status(SagaStatus::Compensating)
        .answered("put")
        .then_undo(sent("Remove", "shelf"));
}

#[test]
fn a_refusal_that_an_undo_tolerates_counts_as_undone() {
    let gone = |reason: &Reason| reason.code == "gone";
    let saga = move || {
        StepSaga::<Value>::new("Moving")
            .step(|_, _| Ok(Step::command("take", call("cellar", "Take")).undo(call("cellar", "Return"))))
            .step(move |_, _| Ok(Step::command("put", call("shelf", "Put")).undo_unless(call("shelf", "Remove"), gone)))
            .step(|_, _| Ok(Step::command("tell", call("cook", "Tell"))))
            .policy(POLICY)
    };
    let undoing = || begun(saga()).answered("take").answered("put").refused("tell", "asleep");
    let after = undoing().refused("put", "gone").then_undo(sent("Return", "cellar"));
    let after = after.then_events(["SagaCommandRefused", "SagaRefusalAccepted", "SagaCommandIssued"]);
    after.answered("take").then_status(SagaStatus::Compensated);
    undoing().refused("put", "nailed").then_nothing().then_status(SagaStatus::Compensating);
}

/// One step for each jar that a read tells.
fn counting() -> StepSaga<Value> {
    StepSaga::new("Counting")
        .step(|_, _| Ok(Step::read("count", AggregateId::new("cellar").unwrap()).undo(call("cellar", "Forget"))))
        .steps(|_, saga| {
            let state = &saga.reads.get("count").ok_or_else(|| SagaError::new("not counted yet"))?.state;
            let Some(jars) = state.as_array() else {
                return Ok(vec![Step::refuse("check", Reason::new("no-cellar", "there is no cellar"))]);
            };
            let step = |jar: &Value| {
                let name = jar.as_str().unwrap_or_else(|| panic!("jars have names"));
                Step::command(format!("take:{name}"), call(name, "Take")).undo(call(name, "Return"))
            };
            Ok(jars.iter().map(step).collect())
        })
        .step(|_, _| Ok(Step::command("tell", call("cook", "Tell"))))
        .policy(POLICY)
        .timeout(Duration::from_secs(60))
}

#[test]
fn steps_may_be_known_only_after_a_read() {
    let counted = || begun(counting()).then_reads([("count", "cellar")]).then_known_steps(["count"]);
    counted()
        .read("count", "cellar", 3, json!(["plum", "fig"]))
        .then_commands(sent("Take", "plum"))
        .then_known_steps(["count", "take:plum", "take:fig", "tell"])
        .answered("take:plum")
        .then_commands(sent("Take", "fig"))
        .refused("take:fig", "empty")
        .then_undo(sent("Return", "plum"))
        .answered("take:plum")
        .then_undo(sent("Forget", "cellar"))
        .answered("count")
        .then_status(SagaStatus::Compensated);
    counted().read("count", "cellar", 3, json!([])).then_commands(sent("Tell", "cook"));
}

#[test]
fn a_turn_while_a_read_is_under_way_waits_for_it() {
    let turned = begun(counting()).cancelled().then_nothing().then_status(SagaStatus::Compensating);
    turned.read("count", "cellar", 1, json!(["plum"])).then_undo(sent("Forget", "cellar"));
    begun(counting()).timer_fires(TIMEOUT).read_nothing("count").then_undo(sent("Forget", "cellar"));
}

#[test]
fn a_step_that_cannot_be_done_turns_round_without_a_command() {
    begun(counting())
        .read_nothing("count")
        .then_events(["SagaStateRead", "SagaCompensationStarted", "SagaCommandIssued"])
        .then_reason("no-cellar")
        .then_undo(sent("Forget", "cellar"))
        .answered("count")
        .then_status(SagaStatus::Compensated)
        .then_steps([("count", StepStatus::Compensated)]);
    let never = StepSaga::<Value>::new("Never").step(|_, _| Ok(Step::refuse("check", Reason::new("no", "never"))));
    begun(never).then_events(["SagaStarted", "SagaCompensationStarted", "SagaEnded"]).then_reason("no");
}

#[test]
fn code_that_fails_records_nothing_and_can_go_on_later() {
    let counted = begun(counting()).read("count", "cellar", 1, json!([7])).then_error("panicked");
    counted.read("count", "cellar", 1, json!(["plum"])).then_commands(sent("Take", "plum"));
    let nowhere =
        StepSaga::<Value>::new("Nowhere").step(|_, _| Ok(Step::command("go", Call::new("", "Go", json!({}))?)));
    begun(nowhere).then_error("is no aggregate id");
}

#[test]
fn two_steps_of_one_name_are_an_error_and_no_step_is_left_out() {
    let twice = begun(counting()).read("count", "cellar", 1, json!(["plum", "plum"]));
    twice.then_error("two steps are called \"take:plum\"");
}

#[test]
fn data_is_held_to_its_shape_and_to_the_check() {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Jars {
        count: i64,
    }
    let saga = || {
        StepSaga::<Jars>::new("Jars")
            .check(|jars| crate::FieldError::at_least("/count", jars.count, 1).err().into_iter().collect())
            .step(|_, _| Ok(Step::command("take", call("cellar", "Take"))))
    };
    scenario(saga()).start(json!({ "count": 0 })).then_invalid(["/count"]);
    scenario(saga()).start(json!({})).then_invalid(["/count"]);
    scenario(saga()).start(json!({ "count": 1, "colour": "red" })).then_invalid(["/colour"]);
    scenario(saga()).start(json!([1])).then_invalid([""]);
    scenario(saga()).start(json!({ "count": 1 })).then_commands(sent("Take", "cellar"));
}

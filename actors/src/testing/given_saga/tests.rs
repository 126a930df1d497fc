//! The kit notices what it is there to notice.

use serde_json::json;

use super::*;
use crate::saga::{Call, Step, StepSaga, StepStatus};

fn begun() -> Scenario {
    let take = |_: &Value, _: &SagaRecord| Ok(Step::command("take", Call::new("cellar", "Take", json!({}))?));
    scenario(StepSaga::<Value>::new("Taking").step(take)).start(json!({}))
}

#[track_caller]
fn notices(what: &str, told: impl FnOnce() -> Scenario + std::panic::UnwindSafe) {
    let panic = std::panic::catch_unwind(|| drop(told())).expect_err("it should be noticed");
    let message = panic.downcast_ref::<String>().expect("a message");
    assert!(message.contains(what), "{message:?} does not say {what:?}");
}

#[test]
fn what_is_expected_and_does_not_come_is_told_with_both_sides() {
    notices("\"Give\"", || begun().then_commands([("Give", "cellar", json!({}))]));
    notices("\"forward\"", || begun().then_undo([("Take", "cellar", json!({}))]));
    notices("the commands should be", || begun().then_nothing());
    notices("the events should be", || begun().then_events([]));
    notices("\"running\"", || begun().then_steps([("take", StepStatus::Completed)]));
    notices("the versions that are demanded should be", || begun().then_versions([Some(1)]));
}

#[test]
fn what_cannot_come_in_is_told() {
    notices("step \"give\" waits for no answer", || begun().answered("give"));
    notices("step \"take\" reads nothing", || begun().read_nothing("take"));
    notices("no timer \"rest\" is set", || begun().timer_fires("rest"));
    notices("no timer is due", || begun().due_timers_fire());
    notices("has not begun", || scenario(StepSaga::<Value>::new("Nothing")).answered("take"));
}

#[test]
fn a_decline_that_nobody_looks_at_is_told() {
    let declined = || begun().answered("take").cancelled();
    notices("it was declined", || declined().then_nothing());
    notices("it was declined", || declined().cancelled());
    notices("it should be invalid, but is", || declined().then_invalid([]));
    declined().then_refused("saga-ended").then_reads([]);
}

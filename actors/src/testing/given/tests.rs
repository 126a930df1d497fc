//! The kit tells what holds from what does not.

use super::*;
use crate::{CommandData, Rejection, commands, events};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Add {
    by: i64,
}
impl CommandData for Add {
    fn validate(&self, check: &mut Violations<'_>) {
        check.at_least("/by", self.by, 0);
    }
}
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Added {
    by: i64,
}
commands! { enum SumCommand { Add } }
events! { enum SumEvent { Added = 1 } }

#[derive(Debug, thiserror::Error)]
#[error("more than nine")]
struct TooMuch;
impl Rejection for TooMuch {
    fn code(&self) -> &'static str {
        "too-much"
    }
    fn details(&self) -> Option<Value> {
        Some(json!({ "maximum": 9 }))
    }
}
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Sum(i64);
impl Aggregate for Sum {
    const TYPE: &'static str = "sum";
    type Command = SumCommand;
    type Event = SumEvent;
    type Rejection = TooMuch;
    fn decide(&self, command: &SumCommand, _: &DecisionContext<'_>) -> Result<Vec<SumEvent>, TooMuch> {
        match command {
            SumCommand::Add(Add { by: 0 }) => Ok(Vec::new()),
            SumCommand::Add(Add { by }) if *by > 9 => Err(TooMuch),
            SumCommand::Add(Add { by }) => Ok(vec![added(*by)]),
        }
    }
    fn apply(&mut self, event: &SumEvent) {
        let SumEvent::Added(added) = event;
        self.0 += added.by;
    }
    fn admits(&self, event: &SumEvent) -> Result<(), TooMuch> {
        let SumEvent::Added(added) = event;
        if added.by > 9 { Err(TooMuch) } else { Ok(()) }
    }
}
fn added(by: i64) -> SumEvent {
    Added { by }.into()
}

#[test]
fn what_holds_is_said_in_one_sentence() {
    given::<Sum>([added(1)]).restored().when(Add { by: 2 }).then([added(2)]).then_state(json!(3));
    given::<Sum>([]).of("sum-7").when(Add { by: 0 }).then_nothing();
    given::<Sum>([]).when(Add { by: 10 }).then_refused("too-much").with_details(json!({ "maximum": 9 }));
    given::<Sum>([]).when_appended(added(10)).then_refused("too-much").then_state(json!(0));
    given::<Sum>([]).when_appended(added(4)).then([added(4)]).then_state(json!(4));
    assert_eq!(invalid::<Sum>("sum-7", "Add", json!({ "by": -1 })), ["/by"]);
    assert_eq!(invalid::<Sum>("sum-7", "Add", json!({ "by": 0.5 })), ["/by"]);
    assert!(invalid::<Sum>("sum-7", "Add", json!({ "by": 1 })).is_empty());
}

#[test]
#[should_panic(expected = "\"by\": 3")]
fn other_events_are_shown() {
    given::<Sum>([]).when(Add { by: 3 }).then([added(4)]);
}

#[test]
#[should_panic(expected = "\"code\": \"too-much\"")]
fn an_unexpected_refusal_is_shown() {
    given::<Sum>([]).when(Add { by: 10 }).then([added(10)]);
}

#[test]
#[should_panic(expected = "Add is not valid")]
fn an_invalid_command_never_reaches_the_decision() {
    given::<Sum>([]).when(Add { by: -1 }).then_nothing();
}

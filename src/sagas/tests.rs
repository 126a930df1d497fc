//! Both sagas against the real domains, while everything happens at the worst moment.

use std::collections::BTreeMap;

use event_sourcing_actors::{
    Aggregate, Command, Refusal, Violations,
    saga::{Reason, SagaDefinitions, SagaStatus, StepDirection, TimerStatus},
    testing::given_saga::Scenario,
};
use serde_json::{Value, json, value::to_raw_value};

use super::*;
use crate::domain::{
    account::Account,
    inventory::InventoryItem,
    order::Order,
    tests::{Dice, decide, id},
};

/// One try of each step, two of each undo, a second between.
pub(crate) const POLICY: Policy = Policy {
    timeout: Duration::from_secs(60),
    steps: StepPolicy {
        timeout: Some(Duration::from_secs(10)),
        attempts: 1,
        undo_attempts: 2,
        pause: Duration::from_secs(1),
    },
};

/// What was told to a world and accepted.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Accepted {
    pub by_saga: bool,
    pub command_type: String,
    pub target: String,
}

/// Aggregates with their versions, and what happened to them.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub accounts: BTreeMap<String, (Account, u64)>,
    pub orders: BTreeMap<String, (Order, u64)>,
    pub items: BTreeMap<String, (InventoryItem, u64)>,
    pub accepted: Vec<Accepted>,
    /// Where `accepted` stood when the saga read something.
    pub read_at: usize,
}

impl World {
    pub fn tell(&mut self, target: &str, command_type: &str, data: &Value) -> Result<(), Reason> {
        self.take(false, target, command_type, data, None)
    }

    fn take(
        &mut self,
        by_saga: bool,
        target: &str,
        command_type: &str,
        data: &Value,
        expected: Option<u64>,
    ) -> Result<(), Reason> {
        let is_of = |names: &[&str]| names.contains(&command_type);
        if is_of(<Account as Aggregate>::Command::NAMES) {
            tell(&mut self.accounts, target, command_type, data, expected)?;
        } else if is_of(<Order as Aggregate>::Command::NAMES) {
            tell(&mut self.orders, target, command_type, data, expected)?;
        } else {
            tell(&mut self.items, target, command_type, data, expected)?;
        }
        self.accepted.push(Accepted { by_saga, command_type: command_type.into(), target: target.into() });
        Ok(())
    }

    /// How often the saga had a command of this type accepted.
    pub fn count(&self, command_type: &str) -> usize {
        self.accepted.iter().filter(|one| one.by_saga && one.command_type == command_type).count()
    }

    pub fn balances(&self) -> i64 {
        self.accounts.values().filter_map(|(account, _)| account.get()).map(|account| account.balance).sum()
    }
}

fn tell<A: Aggregate>(
    known: &mut BTreeMap<String, (A, u64)>,
    target: &str,
    command_type: &str,
    data: &Value,
    expected: Option<u64>,
) -> Result<(), Reason> {
    let command = A::Command::decode(command_type, &to_raw_value(data).unwrap()).unwrap();
    let target_id = id(target);
    let mut check = Violations::new(&target_id);
    command.validate(&mut check);
    assert_eq!(check.into_errors(), [], "{command_type} {data}");
    let (state, version) = known.entry(target.to_owned()).or_default();
    if expected.is_some_and(|expected| expected != *version) {
        return Err(Reason::new("precondition-failed", "it has another version"));
    }
    let events = decide(state, &command).map_err(|refusal| {
        let Refusal { code, message, details } = refusal.into();
        Reason { code, message, details }
    })?;
    for event in &events {
        state.apply(event);
        *version += 1;
    }
    Ok(())
}

/// Lets a saga run to its end in a world in which commands are late, timers fire, people cancel and `others` do what they
/// like. Nothing may fail: every undo is accepted or has nothing to undo.
pub(crate) fn live(
    dice: &mut Dice,
    mut saga: Scenario,
    world: &mut World,
    others: impl Fn(&mut Dice, &mut World),
) -> SagaStatus {
    let mut outcome: Option<Result<(), Reason>> = None;
    // In some lives time is no matter.
    let is_calm = dice.below(3) == 0;
    for round in 0..500 {
        let record = saga.record();
        if !record.status.is_open() {
            return record.status;
        }
        // After a while everybody else has lost interest.
        let what = match dice.below(20) {
            0 if round < 60 && !is_calm => 6 + dice.below(2),
            1..4 if round < 60 => 8,
            other => other % 6,
        };
        let pending = record.pending.first();
        let timer = record.timers.iter().find(|timer| timer.status == TimerStatus::Set && timer.step.is_none());
        match (what, pending, record.pending_reads.first(), outcome.take()) {
            (0..4, Some(pending), _, None) => {
                let (target, expected) = (pending.aggregate_id.as_str(), pending.expected_version.map(|v| v.0));
                outcome = Some(world.take(true, target, &pending.command_type, &pending.data, expected));
            }
            (4..6, Some(pending), _, Some(done)) => {
                saga = match done {
                    Ok(()) => saga.answered(&pending.step),
                    Err(reason) => saga.refused_for(&pending.step, reason),
                };
            }
            (0..6, None, Some(read), _) => {
                world.read_at = world.accepted.len();
                saga = match world.orders.get(read.aggregate_id.as_str()) {
                    Some((order, version)) if *version > 0 => saga.read(&read.step, "order", *version, json!(order)),
                    _ => saga.read_nothing(&read.step),
                };
            }
            (0..6, None, None, _) => saga = saga.timer_fires(&timer.expect("a try that was put off").name),
            (6, Some(pending), _, done) => {
                let is_set = record.timers.iter().any(|timer| {
                    timer.status == TimerStatus::Set && timer.step.as_deref() == Some(pending.step.as_str())
                });
                if is_set && pending.direction == StepDirection::Forward {
                    saga = saga.timer_fires(&pending.step);
                }
                outcome = done;
            }
            (7, _, _, done) => (saga, outcome) = (saga.cancelled(), done),
            (8, _, _, done) => {
                others(dice, world);
                outcome = done;
            }
            (.., done) => outcome = done,
        }
    }
    panic!("it does not end: {:#?}", saga.record())
}

#[test]
fn both_sagas_register_once() {
    let mut definitions = SagaDefinitions::default();
    let policies = Policies { transfer: POLICY, order_fulfillment: POLICY };
    register(&mut definitions, &policies).unwrap();
    assert_eq!(definitions.names().collect::<Vec<_>>(), ["OrderFulfillmentSaga", "TransferSaga"]);
    assert!(register(&mut definitions, &policies).is_err(), "names can be taken once");
}

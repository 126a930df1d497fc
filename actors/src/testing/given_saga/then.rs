//! What should have come of it. Each `then…` panics with both sides when it does not hold.

use serde_json::{Value, json};

use super::Scenario;
use crate::{
    aggregate::DomainEvent,
    catalog::Decline,
    saga::{SagaEvent, SagaRecord, SagaStatus, StepDirection, StepStatus, TimerStatus},
};

impl Scenario {
    /// Exactly these commands were sent to do steps, and none to undo any: type, target and members.
    ///
    /// # Panics
    /// When there are others; and, as with each `then…`, when what came in was declined.
    #[track_caller]
    pub fn then_commands<const N: usize>(self, expected: [(&str, &str, Value); N]) -> Self {
        self.then_sent(StepDirection::Forward, &expected)
    }

    /// Exactly these commands were sent to undo steps, and none to do any.
    ///
    /// # Panics
    /// When there are others.
    #[track_caller]
    pub fn then_undo<const N: usize>(self, expected: [(&str, &str, Value); N]) -> Self {
        self.then_sent(StepDirection::Undo, &expected)
    }

    /// The commands sent demand these versions of their targets.
    ///
    /// # Panics
    /// When they demand others.
    #[track_caller]
    pub fn then_versions<const N: usize>(self, expected: [Option<u64>; N]) -> Self {
        let sent = self.issued();
        let sent: Vec<_> = sent.iter().map(|issued| issued.expected_version.map(|version| version.0)).collect();
        same("the versions that are demanded", &json!(expected.as_slice()), &json!(sent));
        self
    }

    /// The states of exactly these aggregates are to be read: step and aggregate.
    ///
    /// # Panics
    /// When others are.
    #[track_caller]
    pub fn then_reads<const N: usize>(self, expected: [(&str, &str); N]) -> Self {
        self.looked_at();
        let reads = self.last.iter().filter_map(|event| match event {
            SagaEvent::SagaReadIssued(read) => Some((&read.step, &read.aggregate_id)),
            _ => None,
        });
        same("the states to be read", &json!(expected.as_slice()), &json!(reads.collect::<Vec<_>>()));
        self
    }

    /// Nothing was sent, and nothing is to be read.
    ///
    /// # Panics
    /// When something was.
    #[track_caller]
    pub fn then_nothing(self) -> Self {
        self.then_commands([]).then_reads([])
    }

    /// Exactly these events were recorded.
    ///
    /// # Panics
    /// When there were others.
    #[track_caller]
    pub fn then_events<const N: usize>(self, expected: [&str; N]) -> Self {
        self.looked_at();
        let types: Vec<_> = self.last.iter().map(DomainEvent::event_type).collect();
        same("the events", &json!(expected.as_slice()), &json!(types));
        self
    }

    /// It stands like this.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn then_status(self, expected: SagaStatus) -> Self {
        same("the status", &json!(expected), &json!(self.record().status));
        self
    }

    /// The last reason why it undoes, or was set aside, has this code.
    ///
    /// # Panics
    /// When it has another, or there is none.
    #[track_caller]
    pub fn then_reason(self, expected: &str) -> Self {
        same("the reason", &json!(expected), &json!(self.record().reason.map(|reason| reason.code)));
        self
    }

    /// The steps that have begun stand like this, in this order.
    ///
    /// # Panics
    /// When they do not.
    #[track_caller]
    pub fn then_steps<const N: usize>(self, expected: [(&str, StepStatus); N]) -> Self {
        let record = self.record();
        let steps: Vec<_> = record.steps.iter().map(|step| (&step.name, step.status)).collect();
        same("the steps", &json!(expected.as_slice()), &json!(steps));
        self
    }

    /// The names of its steps, as far as they are known now, are these; what has not begun is among them.
    ///
    /// # Panics
    /// When they are others.
    #[track_caller]
    pub fn then_known_steps<const N: usize>(self, expected: [&str; N]) -> Self {
        same("the names of the steps", &json!(expected.as_slice()), &json!(self.definitions.steps_of(&self.record())));
        self
    }

    /// Its timers stand like this, in the order they were set first.
    ///
    /// # Panics
    /// When they do not.
    #[track_caller]
    pub fn then_timers<const N: usize>(self, expected: [(&str, TimerStatus); N]) -> Self {
        let record = self.record();
        let timers: Vec<_> = record.timers.iter().map(|timer| (&timer.name, timer.status)).collect();
        same("the timers", &json!(expected.as_slice()), &json!(timers));
        self
    }

    /// The keys it is correlated by.
    ///
    /// # Panics
    /// When they are others.
    #[track_caller]
    pub fn then_keys<const N: usize>(self, expected: [&str; N]) -> Self {
        same("the keys", &json!(expected.as_slice()), &json!(self.record().keys));
        self
    }

    /// The data of its start was found wrong at these JSON pointers, which begin at the data.
    ///
    /// # Panics
    /// When they are others, or it was not found wrong.
    #[track_caller]
    pub fn then_invalid<const N: usize>(mut self, expected: [&str; N]) -> Self {
        let decline = self.decline.take();
        let Some(Decline::Invalid(errors)) = &decline else { panic!("it should be invalid, but is {decline:?}") };
        let pointers: Vec<_> = errors.iter().map(|error| &error.pointer).collect();
        same(&format!("the pointers of {errors:#?}"), &json!(expected.as_slice()), &json!(pointers));
        self
    }

    /// What came in was refused with this code.
    ///
    /// # Panics
    /// When it was refused with another, or not refused.
    #[track_caller]
    pub fn then_refused(mut self, expected: &str) -> Self {
        let decline = self.decline.take();
        let Some(Decline::Refused(refusal)) = &decline else { panic!("it should be refused, but is {decline:?}") };
        same("the refusal", &json!(expected), &json!(refusal.code));
        self
    }

    /// The code of the saga failed; the reason holds this text. A runtime would try again some times, and then set the
    /// instance aside.
    ///
    /// # Panics
    /// When it failed for another reason, or did not fail.
    #[track_caller]
    pub fn then_error(mut self, expected: &str) -> Self {
        let decline = self.decline.take();
        let Some(Decline::Fault(reason)) = &decline else { panic!("its code should fail, but is {decline:?}") };
        assert!(reason.contains(expected), "expected an error that holds {expected:?}\ngot {reason:?}");
        self
    }

    /// Everything that is known of the instance.
    ///
    /// # Panics
    /// When it has not begun.
    #[track_caller]
    #[must_use]
    pub fn record(&self) -> SagaRecord {
        self.looked_at();
        self.known().unwrap_or_else(|| panic!("instance {:?} has not begun", self.saga_id.as_str()))
    }

    #[track_caller]
    pub(super) fn looked_at(&self) {
        assert!(self.decline.is_none(), "it was declined: {:#?}", self.decline);
    }

    #[track_caller]
    fn issued(&self) -> Vec<&crate::saga::SagaCommandIssued> {
        self.looked_at();
        let issued = self.last.iter().filter_map(|event| match event {
            SagaEvent::SagaCommandIssued(issued) => Some(issued),
            _ => None,
        });
        issued.collect()
    }

    #[track_caller]
    fn then_sent(self, direction: StepDirection, expected: &[(&str, &str, Value)]) -> Self {
        let one = |direction: StepDirection, kind: &str, target: &str, data: &Value| json!({ "direction": direction, "command_type": kind, "aggregate_id": target, "data": data });
        let expected: Vec<_> = expected.iter().map(|(kind, target, data)| one(direction, kind, target, data)).collect();
        let sent = self.issued();
        let sent: Vec<_> = sent
            .iter()
            .map(|issued| one(issued.direction, &issued.command_type, issued.aggregate_id.as_str(), &issued.data))
            .collect();
        same("the commands", &json!(expected.as_slice()), &json!(sent));
        self
    }
}

#[track_caller]
fn same(what: &str, expected: &Value, got: &Value) {
    assert!(expected == got, "{what} should be:\n{expected:#}\nbut are:\n{got:#}");
}

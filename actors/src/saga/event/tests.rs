//! What was ever stored can be read and folded.

use std::{collections::BTreeSet, path::PathBuf};

use serde_json::json;

use super::*;
use crate::{
    aggregate::DomainEvent,
    id::EventId,
    saga::{SagaRecord, SagaStatus, StepStatus},
};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/sagas")
}

fn golden(event_type: &str) -> (SagaEvent, Value) {
    let path = folder().join(format!("{event_type}.v1.json"));
    let stored = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let event = SagaEvent::decode(event_type, &stored).unwrap_or_else(|error| panic!("{error}"));
    (event, serde_json::from_slice(&stored).unwrap())
}

#[test]
fn every_saga_event_has_a_golden_file_and_is_written_as_it_was() {
    let needed: BTreeSet<String> =
        SagaEvent::KINDS.iter().map(|(kind, version)| format!("{kind}.v{version}.json")).collect();
    let files = std::fs::read_dir(folder()).unwrap();
    let found: BTreeSet<String> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(found, needed);
    for (kind, _) in SagaEvent::KINDS {
        let (event, stored) = golden(kind);
        assert_eq!(serde_json::from_slice::<Value>(&event.encode().unwrap()).unwrap(), stored, "{kind}");
        let mut newer = stored.clone();
        newer["from_a_newer_program"] = json!({ "any": [1] });
        SagaEvent::decode(kind, newer.to_string().as_bytes()).unwrap();
    }
}

#[test]
fn golden_saga_events_are_folded_for_ever() {
    let SagaEvent::SagaStarted(started) = golden("SagaStarted").0 else { panic!("it starts") };
    let mut saga = SagaRecord::started(AggregateId::new("saga-1").unwrap(), &started);
    let fold = |saga: &mut SagaRecord, event: &SagaEvent| saga.apply(event, EventId(uuid::Uuid::from_u128(1)));
    for kind in ["SagaReadIssued", "SagaStateRead", "SagaCommandIssued", "SagaCommandAnswered", "SagaTimerSet"] {
        fold(&mut saga, &golden(kind).0);
    }
    let begun = ["SagaTimerFired", "SagaTimerCancelled", "SagaCorrelated", "SagaStateChanged", "SagaEventReceived"];
    for kind in [&begun[..], &["SagaCancelRequested", "SagaCompensationStarted"]].concat() {
        fold(&mut saga, &golden(kind).0);
    }
    let SagaEvent::SagaCommandIssued(issued) = golden("SagaCommandIssued").0 else { panic!("it issues") };
    let SagaEvent::SagaCommandRefused(refused) = golden("SagaCommandRefused").0 else { panic!("it refuses") };
    let undo = SagaCommandIssued {
        direction: StepDirection::Undo,
        command_id: refused.command_id,
        expected_version: None,
        due_at: None,
        ..issued
    };
    fold(&mut saga, &undo.into());
    fold(&mut saga, &refused.into());
    assert_eq!((saga.steps[1].status, saga.steps[1].undo_attempts), (StepStatus::Failed, 1));
    fold(&mut saga, &golden("SagaFailed").0);
    assert_eq!(saga.status, SagaStatus::Failed);
    for kind in ["SagaRetried", "SagaMigrated", "SagaRefusalAccepted", "SagaDefinitionAdopted"] {
        fold(&mut saga, &golden(kind).0);
    }
    assert_eq!((saga.status, saga.definition_version), (SagaStatus::Compensating, 2));
    fold(&mut saga, &golden("SagaEnded").0);

    assert_eq!((saga.status, saga.state.clone()), (SagaStatus::Compensated, json!({ "count": 2 })));
    let steps: Vec<_> = saga.steps.iter().map(|step| (step.name.as_str(), step.status)).collect();
    assert_eq!(steps, [("order", StepStatus::Completed), ("withdraw", StepStatus::Compensated)]);
    let timers: Vec<_> = saga.timers.iter().map(|timer| json!([timer.name, timer.status])).collect();
    assert_eq!(json!(timers), json!([["timeout", "cancelled"], ["withdraw", "cancelled"], ["deposit/retry", "fired"]]));
    assert_eq!((saga.keys, saga.reads["order"].version), (vec!["ord-1".to_owned(), "cor-key".to_owned()], Sequence(3)));
    assert_eq!(saga.reason.unwrap().code, "amount-overflow");
}

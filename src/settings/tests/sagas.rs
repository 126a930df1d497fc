//! The section `sagas`.

use event_sourcing_actors::saga::StepPolicy;

use super::*;

#[test]
fn each_saga_has_a_policy_of_its_own() {
    let yaml = "sagas:\n  in_flight_max: 7\n  definitions:\n    \
                TransferSaga: {timeout_ms: 9, step_timeout_ms: 8, attempts: 7, undo_attempts: 6, retry_pause_ms: 5}\n";
    let sagas = load(&[("cqrs.yaml", yaml)], NO_VARIABLES).unwrap().sagas;
    assert_eq!((sagas.in_flight_max, sagas.attempts_max, sagas.retry_pause_max_ms), (7, 8, 5_000));
    let (transfer, order) = (sagas.definitions.transfer, sagas.definitions.order_fulfillment);
    assert_eq!(transfer.timeout(), Duration::from_millis(9));
    let policy = StepPolicy {
        timeout: Some(Duration::from_millis(8)),
        attempts: 7,
        undo_attempts: 6,
        pause: Duration::from_millis(5),
    };
    assert_eq!(transfer.step_policy(), policy);
    assert_eq!(order, Settings::default().sagas.definitions.order_fulfillment);
}

#[test]
fn variables_name_sagas_without_capital_letters() {
    let pairs = [
        ("ES__SAGAS__DEFINITIONS__TRANSFERSAGA__ATTEMPTS", "3"),
        ("ES__SAGAS__DEFINITIONS__ORDERFULFILLMENTSAGA__TIMEOUT_MS", "4"),
        ("ES__SAGAS__ATTEMPTS_MAX", "5"),
    ];
    let settings = load(&[], pairs).unwrap();
    let definitions = &settings.sagas.definitions;
    assert_eq!((definitions.transfer.attempts, definitions.order_fulfillment.timeout_ms), (3, 4));
    assert_eq!(settings.sagas.attempts_max, 5);
    let key = "sagas.definitions.TransferSaga.attempts";
    let explained = settings.explain().into_iter().find(|setting| setting.key == key).unwrap();
    assert_eq!(explained.source, "environment ES__SAGAS__DEFINITIONS__TRANSFERSAGA__ATTEMPTS");
}

#[test]
fn unknown_sagas_and_members_are_told_with_the_nearest_name() {
    let told = |yaml: &str, parts: &[&str]| assert_says(&refusal(&[("cqrs.yaml", yaml)], NO_VARIABLES), parts);
    let near = ["\"sagas.definitions.TransfersSaga\"", "did you mean \"sagas.definitions.TransferSaga\"?"];
    told("sagas: {definitions: {TransfersSaga: {attempts: 3}}}", &near);
    told("sagas: {definitions: {transfersaga: {attempts: 3}}}", &["did you mean \"sagas.definitions.TransferSaga\"?"]);
    told("sagas: {definitions: {xyzzy: {}}}", &["known here: OrderFulfillmentSaga, TransferSaga"]);
    let near = "did you mean \"sagas.definitions.TransferSaga.step_timeout_ms\"?";
    told("sagas: {definitions: {TransferSaga: {step_timeout: 3}}}", &[near]);
    told("sagas: {in_flight: 5}", &["did you mean \"sagas.in_flight_max\"?"]);
    let message = refusal(&[], [("ES__SAGAS__DEFINITIONS__TRANSFER__ATTEMPTS", "3")]);
    assert_says(&message, &["unknown setting", "sagas.definitions.transfer"]);
}

#[test]
fn numbers_of_sagas_are_held_to_their_range() {
    let told = |yaml: &str, parts: &[&str]| assert_says(&refusal(&[("cqrs.yaml", yaml)], NO_VARIABLES), parts);
    let one = |member: &str| format!("sagas: {{definitions: {{OrderFulfillmentSaga: {{{member}}}}}}}");
    told(
        &one("timeout_ms: 0"),
        &["sagas.definitions.OrderFulfillmentSaga.timeout_ms", "must be 1 to 604800000, not 0"],
    );
    told(&one("undo_attempts: 1001"), &["OrderFulfillmentSaga.undo_attempts", "must be 1 to 1000, not 1001"]);
    told(&one("retry_pause_ms: soon"), &["OrderFulfillmentSaga.retry_pause_ms", "whole number"]);
    told("sagas: {in_flight_max: 0}", &["sagas.in_flight_max", "must be 1 to 100000, not 0"]);
    told("sagas: {retry_pause_max_ms: 600001}", &["sagas.retry_pause_max_ms", "must be 1 to 600000"]);
    told("sagas: {definitions: 5}", &["sagas.definitions", "a section of OrderFulfillmentSaga, TransferSaga"]);
}

//! Sagas that come to the ends a transfer of money does not: one that waits, and one whose undo is refused.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{sync::Arc, time::Duration};

use event_sourcing_actors::{
    Limits, RuntimeBuilder,
    catalog::Catalog,
    limits::SagaLimits,
    memory::MemoryStore,
    ports::SystemClock,
    saga::{Call, SagaDefinitions, Step, StepPolicy, StepSaga},
};
use event_sourcing_cqrs::{domain, http::HttpOptions, sagas};
use serde_json::{Value, json};

use super::http::TestServer;

/// Pays from an account until it can: it waits an hour between two tries, so it is running until it is cancelled.
fn patient() -> StepSaga<Value> {
    let policy = StepPolicy { attempts: 2, pause: Duration::from_secs(3_600), ..StepPolicy::default() };
    StepSaga::<Value>::new("PatientSaga")
        .step(|data, _| {
            let from = data["account"].as_str().unwrap_or_default();
            Ok(Step::command("pay", Call::new(from, "WithdrawMoney", json!({ "amount": 1_000_000 }))?))
        })
        .policy(policy)
}

/// Puts money on an account and fails to pay with it; the undo takes it from an account that may not be there.
fn stubborn() -> StepSaga<Value> {
    let policy = StepPolicy { undo_attempts: 1, ..StepPolicy::default() };
    StepSaga::<Value>::new("StubbornSaga")
        .step(|data, _| {
            let (to, from) = (data["to"].as_str().unwrap_or_default(), data["undo_from"].as_str().unwrap_or_default());
            let put = Call::new(to, "DepositMoney", json!({ "amount": 5 }))?;
            Ok(Step::command("put", put).undo(Call::new(from, "WithdrawMoney", json!({ "amount": 5 }))?))
        })
        .step(|_, _| Ok(Step::command("pay", Call::new("nobody", "WithdrawMoney", json!({ "amount": 5 }))?)))
        .policy(policy)
}

/// This crate's domains and sagas, and the two above.
pub async fn server(options: HttpOptions) -> TestServer {
    let (mut catalog, mut definitions) = (Catalog::default(), SagaDefinitions::default());
    domain::register(&mut catalog).unwrap();
    let policy = sagas::Policy { timeout: Duration::from_secs(60), steps: StepPolicy::default() };
    sagas::register(&mut definitions, &sagas::Policies { transfer: policy, order_fulfillment: policy }).unwrap();
    definitions.register(patient()).unwrap();
    definitions.register(stubborn()).unwrap();
    let store = Arc::new(MemoryStore::new(Arc::new(SystemClock)));
    let sagas = SagaLimits { look: Duration::from_millis(10), ..SagaLimits::default() };
    let builder = RuntimeBuilder::new(store.clone(), store.clone())
        .views(store)
        .catalog(catalog)
        .throwaway_keys()
        .sagas(definitions);
    let server = TestServer::over(builder.limits(Limits { sagas, ..Limits::default() }), options, |context| context);
    server.await
}

//! Sagas on a branch: they stay there, and those of main stand still.

use serde_json::json;

use super::{WAIT, World, assert_problem, on_both, seeded};
use crate::support::eventually;

/// Moves 50 from `a` to `b`, and waits until it is done; the saga's id.
async fn transferred(world: &World, path: &str) -> String {
    let data = json!({ "from_account": "a", "to_account": "b", "amount": 50 });
    let body = json!({ "saga_type": "TransferSaga", "data": data }).to_string();
    let ended = world.server.post_with(path, &[WAIT], &body).await;
    assert_eq!((ended.status, &ended.json()["status"]), (200, &json!("completed")), "{}", ended.text());
    ended.json()["saga_id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn sagas_run_on_the_branch_alone() {
    on_both(|database| async move {
        let world = World::over(&database).await;
        seeded(&world).await;
        let branch = world.fork(json!({ "name": "s", "at_position": 5 })).await;
        let id = transferred(&world, &branch.at("/api/v1/sagas")).await;
        assert_eq!((branch.balance("a").await, branch.balance("b").await), (json!(52), json!(61)));
        assert_eq!(branch.get(&format!("/api/v1/sagas/{id}")).await.json()["status"], "completed");
        assert_eq!(branch.get("/api/v1/sagas").await.json()["items"].as_array().unwrap().len(), 1);
        assert_problem(&world.server.get(&format!("/api/v1/sagas/{id}")).await, 404, "unknown-saga");
        assert!(world.server.get("/api/v1/sagas").await.json()["items"].as_array().unwrap().is_empty());
        assert_eq!((world.head().await, world.balance("a").await), (5, json!(102)));

        // A merge starts it anew on main; what it did on the branch is not run again.
        let report = branch.merge(json!({})).await;
        assert_eq!(report.status, 200, "{}", report.text());
        let commands =
            json!([{ "command_type": "StartSaga", "aggregate_id": id, "outcome": "accepted", "rejection": null }]);
        assert_eq!(report.json(), json!({ "merged": true, "commands": commands }));
        let completed =
            || async { world.server.get(&format!("/api/v1/sagas/{id}")).await.json()["status"] == "completed" };
        eventually("main's own sagas do it", completed).await;
        assert_eq!((world.balance("a").await, world.balance("b").await), (json!(52), json!(61)));
        world.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saga_of_main_that_was_under_way_at_the_fork_stands_still() {
    on_both(|database| async move {
        let world = World::over(&database).await;
        seeded(&world).await;
        let of_main = transferred(&world, "/api/v1/sagas").await;
        // It has begun there, and its first command has not been taken yet.
        let events = world.server.get("/api/v1/events/a").await.json()["events"].clone();
        let withdrawn = events.as_array().unwrap().last().unwrap();
        assert_eq!(withdrawn["event_type"], "MoneyWithdrawn");
        let before = withdrawn["position"].as_u64().unwrap() - 1;
        let branch = world.fork(json!({ "name": "s", "at_position": before })).await;
        let began = branch.get(&format!("/api/v1/events/{of_main}")).await.json();
        assert!(!began["events"].as_array().unwrap().is_empty(), "the control: it is under way: {began}");
        // One that is begun later is worked on after all that the branch works on.
        let own = transferred(&world, &branch.at("/api/v1/sagas")).await;
        let sagas = branch.get("/api/v1/sagas").await.json();
        let ids: Vec<_> = sagas["items"].as_array().unwrap().iter().map(|saga| saga["saga_id"].clone()).collect();
        assert_eq!(ids, [json!(own)], "{sagas}");
        assert_eq!((branch.balance("a").await, branch.balance("b").await), (json!(52), json!(61)), "once, not twice");
        world.end().await;
    })
    .await;
}

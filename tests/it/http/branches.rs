//! `/api/v1/branches` and `?branch=`, over the real app on SQLite and PostgreSQL.

mod sagas;

use std::{future::Future, sync::Arc};

use event_sourcing_cqrs::{
    app::App,
    http::HttpOptions,
    settings::{SecretUrl, Settings},
};
use serde_json::{Value, json};

use crate::support::{
    http::{Reply, TestServer},
    postgres,
};

const BRANCHES: &str = "/api/v1/branches";
const WAIT: (&str, &str) = ("prefer", "wait=20");

/// A served app.
struct World {
    app: App,
    server: TestServer,
}

impl World {
    async fn over(database: &Database) -> Self {
        let mut settings = Settings::default();
        settings.event_store.database_url = database.url();
        settings.integrity.enabled = false;
        let app = App::builder().settings(settings).start().await.unwrap();
        let server = TestServer::serving(app.runtime().clone(), HttpOptions::default(), |context| context).await;
        Self { app, server }
    }

    async fn end(self) {
        self.server.shutdown.cancel();
        let _ = self.server.serving.await;
        self.app.shutdown().await;
    }

    async fn fork(&self, body: Value) -> Branch<'_> {
        let made = self.server.post(BRANCHES, &body.to_string()).await;
        assert_eq!(made.status, 201, "{}", made.text());
        let id = made.json()["branch_id"].as_str().unwrap().to_owned();
        assert_eq!(made.header("location"), Some(format!("{BRANCHES}/{id}").as_str()));
        Branch { world: self, id }
    }

    async fn head(&self) -> u64 {
        self.app.runtime().feed().head().await.unwrap().0
    }

    async fn balance(&self, account: &str) -> Value {
        self.server.get(&format!("/api/v1/aggregates/{account}")).await.json()["state"]["balance"].clone()
    }

    async fn command(&self, command_type: &str, id: &str, data: Value) {
        let reply = self.server.command(command_type, id, data).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
    }
}

/// A branch seen over HTTP.
struct Branch<'a> {
    world: &'a World,
    id: String,
}

impl Branch<'_> {
    fn at(&self, path: &str) -> String {
        let joint = if path.contains('?') { '&' } else { '?' };
        format!("{path}{joint}branch={}", self.id)
    }

    async fn get(&self, path: &str) -> Reply {
        self.world.server.get(&self.at(path)).await
    }

    async fn post(&self, path: &str, body: Value) -> Reply {
        self.world.server.post(&self.at(path), &body.to_string()).await
    }

    async fn command(&self, command_type: &str, id: &str, data: Value) -> Reply {
        let body = json!({ "command_type": command_type, "aggregate_id": id, "data": data });
        self.post("/api/v1/commands", body).await
    }

    async fn done(&self, command_type: &str, id: &str, data: Value) -> Value {
        let reply = self.command(command_type, id, data).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    }

    async fn balance(&self, account: &str) -> Value {
        self.get(&format!("/api/v1/aggregates/{account}")).await.json()["state"]["balance"].clone()
    }

    async fn merge(&self, body: Value) -> Reply {
        self.world.server.post(&format!("{BRANCHES}/{}/merge", self.id), &body.to_string()).await
    }
}

/// Where the log lies.
enum Database {
    Sqlite(tempfile::TempDir),
    Postgres(postgres::Database),
}

impl Database {
    fn url(&self) -> event_sourcing_cqrs::settings::Database {
        match self {
            Self::Sqlite(folder) => {
                event_sourcing_cqrs::settings::Database::Sqlite { path: folder.path().join("es.db") }
            }
            Self::Postgres(database) => {
                event_sourcing_cqrs::settings::Database::Postgres { url: SecretUrl::new(database.url.clone()) }
            }
        }
    }
}

/// Runs a test on SQLite and, where there is one, on PostgreSQL.
async fn on_both<F: Future<Output = ()>>(test: impl Fn(Arc<Database>) -> F) {
    Box::pin(test(Arc::new(Database::Sqlite(tempfile::tempdir().unwrap())))).await;
    if let Some(database) = postgres::database().await {
        Box::pin(test(Arc::new(Database::Postgres(database)))).await;
    }
}

fn assert_problem(reply: &Reply, status: u16, code: &str) {
    assert_eq!((reply.status, &reply.json()["code"]), (status, &json!(code)), "{}", reply.text());
}

/// Three accounts' events: `a` at positions 1, 3 and 5, `b` at 2 and 4.
async fn seeded(world: &World) {
    world.server.account("a", 100).await;
    world.server.account("b", 10).await;
    world.command("DepositMoney", "a", json!({ "amount": 5 })).await;
    world.command("DepositMoney", "b", json!({ "amount": 1 })).await;
    world.command("WithdrawMoney", "a", json!({ "amount": 3 })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_branch_is_a_world_of_its_own() {
    on_both(|database| async move {
        let world = World::over(&database).await;
        seeded(&world).await;
        let branch = world.fork(json!({ "name": "what if", "aggregate_id": "a", "from_sequence": 2 })).await;
        assert_eq!(world.server.get(&format!("{BRANCHES}/{}", branch.id)).await.json()["fork_position"], 3);

        // Every aggregate as it was at the fork.
        assert_eq!((branch.balance("a").await, branch.balance("b").await), (json!(105), json!(10)));
        let accepted = branch.done("WithdrawMoney", "a", json!({ "amount": 100 })).await;
        assert_eq!((&accepted["version"], &accepted["position"]), (&json!(3), &json!(4)));
        branch.done("CreateAccount", "c", json!({ "owner": "o", "initial_balance": 7 })).await;
        let refused = branch.command("WithdrawMoney", "a", json!({ "amount": 6 })).await;
        assert_problem(&refused, 422, "domain-rejected");
        assert_eq!((world.balance("a").await, world.balance("b").await), (json!(102), json!(11)));
        assert_eq!(world.server.get("/api/v1/aggregates/c").await.status, 404);

        let log = branch.get("/api/v1/events").await.json();
        let places: Vec<_> = log["events"]
            .as_array()
            .unwrap()
            .iter()
            .map(|event| json!([event["position"], event["aggregate_id"]]))
            .collect();
        assert_eq!(json!(places), json!([[1, "a"], [2, "b"], [3, "a"], [4, "a"], [5, "c"]]));
        let own = branch.get("/api/v1/events?after=3").await.json();
        assert_eq!((own["events"].as_array().unwrap().len(), &own["next_cursor"]), (2, &json!(5)));
        let stream = branch.get("/api/v1/events/a?direction=backward&limit=2").await.json();
        let sequences: Vec<_> = stream["events"].as_array().unwrap().iter().map(|it| &it["sequence"]).collect();
        assert_eq!(json!(sequences), json!([3, 2]));
        let streams = branch.get("/api/v1/aggregates").await.json();
        let ids: Vec<_> =
            streams["items"].as_array().unwrap().iter().map(|it| json!([it["aggregate_id"], it["version"]])).collect();
        assert_eq!(json!(ids), json!([["a", 3], ["b", 1], ["c", 1]]));

        let replayed = branch.post("/api/v1/replay", json!({ "aggregate_id": "a", "from_sequence": 3 })).await.json();
        assert_eq!((&replayed["state"]["balance"], &replayed["version"]), (&json!(5), &json!(3)));
        let before = branch.get("/api/v1/aggregates/a?at_position=3").await.json();
        assert_eq!(before["state"]["balance"], 105);
        let changed = branch.get("/api/v1/aggregates/a/diff?from_sequence=2").await.json();
        assert_eq!(changed["changes"], json!([{ "path": "/balance", "from": 105, "to": 5 }]));
        let now = json!({ "aggregate_id": "a", "at": "2999-01-01T00:00:00Z" });
        assert_eq!(branch.post("/api/v1/temporal-query", now).await.json()["state"]["balance"], 5);

        let ask = |id| json!({ "query_type": "GetAccountBalance", "filters": { "account_id": id } });
        let row = branch.post("/api/v1/queries", ask("a")).await.json();
        assert_eq!((&row["data"]["balance"], &row["position"]), (&json!(5), &json!(5)));
        branch.done("DepositMoney", "a", json!({ "amount": 1 })).await;
        assert_eq!(branch.post("/api/v1/queries", ask("a")).await.json()["data"]["balance"], 6, "and it goes on");
        assert_problem(&branch.post("/api/v1/queries", ask("nobody")).await, 404, "not-found");
        let list = branch.post("/api/v1/queries", json!({ "query_type": "ListAccounts" })).await;
        assert_problem(&list, 422, "validation-failed");
        assert_eq!(world.head().await, 5, "nothing of it is in the log");
        world.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_versions_are_the_branchs_own() {
    on_both(|database| async move {
        let world = World::over(&database).await;
        seeded(&world).await;
        let (one, other) = (
            world.fork(json!({ "name": "1", "at_position": 5 })).await,
            world.fork(json!({ "name": "2", "at_position": 5 })).await,
        );
        let body = json!({ "command_type": "DepositMoney", "aggregate_id": "a", "data": { "amount": 1 } }).to_string();
        let key = [("idempotency-key", "k")];
        let paths = ["/api/v1/commands".to_owned(), one.at("/api/v1/commands"), other.at("/api/v1/commands")];
        for path in &paths {
            let first = world.server.post_with(path, &key, &body).await;
            assert_eq!((first.status, first.header("idempotency-replayed")), (200, None), "{}", first.text());
            let again = world.server.post_with(path, &key, &body).await;
            assert_eq!((again.status, again.header("idempotency-replayed")), (200, Some("true")), "{}", again.text());
            assert_eq!(first.json(), again.json());
        }
        let stale = world.server.post_with(&one.at("/api/v1/commands"), &[("if-match", "\"3\"")], &body).await;
        assert_problem(&stale, 412, "precondition-failed");
        assert_eq!(stale.json()["current_version"], 4);
        let raw =
            json!({ "aggregate_id": "a", "event_type": "MoneyDeposited", "data": { "amount": 5, "balance_after": 0 } });
        let appended = one.post("/api/v1/events", raw).await;
        assert_eq!(appended.status, 201, "{}", appended.text());
        assert!(appended.header("location").unwrap().ends_with(&format!("?branch={}", one.id)));
        assert_eq!((world.balance("a").await, other.balance("a").await), (json!(103), json!(103)));
        world.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_runs_the_branchs_commands_on_main_once() {
    on_both(|database| async move {
        let world = World::over(&database).await;
        seeded(&world).await;
        let branch = world.fork(json!({ "name": "m", "at_time": "2999-01-01T00:00:00Z" })).await;
        branch.done("WithdrawMoney", "a", json!({ "amount": 60 })).await;
        branch.done("CreateAccount", "c", json!({ "owner": "o", "initial_balance": 7 })).await;
        branch.done("DepositMoney", "a", json!({ "amount": 4 })).await;
        // Main goes on; its live actors hold states that the merge makes old.
        world.command("DepositMoney", "a", json!({ "amount": 1_000 })).await;

        let diff = world.server.get(&format!("{BRANCHES}/{}/diff", branch.id)).await.json();
        let first = &diff["items"][0];
        assert_eq!(
            (&first["aggregate_id"], &first["main"]["version"], &first["branch"]["version"]),
            (&json!("a"), &json!(4), &json!(5))
        );
        assert_eq!(
            (first["main"]["events"].as_array().unwrap().len(), first["branch"]["events"].as_array().unwrap().len()),
            (1, 2)
        );
        assert_eq!(first["changes"], json!([{ "path": "/balance", "from": 1_102, "to": 46 }]));
        assert_eq!((&diff["items"][1]["aggregate_id"], &diff["items"][1]["main"]["version"]), (&json!("c"), &json!(0)));

        let tried = branch.merge(json!({ "dry_run": true })).await;
        assert_eq!((tried.status, &tried.json()["merged"], world.head().await), (200, &json!(false), 6));
        let merged = branch.merge(json!({})).await;
        assert_eq!((merged.status, &merged.json()["merged"]), (200, &json!(true)), "{}", merged.text());
        let told: Vec<_> = merged.json()["commands"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| json!([it["command_type"], it["outcome"]]))
            .collect();
        assert_eq!(
            json!(told),
            json!([["WithdrawMoney", "accepted"], ["CreateAccount", "accepted"], ["DepositMoney", "accepted"]])
        );
        assert_eq!(
            (world.head().await, world.balance("a").await, world.balance("c").await),
            (9, json!(1_046), json!(7))
        );
        let log = world.server.get("/api/v1/events?after=6").await.json();
        let streams: Vec<_> = log["events"].as_array().unwrap().iter().map(|event| &event["aggregate_id"]).collect();
        assert_eq!(json!(streams), json!(["a", "c", "a"]), "in the order of the commands");

        world.command("WithdrawMoney", "a", json!({ "amount": 1_046 })).await;
        assert_eq!(world.balance("a").await, json!(0), "a live actor has noticed");
        let again = branch.merge(json!({})).await;
        assert_eq!((again.status, again.header("idempotency-replayed")), (200, Some("true")));
        assert_eq!((again.json(), world.head().await), (merged.json(), 10));
        assert_eq!(world.server.get(&format!("{BRANCHES}/{}", branch.id)).await.json()["status"], "merged");
        assert_problem(&branch.command("DepositMoney", "a", json!({ "amount": 1 })).await, 409, "branch-closed");
        assert_eq!(branch.balance("a").await, json!(46), "it can still be read");
        world.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_that_would_be_refused_changes_nothing() {
    on_both(|database| async move {
        let world = World::over(&database).await;
        seeded(&world).await;
        let branch = world.fork(json!({ "name": "m", "at_position": 5 })).await;
        branch.done("DepositMoney", "b", json!({ "amount": 2 })).await;
        branch.done("WithdrawMoney", "a", json!({ "amount": 60 })).await;
        branch.done("DepositMoney", "b", json!({ "amount": 3 })).await;
        world.command("WithdrawMoney", "a", json!({ "amount": 100 })).await;
        let before = (world.head().await, world.server.get("/api/v1/events").await.json());
        for dry_run in [true, false, false] {
            let refused = branch.merge(json!({ "dry_run": dry_run })).await;
            assert_problem(&refused, 409, "merge-conflict");
            let told = refused.json();
            assert_eq!(told["merged"], false);
            let outcomes: Vec<_> = told["commands"].as_array().unwrap().iter().map(|it| &it["outcome"]).collect();
            assert_eq!(json!(outcomes), json!(["accepted", "rejected", "accepted"]));
            assert_eq!(told["commands"][1]["rejection"]["code"], "insufficient-funds");
            assert_eq!((world.head().await, world.server.get("/api/v1/events").await.json()), before);
        }
        // The branch is open as before; and the control: once main takes all, all is done.
        branch.done("DepositMoney", "b", json!({ "amount": 4 })).await;
        world.command("DepositMoney", "a", json!({ "amount": 100 })).await;
        assert_eq!(branch.merge(json!({})).await.status, 200);
        assert_eq!((world.balance("a").await, world.balance("b").await), (json!(42), json!(20)));
        world.end().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn merges_from_two_processes_at_once_have_one_effect() {
    on_both(|database| async move {
        let (one, other) = (World::over(&database).await, World::over(&database).await);
        seeded(&one).await;
        let branch = one.fork(json!({ "name": "m", "at_position": 5 })).await;
        // A branch works from any process.
        branch.done("DepositMoney", "a", json!({ "amount": 1 })).await;
        let there = Branch { world: &other, id: branch.id.clone() };
        there.done("DepositMoney", "a", json!({ "amount": 2 })).await;
        branch.done("DepositMoney", "a", json!({ "amount": 3 })).await;
        assert_eq!((branch.balance("a").await, there.balance("a").await), (json!(108), json!(108)));
        let merges = (0..8).map(|number| if number % 2 == 0 { &branch } else { &there });
        let merges = futures_util::future::join_all(merges.map(|branch| branch.merge(json!({})))).await;
        for merged in &merges {
            assert_eq!((merged.status, merged.json()), (200, merges[0].json()), "{}", merged.text());
        }
        assert_eq!((one.head().await, other.balance("a").await), (8, json!(108)));
        one.end().await;
        other.end().await;
    })
    .await;
}

/// Paths and bodies that write.
fn writes() -> [(&'static str, Value); 3] {
    [
        ("commands", json!({ "command_type": "DepositMoney", "aggregate_id": "a", "data": { "amount": 1 } })),
        ("events", json!({ "aggregate_id": "a", "event_type": "MoneyDeposited", "data": {} })),
        ("sagas", json!({ "saga_type": "TransferSaga" })),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_branch_is_told() {
    let server = TestServer::with_views().await;
    server.account("a", 1).await;
    let bad = async |body: Value| server.post(BRANCHES, &body.to_string()).await;
    for body in [
        json!({}),
        json!({ "name": "n" }),
        json!({ "name": "n", "aggregate_id": "a" }),
        json!({ "name": "n", "from_sequence": 1 }),
        json!({ "name": "n", "at_position": 1, "at_time": "2999-01-01T00:00:00Z" }),
        json!({ "name": "n", "at_position": "1" }),
        json!({ "name": "n", "at_position": 1, "more": 1 }),
    ] {
        assert_problem(&bad(body).await, 400, "malformed-body");
    }
    assert_problem(&bad(json!({ "name": "n", "at_time": "yesterday" })).await, 400, "invalid-time");
    assert_problem(
        &bad(json!({ "name": "n", "aggregate_id": "b", "from_sequence": 1 })).await,
        404,
        "unknown-aggregate",
    );
    for (body, pointer) in [
        (json!({ "name": "", "at_position": 1 }), "/name"),
        (json!({ "name": "n", "at_position": 2 }), "/at_position"),
        (json!({ "name": "n", "aggregate_id": "a", "from_sequence": 0 }), "/from_sequence"),
        (json!({ "name": "n", "aggregate_id": "a", "from_sequence": 2 }), "/from_sequence"),
    ] {
        let reply = bad(body).await;
        assert_problem(&reply, 422, "validation-failed");
        assert_eq!(reply.json()["errors"][0]["pointer"], pointer);
    }

    let made = bad(json!({ "name": "n", "at_position": 0 })).await.json();
    assert_eq!((&made["fork_position"], &made["status"]), (&json!(0), &json!("open")));
    let key = [("idempotency-key", "k")];
    let body = json!({ "name": "k", "at_position": 1 }).to_string();
    let first = server.post_with(BRANCHES, &key, &body).await;
    let again = server.post_with(BRANCHES, &key, &body).await;
    assert_eq!((again.json(), again.header("idempotency-replayed")), (first.json(), Some("true")));
    let other = server.post_with(BRANCHES, &key, &json!({ "name": "k", "at_position": 0 }).to_string()).await;
    assert_problem(&other, 422, "idempotency-key-reused");

    let gone = format!("{BRANCHES}/{}", first.json()["branch_id"].as_str().unwrap());
    assert_eq!(server.send("DELETE", &gone, &[], b"").await.status, 204);
    assert_problem(&server.send("DELETE", &gone, &[], b"").await, 404, "unknown-branch");
    let absent = first.json()["branch_id"].as_str().unwrap().to_owned();
    for id in [absent.as_str(), "no-id"] {
        for path in ["events", "events/a", "aggregates", "aggregates/a", "aggregates/a/diff", "sagas", "sagas/s"] {
            assert_problem(&server.get(&format!("/api/v1/{path}?branch={id}")).await, 404, "unknown-branch");
        }
        let reads = [
            ("replay", json!({ "aggregate_id": "a" })),
            ("temporal-query", json!({ "aggregate_id": "a", "at": "2999-01-01T00:00:00Z" })),
            ("queries", json!({ "query_type": "GetAccountBalance", "filters": { "account_id": "a" } })),
        ];
        for (path, body) in reads.into_iter().chain(writes()) {
            let reply = server.post(&format!("/api/v1/{path}?branch={id}"), &body.to_string()).await;
            assert_problem(&reply, 404, "unknown-branch");
        }
        let wrong_key = [("idempotency-key", "a b")];
        for (path, body) in writes() {
            let reply = server.post_with(&format!("/api/v1/{path}?branch={id}"), &wrong_key, &body.to_string()).await;
            assert_problem(&reply, 400, "malformed-header");
        }
        for path in ["", "/diff"] {
            assert_problem(&server.get(&format!("{BRANCHES}/{id}{path}")).await, 404, "unknown-branch");
        }
        assert_problem(&server.post(&format!("{BRANCHES}/{id}/merge"), "{}").await, 404, "unknown-branch");
    }
    // A route that knows no branches says so, and a branch has none.
    let of_branch = format!("branch={}", made["branch_id"].as_str().unwrap());
    assert_problem(&server.get(&format!("/api/v1/projections?{of_branch}")).await, 422, "validation-failed");
    assert_problem(&server.post(&format!("{BRANCHES}?{of_branch}"), &body).await, 422, "validation-failed");
    assert_eq!(server.get(&format!("/api/v1/aggregates/a?{of_branch}")).await.status, 404, "it forks before all");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_followed_branch_tells_of_its_own_events() {
    let server = TestServer::start().await;
    server.account("a", 1).await;
    let made = server.post(BRANCHES, &json!({ "name": "n", "at_position": 1 }).to_string()).await.json();
    let of_branch = format!("branch={}", made["branch_id"].as_str().unwrap());
    let lines = [("accept", "application/x-ndjson")];
    let open = server.open("GET", &format!("/api/v1/events?{of_branch}"), &lines, b"").await;
    let mut live = crate::support::http::Live::new(open);
    let event: Value = serde_json::from_str(&live.line().await.unwrap()).unwrap();
    assert_eq!(event["position"], 1);
    let deposit = json!({ "command_type": "DepositMoney", "aggregate_id": "a", "data": { "amount": 7 } }).to_string();
    server.post("/api/v1/commands", &deposit.replace('7', "9")).await;
    assert_eq!(server.post(&format!("/api/v1/commands?{of_branch}"), &deposit).await.status, 200);
    let event: Value = serde_json::from_str(&live.line().await.unwrap()).unwrap();
    assert_eq!((&event["position"], &event["data"]["amount"]), (&json!(2), &json!(7)), "not main's of that place");
}

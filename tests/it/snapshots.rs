//! Snapshots are a cache: whatever becomes of them behind the program's back, every state is that of the full fold.

use std::{sync::Arc, time::Duration};

use event_sourcing_actors::{
    Aggregate, AggregateId, AggregateType, Runtime, RuntimeBuilder, Sequence, Snapshot, StreamHead,
    catalog::Catalog,
    command_bus::{Action, CommandRequest},
    digest::ChainDigest,
    master_keys::MasterKeys,
    ports::{Direction, EventStore, SnapshotStore, StoredSnapshot, StreamRange},
};
use event_sourcing_cqrs::{
    domain::{self, account::Account, inventory::InventoryItem, order::Order, user::User},
    store::{SqliteOptions, SqliteStore},
};
use serde_json::{Value, json, value::to_raw_value};
use sqlx::{ConnectOptions, SqliteConnection, sqlite::SqliteConnectOptions};

/// Deterministic pseudo-random numbers (SplitMix64), so that a failure repeats.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

/// A command's type and data.
type Words = (&'static str, Value);

/// How streams of one aggregate type come to be.
struct Life {
    aggregate_type: &'static str,
    /// Version of its state.
    state_version: u16,
    begin: Words,
    go_on: fn(u64) -> Words,
}

fn life<A: Aggregate>(begin: Words, go_on: fn(u64) -> Words) -> Life {
    Life { aggregate_type: A::TYPE, state_version: A::STATE_VERSION, begin, go_on }
}

/// One of each aggregate type.
fn lives() -> [Life; 4] {
    [
        life::<Account>(("CreateAccount", json!({ "owner": "O", "initial_balance": 5 })), |n| {
            ("DepositMoney", json!({ "amount": n }))
        }),
        life::<Order>(("CreateOrder", json!({ "customer_id": "c" })), |n| {
            ("AddOrderItem", json!({ "product_id": format!("p{n}"), "quantity": n, "unit_price": 1 }))
        }),
        life::<InventoryItem>(
            ("CreateInventoryItem", json!({ "name": "n", "initial_quantity": 900, "low_stock_threshold": 1 })),
            |n| ("ReserveStock", json!({ "order_id": format!("o{n}"), "quantity": 1 + n % 7 })),
        ),
        life::<User>(("RegisterUser", json!({ "email": "a@b.c", "name": "n" })), |n| {
            ("LogInUser", json!({ "session_id": format!("s{n}") }))
        }),
    ]
}

const EVENTS: u64 = 80;

async fn command(runtime: &Runtime, id: &AggregateId, (command_type, data): Words) {
    let action = Action::Named { command_type: command_type.to_owned(), data: to_raw_value(&data).unwrap().into() };
    runtime.bus().send(CommandRequest::new(id.clone(), action, Duration::from_secs(20))).await.unwrap();
}

async fn start(store: &Arc<SqliteStore>) -> Runtime {
    let mut catalog = Catalog::default();
    domain::register(&mut catalog).unwrap();
    let masters = MasterKeys::parse(&"07".repeat(32)).unwrap();
    let builder =
        RuntimeBuilder::new(store.clone(), store.clone()).catalog(catalog).subject_keys(store.clone(), masters);
    builder.snapshot_frequency(|_| 3).start().await.unwrap()
}

/// Something that must not be believed, in place of what is at this sequence or beside it.
async fn damage(
    store: &SqliteStore,
    session: &mut SqliteConnection,
    dice: &mut Dice,
    id: &AggregateId,
    state_version: u16,
) {
    let sequence = Sequence(1 + dice.below(EVENTS));
    let range =
        StreamRange { from: sequence, to: sequence, direction: Direction::Forward, limit: std::num::NonZeroU32::MIN };
    let event = store.read_stream(id, range).await.unwrap().remove(0);
    let lie = Snapshot {
        aggregate_id: id.clone(),
        aggregate_type: event.aggregate_type.clone(),
        head: event.head(),
        state_version,
        state: r#"{"a":"lie"}"#.into(),
    };
    let saved = match dice.below(10) {
        0 => Some(Snapshot { state_version: state_version - 1, state: "null".into(), ..lie }),
        1 => Some(Snapshot { state_version: state_version + 1, state: "null".into(), ..lie }),
        2 => Some(lie),
        3 => Some(Snapshot { state: "\u{0}".into(), ..lie }),
        4 => Some(Snapshot {
            head: StreamHead { chain: ChainDigest([9; 32]), ..event.head() },
            state: "null".into(),
            ..lie
        }),
        5 => Some(Snapshot {
            head: StreamHead { sequence: Sequence(EVENTS + 7), ..event.head() },
            state: "null".into(),
            ..lie
        }),
        6 => Some(Snapshot { aggregate_type: AggregateType::new("elsewhere").unwrap(), state_version: 1, ..lie }),
        _ => None,
    };
    if let Some(saved) = saved {
        return store.save(saved).await.unwrap();
    }
    let change = *dice.of(&[
        "state = CAST(replace(CAST(state AS TEXT), '1', '2') AS BLOB)",
        "state = x''",
        "state = CAST(state || x'20' AS BLOB)",
        "chain = zeroblob(32)",
        "digest = zeroblob(32)",
        "digest = x'00'",
        "state_version = state_version + 1",
        "state_version = -7",
        "aggregate_type = ''",
        "aggregate_type = 'order'",
        "sequence = -sequence",
    ]);
    let update = format!("UPDATE OR REPLACE snapshots SET {change} WHERE aggregate_id = ? AND abs(sequence) % ? = 0");
    let update = sqlx::query(sqlx::AssertSqlSafe(update));
    update.bind(id.as_str()).bind(i64::try_from(1 + dice.below(3)).unwrap()).execute(session).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn states_are_those_of_the_full_fold_whatever_becomes_of_snapshots() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log.db");
    let store = Arc::new(SqliteStore::open(SqliteOptions::new(&path)).await.unwrap());
    let runtime = start(&store).await;
    let mut session = SqliteConnectOptions::new().filename(&path).connect().await.unwrap();
    let mut dice = Dice(7);
    for Life { aggregate_type, state_version, begin, go_on } in lives() {
        let id = AggregateId::new(format!("one {aggregate_type}")).unwrap();
        command(&runtime, &id, begin).await;
        for number in 1..EVENTS {
            command(&runtime, &id, go_on(number)).await;
        }
        let mut used = 0;
        for round in 0..60 {
            damage(&store, &mut session, &mut dice, &id, state_version).await;
            let to = Sequence(1 + dice.below(EVENTS + 1));
            let history = runtime.history();
            let quick = history.state_at(&id, to, true).await.unwrap().unwrap();
            let full = history.state_at(&id, to, false).await.unwrap().unwrap();
            assert_eq!(quick.state, full.state, "{aggregate_type} at {to} in round {round}");
            assert_eq!(
                (quick.version, quick.position, quick.recorded_at),
                (full.version, full.position, full.recorded_at)
            );
            used += u32::from(quick.snapshot_sequence.is_some());
        }
        assert!(used > 5, "{aggregate_type}: snapshots were used {used} times only");
        // What was wrong was replaced: in the end a load is short again, and a successor decides on the right state.
        assert!(store.latest(&id, Sequence(EVENTS)).await.unwrap().is_some());
    }
    runtime.shutdown().await;
    let successor = start(&store).await;
    for Life { aggregate_type, go_on, .. } in lives() {
        let id = AggregateId::new(format!("one {aggregate_type}")).unwrap();
        command(&successor, &id, go_on(EVENTS)).await;
        let history = successor.history();
        let quick = history.state_at(&id, Sequence(u64::MAX), true).await.unwrap().unwrap();
        let full = history.state_at(&id, Sequence(u64::MAX), false).await.unwrap().unwrap();
        assert_eq!((quick.version, quick.state), (Sequence(EVENTS + 1), full.state), "{aggregate_type}");
    }
    successor.shutdown().await;
}

/// The control: a snapshot of today's shape at its own event is believed, so the test above can fail.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_fits_is_believed() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(SqliteOptions::new(folder.path().join("log.db"))).await.unwrap());
    let runtime = start(&store).await;
    let id = AggregateId::new("a").unwrap();
    command(&runtime, &id, ("CreateAccount", json!({ "owner": "O", "initial_balance": 5 }))).await;
    for _ in 0..2 {
        command(&runtime, &id, ("DepositMoney", json!({ "amount": 1 }))).await;
    }
    let mut kept = None;
    while kept.is_none() {
        kept = store.latest(&id, Sequence(3)).await.unwrap().and_then(StoredSnapshot::readable);
        tokio::task::yield_now().await;
    }
    let lie = json!({ "account_id": "a", "owner": "O", "balance": 1_000, "status": "open" });
    store.save(Snapshot { state: lie.to_string().into(), ..kept.unwrap() }).await.unwrap();
    let state = runtime.history().state_at(&id, Sequence(3), true).await.unwrap().unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&state.state).unwrap(), lie);
    runtime.shutdown().await;
}

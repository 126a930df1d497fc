//! Key files out of every kind of store and into every other: what comes back, and who never does.

use std::{
    io::Cursor,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use event_sourcing_actors::{
    AggregateId, AggregateType, NewEvent, Sequence, StreamHead,
    digest::ChainDigest,
    envelope::{EventBody, Snapshot},
    master_keys::MasterKeys,
    memory::MemoryStore,
    personal::{SUBJECT_ERASED, SubjectKey},
    ports::{
        AppendBatch, EventStore, SnapshotStore, StoredKey, StoredKeyState, SubjectKeys, SystemClock, Tombstone,
        WrappedKey,
    },
};
use event_sourcing_cqrs::{
    archive::{KeyPlace, KeySource, KeysError, KeysRestored, back_up_keys, restore_keys},
    store::{PostgresOptions, PostgresStore, SqliteOptions, SqliteStore},
};
use uuid::Uuid;

use crate::support::{batches::unit, postgres, tombstones::List};

/// The id that the log has in both stores, as after a restoration.
const LOG: Uuid = Uuid::from_u128(0x5109);

trait Whole: SubjectKeys + EventStore + SnapshotStore {}
impl<S: SubjectKeys + EventStore + SnapshotStore> Whole for S {}

struct Kind {
    name: &'static str,
    keys: Arc<dyn SubjectKeys>,
    events: Arc<dyn EventStore>,
    snapshots: Arc<dyn SnapshotStore>,
}

fn kind<S: Whole>(name: &'static str, store: S) -> Kind {
    let store = Arc::new(store);
    Kind { name, keys: store.clone(), events: store.clone(), snapshots: store }
}

/// A fresh store of each kind that is here.
async fn kinds(folder: &tempfile::TempDir) -> Vec<Kind> {
    let path = folder.path().join(format!("{}.db", Uuid::now_v7()));
    let mut all = vec![
        kind("memory", MemoryStore::new(Arc::new(SystemClock))),
        kind("sqlite", SqliteStore::open(SqliteOptions::new(path)).await.unwrap()),
    ];
    if let Some(database) = postgres::database().await {
        let options = PostgresOptions { pool_connections_max: 4, ..PostgresOptions::new(&database.url) };
        all.push(kind("postgres", PostgresStore::connect(options).await.unwrap()));
    }
    all
}

fn id(name: &str) -> AggregateId {
    AggregateId::new(name).unwrap()
}

fn wrapped(masters: &MasterKeys, name: &str) -> (AggregateId, WrappedKey) {
    let key = SubjectKey::random();
    let wrapped = masters.wrap(&id(name), &key).unwrap();
    (id(name), WrappedKey { id: key.id(), master: masters.current().to_owned(), wrapped })
}

async fn file(from: &Kind) -> Vec<u8> {
    let source = KeySource { keys: from.keys.clone(), store_id: LOG, kind: from.name, clock: Arc::new(SystemClock) };
    back_up_keys(source, Vec::new(), &mut |_, _| true).await.unwrap().1
}

fn place(into: &Kind, masters: Option<&MasterKeys>, outside: &[Tombstone]) -> KeyPlace {
    let list = List(Mutex::new(outside.to_vec()));
    KeyPlace {
        keys: into.keys.clone(),
        events: into.events.clone(),
        snapshots: into.snapshots.clone(),
        tombstones: Some(Arc::new(list)),
        masters: masters.cloned(),
        store_id: LOG,
    }
}

async fn restored(file: &[u8], place: KeyPlace, dry_run: bool) -> Result<KeysRestored, KeysError> {
    restore_keys(Cursor::new(file.to_vec()), place, dry_run, &mut |_, _| true).await
}

async fn state(into: &Kind, name: &str) -> Option<StoredKeyState> {
    into.keys.find(&[id(name)]).await.unwrap().pop().unwrap().map(|key: StoredKey| key.state)
}

/// Names a person in a log who was erased, with the words of an erasure.
async fn say_erased(into: &Kind, name: &str, at: &str) {
    let mut unit = unit(name, StreamHead::EMPTY);
    let event = &unit.events[0];
    let body = EventBody {
        event_id: event.event_id,
        event_type: SUBJECT_ERASED.try_into().unwrap(),
        schema_version: 1,
        data: format!(r#"{{"key_destroyed_at":"{at}"}}"#).into(),
        metadata: event.metadata.clone(),
    };
    let (kind, mut head) = (AggregateType::new("test").unwrap(), StreamHead::EMPTY);
    let event = NewEvent::following(&mut head, &id(name), &kind, body);
    unit.events = vec![event];
    into.events.append(AppendBatch { units: vec![unit] }).await.unwrap();
}

/// Ann is there; bo was erased before the file was made, cy after (the log says so), di after (only the list outside does);
/// ed has got another key since.
#[tokio::test(flavor = "multi_thread")]
async fn keys_come_back_into_every_other_store_and_nobody_erased_does() {
    let folder = tempfile::tempdir().unwrap();
    let (sources, masters) = (kinds(&folder).await, MasterKeys::random());
    for from in &sources {
        let keys: Vec<_> = ["ann", "bo", "cy", "di", "ed"].map(|name| wrapped(&masters, name)).to_vec();
        SubjectKeys::create(&*from.keys, &keys).await.unwrap();
        from.keys.destroy(&id("bo")).await.unwrap();
        let bo = state(from, "bo").await;
        let file = file(from).await;
        let secret = masters.to_text();
        assert!(!file.windows(64).any(|bytes| bytes == &secret.as_bytes()[..64]), "the master key is in no key file");
        let at = "2026-11-26T12:00:00.000001Z";
        let instant = at.parse().unwrap();
        for into in &kinds(&folder).await {
            let case = format!("{} into {}", from.name, into.name);
            say_erased(into, "cy", at).await;
            let of_ed = wrapped(&masters, "ed");
            SubjectKeys::create(&*into.keys, std::slice::from_ref(&of_ed)).await.unwrap();
            let snapshot = |name: &str| Snapshot {
                aggregate_id: id(name),
                aggregate_type: AggregateType::new("t").unwrap(),
                head: StreamHead { sequence: Sequence(1), chain: ChainDigest::EMPTY },
                state_version: 1,
                state: Bytes::from_static(b"{\"name\":\"[sealed]\"}"),
            };
            into.snapshots.save(snapshot("ann")).await.unwrap();
            let outside = [Tombstone { destroyed_at: instant, subject: id("di") }];
            let expected = |dry_run, restored, already_there| KeysRestored {
                store_id: LOG,
                restored,
                already_there,
                erased: 2,
                replaced: 1,
                newly_erased: if already_there > 0 { 0 } else { 3 },
                dry_run,
                ..Default::default()
            };
            let run = async |dry_run| {
                let done = restored(&file, place(into, Some(&masters), &outside), dry_run).await.unwrap();
                KeysRestored { file_id: Uuid::nil(), ..done }
            };
            assert_eq!(run(true).await, expected(true, 1, 0), "{case}");
            assert_eq!(into.keys.census().await.unwrap().keys(), 1, "{case}: a dry run stores nothing");
            assert_eq!(run(false).await, expected(false, 1, 0), "{case}");
            let ann = StoredKeyState::Wrapped(keys[0].1.clone());
            assert_eq!(state(into, "ann").await, Some(ann.clone()), "{case}");
            assert_eq!(state(into, "bo").await, bo, "{case}: with its instant");
            for name in ["cy", "di"] {
                assert_eq!(state(into, name).await, Some(StoredKeyState::Destroyed(instant)), "{case}: {name}");
            }
            assert_eq!(state(into, "ed").await, Some(StoredKeyState::Wrapped(of_ed.1)), "{case}");
            let snapshot = into.snapshots.latest(&id("ann"), Sequence(9)).await.unwrap();
            assert_eq!(snapshot, None, "{case}: what was folded without the key is gone");
            assert_eq!(run(false).await, expected(false, 0, 1), "{case}: doing it again changes nothing");
            let census = into.keys.census().await.unwrap();
            assert_eq!(census.current.as_deref(), Some(masters.current()), "{case}");
        }
        // The control: nothing else keeps them out.
        for into in &kinds(&folder).await {
            let done = restored(&file, place(into, Some(&masters), &[]), false).await.unwrap();
            assert_eq!((done.restored, done.erased), (4, 0), "{} into {}", from.name, into.name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_another_store_or_master_are_refused_and_nothing_is_changed() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (MasterKeys::random(), MasterKeys::random());
    let both = |first: &MasterKeys, then: &MasterKeys| {
        MasterKeys::parse(&format!("{}{}", *first.to_text(), *then.to_text())).unwrap()
    };
    let from = kind("memory", MemoryStore::new(Arc::new(SystemClock)));
    SubjectKeys::create(&*from.keys, &[wrapped(&old, "ann")]).await.unwrap();
    let file = file(&from).await;
    for into in &kinds(&folder).await {
        let elsewhere = KeyPlace { store_id: Uuid::nil(), ..place(into, Some(&old), &[]) };
        let error = restored(&file, elsewhere, false).await.unwrap_err();
        assert!(matches!(error, KeysError::OtherStore { of: LOG, .. }), "{error}");
        for (masters, says) in [(Some(&new), new.current()), (None, "is missing")] {
            let error = restored(&file, place(into, masters, &[]), false).await.unwrap_err();
            assert!(matches!(error, KeysError::ForeignMaster { .. }), "{error}");
            assert!(error.to_string().contains(old.current()) && error.to_string().contains(says), "{error}");
        }
        // Said to be wrapped by a master key that it was not.
        let forged = kind("memory", MemoryStore::new(Arc::new(SystemClock)));
        let (ann, key) = wrapped(&new, "ann");
        let key = WrappedKey { master: old.current().to_owned(), ..key };
        SubjectKeys::create(&*forged.keys, &[(ann, key)]).await.unwrap();
        let error = restored(&self::file(&forged).await, place(into, Some(&old), &[]), false).await.unwrap_err();
        assert!(matches!(error, KeysError::Unopenable { .. }), "{error}");
        let damaged = [&file[..file.len() - 40], &[0; 40]].concat();
        assert_eq!(into.keys.census().await.unwrap(), Default::default(), "{}", into.name);
        let error = restored(&damaged, place(into, Some(&old), &[]), false).await.unwrap_err();
        assert!(matches!(&error, KeysError::File(file) if file.is_damage()), "{error}");
        // The right one, also as the further line that it is after a rotation; the master key that a word has made here
        // meanwhile wraps nothing, and is let go of.
        into.keys.appoint(&[], "of nothing").await.unwrap();
        restored(&file, place(into, Some(&both(&new, &old)), &[]), false).await.unwrap();
        assert_eq!(into.keys.appoint(&[], "x").await.unwrap(), new.current());
        SubjectKeys::create(&*into.keys, &[wrapped(&new, "bo")]).await.unwrap();
        let error = restored(&file, place(into, Some(&old), &[]), false).await.unwrap_err();
        assert!(matches!(&error, KeysError::StandingMaster { needed, .. } if needed == new.current()), "{error}");
    }
}

//! People with values that occur nowhere else, and looking for them in bytes.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use event_sourcing_actors::{
    AggregateId, EventFilter, Position, RecordedEvent,
    digest::ChainDigest,
    ports::{EventStore, Operation, OperationStatus},
    query_bus::QueryRequest,
};
use event_sourcing_cqrs::{
    app::App,
    domain::user::{LogInUser, RegisterUser, User},
};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use crate::support::batches::at_most;

/// A person, with what must not be found.
#[derive(Debug, Clone)]
pub struct Person {
    pub id: String,
    pub email: String,
    pub name: String,
}

pub fn people(prefix: &str, count: usize) -> Vec<Person> {
    let canary = || Uuid::new_v4().simple().to_string();
    (0..count)
        .map(|number| Person {
            id: format!("{prefix}-{number:03}"),
            email: format!("{}@example.org", canary()),
            name: format!("Ann {}", canary()),
        })
        .collect()
}

impl Person {
    pub fn id(&self) -> AggregateId {
        AggregateId::new(self.id.as_str()).unwrap()
    }

    /// The parts that are random.
    fn canaries(&self) -> [&str; 2] {
        [self.email.split('@').next().unwrap(), self.name.split(' ').nth(1).unwrap()]
    }

    /// Whether something of the person stands in these bytes, also as hexadecimal digits of its bytes.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        let holds = |needle: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
        self.canaries().iter().any(|canary| {
            let digits: String = canary.bytes().map(|byte| format!("{byte:02x}")).collect();
            holds(canary.as_bytes()) || holds(digits.as_bytes())
        })
    }
}

/// Every word of 32 hexadecimal digits in some bytes, plain or as hexadecimal digits of its bytes: what canaries are made
/// of. One walk, however many people are looked for.
pub fn words_in(bytes: &[u8]) -> BTreeSet<String> {
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let mut found = BTreeSet::new();
    for run in bytes.split(|byte| !is_digit(byte)).filter(|run| run.len() >= 32) {
        found.extend(run.windows(32).map(|word| String::from_utf8(word.to_vec()).unwrap()));
        for word in run.windows(64) {
            let plain: Option<Vec<u8>> = word
                .chunks(2)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok().filter(is_digit))
                .collect();
            found.extend(plain.map(|plain| String::from_utf8(plain).unwrap()));
        }
    }
    found
}

/// Who of these people is found in some bytes.
pub fn found<'a>(people: &'a [Person], bytes: &[u8]) -> Vec<&'a str> {
    let words = words_in(bytes);
    let is_found = |person: &&Person| person.canaries().iter().any(|canary| words.contains(*canary));
    people.iter().filter(is_found).map(|person| person.id.as_str()).collect()
}

/// The same in the files of a folder.
pub fn found_below<'a>(people: &'a [Person], folder: &Path) -> Vec<(String, Vec<&'a str>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(found_below(people, &path));
            continue;
        }
        let found = found(people, &std::fs::read(&path).unwrap());
        if !found.is_empty() {
            all.push((path.display().to_string(), found));
        }
    }
    all
}

/// Registers people, and makes each one's stream long enough for a snapshot.
pub async fn live(app: &App, people: &[Person]) {
    stream::iter(people)
        .for_each_concurrent(16, |person| async move {
            let register = RegisterUser { user_id: None, email: person.email.clone(), name: person.name.clone() };
            app.execute::<User>(person.id.as_str(), register).await.unwrap();
            for session in 0..3 {
                let log_in = LogInUser { user_id: None, session_id: format!("s{session}") };
                app.execute::<User>(person.id.as_str(), log_in).await.unwrap();
            }
        })
        .await;
}

/// Erases people, all at once, and waits for the ends.
pub async fn erase(app: &Arc<App>, people: &[Person]) -> Vec<Operation> {
    let mut begun = Vec::new();
    for person in people {
        begun.push(app.runtime().erasures().erase(person.id(), "tester").await.unwrap());
    }
    let mut ended = Vec::new();
    for operation in begun {
        ended.push(ended_of(app, operation.id).await);
    }
    ended
}

pub async fn ended_of(app: &App, id: Uuid) -> Operation {
    let give_up = Instant::now() + Duration::from_secs(120);
    loop {
        let operation = app.runtime().projections().operation(id).await.unwrap();
        if operation.status != OperationStatus::Running {
            return operation;
        }
        assert!(Instant::now() < give_up, "still running: {operation:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Their row, once there is one: on a box under load a query does not wait long enough by itself.
pub async fn user(app: &App, person: &Person) -> Value {
    let filters = json!({ "user_id": person.id }).to_string();
    let give_up = Instant::now() + Duration::from_secs(60);
    loop {
        match app.query(QueryRequest::new("GetUser", &filters).unwrap()).await {
            Ok(answer) => return serde_json::from_slice(&answer.data).unwrap(),
            Err(error) => assert!(Instant::now() < give_up, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Their state.
pub async fn state(app: &App, person: &Person) -> Value {
    let to = event_sourcing_actors::Sequence(u64::MAX);
    let state = app.runtime().history().state_at(&person.id(), to, true).await.unwrap().unwrap();
    serde_json::from_slice(&state.state).unwrap()
}

/// The log as it is stored; every checksum and every chain is tested.
pub async fn sound_log(store: &dyn EventStore) -> Vec<RecordedEvent> {
    let (mut log, mut after) = (Vec::new(), Position::ZERO);
    let mut chains = std::collections::HashMap::new();
    loop {
        let page = store.read_all(after, &EventFilter::default(), at_most(1_000)).await.unwrap();
        if page.examined == after {
            return log;
        }
        after = page.examined;
        for event in page.events {
            assert!(event.is_intact(), "{event:?}");
            let chain = chains.entry(event.aggregate_id.clone()).or_insert(ChainDigest::EMPTY);
            *chain = chain.then(event.checksum);
            assert_eq!(*chain, event.chain, "{event:?}");
            assert_eq!(event.position.0, log.len() as u64 + 1);
            log.push(event);
        }
    }
}

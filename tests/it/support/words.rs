//! Words of the program with the exit code they must have, and stores to use them on.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    time::Duration,
};

use serde_json::{Value, json};

use super::server::{Ended, Server, word};

/// Runs a word and expects an exit code.
#[track_caller]
pub fn expect(code: i32, folder: &Path, environment: &[(&str, &str)], words: &[&str]) -> Ended {
    let ended = word(folder, environment, words);
    assert_eq!(ended.code, code, "{words:?}: {ended:?}");
    assert!(!ended.stderr.contains("panicked"), "{ended:?}");
    ended
}

/// Creates an account; the status of the answer.
pub fn create(server: &Server, id: &str) -> u16 {
    create_at(server.port, id)
}

/// The same at a port, for threads that share no [`Server`].
pub fn create_at(port: u16, id: &str) -> u16 {
    let data = json!({ "owner": "o", "initial_balance": 1 });
    let body = json!({ "command_type": "CreateAccount", "aggregate_id": id, "data": data }).to_string();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    // HTTP/1.0: the answer ends with the connection.
    let head = "POST /api/v1/commands HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length";
    stream.write_all(format!("{head}: {}\r\n\r\n{body}", body.len()).as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Lines of CloudEvents as another program would make them: `events` notes of `bytes` each over `streams` streams.
pub fn notes(events: usize, streams: usize, bytes: usize) -> String {
    let lines = (0..events).map(|number| {
        let id = uuid::Uuid::from_u128((0x7000 << 64) | number as u128);
        let text = format!("{number}-").repeat(bytes / 5);
        let stream = number % streams;
        format!(
            r#"{{"specversion":"1.0","id":"{id}","source":"/test","type":"Noted","subject":"note/{stream}","aggregatetype":"note","data":{{"text":"{text}"}}}}"#
        ) + "\n"
    });
    lines.collect()
}

/// Every event of a store as the program lists it.
pub fn events(folder: &Path, environment: &[(&str, &str)]) -> Vec<Value> {
    let listed = expect(0, folder, environment, &["events", "list", "--all", "--format", "ndjson"]);
    listed.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Every file below a folder with its length.
pub fn files(folder: &Path) -> BTreeMap<String, u64> {
    let (mut found, mut folders) = (BTreeMap::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            match entry.metadata().unwrap() {
                metadata if metadata.is_dir() => folders.push(entry.path()),
                metadata => {
                    found.insert(entry.path().display().to_string(), metadata.len());
                }
            }
        }
    }
    found
}

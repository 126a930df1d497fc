//! `export` and `import` as an operator meets them.

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    server::Server,
    words::{events, expect, notes},
};

const ELSEWHERE: &[(&str, &str)] = &[("DATABASE_URL", "sqlite://elsewhere/e.db")];

/// A store with an account of two events, a user, and three notes, one of them with ends of lines in its payload.
fn with_store() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    expect(0, path, &[], &["migrate"]);
    let send = |kind: &str, id: &str, data: &str| {
        expect(0, path, &[], &["command", "send", kind, id, "--data", data]);
    };
    send("CreateAccount", "acc-1", r#"{"owner":"J","initial_balance":10}"#);
    send("DepositMoney", "acc-1", r#"{"amount":5}"#);
    send("RegisterUser", "user/ü", r#"{"email":"j@example.com","name":"J"}"#);
    for data in [r#"{"a":1.50}"#, "{\"a\":\n [1,\r\n 2]}", "null"] {
        let note = ["events", "append", "note/1", "Noted", "--aggregate-type", "note", "--data", data];
        expect(0, path, &[], &note);
    }
    folder
}

fn lines(path: &Path, name: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(path.join(name)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What an import keeps of an event.
fn kept(events: &[Value]) -> Vec<Value> {
    let members = ["aggregate_id", "aggregate_type", "sequence", "event_id", "event_type", "schema_version", "data"];
    let members = [&members[..], &["metadata", "checksum"]].concat();
    events.iter().map(|event| members.iter().map(|name| event[*name].clone()).collect()).collect()
}

#[test]
fn what_was_exported_is_imported_with_ids_payloads_and_digests_kept() {
    let folder = with_store();
    let path = folder.path();
    let exported = expect(0, path, &[], &["export", "log", "--format", "json"]).json();
    assert_eq!((&exported["events"], &exported["to_position"]), (&json!(6), &json!(6)));
    let all = lines(path, "log");
    assert_eq!(all.len(), 6);
    for line in &all {
        assert_eq!((&line["specversion"], line["source"].as_str().unwrap().len()), (&json!("1.0"), 45), "{line}");
        let is_legal =
            |name: &String| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()) || name == "data_base64";
        assert!(line.as_object().unwrap().keys().all(is_legal), "{line}");
    }
    assert_eq!((&all[2]["subject"], &all[2]["type"]), (&json!("user/ü"), &json!("UserRegistered")));
    assert!(all[4].get("data").is_none() && all[4]["data_base64"].is_string(), "ends of lines need another member");

    let dry = expect(
        0,
        path,
        ELSEWHERE,
        &["--database-url", "sqlite://data/eventstore.db", "import", "log", "--dry-run", "--format", "json"],
    );
    assert_eq!((&dry.json()["imported"], &dry.json()["already_there"]), (&json!(0), &json!(6)));
    // What was sealed here opens nowhere else.
    expect(0, path, ELSEWHERE, &["migrate"]);
    for words in [&["import", "log", "--dry-run"][..], &["import", "log"]] {
        let refused = expect(1, path, ELSEWHERE, words);
        assert!(refused.stderr.contains("line 3: its personal members are sealed"), "{refused:?}");
        assert!(refused.stderr.contains("--open-personal"), "{refused:?}");
    }
    expect(0, path, &[], &["export", "opened", "--open-personal"]);
    let opened = lines(path, "opened");
    let sealed_line = opened.iter().position(|line| line.get("checksum").is_none());
    assert_eq!((opened.len(), sealed_line), (6, Some(2)), "what covers the sealed form goes with it");
    assert_eq!([&opened[..2], &opened[3..]].concat(), [&all[..2], &all[3..]].concat());
    let dry = expect(0, path, ELSEWHERE, &["import", "opened", "--dry-run", "--format", "json"]).json();
    assert_eq!(dry["imported"], 6);
    let imported = expect(0, path, ELSEWHERE, &["import", "opened", "--format", "json"]);
    assert_eq!((&imported.json()["imported"], &imported.json()["last_position"]), (&json!(6), &json!(6)));
    assert!(imported.stderr.contains("positions and instants are those of this store"), "{imported:?}");
    let (mut there, mut here) = (kept(&events(path, ELSEWHERE)), kept(&events(path, &[])));
    let checksum = |events: &mut Vec<Value>| events[2].as_array_mut().unwrap().pop().unwrap();
    assert_ne!(checksum(&mut there), checksum(&mut here), "sealed anew, under another key");
    assert_eq!(there, here);
    expect(0, path, ELSEWHERE, &["verify"]);
    let state = expect(0, path, ELSEWHERE, &["replay", "acc-1", "--format", "json"]).json();
    assert_eq!(state["state"]["balance"], 15);
    // Again: everything is there.
    let again = expect(0, path, ELSEWHERE, &["import", "opened", "--format", "json"]).json();
    assert_eq!((&again["imported"], &again["already_there"]), (&json!(0), &json!(6)));
    assert_eq!(events(path, ELSEWHERE).len(), 6);
}

#[test]
fn streams_go_on_where_they_stand_and_a_server_beside_sees_it() {
    let folder = with_store();
    let path = folder.path();
    expect(0, path, &[], &["export", "log", "--open-personal"]);
    expect(0, path, ELSEWHERE, &["import", "log"]);
    let server = Server::start(path, ELSEWHERE);
    let deposit = ["command", "send", "DepositMoney", "acc-1", "--data", r#"{"amount":7}"#];
    // The server's actor is live and stands at version 2 when the third event comes in beside it.
    expect(0, path, &[], &["replay", "acc-1", "--url", &server.url()]);
    expect(0, path, &[], &deposit);
    expect(0, path, &[], &["export", "more", "--after", "6"]);
    expect(0, path, ELSEWHERE, &["import", "more"]);
    let answer = expect(0, path, &[], &[&deposit[..], &["--url", &server.url(), "--format", "json"]].concat()).json();
    assert_eq!(answer["version"], 4);
}

/// Whether some file of a folder, but for `but`, holds these bytes.
fn holds(folder: &Path, but: &[&str], canary: &str) -> bool {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap()).any(|entry| {
        let is_looked_at = entry.file_type().unwrap().is_file() && !but.iter().any(|name| entry.file_name() == *name);
        is_looked_at && std::fs::read(entry.path()).unwrap().windows(canary.len()).any(|at| at == canary.as_bytes())
    })
}

#[test]
fn personal_members_are_imported_sealed_and_those_of_the_erased_as_that_text() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let there = path.join("elsewhere");
    let line = |number: u32, person: &str, canary: &str| {
        format!(
            r#"{{"specversion":"1.0","id":"00000000-0000-0000-0000-{number:012}","source":"/t","subject":"{person}","aggregatetype":"user","type":"UserRegistered","data":{{ "user_id":"{person}","email":"{canary}@x.org", "name":"{canary}"}}}}"#
        )
    };
    let write = |name: &str, lines: &[String]| std::fs::write(path.join(name), lines.join("\n")).unwrap();
    write("people", &[line(1, "ann", "canary-ann"), line(2, "bob", "canary-bob")]);
    expect(0, path, ELSEWHERE, &["import", "people"]);
    for canary in ["canary-ann", "canary-bob"] {
        assert!(!holds(&there, &[], canary), "{canary} is there in the clear");
        assert!(holds(path, &[], canary), "the control: it would be found");
    }
    let told = events(path, ELSEWHERE);
    assert_eq!((&told[0]["data"]["name"], &told[1]["data"]["name"]), (&json!("canary-ann"), &json!("canary-bob")));
    // Again, in another spelling of the same documents: nothing changes.
    let again = expect(0, path, ELSEWHERE, &["import", "people", "--format", "json"]).json();
    assert_eq!((&again["imported"], &again["already_there"]), (&json!(0), &json!(2)));

    let quick = [ELSEWHERE, &[("ES__ERASURE__KEY_LIFE_MS", "200")]].concat();
    expect(0, path, &quick, &["erase", "ann"]);
    write("more", &[line(3, "ann", "canary-late")]);
    let refused = expect(5, path, ELSEWHERE, &["import", "more"]);
    assert!(refused.stderr.contains("line 1") && refused.stderr.contains("erased here"), "{refused:?}");
    let others = line(4, "cy", "canary-cy")
        .replace("\"canary-cy\"", r#"{"$enc":{"v":1,"k":"00000000-0000-0000-0000-000000000000","n":"AA","c":"AA"}}"#);
    write("others", &[others]);
    let refused = expect(1, path, ELSEWHERE, &["import", "others"]);
    assert!(refused.stderr.contains("--open-personal"), "half sealed is sealed: {refused:?}");
    assert!(!holds(&there, &[], "canary-late") && !holds(&there, &[], "canary-cy"));

    // Out of there, opened, and into a third store.
    expect(0, path, ELSEWHERE, &["export", "opened", "--open-personal"]);
    let opened = lines(path, "opened");
    assert_eq!((&opened[0]["data"]["name"], &opened[1]["data"]["name"]), (&json!("[erased]"), &json!("canary-bob")));
    let third = [("DATABASE_URL", "sqlite://third/t.db")];
    expect(0, path, &third, &["import", "opened"]);
    assert!(!holds(&path.join("third"), &[], "canary-bob"));
    let told = events(path, &third);
    assert_eq!((&told[0]["data"]["name"], &told[1]["data"]["name"]), (&json!("[erased]"), &json!("canary-bob")));
    expect(0, path, &third, &["verify"]);
    // And back again: all of it is there.
    let back = expect(0, path, ELSEWHERE, &["import", "opened", "--format", "json"]).json();
    assert_eq!((&back["imported"], &back["already_there"]), (&json!(0), &json!(opened.len())));

    let audit = expect(0, path, ELSEWHERE, &["audit"]).stdout;
    for act in ["import", "export --open-personal", "erase"] {
        assert!(audit.contains(act), "{act} in {audit}");
    }
    assert!(audit.matches(" import ").count() >= 6, "begun and ended, also those that failed: {audit}");
}

#[test]
fn export_is_filtered_resumed_and_the_same_from_a_server() {
    let folder = with_store();
    let path = folder.path();
    expect(0, path, &[], &["export", "whole"]);
    let whole = std::fs::read_to_string(path.join("whole")).unwrap();
    let to_standard = expect(0, path, &[], &["export"]);
    assert_eq!(to_standard.stdout, whole);
    assert!(to_standard.stderr.contains("go on with --after 6"), "{to_standard:?}");
    let refused = expect(5, path, &[], &["export", "whole"]);
    assert!(refused.stderr.contains("--resume"), "{refused:?}");
    // Broken off in the middle of a line, at the beginning, and not at all.
    for length in [whole.len() - 40, whole.find('\n').unwrap() + 1, 10, 0, whole.len()] {
        std::fs::write(path.join("broken"), &whole[..length]).unwrap();
        expect(0, path, &[], &["export", "broken", "--resume"]);
        assert_eq!(std::fs::read_to_string(path.join("broken")).unwrap(), whole, "{length}");
    }
    std::fs::write(path.join("foreign"), "something else\n").unwrap();
    expect(2, path, &[], &["export", "foreign", "--resume"]);
    let types = |words: &[&str]| {
        let shown = expect(0, path, &[], &[&["export"], words].concat()).stdout;
        shown
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["type"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(types(&["--event-type", "MoneyDeposited"]), ["MoneyDeposited"]);
    assert_eq!(types(&["--aggregate-type", "note", "--to-position", "5"]), ["Noted", "Noted"]);
    assert_eq!(types(&["--after", "2", "--to-position", "3"]), ["UserRegistered"]);
    assert_eq!(types(&["--from-time", "2999-01-01T00:00:00Z"]), [""; 0]);
    let server = Server::start(path, &[]);
    let remote = expect(0, path, &[], &["export", "--url", &server.url()]).stdout;
    let source = serde_json::from_str::<Value>(whole.lines().next().unwrap()).unwrap()["source"].clone();
    assert_eq!(remote.replace(&server.url(), source.as_str().unwrap()), whole);
    let late = expect(0, path, &[], &["export", "--url", &server.url(), "--from-time", "2999-01-01T00:00:00+02:00"]);
    assert_eq!(late.stdout, "");
}

#[test]
fn bad_line_is_named_and_what_came_before_it_stays() {
    let folder = with_store();
    let path = folder.path();
    expect(0, path, &[], &["export", "log"]);
    let log = std::fs::read_to_string(path.join("log")).unwrap();
    let first = log.lines().next().unwrap();
    let note = |number: u32, rest: &str| {
        format!(
            r#"{{"specversion":"1.0","id":"00000000-0000-0000-0000-{number:012}","source":"/t","subject":"s","aggregatetype":"note","type":"Noted",{rest}"data":1}}"#
        )
    };
    // An event that is not there yet, whose digest is another's; and one of a shape that nobody knows.
    let mut fresh: Value = serde_json::from_str(first).unwrap();
    (fresh["id"], fresh["subject"]) = (json!("00000000-0000-0000-0000-0000000000aa"), json!("acc-9"));
    let mut unknown = fresh.clone();
    unknown.as_object_mut().unwrap().remove("checksum");
    unknown["schemaversion"] = json!(99);
    let cases = [
        (1, "nonsense".to_owned(), "it is no CloudEvent"),
        (1, note(1, "").replace("1.0", "0.3"), "specversion"),
        (1, note(1, "").replace("Noted", "MoneyDeposited"), "cannot take it"),
        (1, note(1, "").replace("\"note\"", "\"account\""), "cannot take it"),
        (1, fresh.to_string(), "not the event that was exported"),
        (1, unknown.to_string(), "cannot take it"),
        (5, note(1, r#""aggregatesequence":"5","#), "stands at version 0"),
        (5, first.replace("acc-1", "acc-2"), "in the store already, with other content"),
        (5, note(9, "").replace("\"s\"", "\"acc-1\""), "is of type account, not note"),
        (1, format!("{}\n{}", note(1, ""), note(1, "")), "is that of line 2 too"),
    ];
    for (code, line, said) in cases {
        std::fs::write(path.join("bad"), format!("\n{line}\n")).unwrap();
        // Against the store that has the events already, where nothing may change.
        for words in [&["import", "bad", "--dry-run"][..], &["import", "bad"]] {
            let ended = expect(code, path, &[], words);
            assert!(ended.stderr.contains(said) && ended.stderr.contains("line "), "{line}: {ended:?}");
            assert_eq!(events(path, &[]).len(), 6, "{line}");
        }
    }
    // More than a page, with a fault in the last line: what came before is there, and the rest follows once it is mended.
    let many = notes(2_500, 11, 20);
    std::fs::write(path.join("many"), format!("{many}nonsense\n")).unwrap();
    let ended = expect(1, path, ELSEWHERE, &["import", "many"]);
    assert!(ended.stderr.contains("line 2501: it is no CloudEvent"), "{ended:?}");
    assert_eq!(events(path, ELSEWHERE).len(), 2_000);
    std::fs::write(path.join("many"), many).unwrap();
    let mended = expect(0, path, ELSEWHERE, &["import", "many", "--format", "json"]).json();
    assert_eq!((&mended["imported"], &mended["already_there"]), (&json!(500), &json!(2_000)));
    expect(3, path, ELSEWHERE, &["import", "nowhere"]);
    let both = ["import", "many", "--url", "http://127.0.0.1:1"];
    assert!(expect(2, path, ELSEWHERE, &both).stderr.contains("not with --url"));
}

#[tokio::test]
async fn altered_event_is_not_exported() {
    use sqlx::Connection;
    let folder = with_store();
    let path = folder.path();
    let url = format!("sqlite://{}", path.join("data/eventstore.db").display());
    let mut session = sqlx::SqliteConnection::connect(&url).await.unwrap();
    for statement in
        ["DROP TRIGGER events_no_update", "UPDATE events SET data = CAST('{\"a\":2}' AS BLOB) WHERE position = 4"]
    {
        sqlx::query(statement).execute(&mut session).await.unwrap();
    }
    session.close().await.unwrap();
    let ended = expect(4, path, &[], &["export"]);
    assert!(ended.stderr.contains("position 4"), "{ended:?}");
}

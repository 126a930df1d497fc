//! Sealing and opening of single payloads.

use std::sync::Arc;

use super::*;
use crate::{
    envelope::{EventBody, StreamHead},
    id::AggregateType,
};

const MEMBERS: &[&str] = &["/email", "/contacts/*/name"];

fn event(stream: &str, id: u128, data: &[u8]) -> NewEvent {
    let body = EventBody {
        event_id: EventId(Uuid::from_u128(id)),
        event_type: EventType::new("Registered").unwrap(),
        schema_version: 1,
        data: Bytes::copy_from_slice(data),
        metadata: Bytes::from_static(b"{}"),
    };
    let (stream, kind) = (AggregateId::new(stream).unwrap(), AggregateType::new("person").unwrap());
    NewEvent::following(&mut StreamHead::EMPTY.clone(), &stream, &kind, body)
}

fn sealed(key: &SubjectKey, stream: &str, id: u128, data: &str) -> NewEvent {
    let plain = event(stream, id, data.as_bytes());
    let stored = seal(key, MEMBERS, Place::of(&plain), &plain.data).unwrap();
    event(stream, id, &stored)
}

#[test]
fn sealed_members_come_back_byte_for_byte_and_nothing_else_changes() {
    let key = SubjectKey::random();
    let data = r#"{"id":1.50,"email":"ann \u0041@x","contacts":[{"name":"Bo","n":1e400},{"name":null}],"id":9007199254740993}"#;
    let stored = sealed(&key, "u", 1, data);
    let text = std::str::from_utf8(&stored.data).unwrap();
    assert!(!text.contains("ann") && !text.contains("Bo"), "{text}");
    assert!(text.contains("1.50") && text.contains("1e400") && text.contains("9007199254740993"), "{text}");
    assert!(text.contains("{\"name\":null}"), "null tells nothing of anybody: {text}");
    let opened = open(&KeyState::Live(Arc::new(key)), MEMBERS, &stored).unwrap();
    assert_eq!(std::str::from_utf8(&opened).unwrap(), data);
}

#[test]
fn destroyed_key_reads_as_tombstones_also_where_a_member_was_stored_in_the_clear() {
    let key = SubjectKey::random();
    let data = r#"{"email":"ann","contacts":[{"name":"Bo"},{"name":null}]}"#;
    let tombstones = r#"{"email":"[erased]","contacts":[{"name":"[erased]"},{"name":null}]}"#;
    for stored in [sealed(&key, "u", 1, data), event("u", 1, data.as_bytes())] {
        let opened = open(&KeyState::Destroyed, MEMBERS, &stored).unwrap();
        assert_eq!(std::str::from_utf8(&opened).unwrap(), tombstones);
    }
}

#[test]
fn ciphertext_opens_in_its_own_place_under_its_own_key_only() {
    let key = Arc::new(SubjectKey::random());
    let stored = sealed(&key, "u", 1, r#"{"email":"ann"}"#);
    let live = KeyState::Live(key.clone());
    assert!(open(&live, MEMBERS, &stored).is_some());
    for moved in [event("v", 1, &stored.data), event("u", 2, &stored.data)] {
        assert_eq!(open(&live, MEMBERS, &moved), None, "another stream or event");
    }
    let renamed = String::from_utf8(stored.data.to_vec()).unwrap().replace("email", "mail");
    assert_eq!(open(&live, &["/mail"], &event("u", 1, renamed.as_bytes())), None, "another pointer");
    let other = SubjectKey::from_parts(key.id(), SubjectKey::random().secret);
    assert_eq!(open(&KeyState::Live(Arc::new(other)), MEMBERS, &stored), None, "another key");
    let newer = KeyState::Live(Arc::new(SubjectKey::random()));
    assert_eq!(&open(&newer, MEMBERS, &stored).unwrap()[..], br#"{"email":"[sealed]"}"#, "a key that was made later");
    let out_of_reach = open(&KeyState::Absent, MEMBERS, &stored).unwrap();
    assert_eq!(&out_of_reach[..], br#"{"email":"[sealed]"}"#, "a text that every domain can read");
    assert_eq!(open(&KeyState::Absent, MEMBERS, &event("u", 1, br#"{"email":"ann"}"#)), None);
}

#[test]
fn what_is_in_the_clear_is_told_from_what_is_sealed() {
    let key = SubjectKey::random();
    assert!(is_in_the_clear(MEMBERS, br#"{"email":"ann"}"#));
    assert!(is_in_the_clear(MEMBERS, br#"{"email":null,"contacts":[{"name":"Bo"}]}"#));
    assert!(!is_in_the_clear(MEMBERS, br#"{"email":null,"other":"ann"}"#));
    assert!(!is_in_the_clear(MEMBERS, &sealed(&key, "u", 1, r#"{"email":"ann"}"#).data));
}

#[test]
fn envelope_sent_by_a_client_is_sealed_like_any_other_value() {
    let key = SubjectKey::random();
    let stolen = sealed(&key, "u", 1, r#"{"email":"ann"}"#);
    let stored = sealed(&key, "u", 2, std::str::from_utf8(&stolen.data).unwrap());
    let opened = open(&KeyState::Live(Arc::new(key)), MEMBERS, &stored).unwrap();
    assert_eq!(opened, stolen.data, "what was sent comes back, not what it would decrypt to");
}

#[test]
fn secrets_are_not_shown() {
    let key = SubjectKey::random();
    let secret = hex::encode(key.secret());
    assert!(!format!("{key:?}").contains(&secret[..8]));
}

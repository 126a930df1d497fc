//! Hostile strings against the real program: 10,000 of them in ids, paths, headers, payloads and event types forge no line
//! of its log, steer no terminal, and carry no secret into any output.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

use serde_json::{Value, json};

use crate::support::{
    server::{PROGRAM, program},
    words::expect,
};

/// Strings in all, half of them with each format of the log.
const STRINGS: usize = 10_000;
const CLIENTS: usize = 4;
/// Must be in no output: parts of payloads and of credentials.
const CANARY: &str = "c4n4ry-5ecret";
/// What a forged line would say.
const FORGED: &str = "FORGED-LINE";

/// What turns, ends or hides lines, or looks like one of the log.
const PIECES: &[&str] = &[
    "\n",
    "\r\n",
    "\r",
    "\u{1b}[2K\u{1b}[1A",
    "\u{1b}[31m",
    "\u{1b}]0;title\u{7}",
    "\u{9b}1m",
    "\u{85}",
    "\u{2028}",
    "\u{2029}",
    "\u{202e}",
    "\u{2066}",
    "\u{200f}",
    "\u{feff}",
    "\u{0}",
    "\u{8}\u{8}\u{8}",
    "\"}\n{\"level\":\"ERROR\",\"message\":\"",
    "\\n",
    "%0a%0d",
    "${jndi:ldap://x}",
    "{}",
    "2026-01-01T00:00:00Z ERROR ",
    "<script>",
    "'; DROP TABLE events; --",
];

/// The same string for the same number.
fn hostile(number: usize) -> String {
    let (first, second) = (PIECES[number % PIECES.len()], PIECES[(number / PIECES.len()) % PIECES.len()]);
    format!("{number}{first}{FORGED}{second}{number}")
}

/// A string as a header may carry it: no ends of lines, which HTTP itself forbids, but anything else.
fn in_header(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, '\r' | '\n' | '\0')).collect()
}

fn in_path(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

/// One connection that is kept.
struct Client(BufReader<TcpStream>, u16);

impl Client {
    fn new(port: u16) -> Self {
        Self(BufReader::new(TcpStream::connect(("127.0.0.1", port)).unwrap()), port)
    }

    /// Sends a request, whatever becomes of it; the answer's bytes.
    fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Vec<u8> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        let answer = self.0.get_mut().write_all(request.as_bytes()).ok().and_then(|()| self.answer());
        answer.unwrap_or_else(|| {
            // The server may close a connection on which something malformed came.
            *self = Self::new(self.1);
            Vec::new()
        })
    }

    fn answer(&mut self) -> Option<Vec<u8>> {
        let (mut all, mut length) = (Vec::new(), 0);
        loop {
            let start = all.len();
            if self.0.read_until(b'\n', &mut all).ok()? == 0 {
                return None;
            }
            let line = String::from_utf8_lossy(&all[start..]).to_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().ok()?;
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let start = all.len();
        all.resize(start + length, 0);
        self.0.read_exact(&mut all[start..]).ok()?;
        Some(all)
    }
}

/// Sends the string with this number in every place where a caller can put one.
fn attack(client: &mut Client, number: usize) -> Vec<u8> {
    let text = hostile(number);
    let headers = in_header(&text);
    let secret = format!("Bearer {CANARY}-{number}");
    let headers = [
        ("X-Correlation-Id", headers.as_str()),
        ("X-Causation-Id", &headers),
        ("traceparent", &headers),
        ("Idempotency-Key", &headers),
        ("User-Agent", &headers),
        ("Authorization", &secret),
        ("Cookie", CANARY),
    ];
    let command = |kind: &str, id: &str, data: Value| {
        json!({ "command_type": kind, "aggregate_id": id, "data": data }).to_string()
    };
    let owner = json!({ "owner": format!("{CANARY}{text}"), "initial_balance": 1 });
    match number % 8 {
        0 => client.send("POST", "/api/v1/commands", &headers, &command("CreateAccount", &text, owner)),
        1 => client.send("POST", "/api/v1/commands", &headers[..1], &command(&text, "a", json!({}))),
        2 => {
            let event = json!({ "aggregate_id": format!("n/{number}"), "aggregate_type": "note",
                "event_type": text, "data": { "text": format!("{CANARY}{text}") } });
            client.send("POST", "/api/v1/events", &headers[..2], &event.to_string())
        }
        3 => client.send("GET", &format!("/api/v1/events/{}", in_path(&text)), &headers, ""),
        4 => {
            let query = json!({ "query_type": "GetUser", "filters": { "user_id": text }, "projection": text });
            client.send("POST", "/api/v1/queries", &headers[5..], &query.to_string())
        }
        5 => {
            let saga = json!({ "saga_type": text, "data": { "from_account": text, "to_account": CANARY } });
            client.send("POST", "/api/v1/sagas", &headers[5..], &saga.to_string())
        }
        6 => client.send("GET", &format!("/{}?cursor={}", in_path(&text), in_path(&text)), &headers[4..], ""),
        _ => {
            // On a connection of its own: the last may have been closed on what came before.
            *client = Client::new(client.1);
            // Printable parts stay, in the body alone, so that these are accepted and get into the log of events.
            let id: String = text.chars().filter(|c| !c.is_control()).collect();
            let data =
                json!({ "email": format!("{CANARY}@example.com"), "name": format!("{CANARY}{id}"), "user_id": id });
            client.send("POST", "/api/v1/commands", &[], &command("RegisterUser", &id, data))
        }
    }
}

fn is_harmless(c: char) -> bool {
    let turns = matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    (c == '\n' || !c.is_control()) && !turns
}

/// Everything a server says while it is under attack.
fn said(folder: &Path, format: &str, first: usize) -> (String, usize) {
    let environment = [
        ("BIND_ADDRESS", "127.0.0.1:0"),
        ("ES__HTTP__SHUTDOWN_GRACE_MS", "0"),
        ("ES__LOG__FORMAT", format),
        ("LOG_LEVEL", "trace"),
    ];
    let mut child = program(folder, &environment).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut all = Vec::new();
    let port = loop {
        let start = all.len();
        assert!(stderr.read_until(b'\n', &mut all).unwrap() > 0, "{}", String::from_utf8_lossy(&all));
        let line = String::from_utf8_lossy(&all[start..]).into_owned();
        if let Some((_, rest)) = line.split_once("serving http://127.0.0.1:") {
            break rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap();
        }
    };
    let reading = std::thread::spawn(move || {
        stderr.read_to_end(&mut all).unwrap();
        stdout.read_to_end(&mut all).unwrap();
        all
    });
    let accepted = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for worker in 0..CLIENTS {
            let accepted = &accepted;
            scope.spawn(move || {
                let mut client = Client::new(port);
                for number in (first..first + STRINGS / 2).skip(worker).step_by(CLIENTS) {
                    let answer = attack(&mut client, number);
                    accepted.fetch_add(usize::from(answer.starts_with(b"HTTP/1.1 20")), Ordering::Relaxed);
                    let head = answer.split(|byte| *byte == b'{').next().unwrap_or_default();
                    let head = String::from_utf8_lossy(head).into_owned();
                    assert!(!head.lines().any(|line| line.starts_with(FORGED)), "{head:?}");
                }
            });
        }
    });
    let status = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
    let all = reading.join().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    (String::from_utf8(all).expect("the log is UTF-8"), accepted.into_inner())
}

#[test]
fn ten_thousand_hostile_strings_forge_no_line_and_carry_no_secret_into_any_output() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let (json_log, accepted) = said(path, "json", 0);
    assert!(accepted > STRINGS / 20, "some of it gets in: {accepted}");
    for line in json_log.lines() {
        let parsed: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        let level = parsed["level"].as_str().unwrap_or_default();
        assert!(["TRACE", "DEBUG", "INFO", "WARN"].contains(&level), "nothing of it is an error: {line}");
        assert!(parsed["target"].is_string() && parsed["timestamp"].is_string(), "{line}");
    }
    let (text_log, _) = said(path, "text", STRINGS / 2);
    for line in text_log.lines() {
        let is_own =
            line.len() > 28 && line.as_bytes()[10] == b'T' && line.is_char_boundary(27) && line[..27].ends_with('Z');
        assert!(is_own, "a line that the log did not begin: {line:?}");
    }
    for log in [&json_log, &text_log] {
        assert!(log.lines().count() > 10, "something was logged");
        assert!(log.chars().all(|c| c == '\n' || !c.is_control()), "a control character");
        assert!(!log.contains(CANARY), "{:?}", log.lines().find(|line| line.contains(CANARY)));
    }
    assert!(text_log.chars().all(is_harmless));

    // Words show payloads, which is what they are for, but in one line each and harmless.
    for words in [&["events", "list", "--all"][..], &["status"], &["projection", "list"], &["verify"], &["doctor"]] {
        let ended = crate::support::server::word(path, &[("BIND_ADDRESS", "127.0.0.1:0")], words);
        for output in [&ended.stdout, &ended.stderr] {
            assert!(output.chars().all(is_harmless), "{words:?}");
            assert!(!output.lines().any(|line| line.starts_with(FORGED)), "{words:?}");
        }
        if words[0] != "events" {
            assert!(!ended.stdout.contains(CANARY) && !ended.stderr.contains(CANARY), "{words:?}");
        }
    }
    let number = STRINGS + 3;
    for word in [
        &["replay"][..],
        &["events", "get"],
        &["saga", "show"],
        &["verify", "--stream"],
        &["export", "nowhere/x", "--correlation-id"],
    ] {
        let text = hostile(number).replace('\0', "");
        let output = Command::new(PROGRAM).current_dir(path).env_clear().args(word).arg(&text).output().unwrap();
        let output = [output.stdout, output.stderr].concat();
        let output = String::from_utf8(output).unwrap();
        assert!(output.chars().all(is_harmless), "{word:?}: {output:?}");
    }
    let lines = expect(0, path, &[], &["export"]).stdout;
    assert!(lines.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "one document a line");
}

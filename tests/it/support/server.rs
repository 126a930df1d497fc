//! The real program as a child process: a server to talk to, stop, freeze or kill, and words to run beside it.
//!
//! No child outlives its test: whatever becomes of the test, `Drop` kills it.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    time::{Duration, Instant},
};

use serde_json::Value;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_event-sourcing-cqrs");
const PATIENCE: Duration = Duration::from_secs(30);

/// A running server.
#[derive(Debug)]
pub struct Server {
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    pub pid: u32,
    process: Process,
}

/// A child and what it says on standard error.
#[derive(Debug)]
pub struct Process {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
}

/// How a word ended.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }
}

/// The program in this folder, with no settings but these.
pub fn program(folder: &Path, environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.current_dir(folder).env_clear().envs(environment.iter().copied()).stdin(Stdio::null());
    if environment.iter().any(|(name, value)| *name == "DATABASE_URL" && value.starts_with("postgres")) {
        command.env("ES__ERASURE__TOMBSTONE_FILE", concat!(env!("CARGO_TARGET_TMPDIR"), "/erasure-of-tests.erased"));
    }
    // For coverage and the like, which know their files by the environment.
    command.envs(std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LLVM_")));
    command
}

/// Runs a word to its end.
pub fn word(folder: &Path, environment: &[(&str, &str)], words: &[&str]) -> Ended {
    let output = program(folder, environment).args(words).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Ended { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
}

impl Process {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        // Room for all that a test's server says, so that it never waits for a reader.
        let (sender, lines) = sync_channel(100_000);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, lines, said: Vec::new() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The first line yet to come that passes; `None` when the child ends before.
    pub fn line(&mut self, passes: impl Fn(&str) -> bool) -> Option<String> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(give_up.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.said.push(line.clone());
                    if passes(&line) {
                        return Some(line);
                    }
                }
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => panic!("waited {PATIENCE:?} for a line; so far: {:#?}", self.said),
            }
        }
    }

    /// The next line of data.
    pub fn data_line(&mut self) -> String {
        let stdout = self.child.stdout.as_mut().unwrap();
        let (mut line, mut byte) = (Vec::new(), [0]);
        while stdout.read(&mut byte).unwrap() == 1 && byte != *b"\n" {
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap()
    }

    /// Waits for the end.
    pub fn wait(&mut self) -> ExitStatus {
        // Standard error closes with the process.
        while self.line(|_| false).is_some() {}
        self.child.wait().unwrap()
    }

    /// Everything it has said so far, as far as it was waited for.
    pub fn said(&self) -> &[String] {
        &self.said
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([format!("-{name}"), self.pid().to_string()]).status().unwrap();
        assert!(status.success(), "kill -{name} {}", self.pid());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Also ends a frozen one.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    /// Starts a server in a folder, on a free port unless told otherwise; returns when it is ready.
    pub fn start(folder: &Path, environment: &[(&str, &str)]) -> Self {
        let mut all = BTreeMap::from([("BIND_ADDRESS", "127.0.0.1:0"), ("ES__HTTP__SHUTDOWN_GRACE_MS", "0")]);
        all.extend(environment.iter().copied());
        let all: Vec<_> = all.into_iter().collect();
        let mut process = Process::start(program(folder, &all));
        let Some(line) = process.line(|line| line.contains("\"message\":\"serving ")) else {
            panic!("the server ended at its start: {:#?}", process.said())
        };
        let line: Value = serde_json::from_str(&line).unwrap();
        let port = line["address"].as_str().unwrap().rsplit_once(':').unwrap().1.parse().unwrap();
        let server = Self { port, pid: process.pid(), process };
        // On a busy machine the store may not answer its first health check in time.
        let give_up = Instant::now() + PATIENCE;
        loop {
            let ready = server.get("/health/ready");
            if ready.0 == 200 {
                return server;
            }
            assert!(Instant::now() < give_up, "{ready:?}");
        }
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    pub fn get(&self, path: &str) -> (u16, String) {
        self.request("GET", path, "")
    }

    /// Status and body of an answer to a request over a connection of its own.
    pub fn request(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        // HTTP/1.0: the answer ends with the connection, and is not cut into chunks.
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    /// Ends it the hard way.
    pub fn kill9(mut self) {
        self.process.child.kill().unwrap();
        self.process.child.wait().unwrap();
    }

    /// Asks it to stop, and waits until it has.
    pub fn terminate(mut self) -> ExitStatus {
        self.process.signal("TERM");
        self.process.wait()
    }

    /// Freezes it.
    pub fn sigstop(&self) {
        self.process.signal("STOP");
    }

    /// Lets it go on.
    pub fn sigcont(&self) {
        self.process.signal("CONT");
    }
}

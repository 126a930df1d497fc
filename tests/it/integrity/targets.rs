//! Targets of checkpoints that do not answer, as a file on a network may not.

use std::{
    os::unix::fs::FileTypeExt,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use super::program::{create, sealed};
use crate::support::server::Server;

const TIME: Duration = Duration::from_secs(60);

/// Waits for a text that a condition likes; returns it.
fn until(what: &str, read: impl Fn() -> String, is_right: impl Fn(&str) -> bool) -> String {
    let give_up = Instant::now() + TIME;
    loop {
        let text = read();
        if is_right(&text) {
            return text;
        }
        assert!(Instant::now() < give_up, "{what}: {text}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_never_answers_holds_up_neither_sealing_nor_other_targets_nor_the_end() {
    let folder = tempfile::tempdir().unwrap();
    // Whoever opens a pipe to read waits until somebody writes: as a server of files that is gone.
    let (silent, aside, other) =
        (folder.path().join("silent"), folder.path().join("aside"), folder.path().join("other"));
    assert!(Command::new("mkfifo").arg(&silent).status().unwrap().success());
    let environment = [
        ("ES__INTEGRITY__INTERVAL_MS", "50"),
        ("ES__INTEGRITY__TARGETS", "silent, other"),
        ("ES__INTEGRITY__TARGET_TIMEOUT_MS", "200"),
    ];
    let server = Server::start(folder.path(), &environment);
    for number in 1..=3 {
        assert_eq!(create(&server, &format!("acc-{number}")).0, 200);
        let note = sealed(&server, number);
        until("the other target gets it", || text(&other), |text| *text == note);
    }
    let health = || server.get("/health").1;
    let told = until("health tells of it", health, |health| health.contains("silent"));
    assert!(told.contains("no answer within") && told.contains("\"warn\""), "{told}");
    let metrics = || server.get("/metrics").1;
    until("so do the metrics", metrics, |text| text.contains("\nes_integrity_targets_failing 1\n"));

    // The file system is mended: what hung ends, and the target is written like any other.
    std::fs::hard_link(&silent, &aside).unwrap();
    std::fs::remove_file(&silent).unwrap();
    drop(std::fs::OpenOptions::new().read(true).write(true).open(&aside).unwrap());
    let mended = |number: u64| {
        create(&server, &format!("later-{number}"));
        sealed(&server, 3 + number)
    };
    let give_up = Instant::now() + TIME;
    let mut number = 1;
    while mended(number) != text(&silent) {
        assert!(Instant::now() < give_up, "it is not written");
        number += 1;
    }
    until("nothing fails any more", metrics, |text| text.contains("\nes_integrity_targets_failing 0\n"));
    until("nor is there a warning", health, |health| !health.contains("silent"));

    // Once more; the end of the server does not wait for it either.
    std::fs::remove_file(&silent).unwrap();
    std::fs::rename(&aside, &silent).unwrap();
    assert!(std::fs::metadata(&silent).unwrap().file_type().is_fifo());
    until("it is told again", metrics, |text| text.contains("\nes_integrity_targets_failing 1\n"));
    let asked = Instant::now();
    let ended = server.terminate();
    assert!(ended.success() && asked.elapsed() < TIME, "{ended:?} after {:?}", asked.elapsed());
}

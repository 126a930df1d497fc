//! `docs/verify_proof.py` checks what the server answers without a line of this program's code.

use std::process::{Command, Output};

use serde_json::Value;

use super::program::{create, sealed};
use crate::support::server::Server;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/verify_proof.py");

fn run(folder: &std::path::Path, files: [&str; 3]) -> Output {
    Command::new("python3").arg(SCRIPT).args(files).current_dir(folder).output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn proof_of_an_event_is_checked_by_another_program() {
    if Command::new("python3").arg("--version").output().is_err() {
        eprintln!("SKIPPED: no python3, so no program but ours checks a proof");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &[("ES__INTEGRITY__INTERVAL_MS", "50")]);
    for number in 0..37 {
        assert_eq!(create(&server, &format!("acc-ü/{number}")).0, 200);
    }
    sealed(&server, 37);
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("key", &server.get("/api/v1/integrity/key").1);
    for position in [1, 2, 16, 17, 32, 36, 37] {
        let (_, events) = server.get(&format!("/api/v1/events?after={}&limit=1", position - 1));
        let (_, proof) = server.get(&format!("/api/v1/integrity/proof?position={position}"));
        write("event.json", &events);
        write("proof.json", &proof);
        let output = run(folder.path(), ["event.json", "proof.json", "key"]);
        assert!(output.status.success(), "{position}: {output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains(&format!("position {position} of 37")), "{said}");

        // Whatever is altered, by however little, it is refused.
        let proof: Value = serde_json::from_str(&proof).unwrap();
        let wrong_root = proof.to_string().replace("\\n37\\n", "\\n38\\n");
        let balance = events.replace("\"initial_balance\":1", "\"initial_balance\":2");
        let space = events.replace("\"initial_balance\":1", "\"initial_balance\": 1");
        let time = events.replace("\"recorded_at\":\"20", "\"recorded_at\":\"19");
        for (events, proof) in [
            (events.as_str(), wrong_root.as_str()),
            (&balance, &proof.to_string()),
            (&space, &proof.to_string()),
            (&time, &proof.to_string()),
        ] {
            write("event.json", events);
            write("proof.json", proof);
            assert!(!run(folder.path(), ["event.json", "proof.json", "key"]).status.success(), "{events} {proof}");
        }
    }
}

//! Ten times more than is admitted, for a while: memory stays bounded, the rest is told when to come back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde_json::json;

use crate::support::{eventually, load::Client, server::Server};

const IN_FLIGHT_MAX: usize = 32;
const CLIENTS: usize = 10 * IN_FLIGHT_MAX;
/// What the process may take, in KiB; it starts at a few tens of MiB.
const RESIDENT_MAX_KIB: u64 = 256 << 10;

/// `VmRSS` of a process, in KiB; 0 where /proc is not.
fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).unwrap_or(0)
}

/// Seconds of overload: `OVERLOAD_SECONDS`, else ten.
fn duration() -> Duration {
    let seconds = std::env::var("OVERLOAD_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(10))
}

#[tokio::test(flavor = "multi_thread")]
async fn overload_is_refused_with_bounded_memory_and_passes() {
    let folder = tempfile::tempdir().unwrap();
    let bound = IN_FLIGHT_MAX.to_string();
    let server = Server::start(folder.path(), &[("ES__COMMANDS__IN_FLIGHT_MAX", &bound)]);
    let stop = Arc::new(AtomicBool::new(false));
    let counts: Arc<[AtomicU64; 2]> = Arc::default();
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (stop, counts, port) = (stop.clone(), counts.clone(), server.port);
            tokio::spawn(async move {
                let mut connection = Client::new(port);
                while !stop.load(Ordering::Acquire) {
                    let data = json!({ "owner": "o", "initial_balance": 0 });
                    let id = format!("acc-{client}-{}", counts[0].load(Ordering::Relaxed));
                    let answer = connection.command(None, "CreateAccount", &id, data).await.unwrap();
                    match answer.status {
                        200 | 422 => counts[0].fetch_add(1, Ordering::Relaxed),
                        503 => {
                            assert!(answer.retry_after.is_some(), "{answer:?}");
                            // On a machine that stalls for seconds a command that was taken may pass its deadline.
                            let is_refusal = answer.body["code"] == "overloaded";
                            assert!(is_refusal || answer.body["code"] == "outcome-unknown", "{answer:?}");
                            counts[usize::from(is_refusal)].fetch_add(u64::from(is_refusal), Ordering::Relaxed)
                        }
                        _ => panic!("{answer:?}"),
                    };
                }
            })
        })
        .collect();
    let mut most = 0;
    let end = tokio::time::Instant::now() + duration();
    while tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(100)).await;
        most = most.max(resident_kib(server.pid));
    }
    stop.store(true, Ordering::Release);
    for client in clients {
        client.await.unwrap();
    }
    let (served, refused) = (counts[0].load(Ordering::Relaxed), counts[1].load(Ordering::Relaxed));
    assert!(served > 0 && refused > 0, "{served} served, {refused} refused");
    assert!(most < RESIDENT_MAX_KIB, "{most} KiB resident");
    let port = server.port;
    eventually("a command is taken again", || async move {
        let data = json!({ "owner": "o", "initial_balance": 0 });
        let answer = Client::new(port).command(None, "CreateAccount", "afterwards", data).await.unwrap();
        answer.status == 200 || answer.body["rejection"] == "account-exists"
    })
    .await;
    println!("overload for {:?}: {served} served, {refused} refused, at most {} MiB resident", duration(), most >> 10);
    assert!(server.terminate().success());
}

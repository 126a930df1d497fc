//! A Redis for tests: a private one, started from installed binaries on a free loopback port.
//!
//! The server is the child of a small shell that waits for the end of our pipe: however this process ends, the shell
//! stops the server and removes its files.

use std::{
    net::TcpListener,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

/// Stops the server, whose command line follows the folder, when standard input ends.
const WATCHDOG: &str = r#"trap '' INT TERM HUP
folder=$1; shift
(trap - INT TERM HUP; exec "$@") </dev/null >"$folder/log" 2>&1 &
cat >/dev/null
kill -KILL $! 2>/dev/null; wait; rm -rf "$folder""#;

/// A Redis that can be killed and started again at the same address.
pub struct Redis {
    pub port: u16,
    binary: PathBuf,
    folder: TempDir,
    watchdog: Option<Child>,
}

impl Redis {
    /// A fresh one; `None` (loudly) where there is none to start.
    pub async fn start() -> Option<Self> {
        let Some(binary) = binary() else {
            eprintln!("SKIPPED: no Redis (install redis-server)");
            return None;
        };
        // The free port found may be taken a moment later, so a second and third are tried.
        for _ in 0..3 {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let folder = TempDir::new().unwrap();
            let mut redis = Self { port, binary: binary.clone(), folder, watchdog: None };
            if redis.run().await {
                return Some(redis);
            }
        }
        panic!("redis-server is there, but does not start");
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts it (again); whether it answers within five seconds.
    pub async fn run(&mut self) -> bool {
        let folder = self.folder.path();
        let log_folder = folder.join("run");
        std::fs::create_dir_all(&log_folder).unwrap();
        let child = Command::new("sh")
            .args(["-c", WATCHDOG, "redis-for-tests"])
            .arg(&log_folder)
            .arg(&self.binary)
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--enable-debug-command", "yes", "--dir"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.watchdog = Some(child);
        for _ in 0..100 {
            if self.command(&["PING"]).await.is_ok() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.kill();
        false
    }

    /// Kills it without a chance to say good-bye.
    pub fn kill(&mut self) {
        if let Some(mut watchdog) = self.watchdog.take() {
            drop(watchdog.stdin.take());
            let _ = watchdog.wait();
        }
    }

    /// One command on a connection of its own.
    pub async fn command(&self, words: &[&str]) -> Result<redis::Value, redis::RedisError> {
        let client = redis::Client::open(self.url())?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]).query_async(&mut connection).await
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.kill();
    }
}

fn binary() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    let names = ["redis-server", "valkey-server"];
    std::env::split_paths(&folders)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|binary| binary.is_file())
}

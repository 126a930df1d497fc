//! A PostgreSQL for tests: the one named by `TEST_DATABASE_URL`, else a private one started from installed binaries.
//!
//! One server per test process, one fresh database per test. The server is the child of a small shell that waits for the
//! end of our pipe: however this process ends, the shell stops the server and removes its files.

use std::{
    io,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
    str::FromStr,
    time::Duration,
};

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};
use tokio::sync::OnceCell;
use uuid::Uuid;

/// Stops the server, whose command line follows the folder, when standard input ends.
const WATCHDOG: &str = r#"trap '' INT TERM HUP
folder=$1; shift
(trap - INT TERM HUP; exec "$@") </dev/null >"$folder/log" 2>&1 &
cat >/dev/null
kill -INT $! 2>/dev/null; wait; rm -rf "$folder""#;

struct Server {
    admin: PgConnectOptions,
    /// Its end tells the watchdog that this process has ended.
    _pipe: Option<ChildStdin>,
}

static SERVER: OnceCell<Option<Server>> = OnceCell::const_new();

/// A database of one test.
#[derive(Debug)]
pub struct Database {
    pub url: String,
}

/// A new, empty database; `None` (loudly) where there is no PostgreSQL.
pub async fn database() -> Option<Database> {
    let server = SERVER.get_or_init(start).await.as_ref();
    let Some(server) = server else {
        eprintln!("SKIPPED: no PostgreSQL (set TEST_DATABASE_URL, or install the server's binaries)");
        return None;
    };
    let name = format!("es_test_{}", Uuid::now_v7().simple());
    let mut admin = server.admin.connect().await.expect("the test server answers");
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut admin).await.expect("a new database");
    admin.close().await.expect("a clean end");
    Some(Database { url: server.admin.clone().database(&name).to_url_lossy().to_string() })
}

impl Database {
    /// A plain session, for what the store itself never does.
    pub async fn session(&self) -> PgConnection {
        PgConnection::connect(&self.url).await.expect("a session")
    }
}

async fn start() -> Option<Server> {
    if let Ok(url) = std::env::var("TEST_DATABASE_URL") {
        let admin = PgConnectOptions::from_str(&url).expect("TEST_DATABASE_URL is a PostgreSQL URL");
        return Some(Server { admin: admin.disable_statement_logging(), _pipe: None });
    }
    let binaries = binaries()?;
    let mut last = None;
    // The free port found may be taken a moment later, so a second and third are tried.
    for _ in 0..3 {
        match start_private(&binaries).await {
            Ok(server) => return Some(server),
            Err(error) => last = Some(error),
        }
    }
    panic!("PostgreSQL is installed in {} but does not start: {last:?}", binaries.display());
}

/// The folder of the newest server installed.
fn binaries() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut folders: Vec<_> = versions.map(|version| version.path().join("bin")).collect();
    folders.sort();
    folders.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    folders.into_iter().rev().find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists())
}

/// A server of one test's own, which may be ended and started again without harm to others.
pub struct Restartable {
    pub url: String,
    folder: tempfile::TempDir,
    binaries: PathBuf,
    run_as: Option<(u32, u32)>,
    port: u16,
    child: std::sync::Mutex<Option<std::process::Child>>,
}

/// A new server with an empty database; `None` (loudly) where PostgreSQL is not installed.
pub async fn restartable() -> Option<Restartable> {
    let Some(binaries) = binaries() else {
        eprintln!("SKIPPED: no PostgreSQL binaries (a server that is restarted cannot be TEST_DATABASE_URL's)");
        return None;
    };
    let folder = tempfile::Builder::new().prefix("es-test-postgres-").tempdir().expect("a folder");
    let run_as = unprivileged(folder.path()).expect("a user for the server");
    initialize(&binaries, folder.path(), run_as).expect("a new server");
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
    let server = Restartable { url, folder, binaries, run_as, port, child: std::sync::Mutex::new(None) };
    server.start().await;
    Some(server)
}

impl Restartable {
    /// Starts it (again).
    pub async fn start(&self) {
        let mut command = Command::new(self.binaries.join("postgres"));
        command.arg("-D").arg(self.folder.path().join("data")).args(settings(self.port));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = as_user(&mut command, self.run_as).current_dir(self.folder.path()).spawn().expect("a server");
        *self.child.lock().expect("no panic under it") = Some(child);
        for _ in 0..600 {
            if PgConnection::connect(&self.url).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the server did not start");
    }

    /// Ends it without ceremony, as a crash would, and starts it again.
    pub async fn restart(&self) {
        self.end("QUIT");
        self.start().await;
    }

    /// Ends it without ceremony, until it is started again.
    pub fn stop(&self) {
        self.end("QUIT");
    }

    /// Ends every session but this one's own.
    pub async fn cut_connections(&self) {
        let mut session = PgConnection::connect(&self.url).await.expect("a session");
        sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
            .execute(&mut session)
            .await
            .expect("they are ended");
    }

    fn end(&self, signal: &str) {
        let child = self.child.lock().ok().and_then(|mut child| child.take());
        if let Some(mut child) = child {
            let _ = Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status();
            let _ = child.wait();
        }
    }
}

impl Drop for Restartable {
    fn drop(&mut self) {
        self.end("QUIT");
    }
}

fn initialize(binaries: &Path, folder: &Path, run_as: Option<(u32, u32)>) -> io::Result<()> {
    let mut init = Command::new(binaries.join("initdb"));
    init.arg("-D").arg(folder.join("data")).args([
        "-U",
        "postgres",
        "-A",
        "trust",
        "-E",
        "UTF8",
        "--locale=C",
        "--no-sync",
    ]);
    let done = as_user(&mut init, run_as).current_dir(folder).output()?;
    if done.status.success() {
        Ok(())
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&done.stderr).into_owned()))
    }
}

/// On loopback only, durable, with room for many tests.
fn settings(port: u16) -> Vec<String> {
    let port = format!("port={port}");
    let settings = ["listen_addresses=127.0.0.1", "unix_socket_directories=", "fsync=on", "max_connections=200"];
    settings
        .into_iter()
        .chain(["shared_buffers=64MB", &port])
        .flat_map(|set| ["-c".to_owned(), set.to_owned()])
        .collect()
}

async fn start_private(binaries: &Path) -> io::Result<Server> {
    let folder = tempfile::Builder::new().prefix("es-test-postgres-").tempdir()?.keep();
    let data = folder.join("data");
    let run_as = unprivileged(&folder)?;
    initialize(binaries, &folder, run_as)?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut watchdog = Command::new("sh");
    watchdog.args(["-c", WATCHDOG, "sh"]).arg(&folder).arg(binaries.join("postgres")).arg("-D").arg(&data);
    watchdog.args(settings(port));
    let mut child = as_user(&mut watchdog, run_as).current_dir(&folder).stdin(Stdio::piped()).spawn()?;

    let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(port).username("postgres");
    let admin = options.database("postgres").disable_statement_logging();
    let pipe = child.stdin.take();
    for _ in 0..600 {
        if admin.connect().await.is_ok() {
            return Ok(Server { admin, _pipe: pipe });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(io::Error::other(std::fs::read_to_string(folder.join("log")).unwrap_or_default()))
}

/// Whom to run as: the server refuses to be root. Gives the folder to them.
#[cfg(unix)]
fn unprivileged(folder: &Path) -> io::Result<Option<(u32, u32)>> {
    use std::os::unix::fs::{MetadataExt, chown};
    if std::fs::metadata(folder)?.uid() != 0 {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd")?;
    let find = |name: &str| {
        let mut fields = users.lines().find(|line| line.split(':').next() == Some(name))?.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    let (user, group) =
        find("postgres").or_else(|| find("nobody")).ok_or_else(|| io::Error::other("no user to run the server as"))?;
    chown(folder, Some(user), Some(group))?;
    Ok(Some((user, group)))
}

#[cfg(unix)]
fn as_user(command: &mut Command, user: Option<(u32, u32)>) -> &mut Command {
    use std::os::unix::process::CommandExt;
    if let Some((user, group)) = user {
        command.uid(user).gid(group);
    }
    // Not in our group: an interrupt at the terminal is for the tests, the watchdog cleans up after them.
    command.process_group(0)
}

#[cfg(not(unix))]
fn unprivileged(_: &Path) -> io::Result<Option<(u32, u32)>> {
    Ok(None)
}

#[cfg(not(unix))]
fn as_user(command: &mut Command, _: Option<(u32, u32)>) -> &mut Command {
    command
}

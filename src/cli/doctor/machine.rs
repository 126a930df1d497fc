//! This machine: folders, disks, keys, the port.

use std::path::{Path, PathBuf};

use event_sourcing_cqrs::settings::{AuthMode, Database};

use super::{super::Context, Check};

/// A disk with less is full soon.
const FREE_BYTES_LEAST: u64 = 64 << 20;
const FREE_BYTES_GOOD: u64 = 1 << 30;

/// What can be looked at without asking anybody.
pub(super) fn checks(context: &Context) -> Vec<Check> {
    let settings = &context.settings;
    let mut folders: Vec<(&'static str, PathBuf)> = Vec::new();
    if let Database::Sqlite { path } = &settings.event_store.database_url {
        folders.push(("database folder", parent(path)));
    }
    if settings.integrity.enabled && settings.event_store.database_url != Database::Memory {
        folders.push(("evidence folder", settings.integrity_directory()));
    }
    let mut checks = Vec::new();
    let mut seen: Vec<PathBuf> = Vec::new();
    for (name, path) in folders {
        if !seen.contains(&path) {
            checks.extend(folder(name, &path));
            seen.push(path);
        }
    }
    for target in &settings.integrity.targets {
        checks.push(checkpoint_target(target));
    }
    checks.push(auth(context));
    checks
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// The folder itself, or the nearest one above that is there.
fn nearest(path: &Path) -> PathBuf {
    let mut at = path.to_owned();
    while !at.exists() {
        at = parent(&at);
        if at.as_os_str() == "." {
            break;
        }
    }
    at
}

fn folder(name: &'static str, path: &Path) -> Vec<Check> {
    let (shown, there) = (path.display().to_string(), nearest(path));
    if !there.is_dir() {
        let next = "name a folder in the settings, or move the file away";
        return vec![Check::fail(name, format!("{} is no folder", there.display()), next)];
    }
    let mut checks = Vec::new();
    if !may_write(&there) {
        let next = format!("give this user the right to write there (chown or chmod {})", there.display());
        checks.push(Check::fail(name, format!("{} cannot be written by this user", there.display()), next));
    } else if there == path {
        checks.push(Check::pass(name, format!("{shown} is there and can be written")));
    } else {
        checks.push(Check::pass(name, format!("{shown} is not there yet and can be made")));
    }
    checks.extend(free(&there));
    checks
}

#[cfg(unix)]
fn may_write(folder: &Path) -> bool {
    use rustix::fs::{Access, access};
    access(folder, Access::WRITE_OK | Access::EXEC_OK).is_ok()
}

#[cfg(not(unix))]
fn may_write(folder: &Path) -> bool {
    std::fs::metadata(folder).is_ok_and(|metadata| !metadata.permissions().readonly())
}

#[cfg(unix)]
fn free(folder: &Path) -> Option<Check> {
    let stat = rustix::fs::statvfs(folder).ok()?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let said = format!("{} MiB are free on the disk of {}", free >> 20, folder.display());
    let next = "free some space, or move the data to a larger disk: a full one stops all appends";
    Some(match free {
        free if free < FREE_BYTES_LEAST => Check::fail("free disk", said, next),
        free if free < FREE_BYTES_GOOD => Check::warn("free disk", said, next),
        _ => Check::pass("free disk", said),
    })
}

#[cfg(not(unix))]
fn free(_: &Path) -> Option<Check> {
    None
}

fn checkpoint_target(target: &Path) -> Check {
    const NAME: &str = "checkpoint target";
    let (shown, folder) = (target.display(), parent(target));
    if !folder.is_dir() {
        let next =
            format!("make {} or mount what should be there, or take it out of integrity.targets", folder.display());
        return Check::fail(NAME, format!("the folder of {shown} is not there"), next);
    }
    if !may_write(&folder) {
        let next = format!("give the server's user the right to write to {}", folder.display());
        return Check::fail(NAME, format!("{shown} cannot be written"), next);
    }
    Check::pass(NAME, format!("{shown} can be written"))
}

fn auth(context: &Context) -> Check {
    let (mode, address) = (context.settings.auth.mode, &context.settings.http.bind_address);
    match context.settings.warnings().into_iter().next() {
        Some(warning) if mode == AuthMode::None => {
            let next = "bind to 127.0.0.1, or turn authentication on with auth.mode, or let only trusted networks in";
            Check::warn("auth", warning, next)
        }
        _ => Check::pass("auth", format!("{address} is not open to everyone")),
    }
}

/// Whether the secret key is its owner's alone.
#[cfg(unix)]
pub(super) fn key(folder: &Path, store_id: &str) -> Option<Check> {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join(format!("{store_id}.key"));
    let mode = std::fs::metadata(&path).ok()?.permissions().mode() & 0o777;
    let shown = path.display();
    Some(if mode & 0o077 == 0 {
        Check::pass("signing key", format!("{shown} is readable by its owner alone"))
    } else {
        let next = format!("chmod 600 {shown}, and make a new one if others may have read it: `integrity key rotate`");
        Check::fail("signing key", format!("{shown} can be read by others (mode {mode:o})"), next)
    })
}

#[cfg(not(unix))]
pub(super) fn key(_: &Path, _: &str) -> Option<Check> {
    None
}

/// Whether a server could listen, or does.
pub(super) async fn port(context: &Context) -> Check {
    const NAME: &str = "port";
    let address = &context.settings.http.bind_address;
    let first = match event_sourcing_cqrs::app::addresses(address).await {
        Ok(addresses) => addresses.first().copied(),
        Err(error) => {
            let next = "set BIND_ADDRESS to an IP address, or make the name known to this machine";
            return Check::fail(NAME, format!("this machine does not know the name of {address} ({error})"), next);
        }
    };
    let error = match tokio::net::TcpListener::bind(first.as_slice()).await {
        Ok(_) => return Check::pass(NAME, format!("{address} is free: a server can listen there; none does now")),
        Err(error) => error,
    };
    match error.kind() {
        std::io::ErrorKind::AddrInUse if answers(context).await => {
            Check::pass(NAME, format!("a server of this kind answers at {address}"))
        }
        std::io::ErrorKind::AddrInUse => {
            let next = "stop that program, or choose another address with BIND_ADDRESS";
            Check::fail(NAME, format!("another program listens at {address}"), next)
        }
        std::io::ErrorKind::PermissionDenied => {
            let next = "choose a port from 1024 on with BIND_ADDRESS, or give the server the right to use this one";
            Check::fail(NAME, format!("this user may not listen at {address}"), next)
        }
        _ => Check::fail(
            NAME,
            format!("nobody can listen at {address}: {error}"),
            "set BIND_ADDRESS to one of this machine",
        ),
    }
}

#[cfg(feature = "http")]
async fn answers(context: &Context) -> bool {
    use super::super::{healthcheck::own, remote::Remote};
    let Ok(url) = own(&context.settings.http.bind_address) else { return false };
    let Ok(remote) = Remote::new(&url, context.timeout) else { return false };
    // One that asks for a key, or still waits for its database, refuses with a problem of its own kind.
    let is_ours = |said: &serde_json::Value| {
        let refuses = said["type"].as_str().is_some_and(|kind| kind.starts_with("/problems/"));
        refuses || said["name"] == env!("CARGO_PKG_NAME")
    };
    remote.document("/version").await.is_ok_and(|(_, said)| is_ours(&said))
}

#[cfg(not(feature = "http"))]
async fn answers(_: &Context) -> bool {
    false
}

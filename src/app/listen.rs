//! What a name to listen on stands for.

use std::{collections::BTreeSet, io, net::SocketAddr, time::Duration};

use crate::settings::ListenAddress;

/// Longest wait for the answer to a name, whatever the system's resolver would wait.
const LOOKUP: Duration = Duration::from_secs(5);

/// Every address that this stands for on this machine, each once, IPv4 first; a server listens on the first.
///
/// # Errors
/// The name is not known here, or the resolver does not answer within 5 seconds. Never an empty list.
pub async fn addresses(set: &ListenAddress) -> io::Result<Vec<SocketAddr>> {
    let Some(name) = set.name() else { return Ok(set.numbers().into_iter().collect()) };
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the resolver does not answer");
    let found = tokio::time::timeout(LOOKUP, tokio::net::lookup_host((name, set.port()))).await.map_err(late)??;
    let (mut seen, mut addresses) = (BTreeSet::new(), found.collect::<Vec<_>>());
    addresses.retain(|address| seen.insert(*address));
    addresses.sort_by_key(SocketAddr::is_ipv6);
    let nothing = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    if addresses.is_empty() { Err(nothing()) } else { Ok(addresses) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn localhost_is_this_machine_and_ipv4_comes_first() {
        let found = addresses(&"localhost:8000".parse().unwrap()).await.unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 8_000), "{found:?}");
        assert!(found.is_sorted_by_key(SocketAddr::is_ipv6), "{found:?}");
    }

    #[tokio::test]
    async fn numbers_stand_for_themselves() {
        let found = addresses(&"[::1]:8000".parse().unwrap()).await.unwrap();
        assert_eq!(found, ["[::1]:8000".parse().unwrap()]);
    }
}

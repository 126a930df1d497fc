//! The address to listen on: an IP address or a host name, and a port.
//!
//! It is kept as it was written. A name is looked up when it is needed, never while settings are read: that must not wait.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

/// Longest wait for the answer to a name, whatever the system's resolver would wait.
const LOOKUP: Duration = Duration::from_secs(5);

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddress {
    host: Host,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Host {
    Ip(IpAddr),
    Name(String),
}

/// A text that is no address, with what one looks like.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be an IP address or a host name, and a port, such as 127.0.0.1:8000, localhost:8000, 0.0.0.0:8000 or \
     [::1]:8000, not {0:?}"
)]
pub struct NotAnAddress(String);

impl ListenAddress {
    /// The port; 0 takes a free one.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address itself, where it is written in numbers.
    #[must_use]
    pub fn numbers(&self) -> Option<SocketAddr> {
        match &self.host {
            Host::Ip(ip) => Some(SocketAddr::new(*ip, self.port)),
            Host::Name(_) => None,
        }
    }

    /// Whether only this machine reaches it. Of names it is known of `localhost` alone; the others count as open.
    #[must_use]
    pub fn is_of_this_machine(&self) -> bool {
        match &self.host {
            Host::Ip(ip) => ip.is_loopback(),
            Host::Name(name) => name.eq_ignore_ascii_case("localhost"),
        }
    }

    /// Every address it stands for on this machine, each once, IPv4 first; a server listens on the first.
    ///
    /// # Errors
    /// The name is not known here, or the resolver does not answer within 5 seconds. Never an empty list.
    pub async fn lookup(&self) -> io::Result<Vec<SocketAddr>> {
        let name = match &self.host {
            Host::Ip(ip) => return Ok(vec![SocketAddr::new(*ip, self.port)]),
            Host::Name(name) => (name.as_str(), self.port),
        };
        let late = || io::Error::new(io::ErrorKind::TimedOut, "the resolver does not answer");
        let found = tokio::time::timeout(LOOKUP, tokio::net::lookup_host(name)).await.map_err(|_| late())??;
        let mut addresses: Vec<_> = found.collect();
        addresses.sort_by_key(SocketAddr::is_ipv6);
        let mut seen = std::collections::BTreeSet::new();
        addresses.retain(|address| seen.insert(*address));
        match addresses.is_empty() {
            true => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
            false => Ok(addresses),
        }
    }
}

impl From<SocketAddr> for ListenAddress {
    fn from(address: SocketAddr) -> Self {
        Self { host: Host::Ip(address.ip()), port: address.port() }
    }
}

impl FromStr for ListenAddress {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(address.into());
        }
        let wrong = || NotAnAddress(text.to_owned());
        let (name, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        // `+80` is a number to Rust.
        let port = port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok()).flatten();
        let host = is_name(name).then(|| Host::Name(name.to_owned()));
        host.zip(port).map(|(host, port)| Self { host, port }).ok_or_else(wrong)
    }
}

/// Whether this may be a host name (RFC 1123, and `_`, which container networks use). A last part without a letter is an
/// IP address that was mistyped.
fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        let is_fine = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        is_fine && (1..=63).contains(&label.len()) && !label.starts_with('-') && !label.ends_with('-')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= 253 && text.split('.').all(is_label) && last.bytes().any(|byte| byte.is_ascii_alphabetic())
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl Serialize for ListenAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ListenAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_come_back_as_written_and_nothing_else_passes() {
        for text in
            ["127.0.0.1:8000", "[::1]:8000", "0.0.0.0:0", "localhost:8000", "db-1.example:80", "my_service:65535"]
        {
            assert_eq!(text.parse::<ListenAddress>().map(|address| address.to_string()).as_deref(), Ok(text));
        }
        for text in [
            "",
            "8000",
            ":8000",
            "localhost",
            "localhost:",
            "localhost:65536",
            "localhost:+80",
            "127.0.0:8000",
            "999.0.0.1:80",
            "::1:8000",
            "http://localhost:8000",
            "a b:80",
            "-a:80",
            "a..b:80",
            "münchen:80",
        ] {
            let refused = text.parse::<ListenAddress>().unwrap_err().to_string();
            assert!(refused.contains("localhost:8000") && refused.ends_with(&format!("{text:?}")), "{refused}");
        }
    }

    #[tokio::test]
    async fn localhost_is_this_machine_and_ipv4_comes_first() {
        let found = "localhost:8000".parse::<ListenAddress>().unwrap().lookup().await.unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 8_000), "{found:?}");
        assert!(found.is_sorted_by_key(SocketAddr::is_ipv6), "{found:?}");
    }
}

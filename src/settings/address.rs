//! The address to listen on: an IP address or a host name, and a port.
//!
//! It is kept as it was written: settings look nothing up.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

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

    /// The name, where it is written as one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match &self.host {
            Host::Ip(_) => None,
            Host::Name(name) => Some(name),
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
}

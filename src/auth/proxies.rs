//! Proxies that are believed when they say for whom they ask. This module knows addresses; how they are written in a
//! request is the HTTP door's business.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

/// Proxies in a row that are believed at most.
const HOPS_MAX: usize = 32;

/// A network of addresses, written `10.0.0.0/8`, or one address alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    first: IpAddr,
    /// How many bits its addresses share.
    bits: u32,
}

/// The text names no [`Network`] that could be trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a network is written 10.0.0.0/8, fd00::/8 or 10.1.2.3, with no bit set beyond its prefix and not all addresses, not {text:?}"
)]
pub struct WrongNetwork {
    text: String,
}

impl Network {
    /// Whether an address is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && (bits(address) ^ bits(self.first)) & !after(self.bits) == 0
    }
}

/// The bits of an address, from the left.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// All bits but the first so many.
fn after(bits: u32) -> u128 {
    u128::MAX.checked_shr(bits).unwrap_or_default()
}

impl FromStr for Network {
    type Err = WrongNetwork;

    fn from_str(text: &str) -> Result<Self, WrongNetwork> {
        let wrong = || WrongNetwork { text: text.to_owned() };
        let mut parts = text.trim().splitn(2, '/');
        let first: IpAddr = parts.next().unwrap_or_default().parse().map_err(|_| wrong())?;
        let width = if first.is_ipv4() { 32 } else { 128 };
        let length = parts.next().map_or(Ok(width), |length| length.parse().map_err(|_| wrong()))?;
        let is_fine =
            (1..=width).contains(&length) && bits(first) & after(length) == 0 && first.to_canonical() == first;
        if is_fine { Ok(Self { first, bits: length }) } else { Err(wrong()) }
    }
}

impl TryFrom<String> for Network {
    type Error = WrongNetwork;

    fn try_from(text: String) -> Result<Self, WrongNetwork> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.bits)
    }
}

/// Where proxies say for whom they ask. Only one is ever read: the other passes a proxy as the client wrote it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// The one that nearly every proxy writes.
    #[default]
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

/// Whom to believe, and where they say it. Nobody is believed unless set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    /// Where they are.
    pub networks: Vec<Network>,
    /// What they write.
    pub header: ForwardedHeader,
}

impl TrustedProxies {
    /// Whether this address is a proxy's that is believed.
    #[must_use]
    pub fn holds(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(address))
    }

    /// Who asks: the peer, unless it is believed; then whom it names, unless that is believed, too, and so on. `named` is
    /// what the header holds from its right end, `None` for what is no address: there the last believed one counts.
    pub fn client(&self, peer: IpAddr, named: impl Iterator<Item = Option<IpAddr>>) -> IpAddr {
        let (mut client, mut named) = (peer.to_canonical(), named.take(HOPS_MAX));
        while self.holds(client)
            && let Some(Some(next)) = named.next()
        {
            client = next.to_canonical();
        }
        client
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(networks: &[&str]) -> TrustedProxies {
        let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
        TrustedProxies { networks, ..TrustedProxies::default() }
    }

    #[test]
    fn a_network_holds_its_addresses_and_no_other() {
        for (network, inside, outside) in [
            ("10.0.0.0/8", ["10.0.0.0", "10.255.255.255"], ["9.255.255.255", "11.0.0.0"]),
            ("10.1.2.3", ["10.1.2.3", "::ffff:10.1.2.3"], ["10.1.2.2", "10.1.2.4"]),
            ("192.168.0.128/25", ["192.168.0.128", "192.168.0.255"], ["192.168.0.127", "192.168.1.0"]),
            ("128.0.0.0/1", ["128.0.0.0", "255.255.255.255"], ["127.255.255.255", "8000::"]),
            ("fd00::/8", ["fd00::", "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"], ["fc00::", "fe00::"]),
            ("2001:db8::/127", ["2001:db8::", "2001:db8::1"], ["2001:db8::2", "32.1.13.184"]),
            ("::1", ["::1", "::1"], ["::", "127.0.0.1"]),
        ] {
            let network: Network = network.parse().unwrap();
            assert_eq!(network.to_string().parse(), Ok(network));
            for address in inside {
                assert!(network.contains(address.parse().unwrap()), "{address} in {network}");
            }
            for address in outside {
                assert!(!network.contains(address.parse().unwrap()), "{address} in {network}");
            }
        }
        for wrong in
            ["", "10.0.0.1/8", "10.0.0.0/33", "0.0.0.0/0", "::/0", "10.0.0.0/x", "proxy", "::ffff:10.0.0.1", "10/8"]
        {
            assert!(wrong.parse::<Network>().unwrap_err().to_string().contains(wrong), "{wrong}");
        }
    }

    #[test]
    fn the_last_address_that_is_not_believed_is_the_client() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let client = |peer: &str, named: &[&str]| {
            let named = named.iter().rev().map(|text| text.parse().ok());
            proxies(&["10.0.0.0/8"]).client(address(peer), named)
        };
        for (peer, named, expected) in [
            ("7.7.7.7", vec!["1.1.1.1", "10.0.0.1"], "7.7.7.7"),
            ("10.0.0.1", vec!["1.1.1.1", "2.2.2.2"], "2.2.2.2"),
            ("10.0.0.1", vec!["1.1.1.1", "2.2.2.2", "10.0.0.9", "::ffff:10.0.0.8"], "2.2.2.2"),
            ("::ffff:10.0.0.1", vec!["2001:db8::1"], "2001:db8::1"),
            ("10.0.0.1", vec![], "10.0.0.1"),
            ("10.0.0.1", vec!["1.1.1.1", "unknown"], "10.0.0.1"),
            ("10.0.0.1", vec!["1.1.1.1", "unknown", "10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1", vec!["10.0.0.3", "10.0.0.2"], "10.0.0.3"),
        ] {
            assert_eq!(client(peer, &named), address(expected), "{peer} {named:?}");
        }
        assert_eq!(
            TrustedProxies::default().client(address("10.0.0.1"), [Some(address("1.1.1.1"))].into_iter()),
            address("10.0.0.1")
        );
        let mut row = vec!["10.0.0.2"; HOPS_MAX];
        row.insert(0, "1.1.1.1");
        assert_eq!(client("10.0.0.1", &row), address("10.0.0.2"), "a row without an end is not followed");
    }
}

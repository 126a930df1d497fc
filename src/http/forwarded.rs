//! For whom a proxy asks, as it writes it: `Forwarded` (RFC 7239) or `X-Forwarded-For`. Who is believed is
//! [`TrustedProxies`]' business.

use std::net::{IpAddr, SocketAddr};

use warp::http::{HeaderMap, HeaderName, header};

use crate::auth::proxies::{ForwardedHeader, TrustedProxies};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The addresses in a header's value, as it lists them; `None`: something else.
type Parse = fn(&str) -> Vec<Option<IpAddr>>;

/// Whose request this is.
pub(super) fn client(proxies: &TrustedProxies, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
    let (name, parse): (_, Parse) = match proxies.header {
        ForwardedHeader::XForwardedFor => (X_FORWARDED_FOR, |text| text.split(',').map(node).collect()),
        ForwardedHeader::Forwarded => {
            (header::FORWARDED, |text| elements(text, ',').into_iter().map(of_element).collect())
        }
    };
    let values = headers.get_all(name).iter().rev();
    proxies.client(peer, values.flat_map(|value| value.to_str().map_or(vec![None], parse).into_iter().rev()))
}

/// Parts of a text between separators outside quotes; one part, which is none, if a quote is not closed.
fn elements(text: &str, separator: char) -> Vec<&str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let parts = text.split(|c| {
        let was_escaped = is_escaped;
        is_escaped = is_quoted && c == '\\' && !was_escaped;
        is_quoted ^= c == '"' && !was_escaped;
        c == separator && !is_quoted
    });
    let parts = parts.collect();
    if is_quoted { vec![""] } else { parts }
}

/// The address in `for=192.0.2.43;proto=http` or `For="[2001:db8::1]:4711"`.
fn of_element(element: &str) -> Option<IpAddr> {
    let mut named = elements(element, ';').into_iter().filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| value.trim())
    });
    let value = named.next().filter(|_| named.next().is_none())?;
    node(value.strip_prefix('"').map_or(Some(value), |rest| rest.strip_suffix('"'))?)
}

/// An address, with a port or without; an IPv6 address with one is in brackets.
fn node(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let with_port = || text.parse::<SocketAddr>().map(|address| address.ip());
    match bare {
        Some(bare) => bare.parse().ok().filter(IpAddr::is_ipv6),
        None => text.parse().or_else(|_| with_port()).ok(),
    }
}

#[cfg(test)]
mod tests {
    use warp::http::HeaderValue;

    use super::*;

    fn client_of(header: ForwardedHeader, values: &[(&'static str, &str)]) -> String {
        let proxies = TrustedProxies { networks: vec!["10.0.0.0/8".parse().unwrap()], header };
        let mut headers = HeaderMap::new();
        for (name, value) in values {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        client(&proxies, "10.0.0.1".parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn addresses_are_read_as_proxies_write_them() {
        for (value, expected) in [
            ("1.1.1.1", "1.1.1.1"),
            ("9.9.9.9,1.1.1.1", "1.1.1.1"),
            ("9.9.9.9 , 1.1.1.1:5000 ,10.0.0.7", "1.1.1.1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[1.1.1.1]", "10.0.0.1"),
            ("9.9.9.9, unknown", "10.0.0.1"),
            ("9.9.9.9,", "10.0.0.1"),
            ("9.9.9.9, 日本", "10.0.0.1"),
            ("", "10.0.0.1"),
        ] {
            assert_eq!(client_of(ForwardedHeader::XForwardedFor, &[("x-forwarded-for", value)]), expected, "{value}");
        }
        for (value, expected) in [
            ("for=1.1.1.1", "1.1.1.1"),
            ("for=9.9.9.9, For=\"1.1.1.1:80\";proto=https;by=10.0.0.3", "1.1.1.1"),
            ("by=10.0.0.3 ; FOR=\"[2001:db8::1]:4711\" , for=10.0.0.8", "2001:db8::1"),
            ("for=1.1.1.1;host=\"a,b;for=2.2.2.2\"", "1.1.1.1"),
            ("for=9.9.9.9;x=\"\\\", for=1.1.1.1", "10.0.0.1"),
            ("for=9.9.9.9;x=\", for=\"[2001:db8::1]\"", "10.0.0.1"),
            ("for=9.9.9.9, for=_hidden", "10.0.0.1"),
            ("for=9.9.9.9, for=unknown", "10.0.0.1"),
            ("for=9.9.9.9, proto=http", "10.0.0.1"),
            ("for=9.9.9.9;for=1.1.1.1", "10.0.0.1"),
            ("for=\"1.1.1.1", "10.0.0.1"),
            ("1.1.1.1", "10.0.0.1"),
        ] {
            assert_eq!(client_of(ForwardedHeader::Forwarded, &[("forwarded", value)]), expected, "{value}");
        }
    }

    #[test]
    fn several_headers_are_one_list_and_the_other_one_is_not_read() {
        let own = [("x-forwarded-for", "9.9.9.9"), ("x-forwarded-for", "1.1.1.1, 10.0.0.5")];
        assert_eq!(client_of(ForwardedHeader::XForwardedFor, &own), "1.1.1.1");
        let both = [("x-forwarded-for", "1.1.1.1"), ("forwarded", "for=9.9.9.9")];
        assert_eq!(client_of(ForwardedHeader::XForwardedFor, &both), "1.1.1.1");
        assert_eq!(client_of(ForwardedHeader::Forwarded, &both), "9.9.9.9");
        assert_eq!(client_of(ForwardedHeader::Forwarded, &both[..1]), "10.0.0.1");
    }
}

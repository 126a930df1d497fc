//! For whom a proxy asks: believed only where it is trusted, and only as far as it has seen it itself.

use std::time::Duration;

use event_sourcing_cqrs::{
    auth::{
        Method, Role,
        authorizer::RoleAuthorizer,
        proxies::{ForwardedHeader, TrustedProxies},
        rate::Quota,
    },
    http::HttpOptions,
};

use crate::support::access::Guarded;

/// Every caller has one request, and nothing comes back while the test runs. This test stands for the proxy.
async fn behind(networks: &[&str], header: ForwardedHeader) -> Guarded {
    let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
    let options = HttpOptions {
        quota: Some(Quota { requests: 1, window: Duration::from_secs(86_400) }),
        trusted_proxies: TrustedProxies { networks, header },
        ..HttpOptions::default()
    };
    Guarded::with(Method::ApiKey(Vec::new()), options, RoleAuthorizer::default()).await
}

/// What strangers with these headers are answered, one after the other.
async fn statuses(guarded: &Guarded, requests: &[(&str, &str)]) -> Vec<u16> {
    let mut statuses = Vec::new();
    for request in requests {
        statuses.push(guarded.server.send("GET", "/version", &[*request], b"").await.status);
    }
    statuses
}

/// Whose refused requests the audit has, in order.
async fn peers(guarded: &Guarded) -> Vec<String> {
    let auditor = guarded.key("auditor", &[Role::Auditor]).await;
    let lines = guarded.ask("GET", "/api/v1/audit", Some(&auditor), "").await.json();
    let mut peers: Vec<_> =
        lines["items"].as_array().unwrap().iter().map(|line| line["peer"].as_str().unwrap().to_owned()).collect();
    peers.sort_unstable();
    peers
}

const NAME: &str = "x-forwarded-for";

#[tokio::test]
async fn nobody_is_believed_unless_that_is_set() {
    for networks in [&[][..], &["10.0.0.0/8", "::1"]] {
        let guarded = behind(networks, ForwardedHeader::XForwardedFor).await;
        let asked = [(NAME, "1.1.1.1"), (NAME, "2.2.2.2"), ("forwarded", "for=3.3.3.3")];
        assert_eq!(statuses(&guarded, &asked).await, [401, 429, 429], "one address, one quota");
        assert_eq!(peers(&guarded).await, ["127.0.0.1"]);
    }
}

#[tokio::test]
async fn behind_a_trusted_proxy_each_client_has_its_quota_and_its_name_in_the_audit() {
    let guarded = behind(&["127.0.0.0/8", "10.0.0.0/8"], ForwardedHeader::XForwardedFor).await;
    let asked = [(NAME, "1.1.1.1"), (NAME, "2.2.2.2"), (NAME, "1.1.1.1"), (NAME, "2.2.2.2, 10.0.0.3")];
    assert_eq!(statuses(&guarded, &asked).await, [401, 401, 429, 429]);
    assert_eq!(peers(&guarded).await, ["1.1.1.1", "2.2.2.2"]);
}

#[tokio::test]
async fn what_a_client_writes_into_the_header_itself_is_not_believed() {
    // The client's own part stands on the left; the proxy has added the address it sees.
    let guarded = behind(&["127.0.0.1"], ForwardedHeader::XForwardedFor).await;
    let asked =
        [(NAME, "8.8.8.8, 1.1.1.1"), (NAME, "9.9.9.9, 1.1.1.1"), (NAME, "127.0.0.1, 1.1.1.1"), (NAME, ", 1.1.1.1")];
    assert_eq!(statuses(&guarded, &asked).await, [401, 429, 429, 429]);
    let twice = guarded.server.send("GET", "/version", &[(NAME, "7.7.7.7"), (NAME, "1.1.1.1")], b"").await;
    assert_eq!(twice.status, 429, "several headers are one list");
    // The header that this proxy does not write is the client's from end to end.
    assert_eq!(statuses(&guarded, &[("forwarded", "for=6.6.6.6"), ("forwarded", "for=5.5.5.5")]).await, [401, 429]);
    assert_eq!(peers(&guarded).await, ["1.1.1.1", "127.0.0.1"]);

    let guarded = behind(&["127.0.0.1"], ForwardedHeader::Forwarded).await;
    let asked = [
        ("forwarded", "for=8.8.8.8, for=\"[2001:db8:1:2::1]:4711\";proto=https"),
        ("forwarded", "for=9.9.9.9, for=\"[2001:db8:1:2::9]\""),
        ("forwarded", "for=1.1.1.1;by=\", for=2.2.2.2"),
        (NAME, "3.3.3.3"),
    ];
    assert_eq!(
        statuses(&guarded, &asked).await,
        [401, 429, 401, 429],
        "of IPv6 the network counts; a broken one is none"
    );
    assert_eq!(peers(&guarded).await, ["127.0.0.1", "2001:db8:1:2::1"]);
}

#[tokio::test]
async fn a_key_is_the_same_behind_any_proxy() {
    let guarded = behind(&["127.0.0.1"], ForwardedHeader::XForwardedFor).await;
    let bearer = format!("Bearer {}", guarded.key("reader", &[Role::Reader]).await);
    for (address, expected) in [("1.1.1.1", 200), ("2.2.2.2", 429)] {
        let headers = [("authorization", bearer.as_str()), (NAME, address)];
        let reply = guarded.server.send("GET", "/version", &headers, b"").await;
        assert_eq!(reply.status, expected, "a principal has one quota, from wherever it asks");
    }
}

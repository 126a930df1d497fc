//! Who may come in, as settings.

use super::*;
use crate::auth::{key::ApiKey, proxies::ForwardedHeader};

#[test]
fn modes_of_authentication_are_three() {
    assert_says(&refusal(&[], [("ES__AUTH__MODE", "open")]), &["`none`, `api_key`, `jwt`"]);
    assert_eq!(load(&[], [("ES__AUTH__MODE", "api_key")]).unwrap().auth.mode, AuthMode::ApiKey);
    assert_says(&refusal(&[], [("ES__AUTH__MODE", "jwt")]), &["auth.jwt.jwks_url", "set jwks_file or jwks_url"]);
    let file = ("ES__AUTH__JWT__JWKS_FILE", "keys.json");
    let mode = ("ES__AUTH__MODE", "jwt");
    assert_says(&refusal(&[], [mode, file]), &["auth.jwt.issuer"]);
    let issuer = ("ES__AUTH__JWT__ISSUER", "https://id.example");
    assert_says(&refusal(&[], [mode, file, issuer]), &["auth.jwt.audience"]);
    let audience = ("ES__AUTH__JWT__AUDIENCE", "events,orders");
    let settings = load(&[], [mode, file, issuer, audience]).unwrap();
    assert_eq!(settings.auth.jwt.audience, ["events", "orders"]);
    for wrong in ["HS256", "none", "RS256,HS512"] {
        let algorithms = ("ES__AUTH__JWT__ALGORITHMS", wrong);
        let message = refusal(&[], [mode, file, issuer, audience, algorithms]);
        assert_says(&message, &["auth.jwt.algorithms", "cannot be allowed", "EdDSA"]);
    }
    let both = [mode, file, issuer, audience, ("ES__AUTH__JWT__JWKS_URL", "https://u:hunter2@id.example/keys")];
    let message = refusal(&[], both);
    assert_says(&message, &["not both"]);
    assert!(!message.contains("hunter2"));
}

#[cfg(feature = "jwt")]
#[test]
fn algorithms_that_can_be_allowed_can_be_checked() {
    for name in crate::settings::auth::ALGORITHMS {
        assert!(crate::auth::jwt::is_algorithm(name), "{name}");
    }
    for name in ["HS256", "HS384", "HS512", "none", "ES512", ""] {
        assert!(!crate::auth::jwt::is_algorithm(name), "{name}");
    }
}

#[test]
fn keys_of_the_settings_are_checked_and_masked() {
    let digest = ApiKey::generate().digest().to_hex();
    let (one, other) = (format!("ci:writer:{digest}"), format!("ops:operator+auditor:{digest}"));
    let lines: &'static str = format!("{one},{other}").leak();
    let settings = load(&[], [("ES__AUTH__KEYS", lines)]).unwrap();
    let keys: Vec<_> = settings.auth.keys.iter().map(|line| line.parsed().unwrap()).collect();
    assert_eq!((keys[0].name.as_str(), keys[1].roles.len()), ("ci", 2));
    let shown = format!("{:?} {:?}", settings.explain(), settings.auth);
    assert!(shown.contains("ci:writer:***") && !shown.contains(&digest), "{shown}");
    for wrong in ["ci", "ci:writer", "ci:boss:00", "ci:writer:00", "a b:writer:00", "escqrs_hunter2"] {
        let message = refusal(&[], [("ES__AUTH__KEYS", wrong)]);
        assert_says(&message, &["auth.keys"]);
        assert!(!message.contains("hunter2"), "{message}");
    }
}

#[test]
fn origins_are_written_without_a_path() {
    let origins = |text: &'static str| load(&[], [("ES__HTTP__CORS__ALLOWED_ORIGINS", text)]);
    let settings = origins("https://a.example,http://localhost:3000,*").unwrap();
    assert_eq!(settings.http.cors.allowed_origins.len(), 3);
    for wrong in ["https://a.example/", "a.example", "https://*.example", "https://"] {
        let message = refusal(&[], [("ES__HTTP__CORS__ALLOWED_ORIGINS", wrong)]);
        assert_says(&message, &["http.cors.allowed_origins", "https://host"]);
    }
}

#[test]
fn single_commands_have_roles() {
    let yaml = "commands: {types: {CloseAccount: {role: operator}}}";
    let settings = load(&[("cqrs.yaml", yaml)], NO_VARIABLES).unwrap();
    assert_eq!(settings.commands.types["CloseAccount"].role, Some(Role::Operator));
    let unknown = "commands: {types: {CloseAcount: {role: operator}}}";
    let settings = load(&[("cqrs.yaml", unknown)], NO_VARIABLES).unwrap();
    let message = crate::app::App::builder().settings(settings).check().unwrap_err().to_string();
    assert_says(&message, &["commands.types.CloseAcount", "CloseAccount"]);
}

#[test]
fn trusted_proxies_are_networks_and_none_is_trusted_unless_named() {
    let settings = load(&[], NO_VARIABLES).unwrap();
    assert!(settings.http.trusted_proxies.is_empty());
    let yaml = "http: {trusted_proxies: [10.0.0.0/8, \"::1\"], forwarded_header: forwarded}";
    let settings = load(&[("cqrs.yaml", yaml)], NO_VARIABLES).unwrap();
    assert_eq!(settings.http.trusted_proxies, ["10.0.0.0/8", "::1/128"].map(|network| network.parse().unwrap()));
    assert_eq!(settings.http.forwarded_header, ForwardedHeader::Forwarded);
    let settings = load(&[], [("ES__HTTP__TRUSTED_PROXIES", "192.0.2.7,fd00::/8")]).unwrap();
    assert_eq!(settings.http.trusted_proxies.len(), 2);
    for wrong in ["0.0.0.0/0", "10.0.0.1/8", "proxy.example"] {
        let message = refusal(&[], [("ES__HTTP__TRUSTED_PROXIES", wrong)]);
        assert_says(&message, &["http.trusted_proxies", "10.0.0.0/8", wrong]);
    }
    let message = refusal(&[], [("ES__HTTP__FORWARDED_HEADER", "x-real-ip")]);
    assert_says(&message, &["http.forwarded_header", "x-forwarded-for"]);
}

//! Tokens signed by elliptic curves: each curve checks its own algorithm, and no other.

use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair,
    },
};

use super::*;

/// A key of an issuer.
pub(super) struct Curve {
    algorithm: &'static str,
    name: &'static str,
    key: EcdsaKeyPair,
}

impl Curve {
    pub fn p256() -> Self {
        Self::new("ES256", "P-256", &ECDSA_P256_SHA256_FIXED_SIGNING)
    }

    fn p384() -> Self {
        Self::new("ES384", "P-384", &ECDSA_P384_SHA384_FIXED_SIGNING)
    }

    fn new(algorithm: &'static str, name: &'static str, by: &'static EcdsaSigningAlgorithm) -> Self {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(by, &random).unwrap();
        Self { algorithm, name, key: EcdsaKeyPair::from_pkcs8(by, key.as_ref(), &random).unwrap() }
    }

    pub fn public(&self) -> Value {
        // An uncompressed point: a four, and both coordinates.
        let (x, y) = self.key.public_key().as_ref()[1..].split_at((self.key.public_key().as_ref().len() - 1) / 2);
        let [x, y] = [x, y].map(|coordinate| URL_SAFE_NO_PAD.encode(coordinate));
        json!({ "kty": "EC", "crv": self.name, "kid": self.name, "use": "sig", "x": x, "y": y })
    }

    fn signed(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = self.key.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    pub fn token(&self, claims: &Value) -> String {
        self.signed(&json!({ "alg": self.algorithm, "kid": self.name }), claims)
    }
}

async fn by_curves(algorithms: &[&str], keys: Vec<Value>) -> (Guarded, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    std::fs::write(&path, json!({ "keys": keys }).to_string()).unwrap();
    let algorithms = algorithms.iter().map(|name| (*name).to_owned()).collect();
    (guarded(JwtOptions { algorithms, ..options(KeySource::File(path)) }).await, folder)
}

#[tokio::test]
async fn tokens_by_es256_and_es384_open_each_by_its_own_key() {
    let (small, large) = (Curve::p256(), Curve::p384());
    let (guarded, _folder) = by_curves(&["ES256", "ES384"], vec![small.public(), large.public()]).await;
    let good = claims(&json!({}));
    for (curve, other) in [(&small, &large), (&large, &small)] {
        let token = curve.token(&good);
        assert_eq!(status(&guarded, &token).await, 200, "{}", curve.algorithm);
        let unnamed = curve.signed(&json!({ "alg": curve.algorithm }), &good);
        assert_eq!(
            status(&guarded, &unnamed).await,
            200,
            "without an id the only key for {} is meant",
            curve.algorithm
        );
        let (message, signature) = token.rsplit_once('.').unwrap();
        let mut bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
        bytes[3] ^= 1;
        for (what, token) in [
            ("altered", format!("{message}.{}", URL_SAFE_NO_PAD.encode(&bytes))),
            ("all zeros", format!("{message}.{}", URL_SAFE_NO_PAD.encode(vec![0; bytes.len()]))),
            ("of another's message", format!("{}.{signature}", other.token(&good).rsplit_once('.').unwrap().0)),
            ("by another key of the curve", Curve { key: forged(curve), ..*curve }.token(&good)),
            ("under the other's id", curve.signed(&json!({ "alg": curve.algorithm, "kid": other.name }), &good)),
            ("under the other's algorithm", curve.signed(&json!({ "alg": other.algorithm, "kid": curve.name }), &good)),
            (
                "under the other's algorithm and id",
                curve.signed(&json!({ "alg": other.algorithm, "kid": other.name }), &good),
            ),
        ] {
            assert_eq!(status(&guarded, &token).await, 401, "{} {what}", curve.algorithm);
        }
    }
}

fn forged(like: &Curve) -> EcdsaKeyPair {
    if like.name == "P-256" { Curve::p256().key } else { Curve::p384().key }
}

#[tokio::test]
async fn a_curve_that_is_in_the_set_counts_only_where_its_algorithm_is_allowed() {
    let (small, large) = (Curve::p256(), Curve::p384());
    let (guarded, _folder) = by_curves(&["ES256"], vec![small.public(), large.public()]).await;
    let good = claims(&json!({}));
    assert_eq!(status(&guarded, &small.token(&good)).await, 200);
    let refused = guarded.ask("GET", "/version", Some(&large.token(&good)), "").await;
    assert_eq!(refused.status, 401);
    assert!(refused.text().contains("an algorithm that does not count here"), "{}", refused.text());
}

#[tokio::test]
async fn keys_of_the_set_that_are_for_something_else_check_nothing() {
    let curve = Curve::p256();
    let token = curve.token(&claims(&json!({})));
    let changed = |name: &str, value: &str| {
        let mut key = curve.public();
        key[name] = json!(value);
        key
    };
    let spare = Curve::p384().public();
    for (what, key) in [
        ("for encryption", changed("use", "enc")),
        ("for another algorithm", changed("alg", "ES384")),
        ("of another curve", changed("crv", "P-384")),
        ("of a point that is none", changed("x", &URL_SAFE_NO_PAD.encode([7; 32]))),
    ] {
        let (guarded, _folder) = by_curves(&["ES256", "ES384"], vec![key, spare.clone()]).await;
        assert_eq!(status(&guarded, &token).await, 401, "{what}");
    }
    let (guarded, _folder) = by_curves(&["ES256"], vec![changed("alg", "ES256"), spare]).await;
    assert_eq!(status(&guarded, &token).await, 200);
}

#[tokio::test]
async fn a_token_without_an_id_opens_only_where_one_key_could_be_meant() {
    let (one, other) = (Curve::p256(), Curve::p256());
    let mut renamed = other.public();
    renamed["kid"] = json!("other");
    let (guarded, _folder) = by_curves(&["ES256"], vec![one.public(), renamed]).await;
    let good = claims(&json!({}));
    assert_eq!(status(&guarded, &one.token(&good)).await, 200);
    for curve in [&one, &other] {
        let unnamed = curve.signed(&json!({ "alg": "ES256" }), &good);
        assert_eq!(status(&guarded, &unnamed).await, 401, "nobody tries one key after the other");
    }
}

//! Signatures for `jsonwebtoken` by `ring`, which is in the program for TLS anyway. It only checks: nothing is signed here.

use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind,
    crypto::{CryptoProvider, JwtVerifier, KeyUtils},
    errors::{Error, ErrorKind},
};
use ring::signature as by;

/// What RSA keys check.
pub(super) const RSA: &[Algorithm] =
    &[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];

/// Whether signatures of this algorithm can be checked: never one by a shared secret.
pub(super) fn is_supported(algorithm: Algorithm) -> bool {
    RSA.contains(&algorithm) || matches!(algorithm, Algorithm::ES256 | Algorithm::ES384 | Algorithm::EdDSA)
}

/// Makes it the process's own, unless there is one already.
pub(super) fn install() {
    static PROVIDER: CryptoProvider = CryptoProvider {
        signer_factory: |_, _| Err(ErrorKind::InvalidAlgorithm.into()),
        verifier_factory: |algorithm, key| Ok(Box::new(Check::new(*algorithm, key)?)),
        key_utils: KeyUtils::new_unimplemented(),
    };
    let _ = PROVIDER.install_default();
}

/// One key for one algorithm.
struct Check {
    algorithm: Algorithm,
    key: Key,
}

enum Key {
    Rsa { n: Vec<u8>, e: Vec<u8>, parameters: &'static by::RsaParameters },
    Plain(by::UnparsedPublicKey<Vec<u8>>),
}

impl Check {
    fn new(algorithm: Algorithm, key: &DecodingKey) -> Result<Self, Error> {
        let wrong = || Error::from(ErrorKind::InvalidKeyFormat);
        let key = match (key.kind(), rsa(algorithm), plain(algorithm)) {
            (DecodingKeyKind::RsaModulusExponent { n, e }, Some(parameters), _) => {
                Key::Rsa { n: trimmed(n), e: trimmed(e), parameters }
            }
            (DecodingKeyKind::SecretOrDer(key), _, Some(how)) => {
                Key::Plain(by::UnparsedPublicKey::new(how, key.clone()))
            }
            _ => return Err(wrong()),
        };
        Ok(Self { algorithm, key })
    }
}

fn rsa(algorithm: Algorithm) -> Option<&'static by::RsaParameters> {
    Some(match algorithm {
        Algorithm::RS256 => &by::RSA_PKCS1_2048_8192_SHA256,
        Algorithm::RS384 => &by::RSA_PKCS1_2048_8192_SHA384,
        Algorithm::RS512 => &by::RSA_PKCS1_2048_8192_SHA512,
        Algorithm::PS256 => &by::RSA_PSS_2048_8192_SHA256,
        Algorithm::PS384 => &by::RSA_PSS_2048_8192_SHA384,
        Algorithm::PS512 => &by::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

fn plain(algorithm: Algorithm) -> Option<&'static dyn by::VerificationAlgorithm> {
    Some(match algorithm {
        Algorithm::ES256 => &by::ECDSA_P256_SHA256_FIXED,
        Algorithm::ES384 => &by::ECDSA_P384_SHA384_FIXED,
        Algorithm::EdDSA => &by::ED25519,
        _ => return None,
    })
}

/// A number without leading zeros, as `ring` wants it.
fn trimmed(number: &[u8]) -> Vec<u8> {
    number.iter().copied().skip_while(|byte| *byte == 0).collect()
}

impl signature::Verifier<Vec<u8>> for Check {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        match &self.key {
            Key::Rsa { n, e, parameters } => by::RsaPublicKeyComponents { n, e }.verify(parameters, message, signature),
            Key::Plain(key) => key.verify(message, signature),
        }
        .map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Check {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::crypto::verify;

    use super::*;

    // Made with `openssl dgst -sha256 -sign` over the text below, once by PKCS #1 and once by PSS; the key is forgotten.
    const MESSAGE: &[u8] = b"header.payload";
    const MODULUS: &str = "jjPwZ-73L4dH0tIwVRVOVcBqgIFiHF8_K3qeEOZ70ya-BFXdaXPXyfZWwR4RVB3X_UCgJJvWHESQ9wz9FZ4dSfi1A9SaNs_IZre6\
        52V7Qr-IC8Hkz0hbZRMWSBfuBf3qWfVM9NEZUvtPaEZq85mEguCdZnj3GAMrP0BFMhKSbAp2gDFA5kIVgMLXhcLgPbbHHgSIqkrh\
        xAVgpDLY6hPOz5-ez69dKRChyNrVWfUI7FcwvOVfhNZvxSJSRnXpkgwk4mXf1gMEwuU4tMnzePGBplrF60jBpzkNsWB0S7Nv3f_d\
        zoq8mjgY4uAA6Ej0yRh9VyV8Sd8Nh9nNkP0fxiaN5w";
    const BY_PKCS1: &str = "GaUz0FiYJUHoPyrjfTR3vEXkMCzOfO97fPgvkAuDhbK7UOtYjiXkFkMqqQ4TKPimM4RvI6Yy8-Tag8q9f_twGXkTzFTe7nAlMQ1z\
        2yEgLGe-l3hjP6qJ9hVAWFkF8A2qTuMZrVLBXdDJQg67sTliq5AtOZy2hvNo3rSl1Ar9jzwso-LhZ5Son9Hh1wu5_rrcwP0JoUta\
        ycdrWKQ2Z4Av1yV21AO3JoaXS4caLD_p_UswB6E-cBSXt7V03X01lrKrB2dIF4gmnR5t8L44e-a9XgkX2uL30mxJpk_IKdVd4LgD\
        Vwc4Ed56lFmnPfgFZQuQiC2IUG3SQk6vvjuVKf9Zlg";
    const BY_PSS: &str = "H_4jvPQwwan8gBQSj8adCpRhJBMUugYg1hNHcUk1Rh5CUrrixib58cDhANGX3380JXV8qvG3A9h-MVUjG-Z35TI0pSDz94T5YNbR\
        gldsXPHnUYVF2gyJvnM6Dp0PM4amWqFQ-FmE_x-K2aIl5enCLZocM89SYV8D8mt8PMDOOJA5tMz50_dK1Egqd684IFRU255biYZf\
        Zfq_DmzPnxbd6SZyRY_qN2CV6OI5IuBsIsJgZJL2R1zspxwLmTfBgDY8KtNALU2ubGfn4KVM2Phz-bTb2f6L09f8GAEaOsWSOXjA\
        X97M8WfuCrrU5yBWqxI1eXIXXWB9sXkcPP6dWVh7GA";

    #[test]
    fn signatures_by_rsa_are_checked() {
        install();
        let key = DecodingKey::from_rsa_components(MODULUS, "AQAB").unwrap();
        let is_right =
            |signature: &str, message: &[u8], algorithm| verify(signature, message, &key, algorithm).unwrap();
        assert!(is_right(BY_PKCS1, MESSAGE, Algorithm::RS256));
        assert!(is_right(BY_PSS, MESSAGE, Algorithm::PS256));
        assert!(!is_right(BY_PKCS1, b"header.payloae", Algorithm::RS256));
        assert!(!is_right(BY_PKCS1, MESSAGE, Algorithm::PS256));
        assert!(!is_right(BY_PKCS1, MESSAGE, Algorithm::RS512));
        assert!(!is_right(&BY_PKCS1.replace('a', "b"), MESSAGE, Algorithm::RS256));
    }

    #[test]
    fn a_public_key_is_no_shared_secret() {
        install();
        let key = DecodingKey::from_rsa_components(MODULUS, "AQAB").unwrap();
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            assert!(!is_supported(algorithm) && verify(BY_PKCS1, MESSAGE, &key, algorithm).is_err());
        }
        assert!(verify(BY_PKCS1, MESSAGE, &key, Algorithm::ES256).is_err());
    }
}

//! How an answer lies in Redis: version, digest, revision, position, data.
//!
//! Others may write under any key there, and a fault may mix answers up; so the digest covers the key as well. It is no
//! defence against somebody who can write to the Redis on purpose.

use bytes::{BufMut, Bytes, BytesMut};
use event_sourcing_actors::{
    Position,
    ports::{CachedAnswer, Revision},
};
use sha2::{Digest, Sha256};

/// Raised with every change of what follows it.
const VERSION: u8 = 1;
/// Version and digest.
const HEAD_BYTES: usize = 1 + 32;
/// Revision and position.
const PLACE_BYTES: usize = 8 + 8;

/// An answer as bytes.
pub(super) fn encode(key: &str, answer: &CachedAnswer) -> Bytes {
    let mut value = BytesMut::with_capacity(HEAD_BYTES + PLACE_BYTES + answer.data.len());
    value.put_u8(VERSION);
    value.put_bytes(0, 32);
    value.put_u64(answer.revision.0);
    value.put_u64(answer.position.0);
    value.put_slice(&answer.data);
    let digest = digest(key, &value[HEAD_BYTES..]);
    value[1..HEAD_BYTES].copy_from_slice(&digest);
    value.freeze()
}

/// Bytes as an answer; `None` for anything that was not encoded under this key.
pub(super) fn decode(key: &str, value: &Bytes) -> Option<CachedAnswer> {
    let (head, body) = value.split_at_checked(HEAD_BYTES)?;
    if head[0] != VERSION || body.len() < PLACE_BYTES || head[1..] != digest(key, body) {
        return None;
    }
    let number = |at: usize| body[at..at + 8].iter().fold(0, |number, byte| (number << 8) | u64::from(*byte));
    Some(CachedAnswer {
        revision: Revision(number(0)),
        position: Position(number(8)),
        data: value.slice(HEAD_BYTES + PLACE_BYTES..),
    })
}

fn digest(key: &str, body: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update((key.len() as u64).to_be_bytes());
    hash.update(key);
    hash.update(body);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_encoded_under_the_key_is_decoded() {
        let answer = CachedAnswer {
            revision: Revision(0x0102_0304_0506_0708),
            position: Position(9),
            data: Bytes::from_static(b"{}"),
        };
        let value = encode("key", &answer);
        assert_eq!(decode("key", &value), Some(answer));
        assert_eq!(decode("yek", &value), None);
        for cut in 0..value.len() {
            assert_eq!(decode("key", &value.slice(..cut)), None);
        }
        for at in 0..value.len() {
            let mut damaged = value.to_vec();
            damaged[at] ^= 1;
            assert_eq!(decode("key", &damaged.into()), None);
        }
    }
}

//! The cache that replicas share. So far it is only looked at: nothing is kept there, and no decision ever rests on it.

#[cfg(feature = "redis")]
pub mod redis;

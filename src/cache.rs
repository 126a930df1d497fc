//! Where answers of queries are kept for a while: in the process, or in a Redis that replicas share.
//!
//! No decision ever rests on what is in here: the query bus judges each answer anew by what the database says
//! (`event_sourcing_actors::freshness`). So these adapters may lose anything, and never fail a query.

pub mod memory;
#[cfg(feature = "redis")]
pub mod redis;

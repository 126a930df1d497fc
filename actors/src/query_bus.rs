//! The query bus: a chain of middleware in front of the read models.

mod request;

pub use request::{QueryAnswer, QueryError, QueryRequest, QueryResult};

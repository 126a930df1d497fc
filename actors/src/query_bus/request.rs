//! What travels the query bus: [`QueryRequest`] in, [`QueryResult`] out.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::{
    aggregate::FieldError,
    command_bus::{Principal, RequestContext},
    ports::StoreError,
    version::Position,
};

/// What the bus answers.
pub type QueryResult = Result<QueryAnswer, QueryError>;

/// One query on its way; one struct for the whole path.
#[derive(Debug, Clone)]
pub struct QueryRequest {
    /// Query type, such as `GetAccountBalance`.
    pub query_type: String,
    /// The projection, if the caller names it; needed only where several have this query type.
    pub projection: Option<String>,
    /// Its filters: a JSON object.
    pub filters: Arc<RawValue>,
    /// The least position the answer must rest on (`Es-Min-Position`).
    pub min_position: Option<Position>,
    /// The position as of which the answer is to be (`Es-As-Of-Position`). It is made of the log on the spot, so it needs
    /// no waiting, and only queries for one row that one stream makes can be asked so.
    pub as_of: Option<Position>,
    /// How long to wait for `min_position`; the bus's own bound if absent, and never longer than that bound's maximum.
    pub wait: Option<Duration>,
    /// Whether a late projection's rows will do, marked as stale, when `min_position` is not reached in time.
    pub is_lenient: bool,
    /// In whose name.
    pub principal: Principal,
    /// Correlation and trace.
    pub context: RequestContext,
}

impl QueryRequest {
    /// A query in the system's name; filters are a JSON object's text.
    ///
    /// # Errors
    /// The text is no JSON.
    pub fn new(query_type: impl Into<String>, filters: &str) -> Result<Self, serde_json::Error> {
        Ok(Self {
            query_type: query_type.into(),
            projection: None,
            filters: serde_json::from_str::<Box<RawValue>>(filters)?.into(),
            min_position: None,
            as_of: None,
            wait: None,
            is_lenient: false,
            principal: Principal::system(),
            context: RequestContext::new(),
        })
    }
}

/// An answered query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryAnswer {
    /// As asked.
    pub query_type: &'static str,
    /// The projection that answered.
    pub projection: Arc<str>,
    /// The row's data, or `{"items":[…],"next_cursor"}`: JSON.
    pub data: Bytes,
    /// The answer rests on every event up to here.
    pub position: Position,
    /// The head of the log as this process knew it when the query came.
    pub head_position: Position,
    /// Whether `position` is below the one asked for: the token, or the head under `consistency: latest`.
    pub stale: bool,
    /// Whether it came from the cache.
    pub cached: bool,
}

/// Why a query is not answered, told apart by what the caller can do.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// No projection has such a query type.
    #[error("there is no query type {query_type:?}")]
    UnknownQueryType {
        /// As asked.
        query_type: String,
        /// Known names close to it.
        nearest: Vec<String>,
    },
    /// The projection that is named does not exist.
    #[error("there is no projection {projection:?}")]
    UnknownProjection {
        /// As asked.
        projection: String,
        /// Known names close to it.
        nearest: Vec<String>,
    },
    /// Something is wrong with the filters, or with the projection that is named (pointer `/projection`).
    #[error("the query is not valid")]
    Invalid {
        /// What; pointers start at the body: `/filters/limit`.
        errors: Vec<FieldError>,
    },
    /// There is no such row.
    #[error("{detail}")]
    NotFound {
        /// A sentence for people.
        detail: String,
        /// What the answer rests on.
        position: Position,
        /// The head of the log as this process knew it when the query came.
        head_position: Position,
        /// Whether `position` is below the one asked for, so that the row may still come.
        stale: bool,
    },
    /// The projection had not reached the position asked for in time.
    #[error("projection {projection:?} stands at position {position}, not yet at {wanted}")]
    Behind {
        /// The projection.
        projection: String,
        /// Where it stands.
        position: Position,
        /// What was asked for.
        wanted: Position,
    },
    /// The principal is not known.
    #[error("who asks is not known")]
    Unauthenticated,
    /// The principal may not ask this.
    #[error("the role {role:?} is needed")]
    Forbidden {
        /// The missing role.
        role: String,
    },
    /// No answer within the query's deadline.
    #[error("the query was not answered within {} ms", deadline.as_millis())]
    Late {
        /// The deadline.
        deadline: Duration,
    },
    /// Too many queries wait.
    #[error("too many queries wait for an answer")]
    Overloaded,
    /// The read models cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A fault in a query type's code.
    #[error("internal fault: {reason}")]
    Internal {
        /// What happened.
        reason: String,
    },
}

impl QueryError {
    /// A stable word for metrics and logs.
    #[must_use]
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::UnknownQueryType { .. } | Self::UnknownProjection { .. } | Self::Invalid { .. } => "invalid",
            Self::NotFound { .. } => "not_found",
            Self::Behind { .. } => "behind",
            Self::Unauthenticated | Self::Forbidden { .. } => "denied",
            Self::Late { .. } => "timeout",
            Self::Overloaded => "overloaded",
            Self::Store(StoreError::Unavailable { .. }) => "store_unavailable",
            Self::Store(_) | Self::Internal { .. } => "internal",
        }
    }
}

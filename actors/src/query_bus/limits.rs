//! The bounds of queries.

use std::{collections::BTreeMap, time::Duration};

/// What a query without a token asks of its projection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Consistency {
    /// The head of the log that the process knew when the query came, for a moment.
    #[default]
    Latest,
    /// Whatever is there.
    Eventual,
}

/// Bounds of one runtime's queries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryLimits {
    /// Queries that wait or read at once; one more is refused with `overloaded`.
    pub in_flight_max: usize,
    /// Time a query has, beside the wait that it asks for.
    pub deadline: Duration,
    /// The same for some query types.
    pub deadlines: BTreeMap<String, Duration>,
    /// A query that takes longer, its wait included, is told of in the log; zero for none.
    pub slow: Duration,
    /// The longest a query may wait for the position it names; one that does not say how long waits for its deadline.
    pub wait_max: Duration,
    /// How long a query without a token waits for the head.
    pub latest_wait: Duration,
    /// What a query without a token asks of its projection.
    pub consistency: Consistency,
    /// The same for some projections.
    pub consistencies: BTreeMap<String, Consistency>,
    /// How long the cache keeps an answer. What is known of changes is kept twice as long.
    pub cache_ttl: Duration,
}

impl Default for QueryLimits {
    fn default() -> Self {
        Self {
            in_flight_max: 1_024,
            deadline: Duration::from_secs(5),
            slow: Duration::from_secs(1),
            deadlines: BTreeMap::new(),
            wait_max: Duration::from_secs(30),
            latest_wait: Duration::from_secs(1),
            consistency: Consistency::Latest,
            consistencies: BTreeMap::new(),
            cache_ttl: Duration::from_secs(60),
        }
    }
}

impl QueryLimits {
    /// The deadline of a query type.
    #[must_use]
    pub fn deadline_of(&self, query_type: &str) -> Duration {
        self.deadlines.get(query_type).copied().unwrap_or(self.deadline)
    }

    /// What a query without a token asks of a projection.
    #[must_use]
    pub fn consistency_of(&self, projection: &str) -> Consistency {
        self.consistencies.get(projection).copied().unwrap_or(self.consistency)
    }
}

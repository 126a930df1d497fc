//! Query types: a name, the projection it reads, and a pure function from filters to a [`Selection`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    num::NonZeroU32,
    sync::Arc,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{
    aggregate::FieldError,
    codec::decode_members,
    id::AggregateId,
    schema::SchemaOf,
    view::{ListRange, RowKey, Selection},
};

/// Rows of one page unless the caller says otherwise.
pub const PAGE_ROWS: NonZeroU32 = NonZeroU32::MIN.saturating_add(99);

/// Rows of one page at most.
pub const PAGE_ROWS_MAX: u32 = 1_000;

/// Turns filters into what to read.
type Plan = dyn Fn(&RawValue) -> Result<QueryPlan, Vec<FieldError>> + Send + Sync;

/// What a query reads, and what to say when it is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueryPlan {
    /// What to read. A row answers its data; a list `{"items":[…],"next_cursor"}`.
    pub selection: Selection,
    /// The sentence when the row is not there, such as `there is no account "acc-1"`.
    pub missing: String,
    /// The stream whose events alone make the row, if that is so: then it can be asked for as of a position.
    pub stream: Option<AggregateId>,
}

impl QueryPlan {
    /// Reads one row; `what` names it for people, such as `account "acc-1"`.
    #[must_use]
    pub fn row(key: RowKey, what: impl fmt::Display) -> Self {
        Self { selection: Selection::Row(key), missing: format!("there is no {what}"), stream: None }
    }

    /// Reads part of a list.
    #[must_use]
    pub fn list(range: ListRange) -> Self {
        Self { selection: Selection::List(range), missing: String::new(), stream: None }
    }

    /// Says that the events of this stream alone make the row: whatever else the projection has applied, and whatever it
    /// has not, the row would be the same.
    #[must_use]
    pub fn of_stream(self, stream: AggregateId) -> Self {
        Self { stream: Some(stream), ..self }
    }
}

/// The members of a list query's filters that choose its page; repeat them in a filter struct, or flatten by hand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct PageFilter {
    /// Rows of the page: 1 to [`PAGE_ROWS_MAX`], [`PAGE_ROWS`] if absent.
    pub limit: Option<u64>,
    /// `next_cursor` of the page before.
    pub cursor: Option<String>,
}

impl PageFilter {
    /// Puts this page on a range.
    ///
    /// # Errors
    /// The limit is out of bounds, or no row could ever be named like the cursor.
    pub fn on(self, range: ListRange) -> Result<ListRange, Vec<FieldError>> {
        let limit = match self.limit {
            None => PAGE_ROWS,
            Some(limit) => {
                u32::try_from(limit).ok().filter(|limit| *limit <= PAGE_ROWS_MAX).and_then(NonZeroU32::new).ok_or_else(
                    || {
                        let detail = format!("must be 1 to {PAGE_ROWS_MAX}, not {limit}");
                        vec![FieldError { pointer: "/limit".to_owned(), detail }]
                    },
                )?
            }
        };
        if let Some(problem) = self.cursor.as_deref().and_then(|cursor| RowKey::new("", "", cursor).problem()) {
            let detail = format!("must be the next_cursor of the page before: {problem}");
            return Err(vec![FieldError { pointer: "/cursor".to_owned(), detail }]);
        }
        Ok(ListRange { limit, after: self.cursor.map(Into::into), ..range })
    }
}

/// The `data` of a list query, as documents show it.
#[derive(Debug, Clone, Serialize, JsonSchema)]
#[schemars(rename = "{R}List")]
pub struct Rows<R> {
    /// The page.
    pub items: Vec<R>,
    /// Where the next page starts, as the filter `cursor`; `null` past the end.
    pub next_cursor: Option<String>,
}

/// A query type of one projection.
#[derive(Clone)]
pub struct QueryType {
    /// Its name, such as `GetAccountBalance`.
    pub name: &'static str,
    /// The projection it reads.
    pub projection: String,
    /// One sentence for people.
    pub description: &'static str,
    /// The schema of its filters, for documents; none is shown as an object.
    pub filters: Option<SchemaOf>,
    /// The schema of its answer's `data`, for documents.
    pub data: Option<SchemaOf>,
    plan: Arc<Plan>,
}

impl fmt::Debug for QueryType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueryType").field("name", &self.name).field("projection", &self.projection).finish()
    }
}

impl QueryType {
    /// A query type whose filters are an `F` (with `deny_unknown_fields`); `plan` is pure.
    #[must_use]
    pub fn new<F: DeserializeOwned>(
        name: &'static str,
        projection: impl Into<String>,
        description: &'static str,
        plan: impl Fn(F) -> Result<QueryPlan, Vec<FieldError>> + Send + Sync + 'static,
    ) -> Self {
        let plan = move |filters: &RawValue| plan(decode_members(filters)?);
        Self { name, projection: projection.into(), description, filters: None, data: None, plan: Arc::new(plan) }
    }

    /// Shows in documents what its filters `F` and its answer's `data` are: a row `R`, or [`Rows<R>`](Rows).
    #[must_use]
    pub fn documented<F: JsonSchema + 'static, R: JsonSchema + 'static>(self) -> Self {
        let (filters, data) = (SchemaOf::type_of::<F>(), SchemaOf::type_of::<R>());
        Self { filters: Some(filters), data: Some(data), ..self }
    }

    /// What a query with these filters reads.
    ///
    /// # Errors
    /// What is wrong with which filter; pointers start at the filters.
    pub fn plan(&self, filters: &RawValue) -> Result<QueryPlan, Vec<FieldError>> {
        (self.plan)(filters)
    }
}

/// Every query type of a runtime. One name may serve several projections (`GetView`); a pair occurs once.
#[derive(Debug, Clone, Default)]
pub struct QueryCatalog {
    types: BTreeMap<&'static str, BTreeMap<String, QueryType>>,
}

impl QueryCatalog {
    /// Adds a query type; returns the one that has both names already, which stays.
    ///
    /// # Errors
    /// The pair of names is taken.
    pub fn register(&mut self, query: QueryType) -> Result<(), QueryTypeTaken> {
        let (name, projection) = (query.name, query.projection.clone());
        let of_name = self.types.entry(name).or_default();
        if of_name.contains_key(&projection) {
            return Err(QueryTypeTaken { name, projection });
        }
        of_name.insert(projection, query);
        Ok(())
    }

    /// The query types of a name, by projection; empty if there is none.
    pub fn of_name(&self, name: &str) -> impl Iterator<Item = &QueryType> {
        self.types.get(name).into_iter().flat_map(BTreeMap::values)
    }

    /// A query type by both names.
    #[must_use]
    pub fn get(&self, name: &str, projection: &str) -> Option<&QueryType> {
        self.types.get(name)?.get(projection)
    }

    /// All names, each once.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.types.keys().copied()
    }

    /// The projections that have query types, each once, by name.
    #[must_use]
    pub fn projections(&self) -> BTreeSet<&str> {
        self.iter().map(|query| query.projection.as_str()).collect()
    }

    /// All query types.
    pub fn iter(&self) -> impl Iterator<Item = &QueryType> {
        self.types.values().flat_map(BTreeMap::values)
    }
}

/// Two query types claim one pair of names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("query type {name} of projection {projection:?} is registered twice")]
pub struct QueryTypeTaken {
    /// The query type.
    pub name: &'static str,
    /// The projection.
    pub projection: String,
}

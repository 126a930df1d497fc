//! From a request to what it reads: names looked up, filters planned, the key of its answer.

use std::{
    collections::BTreeSet,
    num::NonZeroU32,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::{QueryError, QueryRequest};
use crate::{
    aggregate::FieldError,
    catalog::nearest,
    ports::Direction,
    query::{PAGE_ROWS_MAX, QueryCatalog, QueryPlan, QueryType},
    view::{ListRange, RowKey, Selection},
};

/// A query ready to be answered.
#[derive(Debug)]
pub(super) struct Planned {
    pub query: QueryType,
    pub plan: QueryPlan,
    filters: Arc<RawValue>,
}

impl Planned {
    /// Looks a request's names up and plans its filters.
    pub fn of(request: &QueryRequest, catalog: &QueryCatalog) -> Result<Self, QueryError> {
        let query = lookup(request, catalog)?.clone();
        let planned = catch_unwind(AssertUnwindSafe(|| query.plan(&request.filters))).map_err(|_| {
            QueryError::Internal { reason: format!("query type {} panicked while it planned its filters", query.name) }
        })?;
        let mut plan = planned.map_err(|errors| QueryError::Invalid { errors: below_filters(errors) })?;
        if let Some(detail) = problem(&plan.selection) {
            return Err(invalid("/filters", detail));
        }
        if let Selection::List(list) = &mut plan.selection {
            list.limit = list.limit.min(NonZeroU32::new(PAGE_ROWS_MAX).unwrap_or(NonZeroU32::MIN));
        }
        Ok(Self { query, plan, filters: request.filters.clone() })
    }

    pub fn projection(&self) -> &str {
        &self.query.projection
    }

    /// Whether this is the plan of that request: links of the embedder's may have changed it.
    pub fn is_of(&self, request: &QueryRequest) -> bool {
        Arc::ptr_eq(&self.filters, &request.filters)
            && self.query.name == request.query_type
            && request.projection.as_ref().is_none_or(|name| *name == self.query.projection)
    }

    /// Names the answer: two queries with one key have one answer at each instant, whatever they are called.
    pub fn cache_key(&self, incarnation: uuid::Uuid) -> String {
        let digest: [u8; 32] = selection_digest(&self.plan.selection);
        format!("es:{}:{}:{}", incarnation.simple(), self.projection(), hex::encode(digest))
    }
}

/// The query type of a request.
pub(super) fn lookup<'a>(request: &QueryRequest, catalog: &'a QueryCatalog) -> Result<&'a QueryType, QueryError> {
    let mut of_name = catalog.of_name(&request.query_type);
    let Some(first) = of_name.next() else {
        return Err(QueryError::UnknownQueryType {
            query_type: request.query_type.clone(),
            nearest: nearest(&request.query_type, catalog.names()),
        });
    };
    let others: Vec<&str> = of_name.map(|query| query.projection.as_str()).collect();
    match &request.projection {
        Some(projection) => catalog.get(first.name, projection).ok_or_else(|| {
            let known: BTreeSet<&str> = catalog.projections();
            if !known.contains(projection.as_str()) {
                let nearest = nearest(projection, known.into_iter());
                return QueryError::UnknownProjection { projection: projection.clone(), nearest };
            }
            let names = listed(first, &others);
            invalid("/projection", format!("{} is a query type of {names}, not of {projection:?}", first.name))
        }),
        None if others.is_empty() => Ok(first),
        None => {
            let names = listed(first, &others);
            Err(invalid("/projection", format!("must be given, because {} is a query type of {names}", first.name)))
        }
    }
}

fn listed(first: &QueryType, others: &[&str]) -> String {
    let names = std::iter::once(first.projection.as_str()).chain(others.iter().copied());
    names.map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

fn invalid(pointer: &str, detail: String) -> QueryError {
    QueryError::Invalid { errors: vec![FieldError { pointer: pointer.to_owned(), detail }] }
}

fn below_filters(mut errors: Vec<FieldError>) -> Vec<FieldError> {
    for error in &mut errors {
        error.pointer.insert_str(0, "/filters");
    }
    errors
}

/// Why no store could have what is asked for.
fn problem(selection: &Selection) -> Option<String> {
    match selection {
        Selection::Row(key) => key.problem(),
        Selection::List(list) => {
            let bounds = [&list.from, &list.to, &list.after].into_iter().flatten().cloned();
            let mut keys = bounds.chain([Box::default()]).map(|sort| RowKey::new("", list.group.clone(), sort));
            keys.find_map(|key| key.problem())
        }
    }
}

/// Every part with its length, so that no two selections run together.
fn selection_digest(selection: &Selection) -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix(b"event-sourcing-cqrs query v1");
    let mut part = |text: Option<&str>| {
        hash.update([u8::from(text.is_some())]);
        let text = text.unwrap_or_default();
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    };
    match selection {
        Selection::Row(RowKey { collection, group, sort }) => {
            ["row", collection, group, sort].into_iter().for_each(|text| part(Some(text)));
        }
        Selection::List(ListRange { collection, group, from, to, after, direction, limit }) => {
            let direction = match direction {
                Direction::Forward => "forward",
                Direction::Backward => "backward",
            };
            ["list", collection, group, direction, &limit.to_string()].into_iter().for_each(|text| part(Some(text)));
            [from, to, after].into_iter().for_each(|text| part(text.as_deref()));
        }
    }
    hash.finalize().into()
}

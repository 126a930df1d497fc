//! The query bus over a view store that is moved by hand.

mod desk;
mod model;
mod shelf;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use event_sourcing_actors::{
    Position,
    ports::{Revision, StoreError},
    query_bus::{
        Consistency, QueryAuthorizer, QueryError, QueryLimits, QueryMiddleware, QueryNext, QueryRequest, QueryResult,
    },
    view::Touched,
};
use futures_util::future::{BoxFuture, join_all};

use crate::support::{Purse, Put};
use desk::{Desk, get, get_at, get_purse, write};
use shelf::{PROJECTION, key};

/// Raises the head of the log by one event.
async fn put_event(desk: &Desk) -> u64 {
    desk.runtime.execute::<Purse>("purse", Put { amount: 1 }).await.unwrap().position.0
}

fn pointers(result: QueryResult) -> Vec<String> {
    match result {
        Err(QueryError::Invalid { errors }) => errors.into_iter().map(|error| error.pointer).collect(),
        other => panic!("expected an invalid query, got {other:?}"),
    }
}

#[tokio::test]
async fn a_row_is_answered_byte_for_byte_with_its_position() {
    let desk = Desk::new().await;
    desk.shelf.put(&[("a", r#"{ "sum" : 1.50 }"#.to_owned())], 7);
    let answer = desk.runtime.queries().ask(get("a")).await.unwrap();
    assert_eq!(&answer.data[..], br#"{ "sum" : 1.50 }"#);
    assert_eq!((answer.query_type, &*answer.projection, answer.position.0), ("GetPurse", PROJECTION, 7));
    assert!(!answer.stale && !answer.cached && answer.head_position >= answer.position);
    let missing = desk.runtime.queries().ask(get("b")).await.unwrap_err();
    assert!(
        matches!(missing, QueryError::NotFound { ref detail, position: Position(7), stale: false, .. } if detail.contains("purse \"b\""))
    );
}

#[tokio::test]
async fn lists_come_in_pages_with_a_cursor() {
    let desk = Desk::new().await;
    for number in 0..5 {
        write(&desk.shelf, &format!("p{number}"), number, number + 1);
    }
    let ask = async |filters: &str| {
        let answer = desk.runtime.queries().ask(QueryRequest::new("ListPurses", filters).unwrap()).await?;
        Ok::<_, QueryError>(String::from_utf8(answer.data.to_vec()).unwrap())
    };
    assert_eq!(ask(r#"{"limit":2}"#).await.unwrap(), r#"{"items":[{"sum":0},{"sum":1}],"next_cursor":"p1"}"#);
    let last = ask(r#"{"limit":3,"cursor":"p1"}"#).await.unwrap();
    assert_eq!(last, r#"{"items":[{"sum":2},{"sum":3},{"sum":4}],"next_cursor":null}"#);
    assert_eq!(ask(r#"{"cursor":"p4"}"#).await.unwrap(), r#"{"items":[],"next_cursor":null}"#);
}

#[tokio::test]
async fn what_is_wrong_with_a_query_is_pointed_at() {
    let desk = Desk::with(QueryLimits::default(), |builder| builder.query_type(get_purse("other")).unwrap()).await;
    let bus = desk.runtime.queries();
    let list = |filters: &str| bus.ask(QueryRequest::new("ListPurses", filters).unwrap());
    assert_eq!(pointers(list(r#"{"limit":0}"#).await), ["/filters/limit"]);
    assert_eq!(pointers(list(r#"{"limit":1001}"#).await), ["/filters/limit"]);
    assert_eq!(pointers(list(r#"{"cursor":"\u0000"}"#).await), ["/filters/cursor"]);
    assert!(pointers(list(r#"{"limits":1}"#).await)[0].starts_with("/filters"));
    assert_eq!(pointers(bus.ask(get("a")).await), ["/projection"], "two projections have it");
    let named = |query_type: &str, filters: &str, projection: &str| {
        let request = QueryRequest::new(query_type, filters).unwrap();
        bus.ask(QueryRequest { projection: Some(projection.to_owned()), ..request })
    };
    assert_eq!(pointers(named("GetPurse", r#"{"name":"\u0000"}"#, PROJECTION).await), ["/filters"]);
    assert_eq!(pointers(named("ListPurses", "{}", "other").await), ["/projection"]);
    let unknown = named("GetPurse", "{}", "purse").await.unwrap_err();
    assert!(matches!(unknown, QueryError::UnknownProjection { nearest, .. } if nearest == [PROJECTION]));
    let unknown = bus.ask(QueryRequest::new("GetPurses", "{}").unwrap()).await.unwrap_err();
    assert!(
        matches!(unknown, QueryError::UnknownQueryType { nearest, .. } if nearest.contains(&"GetPurse".to_owned()))
    );
    let panicked = named("GetPurse", r#"{"name":"panic"}"#, PROJECTION).await.unwrap_err();
    assert!(matches!(panicked, QueryError::Internal { .. }));
}

#[tokio::test]
async fn a_token_is_waited_for() {
    let desk = Desk::new().await;
    write(&desk.shelf, "a", 1, 1);
    let shelf = desk.shelf.clone();
    let writer = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(60)).await;
        write(&shelf, "a", 2, 2);
    });
    let answer = desk.runtime.queries().ask(get_at("a", 2, 5_000)).await.unwrap();
    assert_eq!((&answer.data[..], answer.position.0, answer.stale), (&br#"{"sum":2}"#[..], 2, false));
    writer.await.unwrap();
}

#[tokio::test]
async fn a_late_projection_is_told_or_answers_marked_as_stale() {
    let desk = Desk::new().await;
    write(&desk.shelf, "a", 1, 1);
    let late = desk.runtime.queries().ask(get_at("a", 9, 30)).await.unwrap_err();
    assert!(matches!(late, QueryError::Behind { position: Position(1), wanted: Position(9), .. }), "{late:?}");
    let lenient = QueryRequest { is_lenient: true, ..get_at("a", 9, 0) };
    let answer = desk.runtime.queries().ask(lenient).await.unwrap();
    assert!(answer.stale && answer.position.0 == 1);
}

#[tokio::test]
async fn latest_waits_for_the_head_for_a_moment_and_once_only_while_nothing_moves() {
    let limits = QueryLimits { latest_wait: Duration::from_millis(300), ..QueryLimits::default() };
    let desk = Desk::with(limits, |builder| builder).await;
    write(&desk.shelf, "a", 1, 0);
    let head = put_event(&desk).await;
    let shelf = desk.shelf.clone();
    let writer = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        write(&shelf, "a", 2, head);
    });
    let answer = desk.runtime.queries().ask(get("a")).await.unwrap();
    assert_eq!((&answer.data[..], answer.stale, answer.head_position.0), (&br#"{"sum":2}"#[..], false, head));
    writer.await.unwrap();
    let head = put_event(&desk).await;
    let answer = desk.runtime.queries().ask(get("a")).await.unwrap();
    assert!(answer.stale && answer.head_position.0 == head && answer.position.0 < head);
    let began = Instant::now();
    for _ in 0..20 {
        assert!(desk.runtime.queries().ask(get("a")).await.unwrap().stale);
    }
    assert!(began.elapsed() < Duration::from_millis(20 * 300), "each waited again");
}

#[tokio::test]
async fn eventual_does_not_wait() {
    let consistencies = BTreeMap::from([(PROJECTION.to_owned(), Consistency::Eventual)]);
    let limits = QueryLimits { consistencies, latest_wait: Duration::from_secs(600), ..QueryLimits::default() };
    let desk = Desk::with(limits, |builder| builder).await;
    write(&desk.shelf, "a", 1, 0);
    put_event(&desk).await;
    let answer = desk.runtime.queries().ask(get("a")).await.unwrap();
    assert!(!answer.stale && answer.position.0 == 0);
}

#[tokio::test]
async fn an_unrelated_write_keeps_the_hit_and_a_related_one_ends_it() {
    let desk = Desk::new().await;
    let bus = desk.runtime.queries();
    write(&desk.shelf, "a", 1, 1);
    desk.settled().await;
    assert!(!bus.ask(get("a")).await.unwrap().cached);
    assert!(bus.ask(get("a")).await.unwrap().cached);
    write(&desk.shelf, "b", 1, 2);
    desk.settled().await;
    let answer = bus.ask(get_at("a", 2, 5_000)).await.unwrap();
    assert!(answer.cached && answer.position.0 == 2, "as good as a read at position 2: {answer:?}");
    write(&desk.shelf, "a", 3, 3);
    desk.settled().await;
    let answer = bus.ask(get("a")).await.unwrap();
    assert_eq!((&answer.data[..], answer.cached), (&br#"{"sum":3}"#[..], false));
    assert_eq!((desk.counted("hit"), desk.counted("refused")), (2, 1));
}

#[tokio::test]
async fn a_token_beyond_what_a_cached_answer_rests_on_is_read() {
    let desk = Desk::new().await;
    write(&desk.shelf, "a", 1, 1);
    desk.settled().await;
    let _ = desk.runtime.queries().ask(get("a")).await.unwrap();
    // Not yet followed, but a read of another query has told how far the rows are.
    write(&desk.shelf, "a", 2, 2);
    let answer = desk.runtime.queries().ask(get_at("a", 2, 5_000)).await.unwrap();
    assert_eq!((&answer.data[..], answer.position.0), (&br#"{"sum":2}"#[..], 2));
}

#[tokio::test]
async fn an_owner_in_this_process_fences_before_its_commit() {
    let desk = Desk::new().await;
    write(&desk.shelf, "a", 1, 1);
    desk.settled().await;
    let _ = desk.runtime.queries().ask(get("a")).await.unwrap();
    assert!(desk.runtime.queries().ask(get("a")).await.unwrap().cached);
    let next = Revision(desk.shelf.lock().revision + 1);
    desk.runtime.freshness().announce(PROJECTION, &Touched::rows([key("a")].iter()), next);
    write(&desk.shelf, "a", 2, 2);
    let answer = desk.runtime.queries().ask(get("a")).await.unwrap();
    assert_eq!((&answer.data[..], answer.cached), (&br#"{"sum":2}"#[..], false));
}

#[tokio::test]
async fn rollbacks_holes_and_a_new_process_refuse_what_was_kept() {
    let desk = Desk::new().await;
    let bus = desk.runtime.queries();
    write(&desk.shelf, "a", 1, 1);
    let earlier = desk.shelf.lock().rows.clone();
    write(&desk.shelf, "a", 2, 2);
    desk.settled().await;
    let _ = bus.ask(get("a")).await.unwrap();
    desk.shelf.roll_back(earlier, 1);
    desk.settled().await;
    let answer = bus.ask(get("a")).await.unwrap();
    assert_eq!((&answer.data[..], answer.position.0, answer.cached), (&br#"{"sum":1}"#[..], 1, false));
    write(&desk.shelf, "b", 2, 2);
    desk.shelf.forget_changes();
    desk.settled().await;
    assert!(!bus.ask(get("a")).await.unwrap().cached, "the record has a hole");
    // Another process with the same cache: what it has not followed it does not believe.
    write(&desk.shelf, "b", 3, 3);
    let second =
        desk::over(&desk.shelf, QueryLimits::default()).query_cache(desk.drawer.clone()).start().await.unwrap();
    let second = Desk { shelf: desk.shelf.clone(), drawer: desk.drawer.clone(), runtime: Arc::new(second) };
    second.settled().await;
    assert!(!second.runtime.queries().ask(get("a")).await.unwrap().cached);
    assert!(second.runtime.queries().ask(get("a")).await.unwrap().cached);
}

#[tokio::test]
async fn a_view_store_that_is_silent_ends_hits_and_a_broken_cache_costs_nothing_but_reads() {
    let desk = Desk::new().await;
    let bus = desk.runtime.queries();
    write(&desk.shelf, "a", 1, 1);
    desk.settled().await;
    desk.drawer.is_broken.store(true, Ordering::Relaxed);
    assert!(!bus.ask(get("a")).await.unwrap().cached);
    assert!(desk.counted("error") >= 1);
    desk.drawer.is_broken.store(false, Ordering::Relaxed);
    assert!(bus.ask(get("a")).await.unwrap().cached);
    desk.shelf.is_down.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let error = bus.ask(get("a")).await.unwrap_err();
    assert!(matches!(error, QueryError::Store(StoreError::Unavailable { .. })));
    desk.shelf.is_down.store(false, Ordering::Relaxed);
    desk.settled().await;
    assert!(bus.ask(get("a")).await.unwrap().cached, "nothing changed meanwhile");
}

#[tokio::test]
async fn queries_for_the_same_rows_share_one_read() {
    let desk = Desk::new().await;
    write(&desk.shelf, "a", 1, 1);
    desk.settled().await;
    desk.shelf.slowness_ms.store(100, Ordering::Relaxed);
    let before = desk.shelf.reads();
    let answers = join_all((0..50).map(|_| desk.runtime.queries().ask(get("a")))).await;
    assert!(answers.into_iter().all(|answer| answer.is_ok()));
    assert_eq!(desk.shelf.reads() - before, 1);
    // One that goes away leaves the read to the next.
    desk.drawer.answers.lock().unwrap().clear();
    let bus = desk.runtime.queries().clone();
    let first = tokio::spawn(async move { bus.ask(get("a")).await });
    tokio::time::sleep(Duration::from_millis(30)).await;
    let second = tokio::spawn({
        let bus = desk.runtime.queries().clone();
        async move { bus.ask(get("a")).await }
    });
    tokio::time::sleep(Duration::from_millis(10)).await;
    first.abort();
    assert!(second.await.unwrap().is_ok());
}

#[tokio::test]
async fn queries_have_a_bound_in_number_and_in_time() {
    let limits = QueryLimits { in_flight_max: 2, deadline: Duration::from_millis(80), ..QueryLimits::default() };
    let desk = Desk::with(limits, |builder| builder).await;
    write(&desk.shelf, "a", 1, 1);
    desk.shelf.slowness_ms.store(2_000, Ordering::Relaxed);
    let answers = join_all((0..3).map(|_| desk.runtime.queries().ask(get_at("a", 0, 0)))).await;
    let (late, overloaded): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| matches!(answer, Err(QueryError::Late { .. })));
    assert_eq!((late.len(), overloaded.len()), (2, 1));
    assert!(matches!(overloaded[0], Err(QueryError::Overloaded)));
    assert_eq!(desk.runtime.queries().in_flight(), 0);
}

#[derive(Debug)]
struct Nobody;
impl QueryAuthorizer for Nobody {
    fn authorize(&self, request: &QueryRequest) -> Result<(), QueryError> {
        if request.query_type == "ListPurses" {
            return Err(QueryError::Forbidden { role: "reader".to_owned() });
        }
        Ok(())
    }
}

/// Makes every query one for `b`.
#[derive(Debug)]
struct Diverts;
impl QueryMiddleware for Diverts {
    fn handle<'a>(&'a self, request: QueryRequest, next: QueryNext<'a>) -> BoxFuture<'a, QueryResult> {
        next.run(QueryRequest { filters: get("b").filters, ..request })
    }
}

#[tokio::test]
async fn embedders_authorise_and_change_queries() {
    let desk = Desk::with(QueryLimits::default(), |builder| {
        builder.query_authorizer(Arc::new(Nobody)).query_middleware(Arc::new(Diverts))
    })
    .await;
    write(&desk.shelf, "b", 5, 1);
    let refused = desk.runtime.queries().ask(QueryRequest::new("ListPurses", "{}").unwrap()).await;
    assert!(matches!(refused, Err(QueryError::Forbidden { .. })));
    let answer = desk.runtime.queries().ask(get("a")).await.unwrap();
    assert_eq!(&answer.data[..], br#"{"sum":5}"#, "the plan follows the changed request");
}

#[tokio::test]
async fn a_query_that_does_not_wait_spares_nobody_else_the_wait() {
    let desk = Desk::new().await;
    write(&desk.shelf, "a", 1, 0);
    let head = put_event(&desk).await;
    let hasty = QueryRequest { wait: Some(Duration::ZERO), ..get("a") };
    assert!(desk.runtime.queries().ask(hasty).await.unwrap().stale);
    let shelf = desk.shelf.clone();
    let writer = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        write(&shelf, "a", 2, head);
    });
    assert!(!desk.runtime.queries().ask(get("a")).await.unwrap().stale);
    writer.await.unwrap();
}

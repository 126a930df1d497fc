//! Reads: ranges, cursors, one instant.

use super::*;

listed!(
    unknown_projection_has_no_page,
    empty_projection_has_an_empty_page,
    row_is_read_by_its_whole_key,
    lists_do_not_run_into_each_other,
    ranges_have_inclusive_ends,
    cursors_walk_a_list_in_both_directions,
    cursors_and_ends_together,
    sorts_compare_by_bytes,
    odd_selections_find_nothing,
    rows_come_in_the_order_of_the_keys,
    dump_is_ordered_and_complete,
);

fn things() -> ListRange {
    ListRange::new("things", "")
}

async fn sorts(store: &Tested, list: ListRange) -> Vec<String> {
    page(store, Selection::List(list)).await.rows.into_iter().map(|(sort, _)| sort.into()).collect()
}

/// Rows of these sorts.
fn named<S: AsRef<str>>(sorts: &[S]) -> Vec<Row> {
    sorts.iter().map(|sort| row(sort.as_ref(), "x")).collect()
}

async fn with_rows(store: &Tested, rows: Vec<Row>) -> Owner {
    let mut owner = Owner::new(store).await;
    owner.step(owner.served(puts(0, 1, rows))).await;
    owner
}

async fn unknown_projection_has_no_page(store: Tested) {
    assert_eq!(store.read("p", &Selection::List(things())).await.unwrap(), None);
    assert_eq!(store.read("p", &Selection::Row(key("a"))).await.unwrap(), None);
    assert_eq!(store.tally("p").await.unwrap(), None);
}

async fn empty_projection_has_an_empty_page(store: Tested) {
    let state = store.declare("p", 1).await.unwrap();
    for selection in [Selection::List(things()), Selection::Row(key("a"))] {
        let page = page(&store, selection).await;
        assert_eq!((page.generation, page.position, page.revision), (state.generation, Position(0), state.revision));
        assert_eq!(page.rows, []);
    }
}

async fn row_is_read_by_its_whole_key(store: Tested) {
    with_rows(&store, vec![row("a", "1"), Row { key: RowKey::new("things", "g", "a"), data: data("2") }]).await;
    assert_eq!(one(&store, "a").await, Some(data("1")));
    assert_eq!(one(&store, "A").await, None);
    let of_group = page(&store, Selection::Row(RowKey::new("things", "g", "a"))).await;
    assert_eq!(of_group.rows, [("a".into(), data("2"))]);
}

async fn lists_do_not_run_into_each_other(store: Tested) {
    let keys = [("c", "", "z"), ("things", "", "a"), ("things", "g", "a"), ("things", "gg", "a"), ("thingsg", "", "a")];
    let rows = keys.map(|(collection, group, sort)| Row { key: RowKey::new(collection, group, sort), data: data("x") });
    with_rows(&store, rows.to_vec()).await;
    for (collection, group, _) in keys {
        for direction in [Direction::Forward, Direction::Backward] {
            let list = ListRange { direction, ..ListRange::new(collection, group) };
            assert_eq!(sorts(&store, list).await.len(), 1, "{collection}/{group}");
        }
    }
}

async fn ranges_have_inclusive_ends(store: Tested) {
    with_rows(&store, named(&["a", "b", "c", "cc", "d"])).await;
    let list = ListRange { from: Some("b".into()), to: Some("c".into()), ..things() };
    assert_eq!(sorts(&store, list.clone()).await, ["b", "c"]);
    assert_eq!(sorts(&store, ListRange { direction: Direction::Backward, ..list.clone() }).await, ["c", "b"]);
    assert_eq!(sorts(&store, ListRange { from: None, ..list.clone() }).await, ["a", "b", "c"]);
    assert_eq!(sorts(&store, ListRange { to: None, ..list.clone() }).await, ["b", "c", "cc", "d"]);
    let reversed = ListRange { from: Some("c".into()), to: Some("b".into()), ..things() };
    assert!(sorts(&store, reversed).await.is_empty());
}

async fn cursors_walk_a_list_in_both_directions(store: Tested) {
    let mut all: Vec<String> = (0..25).map(|number| format!("{number:03}")).collect();
    all.insert(0, String::new());
    with_rows(&store, named(&all)).await;
    for direction in [Direction::Forward, Direction::Backward] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let list = ListRange { direction, after: after.clone(), limit: at_most(7), ..things() };
            let page = sorts(&store, list).await;
            let Some(last) = page.last() else { break };
            after = Some(last.as_str().into());
            seen.extend(page);
        }
        if direction == Direction::Backward {
            seen.reverse();
        }
        assert_eq!(seen, all, "{direction:?}");
    }
}

async fn cursors_and_ends_together(store: Tested) {
    let all = ["a", "b", "c", "d", "e"];
    with_rows(&store, named(&all)).await;
    let ends = [None, Some("a"), Some("b"), Some("bb"), Some("d"), Some("f")];
    for direction in [Direction::Forward, Direction::Backward] {
        for number in 0..ends.len().pow(3) {
            let [from, to, after] = [1, 6, 36].map(|unit| ends[number / unit % ends.len()]);
            let [from, to, after] = [from, to, after].map(|sort| sort.map(Into::into));
            let list = ListRange { from, to, after, direction, ..things() };
            let mut expected: Vec<_> = all.into_iter().filter(|sort| list.contains(sort)).collect();
            if direction == Direction::Backward {
                expected.reverse();
            }
            assert_eq!(sorts(&store, list.clone()).await, expected, "{list:?}");
        }
    }
}

async fn sorts_compare_by_bytes(store: Tested) {
    let ordered = ["", "\u{1}", "0", "A", "Z", "_", "a", "a\u{1}", "aa", "z", "ß", "日", "\u{10FFFF}"];
    with_rows(&store, named(&ordered)).await;
    assert_eq!(sorts(&store, things()).await, ordered);
    let after = ListRange { after: Some("a".into()), ..things() };
    assert_eq!(sorts(&store, after).await, ordered[7..]);
    let backward = ListRange { direction: Direction::Backward, ..things() };
    assert!(sorts(&store, backward).await.iter().eq(ordered.iter().rev()));
}

async fn odd_selections_find_nothing(store: Tested) {
    let owner = with_rows(&store, vec![row("a", "1")]).await;
    let long = "x".repeat(100_000);
    for sort in ["\0", "a\0", &long] {
        assert_eq!(one(&store, sort).await, None);
        assert_eq!(store.rows(owner.state.generation, &[key(sort), key("a")]).await.unwrap()[0], None);
    }
    assert!(sorts(&store, ListRange::new("things", "\0")).await.is_empty());
    assert_eq!(sorts(&store, ListRange { from: Some("\0".into()), ..things() }).await, ["a"]);
    assert_eq!(sorts(&store, ListRange { after: Some("a\0".into()), ..things() }).await, [""; 0]);
    assert_eq!(sorts(&store, ListRange { to: Some("a\0".into()), ..things() }).await, ["a"]);
}

async fn rows_come_in_the_order_of_the_keys(store: Tested) {
    let owner = with_rows(&store, vec![row("a", "1"), row("b", "2"), row("c", "3")]).await;
    let keys = ["c", "missing", "a", "c"].map(key);
    let found = store.rows(owner.state.generation, &keys).await.unwrap();
    assert_eq!(found, [Some(data("3")), None, Some(data("1")), Some(data("3"))]);
    assert_eq!(store.rows(owner.state.generation, &[]).await.unwrap(), [None; 0]);
    let other = Generation(owner.state.generation.0 + 1);
    assert_eq!(store.rows(other, &keys).await.unwrap(), [None, None, None, None]);
}

async fn dump_is_ordered_and_complete(store: Tested) {
    let mut rows: Vec<Row> = Vec::new();
    for (collection, group) in [("a", ""), ("a", "g"), ("b", ""), ("ü", "")] {
        let keys = (0..5).map(|number| RowKey::new(collection, group, format!("{number}")));
        rows.extend(keys.map(|key| Row { key, data: data("x") }));
    }
    let mixed: Vec<Row> = rows.iter().rev().cloned().collect();
    let owner = with_rows(&store, mixed).await;
    for limit in [1, 3, 7, 20, 100] {
        let mut seen: Vec<Row> = Vec::new();
        loop {
            let after = seen.last().map(|row| row.key.clone());
            let page = store.dump(owner.state.generation, after.as_ref(), at_most(limit)).await.unwrap();
            if page.is_empty() {
                break;
            }
            seen.extend(page);
        }
        assert_eq!(seen, rows, "pages of {limit}");
    }
}

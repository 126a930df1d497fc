//! Steps of an owner: what is tested, what is stored.

use super::*;
use crate::ports::{Fault, StoreError};

listed!(
    step_stores_rows_and_checkpoint,
    puts_replace_and_deletes_remove,
    row_comes_back_byte_for_byte,
    thousands_of_rows_in_one_step,
    step_of_another_owner_is_lost,
    step_of_another_epoch_is_lost,
    step_of_another_generation_is_lost,
    step_from_another_position_is_lost,
    step_of_an_unknown_projection_is_lost,
    half_a_step_is_lost_whole,
    nothing_touched_raises_no_revision,
    something_touched_raises_the_revision_by_one,
    repeated_step_is_lost,
    malformed_step_is_refused,
    stopping_keeps_the_fault,
    projections_do_not_meet,
);

async fn step_stores_rows_and_checkpoint(store: Tested) {
    let mut owner = Owner::new(&store).await;
    let state = owner.step(owner.served(puts(0, 7, vec![row("a", "1"), row("b", "2")]))).await.clone();
    assert_eq!(state.checkpoint, checkpoint(7));
    let page = page(&store, Selection::List(ListRange::new("things", ""))).await;
    assert_eq!((page.generation, page.position, page.revision), (state.generation, Position(7), state.revision));
    assert_eq!(page.rows, [("a".into(), data("1")), ("b".into(), data("2"))]);
}

async fn puts_replace_and_deletes_remove(store: Tested) {
    let mut owner = Owner::new(&store).await;
    owner.step(owner.served(puts(0, 1, vec![row("a", "1"), row("b", "1"), row("c", "1")]))).await;
    let step = Move { deletes: vec![key("a"), key("missing")], ..puts(1, 2, vec![row("b", "2"), row("d", "2")]) };
    owner.step(owner.served(step)).await;
    let rows = store.dump(owner.state.generation, None, at_most(10)).await.unwrap();
    assert_eq!(rows, [row("b", "2"), row("c", "1"), row("d", "2")]);
}

async fn row_comes_back_byte_for_byte(store: Tested) {
    let mut owner = Owner::new(&store).await;
    let odd = Row {
        key: RowKey::new("odd", "日本/ü \"'", "\u{1}\u{10FFFF}\n"),
        data: r#"{ "z":1,  "a":"\u0000 日本 \ud83d\ude00", "n":1.50e3 }"#.into(),
    };
    let empty = Row { key: RowKey::new("odd", "", ""), data: "{}".into() };
    let long = Row {
        key: RowKey::new("odd", "g".repeat(crate::view::KEY_BYTES_MAX), "s".repeat(crate::view::KEY_BYTES_MAX)),
        data: format!(r#"{{"text":"{}"}}"#, "x".repeat(500_000)).into(),
    };
    let rows = vec![empty, long, odd];
    owner.step(owner.served(puts(0, 1, rows.clone()))).await;
    assert_eq!(store.dump(owner.state.generation, None, at_most(10)).await.unwrap(), rows);
    for row in rows {
        let page = page(&store, Selection::Row(row.key.clone())).await;
        assert_eq!(page.rows, [(row.key.sort, row.data)]);
    }
}

async fn thousands_of_rows_in_one_step(store: Tested) {
    let mut owner = Owner::new(&store).await;
    let rows: Vec<Row> = (0..3_000).map(|number| row(&format!("{number:05}"), "x")).collect();
    let keys: Vec<RowKey> = rows.iter().map(|row| row.key.clone()).collect();
    owner.step(owner.served(puts(0, 1, rows))).await;
    let generation = owner.state.generation;
    let loaded = store.rows(generation, &keys).await.unwrap();
    assert!(loaded.len() == 3_000 && loaded.iter().all(Option::is_some));
    let step = Move { deletes: keys.clone(), ..puts(1, 2, Vec::new()) };
    owner.step(owner.served(step)).await;
    assert!(store.rows(generation, &keys).await.unwrap().iter().all(Option::is_none));
}

async fn step_of_another_owner_is_lost(store: Tested) {
    let owner = Owner::new(&store).await;
    let step = owner.served(puts(0, 1, vec![row("a", "1")]));
    owner.lose(ViewCommit { owner: Uuid::now_v7(), ..step }).await;
}

async fn step_of_another_epoch_is_lost(store: Tested) {
    let owner = Owner::new(&store).await;
    let step = owner.served(puts(0, 1, vec![row("a", "1")]));
    owner.lose(ViewCommit { epoch: owner.state.epoch + 1, ..step.clone() }).await;
    owner.lose(ViewCommit { epoch: owner.state.epoch - 1, ..step }).await;
}

async fn step_of_another_generation_is_lost(store: Tested) {
    let mut owner = Owner::new(&store).await;
    let step = puts(0, 1, vec![row("a", "1")]);
    let other = Generation(owner.state.generation.0 + 1);
    owner.lose(ViewCommit { served: Some((other, step.clone())), ..owner.idle() }).await;
    owner.lose(ViewCommit { shadow: Some((other, step.clone())), ..owner.idle() }).await;
    owner.rebuild(1).await;
    owner.lose(ViewCommit { shadow: Some((owner.state.generation, step)), ..owner.idle() }).await;
}

async fn step_from_another_position_is_lost(store: Tested) {
    let mut owner = Owner::new(&store).await;
    owner.put("a", "1").await;
    for from in [0, 2] {
        owner.lose(owner.served(puts(from, 3, vec![row("a", "2")]))).await;
    }
    owner.rebuild(1).await;
    owner.lose(owner.shadow(puts(1, 3, vec![row("a", "2")]))).await;
}

async fn step_of_an_unknown_projection_is_lost(store: Tested) {
    let owner = Owner::new(&store).await;
    owner.lose(ViewCommit { projection: "q".to_owned(), ..owner.served(puts(0, 1, Vec::new())) }).await;
}

async fn half_a_step_is_lost_whole(store: Tested) {
    let mut owner = Owner::new(&store).await;
    owner.rebuild(1).await;
    let (good, bad) = (puts(0, 1, vec![row("a", "1")]), puts(5, 6, vec![row("b", "1")]));
    owner.lose(owner.both(good.clone(), bad.clone())).await;
    owner.lose(owner.both(bad, good)).await;
}

async fn nothing_touched_raises_no_revision(store: Tested) {
    let mut owner = Owner::new(&store).await;
    let before = owner.state.revision;
    assert_eq!(owner.step(owner.served(puts(0, 9, Vec::new()))).await.revision, before);
    assert_eq!(owner.state.checkpoint, checkpoint(9));
}

async fn something_touched_raises_the_revision_by_one(store: Tested) {
    let mut owner = Owner::new(&store).await;
    let before = owner.state.revision.0;
    assert_eq!(owner.put("a", "1").await.revision.0, before + 1);
    let everything = ViewCommit { touched: Touched::Everything, ..owner.served(puts(1, 2, Vec::new())) };
    assert_eq!(owner.step(everything).await.revision.0, before + 2);
}

async fn repeated_step_is_lost(store: Tested) {
    let mut owner = Owner::new(&store).await;
    let step = owner.served(puts(0, 1, vec![row("a", "1")]));
    owner.step(step.clone()).await;
    owner.lose(step).await;
}

async fn malformed_step_is_refused(store: Tested) {
    let owner = Owner::new(&store).await;
    let long = "x".repeat(crate::view::KEY_BYTES_MAX + 1);
    let text = |bytes: &'static [u8]| Row { key: key("a"), data: Bytes::from_static(bytes) };
    for rows in [
        vec![row("a\0", "1")],
        vec![row(&long, "1")],
        vec![row("a", "1"), row("a", "2")],
        vec![text(b"{\"a\":\"\0\"}")],
        vec![text(b"{\"a\":\"\xff\"}")],
    ] {
        let refused = store.commit(owner.served(puts(0, 1, rows))).await;
        assert!(matches!(refused, Err(StoreError::Refused { .. })), "{refused:?}");
    }
    assert_eq!(owner.stored().await.unwrap(), owner.state);
}

async fn stopping_keeps_the_fault(store: Tested) {
    let mut owner = Owner::new(&store).await;
    let at = chrono::DateTime::from_timestamp(1_700_000_000, 0).unwrap();
    let fault = Fault { reason: "the log went back: rebuild".to_owned(), position: Position(5), at };
    owner.step(owner.with(Transition::Stop(fault.clone()))).await;
    assert_eq!(owner.stored().await.unwrap().fault, Some(fault));
    assert_eq!(owner.control(Control::Resume).await.fault, None);
}

async fn projections_do_not_meet(store: Tested) {
    let (mut p, mut q) = (Owner::new(&store).await, Owner::of(&store, "q").await);
    p.put("a", "of p").await;
    q.put("a", "of q").await;
    q.put("b", "of q").await;
    assert_eq!(one(&store, "a").await, Some(data("of p")));
    assert_eq!(one(&store, "b").await, None);
    assert_eq!(p.stored().await.unwrap(), p.state);
}

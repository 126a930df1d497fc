//! Many at once: owners that race, readers beside a writer, operators beside an owner.

use super::*;

listed!(
    two_owners_racing_make_one_chain,
    reader_sees_rows_position_and_revision_of_one_instant,
    cancel_beside_a_busy_owner_is_never_half,
);

/// The counter's next value: what a step writes depends on what it read, so a double step would show.
async fn count_once(owner: &Owner) -> ViewOutcome {
    let at = owner.state.checkpoint.position.0;
    let before = owner.store.rows(owner.state.generation, &[key("count")]).await.unwrap().remove(0);
    let before: u64 = before.map_or(0, |data| std::str::from_utf8(&data).unwrap().parse().unwrap());
    let count = Row { key: key("count"), data: (before + 1).to_string().into() };
    let mark = row(&format!("{:05}", at + 1), "mark");
    owner.store.commit(owner.served(puts(at, at + 1, vec![count, mark]))).await.unwrap()
}

async fn two_owners_racing_make_one_chain(store: Tested) {
    const STEPS: u64 = 200;
    let first = Owner::new(&store).await;
    // Both believe to be the owner, as after a pause that nobody noticed.
    let racers = [0, 1].map(|_| {
        let mut racer = Owner { store: store.clone(), id: first.id, state: first.state.clone() };
        tokio::spawn(async move {
            let mut won = 0;
            while racer.state.checkpoint.position.0 < STEPS {
                match count_once(&racer).await {
                    ViewOutcome::Committed(state) => {
                        racer.state = *state;
                        won += 1;
                    }
                    ViewOutcome::Lost => racer.state = racer.stored().await.unwrap(),
                }
            }
            won
        })
    });
    let mut won = 0;
    for racer in racers {
        won += racer.await.unwrap();
    }
    assert_eq!(won, STEPS, "each step was won once");
    assert_eq!(one(&store, "count").await.unwrap(), STEPS.to_string());
    let state = first.stored().await.unwrap();
    assert_eq!(state.revision.0, first.state.revision.0 + STEPS);
    let news = store.changes(&[("p".to_owned(), first.state.revision)]).await.unwrap().remove(0);
    assert_eq!(news.changes.unwrap().len() as u64, STEPS);
}

async fn reader_sees_rows_position_and_revision_of_one_instant(store: Tested) {
    let mut writer = Owner::new(&store).await;
    let start = writer.state.revision.0;
    let writing = tokio::spawn(async move {
        for at in 0..150_u64 {
            let rows = ["a", "b", "c"].map(|sort| Row { key: key(sort), data: (at + 1).to_string().into() });
            writer.step(writer.served(puts(at, at + 1, rows.to_vec()))).await;
        }
    });
    while !writing.is_finished() {
        let page = page(&store, Selection::List(ListRange::new("things", ""))).await;
        assert_eq!(page.revision.0, start + page.position.0, "revision and position are of one instant");
        let expected: Bytes = page.position.0.to_string().into();
        assert!(page.rows.iter().all(|(_, data)| *data == expected), "{page:?}");
        tokio::task::yield_now().await;
    }
    writing.await.unwrap();
}

async fn cancel_beside_a_busy_owner_is_never_half(store: Tested) {
    let mut owner = Owner::new(&store).await;
    for round in 0..5 {
        let operation = owner.rebuild(1).await;
        let (generation, mut busy) = (owner.state.shadow.unwrap().generation, owner.state.clone());
        let (tested, id) = (store.clone(), owner.id);
        let filling = tokio::spawn(async move {
            for at in 0.. {
                let writer = Owner { store: tested.clone(), id, state: busy.clone() };
                let step = writer.shadow(puts(at, at + 1, vec![row(&format!("{at:05}"), "x")]));
                match tested.commit(step).await.unwrap() {
                    ViewOutcome::Committed(state) => busy = *state,
                    ViewOutcome::Lost => return at,
                }
            }
            unreachable!("the cancel ends it")
        });
        tokio::time::sleep(Duration::from_millis(round * 3)).await;
        owner.control(Control::Cancel { operation }).await;
        let stored = filling.await.unwrap();
        let rows = store.dump(generation, None, at_most(100_000)).await.unwrap();
        assert_eq!(rows.len() as u64, stored, "a lost step left nothing, a stored one is whole");
    }
}

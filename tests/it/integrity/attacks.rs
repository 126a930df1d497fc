//! Bit flips, swaps, deletes, forged inserts, re-hashed suffixes and cut tails, made behind the server's back: each is
//! found, at the right first position, and nothing is found where nothing was done.
//!
//! `INTEGRITY_ATTACKS=full` makes 10,000 flips and 5,000 of each other kind; otherwise a few hundred.

use std::ops::Range;

use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use super::forger::{Row, Victim, rehash};

fn is_full() -> bool {
    match std::env::var("INTEGRITY_ATTACKS").as_deref() {
        Ok("full") => true,
        Ok(other) => panic!("INTEGRITY_ATTACKS is {other:?}; it can only be \"full\""),
        Err(_) => false,
    }
}

/// How many bit flips, and how many of each other kind.
fn counts() -> (usize, usize) {
    if is_full() { (10_000, 5_000) } else { (400, 200) }
}

/// Where an attack should be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    At(i64),
    /// By checkpoints alone: somewhere in a range that holds this position.
    Around(i64),
}

struct Attack {
    rows: Vec<Row>,
    has_tree: bool,
    expected: Expected,
}

fn attack(rows: Vec<Row>, at: i64) -> Attack {
    Attack { rows, has_tree: false, expected: Expected::At(at) }
}

type Make = fn(&[Row], &mut StdRng) -> Attack;

/// A position, as an index.
fn any(rows: &[Row], random: &mut StdRng) -> usize {
    random.random_range(0..rows.len())
}

fn position(index: usize) -> i64 {
    i64::try_from(index).unwrap() + 1
}

fn flip_bytes(bytes: &mut [u8], random: &mut StdRng) {
    let bit = random.random_range(0..bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
}

/// One bit of one column.
fn bit_flip(good: &[Row], random: &mut StdRng) -> Attack {
    let mut rows = good.to_vec();
    let index = any(good, random);
    let (row, bit) = (&mut rows[index], 1_i64 << random.random_range(0..64));
    let mut expected = position(index);
    match random.random_range(0..13) {
        0 => row.partition ^= 1 << random.random_range(0..15),
        1 => {
            row.position ^= bit;
            // A row before the log is the first that is wrong; one beyond it leaves a hole where it was.
            expected = row.position.clamp(0, expected);
        }
        2 => flip_bytes(&mut row.aggregate_id, random),
        3 => flip_bytes(&mut row.aggregate_type, random),
        4 => row.sequence ^= bit,
        5 => flip_bytes(&mut row.event_id, random),
        6 => flip_bytes(&mut row.event_type, random),
        7 => row.schema_version ^= bit,
        8 => flip_bytes(&mut row.data, random),
        9 => flip_bytes(&mut row.metadata, random),
        10 => row.recorded_at ^= bit,
        11 => flip_bytes(&mut row.checksum, random),
        _ => flip_bytes(&mut row.chain, random),
    }
    rows.sort_by_key(|row| row.position);
    attack(rows, expected)
}

/// Two events in each other's places.
fn swap(good: &[Row], random: &mut StdRng) -> Attack {
    let mut rows = good.to_vec();
    let (first, second) = (random.random_range(0..good.len() - 1), any(good, random));
    let (first, second) = if first == second { (first, first + 1) } else { (first.min(second), first.max(second)) };
    let is_whole = random.random_bool(0.5);
    rows.swap(first, second);
    if is_whole {
        (rows[first].position, rows[second].position) = (position(first), position(second));
    } else {
        // Only what happened, not when and where.
        let (a, b) = (good[first].clone(), good[second].clone());
        rows[first] = Row { data: b.data, event_type: b.event_type, ..a.clone() };
        rows[second] = Row { data: a.data, event_type: a.event_type, ..good[second].clone() };
        if rows[first] == good[first] {
            rows[first].metadata.clone_from(&good[second].metadata);
            rows[second].metadata.clone_from(&good[first].metadata);
        }
    }
    attack(rows, position(first))
}

/// Events out of the middle, with or without closing the gap.
fn middle_delete(good: &[Row], random: &mut StdRng) -> Attack {
    let first = random.random_range(0..good.len() - 1);
    let count = random.random_range(1..=3.min(good.len() - 1 - first));
    let mut rows = good.to_vec();
    rows.drain(first..first + count);
    if random.random_bool(0.5) {
        for (index, row) in rows.iter_mut().enumerate() {
            row.position = position(index);
        }
    }
    attack(rows, position(first))
}

/// An event that looks right by itself, in between; or before the first.
fn forged_insert(good: &[Row], random: &mut StdRng) -> Attack {
    let index = any(good, random);
    let mut forged = good[index].clone();
    forged.event_id = random.random::<[u8; 16]>().to_vec();
    forged.aggregate_id = b"forged".to_vec();
    forged.sequence = 1;
    let mut rows = good.to_vec();
    let is_before = random.random_bool(0.1);
    if is_before {
        forged.position = -random.random_range(0..1_000);
        rows.insert(0, forged);
    } else {
        rows.insert(index, forged);
        for (index, row) in rows.iter_mut().enumerate() {
            row.position = position(index);
        }
    }
    rehash(&mut rows);
    attack(rows, if is_before { 0 } else { position(index) })
}

/// Another past, with every checksum and chain after it made right; half of the time the stored tree too.
fn rehashed_suffix(good: &[Row], random: &mut StdRng) -> Attack {
    let index = any(good, random);
    let mut rows = good.to_vec();
    rows[index].data = format!(r#"{{"amount":{}}}"#, random.random_range(1_000..1_000_000)).into_bytes();
    rehash(&mut rows);
    let has_tree = random.random_bool(0.5);
    let at = position(index);
    Attack { rows, has_tree, expected: if has_tree { Expected::Around(at) } else { Expected::At(at) } }
}

/// The last events gone; half of the time from the stored tree too.
fn cut_tail(good: &[Row], random: &mut StdRng) -> Attack {
    let left = random.random_range(0..good.len());
    Attack { rows: good[..left].to_vec(), has_tree: random.random_bool(0.5), expected: Expected::At(position(left)) }
}

fn is_found(expected: Expected, found: Range<u64>) -> bool {
    match expected {
        Expected::At(position) => found == (position.cast_unsigned()..position.cast_unsigned() + 1),
        Expected::Around(position) => found.contains(&position.cast_unsigned()),
    }
}

async fn attacked(victim: &mut Victim, name: &str, make: Make, count: usize) {
    let mut random = StdRng::seed_from_u64(0x6962);
    // Beside each safeguard what it is better than: checksums and chains alone.
    let is_control = name == "cut tail";
    let (mut done, mut refused, mut missed_by_chains, mut widest) = (0, 0, 0, 0);
    while done < count {
        let attack = make(&victim.good, &mut random);
        if attack.rows == victim.good {
            continue;
        }
        if !victim.write(&attack.rows).await {
            // The database takes no such row: invalid text, a place that is taken.
            refused += 1;
            assert!(refused < 100 * count, "{name}: nothing is taken");
            continue;
        }
        if attack.has_tree {
            victim.rebuild_tree(&attack.rows).await;
        }
        done += 1;
        let report = victim.verify().await;
        let bad = report.first_bad.clone().unwrap_or_else(|| panic!("{} {name} {done}: not found", victim.name));
        let range = bad.position..bad.to_position.unwrap_or(bad.position) + 1;
        widest = widest.max(range.end - range.start);
        assert!(is_found(attack.expected, range), "{} {name} {done}: {:?}, {bad:?}", victim.name, attack.expected);
        if is_control || is_full() {
            missed_by_chains += usize::from(victim.verify_chains_only().await.intact);
        }
        victim.restore().await;
        if done % 50 == 0 {
            let clean = victim.verify().await;
            assert!(clean.intact, "a false alarm: {clean:?}");
        }
    }
    let control =
        if is_control || is_full() { format!("; chains alone miss {missed_by_chains}") } else { String::new() };
    println!(
        "{} {name}: {done} of {done} found at the right first position ({refused} refused by the database; widest range \
         {widest}){control}",
        victim.name
    );
    assert!(!is_control || missed_by_chains == done, "chains alone cannot know where a log ended");
}

async fn all_attacks(mut victim: Victim) {
    let clean = victim.verify().await;
    assert!(clean.intact && clean.checkpoint_position == Some(victim.head().cast_unsigned()), "{clean:?}");
    assert!(victim.checkpoints().len() > 3, "several checkpoints narrow down");
    let (flips, others) = counts();
    let kinds: [(&str, Make, usize); 6] = [
        ("bit flip", bit_flip, flips),
        ("swap", swap, others),
        ("middle delete", middle_delete, others),
        ("forged insert", forged_insert, others),
        ("re-hashed suffix", rehashed_suffix, others),
        ("cut tail", cut_tail, others),
    ];
    for (name, make, count) in kinds {
        attacked(&mut victim, name, make, count).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attack_on_sqlite_is_found_at_its_first_position() {
    all_attacks(Victim::sqlite().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attack_on_postgres_is_found_at_its_first_position() {
    let Some(victim) = Victim::postgres().await else { return };
    all_attacks(victim).await;
}

/// Whoever alters only the tree has altered no event, and is found all the same.
#[tokio::test(flavor = "multi_thread")]
async fn altered_tree_is_found_and_told_from_altered_events() {
    let mut victim = Victim::sqlite().await;
    let mut random = StdRng::seed_from_u64(1);
    let tiles = victim.store.tiles(&event_sourcing_cqrs::integrity::tiles::Frontier::tiles_of(300)).await.unwrap();
    let tile = tiles.choose(&mut random).unwrap();
    let mut bytes = tile.to_bytes();
    flip_bytes(&mut bytes, &mut random);
    let (level, index) = (tile.id.level, tile.id.index);
    let hashes = hex::encode(bytes);
    let statement = format!("UPDATE merkle_tiles SET hashes = x'{hashes}' WHERE level = {level} AND tile = {index}");
    victim.execute(&statement).await;
    let report = victim.verify().await;
    let bad = report.first_bad.expect("found");
    assert_eq!(bad.reason, "the stored tree was altered; the event is the one that was signed");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_checkpoint_from_outside_a_cut_tail_is_not_found_and_that_is_said() {
    let mut victim = Victim::sqlite().await;
    let rows = victim.good[..200].to_vec();
    victim.write(&rows).await;
    victim.rebuild_tree(&rows).await;
    let report = victim.verify_against(Default::default()).await;
    assert!(report.intact, "{report:?}");
    assert!(report.remarks.iter().any(|remark| remark.contains("a cut tail cannot be excluded")), "{report:?}");
    assert!(!victim.verify().await.intact);
}

#[tokio::test(flavor = "multi_thread")]
async fn verification_from_a_checkpoint_reads_what_came_after_it() {
    let mut victim = Victim::sqlite().await;
    let from = victim.checkpoints()[1].clone();
    let size = from.checkpoint.head.size;
    let wanted = event_sourcing_cqrs::integrity::Wanted {
        outside: victim.checkpoints().to_vec(),
        from: Some(from),
        ..Default::default()
    };
    let clean = victim.verify_against(wanted.clone()).await;
    assert!(clean.intact && clean.from_position == size + 1 && clean.verified_position == 300, "{clean:?}");
    let mut rows = victim.good.clone();
    rows[299].data = b"{}".to_vec();
    victim.write(&rows).await;
    let after = victim.verify_against(wanted.clone()).await;
    assert_eq!(after.first_bad.unwrap().position, 300);
    // What came before is proven by the stored tree only, as long as nobody reads it.
    let mut rows = victim.good.clone();
    rows[0].data = b"{}".to_vec();
    rehash(&mut rows);
    victim.write(&rows).await;
    victim.rebuild_tree(&rows).await;
    let before = victim.verify_against(wanted).await.first_bad.unwrap();
    assert_eq!((before.position, before.to_position), (1, Some(size)));
}

//! Which snapshots of a stream are kept: one rule, as a pure function, for every store.
//!
//! Near the head all are kept; the further back, the fewer: at a distance of `d` events about one in `d / 4`, and never
//! fewer than one in [`SNAPSHOT_GAP_EVENTS_MAX`]. A stream of 1,000,000 events with a snapshot every 100 keeps about 270
//! of its 10,000, and no state is further from a snapshot than its own distance from the head, or two such gaps.

use crate::version::Sequence;

/// Among the oldest snapshots one is kept in so many events: folding that many takes milliseconds, and one small row beside
/// so many costs nothing.
pub const SNAPSHOT_GAP_EVENTS_MAX: u64 = 1 << 12;

/// Snapshots kept from one doubling of the distance to the next.
const PER_OCTAVE: u64 = 4;

/// The width of the cells at a distance from the newest snapshot, of which each keeps one: a power of two, so that the
/// cells of one width lie whole in those of the next.
fn cell_events(distance: u64) -> u64 {
    let width = (distance / PER_OCTAVE).clamp(1, SNAPSHOT_GAP_EVENTS_MAX);
    1 << width.ilog2()
}

/// The snapshots to remove, given all of a stream in ascending order: of each cell the oldest stays. The newest snapshot
/// always stays; an older one that comes late pushes out no newer one but those of its own cell.
#[must_use]
pub fn superfluous(ascending: &[Sequence]) -> Vec<Sequence> {
    let Some(newest) = ascending.last() else { return Vec::new() };
    let mut kept: Option<Sequence> = None;
    let mut gone = Vec::new();
    for snapshot in ascending {
        let cell = cell_events(newest.0 - snapshot.0);
        if kept.is_some_and(|kept| kept.0 / cell == snapshot.0 / cell) {
            gone.push(*snapshot);
        } else {
            kept = Some(*snapshot);
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is left after saving one snapshot after the other.
    fn after(saves: impl IntoIterator<Item = u64>) -> Vec<Sequence> {
        let mut kept: Vec<Sequence> = Vec::new();
        for sequence in saves {
            let at = kept.partition_point(|known| known.0 < sequence);
            if kept.get(at) != Some(&Sequence(sequence)) {
                kept.insert(at, Sequence(sequence));
            }
            let gone = superfluous(&kept);
            kept.retain(|one| !gone.contains(one));
        }
        kept
    }

    #[test]
    fn a_million_events_keep_few_snapshots_and_no_state_is_far_from_one() {
        for (head, frequency) in [(1_000_000, 100), (1_000_000, 37), (300_000, 5_000), (20_000, 1), (150_000, 20_000)] {
            let kept = after((1..=head / frequency).map(|number| number * frequency));
            assert!(
                kept.len() as u64 <= 60 + head / SNAPSHOT_GAP_EVENTS_MAX,
                "{} of {head} by {frequency}",
                kept.len()
            );
            let newest = kept.last().unwrap().0;
            assert_eq!(newest, head / frequency * frequency);
            for target in (frequency..=head).step_by(13) {
                let below = kept[..kept.partition_point(|one| one.0 <= target)].last().expect("the first one stays");
                let (away, from_head) = (target - below.0, newest.saturating_sub(target));
                assert!(away <= from_head + 2 * frequency, "{target} of {head}: {away} from {below}");
                assert!(away <= 2 * SNAPSHOT_GAP_EVENTS_MAX + frequency, "{target} of {head}: {away} from {below}");
            }
        }
    }

    #[test]
    fn all_near_the_head_are_kept() {
        assert_eq!(after([1, 2, 3, 4, 5]), [1, 2, 3, 4, 5].map(Sequence));
        assert_eq!(after((1..=8).map(|number| number * 100)), [1, 2, 3, 4, 5, 6, 7, 8].map(|n| Sequence(n * 100)));
        assert_eq!(superfluous(&[]), []);
    }

    #[test]
    fn an_older_one_that_comes_late_pushes_out_no_newer_one_of_another_cell() {
        let kept = after([100, 200, 300, 50, 150]);
        assert_eq!(kept, [50, 100, 150, 200, 300].map(Sequence));
        let late = after((1..=10_000).map(|number| number * 100).chain([SNAPSHOT_GAP_EVENTS_MAX]));
        assert!(late.contains(&Sequence(SNAPSHOT_GAP_EVENTS_MAX)), "the oldest of a cell stays");
        assert!(!late.contains(&Sequence(4_100)), "and the one after it goes");
    }
}

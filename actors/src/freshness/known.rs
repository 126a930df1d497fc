//! What is known of one projection: how far it is, and which answers made of its rows may still be served.

use std::collections::HashMap;

use tokio::{sync::watch, time::Instant};

use super::{FENCES_MAX, Progress, Standing};
use crate::{
    ports::{Revision, ViewChanges},
    view::{Tag, Touched},
};

/// What the store said last.
#[derive(Debug, Clone, Copy)]
struct Confirmed {
    progress: Progress,
    /// The instant before the store was asked.
    at: Instant,
}

/// From which revision on answers with a tag may be served.
#[derive(Debug, Clone, Copy)]
struct Fence {
    revision: Revision,
    raised_at: Instant,
}

#[derive(Debug, Default)]
pub(super) struct Known {
    /// Wakes those who wait; never what an answer is judged by.
    pub progress: watch::Sender<Progress>,
    fences: HashMap<Tag, Fence>,
    /// Answers made before this revision are not served, whatever their tag.
    floor: Revision,
    confirmed: Option<Confirmed>,
    /// Where it stood when somebody waited for the head in vain.
    pub stuck_at: Option<Progress>,
}

impl Known {
    /// What the store was asked about last, if it was asked.
    pub fn confirmed_revision(&self) -> Option<Revision> {
        self.confirmed.map(|confirmed| confirmed.progress.revision)
    }

    pub fn is_confirmed(&self, now: Instant, age_max: std::time::Duration) -> bool {
        self.confirmed.is_some_and(|confirmed| now.saturating_duration_since(confirmed.at) <= age_max)
    }

    /// Whether an answer made of rows of this revision and position is as good as the rows that were confirmed.
    pub fn judge(&self, tag: Tag, made_of: Progress) -> Standing {
        let Some(Confirmed { progress: confirmed, .. }) = self.confirmed else { return Standing::Unconfirmed };
        let fence = self.fences.get(&tag).map_or(self.floor, |fence| fence.revision.max(self.floor));
        // One that nobody here has heard of may be of a history that a restored backup has undone.
        let highest = confirmed.revision.max(self.progress.borrow().revision);
        if made_of.revision < fence || made_of.revision > highest {
            return Standing::Refused;
        }
        // A younger answer says nothing of what happened between: a rollback leads to lower positions.
        let is_older = made_of.revision <= confirmed.revision;
        Standing::Good(if is_older { made_of.position.max(confirmed.position) } else { made_of.position })
    }

    /// Raises what is touched.
    pub fn raise(&mut self, touched: &Touched, revision: Revision, now: Instant) {
        match touched {
            Touched::Everything => self.raise_floor(revision),
            Touched::Tags(_) if revision <= self.floor => {}
            Touched::Tags(tags) => {
                for tag in tags {
                    let fence = self.fences.entry(*tag).or_insert(Fence { revision, raised_at: now });
                    if revision > fence.revision {
                        *fence = Fence { revision, raised_at: now };
                    }
                }
                if self.fences.len() > FENCES_MAX {
                    self.drop_older_half();
                }
            }
        }
    }

    /// Takes what the store said, asked at `before` for everything since [`Known::confirmed_revision`].
    pub fn confirm(&mut self, said: &ViewChanges, before: Instant) {
        let now = Progress { position: said.position, revision: said.revision };
        match (self.confirmed_revision(), &said.changes) {
            (Some(last), _) if now.revision < last => {
                // Commits were undone. What was made of them must never be met by new commits of the same number.
                let highest = self.progress.borrow().revision.max(last);
                self.raise_floor(Revision(highest.0.saturating_add(1)));
                self.progress.send_replace(now);
            }
            (Some(_), Some(changes)) => {
                for (revision, touched) in changes {
                    self.raise(touched, *revision, before);
                }
            }
            (None, _) | (Some(_), None) => self.raise_floor(now.revision),
        }
        self.confirmed = Some(Confirmed { progress: now, at: before });
        self.note(now);
    }

    /// Something was heard of its progress.
    pub fn note(&mut self, heard: Progress) {
        // At one revision the rows are the same ones, so the confirmed ones have applied this too.
        if let Some(confirmed) = &mut self.confirmed
            && confirmed.progress.revision == heard.revision
        {
            confirmed.progress.position = confirmed.progress.position.max(heard.position);
        }
        self.progress.send_if_modified(|known| {
            let is_news = (heard.revision, heard.position) > (known.revision, known.position);
            if is_news {
                *known = heard;
            }
            is_news
        });
    }

    /// Drops fences raised before an instant; the floor stands for them.
    pub fn forget(&mut self, before: Instant) {
        let mut floor = self.floor;
        self.fences.retain(|_, fence| {
            let stays = fence.raised_at >= before;
            if !stays {
                floor = floor.max(fence.revision);
            }
            stays
        });
        self.raise_floor(floor);
    }

    #[cfg(test)]
    pub fn fences(&self) -> usize {
        self.fences.len()
    }

    fn raise_floor(&mut self, to: Revision) {
        if to > self.floor {
            self.floor = to;
            self.fences.retain(|_, fence| fence.revision > to);
        }
    }

    /// Each half is many fences, so the work is spread over as many commits.
    fn drop_older_half(&mut self) {
        let mut revisions: Vec<Revision> = self.fences.values().map(|fence| fence.revision).collect();
        let middle = revisions.len() / 2;
        let (_, median, _) = revisions.select_nth_unstable(middle);
        let median = *median;
        self.raise_floor(median);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::version::Position;

    fn tags(numbers: std::ops::Range<u64>) -> Touched {
        Touched::Tags(numbers.map(Tag).collect())
    }

    fn said(revision: u64, position: u64, changes: Option<Vec<(u64, Touched)>>) -> ViewChanges {
        let changes = changes.map(|all| all.into_iter().map(|(revision, it)| (Revision(revision), it)).collect());
        ViewChanges { projection: String::new(), position: Position(position), revision: Revision(revision), changes }
    }

    fn made_of(revision: u64, position: u64) -> Progress {
        Progress { position: Position(position), revision: Revision(revision) }
    }

    /// Stands at revision 10 and position 100.
    fn known() -> Known {
        let mut known = Known::default();
        known.confirm(&said(10, 100, None), Instant::now());
        known
    }

    #[test]
    fn nothing_older_than_the_start_is_served() {
        assert_eq!(Known::default().judge(Tag(1), made_of(10, 100)), Standing::Unconfirmed);
        assert_eq!(known().judge(Tag(1), made_of(9, 99)), Standing::Refused);
        assert_eq!(known().judge(Tag(1), made_of(10, 100)), Standing::Good(Position(100)));
    }

    #[test]
    fn an_unrelated_write_costs_no_hit_and_raises_what_the_answer_rests_on() {
        let mut known = known();
        known.confirm(&said(12, 120, Some(vec![(11, tags(2..3)), (12, tags(3..4))])), Instant::now());
        assert_eq!(known.judge(Tag(1), made_of(10, 100)), Standing::Good(Position(120)));
        assert_eq!(known.judge(Tag(2), made_of(10, 100)), Standing::Refused);
        assert_eq!(known.judge(Tag(2), made_of(11, 110)), Standing::Good(Position(120)));
    }

    #[test]
    fn an_answer_younger_than_what_is_confirmed_rests_on_its_own_position() {
        // Revision 11 is a rollback to position 50, which is not confirmed yet.
        let mut known = known();
        known.note(made_of(11, 50));
        assert_eq!(known.judge(Tag(1), made_of(11, 50)), Standing::Good(Position(50)));
        known.confirm(&said(11, 50, Some(vec![(11, Touched::Everything)])), Instant::now());
        assert_eq!(known.judge(Tag(1), made_of(10, 100)), Standing::Refused);
        assert_eq!(known.judge(Tag(1), made_of(11, 50)), Standing::Good(Position(50)));
    }

    #[test]
    fn a_lost_announcement_costs_hits_only() {
        let mut known = known();
        known.raise(&tags(1..2), Revision(11), Instant::now());
        assert_eq!(known.judge(Tag(1), made_of(10, 100)), Standing::Refused);
        assert_eq!(known.judge(Tag(2), made_of(10, 100)), Standing::Good(Position(100)));
        known.note(made_of(11, 101));
        assert_eq!(known.judge(Tag(1), made_of(11, 101)), Standing::Good(Position(101)));
    }

    #[test]
    fn answers_of_a_history_that_a_backup_has_undone_are_not_served() {
        // Restored at revision 10: an answer of revision 14 is left in the cache.
        let mut known = known();
        assert_eq!(known.judge(Tag(1), made_of(14, 140)), Standing::Refused);
        known.note(made_of(11, 101));
        assert_eq!(known.judge(Tag(1), made_of(14, 140)), Standing::Refused);
    }

    #[test]
    fn a_hole_in_the_record_counts_as_everything() {
        let mut known = known();
        known.confirm(&said(40, 400, None), Instant::now());
        assert_eq!(known.judge(Tag(1), made_of(39, 399)), Standing::Refused);
    }

    #[test]
    fn revisions_that_fell_never_meet_their_namesakes() {
        let mut known = known();
        known.note(made_of(14, 140));
        known.confirm(&said(12, 120, Some(vec![(11, tags(2..3)), (12, tags(2..3))])), Instant::now());
        // The database crashed and lost everything after revision 8.
        known.confirm(&said(8, 80, Some(Vec::new())), Instant::now());
        assert_eq!(*known.progress.borrow(), made_of(8, 80));
        known.confirm(&said(14, 150, Some(vec![(9, tags(1..2)), (14, tags(1..2))])), Instant::now());
        assert_eq!(known.judge(Tag(5), made_of(14, 140)), Standing::Refused);
        known.note(made_of(15, 151));
        assert_eq!(known.judge(Tag(5), made_of(15, 151)), Standing::Good(Position(151)));
    }

    #[test]
    fn fences_are_bounded_and_forgotten_ones_leave_the_floor() {
        let mut known = known();
        let early = Instant::now();
        known.raise(&tags(0..10), Revision(11), early);
        known.forget(early + std::time::Duration::from_secs(1));
        assert_eq!(known.fences(), 0);
        assert_eq!(known.judge(Tag(1_000), made_of(10, 100)), Standing::Refused);
        let many = u64::try_from(FENCES_MAX).unwrap();
        for (revision, from) in (12..).zip((0..many + 10_000).step_by(4_096)) {
            known.raise(&tags(from..from + 4_096), Revision(revision), early);
            assert!(known.fences() <= FENCES_MAX);
        }
        // The younger half is still known apart.
        assert_eq!(known.judge(Tag(0), made_of(12, 100)), Standing::Refused);
        assert!(known.fences() > FENCES_MAX / 4);
    }
}

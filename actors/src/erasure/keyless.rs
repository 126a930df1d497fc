//! Whether people's keys are away, as after a restoration without them.

use std::num::NonZeroU32;

use super::Parts;
use crate::{
    personal::is_sealed,
    ports::{Direction, StoreError, StreamRange},
    version::Sequence,
};

/// Streams of each type that are looked at: a restoration brings all of them without keys, or none.
const STREAMS: NonZeroU32 = NonZeroU32::MIN.saturating_add(99);
/// Events of each that are looked at for something sealed.
const EVENTS: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);

/// What a look at some people's streams has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Keyless {
    /// People that were looked at.
    pub looked_at: usize,
    /// Those of them who have something sealed and no key here, not even a destroyed one.
    pub keyless: usize,
}

impl Parts {
    pub(super) async fn keyless(&self) -> Result<Keyless, StoreError> {
        let (catalog, vault) = (&self.write_side.recovery.catalog, &self.write_side.vault);
        let mut found = Keyless::default();
        for (kind, ..) in catalog.entries().filter(|(kind, ..)| catalog.is_about_people(kind)) {
            let streams = self.sealed.list_streams(Some(kind), None, STREAMS).await?;
            let ids: Vec<_> = streams.into_iter().map(|stream| stream.aggregate_id).collect();
            found.looked_at += ids.len();
            let stored = vault.stored(&ids).await?;
            for id in ids.iter().zip(stored).filter(|(_, key)| key.is_none()).map(|(id, _)| id) {
                let (from, to) = (Sequence(1), Sequence(u64::MAX));
                let range = StreamRange { from, to, direction: Direction::Forward, limit: EVENTS };
                let events = self.sealed.read_stream(id, range).await?;
                let sealed = events.iter().any(|event| {
                    let members = catalog.personal(&event.event_type);
                    members.is_some_and(|members| is_sealed(members, &event.data))
                });
                found.keyless += usize::from(sealed);
            }
        }
        Ok(found)
    }
}

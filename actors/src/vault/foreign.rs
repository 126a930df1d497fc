//! Events that come from elsewhere, with personal members that no key of this store has sealed yet.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use super::{KEYS_PER_CALL, Vault};
use crate::{
    envelope::EventBody,
    id::AggregateId,
    personal::{self, KeyState, Place},
    ports::StoreError,
};

/// A payload from elsewhere, as this store takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenIn {
    /// What is to be stored.
    pub stored: Bytes,
    /// What is to be read.
    pub readable: Bytes,
}

/// Why a payload from elsewhere is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ForeignError {
    /// It was sealed by a key that this store does not have.
    #[error("its personal members are sealed under a key that this store does not have")]
    Sealed,
    /// It tells of somebody whose data was erased here.
    #[error("it tells of a person whose personal data was erased here")]
    Erased,
    /// It cannot be sealed.
    #[error("its payload cannot be sealed")]
    Unsealable,
}

impl Vault {
    /// Seals the personal members of events that come from elsewhere, in the order given. Keys are made durable first, as
    /// many at once as the store takes; a dry run makes none, and says what would be stored but for the sealing.
    ///
    /// A member that reads as erased is sealed as the text it is; of a person who was erased here too, it is stored so.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is then to be stored.
    pub async fn take_in(
        &self,
        events: &[(&AggregateId, &EventBody)],
        is_dry_run: bool,
    ) -> Result<Vec<Result<TakenIn, ForeignError>>, StoreError> {
        let states = self.states(events, is_dry_run).await?;
        Ok(events.iter().map(|(id, body)| self.taken(id, body, states.get(*id), is_dry_run)).collect())
    }

    /// The keys of all whom these events tell something of.
    async fn states(
        &self,
        events: &[(&AggregateId, &EventBody)],
        is_dry_run: bool,
    ) -> Result<HashMap<AggregateId, KeyState>, StoreError> {
        let (mut clear, mut sealed) = (HashSet::new(), HashSet::new());
        for (id, body) in events {
            let Some(members) = self.catalog.personal(&body.event_type) else { continue };
            if personal::is_in_the_clear(members, &body.data) {
                clear.insert(*id);
            } else if personal::is_sealed(members, &body.data) {
                sealed.insert(*id);
            }
        }
        // Nobody gets a key for what cannot be stored.
        let (made, looked): (Vec<_>, Vec<_>) =
            clear.union(&sealed).map(|id| (*id).clone()).partition(|id| clear.contains(id) && !is_dry_run);
        let mut states = HashMap::with_capacity(made.len() + looked.len());
        for subjects in made.chunks(KEYS_PER_CALL) {
            states.extend(subjects.iter().cloned().zip(self.make_all(subjects.to_vec()).await?));
        }
        let found = self.load(&looked).await?;
        states.extend(looked.into_iter().zip(found));
        Ok(states)
    }

    fn taken(
        &self,
        id: &AggregateId,
        body: &EventBody,
        state: Option<&KeyState>,
        is_dry_run: bool,
    ) -> Result<TakenIn, ForeignError> {
        let as_it_is = || TakenIn { stored: body.data.clone(), readable: body.data.clone() };
        let (Some(members), Some(state)) = (self.catalog.personal(&body.event_type), state) else {
            return Ok(as_it_is());
        };
        let place = Place { aggregate_id: id, event_type: &body.event_type, event_id: body.event_id };
        if personal::is_sealed(members, &body.data) {
            // Sealed by this store, that is: as when its own export comes back.
            let opened = match state {
                KeyState::Live(_) => personal::open_at(state, members, place, &body.data),
                KeyState::Absent | KeyState::Destroyed => None,
            };
            let is_whole = |opened: &Bytes| !personal::is_sealed(members, opened);
            let readable = opened.filter(is_whole).ok_or(ForeignError::Sealed)?;
            let is_mixed = personal::is_in_the_clear(members, &body.data);
            return if is_mixed {
                Err(ForeignError::Sealed)
            } else {
                Ok(TakenIn { stored: body.data.clone(), readable })
            };
        }
        match state {
            _ if !personal::is_in_the_clear(members, &body.data) => Ok(as_it_is()),
            KeyState::Live(key) => {
                let stored = personal::seal(key, members, place, &body.data).ok_or(ForeignError::Unsealable)?;
                Ok(TakenIn { stored, readable: body.data.clone() })
            }
            KeyState::Destroyed if personal::is_erased(members, &body.data) => Ok(as_it_is()),
            KeyState::Destroyed => Err(ForeignError::Erased),
            // A runtime without keys seals nothing at all.
            KeyState::Absent if is_dry_run || self.keys.is_none() => Ok(as_it_is()),
            KeyState::Absent => Err(ForeignError::Unsealable),
        }
    }
}

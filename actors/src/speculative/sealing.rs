//! Under which key the events of a decision are sealed, and what is to be done when there is none.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    catalog::{DecidedEvent, Model},
    error::CommandError,
    id::{AggregateId, EventId},
    personal::{KeyState, SubjectKey},
    vault::Vault,
};

/// Why a command is not decided.
#[derive(Debug)]
pub(crate) enum Undecided {
    /// It is refused.
    Refused(CommandError),
    /// Its events hold the first personal data of a person: a key has to be made first. The state is as it was.
    KeyNeeded,
}

impl From<CommandError> for Undecided {
    fn from(error: CommandError) -> Self {
        Self::Refused(error)
    }
}

/// The key for one decision, as far as it is known before.
#[derive(Debug)]
pub(super) enum Sealing {
    /// Nothing is to be sealed: the aggregate is not about people, or nothing will be stored.
    None,
    /// This key.
    Key(Arc<SubjectKey>),
    /// It was destroyed.
    Destroyed,
    /// It is not known, or not there.
    Unknown,
}

impl Sealing {
    pub(super) fn of(vault: &Vault, model: &Arc<dyn Model>, id: &AggregateId, is_dry_run: bool) -> Self {
        if model.personal().is_empty() {
            return Self::None;
        }
        match vault.held(id) {
            Some(KeyState::Destroyed) => Self::Destroyed,
            _ if is_dry_run => Self::None,
            Some(KeyState::Live(key)) => Self::Key(key),
            Some(KeyState::Absent) | None => Self::Unknown,
        }
    }

    /// Whether what is decided may turn out to be impossible to store.
    pub(super) fn is_in_doubt(&self) -> bool {
        matches!(self, Self::Destroyed | Self::Unknown)
    }

    /// Whether these events can be stored.
    pub(super) fn check(
        &self,
        model: &Arc<dyn Model>,
        id: &AggregateId,
        decided: &[DecidedEvent],
    ) -> Result<(), Undecided> {
        let is_personal = |event: &DecidedEvent| {
            model.personal().iter().any(|personal| personal.event_type == event.event_type.as_str())
        };
        match self {
            Self::None | Self::Key(_) => Ok(()),
            _ if !decided.iter().any(is_personal) => Ok(()),
            Self::Destroyed => Err(CommandError::SubjectErased { aggregate_id: id.clone() }.into()),
            Self::Unknown => Err(Undecided::KeyNeeded),
        }
    }

    /// The payload to store.
    pub(super) fn seal(&self, vault: &Vault, id: &AggregateId, event_id: EventId, event: &DecidedEvent) -> Bytes {
        let Self::Key(key) = self else { return event.data.clone() };
        // A panic here is caught where the decision is, and the state loaded anew; the clear text must not get through.
        vault
            .seal(key, id, &event.event_type, event_id, &event.data)
            .expect("a decided event is JSON, and far smaller than what the cipher takes")
    }
}

//! Keys that were read lately, bounded in number: the older half goes when the younger one is full.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::{id::AggregateId, personal::KeyState};

type Half = HashMap<AggregateId, (KeyState, Instant)>;

pub(super) struct Remembered {
    young: Half,
    old: Half,
    half_max: usize,
}

impl Remembered {
    pub(super) fn new(max: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), half_max: (max / 2).max(1) }
    }

    /// What was read no longer ago than `life`. A destroyed key stays destroyed, however long ago that was read.
    pub(super) fn get(&self, subject: &AggregateId, life: Duration) -> Option<KeyState> {
        let (state, asked_at) = self.young.get(subject).or_else(|| self.old.get(subject))?;
        (matches!(state, KeyState::Destroyed) || asked_at.elapsed() < life).then(|| state.clone())
    }

    /// Takes what was asked for at an instant; a destroyed key is never taken for a live one again.
    pub(super) fn put(&mut self, subject: AggregateId, state: KeyState, asked_at: Instant) {
        let known = self.young.get(&subject).or_else(|| self.old.get(&subject));
        let is_newer = known.is_none_or(|(known, at)| !matches!(known, KeyState::Destroyed) && *at <= asked_at);
        if !is_newer && !matches!(state, KeyState::Destroyed) {
            return;
        }
        if self.young.len() >= self.half_max && !self.young.contains_key(&subject) {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&subject);
        self.young.insert(subject, (state, asked_at));
    }
}

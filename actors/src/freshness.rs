//! How fresh read models are known to be: per projection its position, its revision and what was touched last.
//!
//! The truth comes from the view store; an owner in this process tells its own commits first.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::watch;

use crate::{
    ports::{ProjectionState, Revision},
    version::Position,
    view::{Tag, Touched},
};

/// How far the served rows of one projection are known to have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// They have applied this.
    pub position: Position,
    /// They stand at this revision.
    pub revision: Revision,
}

/// What is known of every projection's freshness. Cloning shares it.
#[derive(Debug, Clone, Default)]
pub struct Freshness {
    projections: Arc<Mutex<HashMap<String, Known>>>,
}

#[derive(Debug, Default)]
struct Known {
    progress: watch::Sender<Progress>,
    /// Answers made before these revisions are not served.
    fences: HashMap<Tag, Revision>,
    floor: Revision,
}

impl Freshness {
    /// Before an owner's commit: from now on answers made of what it touches are not served from the cache. `next` is the
    /// revision the commit will have.
    pub fn announce(&self, projection: &str, touched: &Touched, next: Revision) {
        let mut all = self.projections.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.entry(projection.to_owned()).or_default();
        match touched {
            Touched::Everything => known.floor = known.floor.max(next),
            Touched::Tags(tags) => known.fences.extend(tags.iter().map(|tag| (*tag, next))),
        }
    }

    /// After an owner's commit, or whenever a state was read.
    pub fn note(&self, state: &ProjectionState) {
        let progress = Progress { position: state.checkpoint.position, revision: state.revision };
        let mut all = self.projections.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(state.name.clone()).or_default().progress.send_if_modified(|known| {
            let is_news = progress.revision > known.revision
                || (progress.revision == known.revision && progress.position > known.position);
            if is_news {
                *known = progress;
            }
            is_news
        });
    }

    /// A receiver that is woken whenever a projection moves.
    #[must_use]
    pub fn subscribe(&self, projection: &str) -> watch::Receiver<Progress> {
        let mut all = self.projections.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(projection.to_owned()).or_default().progress.subscribe()
    }
}

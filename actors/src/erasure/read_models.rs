//! Read models during an erasure: those that forget pass the event that says so, the others are built anew.

use std::{num::NonZeroU32, time::Duration};

use super::{Parts, steps::Erasure};
use crate::{
    id::{AggregateType, EventType},
    ports::{Control, Generation, ParkedFilter, ProjectionState, StoreError},
    projection_actor::ProjectionContext,
    projections::ProjectionsError,
    version::Position,
};

/// Between two looks at a projection that has not come so far.
const LOOK: Duration = Duration::from_millis(100);
/// Looks between two notes of what is waited for.
const LOOKS_PER_NOTE: u32 = 20;
/// Looks after which it is noted again although nothing has changed, so that nobody takes the erasure for abandoned.
const LOOKS_PER_SIGN: u32 = 600;
const PAGE: NonZeroU32 = NonZeroU32::MIN.saturating_add(999);

/// What is still in the way of one projection.
enum Standing {
    /// Nothing: its rows hold nothing personal of the subject.
    Clean,
    /// It has to come further by itself, or an operator has to act.
    Behind(String),
}

impl Parts {
    pub(super) async fn read_models_about_people(&self) -> Result<Vec<String>, StoreError> {
        let has_rows = |state: &ProjectionState| state.checkpoint.position > Position::ZERO;
        let states = self.projections.views.states().await?;
        let made = |name: &String| states.iter().any(|state| state.name == *name && has_rows(state));
        let contexts = self.projections.contexts().iter();
        let about_people = contexts.filter(|context| {
            let wanted = &context.interest.event_types;
            wanted.is_empty() || wanted.iter().any(|kind| self.is_personal(kind))
        });
        Ok(about_people.map(|context| context.name.clone()).filter(made).collect())
    }

    fn is_personal(&self, kind: &EventType) -> bool {
        self.write_side.recovery.catalog.personal(kind).is_some()
    }
}

impl Erasure<'_> {
    /// Waits until no row that readers can reach tells of the subject. `position`: where the event stands that says so;
    /// `None`: the subject has no events, so no rows tell of it. `before`: what there was when the key had run out
    /// everywhere; only those rows may have been made with it.
    pub(super) async fn rewrite_read_models(
        &mut self,
        position: Option<Position>,
        before: &[ProjectionState],
    ) -> Result<(), StoreError> {
        let Some(position) = position else { return Ok(()) };
        let Some(stream) = self.parts.sealed.stream(self.subject).await? else { return Ok(()) };
        let contexts = self.parts.projections.contexts().iter();
        let affected: Vec<_> = contexts.filter(|context| self.concerns(context, &stream.aggregate_type)).collect();
        let tainted: Vec<(&str, Vec<Generation>)> =
            before.iter().map(|state| (state.name.as_str(), reachable(state))).collect();
        let known: Vec<&str> = self.parts.projections.names().collect();
        let strangers: Vec<&str> =
            before.iter().map(|state| state.name.as_str()).filter(|name| !known.contains(name)).collect();
        let mut looks = 0;
        loop {
            let states = self.parts.projections.views.states().await?;
            let mut waiting = Vec::new();
            for context in &affected {
                let Some(state) = states.iter().find(|state| state.name == context.name) else { continue };
                let tainted = tainted.iter().find(|(name, _)| *name == context.name);
                let tainted = tainted.map_or(&[][..], |(_, generations)| generations);
                if let Standing::Behind(reason) = self.look_at(context, state, tainted, position).await? {
                    waiting.push(format!("{}: {reason}", context.name));
                }
            }
            if waiting.is_empty() {
                break;
            }
            let is_news = waiting != self.account.waiting_for && looks % LOOKS_PER_NOTE == LOOKS_PER_NOTE - 1;
            if is_news || looks % LOOKS_PER_SIGN == LOOKS_PER_SIGN - 1 {
                self.account.waiting_for = waiting;
                self.note().await?;
            }
            looks += 1;
            tokio::time::sleep(LOOK).await;
        }
        self.account.waiting_for.clear();
        if strangers.is_empty() {
            return Ok(());
        }
        let reason = format!(
            "this process does not keep the read models {}, so it cannot tell whether they hold the subject's data: \
             erase again from one that does",
            strangers.join(", ")
        );
        Err(StoreError::Refused { reason })
    }

    /// Whether a projection may have seen personal data of a stream of this type.
    fn concerns(&self, context: &ProjectionContext, aggregate_type: &AggregateType) -> bool {
        let interest = &context.interest;
        (interest.aggregate_types.is_empty() || interest.aggregate_types.contains(aggregate_type))
            && (interest.event_types.is_empty() || interest.event_types.iter().any(|kind| self.parts.is_personal(kind)))
    }

    async fn look_at(
        &self,
        context: &ProjectionContext,
        state: &ProjectionState,
        tainted: &[Generation],
        position: Position,
    ) -> Result<Standing, StoreError> {
        let is_tainted = |generation: Generation| tainted.contains(&generation);
        let follows = context.projection.forgets() && !state.is_frozen && state.version >= context.version;
        let is_shadow_clean = |shadow: &crate::ports::Shadow| {
            !is_tainted(shadow.generation)
                || (context.projection.forgets()
                    && shadow.version >= context.version
                    && shadow.checkpoint.position >= position)
        };
        if let Some(shadow) = state.shadow.filter(|shadow| !is_shadow_clean(shadow)) {
            return Ok(Standing::Behind(format!("the rebuild {} is under way", shadow.operation)));
        }
        if is_tainted(state.generation) {
            if !follows {
                if state.shadow.is_some() {
                    return Ok(Standing::Behind("its rebuild is under way".to_owned()));
                }
                return self.rebuild(context).await;
            }
            if state.checkpoint.position < position {
                let halted = if state.is_paused || state.fault.is_some() { ", and it stands still" } else { "" };
                let (at, to) = (state.checkpoint.position, position);
                return Ok(Standing::Behind(format!("it has applied {at} of {to}{halted}")));
            }
        }
        if let Some(reason) = self.parked(state, position).await? {
            return Ok(Standing::Behind(reason));
        }
        if state.previous.is_some_and(|previous| is_tainted(previous.generation)) {
            self.parts.projections.views.control(&context.name, Control::ForgetPrevious).await?;
            return Ok(Standing::Behind("its earlier rows are let go of".to_owned()));
        }
        Ok(Standing::Clean)
    }

    async fn rebuild(&self, context: &ProjectionContext) -> Result<Standing, StoreError> {
        // What was erased is the difference.
        let reason = match self.parts.projections.rebuild(&context.name, true).await {
            Ok(operation) => format!("the rebuild {} begins", operation.id),
            Err(ProjectionsError::Store(error)) => return Err(error),
            Err(error) => format!("it has to be rebuilt: {error}"),
        };
        Ok(Standing::Behind(reason))
    }

    /// Whether events of the subject wait to be applied, or were left out.
    async fn parked(&self, state: &ProjectionState, position: Position) -> Result<Option<String>, StoreError> {
        let mut after = Position::ZERO;
        loop {
            let page = self.parts.projections.views.parked(state.generation, ParkedFilter::All, after, PAGE).await?;
            for parked in page.iter().filter(|parked| parked.event.aggregate_id == *self.subject) {
                let at = parked.event.position;
                if parked.skipped.is_none() && at <= position {
                    return Ok(Some(format!("the event at position {at} is parked: retry it, or skip it")));
                }
                if parked.skipped.is_some() && at == position {
                    return Err(StoreError::Refused {
                        reason: format!(
                            "{} left out the event at position {at}, which takes the subject's data out of its rows: \
                             rebuild it, and erase again",
                            state.name
                        ),
                    });
                }
            }
            match page.last() {
                Some(last) if page.len() >= PAGE.get() as usize => after = last.event.position,
                _ => return Ok(None),
            }
        }
    }
}

/// Every generation whose rows a reader can reach, now or after a swap or rollback.
fn reachable(state: &ProjectionState) -> Vec<Generation> {
    let shadow = state.shadow.map(|shadow| shadow.generation);
    let previous = state.previous.map(|previous| previous.generation);
    std::iter::once(state.generation).chain(shadow).chain(previous).collect()
}

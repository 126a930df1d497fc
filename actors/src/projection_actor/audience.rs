//! Who in this process wants to know what the owner of a projection does; the sagas do.

use std::fmt::Debug;

use crate::{ports::Move, view::Row};

/// Hears of one projection. Called by its actor between two steps, so it must not wait.
pub(crate) trait Audience: Debug + Send + Sync {
    /// This process owns the projection from now on, or its rows were replaced: whatever was heard before is void.
    fn opened(&self);

    /// This process does not own it any more, or does not know.
    fn closed(&self);

    /// Served rows were written, and are stored. Only those that concern it are told.
    fn moved(&self, rows: &[Row]);

    /// Whether a row concerns it.
    fn concerns(&self, row: &Row) -> bool;
}

/// The rows of a step that concern an audience.
pub(super) fn told(audience: &dyn Audience, step: Option<&Move>) -> Vec<Row> {
    step.iter().flat_map(|step| &step.puts).filter(|row| audience.concerns(row)).cloned().collect()
}

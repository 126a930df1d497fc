//! Third link: decodes commands that came by name, and checks what can be checked without state.

use futures_util::future::BoxFuture;

use super::{Action, CommandRequest, CommandResult, DecodedCommand, Middleware, Next, RawAppend};
use crate::{
    aggregate::FieldError,
    branches::record,
    error::CommandError,
    registry::WriteSide,
    version::{Expected, Sequence},
};

#[derive(Debug)]
pub(crate) struct Validate;

impl Middleware for Validate {
    fn handle<'a>(&'a self, mut request: CommandRequest, next: Next<'a>) -> BoxFuture<'a, CommandResult> {
        match check(&mut request, next.write_side) {
            Ok(()) => next.run(request),
            // A wrong version is told before a wrong document.
            Err(error) if request.expected != Expected::Any => Box::pin(async move {
                let stream = next.write_side.recovery.store.stream(&request.aggregate_id).await?;
                let current_version = stream.map_or(Sequence::ZERO, |stream| stream.head.sequence);
                if request.expected.is_met_by(current_version) {
                    return Err(error);
                }
                Err(CommandError::PreconditionFailed { current_version, replayed: false })
            }),
            Err(error) => Box::pin(async move { Err(error) }),
        }
    }
}

fn check(request: &mut CommandRequest, write_side: &WriteSide) -> Result<(), CommandError> {
    let catalog = &write_side.recovery.catalog;
    if let Action::Named { command_type, data } = &request.action {
        let decoded = catalog.decode_command(command_type, data)?;
        request.action = Action::Command(DecodedCommand { source: Some(data.clone()), ..decoded });
    }
    if write_side.is_branch && !request.is_issued && !record::is_recordable(&request.action) {
        let detail = "a typed command cannot be kept for a merge: send it to a branch by name".to_owned();
        return Err(CommandError::Invalid { errors: vec![FieldError { pointer: String::new(), detail }] });
    }
    let errors = match &request.action {
        Action::Command(command) => catalog.validate(command, &request.aggregate_id),
        Action::Append(append) => append_errors(append, write_side.limits.append_events_max),
        Action::Named { .. } => Vec::new(),
    };
    if errors.is_empty() { Ok(()) } else { Err(CommandError::Invalid { errors }) }
}

fn append_errors(append: &RawAppend, max: usize) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut note = |pointer: String, detail: String| errors.push(FieldError { pointer, detail });
    if append.events.is_empty() {
        note(String::new(), "must hold at least one event".to_owned());
    }
    if append.events.len() > max {
        note(String::new(), format!("must hold at most {max} events, not {}", append.events.len()));
    }
    let mut seen = std::collections::HashSet::new();
    for (index, event) in append.events.iter().enumerate() {
        if event.event_id.is_some_and(|id| !seen.insert(id)) {
            note(format!("/{index}/event_id"), "occurs twice".to_owned());
        }
    }
    errors
}

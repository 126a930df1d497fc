//! A merge: the branch's commands are decided again, in order, on the log's current states; if all are accepted, what they
//! lead to is appended as one unit over all streams concerned, and the branch is closed, in one transaction of the store.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{BranchError, Branches, Kept, record, unknown};
use crate::{
    answer::Answer,
    envelope::StreamHead,
    error::CommandError,
    failpoint,
    id::{AggregateId, BranchId, EventId},
    ports::{
        AppendUnit, Branch, BranchCommand, BranchMerge, CommandProbe, MergeOutcome, StoreError, StreamClaim,
        UnitOutcome,
    },
    speculative::{Speculative, Undecided},
    version::Position,
};

/// Events of one merge at most.
pub const EVENTS_MAX: usize = 1_000;
/// Commands of one merge at most.
pub const COMMANDS_MAX: usize = 1_000;
/// How often a merge is decided before it is given up.
const ATTEMPTS_MAX: u32 = 5;

/// What a merge did, or would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MergeReport {
    /// Whether it was done: then every command is in the log.
    pub merged: bool,
    /// The branch's commands, in their order.
    pub commands: Vec<MergedCommand>,
}

impl MergeReport {
    /// How many commands are refused.
    #[must_use]
    pub fn refused(&self) -> usize {
        self.commands.iter().filter(|command| command.outcome == "rejected").count()
    }
}

/// What became of one command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MergedCommand {
    /// Its type; `AppendEvents` for raw events.
    pub command_type: String,
    /// Whom it was for.
    pub aggregate_id: AggregateId,
    /// `accepted`, `unchanged` (accepted, and led to nothing) or `rejected`.
    pub outcome: String,
    /// Why it was rejected.
    pub rejection: Option<Rejected>,
}

/// Why a command was rejected.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rejected {
    /// The domain's own code, or that of the fault in the request.
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// The domain's facts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Value>,
}

/// A merge that was not refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Merging {
    /// What it did; or would do, in a dry run.
    pub report: MergeReport,
    /// Whether this is the answer of an earlier merge.
    pub replayed: bool,
}

/// The branch's commands, decided on the log.
struct Decided {
    report: MergeReport,
    unit: AppendUnit,
}

/// The streams concerned as they stand, and as they will.
struct Stand {
    head: StreamHead,
    state: Speculative,
}

impl Branches {
    /// Runs a branch's commands on the log, all or none, and closes the branch; or, in a dry run, says what would become of
    /// them. Merging again answers as the first time.
    ///
    /// It goes on when its caller goes away, and a shutdown waits for it as for commands.
    ///
    /// # Errors
    /// [`BranchError::Refused`] with the report, [`BranchError::TooLarge`], [`BranchError::Contended`]: nothing was changed.
    /// [`StoreError::Unavailable`]: the outcome is unknown; merge again.
    pub async fn merge(&self, id: BranchId, dry_run: bool) -> Result<Merging, BranchError> {
        let Some(kept) = &self.kept else { return Err(unknown(id)) };
        let tasks = &kept.live.tasks;
        if tasks.is_closed() {
            return Err(BranchError::Draining);
        }
        let merging = kept.clone();
        let task = tasks.spawn(async move { merging.merge(id, dry_run).await });
        task.await.unwrap_or_else(|_| Err(BranchError::Internal { reason: "the merge broke off".to_owned() }))
    }
}

impl Kept {
    async fn merge(&self, id: BranchId, dry_run: bool) -> Result<Merging, BranchError> {
        for attempt in 0..ATTEMPTS_MAX {
            if attempt > 0 {
                tokio::time::sleep(Duration::from_millis(1 << (2 * attempt))).await;
            }
            let branch = self.own.branch(id).await?.ok_or_else(|| unknown(id))?;
            if let Some(report) = &branch.report {
                return repeated(report);
            }
            let (seen, commands) = self.commands(&branch).await?;
            let Decided { mut report, unit } = self.decide(&branch, &commands).await?;
            if report.refused() > 0 {
                return Err(BranchError::Refused { report });
            }
            if unit.events.len() > EVENTS_MAX {
                return Err(too_large(unit.events.len(), "events", EVENTS_MAX));
            }
            if dry_run {
                return Ok(Merging { report, replayed: false });
            }
            report.merged = true;
            let written = serde_json::to_vec(&report).map_err(|error| internal(&error))?;
            let types: Vec<_> = unit.events.iter().map(|event| event.aggregate_type.clone()).collect();
            failpoint::pass("merge-decided");
            let merge = BranchMerge { seen, unit, report: Bytes::from(written) };
            match self.own.merge_branch(id, merge).await? {
                MergeOutcome::Merged(committed) => {
                    failpoint::pass("merge-committed");
                    self.tell(committed.first_position, &types);
                    return Ok(Merging { report, replayed: false });
                }
                MergeOutcome::Closed(branch) => return repeated(branch.report.as_deref().unwrap_or_default()),
                MergeOutcome::Unknown => return Err(unknown(id)),
                MergeOutcome::Behind | MergeOutcome::Unit(UnitOutcome::Stale | UnitOutcome::Wait) => {}
                MergeOutcome::Unit(UnitOutcome::Failed(error)) => return Err(error.into()),
                MergeOutcome::Unit(UnitOutcome::Known { .. } | UnitOutcome::Committed(_)) => {
                    let reason = format!("the log has events of a merge of branch {id}, which is open all the same");
                    return Err(StoreError::Corrupt { reason }.into());
                }
            }
        }
        Err(BranchError::Contended)
    }

    /// Followers hear of the news, as of any append.
    fn tell(&self, first: Position, types: &[crate::id::AggregateType]) {
        for kind in types {
            self.main.metrics.events_appended.with_label_values(&[kind.as_str()]).inc();
        }
        if let Some(after_first) = (types.len() as u64).checked_sub(1) {
            self.live.recipe.publisher.raise(first.plus(after_first));
        }
    }

    /// The branch's commands, and where it stood when they were looked at.
    async fn commands(&self, branch: &Branch) -> Result<(Position, Vec<BranchCommand>), BranchError> {
        let seen = self.own.head_on(branch.id).await?.unwrap_or(branch.fork);
        let limit = NonZeroU32::MIN.saturating_add(u32::try_from(COMMANDS_MAX).unwrap_or(u32::MAX));
        let mut commands = self.own.commands_on(branch.id, branch.fork, limit).await?;
        // What came meanwhile lets the merge be decided again.
        commands.retain(|command| command.position <= seen);
        if commands.len() > COMMANDS_MAX {
            return Err(too_large(commands.len(), "commands or more", COMMANDS_MAX));
        }
        Ok((seen, commands))
    }

    async fn decide(&self, branch: &Branch, commands: &[BranchCommand]) -> Result<Decided, BranchError> {
        let mut stands: HashMap<AggregateId, Stand> = HashMap::new();
        let (mut unit, mut told) = (AppendUnit::default(), Vec::with_capacity(commands.len()));
        for BranchCommand { record, .. } in commands {
            let catalog = &self.main.recovery.catalog;
            let request = record::again(branch.id, record, catalog, self.main.limits.command_deadline);
            let decided = match request {
                Ok(request) => match self.live.recipe.authorizer.authorize(&request) {
                    Ok(()) => {
                        let stand = self.stand(&mut stands, &record.aggregate_id).await?;
                        let decide = || stand.state.decide(&self.main, &request);
                        let decided = catch_unwind(AssertUnwindSafe(decide));
                        let panicked =
                            |_| BranchError::Internal { reason: format!("deciding {} panicked", record.command_type) };
                        let decided = decided.map_err(panicked)?.map_err(|undecided| match undecided {
                            Undecided::Refused(error) => error,
                            // Nothing that was recorded on a branch was personal.
                            Undecided::KeyNeeded => {
                                CommandError::PersonalOnBranch { aggregate_id: record.aggregate_id.clone() }
                            }
                        });
                        decided.map(|decided| (request.command_id, decided))
                    }
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            };
            let (outcome, rejection) = match decided {
                Ok((command_id, (Answer::Accepted(_), events))) => {
                    let outcome = if events.is_empty() { "unchanged" } else { "accepted" };
                    let event_ids = vec![EventId::derived(command_id, 0)];
                    unit.commands.push(CommandProbe { event_ids, key: None, record: None });
                    unit.events.extend(events);
                    (outcome, None)
                }
                Ok((_, (Answer::Tried(_), _))) => ("unchanged", None),
                Ok((_, (Answer::Refused(error), _))) | Err(error) => ("rejected", Some(rejected(error)?)),
            };
            told.push(MergedCommand {
                command_type: record.command_type.to_string(),
                aggregate_id: record.aggregate_id.clone(),
                outcome: outcome.to_owned(),
                rejection,
            });
        }
        // Also those that nothing changes: what was decided rests on them.
        let claim =
            |(aggregate_id, stand): (AggregateId, Stand)| StreamClaim { aggregate_id, head: stand.head, losses: 0 };
        unit.streams = stands.into_iter().map(claim).collect();
        unit.streams.sort_by(|a, b| a.aggregate_id.cmp(&b.aggregate_id));
        Ok(Decided { report: MergeReport { merged: false, commands: told }, unit })
    }

    /// A stream of the log as it stands, loaded once.
    async fn stand<'a>(
        &self,
        stands: &'a mut HashMap<AggregateId, Stand>,
        id: &AggregateId,
    ) -> Result<&'a mut Stand, BranchError> {
        use std::collections::hash_map::Entry;
        match stands.entry(id.clone()) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let mut state = Speculative::new(id.clone());
                state.restart(self.main.load(id).await?);
                Ok(entry.insert(Stand { head: state.head, state }))
            }
        }
    }
}

fn repeated(report: &[u8]) -> Result<Merging, BranchError> {
    let report = serde_json::from_slice(report)
        .map_err(|error| StoreError::Corrupt { reason: format!("the report of a merge: {error}") })?;
    Ok(Merging { report, replayed: true })
}

fn too_large(count: usize, what: &str, max: usize) -> BranchError {
    BranchError::TooLarge { what: format!("{count} {what}, and {max} is the most") }
}

fn internal(error: &dyn std::fmt::Display) -> BranchError {
    BranchError::Internal { reason: error.to_string() }
}

/// A refusal as it is reported; what is no refusal ends the merge.
fn rejected(error: CommandError) -> Result<Rejected, BranchError> {
    let message = error.to_string();
    let simply = |code: &str| Rejected { code: code.to_owned(), message: message.clone(), details: None };
    Ok(match error {
        CommandError::Rejected { refusal, .. } => {
            Rejected { code: refusal.code, message: refusal.message, details: refusal.details }
        }
        CommandError::Invalid { errors } => {
            Rejected { details: serde_json::to_value(&errors).ok(), ..simply("validation-failed") }
        }
        CommandError::UnknownCommandType { .. } => simply("unknown-command-type"),
        CommandError::UnknownEventType { .. } => simply("unknown-event-type"),
        CommandError::TypeMismatch { .. } => simply("aggregate-type-mismatch"),
        CommandError::ReservedStream { .. } => simply("reserved-stream"),
        CommandError::SubjectErased { .. } => simply("subject-erased"),
        CommandError::PersonalOnBranch { .. } => simply("personal-data-on-branch"),
        CommandError::Unauthenticated => simply("unauthenticated"),
        CommandError::Forbidden { .. } => simply("forbidden"),
        CommandError::StoreUnavailable { reason } => return Err(StoreError::Unavailable { reason }.into()),
        other => return Err(internal(&other)),
    })
}

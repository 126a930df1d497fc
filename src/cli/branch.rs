//! `branch create|list|show|diff|merge|delete`.

use std::num::NonZeroU32;

use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Args, Subcommand};
use event_sourcing_actors::{AggregateId, BranchId, Position, Sequence, branches::ForkAt};
use event_sourcing_cqrs::wire;
use uuid::Uuid;

use super::{
    Context,
    exit::{Exit, Failure},
    input::Key,
    output::talk,
    table::table,
    target::Target,
    text::{count, event_line, harmless},
};

/// Branches and aggregates of a page.
const PAGE: NonZeroU32 = NonZeroU32::MIN.saturating_add(99);

/// Words about alternative timelines.
#[derive(Debug, Subcommand)]
pub(crate) enum Branch {
    /// Make one that forks at a place of the log; --branch sends other words there
    Create(Create),
    /// List them, newest first
    List,
    /// Tell how one stands
    Show(One),
    /// Tell what one has changed, aggregate by aggregate
    Diff(One),
    /// Run its commands on main, all or none, and close it: exit code 5 when main refuses some
    Merge(Merge),
    /// Forget one and all that happened on it
    Delete(One),
}

/// Make a branch.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// For people
    name: String,
    #[command(flatten)]
    fork: Fork,
    #[command(flatten)]
    key: Key,
}

/// Where it forks.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Fork {
    /// After an event of this aggregate
    #[arg(long, value_name = "AGGREGATE", requires = "from_sequence", conflicts_with_all = ["at_time", "at_position"])]
    aggregate_id: Option<AggregateId>,
    /// The last event of the aggregate that belongs to it
    #[arg(long, value_name = "SEQUENCE", requires = "aggregate_id")]
    from_sequence: Option<u64>,
    /// After everything recorded at or before this instant (RFC 3339 with an offset)
    #[arg(long, value_name = "TIME", conflicts_with = "at_position")]
    at_time: Option<DateTime<Utc>>,
    /// After this position of the log; 0 = before the first event
    #[arg(long, value_name = "POSITION")]
    at_position: Option<u64>,
}

/// A branch.
#[derive(Debug, Args)]
pub(crate) struct One {
    /// As `branch create` and `branch list` tell it
    branch_id: Uuid,
}

/// Merge a branch.
#[derive(Debug, Args)]
pub(crate) struct Merge {
    /// As `branch create` and `branch list` tell it
    branch_id: Uuid,
    /// Tell what would become of its commands, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// A wish for a branch.
#[derive(Debug, Clone)]
pub(crate) struct NewBranch {
    /// For people.
    pub(crate) name: String,
    /// Where it forks.
    pub(crate) at: ForkAt,
    /// Recognises a repetition.
    pub(crate) key: Option<String>,
}

/// What became of a merge.
#[derive(Debug)]
pub(crate) struct Merged {
    /// The report.
    pub(crate) report: wire::MergeReport,
    /// Why it was refused, if it was.
    pub(crate) refusal: Option<String>,
}

impl Create {
    fn wish(self) -> Result<NewBranch, Failure> {
        let Fork { aggregate_id, from_sequence, at_time, at_position } = self.fork;
        let at = match (aggregate_id, from_sequence, at_time, at_position) {
            (Some(id), Some(sequence), ..) => ForkAt::Sequence(id, Sequence(sequence)),
            (_, _, Some(instant), _) => ForkAt::Time(instant),
            (_, _, _, Some(position)) => ForkAt::Position(Position(position)),
            _ => return Err(Failure::usage("say where it forks: --at-position, --at-time, or --aggregate-id")),
        };
        Ok(NewBranch { name: self.name, at, key: self.key.idempotency_key })
    }
}

impl Branch {
    /// Does it.
    pub(crate) async fn run(self, context: Context) -> Result<(), Failure> {
        let target = Target::open(&context).await?;
        let done = self.done(&context, &target).await;
        target.close().await;
        done
    }

    async fn done(self, context: &Context, target: &Target) -> Result<(), Failure> {
        match self {
            Self::Create(word) => {
                let branch = target.create_branch(&word.wish()?).await?;
                context.output.document(&branch, || shown(&branch))
            }
            Self::List => list(context, target).await,
            Self::Show(One { branch_id }) => {
                let branch = target.branch(BranchId(branch_id)).await?;
                context.output.document(&branch, || shown(&branch))
            }
            Self::Diff(One { branch_id }) => {
                let page = target.branch_diff(BranchId(branch_id), PAGE).await?;
                context.output.document(&page, || differences(&page))
            }
            Self::Merge(Merge { branch_id, dry_run }) => {
                let Merged { report, refusal } = target.merge_branch(BranchId(branch_id), dry_run).await?;
                context.output.document(&report, || reported(&report, dry_run && refusal.is_none()))?;
                match refusal {
                    None => Ok(()),
                    Some(refusal) => Err(Failure::new(Exit::Conflict, format!("{refusal} (merge-conflict)"))),
                }
            }
            Self::Delete(One { branch_id }) => {
                target.delete_branch(BranchId(branch_id)).await?;
                talk(&format!("branch {branch_id} is deleted"));
                Ok(())
            }
        }
    }
}

async fn list(context: &Context, target: &Target) -> Result<(), Failure> {
    let page = target.branches(PAGE).await?;
    context.output.document(&page, || {
        let row = |branch: &wire::Branch| {
            vec![
                branch.branch_id.to_string(),
                branch.name.clone(),
                branch.fork_position.to_string(),
                branch.status.clone(),
                branch.created_at.to_rfc3339_opts(SecondsFormat::Secs, true),
            ]
        };
        let rows: Vec<_> = page.items.iter().map(row).collect();
        table(&["BRANCH", "NAME", "FORK", "STATUS", "CREATED"], &rows)
    })
}

fn shown(branch: &wire::Branch) -> String {
    let wire::Branch { branch_id, name, fork_position, status, .. } = branch;
    harmless(&format!("branch {branch_id} {name:?} forks after position {fork_position}: {status}"))
}

fn differences(page: &wire::Page<wire::BranchChanges, AggregateId>) -> String {
    let mut lines = Vec::new();
    for one in &page.items {
        let wire::BranchChanges { aggregate_type, aggregate_id, main, branch, changes } = one;
        lines.push(format!(
            "{aggregate_type} {aggregate_id}: version {} on main, {} on the branch",
            main.version, branch.version
        ));
        for (side, events) in [("main", &main.events), ("branch", &branch.events)] {
            let told = events.iter().map(|event| format!("  {side:<6}  {}", event_line(event)));
            lines.extend(told);
        }
        for change in changes {
            let value = |value: &Option<serde_json::Value>| value.as_ref().map_or("-".to_owned(), ToString::to_string);
            lines.push(format!("  {}: {} -> {}", change.path, value(&change.from), value(&change.to)));
        }
    }
    if lines.is_empty() {
        lines.push("the branch has changed nothing".to_owned());
    }
    harmless_lines(&lines)
}

/// A report; one of a dry run that met no refusal says that it `would` merge.
fn reported(report: &wire::MergeReport, would: bool) -> String {
    let commands = count(report.commands.len() as u64, "command");
    let head = match (report.merged, would) {
        (true, _) => "merged",
        (false, true) => "would merge",
        (false, false) => "not merged",
    };
    let mut lines = vec![format!("{head}: {commands}")];
    for command in &report.commands {
        let why = command.rejection.as_ref().map_or(String::new(), |why| format!(": {} ({})", why.message, why.code));
        lines.push(format!("  {:<9}  {} {}{why}", command.outcome, command.command_type, command.aggregate_id));
    }
    harmless_lines(&lines)
}

fn harmless_lines(lines: &[String]) -> String {
    lines.iter().map(|line| harmless(line)).collect::<Vec<_>>().join("\n")
}

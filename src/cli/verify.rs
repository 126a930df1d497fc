//! `verify`: whether the log is what was recorded.

use std::{path::PathBuf, sync::Arc};

use clap::Args;
use event_sourcing_actors::AggregateId;
use event_sourcing_cqrs::integrity::{AcceptError, BeginError, FirstBad, Integrity, Report, StreamReport, VerifyError};

#[cfg(feature = "http")]
use super::operation;
use super::{
    Context,
    backup::verify_file,
    exit::{Exit, Failure},
    local::Local,
    output::{Output, talk},
    progress::{Bar, Work},
    target::Target,
    text::{harmless, pairs},
};

const VERIFYING: Work = Work { doing: "verifying", done: "verified", things: "events" };

/// Hold the log against its digests, its tree and the signed checkpoints; exit code 4 when it was altered.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Read only what came after this checkpoint; what came before must have its root
    #[arg(long, value_name = "FILE", conflicts_with_all = ["stream", "accept_rollback"])]
    from_checkpoint: Option<PathBuf>,
    /// Only this aggregate's events
    #[arg(long, value_name = "ID", conflicts_with = "accept_rollback")]
    stream: Option<AggregateId>,
    /// Verify this backup, without any store; without a file: the log of the configured store is a restored or copied one,
    /// and may end before the newest checkpoint
    #[arg(long, value_name = "FILE", conflicts_with_all = ["stream", "accept_rollback"])]
    backup: Option<Option<PathBuf>>,
    /// Accept that the log went back, after an older backup was restored on purpose, and let it take appends again
    #[arg(long)]
    accept_rollback: bool,
}

impl Verify {
    /// Does it.
    pub(crate) async fn run(self, context: Context) -> Result<(), Failure> {
        let from = self.from_checkpoint.as_ref().map(|path| {
            let read = std::fs::read_to_string(path);
            read.map_err(|error| Failure::usage(format!("{} cannot be read: {error}", path.display())))
        });
        let from = from.transpose()?;
        if context.url.is_some() && (self.accept_rollback || self.backup.is_some()) {
            return Err(Failure::usage("--accept-rollback and --backup work on the configured store, not with --url"));
        }
        if let Some(Some(file)) = &self.backup {
            if from.is_some() {
                return Err(Failure::usage("a backup is read whole: --from-checkpoint is for the log of a store"));
            }
            return told(context.output, &verify_file(&context, file).await?);
        }
        let target = Target::open_inspecting(&context).await?;
        let result = match (&target, &self.stream) {
            (_, Some(stream)) => {
                target.verify_stream(stream).await.and_then(|report| told_stream(context.output, &report))
            }
            (Target::Local(local), None) if self.accept_rollback => {
                let work = accept(local, context.output);
                target.audited("verify --accept-rollback", "the log".to_owned(), work).await
            }
            (Target::Local(local), None) => verified(local, from.as_deref(), self.backup.is_some())
                .await
                .and_then(|report| told(context.output, &report)),
            #[cfg(feature = "http")]
            (Target::Remote(_), None) => by_server(&target, from.as_deref(), context.output).await,
        };
        target.close().await;
        result
    }
}

/// The evidence of the configured store.
pub(crate) fn evidence(local: &Local) -> Result<&Arc<Integrity>, Failure> {
    let none = || Failure::usage("no evidence is kept here: integrity.enabled is false");
    local.app().integrity().ok_or_else(none)
}

async fn verified(local: &Local, from: Option<&str>, is_backup: bool) -> Result<Report, Failure> {
    let integrity = evidence(local)?;
    let mut wanted = integrity.wanted(from).await?;
    wanted.is_backup = is_backup;
    let mut bar = Bar::new(VERIFYING);
    let report = integrity.verify(wanted, &mut |done, total| bar.show(done, total)).await;
    bar.end();
    Ok(report?)
}

#[cfg(feature = "http")]
async fn by_server(target: &Target, from: Option<&str>, output: Output) -> Result<(), Failure> {
    let begun = target.begin_verification(from).await?;
    let ended = operation::wait(target, begun).await?;
    let report = ended.result.as_ref().and_then(|result| serde_json::from_str::<Report>(result.get()).ok());
    match report {
        Some(report) => told(output, &report),
        None => {
            let reason = ended.error.unwrap_or_else(|| "an operator has given it up".to_owned());
            Err(Failure::new(Exit::Failed, format!("the verification has no outcome: {reason}")))
        }
    }
}

async fn accept(local: &Local, output: Output) -> Result<(), Failure> {
    let mut bar = Bar::new(VERIFYING);
    let accepted = evidence(local)?.accept_rollback(&mut |done, total| bar.show(done, total)).await;
    bar.end();
    match accepted {
        Err(AcceptError::Unsound(report)) => told(output, &report),
        Err(error) => Err(error.into()),
        Ok(accepted) => {
            match &accepted.checkpoint {
                None => talk("nothing to accept: the log continues every checkpoint; it takes appends"),
                Some(checkpoint) => talk(&format!(
                    "accepted: the log was signed up to {} and goes on from {}; checkpoints have a new origin, {}",
                    accepted.before, accepted.report.head_position, checkpoint.checkpoint.origin
                )),
            }
            told(output, &accepted.report)
        }
    }
}

fn told(output: Output, report: &Report) -> Result<(), Failure> {
    output.document(report, || human(report))?;
    match &report.first_bad {
        None => Ok(()),
        Some(bad) => Err(violated(bad)),
    }
}

fn violated(bad: &FirstBad) -> Failure {
    Failure::new(Exit::Integrity, format!("the log was altered: {}", bad.sentence()))
}

fn human(report: &Report) -> String {
    let verdict = match &report.first_bad {
        None => "intact".to_owned(),
        Some(bad) => format!("ALTERED, {}", bad.sentence()),
    };
    let age = report.unsealed_age_s.map_or(String::new(), |age| format!(", the oldest {age:.1} s old"));
    let checkpoint = report.checkpoint_position.map_or_else(
        || match report.intact {
            true => "none from outside of the database".to_owned(),
            false => "none before the first bad position".to_owned(),
        },
        |position| format!("{position} ({} held against)", report.checkpoints),
    );
    let mut rows = vec![
        ("log", verdict),
        (
            "verified",
            match report.from_position > report.verified_position {
                true => "nothing came after the checkpoint".to_owned(),
                false => format!("{} to {}", report.from_position, report.verified_position),
            },
        ),
        ("head", report.head_position.to_string()),
        ("sealed to", report.sealed_position.to_string()),
        ("unsealed", format!("{}{age}", report.unsealed_events)),
        ("checkpoint", checkpoint),
        ("took", format!("{:.1} s", report.duration_ms / 1e3)),
    ];
    if report.read_only {
        rows.push(("read-only", "the log takes no appends".to_owned()));
    }
    rows.extend(report.remarks.iter().map(|remark| ("remark", harmless(remark))));
    pairs(&rows)
}

fn told_stream(output: Output, report: &StreamReport) -> Result<(), Failure> {
    output.document(report, || {
        let verdict = if report.intact { "intact" } else { "ALTERED" };
        let checkpoint = report.checkpoint_position.map_or("none".to_owned(), |position| position.to_string());
        pairs(&[
            ("stream", harmless(&report.aggregate_id)),
            ("events", verdict.to_owned()),
            ("version", report.version.to_string()),
            ("proven", report.proven_events.to_string()),
            ("unsealed", report.unsealed_events.to_string()),
            ("checkpoint", checkpoint),
        ])
    })?;
    match &report.first_bad {
        None => Ok(()),
        Some(bad) => {
            let place = bad.position.map_or(String::new(), |position| format!(", position {position}"));
            let said = format!("the stream was altered: sequence {}{place}: {}", bad.sequence, bad.reason);
            Err(Failure::new(Exit::Integrity, said))
        }
    }
}

impl From<BeginError> for Failure {
    fn from(error: BeginError) -> Self {
        match error {
            BeginError::Checkpoint(reason) => Self::new(Exit::Integrity, reason),
            BeginError::Folder(_) => Self::usage(error.to_string()),
            BeginError::Store(error) => error.into(),
        }
    }
}

impl From<VerifyError> for Failure {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Store(error) => error.into(),
            VerifyError::Cancelled => Self::new(Exit::Failed, error.to_string()),
            VerifyError::Checkpoint(reason) => Self::usage(reason),
        }
    }
}

impl From<AcceptError> for Failure {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::Unsound(_) => Self::new(Exit::Integrity, error.to_string()),
            AcceptError::Verify(error) => error.into(),
            AcceptError::Folder(_) => Self::usage(error.to_string()),
            AcceptError::Store(error) => error.into(),
        }
    }
}

impl Target {
    /// Verifies one stream.
    async fn verify_stream(&self, stream: &AggregateId) -> Result<StreamReport, Failure> {
        match self {
            Self::Local(local) => {
                let report = local.bounded(evidence(local)?.verify_stream(stream.as_str())).await?;
                report.ok_or_else(|| Failure::not_found(format!("there is no aggregate {:?}", stream.as_str())))
            }
            #[cfg(feature = "http")]
            Self::Remote(remote) => remote.verify_stream(stream).await,
        }
    }

    /// Begins a verification in the server.
    #[cfg(feature = "http")]
    async fn begin_verification(&self, from: Option<&str>) -> Result<event_sourcing_cqrs::wire::Operation, Failure> {
        match self {
            Self::Local(_) => Err(Failure::usage("there is no server")),
            Self::Remote(remote) => remote.begin_verification(from).await,
        }
    }
}

//! `keys backup` and `keys restore`: the wrapped keys of personal data, apart from the backup of the log.

use std::{
    io::{BufWriter, Read, Write},
    path::PathBuf,
    sync::Arc,
    time::Instant,
};

use clap::{Args, Subcommand};
use event_sourcing_actors::ports::SystemClock;
use event_sourcing_cqrs::{
    app,
    archive::{KeySource, KeysBackedUp, KeysError, KeysRestored, back_up_keys, restore_keys},
};
use serde::Serialize;

use super::{
    Context,
    backup::milliseconds,
    exit::{Exit, Failure},
    file::{NewFile, cannot, is_standard, reader},
    local::Local,
    output::talk,
    progress::{Bar, Work},
    target::{Part, Target},
    text::pairs,
};

const BACKING_UP: Work = Work { doing: "backing up", done: "backed up", things: "keys" };
const RESTORING: Work = Work { doing: "restoring", done: "looked at", things: "keys" };

/// Words about the keys of personal data.
#[derive(Debug, Subcommand)]
pub(crate) enum Keys {
    /// Write the wrapped keys into a file of their own, also while servers run
    Backup(BackUp),
    /// Put keys back into a store that was restored without them, but for those of people who were erased
    Restore(PutBack),
}

/// Write the wrapped keys into a file of their own, also while servers run.
///
/// They open nothing without the master key. Whoever is erased later is still in this file: keep it no longer than
/// backups, under the same rules.
#[derive(Debug, Args)]
pub(crate) struct BackUp {
    /// The file to make, or `-` for standard output
    file: PathBuf,
}

/// Put keys back into a store that was restored without them, but for those of people who were erased.
///
/// No server may run: it would go on with what it has read without them. Read models that were made without them are made
/// again. Doing it again changes no key.
#[derive(Debug, Args)]
pub(crate) struct PutBack {
    /// The key file, or `-` for standard input
    file: PathBuf,
    /// Check every key against this store and its master key file, and store nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, Serialize)]
struct BackedUp {
    file: String,
    #[serde(flatten)]
    summary: KeysBackedUp,
    duration_ms: f64,
}

#[derive(Debug, Serialize)]
struct Restored {
    file: String,
    #[serde(flatten)]
    summary: KeysRestored,
    /// Read models that the next server makes again.
    rebuilt: Vec<String>,
    duration_ms: f64,
}

impl Keys {
    /// Does it.
    pub(crate) async fn run(self, context: Context) -> Result<(), Failure> {
        if context.url.is_some() {
            return Err(Failure::usage("keys works on the configured store, not with --url"));
        }
        match self {
            Self::Backup(word) => word.run(&context).await,
            Self::Restore(word) => word.run(&context).await,
        }
    }
}

/// The store, opened without its keys; both words are on record.
async fn open(context: &Context) -> Result<Target, Failure> {
    Ok(Target::Local(Box::new(Local::open(context, Part::Inspects).await?)))
}

fn local(target: &Target) -> Result<&Local, Failure> {
    match target {
        Target::Local(local) => Ok(local),
        #[cfg(feature = "http")]
        Target::Remote(_) => Err(Failure::usage("keys works on the configured store")),
    }
}

impl BackUp {
    async fn run(&self, context: &Context) -> Result<(), Failure> {
        // Before anything is opened or put on record.
        let new = if is_standard(&self.file) { None } else { Some(NewFile::create(&self.file)?) };
        let target = match open(context).await {
            Ok(target) => target,
            Err(failure) => {
                new.into_iter().for_each(NewFile::discard);
                return Err(failure);
            }
        };
        let name = self.file.display().to_string();
        let result = target.audited("keys backup", name, Box::pin(self.write(context, &target, new))).await;
        target.close().await;
        result
    }

    async fn write(&self, context: &Context, target: &Target, new: Option<NewFile>) -> Result<(), Failure> {
        let (started, storage) = (Instant::now(), local(target)?.app().storage());
        let store_id = storage.id().unwrap_or_default();
        let (keys, kind) = (storage.subject_keys(), storage.kind());
        let is_named = context.settings.erasure.master_key_file.is_some();
        let is_kept = !is_named && keys.kept_master(None).await?.is_some();
        let source = KeySource { keys, store_id, kind, clock: Arc::new(SystemClock) };
        let mut bar = Bar::new(BACKING_UP);
        let Some(new) = new else {
            let backed = back_up_keys(source, std::io::stdout(), &mut |done, total| bar.show(done, total)).await;
            bar.end();
            // Standard output is taken by the file itself.
            let (summary, _) = backed?;
            talk(&written(&BackedUp { file: "-".to_owned(), summary, duration_ms: milliseconds(started) }));
            return Ok(());
        };
        let out = new.file.try_clone().map_err(|error| cannot("written", &self.file, &error))?;
        let backed = back_up_keys(source, BufWriter::new(out), &mut |done, total| bar.show(done, total)).await;
        bar.end();
        let flushed = backed.and_then(|(summary, mut out)| match out.flush() {
            Ok(()) => Ok(summary),
            Err(error) => Err(KeysError::Write(error)),
        });
        let summary = match flushed {
            Ok(summary) => summary,
            Err(error) => {
                new.discard();
                return Err(match error {
                    KeysError::Write(error) => cannot("written", &self.file, &error),
                    other => other.into(),
                });
            }
        };
        new.keep()?;
        talk(match is_kept {
            true => {
                "the keys in it are wrapped by the master key that the database keeps: name erasure.master_key_file, start \
                 once, and keep that file, or nothing opens them when the database is gone"
            }
            false => "the keys in it are wrapped: keep the master key file apart from it",
        });
        talk("whoever is erased from now on is still in this file, so keep it no longer than you must");
        let answer = BackedUp { file: self.file.display().to_string(), summary, duration_ms: milliseconds(started) };
        context.output.document(&answer, || written(&answer))
    }
}

fn written(answer: &BackedUp) -> String {
    let BackedUp { file, summary, duration_ms } = answer;
    pairs(&[
        ("key file", file.clone()),
        ("file id", summary.file_id.to_string()),
        ("store id", summary.store_id.to_string()),
        ("keys", summary.keys.to_string()),
        ("of erased people", format!("{}, without key", summary.destroyed)),
        ("wrapped by", list(&summary.masters)),
        ("bytes", summary.bytes.to_string()),
        ("digest", summary.digest.clone()),
        ("took", format!("{:.1} s", duration_ms / 1e3)),
    ])
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

impl PutBack {
    async fn run(&self, context: &Context) -> Result<(), Failure> {
        // A file that cannot be read leaves no trace in the audit.
        let (file, _) = reader(&self.file)?;
        let target = open(context).await?;
        let work = Box::pin(self.read(context, &target, file));
        let name = self.file.display().to_string();
        let result = if self.dry_run { work.await } else { target.audited("keys restore", name, work).await };
        target.close().await;
        let restored = result?;
        context.output.document(&restored, || put_back(&restored))?;
        match restored.summary.replaced {
            0 => Ok(()),
            count => Err(Failure::new(
                Exit::Conflict,
                format!(
                    "{count} people have got another key here since the log was restored, which stays: what their old keys \
                     sealed reads \"[sealed]\""
                ),
            )),
        }
    }

    async fn read(
        &self,
        context: &Context,
        target: &Target,
        file: impl Read + Send + 'static,
    ) -> Result<Restored, Failure> {
        let (started, local) = (Instant::now(), local(target)?);
        if has_server(local).await? {
            return Err(Failure::new(
                Exit::Conflict,
                "a server is running on this store, and would go on with what it has read without the keys: stop it first \
                 (or wait until the lease of one that died is over)",
            ));
        }
        let place = app::key_place(&context.settings, local.app().storage()).await.map_err(app::AppError::from)?;
        let mut bar = Bar::new(RESTORING);
        let restored = restore_keys(file, place, self.dry_run, &mut |done, total| bar.show(done, total)).await;
        bar.end();
        let summary = restored.map_err(|error| told(context, local, error))?;
        let mut rebuilt = Vec::new();
        // Also after keys that are there already: the work may have been cut off before this.
        if !self.dry_run && summary.restored + summary.already_there + summary.newly_erased > 0 {
            rebuilt = rebuild(local).await?;
        }
        if !self.dry_run && has_server(local).await? {
            return Err(Failure::new(
                Exit::Conflict,
                "the keys are back, but a server came up meanwhile and may go on with what it has read without them: restart it",
            ));
        }
        Ok(Restored { file: self.file.display().to_string(), summary, rebuilt, duration_ms: milliseconds(started) })
    }
}

/// Whether a server holds the lease of a projection.
async fn has_server(local: &Local) -> Result<bool, Failure> {
    let reports = local.bounded(local.app().runtime().projections().list()).await?;
    Ok(reports.iter().any(|report| report.owner.is_some()))
}

/// Has read models made again that were made while the keys were away; those that will be.
async fn rebuild(local: &Local) -> Result<Vec<String>, Failure> {
    let runtime = local.app().runtime();
    let mut names = local.bounded(runtime.erasures().read_models_about_people()).await?;
    let mut refused = Vec::new();
    for name in &names {
        // One that is under way already reads on with the keys, but has begun without them.
        if let Err(error) = local.bounded(runtime.projections().rebuild(name, true)).await {
            talk(&format!(
                "the read model {name} was made without the keys, and cannot be made again by itself: {error}"
            ));
            refused.push(name.clone());
        }
    }
    names.retain(|name| !refused.contains(name));
    Ok(names)
}

/// What helps where a master key is missing.
fn told(context: &Context, local: &Local, error: KeysError) -> Failure {
    let file = context.settings.master_key_file(local.app().storage().id());
    let file = file.map_or_else(String::new, |file| file.display().to_string());
    let is_of_master = matches!(error, KeysError::ForeignMaster { .. } | KeysError::StandingMaster { .. });
    let failure = Failure::from(error);
    if !is_of_master {
        return failure;
    }
    failure.and(format!(
        "that file is {file}: add that master key to it as a further line, or name another file with erasure.master_key_file"
    ))
}

fn put_back(restored: &Restored) -> String {
    let Restored { summary, rebuilt, .. } = restored;
    let verb = if summary.dry_run { "would be restored" } else { "restored" };
    let mut rows = vec![
        ("key file", summary.file_id.to_string()),
        ("store id", summary.store_id.to_string()),
        (verb, summary.restored.to_string()),
        ("there already", summary.already_there.to_string()),
        ("left out: erased", summary.erased.to_string()),
        ("left out: replaced", summary.replaced.to_string()),
        ("newly known as erased", summary.newly_erased.to_string()),
    ];
    if !rebuilt.is_empty() {
        rows.push(("made again", format!("{}, by the next server", rebuilt.join(", "))));
    }
    pairs(&rows)
}

impl From<KeysError> for Failure {
    fn from(error: KeysError) -> Self {
        let exit = match error {
            KeysError::File(error) => return error.into(),
            KeysError::Write(error) => return error.into(),
            KeysError::Store(error) => return error.into(),
            KeysError::OtherStore { .. } => Exit::Conflict,
            KeysError::ForeignMaster { .. } | KeysError::StandingMaster { .. } => Exit::Usage,
            KeysError::Unopenable { .. } => Exit::Integrity,
            KeysError::Cancelled => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}

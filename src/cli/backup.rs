//! `backup` and `restore`, and `verify` of a backup.

use std::{
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use event_sourcing_actors::ports::SystemClock;
use event_sourcing_cqrs::{
    app::{self, Storage},
    archive::{
        BackupError, BackupSummary, FileError, Inspected, Refused, RestoreError, Restored, Source, back_up, inspect,
        restore,
    },
    integrity::Report,
    settings::{Database, Settings},
};
use serde::Serialize;

use super::{
    Context,
    exit::{Exit, Failure},
    file::{NewFile, cannot, is_standard, reader},
    output::talk,
    progress::{Bar, Work},
    text::pairs,
};

const BACKING_UP: Work = Work { doing: "backing up", done: "backed up", things: "events" };
const RESTORING: Work = Work { doing: "restoring", done: "restored or verified", things: "events" };
const VERIFYING: Work = Work { doing: "verifying", done: "verified", things: "events" };

/// Write a backup of the log, also while servers write to it; every event is verified on the way.
#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// The file to make, or `-` for standard output
    file: PathBuf,
    /// Put the secret key in, too: whoever reads the backup can then sign in the store's name
    #[arg(long)]
    with_signing_key: bool,
}

/// Put a backup into an empty store, of any kind, and verify it there; a restoration that broke off is gone on with.
#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The backup, or `-` for standard input
    #[arg(required_unless_present = "discard")]
    file: Option<PathBuf>,
    /// Empty a store whose restoration is unfinished
    #[arg(long, conflicts_with = "file")]
    discard: bool,
}

#[derive(Debug, Serialize)]
struct BackedUp {
    file: String,
    #[serde(flatten)]
    summary: BackupSummary,
    duration_ms: f64,
}

/// Since an instant, to the microsecond.
pub(super) fn milliseconds(since: std::time::Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1e6).round() / 1e3
}

fn store_only(context: &Context, word: &str) -> Result<(), Failure> {
    if context.url.is_some() {
        return Err(Failure::usage(format!(
            "{word} works on the configured store, also beside a server, not with --url"
        )));
    }
    if context.settings.event_store.database_url == Database::Memory {
        return Err(Failure::usage("memory: belongs to one process, so there is nothing to be found there"));
    }
    Ok(())
}

impl Backup {
    /// Does it.
    pub(crate) async fn run(self, context: Context) -> Result<(), Failure> {
        store_only(&context, "backup")?;
        let storage = Storage::open_to_look(&context.settings.event_store, context.timeout).await?;
        let result = self.write(&context, &storage).await;
        storage.close().await;
        result
    }

    async fn write(&self, context: &Context, storage: &Storage) -> Result<(), Failure> {
        let started = std::time::Instant::now();
        let source = Source {
            store: storage.tree(),
            kind: storage.kind(),
            schema: storage.schema_version().await?,
            vault: app::vault(&context.settings, storage.id().unwrap_or_default()),
            clock: Arc::new(SystemClock),
            with_signing_key: self.with_signing_key,
        };
        let mut bar = Bar::new(BACKING_UP);
        if is_standard(&self.file) {
            let backed = back_up(source, std::io::stdout(), &mut |done, total| bar.show(done, total)).await;
            bar.end();
            // Standard output is taken by the backup itself.
            let (summary, _) = backed?;
            talk(&human(&BackedUp { file: "-".to_owned(), summary, duration_ms: milliseconds(started) }));
            return Ok(());
        }
        let new = NewFile::create(&self.file)?;
        let out = new.file.try_clone().map_err(|error| cannot("written", &self.file, &error))?;
        let out = BufWriter::with_capacity(1 << 20, out);
        let backed = back_up(source, out, &mut |done, total| bar.show(done, total)).await;
        bar.end();
        let summary = match backed {
            Ok((summary, mut out)) => out.flush().map(|()| summary).map_err(BackupError::Write),
            Err(error) => Err(error),
        };
        let summary = match summary {
            Ok(summary) => summary,
            Err(BackupError::Write(error)) => {
                new.discard();
                return Err(cannot("written", &self.file, &error));
            }
            Err(error) => {
                new.discard();
                return Err(error.into());
            }
        };
        new.keep()?;
        if self.with_signing_key {
            talk("the backup holds the secret key: keep it as you keep that");
        }
        let answer = BackedUp { file: self.file.display().to_string(), summary, duration_ms: milliseconds(started) };
        context.output.document(&answer, || human(&answer))
    }
}

fn human(answer: &BackedUp) -> String {
    let BackedUp { file, summary, duration_ms } = answer;
    let checkpoint = summary.checkpoint_position.map_or("none".to_owned(), |position| position.to_string());
    pairs(&[
        ("backup", file.clone()),
        ("backup id", summary.backup_id.to_string()),
        ("store id", summary.store_id.to_string()),
        ("head position", summary.head_position.to_string()),
        ("tree root", summary.tree_root.clone()),
        ("checkpoint", checkpoint),
        ("bytes", summary.bytes.to_string()),
        ("digest", summary.digest.clone()),
        ("took", format!("{:.1} s", duration_ms / 1e3)),
    ])
}

impl Restore {
    /// Does it.
    pub(crate) async fn run(self, context: Context) -> Result<(), Failure> {
        store_only(&context, "restore")?;
        // A file that cannot be read makes no store.
        let file = self.file.as_deref().map(reader).transpose()?;
        let storage = match file {
            Some(_) => Storage::open_to_restore(&context.settings.event_store, context.timeout).await?,
            None if missing(&context.settings) => {
                return Err(Failure::not_found("there is no such store, so nothing is to be discarded"));
            }
            None => Storage::open_to_restore(&context.settings.event_store, context.timeout).await?,
        };
        let result = match file {
            Some((file, _)) => fill(&context, &storage, file).await,
            None => discard(&context, &storage).await,
        };
        storage.close().await;
        result
    }
}

fn missing(settings: &Settings) -> bool {
    matches!(&settings.event_store.database_url, Database::Sqlite { path } if !path.exists())
}

async fn discard(context: &Context, storage: &Storage) -> Result<(), Failure> {
    let store = storage.restorable().ok_or_else(|| Failure::usage("memory: cannot be restored into"))?;
    if !store.discard_restore().await? {
        return Err(Failure::not_found("no restoration is unfinished here, so nothing was discarded"));
    }
    context.output.document(&serde_json::json!({ "discarded": true }), || {
        "the unfinished restoration was discarded; the store is empty".to_owned()
    })
}

async fn fill(context: &Context, storage: &Storage, file: impl std::io::Read + Send + 'static) -> Result<(), Failure> {
    let store = storage.restorable().ok_or_else(|| Failure::usage("memory: cannot be restored into"))?;
    let mut bar = Bar::new(RESTORING);
    let settings = context.settings.clone();
    let vault = move |store_id| app::vault(&settings, store_id);
    let restored = restore(file, store, vault, &SystemClock, &mut |done, total| bar.show(done, total)).await;
    bar.end();
    let restored = restored?;
    if let Some(newer) = restored.newer_checkpoint {
        talk(&format!(
            "a checkpoint here covers {newer}, the restored log ends at {}: servers will take no appends until that loss is \
             accepted with `event-sourcing-cqrs verify --accept-rollback`",
            restored.head_position
        ));
    }
    talk("read models are made again from the log when a server starts");
    talk(
        "keys of personal data are not in a backup: before a server starts, put them back with \
         `event-sourcing-cqrs keys restore` from a key file, beside the master key file; without them what they sealed reads \
         \"[sealed]\"",
    );
    context.output.document(&restored, || told(&restored))
}

fn told(restored: &Restored) -> String {
    let resumed = match restored.resumed_after {
        0 => "no".to_owned(),
        position => format!("after position {position}"),
    };
    pairs(&[
        ("backup id", restored.backup_id.to_string()),
        ("store id", restored.store_id.to_string()),
        ("head position", restored.head_position.to_string()),
        ("tree root", restored.tree_root.clone()),
        ("resumed", resumed),
        ("verified", format!("1 to {}", restored.report.verified_position)),
    ])
}

/// Verifies a backup against its own digests and every checkpoint, its own and those that are known here.
pub(crate) async fn verify_file(context: &Context, path: &Path) -> Result<Report, Failure> {
    let (file, _) = reader(path)?;
    let settings = context.settings.clone();
    let inspected = tokio::task::spawn_blocking(move || {
        let mut bar = Bar::new(VERIFYING);
        let found =
            inspect(file, |manifest| app::vault(&settings, manifest.store_id).moved(false), &mut |done, total| {
                bar.show(done, total)
            });
        bar.end();
        found
    });
    let inspected = inspected.await.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    let Inspected { manifest, report } = inspected?;
    talk(&format!(
        "a backup of store {} ({}), made at {} by version {}",
        manifest.store_id,
        super::text::harmless(&manifest.store_kind),
        manifest.created_at.format("%Y-%m-%d %H:%M:%SZ"),
        super::text::harmless(&manifest.program)
    ));
    Ok(report)
}

impl From<FileError> for Failure {
    fn from(error: FileError) -> Self {
        let exit = match &error {
            FileError::Io(error) => return Self::new(Exit::Failed, format!("the file cannot be read: {error}")),
            FileError::Other(_) | FileError::Confused(_) | FileError::NewerFormat(_) => Exit::Usage,
            FileError::Damaged { .. } => Exit::Integrity,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<BackupError> for Failure {
    fn from(error: BackupError) -> Self {
        let exit = match error {
            BackupError::Store(error) => return error.into(),
            BackupError::Altered(_) => Exit::Integrity,
            BackupError::Folder(_) => Exit::Usage,
            BackupError::Write(error) => return error.into(),
            BackupError::Cancelled => Exit::Failed,
        };
        Self::new(exit, error.to_string())
    }
}

impl From<RestoreError> for Failure {
    fn from(error: RestoreError) -> Self {
        const UNFINISHED: &str =
            "the store is not whole: restore the same backup again to go on, or empty it with `restore --discard`";
        let exit = match error {
            RestoreError::Refused(Refused::Store(error)) => return error.into(),
            RestoreError::Refused(Refused::CameUp) => Exit::Conflict,
            RestoreError::Refused(refused) => return Self::new(Exit::Conflict, refused.to_string()),
            RestoreError::File(error) if error.is_another() => return error.into(),
            RestoreError::File(error) => return Self::from(error).and(UNFINISHED),
            RestoreError::Store(error) => return Self::from(error).and(UNFINISHED),
            RestoreError::Altered(_) | RestoreError::Unsound(_) => Exit::Integrity,
            RestoreError::Folder(_) => Exit::Usage,
            RestoreError::Cancelled => Exit::Failed,
        };
        Self::new(exit, error.to_string()).and(UNFINISHED)
    }
}

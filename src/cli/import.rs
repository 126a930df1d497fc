//! `import`: events of another store, or of another program, into this one.

use std::path::PathBuf;

use clap::Args;
use event_sourcing_actors::ports::SystemClock;
use event_sourcing_cqrs::{
    app::Storage,
    archive::{ImportError, ImportOptions, Imported, import},
    settings::Database,
};

use super::{
    Context,
    exit::{Exit, Failure},
    file::reader,
    local::Local,
    output::talk,
    progress::{Bar, Work},
    target::{Part, Target},
    text::pairs,
};

/// Doing the same again is right after every fault.
const AGAIN: &str = "what came before is stored; once this is mended, import the same file again";

/// Append events from lines of CloudEvents, as `export` writes them; doing it again changes nothing.
///
/// A stream must be new here, or continue exactly. Event ids, payloads and metadata are kept; positions and instants are
/// new: `backup` and `restore` keep those too.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The file, or `-` for standard input
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Check every line against this store, and store nothing
    #[arg(long)]
    dry_run: bool,
}

impl Import {
    /// Does it.
    pub(crate) async fn run(self, context: Context) -> Result<(), Failure> {
        if context.url.is_some() {
            return Err(Failure::usage("import works on the configured store, also beside a server, not with --url"));
        }
        let (file, length) = reader(&self.file)?;
        let settings = &context.settings.event_store;
        if !self.dry_run && settings.database_url != Database::Memory {
            // An empty store is a fine place; a store that is not there yet is as empty.
            Storage::migrate(settings, context.timeout).await?;
        }
        let target = Target::Local(Box::new(Local::open(&context, Part::Looks).await?));
        let imported = if self.dry_run {
            self.read(file, length, &target).await
        } else {
            let name = self.file.display().to_string();
            target.audited("import", name, Box::pin(self.read(file, length, &target))).await
        };
        target.close().await;
        let imported = imported?;
        if imported.imported > 0 && !imported.dry_run {
            talk("event ids, payloads and metadata were kept; positions and instants are those of this store");
        }
        context.output.document(&imported, || human(&imported))
    }

    async fn read(
        &self,
        file: impl std::io::BufRead + Send + 'static,
        length: u64,
        target: &Target,
    ) -> Result<Imported, Failure> {
        let app = match target {
            Target::Local(local) => local.app(),
            #[cfg(feature = "http")]
            Target::Remote(_) => return Err(Failure::usage("import works on the configured store")),
        };
        let (events, runtime) = (app.storage().events(), app.runtime().clone());
        let options = ImportOptions { dry_run: self.dry_run };
        let mut bar = Bar::new(Work { doing: "importing", done: "read", things: "bytes" });
        let mut show = |_: u64, bytes: u64| bar.show(bytes, length.max(bytes));
        let imported = import(file, events, &runtime, &SystemClock, options, &mut show).await;
        bar.end();
        imported.map_err(|error| {
            let failure = Failure::from(error);
            if self.dry_run { failure } else { failure.and(AGAIN) }
        })
    }
}

fn human(imported: &Imported) -> String {
    let verb = if imported.dry_run { "would be stored" } else { "stored" };
    let mut rows = vec![
        ("lines", imported.lines.to_string()),
        (verb, imported.imported.to_string()),
        ("there already", imported.already_there.to_string()),
    ];
    if let (Some(first), Some(last)) = (imported.first_position, imported.last_position) {
        rows.push(("positions", format!("{first} to {last}")));
    }
    pairs(&rows)
}

impl From<ImportError> for Failure {
    fn from(error: ImportError) -> Self {
        let exit = match error {
            ImportError::Store(error) => return error.into(),
            ImportError::Read(error) => return Self::new(Exit::Failed, format!("the file cannot be read: {error}")),
            ImportError::Line { .. } | ImportError::Cancelled => Exit::Failed,
            ImportError::Conflict { .. } => Exit::Conflict,
        };
        Self::new(exit, error.to_string())
    }
}

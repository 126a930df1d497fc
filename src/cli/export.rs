//! `export`: the log as CloudEvents, one a line, for other programs.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufWriter, Read, Seek, SeekFrom, Write},
    num::NonZeroU32,
    path::{Path, PathBuf},
};

use clap::Args;
use event_sourcing_actors::Position;
use event_sourcing_cqrs::{archive::event, wire};
use serde::Serialize;

use super::{
    Context,
    events::Filter,
    exit::{Exit, Failure},
    file::{cannot, is_standard, private, sync_folder},
    output::talk,
    progress::{Bar, Work},
    target::{LogQuery, Target},
    text::pairs,
};

/// Events of one page.
const PAGE: NonZeroU32 = NonZeroU32::MIN.saturating_add(999);
/// What is read of the end of a file at once.
const TAIL_BYTES: u64 = 64 << 10;

/// Write the log as CloudEvents 1.0, one JSON document a line; payloads and metadata as they are stored.
///
/// Stored personal members are sealed under keys of this store, and open nowhere else.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The file to make, or `-` for standard output
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Only events after this position
    #[arg(long, value_name = "POSITION", default_value_t = 0)]
    after: u64,
    /// Only events up to this position [default: the head at the beginning]
    #[arg(long, value_name = "POSITION")]
    to_position: Option<u64>,
    #[command(flatten)]
    filter: Filter,
    /// Go on at the end of a file that an earlier export has left; a line that broke off there is written anew
    #[arg(long, conflicts_with = "after")]
    resume: bool,
    /// Write personal members as they read: in the clear, or "[erased]". Such lines have no checksum
    #[arg(long)]
    open_personal: bool,
}

#[derive(Debug, Serialize)]
struct Exported {
    file: String,
    events: u64,
    after: u64,
    /// The last position that was looked at.
    to_position: u64,
}

impl Export {
    /// Does it.
    pub(crate) async fn run(self, context: Context) -> Result<(), Failure> {
        if self.resume && is_standard(&self.file) {
            return Err(Failure::usage("--resume needs a file to go on with; for standard output use --after"));
        }
        let target = Target::open(&context).await?;
        let result = if self.open_personal {
            // Whoever wrote people's data out of the store is on record before it happens.
            let what = format!("{} after {}", self.file.display(), self.after);
            target.audited("export --open-personal", what, self.write(&context, &target)).await
        } else {
            self.write(&context, &target).await
        };
        target.close().await;
        result
    }

    async fn write(&self, context: &Context, target: &Target) -> Result<(), Failure> {
        let head = target.head().await?;
        let source = source(context, target);
        let to = self.to_position.unwrap_or(head.0).min(head.0);
        if is_standard(&self.file) {
            let mut out = BufWriter::new(io::stdout());
            let (events, to_position) = self.pages(target, &source, (self.after, to), &mut out).await?;
            out.flush()?;
            talk(&format!("exported {}; go on with --after {to_position}", super::text::count(events, "event")));
            return Ok(());
        }
        let failed = |error: io::Error| cannot("written", &self.file, &error);
        let (file, after) = if self.resume { resumed(&self.file)? } else { (created(&self.file)?, self.after) };
        let mut out = BufWriter::with_capacity(1 << 20, file);
        let (events, to_position) = self.pages(target, &source, (after, to), &mut out).await?;
        let file = out.into_inner().map_err(|error| failed(error.into_error()))?;
        file.sync_all().and_then(|()| sync_folder(&self.file)).map_err(failed)?;
        let answer = Exported { file: self.file.display().to_string(), events, after, to_position };
        context.output.document(&answer, || {
            pairs(&[
                ("export", answer.file.clone()),
                ("events", events.to_string()),
                ("positions", format!("after {after}, to {to_position}")),
            ])
        })
    }

    /// Page by page: never more than one is held. Returns the events written and the last position looked at.
    async fn pages(
        &self,
        target: &Target,
        source: &str,
        (after, to): (u64, u64),
        out: &mut impl Write,
    ) -> Result<(u64, u64), Failure> {
        let mut query = LogQuery { after: Position(after), filter: self.filter.parsed(), limit: PAGE, is_raw: true };
        let mut bar = Bar::new(Work { doing: "exporting", done: "looked at", things: "positions" });
        let mut written = 0;
        while query.after.0 < to {
            let page = target.log(&query).await?;
            let opened = self.opened(target, &query).await?;
            for event in page.events.iter().take_while(|event| event.position.0 <= to) {
                let line = line(event, opened.get(&event.position), source)?;
                let put = out.write_all(line.as_bytes()).and_then(|()| out.write_all(b"\n"));
                put.map_err(|error| self.broken(error))?;
                written += 1;
            }
            if page.next_cursor == query.after {
                break;
            }
            query.after = page.next_cursor;
            bar.show(query.after.0.min(to), to);
        }
        bar.end();
        out.flush().map_err(|error| self.broken(error))?;
        Ok((written, query.after.0.min(to).max(after)))
    }

    /// The same page with its personal members opened, if that is wanted.
    async fn opened(&self, target: &Target, query: &LogQuery) -> Result<HashMap<Position, wire::Event>, Failure> {
        if !self.open_personal {
            return Ok(HashMap::new());
        }
        let page = target.log(&LogQuery { is_raw: false, ..query.clone() }).await?;
        Ok(page.events.into_iter().map(|event| (event.position, event)).collect())
    }

    fn broken(&self, error: io::Error) -> Failure {
        // Whoever read standard output has seen enough.
        if is_standard(&self.file) {
            error.into()
        } else {
            cannot("written", &self.file, &error).and("--resume goes on")
        }
    }
}

/// The line of an event as it is stored, or of the same opened; what is stored must have its checksum either way.
fn line(event: &wire::Event, opened: Option<&wire::Event>, source: &str) -> Result<String, Failure> {
    if !event::is_intact(event) {
        let said = format!("position {}: the event does not have its checksum; it was altered", event.position);
        return Err(Failure::new(Exit::Integrity, said).and("`event-sourcing-cqrs verify` tells more"));
    }
    let line = match opened.filter(|opened| opened.data.get() != event.data.get()) {
        Some(opened) => event::opened_line(opened, source),
        None => event::line(event, source),
    };
    line.map_err(|error| Failure::new(Exit::Failed, error.to_string()))
}

/// Whose events: the store by its id, or the server by its address.
#[cfg_attr(not(feature = "http"), allow(unused_variables, reason = "only a server has an address"))]
fn source(context: &Context, target: &Target) -> String {
    match target {
        Target::Local(local) => {
            local.app().storage().id().map_or_else(|| "urn:event-store".to_owned(), |id| format!("urn:uuid:{id}"))
        }
        #[cfg(feature = "http")]
        Target::Remote(_) => context.url.clone().unwrap_or_default(),
    }
}

fn created(path: &Path) -> Result<File, Failure> {
    private().create_new(true).write(true).open(path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            let said = format!("{} is there already, and is not replaced", path.display());
            Failure::new(Exit::Conflict, said).and("--resume goes on at its end; or name another file")
        }
        _ => cannot("written", path, &error),
    })
}

/// The file, cut after its last whole line, and the position of that line; a file that is not there is made.
fn resumed(path: &Path) -> Result<(File, u64), Failure> {
    let opened = private().read(true).write(true).create(true).truncate(false).open(path);
    let mut file = opened.map_err(|error| cannot("written", path, &error))?;
    let (length, last) = last_line(&mut file).map_err(|error| cannot("read", path, &error))?;
    let after = match last.as_deref().map(event::place) {
        None => 0,
        Some(Some((position, _))) => position,
        Some(None) => {
            let said = format!("the last line of {} is no exported event, so nothing can be added", path.display());
            return Err(Failure::usage(said));
        }
    };
    let cut = file.set_len(length).and_then(|()| file.seek(SeekFrom::End(0)));
    cut.map_err(|error| cannot("written", path, &error))?;
    Ok((file, after))
}

/// The length up to the end of the last whole line, and that line.
fn last_line(file: &mut File) -> io::Result<(u64, Option<String>)> {
    let length = file.metadata()?.len();
    let (mut start, mut tail) = (length, Vec::new());
    loop {
        let end = tail.iter().rposition(|byte| *byte == b'\n');
        let begin = end.and_then(|end| tail[..end].iter().rposition(|byte| *byte == b'\n'));
        match (end, begin) {
            (Some(end), Some(begin)) => return Ok((start + end as u64 + 1, Some(text(&tail[begin + 1..end])?))),
            (Some(end), None) if start == 0 => return Ok((end as u64 + 1, Some(text(&tail[..end])?))),
            (None, _) if start == 0 => return Ok((0, None)),
            _ => {}
        }
        let size = start.min(TAIL_BYTES.max(tail.len() as u64));
        start -= size;
        let mut more = vec![0; usize::try_from(size).unwrap_or(0)];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut more)?;
        more.append(&mut tail);
        tail = more;
    }
}

fn text(bytes: &[u8]) -> io::Result<String> {
    String::from_utf8(bytes.to_vec()).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_whole_line_is_found_however_long_it_is() {
        let long = "x".repeat(300_000);
        for (content, length, last) in [
            (String::new(), 0, None),
            ("half".to_owned(), 0, None),
            ("one\n".to_owned(), 4, Some("one")),
            ("one\ntwo\nhal".to_owned(), 8, Some("two")),
            (format!("one\n{long}\nhal"), 4 + 300_001, Some(long.as_str())),
            (format!("one\n{long}"), 4, Some("one")),
        ] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(content.as_bytes()).unwrap();
            let found = last_line(&mut file).unwrap();
            assert_eq!(found, (length, last.map(str::to_owned)));
        }
    }
}

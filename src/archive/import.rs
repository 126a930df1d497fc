//! Taking events from elsewhere into a log: through the store's own append, page by page, in the order of the lines.
//!
//! A page is one unit of an append, over all streams it touches: it is stored whole or not at all, and events that are
//! there already are recognised by their ids, so an import that broke off is simply done again.
//!
//! Personal members are sealed before they are stored, under this store's keys, as commands seal them.

use std::{
    collections::HashMap,
    io::{BufRead, Read},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use event_sourcing_actors::{
    AggregateId, AggregateType, EventId, NewEvent, Position, RecordedEvent, Runtime, StreamHead,
    envelope::EventBody,
    ports::{AppendBatch, AppendUnit, Clock, CommandProbe, EventStore, StoreError, StreamClaim, UnitOutcome},
    vault::{ForeignError, TakenIn},
};
use serde::Serialize;

use super::event::{Incoming, parse};
use crate::integrity::Progress;

/// Events of a page.
const PAGE_EVENTS: usize = 1_000;
/// Bytes of lines in a page, unless one alone is longer.
const PAGE_BYTES: usize = 4 << 20;
/// Longest line.
const LINE_BYTES_MAX: usize = 64 << 20;
/// Streams whose heads are remembered.
const HEADS_MAX: usize = 1_000_000;
/// How often a page is tried, while the store does not answer or somebody else writes to the same streams.
const TRIES_MAX: u32 = 20;
/// How events come here whose ciphertext means nothing here.
const ELSEWHERE: &str =
    "export them again with --open-personal, or move the whole log with backup and restore, and the keys apart";
const PAUSE: Duration = Duration::from_millis(250);

/// How to import.
#[derive(Debug, Clone, Copy, Default)]
pub struct ImportOptions {
    /// Checks everything and stores nothing.
    pub dry_run: bool,
}

/// What was imported.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// Lines read, empty ones not counted.
    pub lines: u64,
    /// Events stored, or, in a dry run, that would be.
    pub imported: u64,
    /// Events that were there already, with the same content.
    pub already_there: u64,
    /// Where the first of them went.
    pub first_position: Option<u64>,
    /// Where the last of them went.
    pub last_position: Option<u64>,
    /// Whether nothing was stored.
    pub dry_run: bool,
}

/// Why an import ended. What came before the line named is stored.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A line is not what it should be.
    #[error("line {line}: {reason}")]
    Line {
        /// Its number, from 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// A line does not fit what is stored.
    #[error("line {line}: {reason}")]
    Conflict {
        /// Its number, from 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// The lines cannot be read.
    #[error("the file cannot be read: {0}")]
    Read(#[from] std::io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Somebody gave it up.
    #[error("given up")]
    Cancelled,
}

type Lines = Vec<(u64, String)>;

/// Imports lines.
///
/// # Errors
/// [`ImportError`].
pub async fn import<R: BufRead + Send + 'static>(
    from: R,
    events: Arc<dyn EventStore>,
    runtime: &Runtime,
    clock: &dyn Clock,
    options: ImportOptions,
    progress: Progress<'_>,
) -> Result<Imported, ImportError> {
    let heads = HashMap::new();
    let mut import = Import { events, runtime, clock, options, heads, done: Imported::default() };
    import.done.dry_run = options.dry_run;
    let (mut reader, mut number, mut bytes) = (from, 0, 0);
    loop {
        let (back, page) = read_page(reader, number).await?;
        (reader, number) = (back, page.last);
        if page.lines.is_empty() {
            return Ok(import.done);
        }
        bytes += page.bytes as u64;
        import.take(&page.lines).await?;
        if !progress(import.done.lines, bytes) {
            return Err(ImportError::Cancelled);
        }
    }
}

struct Page {
    lines: Lines,
    bytes: usize,
    last: u64,
}

async fn read_page<R: BufRead + Send + 'static>(mut from: R, mut number: u64) -> Result<(R, Page), ImportError> {
    let read = tokio::task::spawn_blocking(move || {
        let (mut lines, mut bytes) = (Lines::new(), 0);
        while lines.len() < PAGE_EVENTS && bytes < PAGE_BYTES {
            let mut line = Vec::new();
            let length = from.by_ref().take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line)?;
            if length == 0 {
                break;
            }
            (number, bytes) = (number + 1, bytes + length);
            if length > LINE_BYTES_MAX {
                return Err(ImportError::Line { line: number, reason: "it is longer than 64 MiB".to_owned() });
            }
            let is_text = |_| ImportError::Line { line: number, reason: "it is not UTF-8".to_owned() };
            let line = String::from_utf8(line).map_err(is_text)?;
            if !line.trim().is_empty() {
                lines.push((number, line));
            }
        }
        Ok((from, Page { lines, bytes, last: number }))
    });
    read.await.unwrap_or_else(|error| Err(std::io::Error::other(error).into()))
}

struct Import<'a> {
    events: Arc<dyn EventStore>,
    runtime: &'a Runtime,
    clock: &'a dyn Clock,
    options: ImportOptions,
    /// Streams that were seen, with their last events.
    heads: HashMap<AggregateId, (AggregateType, StreamHead)>,
    done: Imported,
}

impl Import<'_> {
    async fn take(&mut self, lines: &Lines) -> Result<(), ImportError> {
        let parsed = lines.iter().map(|(line, text)| {
            let parsed = parse(text).map_err(|error| ImportError::Line { line: *line, reason: error.0 });
            parsed.map(|incoming| (*line, incoming))
        });
        let page = parsed.collect::<Result<Vec<_>, _>>()?;
        let mut tries = 0;
        loop {
            match self.attempt(&page).await {
                Ok(true) => {
                    self.done.lines += lines.len() as u64;
                    return Ok(());
                }
                Ok(false) if tries < TRIES_MAX => {}
                Err(ImportError::Store(StoreError::Unavailable { .. })) if tries < TRIES_MAX => {
                    tokio::time::sleep(PAUSE).await;
                }
                Ok(false) => {
                    let line = page.first().map_or(0, |(line, _)| *line);
                    let reason = "others keep writing to the same streams; stop them, or try again".to_owned();
                    return Err(ImportError::Conflict { line, reason });
                }
                Err(error) => return Err(error),
            }
            // Whether it was stored, and what others did, is seen by looking anew.
            self.heads.clear();
            tries += 1;
        }
    }

    /// Stores what is not there yet; `false` when the streams have moved meanwhile.
    async fn attempt(&mut self, page: &[(u64, Incoming)]) -> Result<bool, ImportError> {
        let there = self.known(page).await?;
        let new: Vec<&(u64, Incoming)> =
            page.iter().filter(|(_, one)| !there.contains_key(&one.body.event_id)).collect();
        for (line, incoming) in page {
            if let Some(event) = there.get(&incoming.body.event_id) {
                same(*line, incoming, event)?;
            }
        }
        let taken = self.taken(&new).await?;
        if self.heads.len() > HEADS_MAX {
            if self.options.dry_run {
                let line = page.first().map_or(0, |(line, _)| *line);
                let reason = format!("a dry run follows {HEADS_MAX} streams at most; all before this line is fine");
                return Err(ImportError::Line { line, reason });
            }
            self.heads.clear();
        }
        let Some(unit) = self.unit(&new, taken).await? else {
            self.done.already_there += page.len() as u64;
            return Ok(true);
        };
        let added = unit.events.len() as u64;
        if !self.options.dry_run {
            // In a task of its own: an append must not be dropped half-way.
            let (events, batch) = (self.events.clone(), AppendBatch { units: vec![unit] });
            let appended = tokio::spawn(async move { events.append(batch).await }).await;
            let outcomes = appended.map_err(|error| std::io::Error::other(error.to_string()))??;
            match outcomes.into_iter().next() {
                Some(UnitOutcome::Committed(committed)) => {
                    let first = committed.first_position.0;
                    self.done.first_position.get_or_insert(first);
                    self.done.last_position = Some(first + added - 1);
                }
                Some(UnitOutcome::Failed(error)) => return Err(error.into()),
                _ => return Ok(false),
            }
        }
        self.done.imported += added;
        self.done.already_there += page.len() as u64 - added;
        Ok(true)
    }

    /// Those events that the store has.
    async fn known(&self, page: &[(u64, Incoming)]) -> Result<HashMap<EventId, RecordedEvent>, ImportError> {
        let mut lines: HashMap<EventId, u64> = HashMap::with_capacity(page.len());
        for (line, incoming) in page {
            if let Some(first) = lines.insert(incoming.body.event_id, *line) {
                let reason = format!("its id {} is that of line {first} too", incoming.body.event_id);
                return Err(ImportError::Line { line: *line, reason });
            }
        }
        let ids: Vec<EventId> = lines.into_keys().collect();
        let mut found = self.events.find_events(&ids).await?;
        // A line may have its personal members in the clear.
        self.runtime.vault().open(&mut found).await?;
        Ok(found.into_iter().map(|event| (event.event_id, event)).collect())
    }

    /// What is stored of each of these: personal members are sealed, under keys that are durable by then.
    async fn taken(&self, page: &[&(u64, Incoming)]) -> Result<Vec<TakenIn>, ImportError> {
        let events: Vec<(&AggregateId, &EventBody)> =
            page.iter().map(|(_, incoming)| (&incoming.aggregate_id, &incoming.body)).collect();
        let taken = self.runtime.vault().take_in(&events, self.options.dry_run).await?;
        let refused = |(line, error): (u64, ForeignError)| match error {
            ForeignError::Sealed => ImportError::Line { line, reason: format!("{error}: {ELSEWHERE}") },
            ForeignError::Erased => ImportError::Conflict { line, reason: error.to_string() },
            ForeignError::Unsealable => ImportError::Line { line, reason: error.to_string() },
        };
        let lines = page.iter().map(|(line, _)| *line);
        lines.zip(taken).map(|(line, taken)| taken.map_err(|error| refused((line, error)))).collect()
    }

    /// The events that are new, each with its place; `None` if there are none.
    async fn unit(
        &mut self,
        page: &[&(u64, Incoming)],
        taken: Vec<TakenIn>,
    ) -> Result<Option<AppendUnit>, ImportError> {
        let (mut unit, mut claimed) = (AppendUnit::default(), HashMap::new());
        let mut heads: HashMap<&AggregateId, StreamHead> = HashMap::new();
        for ((line, incoming), taken) in page.iter().zip(taken) {
            let line = *line;
            let conflict = |reason: String| ImportError::Conflict { line, reason };
            let (kind, stored) = self.head(incoming).await?;
            if kind != incoming.aggregate_type {
                let id = incoming.aggregate_id.as_str();
                return Err(conflict(format!("{id:?} is of type {kind}, not {}", incoming.aggregate_type)));
            }
            let id = &incoming.aggregate_id;
            let head = heads.entry(id).or_insert(stored);
            if let Some(sequence) = incoming.sequence.filter(|sequence| *sequence != head.sequence.next()) {
                return Err(conflict(format!(
                    "the event is number {sequence} of {:?}, which stands at version {}: a stream must be new here, or \
                     continue exactly",
                    id.as_str(),
                    head.sequence
                )));
            }
            claimed.entry(id).or_insert(StreamClaim { aggregate_id: id.clone(), head: stored, losses: 0 });
            let as_it_came = NewEvent::following(&mut head.clone(), id, &kind, incoming.body.clone());
            self.check(line, incoming, as_it_came, taken.readable)?;
            let body = EventBody { data: taken.stored, ..incoming.body.clone() };
            unit.events.push(NewEvent::following(head, id, &kind, body));
        }
        if unit.events.is_empty() {
            return Ok(None);
        }
        for (id, head) in heads {
            if let Some((_, known)) = self.heads.get_mut(id) {
                *known = head;
            }
        }
        unit.streams = claimed.into_values().collect();
        let event_ids = unit.events.iter().map(|event| event.event_id).collect();
        unit.commands = vec![CommandProbe { event_ids, key: None, record: None }];
        Ok(Some(unit))
    }

    async fn head(&mut self, incoming: &Incoming) -> Result<(AggregateType, StreamHead), ImportError> {
        let id = &incoming.aggregate_id;
        if let Some(known) = self.heads.get(id) {
            return Ok(known.clone());
        }
        let found = self.events.stream(id).await?;
        let found = found.map(|summary| (summary.aggregate_type, summary.head));
        let found = found.unwrap_or_else(|| (incoming.aggregate_type.clone(), StreamHead::EMPTY));
        self.heads.insert(id.clone(), found.clone());
        Ok(found)
    }

    fn check(&self, line: u64, incoming: &Incoming, event: NewEvent, readable: Bytes) -> Result<(), ImportError> {
        let wrong = |reason: String| ImportError::Line { line, reason };
        if let Some(checksum) = incoming.checksum.as_ref().filter(|checksum| **checksum != event.checksum.to_string()) {
            return Err(wrong(format!(
                "its checksum is {}, not {checksum}: it is not the event that was exported",
                event.checksum
            )));
        }
        let recorded = RecordedEvent::new(Position::ZERO, self.clock.now(), event);
        let recorded = RecordedEvent { opened: Some(readable), ..recorded };
        self.runtime.catalog().check_event(&recorded).map_err(|error| {
            let kind = &incoming.aggregate_type;
            wrong(format!("a stream of type {kind} cannot take it: {error}"))
        })
    }
}

/// Whether two documents differ in their spelling at most.
fn says_the_same(one: &[u8], other: &[u8]) -> bool {
    let document = |bytes| serde_json::from_slice::<serde_json::Value>(bytes).ok();
    document(one).is_some_and(|one| Some(one) == document(other))
}

/// An event that is there must be the one of the line.
fn same(line: u64, incoming: &Incoming, there: &RecordedEvent) -> Result<(), ImportError> {
    let body = &incoming.body;
    let is_same = incoming.aggregate_id == there.aggregate_id
        && incoming.aggregate_type == there.aggregate_type
        && incoming.sequence.is_none_or(|sequence| sequence == there.sequence)
        && body.event_type == there.event_type
        && body.schema_version == there.schema_version
        && (body.data == there.data || there.opened.as_ref().is_some_and(|opened| says_the_same(&body.data, opened)));
    if is_same {
        return Ok(());
    }
    let reason = format!("an event with the id {} is in the store already, with other content", body.event_id);
    Err(ImportError::Conflict { line, reason })
}

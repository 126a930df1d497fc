//! Taking events from elsewhere into a log: through the store's own append, page by page, in the order of the lines.
//!
//! A page is one unit of an append, over all streams it touches: it is stored whole or not at all, and events that are
//! there already are recognised by their ids, so an import that broke off is simply done again.
//!
//! Personal members are sealed before they are stored, under this store's keys, as commands seal them.

use std::{
    collections::{HashMap, HashSet},
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
use tokio::{
    sync::mpsc::{Receiver, channel},
    task::JoinHandle,
};

use super::event::{Incoming, parse};
use crate::integrity::Progress;

/// Events of a page.
const PAGE_EVENTS: usize = 1_000;
/// Bytes of lines in a page, unless one alone is longer.
const PAGE_BYTES: usize = 4 << 20;
/// Pages that are read and parsed before they are wanted.
const PAGES_AHEAD: usize = 2;
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

/// Imports lines.
///
/// While a page is stored, the next one is read, parsed, checked and given its places: it follows what is on its way. Should
/// that not be stored as it was meant, the next one is made ready anew. So there is one page in flight, and the order of the
/// lines holds.
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
    let (mut pages, mut flight, mut bytes, mut is_given_up) = (pages(from), None::<Flight>, 0, false);
    while let Some(page) = pages.recv().await {
        // Pages before that of a line that cannot be read are stored.
        let is_settled = |flight: &Flight| match &page {
            Ok(page) => flight.concerns(page) || import.heads.len() > HEADS_MAX,
            Err(_) => true,
        };
        if flight.as_ref().is_some_and(is_settled)
            && let Some(before) = flight.take()
        {
            import.land(before).await?;
        }
        let page = page?;
        import.forget_heads(&page)?;
        bytes += page.bytes as u64;
        let mut ready = import.make_ready(&page.lines).await;
        if let Some(before) = flight.take()
            && !import.land(before).await?
        {
            ready = import.make_ready(&page.lines).await;
        }
        flight = Some(match ready {
            Ok(ready) => import.send_off(page, ready),
            // Tried again when its turn comes.
            Err(ImportError::Store(error @ StoreError::Unavailable { .. })) => Flight::failed(page, error),
            Err(error) => return Err(error),
        });
        if !progress(import.done.lines, bytes) {
            is_given_up = true;
            break;
        }
    }
    if let Some(last) = flight {
        import.land(last).await?;
    }
    if is_given_up { Err(ImportError::Cancelled) } else { Ok(import.done) }
}

/// Lines that belong together.
#[derive(Debug)]
struct Page {
    lines: Vec<(u64, Incoming)>,
    bytes: usize,
}

/// What a page comes to: events that are new, or nothing.
#[derive(Debug)]
struct Ready {
    unit: Option<AppendUnit>,
}

/// A page that is being stored.
struct Flight {
    page: Page,
    ids: HashSet<EventId>,
    added: u64,
    /// `None`: nothing is to be stored.
    stored: Option<JoinHandle<Result<Vec<UnitOutcome>, StoreError>>>,
}

impl Page {
    fn ids(&self) -> HashSet<EventId> {
        self.lines.iter().map(|(_, incoming)| incoming.body.event_id).collect()
    }
}

impl Flight {
    /// One that could not even be made ready.
    fn failed(page: Page, error: StoreError) -> Self {
        Self { ids: page.ids(), page, added: 0, stored: Some(tokio::spawn(async { Err(error) })) }
    }

    /// Whether a page has events of this one again, which are known only when it is stored.
    fn concerns(&self, page: &Page) -> bool {
        page.lines.iter().any(|(_, incoming)| self.ids.contains(&incoming.body.event_id))
    }
}

/// Pages as they are read and parsed, a few ahead, by a thread that ends with the file, with the first line that is none,
/// or when nobody wants more.
fn pages<R: BufRead + Send + 'static>(mut from: R) -> Receiver<Result<Page, ImportError>> {
    let (sender, receiver) = channel(PAGES_AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut number = 0;
        loop {
            let page = read_page(&mut from, &mut number);
            let is_end = page.as_ref().map_or(true, |page| page.lines.is_empty());
            if matches!(&page, Ok(page) if page.lines.is_empty()) || sender.blocking_send(page).is_err() || is_end {
                return;
            }
        }
    });
    receiver
}

fn read_page<R: BufRead>(from: &mut R, number: &mut u64) -> Result<Page, ImportError> {
    let mut page = Page { lines: Vec::new(), bytes: 0 };
    let mut text = Vec::new();
    while page.lines.len() < PAGE_EVENTS && page.bytes < PAGE_BYTES {
        text.clear();
        let length = from.by_ref().take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut text)?;
        if length == 0 {
            break;
        }
        (*number, page.bytes) = (*number + 1, page.bytes + length);
        let wrong = |reason: String| ImportError::Line { line: *number, reason };
        if length > LINE_BYTES_MAX {
            return Err(wrong("it is longer than 64 MiB".to_owned()));
        }
        let line = std::str::from_utf8(&text).map_err(|_| wrong("it is not UTF-8".to_owned()))?;
        if !line.trim().is_empty() {
            page.lines.push((*number, parse(line).map_err(|error| wrong(error.0))?));
        }
    }
    Ok(page)
}

struct Import<'a> {
    events: Arc<dyn EventStore>,
    runtime: &'a Runtime,
    clock: &'a dyn Clock,
    options: ImportOptions,
    /// Streams that were seen, with their last events, those in flight included.
    heads: HashMap<AggregateId, (AggregateType, StreamHead)>,
    done: Imported,
}

impl Import<'_> {
    /// Bounds what is remembered; nothing may be in flight then.
    fn forget_heads(&mut self, page: &Page) -> Result<(), ImportError> {
        if self.heads.len() <= HEADS_MAX {
            return Ok(());
        }
        if self.options.dry_run {
            let line = page.lines.first().map_or(0, |(line, _)| *line);
            let reason = format!("a dry run follows {HEADS_MAX} streams at most; all before this line is fine");
            return Err(ImportError::Line { line, reason });
        }
        self.heads.clear();
        Ok(())
    }

    /// Checks a page and gives what is new in it its places.
    async fn make_ready(&mut self, page: &[(u64, Incoming)]) -> Result<Ready, ImportError> {
        let there = self.known(page).await?;
        let new: Vec<&(u64, Incoming)> =
            page.iter().filter(|(_, one)| !there.contains_key(&one.body.event_id)).collect();
        for (line, incoming) in page {
            if let Some(event) = there.get(&incoming.body.event_id) {
                same(*line, incoming, event)?;
            }
        }
        let taken = self.taken(&new).await?;
        self.learn_heads(&new).await?;
        Ok(Ready { unit: self.unit(&new, taken)? })
    }

    /// Begins to store a page.
    fn send_off(&mut self, page: Page, ready: Ready) -> Flight {
        let added = ready.unit.as_ref().map_or(0, |unit| unit.events.len() as u64);
        let unit = ready.unit.filter(|_| !self.options.dry_run);
        // In a task of its own: an append must not be dropped half-way.
        let stored = unit.map(|unit| {
            let (events, batch) = (self.events.clone(), AppendBatch { units: vec![unit] });
            tokio::spawn(async move { events.append(batch).await })
        });
        Flight { ids: page.ids(), page, added, stored }
    }

    /// Waits until a page is stored; `false` if it took another attempt, so that nothing is as it was expected.
    async fn land(&mut self, flight: Flight) -> Result<bool, ImportError> {
        let Flight { page, added, stored, .. } = flight;
        let mut outcome = self.arrived(stored, added, page.lines.len() as u64).await;
        if matches!(outcome, Ok(true)) {
            return Ok(true);
        }
        for _ in 0..TRIES_MAX {
            match outcome {
                Ok(_) => {}
                Err(ImportError::Store(StoreError::Unavailable { .. })) => tokio::time::sleep(PAUSE).await,
                Err(error) => return Err(error),
            }
            outcome = self.attempt(&page).await;
            if matches!(outcome, Ok(true)) {
                return Ok(false);
            }
        }
        outcome?;
        let line = page.lines.first().map_or(0, |(line, _)| *line);
        let reason = "others keep writing to the same streams; stop them, or try again".to_owned();
        Err(ImportError::Conflict { line, reason })
    }

    /// Once more: whether it was stored, and what others did, is seen by looking anew.
    async fn attempt(&mut self, page: &Page) -> Result<bool, ImportError> {
        self.heads.clear();
        let ready = self.make_ready(&page.lines).await?;
        let again = self.send_off(Page { lines: Vec::new(), bytes: 0 }, ready);
        self.arrived(again.stored, again.added, page.lines.len() as u64).await
    }

    /// Counts a page that was stored; `false` when the streams have moved meanwhile.
    async fn arrived(
        &mut self,
        stored: Option<JoinHandle<Result<Vec<UnitOutcome>, StoreError>>>,
        added: u64,
        lines: u64,
    ) -> Result<bool, ImportError> {
        if let Some(stored) = stored {
            let outcomes = stored.await.map_err(|error| std::io::Error::other(error.to_string()))??;
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
        self.done.already_there += lines - added;
        self.done.lines += lines;
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

    /// Looks up the streams of a page that were not seen yet, in one call.
    async fn learn_heads(&mut self, page: &[&(u64, Incoming)]) -> Result<(), ImportError> {
        let unseen = page.iter().map(|(_, one)| one).filter(|one| !self.heads.contains_key(&one.aggregate_id));
        let unseen: HashMap<&AggregateId, &AggregateType> =
            unseen.map(|one| (&one.aggregate_id, &one.aggregate_type)).collect();
        let ids: Vec<AggregateId> = unseen.keys().map(|id| (*id).clone()).collect();
        let found = self.events.find_streams(&ids).await?;
        for (id, found) in ids.into_iter().zip(found) {
            let known = match found {
                Some(summary) => (summary.aggregate_type, summary.head),
                None => match unseen.get(&id) {
                    Some(kind) => ((*kind).clone(), StreamHead::EMPTY),
                    None => continue,
                },
            };
            self.heads.insert(id, known);
        }
        Ok(())
    }

    /// The events that are new, each with its place; `None` if there are none.
    fn unit(&mut self, page: &[&(u64, Incoming)], taken: Vec<TakenIn>) -> Result<Option<AppendUnit>, ImportError> {
        let (mut unit, mut claimed) = (AppendUnit::default(), HashMap::new());
        let mut heads: HashMap<&AggregateId, StreamHead> = HashMap::new();
        for ((line, incoming), taken) in page.iter().zip(taken) {
            let line = *line;
            let conflict = |reason: String| ImportError::Conflict { line, reason };
            let (kind, stored) = self.head(incoming);
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
            let mut after = *head;
            let as_it_came = NewEvent::following(&mut after, id, &kind, incoming.body.clone());
            self.check(line, incoming, as_it_came.clone(), taken.readable)?;
            unit.events.push(if taken.stored == incoming.body.data {
                *head = after;
                as_it_came
            } else {
                let body = EventBody { data: taken.stored, ..incoming.body.clone() };
                NewEvent::following(head, id, &kind, body)
            });
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

    /// Where a stream stands that was looked up.
    fn head(&self, incoming: &Incoming) -> (AggregateType, StreamHead) {
        let known = self.heads.get(&incoming.aggregate_id).cloned();
        known.unwrap_or_else(|| (incoming.aggregate_type.clone(), StreamHead::EMPTY))
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

//! A command inside the write side: from the bus through mailbox, actor and journal to its answer.

use std::sync::{
    Arc, Mutex, OnceLock, PoisonError,
    atomic::{AtomicU8, AtomicU32, Ordering},
};

use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::Instant,
};

use tracing::Span;

use crate::{
    command_bus::{CommandRequest, CommandResult},
    error::CommandError,
};

const QUEUED: u8 = 0;
const SUBMITTED: u8 = 1;
const ABANDONED: u8 = 2;

/// How far an attempt got: who claims it first decides. The caller keeps this alone, so that the reply is dropped, and
/// the caller told, when actor and journal have both let go of the work.
#[derive(Debug, Clone)]
pub(crate) struct Stage(Arc<AtomicU8>);

impl Default for Stage {
    fn default() -> Self {
        Self(Arc::new(AtomicU8::new(QUEUED)))
    }
}

impl Stage {
    fn claim(&self, as_what: u8) -> bool {
        self.0.compare_exchange(QUEUED, as_what, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Gives the work up before it was decided. `false`: it was decided, so its outcome is open.
    pub fn abandon(&self) -> bool {
        self.claim(ABANDONED)
    }
}

/// One attempt at a command. Whoever answers first answers alone; permits return with the answer.
#[derive(Debug)]
pub struct Work {
    pub(crate) request: CommandRequest,
    /// What it is part of, for tasks that work on it.
    pub(crate) span: Span,
    stage: Stage,
    losses: AtomicU32,
    /// How often it met another writer's turn.
    waits: AtomicU32,
    /// Why it cannot be decided; it is not tried again.
    fault: OnceLock<String>,
    reply: Mutex<Option<Reply>>,
}

/// The place among all commands in flight, and that among the aggregate's.
type Permits = (Option<Arc<OwnedSemaphorePermit>>, Option<OwnedSemaphorePermit>);

#[derive(Debug)]
struct Reply {
    sender: oneshot::Sender<CommandResult>,
    permits: Permits,
}

impl Work {
    pub(crate) fn new(
        mut request: CommandRequest,
        permit: Option<OwnedSemaphorePermit>,
    ) -> (Arc<Self>, oneshot::Receiver<CommandResult>) {
        let (sender, receiver) = oneshot::channel();
        let permits = (request.permit.take(), permit);
        let work = Self {
            request,
            span: Span::current(),
            stage: Stage::default(),
            losses: AtomicU32::new(0),
            waits: AtomicU32::new(0),
            fault: OnceLock::new(),
            reply: Mutex::new(Some(Reply { sender, permits })),
        };
        (Arc::new(work), receiver)
    }

    /// Answers the caller, once; later answers go nowhere.
    pub(crate) fn answer(&self, result: CommandResult) {
        let reply = self.reply.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(reply) = reply {
            drop(reply.permits);
            // A caller that stopped waiting does not want to know.
            let _ = reply.sender.send(result);
        }
    }

    fn is_answered(&self) -> bool {
        self.reply.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Whether the caller still waits for an answer.
    fn is_awaited(&self) -> bool {
        let reply = self.reply.lock().unwrap_or_else(PoisonError::into_inner);
        reply.as_ref().is_some_and(|reply| !reply.sender.is_closed())
    }

    /// Claims the work for a decision. `false`: nobody wants it any more, and it must have no effect.
    pub(crate) fn submit(&self) -> bool {
        if self.stage.0.load(Ordering::Acquire) == SUBMITTED {
            // Decided before, and perhaps stored: its outcome must be settled whoever waits.
            return !self.is_answered();
        }
        if Instant::now() >= self.request.deadline {
            self.abandon();
            self.answer(Err(CommandError::DeadlineExceeded));
            return false;
        }
        self.is_awaited() && self.stage.claim(SUBMITTED)
    }

    pub(crate) fn abandon(&self) -> bool {
        self.stage.abandon()
    }

    pub(crate) fn stage(&self) -> Stage {
        self.stage.clone()
    }

    /// Its decision panicked: no attempt of it runs the domain's code again.
    pub(crate) fn note_fault(&self, reason: String) {
        let _ = self.fault.set(reason);
    }

    pub(crate) fn fault(&self) -> Option<CommandError> {
        self.fault.get().map(|reason| CommandError::Internal { reason: reason.clone() })
    }

    pub(crate) fn losses(&self) -> u32 {
        self.losses.load(Ordering::Relaxed)
    }

    /// Counts one more loss to another writer.
    pub(crate) fn lose(&self) {
        self.losses.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a turn of another writer: no loss, but nothing is gained by asking again at once.
    pub(crate) fn wait(&self) {
        self.waits.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was decided in vain.
    pub(crate) fn attempts(&self) -> u32 {
        self.losses().saturating_add(self.waits.load(Ordering::Relaxed))
    }
}

//! The wake-up port: hears of what other processes on the same store have done.

use std::fmt::Debug;

use futures_util::stream::BoxStream;

use crate::version::Position;

/// What has happened elsewhere. A hint and no more: the log and the read models are the truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wakeup {
    /// Somebody has appended up to here.
    Log(Position),
    /// Somebody has moved the read models.
    Views,
    /// Hearing begins, or begins again: what happened before was not heard, so look for yourself.
    Resync,
}

/// Hears of other processes.
///
/// Wake-ups may be lost, doubled, merged and late. What is told has happened: a reader that looks after the wake-up
/// finds it.
pub trait Wakeups: Debug + Send + Sync + 'static {
    /// Wake-ups from now on, [`Wakeup::Resync`] first.
    ///
    /// The stream never ends: a lost connection is made again with growing pauses, each time followed by another
    /// [`Wakeup::Resync`]. It holds whatever it needs, such as a session; dropping it lets go of that.
    fn listen(&self) -> BoxStream<'static, Wakeup>;
}

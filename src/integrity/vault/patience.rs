//! Work on file systems that may not answer, such as a network's: nobody waits longer than so long, and while a place still
//! owes an answer nothing more is asked of it, so that what hangs there never adds up.
//!
//! What cannot be waited for goes on by itself, on a thread of its own; it may still be done, late. That does no harm to
//! checkpoints, which are only replaced by later ones.

use std::{
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

/// A place, such as a file, with at most one piece of work under way.
#[derive(Debug, Clone, Default)]
pub(super) struct Place {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    free: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// When the work under way began.
    since: Option<Instant>,
    has_failed: bool,
}

/// Frees the place when the work ends, however it ends.
struct Working(Place);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.lock().since = None;
        self.0.shared.free.notify_all();
    }
}

/// Work that was begun.
pub(super) struct Pending<T> {
    place: Place,
    patience: Duration,
    /// Counted from its beginning: of several that were begun together none waits longer for being asked last.
    until: Instant,
    answer: io::Result<Receiver<io::Result<T>>>,
}

impl Place {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is whole when the lock is let go.
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the last work that was waited for failed, or is still waited for in vain.
    pub fn has_failed(&self) -> bool {
        self.lock().has_failed
    }

    /// Begins work that may take so long. Other work that is under way is waited for as long, but not what already took
    /// longer.
    pub fn begin<T: Send + 'static>(
        &self,
        patience: Duration,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Pending<T> {
        let until = Instant::now() + patience;
        let answer = self.take(patience).and_then(|working| {
            let (sender, answer) = sync_channel(1);
            let run = move || {
                let result = work();
                drop(working);
                // Nobody waits any more if it took too long.
                let _ = sender.send(result);
            };
            thread::Builder::new().name("es-evidence".to_owned()).spawn(run).map(|_| answer)
        });
        Pending { place: self.clone(), patience, until, answer }
    }

    fn take(&self, patience: Duration) -> io::Result<Working> {
        let until = Instant::now() + patience;
        let mut state = self.lock();
        while let Some(since) = state.since {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || since.elapsed() >= patience {
                return Err(silent(since.elapsed()));
            }
            let woken = self.shared.free.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.since = Some(Instant::now());
        Ok(Working(self.clone()))
    }
}

impl<T> Pending<T> {
    /// Waits for what it comes to.
    ///
    /// # Errors
    /// What the work failed with; [`io::ErrorKind::TimedOut`] if it did not end in time.
    pub fn wait(self) -> io::Result<T> {
        let Self { place, patience, until, answer } = self;
        let left = || until.saturating_duration_since(Instant::now());
        let result = answer.and_then(|answer| match answer.recv_timeout(left()) {
            Ok(result) => result,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => Err(silent(patience)),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => Err(io::Error::other("the work broke off")),
        });
        place.lock().has_failed = result.is_err();
        result
    }
}

fn silent(time: Duration) -> io::Error {
    let reason = format!("no answer within {:.1} s", time.as_secs_f64());
    io::Error::new(io::ErrorKind::TimedOut, reason)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(20);

    #[test]
    fn what_hangs_is_waited_for_once_and_asked_for_nothing_more() {
        let place = Place::default();
        let (open, gate) = sync_channel::<()>(1);
        let hangs = place.begin(SHORT, move || {
            let _ = gate.recv();
            Ok(1)
        });
        assert_eq!(hangs.wait().unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(place.has_failed());
        let (began, is_begun) = sync_channel(1);
        let refused = place.begin(SHORT, move || began.send(()).map_err(io::Error::other));
        assert_eq!(refused.wait().unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(is_begun.recv().is_err(), "it was not begun");
        // Once it answers, the place is as it was.
        drop(open);
        assert_eq!(place.begin(LONG, || Ok(2)).wait().unwrap(), 2);
        assert!(!place.has_failed());
    }

    #[test]
    fn those_that_were_begun_together_are_waited_for_together() {
        let (_open, gate) = sync_channel::<()>(1);
        let late = move || Ok(gate.recv_timeout(Duration::from_secs(1)).is_err());
        let mut pending = Place::default().begin(LONG, late);
        pending.until = Instant::now();
        // It would answer, if its time began when it is asked for.
        assert_eq!(pending.wait().unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn work_of_two_at_once_takes_turns_and_a_panic_frees_the_place() {
        let place = Place::default();
        let (open, gate) = sync_channel::<()>(1);
        let first = place.begin(LONG, move || gate.recv().map_err(io::Error::other));
        let second = thread::spawn({
            let place = place.clone();
            move || place.begin(LONG, || Ok(())).wait()
        });
        open.send(()).unwrap();
        first.wait().unwrap();
        second.join().unwrap().unwrap();
        let broken = place.begin(LONG, || -> io::Result<()> { panic!("as a test does") });
        assert!(broken.wait().is_err());
        place.begin(LONG, || Ok(())).wait().unwrap();
    }
}

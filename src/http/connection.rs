//! One connection's clocks: how long its head may take, how long it may idle, how long its answer may lie unread.
//!
//! hyper's own timer runs from the end of one request to the end of the next head, so it cannot tell a slow head
//! from an idle connection; these can.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use hyper::body::{Body, Frame, SizeHint};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::{HttpOptions, unreadable::problem_instead};

/// Whether a request is being served: from the end of its head to the end of its answer.
#[derive(Debug, Clone, Default)]
pub(super) struct Busy(Arc<AtomicBool>);

impl Busy {
    /// A request has come.
    pub fn begin(&self) -> Serving {
        self.0.store(true, Ordering::Release);
        Serving(self.clone())
    }
}

/// Ends when it is dropped.
#[derive(Debug)]
pub(super) struct Serving(Busy);

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Release);
    }
}

/// An answer's body that keeps its connection busy.
#[derive(Debug)]
pub(super) struct Served<B> {
    pub body: B,
    pub _serving: Serving,
}

impl<B: Body + Unpin> Body for Served<B> {
    type Data = B::Data;
    type Error = B::Error;
    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What a connection waits for from its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaits {
    /// The first byte of the first request.
    FirstHead,
    /// The rest of a head.
    RestOfHead,
    /// The first byte of a further request.
    NextHead,
    /// Nothing: a request is being served, and has its own deadlines.
    Nothing,
}

/// A connection that fails with `TimedOut` when its client is too slow.
#[derive(Debug)]
pub(super) struct Timed<T> {
    stream: T,
    busy: Busy,
    awaits: Awaits,
    /// What is written in place of a bare refusal of hyper's, and how much of it is.
    instead: Option<(Vec<u8>, usize)>,
    reading: Option<Pin<Box<Sleep>>>,
    writing: Option<Pin<Box<Sleep>>>,
    head_deadline: Duration,
    keep_alive_idle: Duration,
    write_stall: Duration,
}

impl<T> Timed<T> {
    pub fn new(stream: T, busy: Busy, options: &HttpOptions) -> Self {
        Self {
            stream,
            busy,
            awaits: Awaits::FirstHead,
            instead: None,
            reading: None,
            writing: None,
            head_deadline: options.head_deadline,
            keep_alive_idle: options.keep_alive_idle,
            write_stall: options.write_stall,
        }
    }

    /// Goes over to what is awaited now; the clock runs anew only when that changes.
    fn note(&mut self, has_bytes: bool) {
        let now = match self.awaits {
            _ if self.busy.0.load(Ordering::Acquire) => Awaits::Nothing,
            Awaits::Nothing if !has_bytes => Awaits::NextHead,
            _ if has_bytes => Awaits::RestOfHead,
            same => same,
        };
        if now != self.awaits {
            self.awaits = now;
            self.reading = None;
        }
    }
}

/// Whether the time is over; starts the clock when it does not run.
fn is_over(clock: &mut Option<Pin<Box<Sleep>>>, time: Duration, context: &mut Context<'_>) -> bool {
    clock.get_or_insert_with(|| Box::pin(sleep(time))).as_mut().poll(context).is_ready()
}

fn timed_out<T>(what: &'static str) -> Poll<io::Result<T>> {
    Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, what)))
}

impl<T: AsyncRead + Unpin> AsyncRead for Timed<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        this.note(buffer.filled().len() > before);
        let time = match this.awaits {
            Awaits::FirstHead | Awaits::RestOfHead => this.head_deadline,
            Awaits::NextHead => this.keep_alive_idle,
            Awaits::Nothing => return read,
        };
        // Asked also when bytes came: a client that sends one byte now and then is slow as well.
        if is_over(&mut this.reading, time, context) { timed_out("no request in time") } else { read }
    }
}

impl<T: AsyncWrite + Unpin> Timed<T> {
    fn watched<R>(&mut self, written: Poll<io::Result<R>>, context: &mut Context<'_>) -> Poll<io::Result<R>> {
        if written.is_ready() {
            self.writing = None;
            return written;
        }
        if is_over(&mut self.writing, self.write_stall, context) {
            timed_out("the answer is not read")
        } else {
            written
        }
    }
}

impl<T: AsyncWrite + Unpin> Timed<T> {
    /// Takes a problem over in place of these bytes, if they are a bare refusal; then they count as written.
    fn replaces(&mut self, bytes: &[u8]) -> bool {
        if let Some(problem) = problem_instead(bytes) {
            self.instead = Some((problem, 0));
        }
        self.instead.is_some()
    }

    /// Writes what there is in place of a bare refusal.
    fn poll_instead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some((problem, at)) = &mut self.instead {
            let written = Pin::new(&mut self.stream).poll_write(context, &problem[*at..]);
            if let Poll::Ready(Ok(count)) = written {
                *at += count;
                if *at >= problem.len() || count == 0 {
                    self.instead = None;
                }
            }
            ready!(self.watched(written, context))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Timed<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.poll_instead(context))?;
        if self.replaces(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watched(written, context)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_instead(context))?;
        if let [only] = slices
            && self.replaces(only)
        {
            return Poll::Ready(Ok(only.len()));
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watched(written, context)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(context))?;
        Pin::new(&mut self.stream).poll_flush(context)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_instead(context))?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

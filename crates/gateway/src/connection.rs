//! One caller's connection: plain or TLS, with a bound on how long it may dawdle over a request's
//! head, or lie idle between requests.

use std::{
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::OwnedSemaphorePermit,
};
use tokio_rustls::server::TlsStream;

use crate::Limits;

const HEAD: u64 = 0;
const SERVING: u64 = 1;
const IDLE: u64 = 2;
const PHASE_BITS: u32 = 2;

/// What the connection does and since when. hyper's own header timeout also runs between requests,
/// where the bound is another one, and makes a timer for each request; this reads a clock instead.
/// Atomic only because hyper wants the stream to be Send: one thread uses it.
pub(crate) struct Clock {
    begin: Instant,
    state: AtomicU64,
}

impl Clock {
    pub fn new() -> Self {
        Self { begin: Instant::now(), state: AtomicU64::new(HEAD) }
    }

    fn phase(&self) -> u64 {
        self.state.load(Relaxed) & ((1 << PHASE_BITS) - 1)
    }

    fn enter(&self, phase: u64) {
        let millis = self.begin.elapsed().as_millis() as u64;
        self.state.store(millis << PHASE_BITS | phase, Relaxed);
    }

    /// When the connection has dawdled for too long; nothing while it is at work.
    fn due(&self, limits: &Limits) -> Option<Instant> {
        let bound = match self.phase() {
            HEAD => limits.header_read,
            IDLE => limits.idle,
            _ => return None,
        };
        Some(self.begin + Duration::from_millis(self.state.load(Relaxed) >> PHASE_BITS) + bound)
    }
}

/// Held while a request is served.
pub(crate) struct Serving(Arc<Clock>);

impl Serving {
    pub fn begin(clock: &Arc<Clock>) -> Self {
        clock.state.store(SERVING, Relaxed);
        Self(clock.clone())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.enter(IDLE);
    }
}

/// Drives a connection to its end, or until it has dawdled for too long. `stopping` is asked on every
/// poll, and `stop` wakes the task once when it changes.
pub(crate) async fn drive<C: Future>(
    connection: C,
    clock: &Clock,
    limits: &Limits,
    stop: impl Future<Output = ()>,
    stopping: impl Fn() -> bool,
    mut close: impl FnMut(Pin<&mut C>),
) -> Option<C::Output> {
    let mut connection = pin!(connection);
    let mut stop = pin!(stop);
    let mut armed = Instant::now() + limits.header_read;
    let mut timer = pin!(tokio::time::sleep_until(armed.into()));
    let (mut listening, mut closing) = (false, false);
    poll_fn(|cx: &mut Context<'_>| {
        if !listening {
            // Registers the waker; what it says is read from `stopping`.
            listening = true;
            let _ = stop.as_mut().poll(cx);
        }
        if !closing && stopping() {
            closing = true;
            close(connection.as_mut());
        }
        if let Poll::Ready(output) = connection.as_mut().poll(cx) {
            return Poll::Ready(Some(output));
        }
        // The timer is set earlier only for the head of a request that came in part, which is rare;
        // else it is let run and looks again when it fires.
        if let Some(due) = clock.due(limits).filter(|due| *due < armed) {
            armed = due;
            timer.as_mut().reset(armed.into());
        }
        while timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            armed = match clock.due(limits) {
                Some(due) if due <= now => return Poll::Ready(None),
                Some(due) => due,
                None => now + limits.header_read,
            };
            timer.as_mut().reset(armed.into());
        }
        Poll::Pending
    })
    .await
}

pub(crate) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The caller's socket. It carries the permit that bounds the connections of a worker, because a
/// tunnel outlives the HTTP connection that it began as.
pub(crate) struct CallerStream {
    pub transport: Transport,
    pub clock: Arc<Clock>,
    pub _permit: OwnedSemaphorePermit,
}

macro_rules! each {
    ($self:ident, $stream:ident => $call:expr) => {
        match &mut $self.get_mut().transport {
            Transport::Plain($stream) => $call,
            Transport::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for CallerStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let this = self.as_mut();
        let read = each!(this, stream => Pin::new(stream).poll_read(cx, buffer));
        if buffer.filled().len() > before && self.clock.phase() == IDLE {
            self.clock.enter(HEAD);
        }
        read
    }
}

impl AsyncWrite for CallerStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write(cx, buffer))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => Pin::new(stream).poll_write_vectored(cx, buffers))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.transport {
            Transport::Plain(stream) => stream.is_write_vectored(),
            Transport::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_at_work_is_left_alone_and_one_that_dawdles_is_not() {
        let limits =
            Limits { header_read: Duration::from_millis(20), idle: Duration::from_millis(50), ..Limits::default() };
        let clock = Arc::new(Clock::new());
        let never = || drive(std::future::pending::<()>(), &clock, &limits, std::future::pending(), || false, |_| ());
        assert_eq!(never().await, None);

        let serving = Serving::begin(&clock);
        let ended = drive(async { 7 }, &clock, &limits, std::future::pending(), || false, |_| ());
        assert_eq!(ended.await, Some(7));
        assert!(clock.due(&limits).is_none());
        drop(serving);
        assert_eq!(clock.phase(), IDLE);
        assert_eq!(never().await, None);
    }
}

//! Bodies on their way through. Nothing is gathered: a frame is passed on when the other side takes it.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    client::conn::http1::SendRequest,
};
use tokio::sync::mpsc;

use crate::{
    connection::Serving,
    stats::{self, add, subtract},
    upstream::Upstream,
};

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What a replica is sent.
pub(crate) struct RequestBody {
    /// Nothing in the copy that is kept for a second try of a request without a body.
    pub incoming: Option<Incoming>,
    pub cell: Arc<stats::Cell>,
    /// When the replica last took something: a long upload is no silence.
    pub progress: Rc<Cell<Instant>>,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(incoming) = &mut self.incoming else {
            return Poll::Ready(None);
        };
        let frame = ready!(Pin::new(incoming).poll_frame(cx));
        self.progress.set(Instant::now());
        if let Some(Ok(frame)) = &frame {
            add(&self.cell.bytes_received, length(frame));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

fn length(frame: &Frame<Bytes>) -> u64 {
    frame.data_ref().map_or(0, |data| data.len() as u64)
}

/// One request under way, as the counters and the balancer see it; over when this is dropped.
pub(crate) struct Flight {
    cell: Arc<stats::Cell>,
    upstream: Option<Rc<Upstream>>,
    answered: bool,
}

impl Flight {
    pub fn begin(cell: Arc<stats::Cell>) -> Self {
        add(&cell.requests, 1);
        add(&cell.in_flight, 1);
        Self { cell, upstream: None, answered: false }
    }

    pub fn assign(&mut self, upstream: Rc<Upstream>) {
        self.release();
        upstream.in_flight.set(upstream.in_flight.get() + 1);
        self.upstream = Some(upstream);
    }

    pub fn answer(&mut self, status: u16) {
        self.answered = true;
        self.cell.answered(status);
    }

    pub fn tunnelled(&self, received: u64, sent: u64) {
        add(&self.cell.bytes_received, received);
        add(&self.cell.bytes_sent, sent);
    }

    fn release(&mut self) {
        if let Some(upstream) = self.upstream.take() {
            upstream.in_flight.set(upstream.in_flight.get() - 1);
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.release();
        subtract(&self.cell.in_flight, 1);
        if !self.answered {
            add(&self.cell.cancelled, 1);
        }
    }
}

/// What a replica answers. Its connection goes back to the pool at the end, and only then: dropped
/// earlier, it is closed and the replica learns that nobody listens any more.
pub(crate) struct ReplicaBody {
    incoming: Incoming,
    connection: Option<(SendRequest<RequestBody>, Rc<Upstream>)>,
    flight: Flight,
}

impl ReplicaBody {
    pub fn new(incoming: Incoming, sender: SendRequest<RequestBody>, upstream: Rc<Upstream>, flight: Flight) -> Self {
        let mut body = Self { incoming, connection: Some((sender, upstream)), flight };
        if body.incoming.is_end_stream() {
            body.finish();
        }
        body
    }

    fn finish(&mut self) {
        if let Some((sender, upstream)) = self.connection.take() {
            upstream.put_back(sender);
        }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
            Some(Ok(frame)) => {
                add(&self.flight.cell.bytes_sent, length(&frame));
                if self.incoming.is_end_stream() {
                    self.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.connection = None;
                Poll::Ready(Some(Err(error.into())))
            }
            None => {
                self.finish();
                Poll::Ready(None)
            }
        }
    }
}

/// What the API answers, frame by frame from the runtime that it runs on.
pub(crate) struct ApiStream {
    /// `None` is the end; a channel that closes without one is a body that broke.
    pub frames: mpsc::Receiver<Result<Option<Frame<Bytes>>, BoxError>>,
    pub remaining: Option<u64>,
    pub ended: bool,
}

impl ApiStream {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let item = ready!(self.frames.poll_recv(cx));
        Poll::Ready(match item {
            Some(Ok(Some(frame))) => {
                if let Some(remaining) = &mut self.remaining {
                    *remaining = remaining.saturating_sub(length(&frame));
                }
                Some(Ok(frame))
            }
            Some(Ok(None)) => {
                self.ended = true;
                None
            }
            Some(Err(error)) => Some(Err(error)),
            None => Some(Err("the API ended in the middle of its answer".into())),
        })
    }
}

pub(crate) enum Kind {
    Replica(ReplicaBody),
    Api(ApiStream),
    Own(Full<Bytes>),
}

/// What the caller is sent.
pub(crate) struct ResponseBody {
    pub kind: Kind,
    /// The connection is at work until the body was sent or dropped.
    pub _serving: Serving,
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.kind {
            Kind::Replica(body) => body.poll_frame(cx),
            Kind::Api(body) => body.poll_frame(cx),
            Kind::Own(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Replica(body) => body.incoming.is_end_stream(),
            Kind::Api(body) => body.ended,
            Kind::Own(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Replica(body) => body.incoming.size_hint(),
            Kind::Api(body) if body.ended => SizeHint::with_exact(0),
            Kind::Api(body) => body.remaining.map_or_else(SizeHint::default, SizeHint::with_exact),
            Kind::Own(body) => body.size_hint(),
        }
    }
}

//! One client connection that speaks HTTP/1.1, to its last byte: hyper, the time limits and the drain around it. While it is idle for
//! long there is no hyper (`quiet`): its buffers are more than all the rest of a connection.
//!
//! hyper parses and frames; this decides when a connection has been silent for too long (a head, between requests, a peer that takes
//! nothing of an answer), says `Connection: close` while draining, and closes so that the last answer arrives although the peer may still be
//! sending. Requests and their bodies' own limits belong to the service.

use super::drain::Drain;
use super::drive::{Connection, End, Limit, drive};
use super::informational::Informing;
use super::preface::Prefixed;
use super::watch::{Stage, Watch, Watched};
use crate::config::runtime::Listener;
use crate::core::reason::Outcome;
use crate::core::time::MonoTime;
use crate::proxy::Interim;
use crate::telemetry::metrics::Metrics;
use crate::world::{Clock, Stream};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use pin_project_lite::pin_project;
use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tower::Service;

/// The smallest read and write buffer: 64 KiB, what one `writev` of a large answer moves; the head's limit plus room for a body when that is more.
const MIN_BUFFER_BYTES: usize = 64 * 1024;

/// How many fields hyper takes (1.12) when it is not told. A test holds it to that.
const HYPER_MAX_HEADERS: usize = 100;

/// What a peer may still send after we closed, and for how long, before it is cut off: a close with unread bytes in the socket is a
/// reset, which can destroy the answer on its way (RFC 9112 s9.6).
const LINGER_BYTES: u64 = 1024 * 1024;
const LINGER_TIME: Duration = Duration::from_secs(2);

/// The answer to a head that was begun and not finished in time.
const HEAD_TIMED_OUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// What all connections of a process share.
#[derive(Clone)]
pub struct Shared {
    /// Measures the limits.
    pub clock: Arc<dyn Clock>,
    /// Counts what hyper answers by itself.
    pub metrics: Arc<Metrics>,
    /// The process's drain.
    pub drain: Arc<Drain>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("drain", &self.drain)
            .finish_non_exhaustive()
    }
}

/// How a listener's connections are parsed; made once per listener and thread.
pub(super) fn protocol(listener: &Listener) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // Told a number, hyper fills a table of that size for every request, even for the number it has anyway.
    if listener.max_headers != HYPER_MAX_HEADERS {
        builder.max_headers(listener.max_headers);
    }
    builder
        .max_header_size(listener.max_header_bytes)
        .max_buf_size(MIN_BUFFER_BYTES.max(listener.max_header_bytes.saturating_add(MIN_BUFFER_BYTES / 2)))
        // Ours, see `watch`.
        .header_read_timeout(None)
        // A client that closes its side has left: its request is dropped (fills and writes are detached from it).
        .half_close(false)
        // Gathering pipelined answers would copy every body into one buffer.
        .pipeline_flush(false);
    builder
}

/// What hyper reads from and writes to.
type Wire = Informing<Watched<Prefixed<Stream>>>;

/// Serves one connection to its end; what the service leaves in `interim` is written before its final heads. Dropping the future closes it at once.
pub(super) async fn serve<S, B>(
    io: Prefixed<Stream>,
    builder: &http1::Builder,
    listener: &Listener,
    shared: &Shared,
    interim: Arc<Interim>,
    service: S,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let watch = Arc::new(Watch::new(Arc::clone(&interim), Arc::clone(&shared.drain)));
    let mut answering = Answering {
        service: RefCell::new(service),
        watch: Arc::clone(&watch),
    };
    let mut io = TokioIo::new(Informing::new(Watched::new(io, Arc::clone(&watch)), interim));
    let end = loop {
        // In memory of its own, which is given back while the connection is quiet.
        let served = Box::pin(serve_until_quiet(io, builder, answering, listener, shared)).await;
        if !matches!(served.end, End::TimedOut(Limit::Quiet)) {
            io = served.io;
            break served.end;
        }
        (io, answering) = (served.io, served.answering);
        let wire = io.inner_mut();
        unread(wire, served.read);
        if let Some(end) = quiet::wait(wire, served.idle_since, listener, shared).await {
            break end;
        }
    };
    let marks = watch.marks();
    if let End::Failed(error) = &end {
        count_failure(error, &shared.metrics);
    }
    tracing::debug!(listener = %listener.name, ?end, "connection ended");
    let mut io = io.into_inner().into_inner().into_inner();
    match end {
        End::Closed | End::Failed(_) if !marks.has_ended() => linger(&mut io).await,
        End::TimedOut(Limit::Head) if marks.stage() == Stage::Head => {
            shared
                .metrics
                .request(None, Outcome::Refused, StatusCode::REQUEST_TIMEOUT, Duration::ZERO);
            last_words(&mut io, HEAD_TIMED_OUT).await;
        }
        End::TimedOut(Limit::Quiet | Limit::Stall) | End::Flooded | End::Over => {}
        End::Closed | End::Failed(_) | End::TimedOut(Limit::Head | Limit::Idle) => {
            // TLS says that nothing is missing (close_notify, RFC 8446 s6.1). Best effort: there is room for it, or there is not.
            let _ = poll_fn(|cx| Poll::Ready(Pin::new(&mut io).poll_shutdown(cx))).await;
        }
    }
}

/// Bytes that were read, to be read again.
fn unread(wire: &mut Wire, bytes: Bytes) {
    wire.inner_mut().inner_mut().unread(bytes);
}

/// What is left of a connection when hyper is done with it.
struct Served<S> {
    end: End,
    io: TokioIo<Wire>,
    answering: Answering<S>,
    /// Bytes that were read and not used.
    read: Bytes,
    idle_since: MonoTime,
}

async fn serve_until_quiet<S, B>(
    io: TokioIo<Wire>,
    builder: &http1::Builder,
    answering: Answering<S>,
    listener: &Listener,
    shared: &Shared,
) -> Served<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let watch = Arc::clone(&answering.watch);
    let mut connection = builder.serve_connection(io, answering);
    let (end, idle_since) = drive(&mut connection, &*watch, listener, shared).await;
    let parts = connection.into_parts();
    Served {
        end,
        io: parts.io,
        answering: parts.service,
        read: parts.read_buf,
        idle_since,
    }
}

impl<S, B> Connection for http1::Connection<TokioIo<Wire>, Answering<S>>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        Future::poll(Pin::new(self), cx)
    }

    /// Its answer is the last one. When its head is not written yet, the service says so in it.
    fn close(&mut self) {
        Pin::new(self).graceful_shutdown();
    }
}

/// hyper answers what it cannot parse by itself (400, 431); we learn of it from the error.
fn count_failure(error: &hyper::Error, metrics: &Metrics) {
    let status = if error.is_parse_too_large() {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
    } else if error.is_parse() {
        StatusCode::BAD_REQUEST
    } else {
        return;
    };
    metrics.request(None, Outcome::Refused, status, Duration::ZERO);
}

/// Answers with `words` and closes.
pub(super) async fn last_words(io: &mut Prefixed<Stream>, words: &[u8]) {
    // Best effort: the peer may not take it.
    let _ = tokio::time::timeout(LINGER_TIME, io.write_all(words)).await;
    linger(io).await;
}

/// Closes our side and takes what the peer still sends, within bounds, until it closes its side.
async fn linger(io: &mut Prefixed<Stream>) {
    let _ = tokio::time::timeout(LINGER_TIME, async {
        if io.shutdown().await.is_ok() {
            let mut rest = io.take(LINGER_BYTES);
            // An error is as good an end as any.
            let _ = tokio::io::copy(&mut rest, &mut tokio::io::sink()).await;
        }
    })
    .await;
}

/// The service as hyper sees it: marks what the connection is doing, and closes politely while draining.
struct Answering<S> {
    /// hyper calls through a shared reference, one call at a time on HTTP/1.
    service: RefCell<S>,
    watch: Arc<Watch>,
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Answering<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes>,
{
    type Response = Response<Answer<B>>;
    type Error = Infallible;
    type Future = Answered<S::Future>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        self.watch.busy(!request.body().is_end_stream());
        let mut service = self.service.borrow_mut();
        // Always ready: a service that is full says so in its answer.
        let _ready = service.poll_ready(&mut Context::from_waker(Waker::noop()));
        Answered {
            inner: service.call(request),
            watch: Some(Arc::clone(&self.watch)),
        }
    }
}

pin_project! {
    /// An answer on its way.
    struct Answered<F> {
        #[pin]
        inner: F,
        // Until it is answered, then the body's.
        watch: Option<Arc<Watch>>,
    }
}

impl<F, B> Future for Answered<F>
where
    F: Future<Output = Result<Response<B>, Infallible>>,
{
    type Output = Result<Response<Answer<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Ok(mut response) = ready!(this.inner.poll(cx));
        // RFC 9112 s2.3: it is ours, whatever the node speaks; hyper lowers it for a client that speaks less.
        *response.version_mut() = Version::HTTP_11;
        let watch = this.watch.take();
        if let Some(watch) = &watch {
            watch.answered();
            if watch.is_draining() {
                response
                    .headers_mut()
                    .insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
        }
        Poll::Ready(Ok(response.map(|inner| Answer { inner, watch })))
    }
}

pin_project! {
    /// The body of an answer; when it is dropped, hyper has taken all it will take of it.
    pub(super) struct Answer<B> {
        #[pin]
        inner: B,
        watch: Option<Arc<Watch>>,
    }

    impl<B> PinnedDrop for Answer<B> {
        fn drop(this: Pin<&mut Self>) {
            if let Some(watch) = this.project().watch {
                watch.idle();
            }
        }
    }
}

impl<B: Body> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().inner.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

mod ebb;
mod quiet;

#[cfg(test)]
pub(super) mod tests;

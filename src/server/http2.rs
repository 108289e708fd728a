//! One client connection that speaks HTTP/2 (RFC 9113): hyper frames, this sets the limits and drives.
//!
//! Its limits against floods are set here, all of them and by name: streams at once, resets that wait, resets we cause, the size of a list of
//! fields. Time: a connection without a request is closed after `idle_timeout`, the first must come within `header_timeout`, and a peer
//! that takes nothing of any answer for `body_timeout` is left. A stream alone is not timed out: a client may pause one of many.
//!
//! Interim answers (1xx) are not sent: hyper's server cannot.

use super::coalesce::{Coalescing, Turns};
use super::connection::Shared;
use super::drain::Phase;
use super::preface::Prefixed;
use crate::config::runtime::Listener;
use crate::core::time::MonoTime;
use crate::world::Stream;
use bytes::Bytes;
use http::header::{CONNECTION, COOKIE};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper_util::rt::TokioIo;
use pin_project_lite::pin_project;
use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tower::Service;

/// Streams a peer resets before we have looked at them (rapid reset, CVE-2023-44487): beyond, the connection is closed.
const MAX_PENDING_RESETS: usize = 20;
/// Resets that a peer's mistakes make us send: beyond, the connection is closed.
const MAX_OWN_RESETS: usize = 256;
/// A connection's window in streams' windows.
const WINDOWS: u32 = 4;
/// What of one stream's answer hyper takes from the service ahead of the peer.
const MAX_SEND_BUFFER: usize = 256 * 1024;

/// Streams are tasks of the connection's thread.
#[derive(Copy, Clone, Debug)]
pub(super) struct Spawning;

impl<F> Executor<F> for Spawning
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        tokio::spawn(stream);
    }
}

/// How a listener's HTTP/2 connections are framed; made once per listener and thread.
pub(super) fn protocol(listener: &Listener) -> http2::Builder<Spawning> {
    let limits = listener.http2;
    let mut builder = http2::Builder::new(Spawning);
    builder
        .initial_stream_window_size(limits.window)
        .initial_connection_window_size(limits.window.saturating_mul(WINDOWS))
        .max_concurrent_streams(limits.max_streams)
        .max_pending_accept_reset_streams(MAX_PENDING_RESETS)
        .max_local_error_reset_streams(MAX_OWN_RESETS)
        .max_header_list_size(u32::try_from(listener.max_header_bytes).unwrap_or(u32::MAX))
        .max_send_buf_size(MAX_SEND_BUFFER);
    builder
}

/// What the streams of a connection are doing. They are tasks of one thread; every access is relaxed.
#[derive(Debug, Default)]
struct Work {
    /// Requests that are not answered to the end.
    open: AtomicU64,
    /// Of these, whose peer must take something before they go on.
    on_peer: AtomicU64,
    /// Changes whenever one of these numbers does, or a body moves.
    moves: AtomicU64,
}

impl Work {
    fn add(&self, number: &AtomicU64) {
        number.store(number.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        self.moved();
    }

    fn take(&self, number: &AtomicU64) {
        number.store(number.load(Ordering::Relaxed).saturating_sub(1), Ordering::Relaxed);
        self.moved();
    }

    fn moved(&self) {
        self.moves
            .store(self.moves.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }
}

/// How a connection ended.
#[derive(Debug)]
enum End {
    Closed,
    Failed(hyper::Error),
    TimedOut,
    Over,
}

/// Serves one connection to its end. Dropping the future closes it at once.
pub(super) async fn serve<S, B>(
    io: Prefixed<Stream>,
    builder: &http2::Builder<Spawning>,
    listener: &Listener,
    shared: &Shared,
    service: S,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (turns, work) = (Turns::default(), Arc::new(Work::default()));
    let answering = Answering {
        service: RefCell::new(service),
        work: Arc::clone(&work),
    };
    let io = TokioIo::new(Coalescing::new(io, turns.clone()));
    let connection = builder.serve_connection(io, answering);
    let end = drive(connection, &turns, &work, listener, shared).await;
    if let End::Failed(error) = &end {
        tracing::debug!(listener = %listener.name, %error, "HTTP/2 connection failed");
    } else {
        tracing::debug!(listener = %listener.name, ?end, "HTTP/2 connection ended");
    }
}

async fn drive<S, B>(
    connection: http2::Connection<TokioIo<Coalescing<Prefixed<Stream>>>, Answering<S>, Spawning>,
    turns: &Turns,
    work: &Work,
    listener: &Listener,
    shared: &Shared,
) -> End
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let drain = &shared.drain;
    let mut connection = pin!(connection);
    let mut limits = Limits::new(listener, shared.clock.mono());
    let mut timer = pin!(tokio::time::sleep(listener.header_timeout));
    let mut changed = pin!(drain.changed());
    // As in HTTP/1's driver: both are polled only to be registered, and whether they fired is seen without their locks.
    let mut registered: Option<Waker> = None;
    let mut phase = Phase::Serving;
    let mut asked_to_close = false;
    poll_fn(|cx| {
        turns.begin();
        if let Poll::Ready(result) = connection.as_mut().poll(cx) {
            return Poll::Ready(result.map_or_else(End::Failed, |()| End::Closed));
        }
        let same_task = registered.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
        if !same_task || drain.phase() != phase {
            while changed.as_mut().poll(cx).is_ready() {
                changed.set(drain.changed());
            }
            phase = drain.phase();
        }
        if phase == Phase::Over {
            return Poll::Ready(End::Over);
        }
        if phase != Phase::Serving && !asked_to_close {
            asked_to_close = true;
            // GOAWAY: what is under way is answered, and new requests go elsewhere (RFC 9113 s6.8).
            connection.as_mut().graceful_shutdown();
            cx.waker().wake_by_ref();
        }
        match limits.check(work, timer.as_ref().is_elapsed(), || shared.clock.mono()) {
            Verdict::Wait => {}
            Verdict::TimedOut => return Poll::Ready(End::TimedOut),
            Verdict::Arm(time) => {
                timer.set(tokio::time::sleep(time));
                registered = None;
            }
        }
        if registered.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            registered = Some(cx.waker().clone());
            if timer.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    })
    .await
}

/// Which limit runs, since when, and when the one timer of the connection fires.
#[derive(Debug)]
struct Limits {
    head: Duration,
    idle: Duration,
    stall: Duration,
    /// [`Work::moves`] at `since`.
    seen: u64,
    since: MonoTime,
    fires: MonoTime,
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Wait,
    Arm(Duration),
    TimedOut,
}

impl Limits {
    fn new(listener: &Listener, now: MonoTime) -> Self {
        Self {
            head: listener.header_timeout,
            idle: listener.idle_timeout,
            stall: listener.body_timeout,
            seen: 0,
            since: now,
            fires: now.after(listener.header_timeout.into()),
        }
    }

    fn limit(&self, work: &Work) -> Option<Duration> {
        let open = work.open.load(Ordering::Relaxed);
        if self.seen == 0 {
            Some(self.head)
        } else if open == 0 {
            Some(self.idle)
        } else {
            // Else the service has its own limits.
            (work.on_peer.load(Ordering::Relaxed) >= open).then_some(self.stall)
        }
    }

    fn check(&mut self, work: &Work, fired: bool, now: impl FnOnce() -> MonoTime) -> Verdict {
        let moves = work.moves.load(Ordering::Relaxed);
        if moves == self.seen && !fired {
            return Verdict::Wait;
        }
        let now = now();
        if moves != self.seen {
            self.seen = moves;
            self.since = now;
        }
        let Some(limit) = self.limit(work) else {
            return Verdict::Wait;
        };
        let deadline = self.since.after(limit.into());
        if now >= deadline {
            return Verdict::TimedOut;
        }
        if fired || deadline < self.fires {
            self.fires = deadline;
            return Verdict::Arm(deadline.duration_since(now));
        }
        Verdict::Wait
    }
}

/// The service as hyper sees it: counts what is open, and makes of a stream's head what the request path expects.
struct Answering<S> {
    /// hyper calls through a shared reference, one call at a time.
    service: RefCell<S>,
    work: Arc<Work>,
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Answering<S>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body<Data = Bytes>,
{
    type Response = Response<Answer<B>>;
    type Error = Infallible;
    type Future = Answered<S::Future>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        join_crumbs(request.headers_mut());
        let mut service = self.service.borrow_mut();
        // Always ready: a service that is full says so in its answer.
        let _ready = service.poll_ready(&mut Context::from_waker(Waker::noop()));
        Answered {
            inner: service.call(request),
            open: Some(Open::new(&self.work)),
        }
    }
}

/// Cookies may come in several lines, for the sake of compression; everybody else knows one (RFC 9113 s8.2.3).
fn join_crumbs(headers: &mut HeaderMap) {
    let mut lines = headers.get_all(COOKIE).iter();
    if lines.next().is_none() || lines.next().is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    // Each was a field's value, and "; " may stand in one.
    if let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, whole);
    }
}

/// A request that is not answered to the end.
struct Open {
    work: Arc<Work>,
    on_peer: bool,
}

impl Open {
    fn new(work: &Arc<Work>) -> Self {
        work.add(&work.open);
        Self {
            work: Arc::clone(work),
            on_peer: false,
        }
    }

    /// The peer must take something before anybody asks for more; or it has.
    fn on_peer(&mut self, on_peer: bool) {
        if self.on_peer != on_peer {
            self.on_peer = on_peer;
            if on_peer {
                self.work.add(&self.work.on_peer);
            } else {
                self.work.take(&self.work.on_peer);
            }
        } else {
            self.work.moved();
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.on_peer {
            self.work.take(&self.work.on_peer);
        }
        self.work.take(&self.work.open);
    }
}

pin_project! {
    /// An answer on its way.
    struct Answered<F> {
        #[pin]
        inner: F,
        open: Option<Open>,
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
        // Closing is a matter of the connection, and no field here (RFC 9113 s8.2.2).
        response.headers_mut().remove(CONNECTION);
        let open = this.open.take();
        Poll::Ready(Ok(response.map(|inner| Answer { inner, open })))
    }
}

pin_project! {
    /// The body of an answer; when it is dropped, hyper has taken all it will take of it.
    struct Answer<B> {
        #[pin]
        inner: B,
        open: Option<Open>,
    }
}

impl<B: Body> Body for Answer<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let result = this.inner.poll_frame(cx);
        if let Some(open) = this.open {
            open.on_peer(result.is_ready());
        }
        result
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

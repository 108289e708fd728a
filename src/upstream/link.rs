//! One HTTP/1.1 connection to a node, driven by whoever uses it.
//!
//! hyper's connection future is not spawned: the call, then the response body, polls it. So dropping a [`Link`] closes its socket at
//! once, no task switch lies between a request and its answer, and after each poll it is *known* whether the connection is idle again.
//! An idle link is polled by nobody; its [`Signal`] remembers that something stirred and the pool looks before using it.
//!
//! hyper and the socket wake the link's own waker, never the task's: wakes that our own poll causes only make that poll go round once
//! more, and a wake of an idle link wakes nobody.
//!
//! Invariant: when the link says nothing of a request was written, not one byte of it reached the socket (R20).

use super::body::OutBody;
use super::error::{BodyError, BoxError, CallErrorKind};
use crate::core::retry::Sent;
use crate::world::Stream;
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// What a link shares with its socket, its wakers and the pool that may take its node out of service.
#[derive(Default)]
pub(super) struct Signal {
    /// Bytes the socket accepted, over the link's life.
    written: AtomicU64,
    /// Bytes the socket brought.
    read: AtomicU64,
    /// How far the request body is: [`UPLOADING`], [`ENDED`], [`FLUSHED`].
    upload: AtomicU8,
    /// The node was taken out of service.
    killed: AtomicBool,
    /// Something woke the link since it was last polled.
    stirred: AtomicBool,
    /// The link is being polled: wakes need not reach the task.
    driving: AtomicBool,
    /// Who polls the link.
    task: Mutex<Option<Waker>>,
}

/// Part of the request body has not been handed to hyper.
const UPLOADING: u8 = 0;
/// hyper has the whole request.
const ENDED: u8 = 1;
/// The socket has the whole request.
const FLUSHED: u8 = 2;

impl Signal {
    /// Ends whatever the link is doing, from any thread, as soon as it is woken.
    pub(super) fn kill(&self) {
        self.killed.store(true, Ordering::SeqCst);
    }

    /// Whether [`Signal::kill`] was called.
    pub(super) fn is_killed(&self) -> bool {
        self.killed.load(Ordering::SeqCst)
    }

    fn attach(&self, waker: &Waker) {
        let mut task = self.task.lock();
        match &*task {
            Some(known) if known.will_wake(waker) => {}
            Some(_) | None => *task = Some(waker.clone()),
        }
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // The driver clears `driving` before it reads `stirred`: one of the two sides sees the other.
        self.stirred.store(true, Ordering::SeqCst);
        if !self.driving.load(Ordering::SeqCst) {
            let task = self.task.lock().clone();
            if let Some(task) = task {
                task.wake();
            }
        }
    }
}

/// The socket, counting what it accepts.
struct Counted {
    stream: Stream,
    signal: Arc<Signal>,
}

impl Counted {
    fn count(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(n)) = written {
            self.signal.written.fetch_add(*n as u64, Ordering::Relaxed);
        }
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let n = buf.filled().len().saturating_sub(before);
        self.signal.read.fetch_add(n as u64, Ordering::Relaxed);
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.count(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.count(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        // hyper flushes the socket only when its own buffer is empty.
        if matches!(flushed, Poll::Ready(Ok(()))) && self.signal.upload.load(Ordering::Relaxed) == ENDED {
            self.signal.upload.store(FLUSHED, Ordering::Relaxed);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The request body as hyper reads it: tells the signal when all of it has been taken.
pub(super) struct Outgoing {
    body: OutBody,
    /// None for an empty body, which is never polled.
    signal: Option<Arc<Signal>>,
}

impl Outgoing {
    fn check_end(&mut self) {
        if self.body.is_end_stream()
            && let Some(signal) = self.signal.take()
        {
            signal.upload.store(ENDED, Ordering::Relaxed);
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(None) => {
                if let Some(signal) = self.signal.take() {
                    signal.upload.store(ENDED, Ordering::Relaxed);
                }
            }
            Poll::Ready(Some(Ok(_))) => self.check_end(),
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Why an exchange brought no response head. The link must be dropped.
pub(super) struct Broken {
    pub(super) kind: CallErrorKind,
    /// Whether a byte of this request was written.
    pub(super) sent: Sent,
    /// The link had served before and not one byte of an answer came.
    pub(super) kept_alive: bool,
    /// The request, when hyper never looked at it.
    pub(super) request: Option<Request<OutBody>>,
}

/// One connection.
pub(super) struct Link {
    wire: Wire,
    sender: http1::SendRequest<Outgoing>,
    signal: Arc<Signal>,
    waker: Waker,
    /// Rearmed for each request; moving a timer later takes no lock.
    timer: Option<Pin<Box<Sleep>>>,
    served: u64,
}

/// hyper's side of the connection, and whether it is over.
struct Wire {
    connection: http1::Connection<TokioIo<Counted>, Outgoing>,
    done: bool,
}

impl Wire {
    fn poll(&mut self, cx: &mut Context<'_>) {
        // An error is told through the response future or the body as well.
        if !self.done && Pin::new(&mut self.connection).poll(cx).is_ready() {
            self.done = true;
        }
    }
}

/// What a step may look at.
struct Turn<'a> {
    signal: &'a Signal,
    /// The connection is over: what has not been told by now never will be.
    done: bool,
}

/// How often one poll may go round before it yields to other tasks.
const MAX_ROUNDS: u32 = 32;

impl Link {
    /// A link over a connected stream.
    pub(super) async fn open(stream: Stream) -> Result<Box<Self>, hyper::Error> {
        let signal = Arc::new(Signal::default());
        let io = TokioIo::new(Counted {
            stream,
            signal: Arc::clone(&signal),
        });
        let (sender, connection) = http1::Builder::new().handshake(io).await?;
        Ok(Box::new(Self {
            wire: Wire {
                connection,
                done: false,
            },
            sender,
            waker: Waker::from(Arc::clone(&signal)),
            signal,
            timer: None,
            served: 0,
        }))
    }

    pub(super) fn signal(&self) -> &Arc<Signal> {
        &self.signal
    }

    /// Whether nothing is under way and a next request may be sent.
    pub(super) fn is_idle(&self) -> bool {
        !self.wire.done && self.sender.is_ready()
    }

    /// Whether the last request has been sent in full.
    pub(super) fn uploaded(&self) -> bool {
        self.signal.upload.load(Ordering::Relaxed) == FLUSHED
    }

    /// Whether the link has carried a request before.
    pub(super) fn is_reused(&self) -> bool {
        self.served > 0
    }

    /// Forgets the task that drove the link; it lies idle from now on.
    pub(super) fn rest(&mut self) {
        let task = self.signal.task.lock().take();
        drop(task);
    }

    /// Whether an idle link is still good: nothing came on it and the node has not closed it, as far as this process has been told.
    pub(super) fn is_fresh(&mut self) -> bool {
        if self.signal.killed.load(Ordering::SeqCst) {
            return false;
        }
        if self.signal.stirred.swap(false, Ordering::SeqCst) {
            let mut cx = Context::from_waker(&self.waker);
            self.wire.poll(&mut cx);
        }
        self.is_idle()
    }

    /// Polls the connection and then `step` until `step` is ready or nothing stirs any more.
    fn turn<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut step: impl FnMut(&Turn<'_>, Option<&mut Pin<Box<Sleep>>>, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let Self {
            wire,
            signal,
            waker,
            timer,
            ..
        } = self;
        signal.attach(cx.waker());
        let mut own = Context::from_waker(waker);
        for _ in 0..MAX_ROUNDS {
            signal.driving.store(true, Ordering::SeqCst);
            signal.stirred.store(false, Ordering::SeqCst);
            wire.poll(&mut own);
            let turn = Turn {
                signal,
                done: wire.done,
            };
            let stepped = step(&turn, timer.as_mut(), &mut own);
            signal.driving.store(false, Ordering::SeqCst);
            if stepped.is_ready() {
                return stepped;
            }
            if !signal.stirred.load(Ordering::SeqCst) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Sends a request and waits for its response head: at most `head_timeout` without progress of the upload, and at most until
    /// `deadline` from now. When this future is dropped, the link must be dropped too.
    pub(super) async fn exchange(
        &mut self,
        request: Request<OutBody>,
        head_timeout: Duration,
        deadline: Duration,
    ) -> Result<Response<Incoming>, Broken> {
        let written_before = self.signal.written.load(Ordering::Relaxed);
        let read_before = self.signal.read.load(Ordering::Relaxed);
        let empty = request.body().is_end_stream();
        let upload = if empty { ENDED } else { UPLOADING };
        self.signal.upload.store(upload, Ordering::Relaxed);
        let signal = (!empty).then(|| Arc::clone(&self.signal));
        let kept_alive = self.is_reused();
        self.served += 1;
        let mut limits = Limits::new(head_timeout, deadline);
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(deadline.min(FAR))));
        limits.rearm(timer);
        let mut answer = pin!(
            self.sender
                .try_send_request(request.map(|body| Outgoing { body, signal }))
        );
        let ended = std::future::poll_fn(|cx| {
            self.turn(cx, |turn, timer, cx| {
                if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                    return Poll::Ready(Ended::Answer(answer.map_err(Box::new)));
                }
                if turn.done || turn.signal.is_killed() {
                    return Poll::Ready(Ended::Early(CallErrorKind::Reset));
                }
                limits.check(turn.signal, timer, cx).map(Ended::Early)
            })
        })
        .await;
        let written = self.signal.written.load(Ordering::Relaxed) > written_before;
        let sent = if written { Sent::Maybe } else { Sent::Nothing };
        let silent = self.signal.read.load(Ordering::Relaxed) == read_before;
        match ended {
            Ended::Answer(Ok(response)) => Ok(response),
            Ended::Answer(Err(mut error)) => Err(Broken {
                kind: kind_of(error.error()),
                sent,
                kept_alive: kept_alive && silent,
                request: error
                    .take_message()
                    .map(|message| message.map(|outgoing| outgoing.body)),
            }),
            Ended::Early(kind) => Err(Broken {
                kind,
                sent,
                kept_alive: false,
                request: None,
            }),
        }
    }

    /// The next frame of a response body.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        incoming: &mut Incoming,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.turn(cx, |turn, _, cx| {
            let frame = Pin::new(&mut *incoming).poll_frame(cx);
            if frame.is_pending() && turn.signal.is_killed() {
                return Poll::Ready(Some(Err(BodyError::NodeDown)));
            }
            if frame.is_pending() && turn.done {
                return Poll::Ready(Some(Err(BodyError::Reset)));
            }
            frame.map_err(|_broken| BodyError::Reset)
        })
    }

    /// Ready when the request body has been sent in full (true) or cannot be any more (false).
    pub(super) fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        self.turn(cx, |turn, _, _| {
            if turn.signal.upload.load(Ordering::Relaxed) == FLUSHED {
                Poll::Ready(true)
            } else if turn.done || turn.signal.is_killed() {
                Poll::Ready(false)
            } else {
                Poll::Pending
            }
        })
    }
}

/// How waiting for a head ended.
enum Ended {
    Answer(Result<Response<Incoming>, Box<hyper::client::conn::TrySendError<Request<Outgoing>>>>),
    Early(CallErrorKind),
}

/// The time limits of one exchange. The response timeout starts anew whenever the upload moved: it is the node's time, not the client's.
struct Limits {
    head_timeout: Duration,
    /// When the deadline is.
    until: Instant,
    /// What the timer is armed for.
    armed: Instant,
    /// Bytes written when it was armed; none before the first poll, which writes.
    written: Option<u64>,
}

/// Longer than anything waits; later instants may overflow.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

impl Limits {
    fn new(head_timeout: Duration, deadline: Duration) -> Self {
        let now = waiting_clock();
        let until = now + deadline.min(FAR);
        Self {
            head_timeout: head_timeout.min(FAR),
            until,
            armed: until.min(now + head_timeout.min(FAR)),
            written: None,
        }
    }

    fn rearm(&self, timer: &mut Pin<Box<Sleep>>) {
        timer.as_mut().reset(self.armed);
    }

    fn check(
        &mut self,
        signal: &Signal,
        timer: Option<&mut Pin<Box<Sleep>>>,
        cx: &mut Context<'_>,
    ) -> Poll<CallErrorKind> {
        let Some(timer) = timer else {
            return Poll::Pending;
        };
        let written = signal.written.load(Ordering::Relaxed);
        if self.written.replace(written).is_some_and(|before| before != written) {
            self.armed = self.until.min(waiting_clock() + self.head_timeout);
            self.rearm(timer);
        }
        timer.as_mut().poll(cx).map(|()| {
            if self.armed >= self.until {
                CallErrorKind::DeadlineExceeded
            } else {
                CallErrorKind::HeadTimedOut
            }
        })
    }
}

/// The clock that tokio waits by, which a simulation pauses: for arming timers and nothing else.
#[allow(clippy::disallowed_methods)]
fn waiting_clock() -> Instant {
    Instant::now()
}

fn kind_of(error: &hyper::Error) -> CallErrorKind {
    if error.is_user() {
        CallErrorKind::BodyFailed
    } else if error.is_parse() {
        CallErrorKind::Garbage
    } else {
        CallErrorKind::Reset
    }
}

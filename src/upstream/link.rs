//! One HTTP/1.1 connection to a node, driven by whoever uses it.
//!
//! hyper's connection future is not spawned: the call, then the response body, polls it. So dropping a [`Link`] closes its socket at
//! once, no task switch lies between a request and its answer, and after each poll it is *known* whether the connection is idle again.
//! An idle link is polled by nobody; its [`Signal`] remembers that the socket called and the pool looks before using it.
//!
//! hyper and the socket wake the link's own waker, never the task's: wakes that our own poll causes only make that poll go round once
//! more, and a wake of an idle link wakes nobody.
//!
//! Invariant: when the link says nothing of a request was written, not one byte of it reached the socket (R20).

use super::body::OutBody;
use super::error::{BodyError, CallErrorKind};
use super::signal::{Counted, ENDED, FLUSHED, Outgoing, Signal, UPLOADING};
use crate::core::retry::Sent;
use crate::world::Stream;
use bytes::Bytes;
use http::{HeaderName, Request, Response};
use http_body::{Body, Frame};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use hyper_util::rt::TokioIo;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::ReusableBoxFuture;

/// Why an exchange brought no response head. The link must be dropped.
pub(super) struct Broken {
    pub(super) kind: CallErrorKind,
    /// Whether a byte of this request was written.
    pub(super) sent: Sent,
    /// The link had served before, or lain idle, and not one byte of an answer came.
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
    /// What the request under way comes to, in memory that serves them all.
    answer: ReusableBoxFuture<'static, Answer>,
    served: u64,
    /// It has lain idle before it carried anything.
    kept: bool,
    /// How long the node said it keeps the connection when nothing comes on it.
    kept_for: Option<Duration>,
    /// Until when the link may be used again, by what the node said.
    good_until: Option<Instant>,
}

/// What hyper makes of a request.
type Answer = Result<Response<Incoming>, TrySendError<Request<Outgoing>>>;

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
    timer: Option<&'a mut Pin<Box<Sleep>>>,
    answer: &'a mut ReusableBoxFuture<'static, Answer>,
}

/// How often one poll may go round before it yields to other tasks.
const MAX_ROUNDS: u32 = 32;

impl Link {
    /// A link over a connected stream.
    pub(super) async fn open(stream: Stream) -> Result<Box<Self>, hyper::Error> {
        let signal = Arc::new(Signal::default());
        let io = TokioIo::new(Counted::new(stream, &signal));
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
            answer: ReusableBoxFuture::new(std::future::pending()),
            served: 0,
            kept: false,
            kept_for: None,
            good_until: None,
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

    /// Whether the link has carried a request before, or lain idle: its node may have closed it unnoticed.
    pub(super) fn is_reused(&self) -> bool {
        self.served > 0 || self.kept
    }

    /// Keeps a link that has carried nothing yet: from now on it is noticed when its node closes it. False when it has already.
    pub(super) fn keep(&mut self) -> bool {
        self.kept = true;
        self.is_fresh()
    }

    /// Forgets the task that drove the link; it lies idle from now on.
    pub(super) fn rest(&mut self) {
        let task = self.signal.task.lock().take();
        drop(task);
        self.good_until = self.kept_for.map(|kept| waiting_clock() + kept);
    }

    /// Whether an idle link is still good: nothing came on it and the node has not closed it, as far as this process has been told, nor is
    /// about to: a write that crosses the close of its connection may not be repeated (R20).
    pub(super) fn is_fresh(&mut self) -> bool {
        if self.signal.is_killed() || self.good_until.is_some_and(|until| waiting_clock() >= until) {
            return false;
        }
        // A socket that had nothing to say when it was asked last, and has not called since, has nothing to say.
        let quiet = self.signal.listening.load(Ordering::SeqCst) && !self.signal.news.load(Ordering::SeqCst);
        if !quiet {
            self.signal.stirred.store(false, Ordering::SeqCst);
            let mut cx = Context::from_waker(&self.waker);
            self.wire.poll(&mut cx);
        }
        self.is_idle()
    }

    /// Polls the connection and then `step` until `step` is ready or nothing stirs any more.
    fn turn<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut step: impl FnMut(&mut Turn<'_>, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let Self {
            wire,
            signal,
            waker,
            timer,
            answer,
            ..
        } = self;
        signal.attach(cx.waker());
        let mut own = Context::from_waker(waker);
        for _ in 0..MAX_ROUNDS {
            signal.begins();
            wire.poll(&mut own);
            let mut turn = Turn {
                signal,
                done: wire.done,
                timer: timer.as_mut(),
                answer,
            };
            let stepped = step(&mut turn, &mut own);
            let stirs = signal.ends();
            if stepped.is_ready() || !stirs {
                return stepped;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Sends a request and waits for its response head: at most `head_timeout` without progress of the upload, and at most until
    /// `deadline` from now. When this future is dropped, the link must be dropped too.
    pub(super) fn exchange(
        &mut self,
        request: Request<OutBody>,
        head_timeout: Duration,
        deadline: Duration,
    ) -> Exchange<'_> {
        let written_before = self.signal.written.load(Ordering::Relaxed);
        let read_before = self.signal.read.load(Ordering::Relaxed);
        let empty = request.body().is_end_stream();
        let upload = if empty { ENDED } else { UPLOADING };
        self.signal.upload.store(upload, Ordering::Relaxed);
        let signal = (!empty).then(|| Arc::clone(&self.signal));
        let kept_alive = self.is_reused();
        self.served += 1;
        let limits = Limits::new(head_timeout, deadline);
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(deadline.min(FAR))));
        limits.rearm(timer);
        self.answer.set(
            self.sender
                .try_send_request(request.map(|body| Outgoing { body, signal })),
        );
        Exchange {
            link: self,
            limits,
            written_before,
            read_before,
            kept_alive,
        }
    }

    /// The next frame of a response body.
    pub(super) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
        incoming: &mut Incoming,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.turn(cx, |turn, cx| {
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
        self.turn(cx, |turn, _| {
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

/// A request under way on a link, up to its response head. When it is dropped, the link must be dropped too.
pub(super) struct Exchange<'a> {
    link: &'a mut Link,
    limits: Limits,
    written_before: u64,
    read_before: u64,
    kept_alive: bool,
}

impl Future for Exchange<'_> {
    type Output = Result<Response<Incoming>, Box<Broken>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Self {
            link,
            limits,
            written_before,
            read_before,
            kept_alive,
        } = &mut *self;
        let ended = ready!(link.turn(cx, |turn, cx| {
            if let Poll::Ready(answer) = turn.answer.poll(cx) {
                return Poll::Ready(Ended::Answer(answer.map_err(Box::new)));
            }
            if turn.done || turn.signal.is_killed() {
                return Poll::Ready(Ended::Early(CallErrorKind::Reset));
            }
            limits.check(turn, cx).map(Ended::Early)
        }));
        let written = link.signal.written.load(Ordering::Relaxed) > *written_before;
        let sent = if written { Sent::Maybe } else { Sent::Nothing };
        let silent = link.signal.read.load(Ordering::Relaxed) == *read_before;
        Poll::Ready(match ended {
            Ended::Answer(Ok(response)) => {
                link.kept_for = kept_for(response.headers());
                Ok(response)
            }
            Ended::Answer(Err(mut error)) => Err(Box::new(Broken {
                kind: kind_of(error.error()),
                sent,
                kept_alive: *kept_alive && silent,
                request: error
                    .take_message()
                    .map(|message| message.map(|outgoing| outgoing.body)),
            })),
            Ended::Early(kind) => Err(Box::new(Broken {
                kind,
                sent,
                kept_alive: false,
                request: None,
            })),
        })
    }
}

/// How waiting for a head ended.
enum Ended {
    Answer(Result<Response<Incoming>, Box<TrySendError<Request<Outgoing>>>>),
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

    fn check(&mut self, turn: &mut Turn<'_>, cx: &mut Context<'_>) -> Poll<CallErrorKind> {
        let Some(timer) = turn.timer.as_mut() else {
            return Poll::Pending;
        };
        let written = turn.signal.written.load(Ordering::Relaxed);
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

/// How long a connection may be idle by the node's `Keep-Alive: timeout=N`, less what a request needs to get there: a second, or half of
/// it when it is less than two.
fn kept_for(answer: &http::HeaderMap) -> Option<Duration> {
    static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
    let said = answer.get(&KEEP_ALIVE)?.to_str().ok()?;
    let seconds: u64 = said.split(',').find_map(|member| {
        let (name, value) = member.trim().split_once('=')?;
        name.eq_ignore_ascii_case("timeout").then(|| value.parse().ok())?
    })?;
    let kept = Duration::from_secs(seconds).min(FAR);
    Some(kept.saturating_sub(Duration::from_secs(1).min(kept / 2)))
}

/// The clock that tokio waits by, which a simulation pauses: for arming timers and the end of idle links, and nothing else.
#[allow(clippy::disallowed_methods)]
pub(super) fn waiting_clock() -> Instant {
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

//! One request of an HTTP/2 connection and its answer: asks the service, and hands h2 the head ([`heads`]) and then the body, piece by piece
//! as the peer has room.
//!
//! This is h2's own face and not hyper's server upon it, because the frequent case can go straight: an answer that is ready, with a short
//! body, is over when [`Answering::begin`] returns. hyper boxes it, asks thrice for room and looks for a dozen fields on its way.
//!
//! Dropped before its answer is handed over, a stream is reset (CANCEL) by h2 and frees what it holds.
//!
//! Invariant: what panics, in the service or in a body, ends its own stream (INTERNAL_ERROR) and no other, whoever polled it. That is no
//! doing of the peer, and does not count as thrown away. The panic itself is told by the process's hook, as everywhere.

use super::heads::{join_crumbs, make_sendable, teach};
use super::{Answer, Held, Open, Piece, SILENT, Streams, Upload, tasks};
use crate::core::http::hop;
use crate::proxy::Interim;
use crate::world::Clock;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{Method, Request, Response};
use http_body::Body;
use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tower::Service;

/// A whole answer that is no larger is handed over without asking whether the peer has room for any of it: one frame of any peer, and a
/// quarter of the window that every stream begins with unless the peer says otherwise.
const AT_ONCE: usize = 16 * 1024;

/// Answers the streams of one connection.
pub(in crate::server) struct Answering<S> {
    service: S,
    streams: Arc<Streams>,
    /// Where the places of the streams' interim heads are found.
    interim: Arc<Interim>,
    /// How long a peer may take nothing of an answer.
    stall: Duration,
    clock: Arc<dyn Clock>,
}

impl<S, B> Answering<S>
where
    S: Service<Request<Upload>, Response = Response<B>, Error = Infallible>,
    S::Future: Send + Unpin + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    pub(in crate::server) fn new(
        service: S,
        streams: Arc<Streams>,
        interim: Arc<Interim>,
        stall: Duration,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            service,
            streams,
            interim,
            stall,
            clock,
        }
    }

    /// Begins with a request: most are hits, and over here, without a task.
    pub(in crate::server) fn begin(&mut self, request: Request<RecvStream>, respond: SendResponse<Piece>) {
        let mut request = Upload::of(request, &self.interim);
        join_crumbs(request.headers_mut());
        let is_head = *request.method() == Method::HEAD;
        let mut cx = Context::from_waker(Waker::noop());
        let mut asking = Asking {
            is_head,
            respond,
            held: Held::Alone(Open::new(&self.streams)),
            interim: None,
            clock: Arc::clone(&self.clock),
        };
        let mut sending = None;
        self.streams.body(SILENT);
        let service = &mut self.service;
        // This is the connection's own turn: a panic would take all its other streams along.
        let asked = catch_unwind(AssertUnwindSafe(|| {
            // Always ready: a service that is full says so in its answer.
            let _ready = service.poll_ready(&mut cx);
            let mut answer = service.call(request);
            let Poll::Ready(Ok(response)) = Pin::new(&mut answer).poll(&mut cx) else {
                return Some(answer);
            };
            sending = Sending::begin(&mut asking, response);
            if sending.as_mut().is_some_and(|sending| sending.poll(&mut cx).is_ready()) {
                sending = None;
            }
            None
        }));
        asking.interim = self.interim.take_stream();
        let exchange = match asked {
            Ok(Some(answer)) => Exchange::Asking(answer, asking),
            Ok(None) => match sending {
                Some(sending) => Exchange::Sending(sending),
                None => return,
            },
            Err(_) => match sending {
                Some(mut sending) => return sending.fail(),
                None => return asking.fail(),
            },
        };
        tasks::spawn(exchange, &self.streams, self.stall);
    }
}

/// A stream that could not be answered at once.
#[allow(
    clippy::large_enum_variant,
    reason = "it is one, then the other, in the memory of its task"
)]
enum Exchange<F, B> {
    Asking(F, Asking),
    Sending(Sending<B>),
    Over,
}

/// What an answer needs when it comes.
struct Asking {
    /// Its body is not sent, whatever it is (RFC 9110 s9.3.2).
    is_head: bool,
    respond: SendResponse<Piece>,
    held: Held,
    /// Where interim heads for it are left, and taken until its answer comes; none: nobody leaves any.
    interim: Option<Arc<Interim>>,
    clock: Arc<dyn Clock>,
}

impl Asking {
    /// Sends the interim heads that have come.
    fn inform(&mut self, cx: &mut Context<'_>) {
        let Some(interim) = &self.interim else {
            return;
        };
        for head in interim.take_heads(cx.waker()) {
            // h2 takes them for a stream that is closed, too.
            if self.respond.poll_reset(cx).is_ready() {
                return;
            }
            if let Err(error) = self.respond.send_informational(head) {
                tracing::debug!(%error, "an interim answer cannot be sent: dropped");
            }
        }
    }

    /// What was asked for panicked.
    fn fail(&mut self) {
        self.held.whole();
        self.respond.send_reset(Reason::INTERNAL_ERROR);
    }
}

impl<F, B> Exchange<F, B>
where
    F: Future<Output = Result<Response<B>, Infallible>> + Unpin,
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    fn go_on(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Self::Asking(answer, asking) = self {
            let polled = Pin::new(answer).poll(cx);
            asking.inform(cx);
            let Poll::Ready(Ok(response)) = polled else {
                // The peer may not want it any more, or be gone.
                return asking.respond.poll_reset(cx).map(drop);
            };
            *self = Sending::begin(asking, response).map_or(Self::Over, Self::Sending);
        }
        match self {
            Self::Sending(sending) => sending.poll(cx),
            Self::Asking(..) | Self::Over => Poll::Ready(()),
        }
    }
}

impl<F, B> Future for Exchange<F, B>
where
    F: Future<Output = Result<Response<B>, Infallible>> + Unpin,
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        catch_unwind(AssertUnwindSafe(|| this.go_on(cx))).unwrap_or_else(|_| {
            match this {
                Self::Asking(_, asking) => asking.fail(),
                Self::Sending(sending) => sending.fail(),
                Self::Over => {}
            }
            Poll::Ready(())
        })
    }
}

/// An answer whose head is on its way.
struct Sending<B> {
    stream: SendStream<Piece>,
    body: Answer<B>,
    /// One that waits for room, and whether it is the last.
    piece: Option<(Piece, bool)>,
    /// Nothing has been handed over.
    is_whole: bool,
}

impl<B> Sending<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Sends the head; none: that was all, or nothing more can be sent.
    fn begin(asking: &mut Asking, response: Response<B>) -> Option<Self> {
        let (mut head, body) = response.into_parts();
        if let Some(open) = asking.held.open() {
            teach(&open.streams, &mut head.headers);
        }
        let is_empty = body.is_end_stream();
        let length = if is_empty { None } else { body.size_hint().exact() };
        make_sendable(&mut head.headers, length, &*asking.clock);
        let is_all = is_empty || asking.is_head;
        match asking.respond.send_response(Response::from_parts(head, ()), is_all) {
            Ok(_) if is_all => {
                asking.held.whole();
                None
            }
            Ok(stream) => Some(Self {
                stream,
                body: Answer {
                    inner: body,
                    rest: Bytes::new(),
                    held: std::mem::replace(&mut asking.held, Held::Passed),
                },
                piece: None,
                is_whole: true,
            }),
            Err(error) => {
                tracing::debug!(%error, "an answer cannot be sent: stream reset");
                asking.respond.send_reset(Reason::INTERNAL_ERROR);
                None
            }
        }
    }

    /// Its body panicked.
    fn fail(&mut self) {
        self.body.held.whole();
        self.stream.send_reset(Reason::INTERNAL_ERROR);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.piece.is_some() {
                if !ready!(self.poll_room(cx)) {
                    return Poll::Ready(());
                }
                if let Some((piece, is_last)) = self.piece.take()
                    && (self.stream.send_data(piece, is_last).is_err() || is_last)
                {
                    return Poll::Ready(());
                }
            }
            let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) else {
                return self.poll_reset(cx);
            };
            match frame {
                None => {
                    let _over = self.stream.send_data(super::nothing(Bytes::new()), true);
                    return Poll::Ready(());
                }
                Some(Err(error)) => {
                    let error: Box<dyn std::error::Error + Send + Sync> = error.into();
                    tracing::debug!(%error, "an answer broke off: stream reset");
                    self.stream.send_reset(Reason::INTERNAL_ERROR);
                    return Poll::Ready(());
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => {
                        let (size, is_last) = (piece.bytes.len(), self.body.is_end_stream());
                        // An empty one needs no room.
                        if size == 0 || is_last && self.is_whole && size <= AT_ONCE && piece.is_handed_over() {
                            if self.stream.send_data(piece, is_last).is_err() || is_last {
                                return Poll::Ready(());
                            }
                            continue;
                        }
                        self.is_whole = false;
                        // For one byte: h2 raises that to what it is handed, and who waits with more than that holds up the others.
                        self.stream.reserve_capacity(1);
                        self.piece = Some((piece, is_last));
                    }
                    Err(frame) => {
                        // Room that was reserved is the others'.
                        self.stream.reserve_capacity(0);
                        if let Ok(mut trailers) = frame.into_trailers() {
                            hop::strip(&mut trailers); // RFC 9113 s8.2.2
                            if let Err(error) = self.stream.send_trailers(trailers) {
                                tracing::debug!(%error, "an answer's trailers cannot be sent: stream reset");
                                self.stream.send_reset(Reason::INTERNAL_ERROR);
                            }
                        }
                        return Poll::Ready(());
                    }
                },
            }
        }
    }

    /// Waits until the peer has room for something; false: nothing can be sent any more.
    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.poll_reset(cx).is_ready() {
            return Poll::Ready(false);
        }
        while self.stream.capacity() == 0 {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(false),
            }
        }
        Poll::Ready(true)
    }

    /// Ready when the peer wants no more of it, or is gone.
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_reset(cx).map(drop)
    }
}

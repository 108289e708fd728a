//! One request of an HTTP/2 connection and its answer: asks the service, makes of the head what may be sent (RFC 9113 s8.2.2), and hands h2 the
//! body piece by piece as the peer has room.
//!
//! This is h2's own face and not hyper's server upon it, because the frequent case can go straight: an answer that is ready, with a short
//! body, is over when [`Answering::begin`] returns. hyper boxes it, asks thrice for room and looks for a dozen fields on its way.
//!
//! Dropped before its answer is handed over, a stream is reset (CANCEL) by h2 and frees what it holds.

use super::{Answer, Held, Open, Piece, SILENT, Streams, Upload, tasks};
use crate::core::http::{dates, hop};
use crate::world::Clock;
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, DATE, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body::Body;
use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tower::Service;

/// A whole answer that is no larger is handed over without asking whether the peer has room for any of it: one frame of any peer, and a
/// quarter of the window that every stream begins with unless the peer says otherwise.
const AT_ONCE: usize = 16 * 1024;

/// Fields whose values change with every answer and have no place in HPACK's tables: what we say of every hit.
static CHANGING: [HeaderName; 2] = [
    HeaderName::from_static("cache-status"),
    HeaderName::from_static("tidegate-consistency"),
];

/// In how many answers of a connection they have one all the same, so that there is one for their names.
const LESSONS: u8 = 2;

/// Answers the streams of one connection.
pub(in crate::server) struct Answering<S> {
    service: S,
    streams: Arc<Streams>,
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
    pub(in crate::server) fn new(service: S, streams: Arc<Streams>, stall: Duration, clock: Arc<dyn Clock>) -> Self {
        Self {
            service,
            streams,
            stall,
            clock,
        }
    }

    /// Begins with a request: most are hits, and over here, without a task.
    pub(in crate::server) fn begin(&mut self, request: Request<RecvStream>, mut respond: SendResponse<Piece>) {
        let mut request = Upload::of(request);
        join_crumbs(request.headers_mut());
        let is_head = *request.method() == Method::HEAD;
        let mut cx = Context::from_waker(Waker::noop());
        let open = Open::new(&self.streams);
        self.streams.body(SILENT);
        let service = &mut self.service;
        // This is the connection's own turn: a panic would take all its other streams along.
        let asked = catch_unwind(AssertUnwindSafe(|| {
            // Always ready: a service that is full says so in its answer.
            let _ready = service.poll_ready(&mut cx);
            let mut answer = service.call(request);
            let polled = Pin::new(&mut answer).poll(&mut cx);
            (answer, polled)
        }));
        let Ok((answer, polled)) = asked else {
            respond.send_reset(Reason::INTERNAL_ERROR);
            open.whole();
            return;
        };
        let asking = Asking {
            is_head,
            respond,
            open,
            clock: Arc::clone(&self.clock),
        };
        let exchange = match polled {
            Poll::Ready(Ok(response)) => match Sending::begin(asking, response) {
                None => return,
                Some(mut sending) => match sending.poll(&mut cx) {
                    Poll::Ready(()) => return,
                    Poll::Pending => Exchange::Sending(sending),
                },
            },
            Poll::Pending => Exchange::Asking(answer, asking),
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
    open: Open,
    clock: Arc<dyn Clock>,
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
        if let Self::Asking(answer, asking) = this {
            let Poll::Ready(Ok(response)) = Pin::new(answer).poll(cx) else {
                // The peer may not want it any more, or be gone.
                return asking.respond.poll_reset(cx).map(drop);
            };
            if let Self::Asking(_, asking) = std::mem::replace(this, Self::Over)
                && let Some(sending) = Sending::begin(asking, response)
            {
                *this = Self::Sending(sending);
            }
        }
        match this {
            Self::Sending(sending) => sending.poll(cx),
            Self::Asking(..) | Self::Over => Poll::Ready(()),
        }
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
    fn begin(asking: Asking, response: Response<B>) -> Option<Self> {
        let Asking {
            is_head,
            mut respond,
            open,
            clock,
        } = asking;
        let (mut head, body) = response.into_parts();
        teach(&open.streams, &mut head.headers);
        let is_empty = body.is_end_stream();
        let length = if is_empty { None } else { body.size_hint().exact() };
        make_sendable(&mut head.headers, length, &*clock);
        let is_all = is_empty || is_head;
        match respond.send_response(Response::from_parts(head, ()), is_all) {
            Ok(_) if is_all => {
                open.whole();
                None
            }
            Ok(stream) => Some(Self {
                stream,
                body: Answer {
                    inner: body,
                    rest: Bytes::new(),
                    held: Held::Alone(open),
                },
                piece: None,
                is_whole: true,
            }),
            Err(error) => {
                tracing::debug!(%error, "an answer cannot be sent: stream reset");
                respond.send_reset(Reason::INTERNAL_ERROR);
                None
            }
        }
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

/// The first answers of a connection.
fn teach(streams: &Streams, headers: &mut HeaderMap) {
    let taught = streams.taught.load(Ordering::Relaxed);
    if taught < LESSONS {
        streams.taught.store(taught + 1, Ordering::Relaxed);
        for name in &CHANGING {
            if let Some(value) = headers.get_mut(name) {
                value.set_sensitive(false);
            }
        }
    }
}

/// One walk over the names: what a head of HTTP/2 may not have is taken out (RFC 9113 s8.2.2), a date is added where there is none (RFC 9110
/// s6.6.1), and the length where it is known.
fn make_sendable(headers: &mut HeaderMap, length: Option<u64>, clock: &dyn Clock) {
    let (mut is_dated, mut is_measured, mut is_bound) = (false, false, false);
    for name in headers.keys() {
        match name.as_str() {
            "date" => is_dated = true,
            "content-length" => is_measured = true,
            "connection" | "keep-alive" | "proxy-connection" | "te" | "transfer-encoding" | "upgrade" => {
                is_bound = true;
            }
            _ => {}
        }
    }
    if is_bound {
        for name in hop::connection_listed(headers) {
            headers.remove(name);
        }
        for name in [CONNECTION, TE, TRANSFER_ENCODING, UPGRADE] {
            headers.remove(name);
        }
        headers.remove("keep-alive");
        headers.remove("proxy-connection");
    }
    if !is_dated {
        headers.insert(DATE, dates::format(clock.wall()));
    }
    if let Some(length) = length.filter(|_| !is_measured) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

/// Cookies may come in several lines, for the sake of compression; everybody else knows one (RFC 9113 s8.2.3).
fn join_crumbs(headers: &mut HeaderMap) {
    if headers.len() == headers.keys_len() {
        return; // no field has two lines
    }
    let mut lines = headers.get_all(COOKIE).iter();
    if lines.next().is_none() || lines.next().is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    // Each was a field's value, and "; " may stand in one.
    if let Ok(mut whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        // RFC 7541 s6.2.3: what no table may keep stays so on its way.
        whole.set_sensitive(headers.get_all(COOKIE).iter().any(HeaderValue::is_sensitive));
        headers.insert(COOKIE, whole);
    }
}

#[cfg(test)]
mod tests {
    use super::{join_crumbs, make_sendable};
    use crate::core::time::{MonoTime, WallTime};
    use crate::world::Clock;
    use http::{HeaderMap, HeaderName, HeaderValue};

    /// Stands.
    struct Still;

    impl Clock for Still {
        fn mono(&self) -> MonoTime {
            MonoTime::from_micros(0)
        }

        fn wall(&self) -> WallTime {
            WallTime::from_millis(0)
        }
    }

    type Lines<'a> = &'a [(&'static str, &'static str)];

    fn map(lines: Lines<'_>) -> HeaderMap {
        let lines = lines.iter();
        lines
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn a_head_is_made_such_as_may_be_sent() {
        const DATE: (&str, &str) = ("date", "Tue, 01 Jan 2019 00:00:00 GMT");
        const NOW: (&str, &str) = ("date", "Thu, 01 Jan 1970 00:00:00 GMT");
        let cases: [(&str, Lines<'_>, Option<u64>, Lines<'_>); 5] = [
            (
                "nothing to do",
                &[DATE, ("content-length", "3")],
                Some(3),
                &[DATE, ("content-length", "3")],
            ),
            ("no date (RFC 9110 s6.6.1)", &[("x", "1")], None, &[("x", "1"), NOW]),
            ("no length", &[DATE], Some(7), &[DATE, ("content-length", "7")]),
            (
                "a HEAD's length is not its body's",
                &[DATE, ("content-length", "9")],
                None,
                &[DATE, ("content-length", "9")],
            ),
            (
                "fields of a connection (RFC 9113 s8.2.2)",
                &[
                    DATE,
                    ("connection", "close, x-hop"),
                    ("x-hop", "1"),
                    ("keep-alive", "1"),
                    ("proxy-connection", "close"),
                    ("te", "trailers"),
                    ("transfer-encoding", "chunked"),
                    ("upgrade", "h2c"),
                    ("trailer", "x"),
                ],
                None,
                &[DATE, ("trailer", "x")],
            ),
        ];
        for (name, before, length, after) in cases {
            let mut headers = map(before);
            make_sendable(&mut headers, length, &Still);
            assert_eq!(headers, map(after), "{name}");
        }
    }

    #[test]
    fn a_crumb_that_no_table_may_keep_says_so_of_the_whole() {
        for secret in [false, true] {
            let mut headers = HeaderMap::new();
            for (crumb, is_secret) in [("a=1", false), ("b=2", secret)] {
                let mut value = HeaderValue::from_static(crumb);
                value.set_sensitive(is_secret);
                headers.append("cookie", value);
            }
            join_crumbs(&mut headers);
            assert_eq!(headers["cookie"], "a=1; b=2");
            assert_eq!(headers["cookie"].is_sensitive(), secret);
        }
    }

    #[test]
    fn crumbs_are_joined_and_nothing_else() {
        let cases: [(&str, Lines<'_>, Lines<'_>); 3] = [
            ("one line", &[("cookie", "a=1")], &[("cookie", "a=1")]),
            (
                "several",
                &[("cookie", "a=1"), ("x", "1"), ("cookie", "b=2")],
                &[("cookie", "a=1; b=2"), ("x", "1")],
            ),
            (
                "two lines of another field",
                &[("x", "1"), ("x", "2"), ("cookie", "a=1")],
                &[("x", "1"), ("x", "2"), ("cookie", "a=1")],
            ),
        ];
        for (name, before, after) in cases {
            let mut headers = map(before);
            join_crumbs(&mut headers);
            assert_eq!(headers, map(after), "{name}");
        }
    }
}

//! One stream of a connection, for one request and its answer. Dropped before both are over, the stream is reset (RFC 9113 s5.4.2, CANCEL)
//! and the connection goes on.
//!
//! With a connection of HTTP/1.1 what had not left yet of an abandoned request is gone. Here the reset takes back its body. What has left,
//! or will yet, is received when the node answers a PING that was sent behind it; where strong readers wait for an abandoned write to
//! settle, a node that owes that answer for long loses the connection (R19, `Http2::ANSWER`).
//!
//! Invariant: when it says that nothing of a request was sent, no application has seen it (R20): nothing was written since, the node
//! refused the stream, or it leaves and has said that it never looked at it (RFC 9113 s8.7).

use super::super::body::OutBody;
use super::super::call::OnInterim;
use super::super::error::CallErrorKind;
use super::super::link::{Broken, waiting_clock};
use super::arriving::Arriving;
use super::connection::State;
use super::upload::{Progress, Upload};
use crate::core::http::hop;
use crate::core::retry::Sent;
use crate::core::rules::Rule;
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream};
use http::header::{HOST, TE};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Request, Response, Uri, Version};
use http_body::Body;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep, sleep_until};

/// A stream that is ours to use.
pub(in crate::upstream) struct Stream {
    state: Arc<State>,
    scheme: Scheme,
    /// The connection has carried others before.
    is_reused: bool,
    upload: Arc<Progress>,
    /// What sends the rest of the body, once the answer's head is there.
    sending: Option<AbortHandle>,
    /// The connection ends with it.
    is_alone: bool,
    /// How often the connection had written all it had when it got the request; none: the node has answered it.
    begun: Option<u64>,
    /// It carries a write whose effects strong readers wait for (R19).
    settles: bool,
}

/// Who is told interim heads, beside the request.
#[derive(Clone)]
pub(in crate::upstream) struct Interim(pub(in crate::upstream) OnInterim);

/// How a wait ended without an answer.
enum Ended {
    Stream(h2::Error),
    Early(CallErrorKind),
}

impl Stream {
    /// A stream that has been taken of a connection.
    pub(super) fn new(state: Arc<State>, scheme: Scheme, may_be_stale: bool) -> Self {
        let is_reused = state.count() > 0 && may_be_stale;
        Self {
            state,
            scheme,
            is_reused,
            upload: Arc::default(),
            sending: None,
            is_alone: false,
            begun: None,
            settles: false,
        }
    }

    /// It carries a write: given up, its resource settles from when it is known what of it the node has received (R19).
    pub(in crate::upstream) fn settles(&mut self) {
        self.settles = true;
    }

    /// Of a connection that is used for nothing else.
    pub(super) fn alone(mut self) -> Self {
        self.is_alone = true;
        self
    }

    /// Whether its connection has carried others before: it may be about to end.
    pub(in crate::upstream) fn is_reused(&self) -> bool {
        self.is_reused
    }

    /// Whether a request may still be sent on it.
    pub(in crate::upstream) fn is_fresh(&self) -> bool {
        self.state.lends()
    }

    /// Whether the request has been sent in full.
    pub(in crate::upstream) fn uploaded(&self) -> bool {
        let flushes = self.state.flushes.load(Ordering::Acquire);
        self.upload.mark().is_some_and(|mark| flushes > mark)
    }

    /// Ready when the request body has been sent in full (true) or cannot be any more (false).
    pub(in crate::upstream) fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        // First who is to be woken, then what is the case: neither is missed.
        self.upload.wait(cx.waker());
        if self.upload.is_going() {
            return Poll::Pending;
        }
        if self.upload.mark().is_some() && !self.uploaded() && !self.state.is_over() {
            self.state.wait_for_flush(cx.waker());
            if !self.uploaded() && !self.state.is_over() {
                return Poll::Pending;
            }
        }
        Poll::Ready(self.uploaded())
    }

    /// Sends a request and waits for its response head: at most `head_timeout` without progress of the upload, and at most until
    /// `deadline` from now. What is left of the body then is sent beside the answer.
    pub(in crate::upstream) async fn exchange(
        &mut self,
        mut request: Request<OutBody>,
        head_timeout: Duration,
        deadline: Duration,
    ) -> Result<Response<Arriving>, Broken> {
        let interim = request.extensions_mut().remove::<Interim>();
        let mut limits = Limits::new(head_timeout, deadline);
        let Some(head) = head(&request, &self.scheme) else {
            return Err(broken(CallErrorKind::BodyFailed, Sent::Nothing, false, None));
        };
        let Some(sender) = self.state.sender() else {
            return Err(unsent(request));
        };
        let mut sender = match limits.within(ready(sender)).await {
            Ok(Some(sender)) => sender,
            Ok(None) => return Err(unsent(request)),
            Err(kind) => return Err(broken(kind, Sent::Nothing, false, None)),
        };
        let written_before = self.state.written.load(Ordering::Acquire);
        let read_before = self.state.read.load(Ordering::Acquire);
        let empty = request.body().is_end_stream();
        let (response, send) = match sender.send_request(head, empty) {
            Ok(opened) => opened,
            Err(_) => return Err(unsent(request)),
        };
        drop(sender);
        let id = response.stream_id().as_u32();
        let (parts, body) = request.into_parts();
        let mut upload = None;
        let progress = Progress::new(send);
        let begun = self.state.flushes.load(Ordering::Acquire);
        self.begun = Some(begun);
        if empty {
            self.upload = Arc::new(progress.ended(begun));
        } else {
            self.upload = Arc::new(progress);
            let flushes = Arc::clone(&self.state.flushes);
            upload = Some(Upload::new(body, Arc::clone(&self.upload), flushes));
        }
        match wait(response, &mut upload, interim.as_ref(), &mut limits).await {
            Ok(response) => {
                self.begun = None;
                if let Some(mut rest) = upload
                    && self.upload.is_going()
                {
                    rest.keep_nothing();
                    // Both go on side by side: an answer that waits for nobody's reading does not hold up the rest of its request.
                    let sending = tokio::spawn(poll_fn(move |cx| rest.poll(cx)));
                    self.sending = Some(sending.abort_handle());
                }
                let state = Arc::clone(&self.state);
                let (mut parts, body) = response.into_parts();
                parts.version = Version::HTTP_2;
                let body = Arriving::new(body, state, Arc::clone(&self.upload), &parts.headers);
                Ok(Response::from_parts(parts, body))
            }
            Err(ended) => {
                // What was queued on a connection that lives may leave yet.
                let unwritten = self.state.is_over() && self.state.written.load(Ordering::Acquire) == written_before;
                let refused = matches!(&ended, Ended::Stream(error) if is_refused(error));
                let unseen = unwritten || refused || self.state.said.never_saw(id);
                if self.state.read.load(Ordering::Acquire) == read_before {
                    self.state.doubt();
                }
                let kind = match &ended {
                    Ended::Early(kind) => *kind,
                    Ended::Stream(_) if self.upload.broke() => CallErrorKind::BodyFailed,
                    Ended::Stream(error) if !unseen && is_garbage(error) => CallErrorKind::Garbage,
                    Ended::Stream(_) => CallErrorKind::Reset,
                };
                let sent = if unseen { Sent::Nothing } else { Sent::Maybe };
                let body = match upload {
                    Some(upload) => upload.again(),
                    None => Some(OutBody::Empty),
                };
                let request = body
                    .filter(|_| unseen && kind == CallErrorKind::Reset)
                    .map(|body| Request::from_parts(parts, body));
                Err(broken(kind, sent, unseen, request))
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(sending) = &self.sending {
            sending.abort();
        }
        let uploaded = self.uploaded();
        let flushes = self.state.flushes.load(Ordering::Acquire);
        // The head of a stream that is not open yet, or the rest of what the node has answered already: those leave before the reset.
        let is_queued = self.begun.map_or(!uploaded, |begun| flushes <= begun);
        let is_cut = self.upload.let_go(uploaded);
        if self.is_alone {
            self.state.kill();
        } else if is_cut && self.settles && Rule::R19.holds() {
            self.state.abandon(is_queued); // R19
        }
        self.state.give_back();
    }
}

/// Waits for the answer's head while the body goes.
async fn wait(
    response: ResponseFuture,
    upload: &mut Option<Upload>,
    interim: Option<&Interim>,
    limits: &mut Limits,
) -> Result<Response<RecvStream>, Ended> {
    let mut response = pin!(response);
    poll_fn(|cx| {
        if let Some(upload) = upload {
            let _over = upload.poll(cx);
            limits.moved(upload.progress.moved());
        }
        if let Some(Interim(told)) = interim {
            while let Poll::Ready(Some(Ok(head))) = response.poll_informational(cx) {
                told(head.status(), Version::HTTP_2, head.headers());
            }
        }
        if let Poll::Ready(answer) = response.as_mut().poll(cx) {
            return Poll::Ready(answer.map_err(Ended::Stream));
        }
        limits.poll(cx).map(|kind| Err(Ended::Early(kind)))
    })
    .await
}

/// None: the connection takes no more.
async fn ready(sender: SendRequest<Bytes>) -> Option<SendRequest<Bytes>> {
    sender.ready().await.ok()
}

/// The head as HTTP/2 says it (RFC 9113 s8.3.1): the authority in its place, nothing that belongs to a connection of HTTP/1.1.
fn head(request: &Request<OutBody>, scheme: &Scheme) -> Option<Request<()>> {
    let fields = request.headers();
    let authority = fields.get(HOST)?.to_str().ok()?.parse::<Authority>().ok()?;
    let target = request.uri().path_and_query().cloned();
    let target = target.unwrap_or_else(|| PathAndQuery::from_static("/"));
    let mut uri = http::uri::Parts::default();
    (uri.scheme, uri.authority, uri.path_and_query) = (Some(scheme.clone()), Some(authority), Some(target));
    let mut head = Request::new(());
    *head.method_mut() = request.method().clone();
    *head.uri_mut() = Uri::from_parts(uri).ok()?;
    *head.version_mut() = Version::HTTP_2;
    let mut kept = HeaderMap::with_capacity(fields.len());
    for (name, value) in fields {
        let is_trailers = *name == TE && value == "trailers"; // RFC 9113 s8.2.2
        if *name != HOST && (is_trailers || !hop::is_hop_by_hop(name)) {
            kept.append(name, value.clone());
        }
    }
    *head.headers_mut() = kept;
    Some(head)
}

/// RFC 9113 s8.7: nothing of it was processed.
fn is_refused(error: &h2::Error) -> bool {
    error.is_reset() && error.is_remote() && error.reason() == Some(Reason::REFUSED_STREAM)
}

/// What the node has sent is not HTTP/2: we have ended the stream or the connection.
fn is_garbage(error: &h2::Error) -> bool {
    error.is_library() && (error.is_reset() || error.is_go_away())
}

/// The connection takes no more requests, and nothing of this one was sent.
fn unsent(request: Request<OutBody>) -> Broken {
    broken(CallErrorKind::Reset, Sent::Nothing, true, Some(request))
}

fn broken(kind: CallErrorKind, sent: Sent, kept_alive: bool, request: Option<Request<OutBody>>) -> Broken {
    Broken {
        kind,
        sent,
        kept_alive,
        request,
    }
}

/// Longer than anything waits; later instants may overflow.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// The time limits of one exchange. The response timeout starts anew whenever the upload moved: it is the node's time, not the client's.
struct Limits {
    head_timeout: Duration,
    until: Instant,
    armed: Instant,
    moved: u64,
    timer: Pin<Box<Sleep>>,
}

impl Limits {
    fn new(head_timeout: Duration, deadline: Duration) -> Self {
        let now = waiting_clock();
        let head_timeout = head_timeout.min(FAR);
        let until = now + deadline.min(FAR);
        let armed = until.min(now + head_timeout);
        Self {
            head_timeout,
            until,
            armed,
            moved: 0,
            timer: Box::pin(sleep_until(armed)),
        }
    }

    fn moved(&mut self, moved: u64) {
        if self.moved != moved {
            self.moved = moved;
            self.armed = self.until.min(waiting_clock() + self.head_timeout);
            self.timer.as_mut().reset(self.armed);
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<CallErrorKind> {
        self.timer.as_mut().poll(cx).map(|()| {
            if self.armed >= self.until {
                CallErrorKind::DeadlineExceeded
            } else {
                CallErrorKind::HeadTimedOut
            }
        })
    }

    async fn within<T>(&mut self, work: impl Future<Output = T>) -> Result<T, CallErrorKind> {
        let mut work = pin!(work);
        poll_fn(|cx| match work.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending => self.poll(cx).map(Err),
        })
        .await
    }
}

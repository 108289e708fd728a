//! A request's body on its way to a node, as fast as the node's windows allow (RFC 9113 s5.2). Nothing is read of it ahead of what is being
//! sent but one piece.
//!
//! A node that leaves (GOAWAY) or refuses (REFUSED_STREAM) takes no look at requests whose bodies are on their way or have left: nginx does so
//! after every `keepalive_requests`. So the first of a body is kept until the answer, within a bound, and sent again (`again`).
//!
//! Invariant: what is handed out to be sent again is the whole body.

use super::super::body::OutBody;
use super::kept::Kept;
use crate::core::http::hop;
use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body;
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker, ready};

/// Part of the body has not been taken by the connection.
const GOING: u8 = 0;
/// The connection has all of it.
const ENDED: u8 = 1;
/// It will never be sent in full: the node wants no more of it, or the stream is over.
const CUT: u8 = 2;
/// It broke off: whoever sent it to us is at fault.
const BROKE: u8 = 3;

/// How far a body is, and its stream.
#[derive(Default)]
pub(super) struct Progress {
    state: AtomicU8,
    /// Changes whenever something moves.
    moved: AtomicU64,
    /// How often the connection had written all it had when the body ended.
    mark: AtomicU64,
    waiter: Mutex<Option<Waker>>,
    /// All of the answer has come.
    answered: AtomicBool,
    /// What sends it; none before the request has a stream, and when that has been let go.
    send: Mutex<Option<SendStream<Bytes>>>,
}

impl Progress {
    /// Of a request on this stream.
    pub(super) fn new(send: SendStream<Bytes>) -> Self {
        Self {
            send: Mutex::new(Some(send)),
            ..Self::default()
        }
    }

    /// It has no body: the connection has it whole at once.
    pub(super) fn ended(self, mark: u64) -> Self {
        self.mark.store(mark, Ordering::Release);
        self.state.store(ENDED, Ordering::Release);
        self
    }

    /// All of the answer has come.
    pub(super) fn answered(&self) {
        self.answered.store(true, Ordering::Release);
    }

    /// Lets go of the stream; whether request and answer are not both over, so that it is reset (RFC 9113 s8.1).
    pub(super) fn let_go(&self, uploaded: bool) -> bool {
        let send = self.send.lock().take();
        send.is_some() && !(uploaded && self.answered.load(Ordering::Acquire))
    }

    /// Does something with the stream; none when it has been let go.
    fn with<T>(&self, act: impl FnOnce(&mut SendStream<Bytes>) -> T) -> Option<T> {
        self.send.lock().as_mut().map(act)
    }

    fn last(&self, act: impl FnOnce(&mut SendStream<Bytes>) -> Result<(), h2::Error>) -> u8 {
        match self.with(act) {
            Some(Ok(())) => ENDED,
            Some(Err(_)) | None => CUT,
        }
    }

    /// Whether all of it is on its way, and at which count; none: not yet, or never.
    pub(super) fn mark(&self) -> Option<u64> {
        (self.state.load(Ordering::Acquire) == ENDED).then(|| self.mark.load(Ordering::Acquire))
    }

    pub(super) fn is_going(&self) -> bool {
        self.state.load(Ordering::Acquire) == GOING
    }

    /// Whether the body itself broke off.
    pub(super) fn broke(&self) -> bool {
        self.state.load(Ordering::Acquire) == BROKE
    }

    pub(super) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Acquire)
    }

    /// Wakes whoever waits when the body is over, one way or the other.
    pub(super) fn wait(&self, waker: &Waker) {
        *self.waiter.lock() = Some(waker.clone());
    }

    fn end(&self, state: u8) {
        self.state.store(state, Ordering::Release);
        let waiter = self.waiter.lock().take();
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }
}

/// The body, being sent.
pub(super) struct Upload {
    body: OutBody,
    kept: Kept,
    /// What has been read of it and not been sent.
    piece: Bytes,
    pub(super) progress: Arc<Progress>,
    /// Counts how often the connection had written all it had.
    flushes: Arc<AtomicU64>,
}

impl Upload {
    pub(super) fn new(body: OutBody, progress: Arc<Progress>, flushes: Arc<AtomicU64>) -> Self {
        Self {
            kept: Kept::of(&body),
            body,
            piece: Bytes::new(),
            progress,
            flushes,
        }
    }

    /// The node has looked at it.
    pub(super) fn keep_nothing(&mut self) {
        self.kept = Kept::Lost;
    }

    /// The body from its first byte, unless more of it has been taken than is kept.
    pub(super) fn again(mut self) -> Option<OutBody> {
        let rest = std::mem::take(&mut self.body);
        std::mem::take(&mut self.kept).before(rest)
    }

    fn ended(&self) {
        self.progress
            .mark
            .store(self.flushes.load(Ordering::Acquire), Ordering::Release);
        self.progress.end(ENDED);
    }

    /// Ready when the body is over.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.progress.is_going() {
            return Poll::Ready(());
        }
        let state = ready!(self.poll_send(cx));
        match state {
            ENDED => self.ended(),
            BROKE => {
                // RFC 9113 s8.1: a request that is not whole says so.
                self.progress.with(|send| send.send_reset(Reason::CANCEL));
                self.progress.end(BROKE);
            }
            state => self.progress.end(state),
        }
        Poll::Ready(())
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<u8> {
        loop {
            if !self.piece.is_empty() {
                match ready!(self.poll_piece(cx)) {
                    GOING => continue,
                    state => return Poll::Ready(state),
                }
            }
            if self
                .progress
                .with(|send| send.poll_reset(cx).is_ready())
                .unwrap_or(true)
            {
                return Poll::Ready(CUT);
            }
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(_)) => return Poll::Ready(BROKE),
                None => {
                    self.kept.ended(None);
                    return Poll::Ready(self.progress.last(|send| send.send_data(Bytes::new(), true)));
                }
            };
            self.progress.moved.fetch_add(1, Ordering::AcqRel);
            match frame.into_data() {
                Ok(piece) => {
                    self.kept.piece(&piece);
                    self.piece = piece;
                }
                Err(frame) => {
                    let Ok(mut trailers) = frame.into_trailers() else {
                        continue;
                    };
                    self.kept.ended(Some(&trailers));
                    hop::strip(&mut trailers); // RFC 9113 s8.2.2
                    return Poll::Ready(self.progress.last(|send| send.send_trailers(trailers)));
                }
            }
        }
    }

    /// Sends as much of the piece as the windows take.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<u8> {
        let mut slot = self.progress.send.lock();
        let Some(send) = slot.as_mut() else {
            return Poll::Ready(CUT);
        };
        send.reserve_capacity(self.piece.len());
        if send.capacity() == 0 {
            return match ready!(send.poll_capacity(cx)) {
                Some(Ok(_)) => Poll::Ready(GOING),
                Some(Err(_)) | None => Poll::Ready(CUT),
            };
        }
        let part = self.piece.split_to(send.capacity().min(self.piece.len()));
        let last = self.piece.is_empty() && self.body.is_end_stream();
        self.progress.moved.fetch_add(1, Ordering::AcqRel);
        Poll::Ready(match send.send_data(part, last) {
            Ok(()) if last => ENDED,
            Ok(()) => GOING,
            Err(_) => CUT,
        })
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.progress.is_going() {
            self.progress.end(CUT);
        }
    }
}

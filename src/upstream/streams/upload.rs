//! A request's body on its way to a node, as fast as the node's windows allow (RFC 9113 s5.2). Nothing is read of it ahead of what is being
//! sent but one piece.
//!
//! Invariant: as long as it says that nothing was taken, all of the body is there to be sent again.

use super::super::body::OutBody;
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

/// How far a body is.
#[derive(Debug, Default)]
pub(super) struct Progress {
    state: AtomicU8,
    /// Changes whenever something moves.
    moved: AtomicU64,
    /// How often the connection had written all it had when the body ended.
    mark: AtomicU64,
    taken: AtomicBool,
    waiter: Mutex<Option<Waker>>,
}

impl Progress {
    /// Of a request without a body, which the connection has whole at once.
    pub(super) fn ended(mark: u64) -> Self {
        let progress = Self::default();
        progress.mark.store(mark, Ordering::Release);
        progress.state.store(ENDED, Ordering::Release);
        progress
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
    send: SendStream<Bytes>,
    /// What has been read of it and not been sent.
    piece: Bytes,
    pub(super) progress: Arc<Progress>,
    /// Counts how often the connection had written all it had.
    flushes: Arc<AtomicU64>,
}

impl Upload {
    pub(super) fn new(body: OutBody, send: SendStream<Bytes>, flushes: Arc<AtomicU64>) -> Self {
        Self {
            body,
            send,
            piece: Bytes::new(),
            progress: Arc::default(),
            flushes,
        }
    }

    /// The body, when nothing has been taken from it.
    pub(super) fn untouched(mut self) -> Option<OutBody> {
        let taken = self.progress.taken.load(Ordering::Acquire);
        (!taken).then(|| std::mem::take(&mut self.body))
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
                self.send.send_reset(Reason::CANCEL);
                self.progress.end(BROKE);
            }
            state => self.progress.end(state),
        }
        Poll::Ready(())
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<u8> {
        loop {
            if !self.piece.is_empty() {
                self.send.reserve_capacity(self.piece.len());
                if self.send.capacity() == 0 {
                    match ready!(self.send.poll_capacity(cx)) {
                        Some(Ok(_)) => continue,
                        Some(Err(_)) | None => return Poll::Ready(CUT),
                    }
                }
                let part = self.piece.split_to(self.send.capacity().min(self.piece.len()));
                let last = self.piece.is_empty() && self.body.is_end_stream();
                self.progress.moved.fetch_add(1, Ordering::AcqRel);
                match self.send.send_data(part, last) {
                    Ok(()) if last => return Poll::Ready(ENDED),
                    Ok(()) => continue,
                    Err(_) => return Poll::Ready(CUT),
                }
            }
            if self.send.poll_reset(cx).is_ready() {
                return Poll::Ready(CUT);
            }
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                Some(Err(_)) => return Poll::Ready(BROKE),
                None => return Poll::Ready(self.finish()),
            };
            self.progress.taken.store(true, Ordering::Release);
            self.progress.moved.fetch_add(1, Ordering::AcqRel);
            match frame.into_data() {
                Ok(piece) => self.piece = piece,
                Err(frame) => {
                    let Ok(mut trailers) = frame.into_trailers() else {
                        continue;
                    };
                    hop::strip(&mut trailers); // RFC 9113 s8.2.2
                    return Poll::Ready(match self.send.send_trailers(trailers) {
                        Ok(()) => ENDED,
                        Err(_) => CUT,
                    });
                }
            }
        }
    }

    fn finish(&mut self) -> u8 {
        match self.send.send_data(Bytes::new(), true) {
            Ok(()) => ENDED,
            Err(_) => CUT,
        }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.progress.is_going() {
            self.progress.end(CUT);
        }
    }
}

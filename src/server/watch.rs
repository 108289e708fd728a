//! What a connection is doing, as seen from its bytes and its requests. hyper has one timer for a request's head that also runs while
//! a connection is idle and allocates for every request; we need three limits (head, idle, stalled writes) and a clock read at most once per request. So
//! the stream and the service leave marks here, and the connection's driver ([`super::drive`]) reads them whenever it is polled.
//!
//! All of it happens inside one task; the atomic is there because the pieces must be `Send`, and every access is relaxed.

use super::drain::{Drain, Phase};
use super::drive::{Limit, Work};
use crate::proxy::Interim;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Where a connection is in its cycle.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Accepted, no byte yet.
    Fresh,
    /// Between two requests.
    Idle,
    /// Part of a head is there.
    Head,
    /// A request is being answered.
    Busy,
}

const STAGE: u32 = 0b011;
/// The peer does not take what we write.
const STALLED: u32 = 0b100;
/// The peer has sent its last byte.
const ENDED: u32 = 0b1000;
/// The last request came with a body.
const BODY: u32 = 0b1_0000;
const EPOCH: u32 = 0b10_0000;

/// The marks of one connection.
#[derive(Debug, Default)]
pub(super) struct Watch {
    marks: AtomicU32,
    /// Where the service leaves interim heads for the request it works on.
    interim: Arc<Interim>,
    /// The process's drain: here, so that an answer on its way holds one thing of the connection and not two.
    drain: Arc<Drain>,
}

/// The marks at one moment. Different marks mean that something happened in between.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Marks(u32);

impl Marks {
    pub(super) fn stage(self) -> Stage {
        match self.0 & STAGE {
            0 => Stage::Fresh,
            1 => Stage::Idle,
            2 => Stage::Head,
            _ => Stage::Busy,
        }
    }

    pub(super) fn is_stalled(self) -> bool {
        self.0 & STALLED != 0
    }

    pub(super) fn has_ended(self) -> bool {
        self.0 & ENDED != 0
    }

    /// Whether what comes next may belong to the last request: it had a body, and only hyper knows how much of that has come.
    pub(super) fn may_be_in_a_body(self) -> bool {
        self.0 & BODY != 0
    }
}

impl Watch {
    pub(super) fn new(interim: Arc<Interim>, drain: Arc<Drain>) -> Self {
        Self {
            marks: AtomicU32::default(),
            interim,
            drain,
        }
    }

    /// Whether answers ask the client to go elsewhere.
    pub(super) fn is_draining(&self) -> bool {
        self.drain.is_draining()
    }

    pub(super) fn marks(&self) -> Marks {
        Marks(self.marks.load(Ordering::Relaxed))
    }

    /// A connection that has another after a poll has begun or answered a request in it.
    pub(super) fn turn(&self) -> u64 {
        self.interim.mark()
    }

    fn change(&self, change: impl FnOnce(u32) -> u32) {
        self.marks
            .store(change(self.marks.load(Ordering::Relaxed)), Ordering::Relaxed);
    }

    /// A head is complete and its request is being answered.
    pub(super) fn busy(&self, has_body: bool) {
        let body = if has_body { BODY } else { 0 };
        self.change(|marks| marks & !BODY | STAGE | body);
        self.interim.begin();
    }

    /// The service has answered.
    pub(super) fn answered(&self) {
        self.interim.answered();
    }

    /// The answer's body was handed over to the end, or given up. The epoch tells this idle time from the one before.
    pub(super) fn idle(&self) {
        self.change(|marks| (marks & !STAGE | 1).wrapping_add(EPOCH));
    }

    fn received(&self, bytes: usize) {
        self.change(|marks| match (bytes, Marks(marks).stage()) {
            (0, _) => marks | ENDED,
            (_, Stage::Fresh | Stage::Idle) => marks & !STAGE | 2,
            (_, Stage::Head | Stage::Busy) => marks,
        });
    }

    fn sent(&self) {
        self.change(|marks| (marks & !STALLED).wrapping_add(EPOCH));
    }

    fn stalled(&self) {
        self.change(|marks| marks | STALLED);
    }

    /// What was held back has gone.
    fn flushed(&self) {
        if self.marks().is_stalled() {
            self.sent();
        }
    }
}

impl Work for Watch {
    type Moment = Marks;

    const SAYS_GOODBYE: bool = false;

    fn moment(&self) -> Marks {
        self.marks()
    }

    fn limit(marks: Marks) -> Option<Limit> {
        if marks.is_stalled() {
            return Some(Limit::Stall);
        }
        match marks.stage() {
            Stage::Fresh | Stage::Head => Some(Limit::Head),
            Stage::Idle => Some(Limit::Idle),
            // The service has its own limits.
            Stage::Busy => None,
        }
    }

    fn may_rest(marks: Marks) -> bool {
        !marks.may_be_in_a_body()
    }

    fn goes_on(before: Marks, now: Marks) -> bool {
        // A head may take as long as it may from the accept, or from its own first byte.
        before.stage() == Stage::Fresh && now.stage() == Stage::Head
    }

    /// hyper looks at requests before it flushes: one that it has read behind an answer that was held back waits although that has gone.
    fn may_have_left_one(before: Marks, now: Marks) -> bool {
        before.is_stalled() && !now.is_stalled() && now.stage() == Stage::Busy
    }

    fn is_to_close(marks: Marks, phase: Phase) -> bool {
        match (phase, marks.stage()) {
            (Phase::Serving | Phase::Over, _) | (_, Stage::Head) => false,
            (_, Stage::Busy) => true,
            (phase, Stage::Fresh | Stage::Idle) => phase == Phase::Cutting,
        }
    }

    fn begun(&self) -> u64 {
        self.turn()
    }
}

/// A stream that leaves marks.
#[derive(Debug)]
pub(super) struct Watched<T> {
    inner: T,
    watch: Arc<Watch>,
}

impl<T> Watched<T> {
    pub(super) fn new(inner: T, watch: Arc<Watch>) -> Self {
        Self { inner, watch }
    }

    pub(super) fn into_inner(self) -> T {
        self.inner
    }

    pub(super) fn inner_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    fn mark_write(&self, result: &Poll<io::Result<usize>>) {
        match result {
            Poll::Ready(_) => self.watch.sent(),
            Poll::Pending => self.watch.stalled(),
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let result = Pin::new(&mut this.inner).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = result {
            this.watch.received(buf.filled().len() - before);
        }
        result
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.inner).poll_write(cx, buf);
        this.mark_write(&result);
        result
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.inner).poll_flush(cx);
        // TLS takes what the peer does not take yet, and holds it back.
        match result {
            Poll::Ready(_) => this.watch.flushed(),
            Poll::Pending => this.watch.stalled(),
        }
        result
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.inner).poll_write_vectored(cx, bufs);
        this.mark_write(&result);
        result
    }
}

#[cfg(test)]
mod tests {
    use super::{Stage, Watch};

    #[test]
    fn a_connection_walks_from_fresh_to_head_to_busy_to_idle() {
        let watch = Watch::default();
        assert_eq!(watch.marks().stage(), Stage::Fresh);
        watch.received(10);
        assert_eq!(watch.marks().stage(), Stage::Head);
        let partial = watch.marks();
        watch.received(10);
        assert_eq!(
            watch.marks(),
            partial,
            "more of the same head does not restart its limit"
        );
        watch.busy(false);
        watch.received(10);
        assert_eq!(watch.marks().stage(), Stage::Busy, "a body is not a head");
        watch.idle();
        assert_eq!(watch.marks().stage(), Stage::Idle);
    }

    #[test]
    fn a_request_served_within_one_poll_still_changes_the_marks() {
        let watch = Watch::default();
        watch.idle();
        let before = watch.marks();
        watch.received(10);
        watch.busy(false);
        watch.idle();
        assert_ne!(watch.marks(), before);
        assert_eq!(watch.marks().stage(), before.stage());
    }

    #[test]
    fn a_stalled_write_is_marked_until_bytes_move_again() {
        let watch = Watch::default();
        watch.busy(false);
        watch.stalled();
        assert!(watch.marks().is_stalled());
        let first = watch.marks();
        watch.sent();
        assert!(!watch.marks().is_stalled());
        watch.stalled();
        assert_ne!(watch.marks(), first, "progress in between restarts the limit");
    }

    #[test]
    fn a_flush_without_anything_held_back_leaves_no_mark() {
        let watch = Watch::default();
        let before = watch.marks();
        watch.flushed();
        assert_eq!(watch.marks(), before);
        watch.stalled();
        watch.flushed();
        assert!(!watch.marks().is_stalled());
    }

    #[test]
    fn a_body_is_remembered_until_the_next_request() {
        let watch = Watch::default();
        watch.busy(true);
        watch.idle();
        assert!(watch.marks().may_be_in_a_body());
        assert_eq!(watch.marks().stage(), Stage::Idle);
        watch.busy(false);
        assert!(!watch.marks().may_be_in_a_body());
    }

    #[test]
    fn the_end_of_the_peer_is_remembered() {
        let watch = Watch::default();
        watch.received(0);
        watch.idle();
        assert!(watch.marks().has_ended());
    }
}

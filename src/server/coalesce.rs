//! Gathers what an HTTP/2 connection writes in one turn, so that many answers leave in one system call. The h2 crate flushes behind every DATA
//! frame that is larger than a few hundred bytes; with many streams ready at once that is one write for each.
//!
//! Writes are copied into a buffer and a flush is put off to the connection's next turn, which is asked for at once: the streams that
//! are ready by then have joined. Beyond [`CAP`] nothing is put off, so a peer that does not read is felt as before; large pieces are not copied.
//!
//! Invariant: what was put off has a turn coming, and is out before a shutdown.

use bytes::{Buf, BytesMut};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most that waits.
const CAP: usize = 64 * 1024;

/// The first buffer: the heads and small bodies of a few dozen answers.
const FIRST: usize = 8 * 1024;

/// Counts the turns of a connection's task.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns(Arc<AtomicU64>);

impl Turns {
    /// A turn begins. For the connection's task.
    pub(super) fn begin(&self) {
        self.0
            .store(self.0.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    fn current(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A stream whose writes wait for the end of a turn.
#[derive(Debug)]
pub(super) struct Coalescing<T> {
    inner: T,
    turns: Turns,
    waiting: BytesMut,
    /// The turn in which a flush was put off.
    put_off: Option<u64>,
    /// Something was written since the last flush.
    used: bool,
}

impl<T> Coalescing<T> {
    pub(super) fn new(inner: T, turns: Turns) -> Self {
        Self {
            inner,
            turns,
            waiting: BytesMut::new(),
            put_off: None,
            used: false,
        }
    }

    fn fits(&self, more: usize) -> bool {
        self.waiting.len().saturating_add(more) <= CAP
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.waiting.capacity() == 0 {
            self.waiting.reserve(FIRST);
        }
        self.waiting.extend_from_slice(bytes);
        self.used = true;
    }
}

impl<T: AsyncWrite + Unpin> Coalescing<T> {
    /// Writes what waits.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.waiting.is_empty() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.waiting))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.waiting.advance(written);
        }
        // `advance` moves the front: without this the buffer would be copied or grown again and again.
        self.waiting.clear();
        self.put_off = None;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Coalescing<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Coalescing<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let total = bufs.iter().map(|buf| buf.len()).sum();
        if !this.fits(total) {
            ready!(this.poll_drain(cx))?;
            if !this.fits(total) {
                this.used = true;
                return Pin::new(&mut this.inner).poll_write_vectored(cx, bufs);
            }
        }
        for buf in bufs {
            this.keep(buf);
        }
        Poll::Ready(Ok(total))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.waiting.is_empty() {
            let turn = this.turns.current();
            match this.put_off {
                None => {
                    this.put_off = Some(turn);
                    cx.waker().wake_by_ref();
                    return Poll::Ready(Ok(()));
                }
                // The same turn: its own wake is still to come.
                Some(asked) if asked == turn => return Poll::Ready(Ok(())),
                Some(_) => ready!(this.poll_drain(cx))?,
            }
        } else if !std::mem::take(&mut this.used) {
            // Nothing has been written for a turn: an idle connection keeps no buffer.
            this.waiting = BytesMut::new();
        }
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::{CAP, Coalescing, Turns};
    use std::io;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Poll, Wake, Waker};
    use tokio::io::AsyncWrite;

    /// Takes so many bytes, then none.
    #[derive(Debug, Default)]
    struct Peer {
        room: usize,
        writes: Vec<Vec<u8>>,
        shut: bool,
    }

    impl AsyncWrite for Peer {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            let taken = buf.len().min(self.room);
            if taken == 0 {
                return Poll::Pending;
            }
            self.room -= taken;
            self.writes.push(buf.iter().copied().take(taken).collect());
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.shut = true;
            Poll::Ready(Ok(()))
        }
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    struct Play {
        turns: Turns,
        io: Coalescing<Peer>,
        woken: Arc<Woken>,
    }

    impl Play {
        fn new(room: usize) -> Self {
            let turns = Turns::default();
            let peer = Peer {
                room,
                ..Peer::default()
            };
            Self {
                io: Coalescing::new(peer, turns.clone()),
                turns,
                woken: Arc::default(),
            }
        }

        fn with<T>(&mut self, act: impl FnOnce(Pin<&mut Coalescing<Peer>>, &mut Context<'_>) -> T) -> T {
            let waker = Waker::from(Arc::clone(&self.woken));
            act(Pin::new(&mut self.io), &mut Context::from_waker(&waker))
        }

        fn write(&mut self, bytes: usize) -> Poll<usize> {
            self.with(|io, cx| io.poll_write(cx, &vec![7; bytes]).map(Result::unwrap))
        }

        fn flush(&mut self) -> Poll<()> {
            self.with(|io, cx| io.poll_flush(cx).map(Result::unwrap))
        }

        fn sizes(&self) -> Vec<usize> {
            self.io.inner.writes.iter().map(Vec::len).collect()
        }
    }

    #[test]
    fn what_is_written_and_flushed_in_one_turn_leaves_in_one_write_in_the_next() {
        let mut play = Play::new(usize::MAX);
        play.turns.begin();
        for _ in 0..5 {
            assert_eq!(play.write(1000), Poll::Ready(1000));
            assert_eq!(play.flush(), Poll::Ready(()));
        }
        assert_eq!(play.sizes(), Vec::<usize>::new());
        assert_eq!(
            play.woken.0.load(Ordering::Relaxed),
            1,
            "the next turn was asked for once"
        );
        play.turns.begin();
        assert_eq!(play.write(500), Poll::Ready(500));
        assert_eq!(play.flush(), Poll::Ready(()));
        assert_eq!(play.sizes(), [5500]);
        for _ in 0..2 {
            play.turns.begin();
            assert_eq!(play.flush(), Poll::Ready(()));
        }
        assert_eq!(play.io.waiting.capacity(), 0, "an idle connection keeps no buffer");
    }

    #[test]
    fn a_peer_that_does_not_read_is_felt_at_the_cap() {
        let mut play = Play::new(0);
        play.turns.begin();
        assert_eq!(play.write(CAP), Poll::Ready(CAP));
        assert_eq!(play.write(1), Poll::Pending, "the cap is full");
        assert_eq!(play.flush(), Poll::Ready(()));
        play.turns.begin();
        assert_eq!(play.flush(), Poll::Pending, "a flush that is due waits for the peer");
        play.io.inner.room = usize::MAX;
        assert_eq!(play.flush(), Poll::Ready(()));
        assert_eq!(play.sizes(), [CAP]);
    }

    #[test]
    fn large_pieces_are_not_copied_and_keep_their_order() {
        let mut play = Play::new(usize::MAX);
        play.turns.begin();
        assert_eq!(play.write(10), Poll::Ready(10));
        assert_eq!(play.write(CAP + 1), Poll::Ready(CAP + 1));
        assert_eq!(play.sizes(), [10, CAP + 1]);
    }

    #[test]
    fn a_shutdown_writes_what_waits_first() {
        let mut play = Play::new(usize::MAX);
        play.turns.begin();
        assert_eq!(play.write(10), Poll::Ready(10));
        let done = play.with(|io, cx| io.poll_shutdown(cx).map(Result::unwrap));
        assert_eq!(done, Poll::Ready(()));
        assert_eq!(play.sizes(), [10]);
        assert!(play.io.inner.shut);
    }
}

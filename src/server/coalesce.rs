//! Gathers what an HTTP/2 connection writes in one turn, so that many answers leave in one system call. The h2 crate flushes behind every DATA
//! frame that is larger than a few hundred bytes; with many streams ready at once that is one write for each.
//!
//! Writes are copied into a buffer and a flush is put off to the connection's next turn, which its task sees to ([`Turns::was_put_off`]): what is
//! ready by then has joined. Beyond [`CAP`] nothing is put off, so a peer that does not read is felt as before; large pieces are not copied.
//! Buffers belong to the thread: a connection has one only while something waits in it.
//!
//! Invariant: what was put off is out before a shutdown, and at the latest with the flush of a later turn.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The most that waits.
const CAP: usize = 64 * 1024;

/// Buffers a thread keeps for the connection that writes next. Most connections write within one turn of their task, one after another.
const SPARES: usize = 4;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

fn take_buffer() -> Vec<u8> {
    let spare = SPARE.with_borrow_mut(Vec::pop);
    spare.unwrap_or_else(|| Vec::with_capacity(CAP))
}

fn give_back(mut buffer: Vec<u8>) {
    buffer.clear();
    SPARE.with_borrow_mut(|spares| {
        if spares.len() < SPARES {
            spares.push(buffer);
        }
    });
}

/// Counts the turns of a connection's task, and tells it when one more is needed.
#[derive(Clone, Debug, Default)]
pub(super) struct Turns(Arc<Counted>);

#[derive(Debug, Default)]
struct Counted {
    turn: AtomicU64,
    put_off: AtomicBool,
}

impl Turns {
    /// A turn begins. For the connection's task.
    pub(super) fn begin(&self) {
        let turn = &self.0.turn;
        turn.store(turn.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
    }

    /// Whether a flush was put off in this turn: another must follow. Asked once per turn.
    pub(super) fn was_put_off(&self) -> bool {
        let put_off = self.0.put_off.load(Ordering::Relaxed);
        self.0.put_off.store(false, Ordering::Relaxed);
        put_off
    }

    fn current(&self) -> u64 {
        self.0.turn.load(Ordering::Relaxed)
    }

    fn put_off(&self) {
        self.0.put_off.store(true, Ordering::Relaxed);
    }
}

/// A stream whose writes wait for the end of a turn.
#[derive(Debug)]
pub(super) struct Coalescing<T> {
    inner: T,
    turns: Turns,
    waiting: Vec<u8>,
    /// How much of `waiting` is out.
    written: usize,
    /// The turn in which a flush was put off.
    put_off: Option<u64>,
    /// The turn in which there was nothing more to read. h2 looks again behind every stream it hands out; who comes meanwhile wakes the task.
    dry: Option<u64>,
    /// The peer has said something.
    heard: bool,
}

impl<T> Coalescing<T> {
    pub(super) fn new(inner: T, turns: Turns) -> Self {
        Self {
            inner,
            turns,
            waiting: Vec::new(),
            written: 0,
            put_off: None,
            dry: None,
            heard: false,
        }
    }

    fn fits(&self, more: usize) -> bool {
        self.waiting.len().saturating_add(more) <= CAP
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.waiting.capacity() == 0 {
            self.waiting = take_buffer();
        }
        self.waiting.extend_from_slice(bytes);
    }
}

impl<T: AsyncWrite + Unpin> Coalescing<T> {
    /// Writes what waits.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.waiting.get(self.written..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.inner).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => self.written += n,
            }
        }
        if self.waiting.capacity() != 0 {
            give_back(std::mem::take(&mut self.waiting));
        }
        self.written = 0;
        self.put_off = None;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Coalescing<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.heard {
            // h2 flushes its SETTINGS once and then only reads, until the peer has begun.
            if this.put_off.is_some_and(|turn| turn != this.turns.current())
                && let Poll::Ready(Err(error)) = this.poll_drain(cx)
            {
                return Poll::Ready(Err(error));
            }
            let before = buf.filled().len();
            let result = Pin::new(&mut this.inner).poll_read(cx, buf);
            this.heard = buf.filled().len() > before;
            return result;
        }
        let turn = this.turns.current();
        if this.dry == Some(turn) {
            return Poll::Pending;
        }
        let result = Pin::new(&mut this.inner).poll_read(cx, buf);
        if result.is_pending() {
            this.dry = Some(turn);
        }
        result
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
                    this.turns.put_off();
                    return Poll::Ready(Ok(()));
                }
                // The same turn: the next is still to come.
                Some(asked) if asked == turn => return Poll::Ready(Ok(())),
                Some(_) => ready!(this.poll_drain(cx))?,
            }
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
    use std::task::{Context, Poll, Waker};
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    /// Takes so many bytes, then none.
    #[derive(Debug, Default)]
    struct Peer {
        asked: usize,
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

    impl AsyncRead for Peer {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            self.asked += 1;
            Poll::Pending
        }
    }

    struct Play {
        turns: Turns,
        io: Coalescing<Peer>,
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
            }
        }

        fn with<T>(&mut self, act: impl FnOnce(Pin<&mut Coalescing<Peer>>, &mut Context<'_>) -> T) -> T {
            act(Pin::new(&mut self.io), &mut Context::from_waker(Waker::noop()))
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
        assert!(play.turns.was_put_off(), "another turn is needed");
        assert!(!play.turns.was_put_off(), "and asked for once");
        play.turns.begin();
        assert_eq!(play.write(500), Poll::Ready(500));
        assert_eq!(play.flush(), Poll::Ready(()));
        assert_eq!(play.sizes(), [5500]);
        assert!(!play.turns.was_put_off(), "nothing waits");
        assert_eq!(play.io.waiting.capacity(), 0, "an idle connection keeps no buffer");
    }

    #[test]
    fn what_was_flushed_once_is_out_before_the_peer_s_first_word_is_waited_for() {
        let mut play = Play::new(usize::MAX);
        play.turns.begin();
        assert_eq!(play.write(10), Poll::Ready(10));
        assert_eq!(play.flush(), Poll::Ready(()));
        let read = |play: &mut Play| play.with(|io, cx| io.poll_read(cx, &mut ReadBuf::new(&mut [0; 8])).is_pending());
        assert!(read(&mut play));
        assert_eq!(play.sizes(), Vec::<usize>::new(), "the same turn");
        play.turns.begin();
        assert!(read(&mut play));
        assert_eq!(play.sizes(), [10]);
    }

    #[test]
    fn a_peer_that_has_said_nothing_more_is_asked_once_a_turn() {
        let mut play = Play::new(usize::MAX);
        play.io.heard = true;
        for asked in 1..4 {
            play.turns.begin();
            for _ in 0..3 {
                assert!(play.with(|io, cx| io.poll_read(cx, &mut ReadBuf::new(&mut [0; 8])).is_pending()));
                assert_eq!(play.io.inner.asked, asked);
            }
        }
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

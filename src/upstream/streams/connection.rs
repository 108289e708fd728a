//! One HTTP/2 connection to a node: a task of its own drives it, on the core that opened it, since its streams belong to many requests.
//!
//! It is open once the node's settings have come, so that a node that does not speak HTTP/2 is found out before anything of a request is
//! sent, and it is known how many streams it lends. It ends by itself: when it is closing and its last stream is over, when the node does
//! not answer a PING, or at once when the node is taken out of service.
//!
//! Every limit against what a node may send is set here by name: the h2 crate ends the connection at each.

use super::super::link::waiting_clock;
use super::frames::{Frames, Said};
use super::pulse::{Beat, Pulse};
use crate::config::runtime::Http2;
use crate::world::Stream;
use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};
use parking_lot::Mutex;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// The longest list of fields an answer may have (RFC 9113 s6.5.2); the number of CONTINUATION frames follows from it.
const MAX_HEADER_LIST: u32 = 64 * 1024;
/// Streams that we have reset and whose late frames are still expected.
const MAX_RESET_STREAMS: usize = 256;
/// Resets that a node's mistakes make us send: beyond, the connection is closed.
const MAX_OWN_RESETS: usize = 256;
/// What of one request's body waits in memory for the socket.
const SEND_BUFFER: usize = 256 * 1024;

/// What a connection shares with its streams and the pool.
pub(in crate::upstream) struct State {
    /// Lends streams; none: no new ones, and the connection ends with its last.
    send: Mutex<Option<SendRequest<Bytes>>>,
    /// Streams in use.
    in_use: AtomicUsize,
    /// How many there may be: of ours, and of the node's, the lower number.
    limit: AtomicUsize,
    /// How many streams it has lent.
    lent: AtomicU64,
    /// The node was taken out of service.
    killed: AtomicBool,
    /// The task is over, and the socket closed.
    over: AtomicBool,
    /// A request has waited in vain while nothing at all came.
    doubtful: AtomicBool,
    /// Since when a write has been given up that the node has not been asked about.
    abandoned: Mutex<Option<Instant>>,
    /// One of them may be queued.
    has_queued: AtomicBool,
    has_abandoned: AtomicBool,
    /// Bytes the socket accepted.
    pub(super) written: AtomicU64,
    /// Bytes the socket brought.
    pub(super) read: AtomicU64,
    /// The last thing that was asked of the socket was to flush, and it has: after a turn, nothing waits to be written.
    is_clean: AtomicBool,
    /// How often everything had been written.
    pub(super) flushes: Arc<AtomicU64>,
    /// Who waits for that.
    flushed: Mutex<Vec<Waker>>,
    pub(super) said: Said,
    task: Mutex<Option<Waker>>,
}

impl State {
    /// Takes a stream, if there is one.
    pub(super) fn take(&self) -> bool {
        let is_free = self.free() > 0;
        if is_free {
            self.in_use.fetch_add(1, Ordering::AcqRel);
        }
        is_free
    }

    /// A stream is over.
    pub(super) fn give_back(&self) {
        self.in_use.fetch_sub(1, Ordering::AcqRel);
        if !self.lends() {
            self.wake(); // it may have been the last
        }
    }

    /// Streams that can be lent.
    pub(super) fn free(&self) -> usize {
        if !self.lends() {
            return 0;
        }
        let limit = self.limit.load(Ordering::Acquire);
        limit.saturating_sub(self.in_use.load(Ordering::Acquire))
    }

    /// Whether the node lends no stream at all for now.
    pub(super) fn lends_none(&self) -> bool {
        self.lends() && self.limit.load(Ordering::Acquire) == 0
    }

    pub(super) fn in_use(&self) -> usize {
        self.in_use.load(Ordering::Acquire)
    }

    /// Counts a stream lent; how many were before.
    pub(super) fn count(&self) -> u64 {
        self.lent.fetch_add(1, Ordering::AcqRel)
    }

    /// What sends requests; none when the connection takes no more.
    pub(super) fn sender(&self) -> Option<SendRequest<Bytes>> {
        self.send.lock().clone()
    }

    /// Whether new streams may be asked of it.
    pub(super) fn lends(&self) -> bool {
        !self.is_over() && !self.is_killed() && !self.said.leaves() && self.send.lock().is_some()
    }

    /// Lends no more streams; those there are go on to their ends.
    pub(in crate::upstream) fn close(&self) {
        let sender = self.send.lock().take();
        drop(sender);
        self.wake();
    }

    /// Ends everything at once, from any thread.
    pub(in crate::upstream) fn kill(&self) {
        self.killed.store(true, Ordering::Release);
        self.close();
    }

    pub(super) fn is_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    /// A request has waited in vain, and nothing at all has come meanwhile: the node is asked whether it is there.
    pub(super) fn doubt(&self) {
        self.doubtful.store(true, Ordering::Release);
        self.wake();
    }

    /// R19: a write was given up. Within [`Http2::ANSWER`] the node has shown that it has received all that it ever will of it, or the
    /// connection is closed. `is_queued`: something of it may still have to be written.
    pub(super) fn abandon(&self, is_queued: bool) {
        if is_queued {
            self.has_queued.store(true, Ordering::Release);
            // The node has lowered its limit: the head may be kept back for who knows how long.
            if self.in_use() > self.limit.load(Ordering::Acquire) {
                self.kill();
            }
        }
        self.abandoned.lock().get_or_insert_with(waiting_clock);
        self.has_abandoned.store(true, Ordering::Release);
        self.wake();
    }

    /// Wakes when everything has been written, or cannot be any more.
    pub(super) fn wait_for_flush(&self, waker: &Waker) {
        self.flushed.lock().push(waker.clone());
    }

    fn wake(&self) {
        let task = self.task.lock().clone();
        if let Some(task) = task {
            task.wake();
        }
    }

    fn has_flushed(&self) {
        self.flushes.fetch_add(1, Ordering::AcqRel);
        self.wake_waiters();
    }

    fn wake_waiters(&self) {
        let waiters = std::mem::take(&mut *self.flushed.lock());
        for waiter in waiters {
            waiter.wake();
        }
    }
}

/// Opens a connection over a stream to a node. Dropped before it is open, it leaves nothing behind.
pub(super) async fn open(stream: Stream, limits: Http2) -> io::Result<Arc<State>> {
    let streams = usize::try_from(limits.max_streams).unwrap_or(usize::MAX);
    // As much for each stream, or one slow reader starves all others (hyperium/hyper#2899).
    let window = limits.window.saturating_mul(limits.max_streams).min(u32::MAX >> 1);
    let state = Arc::new(State {
        send: Mutex::default(),
        in_use: AtomicUsize::new(0),
        limit: AtomicUsize::new(streams),
        lent: AtomicU64::new(0),
        killed: AtomicBool::new(false),
        over: AtomicBool::new(false),
        doubtful: AtomicBool::new(false),
        abandoned: Mutex::default(),
        has_queued: AtomicBool::new(false),
        has_abandoned: AtomicBool::new(false),
        written: AtomicU64::new(0),
        read: AtomicU64::new(0),
        is_clean: AtomicBool::new(false),
        flushes: Arc::default(),
        flushed: Mutex::default(),
        said: Said::default(),
        task: Mutex::default(),
    });
    let io = Watched {
        stream,
        state: Arc::clone(&state),
        frames: Frames::default(),
    };
    let handshake = Builder::new()
        .enable_push(false)
        .initial_window_size(limits.window)
        .initial_connection_window_size(window)
        .initial_max_send_streams(streams)
        .max_header_list_size(MAX_HEADER_LIST)
        .max_concurrent_reset_streams(MAX_RESET_STREAMS)
        .max_local_error_reset_streams(Some(MAX_OWN_RESETS))
        .max_send_buffer_size(SEND_BUFFER)
        .handshake::<_, Bytes>(io);
    let (sender, connection) = handshake.await.map_err(io::Error::other)?;
    *state.send.lock() = Some(sender);
    let mut driven = Driven {
        connection,
        pulse: Pulse::new(),
        state: Arc::clone(&state),
        most: streams,
    };
    // RFC 9113 s3.4: settings are what a node says first.
    poll_fn(|cx| {
        let ended = driven.poll(cx);
        if let Some(why) = driven.state.said.strange() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why)));
        }
        match ended {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the node closed the connection before it said anything of HTTP/2 (if it speaks HTTP/1.1: http = \"1.1\")",
            ))),
            Poll::Pending if driven.state.said.is_settled() => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        }
    })
    .await?;
    tokio::spawn(poll_fn(move |cx| driven.poll(cx)));
    Ok(state)
}

/// The connection at work. Dropped, it closes its socket.
struct Driven {
    connection: Connection<Watched, Bytes>,
    pulse: Pulse,
    state: Arc<State>,
    /// The most streams we want.
    most: usize,
}

impl Driven {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        {
            let mut task = self.state.task.lock();
            if task.as_ref().is_none_or(|task| !task.will_wake(cx.waker())) {
                *task = Some(cx.waker().clone());
            }
        }
        if self.state.is_killed() {
            return Poll::Ready(());
        }
        if self.state.has_abandoned.swap(false, Ordering::AcqRel)
            && let Some(at) = self.state.abandoned.lock().take()
        {
            self.pulse.owe(at, self.state.has_queued.swap(false, Ordering::AcqRel));
        }
        // First of all: after a pause of this process not one byte more may leave.
        if self.pulse.is_overdue() {
            return Poll::Ready(());
        }
        // Why it ended is told to each of its streams.
        if Pin::new(&mut self.connection).poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let state = &self.state;
        let written = state.is_clean.load(Ordering::Acquire);
        if written {
            state.has_flushed();
        }
        let limit = self.connection.max_concurrent_send_streams().min(self.most);
        state.limit.store(limit, Ordering::Release);
        if state.said.leaves() {
            drop(state.send.lock().take());
        }
        let idle = state.in_use() == 0;
        let closing = state.send.lock().is_none();
        let doubtful = state.doubtful.swap(false, Ordering::AcqRel);
        let beat = Beat {
            read: state.read.load(Ordering::Acquire),
            worked: state.said.has_worked(),
            idle,
            closing,
            doubtful,
            written,
        };
        self.pulse.poll(cx, &mut self.connection, beat).map(|()| {
            state.close();
        })
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::Release);
        drop(self.state.send.lock().take());
        self.state.wake_waiters();
    }
}

/// The socket, looked at.
struct Watched {
    stream: Stream,
    state: Arc<State>,
    frames: Frames,
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        if let Some(fresh) = buf.filled().get(before..)
            && !fresh.is_empty()
        {
            this.state.read.fetch_add(fresh.len() as u64, Ordering::AcqRel);
            this.frames.read(fresh, &this.state.said);
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.state.is_clean.store(false, Ordering::Release);
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.count(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.state.is_clean.store(false, Ordering::Release);
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.count(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.state
            .is_clean
            .store(matches!(flushed, Poll::Ready(Ok(()))), Ordering::Release);
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Watched {
    fn count(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(n)) = written {
            self.state.written.fetch_add(*n as u64, Ordering::AcqRel);
        }
    }
}

//! What lies between hyper and the outside of a link: the waker that tells only whom it concerns, the socket that counts its bytes, the
//! request body that says when it has been taken.
//!
//! Invariant: a byte the socket accepted is counted before anybody can ask (R20).

use super::body::OutBody;
use super::error::BoxError;
use crate::world::Stream;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a link shares with its socket, its wakers and the pool that may take its node out of service.
#[derive(Default)]
pub(super) struct Signal {
    /// Bytes the socket accepted, over the link's life.
    pub(super) written: AtomicU64,
    /// Bytes the socket brought.
    pub(super) read: AtomicU64,
    /// How far the request body is: [`UPLOADING`], [`ENDED`], [`FLUSHED`].
    pub(super) upload: AtomicU8,
    /// The node was taken out of service.
    killed: AtomicBool,
    /// Something woke the link since it was last polled.
    pub(super) stirred: AtomicBool,
    /// The socket has something to say that nobody has read yet.
    pub(super) news: AtomicBool,
    /// The socket was asked last, and had nothing to say: it will tell.
    pub(super) listening: AtomicBool,
    /// The link is being polled: wakes need not reach the task.
    pub(super) driving: AtomicBool,
    /// Who polls the link.
    pub(super) task: Mutex<Option<Waker>>,
}

/// Part of the request body has not been handed to hyper.
pub(super) const UPLOADING: u8 = 0;
/// hyper has the whole request.
pub(super) const ENDED: u8 = 1;
/// The socket has the whole request.
pub(super) const FLUSHED: u8 = 2;

impl Signal {
    /// Ends whatever the link is doing, from any thread, as soon as it is woken.
    pub(super) fn kill(&self) {
        self.killed.store(true, Ordering::SeqCst);
    }

    /// Whether [`Signal::kill`] was called.
    pub(super) fn is_killed(&self) -> bool {
        self.killed.load(Ordering::SeqCst)
    }

    /// The link is polled from now on. Whoever does not see that yet wakes the task, once too often. Written only where it changes: a write
    /// that others must see at once costs as much as twenty that they need not.
    pub(super) fn begins(&self) {
        self.driving.store(true, Ordering::Relaxed);
        if self.stirred.load(Ordering::Relaxed) {
            self.stirred.swap(false, Ordering::AcqRel);
        }
    }

    /// It has been polled; whether something woke it meanwhile.
    pub(super) fn ends(&self) -> bool {
        // In this order: whoever stirs it later sees that nobody drives it, and wakes the task.
        self.driving.store(false, Ordering::SeqCst);
        self.stirred.load(Ordering::SeqCst)
    }

    /// Wakes go to this task from now on.
    pub(super) fn attach(&self, waker: &Waker) {
        let mut task = self.task.lock();
        match &*task {
            Some(known) if known.will_wake(waker) => {}
            Some(_) | None => *task = Some(waker.clone()),
        }
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // The driver clears `driving` before it reads `stirred`: one of the two sides sees the other.
        self.stirred.store(true, Ordering::SeqCst);
        if !self.driving.load(Ordering::SeqCst) {
            let task = self.task.lock().clone();
            if let Some(task) = task {
                task.wake();
            }
        }
    }
}

/// Who is woken by what comes on the socket: the link, and it is known that it was the socket.
struct Ear(Arc<Signal>);

impl Wake for Ear {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.news.store(true, Ordering::SeqCst);
        self.0.wake_by_ref();
    }
}

/// The socket, counting what it accepts.
pub(super) struct Counted {
    stream: Stream,
    signal: Arc<Signal>,
    ear: Waker,
}

impl Counted {
    pub(super) fn new(stream: Stream, signal: &Arc<Signal>) -> Self {
        Self {
            stream,
            signal: Arc::clone(signal),
            ear: Waker::from(Arc::new(Ear(Arc::clone(signal)))),
        }
    }

    fn count(&self, written: &Poll<io::Result<usize>>) {
        if let Poll::Ready(Ok(n)) = written {
            add(&self.signal.written, *n);
        }
    }
}

/// Only the socket writes it: others read.
fn add(count: &AtomicU64, bytes: usize) {
    if bytes > 0 {
        count.store(count.load(Ordering::Relaxed) + bytes as u64, Ordering::Relaxed);
    }
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, _cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, signal, ear } = &mut *self;
        let before = buf.filled().len();
        if signal.news.load(Ordering::Relaxed) {
            signal.news.swap(false, Ordering::AcqRel); // what comes from here on is news again
        }
        let polled = Pin::new(stream).poll_read(&mut Context::from_waker(ear), buf);
        signal.listening.store(polled.is_pending(), Ordering::Release);
        add(&signal.read, buf.filled().len().saturating_sub(before));
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.count(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.count(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        // hyper flushes the socket only when its own buffer is empty.
        if matches!(flushed, Poll::Ready(Ok(()))) && self.signal.upload.load(Ordering::Relaxed) == ENDED {
            self.signal.upload.store(FLUSHED, Ordering::Relaxed);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The request body as hyper reads it: tells the signal when all of it has been taken.
pub(super) struct Outgoing {
    pub(super) body: OutBody,
    /// None for an empty body, which is never polled.
    pub(super) signal: Option<Arc<Signal>>,
}

impl Outgoing {
    fn ended(&mut self) {
        if let Some(signal) = self.signal.take() {
            signal.upload.store(ENDED, Ordering::Relaxed);
        }
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(None) => self.ended(),
            // Nothing follows trailers (RFC 9112 s7.1.2), and hyper polls no body again after them.
            Poll::Ready(Some(Ok(frame))) if frame.is_trailers() || self.body.is_end_stream() => self.ended(),
            Poll::Ready(Some(Ok(_)) | Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

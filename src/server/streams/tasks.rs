//! Runs the streams of one HTTP/2 connection: in its turn where the answer is ready, else as a task of the same thread.
//!
//! Invariant: a task whose stream waits for the peer has a timer, and a peer that has taken nothing between two of its ends loses the stream.

use super::{GAVE_PART, SILENT, Streams, Taking, WAITS, add};
use hyper::rt::Executor;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::time::Sleep;

/// Runs the streams of one connection on its thread.
#[derive(Clone, Debug)]
pub(in crate::server) struct Spawning {
    streams: Arc<Streams>,
    /// How long a peer may take nothing of an answer.
    stall: Duration,
}

impl Spawning {
    pub(in crate::server) fn new(streams: Arc<Streams>, stall: Duration) -> Self {
        Self { streams, stall }
    }
}

impl<F> Executor<F> for Spawning
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let mut stream = Box::pin(stream);
        self.streams.body(SILENT);
        // Most are hits: they are over here, without a task. Whatever they register with this waker the task registers again.
        if stream.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            return;
        }
        add(&self.streams.tasks, 1);
        let mut task = Task {
            stream,
            streams: Arc::clone(&self.streams),
            stall: self.stall,
            on_peer: None,
            timer: None,
        };
        task.look();
        tokio::spawn(task);
    }
}

/// A stream that could not be answered at once.
struct Task<F> {
    stream: Pin<Box<F>>,
    streams: Arc<Streams>,
    stall: Duration,
    on_peer: Option<OnPeer>,
    /// Runs while the stream waits for the peer.
    timer: Option<Pin<Box<Sleep>>>,
}

/// The peer must take something before the stream goes on.
struct OnPeer {
    taking: Weak<Taking>,
    /// How much it had taken when this was last looked at; none: it had room for more since.
    taken: Option<u64>,
}

impl<F> Task<F> {
    /// Sees what the body did in the poll that is over.
    fn look(&mut self) {
        let taking = match self.streams.body.load(Ordering::Relaxed) {
            SILENT => return,
            WAITS => {
                (self.on_peer, self.timer) = (None, None);
                return;
            }
            GAVE_PART => std::mem::take(&mut *self.streams.taking.lock()),
            _ => Weak::new(),
        };
        self.on_peer = Some(OnPeer { taking, taken: None });
    }
}

impl<F: Future<Output = ()>> Future for Task<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.streams.body(SILENT);
        if this.stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        this.look();
        let Some(on_peer) = &mut this.on_peer else {
            return Poll::Pending;
        };
        let timer = this
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(this.stall)));
        while timer.as_mut().poll(cx).is_ready() {
            let taken = on_peer
                .taking
                .upgrade()
                .map(|taking| taking.bytes.load(Ordering::Relaxed));
            let taken = taken.unwrap_or_default();
            if on_peer.taken.replace(taken) == Some(taken) {
                // Dropping it resets the stream (CANCEL) and frees what it holds.
                tracing::debug!(after = ?this.stall, "a client takes nothing of an answer: stream reset");
                return Poll::Ready(());
            }
            timer.set(tokio::time::sleep(this.stall));
        }
        Poll::Pending
    }
}

impl<F> Drop for Task<F> {
    fn drop(&mut self) {
        add(&self.streams.tasks, u64::MAX);
    }
}

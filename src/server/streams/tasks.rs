//! The streams of one HTTP/2 connection that could not be answered in its turn, each a task of the same thread.
//!
//! Invariant: a task whose stream waits for the peer has a timer, and a peer that has taken nothing between two of its ends loses the stream.

use super::{GAVE_PART, SILENT, Streams, Taking, WAITS, add};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Sleep;

/// Goes on with a stream that was polled once and could not be answered at once. Whatever it registered then the task registers again.
pub(super) fn spawn<F>(stream: F, streams: &Arc<Streams>, stall: Duration)
where
    F: Future<Output = ()> + Send + Unpin + 'static,
{
    add(&streams.tasks, 1);
    let mut task = Task {
        stream,
        streams: Arc::clone(streams),
        stall,
        on_peer: None,
        timer: None,
    };
    task.look();
    tokio::spawn(task);
}

/// A stream that could not be answered at once.
struct Task<F> {
    stream: F,
    streams: Arc<Streams>,
    /// How long a peer may take nothing of an answer.
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

impl<F: Future<Output = ()> + Unpin> Future for Task<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.streams.body(SILENT);
        if Pin::new(&mut this.stream).poll(cx).is_ready() {
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

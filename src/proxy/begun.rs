//! The unsafe requests begun under one configuration, counted, so that a reload can wait until they are over before a route that it made
//! exclusive proves anything (R31).
//!
//! Invariant: whoever was told that all are over is right for ever: one that would come later is sent to the running configuration. Both
//! sides write before they read, in one order that all threads agree on (SeqCst).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tokio::sync::Notify;

/// Those of one configuration.
#[derive(Debug, Default)]
pub(super) struct Begun {
    open: AtomicUsize,
    superseded: AtomicBool,
    over: Notify,
}

/// One of them, until it is dropped: its answer is definite, or its connection has closed.
#[derive(Debug)]
pub(super) struct Ticket(Arc<Begun>);

impl Begun {
    /// One more; none when a reload has come: ask the running configuration.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Arc<Ticket>> {
        self.open.fetch_add(1, Ordering::SeqCst);
        let ticket = Ticket(Arc::clone(self));
        (!self.superseded.load(Ordering::SeqCst)).then(|| Arc::new(ticket))
    }

    /// Nobody enters any more. The running configuration is another one already.
    pub(super) fn supersede(&self) {
        self.superseded.store(true, Ordering::SeqCst);
    }

    /// All are over. Only after [`Begun::supersede`] does that last.
    pub(super) async fn over(&self) {
        loop {
            let mut over = std::pin::pin!(self.over.notified());
            over.as_mut().enable(); // from here on no end is missed
            if !self.is_open() {
                return;
            }
            over.await;
        }
    }

    /// Whether one is not over.
    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::SeqCst) > 0
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.over.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn r31_a_reload_waits_for_those_before_it_and_lets_no_other_in() {
        let begun = Arc::new(Begun::default());
        let first = begun.enter();
        assert!(first.is_some());
        begun.supersede();
        assert!(
            begun.enter().is_none(),
            "one that comes later asks the running configuration"
        );
        let waiting = begun.over();
        tokio::pin!(waiting);
        let now = std::future::poll_fn(|cx| std::task::Poll::Ready(waiting.as_mut().poll(cx).is_ready())).await;
        assert!(!now, "the first one is not over");
        drop(first);
        waiting.await;
    }
}

//! A slot that comes at once or has to be waited for, and what is told whoever gets none.

use super::{Core, Handed};
use crate::upstream::error::CallErrorKind;
use crate::upstream::lease::Lease;
use crate::world::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Why there is no lease.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(in crate::upstream) enum Refused {
    /// No node in service, but those tried.
    NoNode,
    /// The queue is full.
    QueueFull,
    /// None came free in time.
    TimedOut,
}

impl Refused {
    /// What the call failed with for it.
    pub(in crate::upstream) const fn kind(self) -> CallErrorKind {
        match self {
            Self::NoNode => CallErrorKind::NoNode,
            Self::QueueFull => CallErrorKind::QueueFull,
            Self::TimedOut => CallErrorKind::DeadlineExceeded,
        }
    }
}

/// A slot, at once or in time. Not a future: whoever gets one at once waits for nothing, and holds no room for what waits.
pub(in crate::upstream) enum Acquired<'a> {
    Now(Result<Lease, Refused>),
    Later(BoxFuture<'a, Result<Lease, Refused>>),
}

impl Acquired<'_> {
    pub(in crate::upstream) async fn wait(self) -> Result<Lease, Refused> {
        match self {
            Self::Now(leased) => leased,
            Self::Later(handed) => handed.await,
        }
    }
}

/// A place in the queue. Dropped: it is left, and what was handed over meanwhile goes back.
pub(super) struct Waiting<'a> {
    pub(super) core: &'a Arc<Core>,
    pub(super) upstream: usize,
    pub(super) ticket: u64,
    pub(super) hand: oneshot::Receiver<Handed>,
}

impl Waiting<'_> {
    /// What is handed over within `left`.
    pub(super) async fn handed(mut self, left: Duration) -> Result<Lease, Refused> {
        match tokio::time::timeout(left, &mut self.hand).await {
            Ok(Ok(Handed::Lease(lease))) => Ok(lease),
            Ok(Ok(Handed::NoNode) | Err(_)) => Err(Refused::NoNode),
            Err(_elapsed) => Err(Refused::TimedOut),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(slots) = self.core.upstreams.get(self.upstream) {
            let mut slots = slots.lock();
            if let Ok(at) = slots.queue.binary_search_by_key(&self.ticket, |waiter| waiter.ticket) {
                let waiter = slots.queue.remove(at);
                drop(slots);
                drop(waiter);
            }
        }
        self.hand.close();
        if let Ok(Handed::Lease(mut lease)) = self.hand.try_recv() {
            lease.give_back();
        }
    }
}

//! Somebody else who promotes (R54): a node has refused a write in the name of a later epoch than ours. One task per upstream where Tidegate
//! owns promotion tells the owner of the views, which takes the office from our primary until the operator speaks.
//!
//! The write itself was not applied, and says so, whether the owner has heard of it or not.

use super::Upstreams;
use crate::core::failover::event::Event;
use crate::core::failover::view::Epoch;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

/// The latest epoch in which a write was refused.
#[derive(Default)]
pub(super) struct Rival {
    epoch: AtomicU64,
    news: Notify,
}

impl Rival {
    /// A write was refused in this epoch.
    pub(super) fn refused(&self, epoch: Epoch) {
        self.epoch.fetch_max(epoch.0, Ordering::AcqRel);
        self.news.notify_one();
    }
}

impl Upstreams {
    /// Tells of refusals, for good. One that cannot be told is told with the next.
    pub(super) async fn tell_of_rivals(&self, upstream: usize) {
        let Some(one) = self.shared.upstreams.get(upstream) else {
            return;
        };
        loop {
            one.rival.news.notified().await;
            let epoch = Epoch(one.rival.epoch.load(Ordering::Acquire));
            self.tell(upstream, Event::Superseded { epoch }).await;
        }
    }
}

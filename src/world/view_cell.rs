//! Where an upstream's view is read by everybody and swapped by its one owner (R29). It decides nothing.
//!
//! Invariant: whoever has seen a view has seen its epoch as current ever after: the epoch is written first. So nothing that is stored
//! is proven by an epoch that any request has already left behind (R53).

use crate::core::failover::view::{Epoch, View};
use arc_swap::{ArcSwap, Guard};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One upstream's view.
#[derive(Debug)]
pub struct ViewCell {
    /// The view's, for hits: one load of a line that hardly ever changes.
    epoch: AtomicU64,
    view: ArcSwap<View>,
}

impl ViewCell {
    /// A cell with a first view.
    #[must_use]
    pub fn new(view: View) -> Arc<Self> {
        Arc::new(Self {
            epoch: AtomicU64::new(view.epoch.0),
            view: ArcSwap::from_pointee(view),
        })
    }

    /// The view now.
    pub fn load(&self) -> Guard<Arc<View>> {
        self.view.load()
    }

    /// The epoch now.
    #[must_use]
    #[inline]
    pub fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }

    /// Swaps in a new view. Its owner's alone to call.
    pub fn store(&self, view: View) {
        self.epoch.store(view.epoch.0, Ordering::SeqCst);
        self.view.store(Arc::new(view));
    }
}

//! What is not known of one resource since writes to it ended unknown, and until when: the open intents by the target each was sent to
//! (R34, R35).
//!
//! Settling alone ends nothing: only a comparison that *began* after it and has succeeded does, since what was applied late at one node
//! stays different until somebody looks.

use super::target::Target;
use crate::core::time::MonoTime;
use std::collections::BTreeMap;

/// The doubt about one resource. `I` names an intent.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Doubt<I> {
    /// By target: each open intent, and when its write can no longer be applied.
    open: BTreeMap<Target, BTreeMap<I, MonoTime>>,
    /// How often it was raised.
    raised: u64,
    /// Until then a copy of a comparison may be applied that nobody has confirmed, at a node that is still in the set.
    unsettled_until: MonoTime,
}

/// A comparison that has begun.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Begun {
    settled: bool,
    raised: u64,
}

impl<I> Default for Doubt<I> {
    fn default() -> Self {
        Self {
            open: BTreeMap::new(),
            raised: 0,
            unsettled_until: MonoTime::default(),
        }
    }
}

impl<I: Copy + Ord> Doubt<I> {
    /// A write to `target` ended unknown, may be applied until `settled_at`, and its intent stays open.
    pub fn raise(&mut self, target: &Target, intent: I, settled_at: MonoTime) {
        self.raised += 1;
        self.open.entry(target.clone()).or_default().insert(intent, settled_at);
    }

    /// A comparison's copy was not confirmed, may be applied until `settled_at`, and its node has not left the set: no comparison before
    /// that ends the doubt. Without one open there is nothing to end.
    pub fn unsettle(&mut self, settled_at: MonoTime) {
        if self.is_open() {
            self.raised += 1;
            self.unsettled_until = self.unsettled_until.max(settled_at);
        }
    }

    /// It is known by now when such a write can no longer be applied: its connection has closed.
    pub fn settles(&mut self, intent: I, settled_at: MonoTime) {
        for intents in self.open.values_mut() {
            if let Some(until) = intents.get_mut(&intent) {
                *until = settled_at;
            }
        }
    }

    /// Whether a read has to compare.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// How many intents are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.open.values().map(BTreeMap::len).sum()
    }

    /// When the last of these writes can no longer be applied.
    #[must_use]
    pub fn settled_at(&self) -> MonoTime {
        let times = self.open.values().flat_map(BTreeMap::values);
        times.copied().max().unwrap_or_default().max(self.unsettled_until)
    }

    /// The targets that a comparison has to look at.
    pub fn targets(&self) -> impl Iterator<Item = &Target> {
        self.open.keys()
    }

    /// A comparison begins.
    #[must_use]
    pub fn begin(&self, now: MonoTime) -> Begun {
        Begun {
            settled: now >= self.settled_at(),
            raised: self.raised,
        }
    }

    /// It has succeeded at every target. Returns the intents that are over with it, with their targets: all of them when it began after
    /// settling and nothing was raised meanwhile, else none.
    pub fn succeeded(&mut self, begun: Begun) -> Vec<(I, Target)> {
        if !begun.settled || begun.raised != self.raised {
            return Vec::new();
        }
        let open = std::mem::take(&mut self.open);
        open.into_iter()
            .flat_map(|(target, intents)| intents.into_keys().map(move |intent| (intent, target.clone())))
            .collect()
    }
}

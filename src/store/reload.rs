//! What a reload means here (R31): gates, entries and unsettled times stay, the settling times and gears are the new ones, and what a
//! newly exclusive route may prove waits for the writes from before.

use super::{Entry, Store, WriteEnd};
use crate::config::runtime::Config;
use crate::core::rules::Rule;
use crate::core::time::{MonoTime, Span};
use std::sync::atomic::Ordering;

impl Store {
    /// Takes over a configuration, before any request is planned by it. `held` are the upstreams with a newly exclusive route: nothing
    /// of theirs is proven until [`Store::resume`].
    pub fn take_over(&self, config: &Config, held: &[usize]) {
        if Rule::R31.holds() {
            self.gears.hold(held);
        }
        self.gears.take_over(config);
        let settle_after = config.upstreams.iter().map(|u| u.settle_after.map(Span::from));
        self.unsettled.take_over(settle_after.collect());
        if let Some(unknown) = self.last_unknown() {
            let grown = config.upstreams.iter().map(|upstream| upstream.id);
            self.gears.distrust(grown.filter(|id| !held.contains(id)), unknown);
        }
    }

    /// Every unsafe request from before the reload is over. If one ended unknown, its settling time is waited for too.
    pub fn resume(&self, held: &[usize]) {
        if Rule::R31.holds() {
            self.gears.resume(held, self.last_unknown());
        }
    }

    /// Frees the memory of entries that nobody can ask for any more. No fill is disturbed: what a write killed is not the matter here.
    pub fn forget(&self, is_dead: impl Fn(&Entry) -> bool) {
        for entry in self.index.where_entries(|entry| is_dead(entry)) {
            self.index
                .evict(entry.resource().digest, entry.variant(), entry.short_place());
            self.budget.remove(&entry);
        }
    }

    /// When the last write ended of which nobody knows whether it was applied, or its connection closed.
    fn last_unknown(&self) -> Option<MonoTime> {
        match self.last_unknown.load(Ordering::Acquire) {
            0 => None,
            at => Some(MonoTime::from_micros(at)),
        }
    }

    /// A write ends so.
    pub(super) fn note_end(&self, now: MonoTime, end: WriteEnd) {
        match end {
            WriteEnd::Applied | WriteEnd::Rejected | WriteEnd::NotSent => {}
            WriteEnd::UnknownClosed(at) => self.note_unknown(at),
            WriteEnd::UnknownOpen | WriteEnd::Failed => self.note_unknown(now),
        }
    }

    pub(super) fn note_unknown(&self, at: MonoTime) {
        self.last_unknown.fetch_max(at.as_micros().max(1), Ordering::AcqRel);
    }
}

//! When the tags of an upstream were killed: what stands in for a fill's own tags, which nobody knows before its head is in (R12a).
//! A token remembers how many kills there had been when it was registered. Joining its flight takes that none has come since; storing
//! what it brings, that none of its tags was among them.
//!
//! Kills are noted before the tag's record is locked and looked up while it is: whoever lists an entry after a kill has gone through the
//! record sees the kill, and whoever lists it before is found there.

use super::super::sync::{AtomicU64, Mutex};
use crate::core::consistency::write::Ended;
use crate::core::time::MonoTime;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;

/// How many upstreams are told apart; those beyond share a count with others, which costs them a miss now and then.
const UPSTREAMS: usize = 64;

/// How many kills of an upstream are remembered one by one (24 bytes each). A fill that has seen more come is refused if it has any tag.
pub(in crate::store) const MAX_RECENT: usize = 1024;

#[derive(Debug)]
pub(in crate::store) struct Kills(Box<[Upstream]>);

#[derive(Debug, Default)]
struct Upstream {
    count: AtomicU64,
    /// Writes to tags that are pending, or ended unknown with their connection open.
    pending: AtomicU64,
    /// Until when a tag is unsettled, in microseconds.
    unsettled_until: AtomicU64,
    recent: Mutex<Recent>,
}

#[derive(Debug, Default)]
struct Recent {
    /// By number, which is the count after it.
    kills: VecDeque<(u64, u128)>,
    /// The last one that is not remembered any more.
    forgotten: u64,
}

impl Default for Kills {
    fn default() -> Self {
        Self((0..UPSTREAMS).map(|_| Upstream::default()).collect())
    }
}

impl Kills {
    /// What a token is to remember. Read before it asks anybody.
    pub(in crate::store) fn mark(&self, upstream: usize) -> u64 {
        self.of(upstream).map_or(0, |u| u.count.load(Ordering::Acquire))
    }

    /// A tag is about to be killed.
    pub(in crate::store) fn note(&self, upstream: usize, tag: u128) {
        let Some(upstream) = self.of(upstream) else { return };
        let mut recent = upstream.recent.lock();
        let number = upstream.count.load(Ordering::Relaxed) + 1;
        recent.kills.push_back((number, tag));
        if recent.kills.len() > MAX_RECENT
            && let Some((oldest, _)) = recent.kills.pop_front()
        {
            recent.forgotten = oldest;
        }
        upstream.count.store(number, Ordering::Release);
    }

    /// Whether the tag was killed since, or may have been.
    pub(in crate::store) fn killed_since(&self, upstream: usize, tag: u128, mark: u64) -> bool {
        let Some(upstream) = self.of(upstream) else { return true };
        if upstream.count.load(Ordering::Acquire) == mark {
            return false;
        }
        let recent = upstream.recent.lock();
        let mut since = recent.kills.iter().rev().take_while(|(number, _)| *number > mark);
        mark < recent.forgotten || since.any(|(_, killed)| *killed == tag)
    }

    /// Whether a write to some tag is pending or unsettled: what is fetched meanwhile may be of that tag, and is joined by nobody (R8).
    /// Looked at after [`Kills::mark`].
    pub(in crate::store) fn are_disturbed(&self, now: MonoTime, upstream: usize) -> bool {
        self.of(upstream).is_none_or(|u| {
            u.pending.load(Ordering::Acquire) > 0 || now.as_micros() < u.unsettled_until.load(Ordering::Acquire)
        })
    }

    /// A write to a tag begins; before its kill is noted.
    pub(in crate::store) fn begin(&self, upstream: usize) {
        if let Some(upstream) = self.of(upstream) {
            upstream.pending.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// It has ended at the tag's record. One whose connection is open goes on until [`Kills::closed`].
    pub(in crate::store) fn end(&self, upstream: usize, ended: Ended) {
        match ended {
            Ended::Unknown { settled_at } => self.closed(upstream, settled_at),
            Ended::Applied | Ended::Rejected | Ended::NotSent | Ended::Failed => {
                self.closed(upstream, MonoTime::default())
            }
            Ended::UnknownOpen => {}
        }
    }

    /// Its connection has closed.
    pub(in crate::store) fn closed(&self, upstream: usize, settled_at: MonoTime) {
        if let Some(upstream) = self.of(upstream) {
            upstream
                .unsettled_until
                .fetch_max(settled_at.as_micros(), Ordering::AcqRel);
            upstream.pending.fetch_sub(1, Ordering::AcqRel);
        }
    }

    fn of(&self, upstream: usize) -> Option<&Upstream> {
        self.0.get(upstream % UPSTREAMS)
    }
}

//! The list of resources that a write left unsettled: for `/status`, for the bound, and for the settling time of each upstream.
//! The gate's records say how long; this names them.

use super::Room;
use crate::core::consistency::gate::Unsettled;
use crate::core::consistency::write::Ended;
use crate::core::rules::Rule;
use crate::core::time::{MonoTime, Span};
use crate::store::{ResourceId, UnsettledResource};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

pub(super) struct UnsettledList {
    /// By upstream: R19's time in microseconds and one, zero when it has no strong route and never unsettles.
    settle_after: Room<AtomicU64>,
    /// By upstream: in microseconds, until when all of it is unsettled because the list was full.
    whole: Room<AtomicU64>,
    listed: Mutex<BTreeMap<ResourceId, String>>,
    max: usize,
}

impl UnsettledList {
    pub(super) fn new(settle_after: Vec<Option<Span>>, max: usize) -> Self {
        let list = Self {
            settle_after: Room::new(settle_after.len()),
            whole: Room::new(settle_after.len()),
            listed: Mutex::new(BTreeMap::new()),
            max,
        };
        list.take_over(settle_after);
        list
    }

    /// The settling times of a configuration, from now on (R31).
    pub(super) fn take_over(&self, settle_after: Vec<Option<Span>>) {
        for (place, after) in self.settle_after.iter().zip(settle_after) {
            let micros = after.map_or(0, |after| MonoTime::default().after(after).as_micros() + 1);
            place.store(micros, Ordering::Release);
        }
    }

    pub(super) fn can_unsettle(&self, upstream: usize) -> bool {
        self.settle_after(upstream).is_some()
    }

    /// R19: when a write whose connection closed at `closed` can no longer be applied.
    pub(super) fn settled_at(&self, upstream: usize, closed: MonoTime) -> MonoTime {
        self.settle_after(upstream)
            .filter(|_| Rule::R19.holds())
            .map_or(MonoTime::default(), |after| closed.after(after))
    }

    /// A write is about to end so; returns how it ends for its record. When the list is full the upstream bears the settling time and
    /// the record does not: nobody would come by to let go of it.
    pub(super) fn note(&self, now: MonoTime, resource: ResourceId, path: &str, ended: Ended) -> Ended {
        let until = match ended {
            Ended::Unknown { settled_at } => settled_at,
            // The record is disturbed until the close is told, however late; for the others this is a floor.
            Ended::UnknownOpen => self.settled_at(resource.upstream, now),
            Ended::Applied | Ended::Rejected | Ended::NotSent | Ended::Failed => return ended,
        };
        let mut listed = self.listed.lock();
        if listed.len() < self.max || listed.contains_key(&resource) {
            listed.insert(resource, path.to_owned());
            return ended;
        }
        drop(listed);
        self.raise_whole(resource.upstream, until);
        match ended {
            Ended::Unknown { .. } => Ended::Unknown {
                settled_at: MonoTime::default(),
            },
            Ended::Applied | Ended::Rejected | Ended::NotSent | Ended::Failed | Ended::UnknownOpen => ended,
        }
    }

    /// The connection of a write that ended open is about to count as closed; returns until when its record is unsettled.
    /// A resource that found no place in the list passes its time to the upstream, as in [`UnsettledList::note`]; one that is listed
    /// stays so meanwhile, as the open connection disturbs it.
    pub(super) fn note_closed(&self, resource: ResourceId, settled_at: MonoTime) -> MonoTime {
        if self.listed.lock().contains_key(&resource) {
            return settled_at;
        }
        self.raise_whole(resource.upstream, settled_at);
        MonoTime::default()
    }

    /// Whether no upstream is unsettled as a whole.
    pub(super) fn is_quiet(&self, now: MonoTime) -> bool {
        self.whole
            .iter()
            .all(|until| now.as_micros() >= until.load(Ordering::Acquire))
    }

    /// Until when all of an upstream is unsettled; none when it is not.
    pub(super) fn whole_upstream(&self, now: MonoTime, upstream: usize) -> Option<MonoTime> {
        let until = MonoTime::from_micros(self.whole.get(upstream)?.load(Ordering::Acquire));
        (now < until).then_some(until)
    }

    pub(super) fn list(&self, now: MonoTime, gate: impl Fn(u128) -> Option<Unsettled>) -> Vec<UnsettledResource> {
        let listed: Vec<_> = self.listed.lock().iter().map(|(r, p)| (*r, p.clone())).collect();
        let whole = self.whole.iter().enumerate().filter_map(|(upstream, _)| {
            let until = self.whole_upstream(now, upstream)?;
            Some(UnsettledResource {
                upstream,
                path: None,
                remaining: Some(until.since(now)),
            })
        });
        let single = listed.into_iter().filter_map(|(resource, path)| {
            let remaining = match gate(resource.digest)? {
                Unsettled::ConnectionOpen => None,
                Unsettled::Until(at) => Some(at.since(now)),
            };
            Some(UnsettledResource {
                upstream: resource.upstream,
                path: Some(path),
                remaining,
            })
        });
        whole.chain(single).collect()
    }

    /// Forgets those that nothing disturbs any more, and returns them. Each is judged and forgotten under one lock: a write may end
    /// in between, and what it notes must stay (the order is this list, then the record).
    pub(super) fn sweep(&self, disturbed: impl Fn(u128) -> bool) -> Vec<ResourceId> {
        let mut names: Vec<ResourceId> = self.listed.lock().keys().copied().collect();
        names.retain(|resource| {
            let mut listed = self.listed.lock();
            let over = !disturbed(resource.digest);
            if over {
                listed.remove(resource);
            }
            over
        });
        names
    }

    fn settle_after(&self, upstream: usize) -> Option<Span> {
        let micros = self.settle_after.get(upstream)?.load(Ordering::Acquire);
        Some(MonoTime::from_micros(micros.checked_sub(1)?).since(MonoTime::default()))
    }

    fn raise_whole(&self, upstream: usize, until: MonoTime) {
        if let Some(whole) = self.whole.get(upstream) {
            whole.fetch_max(until.as_micros(), Ordering::AcqRel);
        }
    }
}

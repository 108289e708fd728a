//! What stays in memory: moka decides by weight and popularity (W-TinyLFU), and tells the index what has to go. It is never asked on
//! a hit; it learns of some ([`is_told`]), which keeps the order of popularity. Time is not its business: freshness is the core's.
//! Where every run must be the same an ordered map decides instead ([`ordered`]).

mod ordered;

use crate::store::EntryRef;
use crate::store::entry::{halves, whole};
use crate::store::index::Index;
use bytes::Bytes;
use moka::notification::RemovalCause;
use moka::ops::compute::{CompResult, Op};
use moka::sync::Cache;
use ordered::Ordered;
use parking_lot::Mutex;
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Of a busy entry's hits, one in so many is told to moka (PERFORMANCE.md 6: 8 to 32).
const SAMPLE: u32 = 16;

/// How many entries a thread remembers as busy (8 bytes each). Less than the working set of a large cache on purpose: what does not
/// stay in it is not busy.
const RECENT_SLOTS: usize = 256;

/// As little as can be, since there is one for each entry and moka rounds up.
#[derive(Clone, Copy)]
struct Held {
    /// In halves: a number of 128 bits would stand at every other place only.
    resource: [u64; 2],
    place: u32,
    weight: u32,
}

impl Held {
    fn of(entry: &EntryRef) -> Self {
        Self {
            resource: halves(entry.resource().digest),
            place: entry.short_place(),
            weight: entry.weight(),
        }
    }
}

/// The judge of what stays. Keys are variant digests, stable over refetches, so that popularity outlives an entry; a removal always
/// names the entry's place, so that a late one never takes a newer entry with it.
pub(super) struct Budget {
    cache: Cache<u128, Held>,
    /// In its place, where chance repeats itself.
    ordered: Option<Ordered>,
    capacity: u64,
    index: Arc<Index>,
}

impl Budget {
    /// `repeats`: nothing may be decided by a chance or clock that no world can replace.
    pub(super) fn new(capacity: u64, index: Arc<Index>, repeats: bool) -> Self {
        let listener = {
            let index = Arc::clone(&index);
            move |variant: Arc<u128>, held: Held, cause: RemovalCause| {
                if cause == RemovalCause::Size {
                    index.evict(whole(held.resource), *variant, held.place);
                }
            }
        };
        let cache = Cache::builder()
            .max_capacity(capacity)
            .weigher(|_: &u128, held: &Held| held.weight)
            .eviction_listener(listener)
            .build();
        Self {
            cache,
            ordered: repeats.then(Ordered::default),
            capacity,
            index,
        }
    }

    /// An entry was listed. It may be refused at once: then the listener has already unlisted it.
    pub(super) fn insert(&self, entry: &EntryRef) {
        let held = Held::of(entry);
        if let Some(ordered) = &self.ordered {
            if !entry.is_revoked() {
                let gone = ordered.insert(entry.variant(), held, self.capacity);
                gone.iter()
                    .for_each(|(variant, held)| self.index.evict(whole(held.resource), *variant, held.place));
            }
            return entry.set_placed();
        }
        // A newer entry of the variant may have been listed and inserted since: it revoked this one first. And an older one may not have
        // been removed yet. It goes on its own, never by being overwritten: when an entry that was given another weight goes before
        // moka came round to that, moka's sum keeps the difference for good (0.12.16), and believes less or more to be used than is.
        let mut rest = true;
        while rest {
            let step = self.cache.entry(entry.variant()).and_compute_with(|there| {
                if entry.is_revoked() {
                    Op::Nop
                } else if there.is_some() {
                    Op::Remove
                } else {
                    Op::Put(held)
                }
            });
            rest = matches!(step, CompResult::Removed(_));
        }
        entry.set_placed();
        if self.index.usage().1 > self.capacity {
            self.cache.run_pending_tasks();
        }
    }

    /// An entry was unlisted.
    pub(super) fn remove(&self, entry: &EntryRef) {
        let place = entry.short_place();
        if let Some(ordered) = &self.ordered {
            return ordered.remove(entry.variant(), place);
        }
        self.cache.entry(entry.variant()).and_compute_with(|held| {
            if held.is_some_and(|h| h.into_value().place == place) {
                Op::Remove
            } else {
                Op::Nop
            }
        });
    }

    /// Counts a use, and moves the entry behind all others that could be evicted.
    pub(super) fn tell(&self, entry: &EntryRef) {
        self.cache.get(&entry.variant());
    }

    /// How many entries the judge holds, and their weight.
    #[cfg(test)]
    pub(super) fn held(&self) -> (u64, u64) {
        self.cache.run_pending_tasks();
        (self.cache.entry_count(), self.cache.weighted_size())
    }

    /// The numbers of the entries the judge holds.
    #[cfg(test)]
    pub(super) fn places(&self) -> std::collections::BTreeSet<u32> {
        self.cache.run_pending_tasks();
        self.cache.iter().map(|(_, held)| held.place).collect()
    }

    /// An entry was served.
    pub(super) fn touched(&self, entry: &EntryRef) {
        if let Some(ordered) = &self.ordered {
            return ordered.touched(entry.variant());
        }
        let pressed = self.index.usage().1 > self.capacity - self.capacity / 8;
        if is_told(entry.variant(), pressed) {
            self.tell(entry);
        }
    }
}

/// Whether this use is to be told. When nothing has to go soon, one in [`SAMPLE`] will do, by chance and not in turn: a page of sixteen
/// parts fetched in order would otherwise always show the same one. `pressed`, the first use in a while is told too: every miss
/// is counted, and an entry used now and then must not look less popular than one that was asked for twice and never stored.
/// (Measured over 20,000 keys with room for 2,000, Zipf 0.8: hit ratio 50 % with every use told, 46 % with one in sixteen, 51 % so.)
/// Per thread; nothing is shared.
fn is_told(variant: u128, pressed: bool) -> bool {
    thread_local! {
        static RECENT: [Cell<u64>; RECENT_SLOTS] = const { [const { Cell::new(0) }; RECENT_SLOTS] };
        static STATE: Cell<u32> = const { Cell::new(0x9e37_79b9) };
    }
    let low = u64::try_from(variant & u128::from(u64::MAX)).unwrap_or_default();
    let slot = usize::try_from(low).unwrap_or_default() % RECENT_SLOTS;
    let recent = RECENT.with(|r| r.get(slot).is_some_and(|seen| seen.replace(low) == low));
    let mut x = STATE.get(); // xorshift32 (Marsaglia 2003)
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    STATE.set(x);
    (pressed && !recent) || x.is_multiple_of(SAMPLE)
}

/// The memory of fills in flight, bounded on its own: moka weighs only what is listed. A body that is complete stays accounted for here
/// until its entry is listed or, if it never is, until nobody reads it any more.
#[derive(Debug)]
pub struct FillMemory {
    used: AtomicU64,
    limit: u64,
    /// Complete bodies that are not listed: their bytes, by where they are in memory. The owner of each keeps it there until it
    /// takes it out, so no two are ever at one place.
    complete: Mutex<HashMap<usize, u64>>,
}

impl FillMemory {
    pub(super) fn new(limit: u64) -> Self {
        Self {
            used: AtomicU64::new(0),
            limit,
            complete: Mutex::new(HashMap::new()),
        }
    }

    /// The bytes taken for `body` are given back by [`FillMemory::settle`].
    pub(super) fn complete(&self, body: &Bytes, taken: u64) {
        if taken > 0 {
            self.complete.lock().insert(body.as_ptr().addr(), taken);
        }
    }

    /// `body` is accounted for elsewhere from now on, or gone: gives back what was taken for it, once.
    pub(super) fn settle(&self, body: &Bytes) {
        let taken = self.complete.lock().remove(&body.as_ptr().addr());
        self.give_back(taken.unwrap_or(0));
    }

    /// Bytes held by fills in flight.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Takes `bytes`; false when they are not there.
    pub(super) fn take(&self, bytes: u64) -> bool {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= self.limit;
        if !fits {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }

    pub(super) fn give_back(&self, bytes: u64) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

//! Counters written by one thread each and summed when read: the stripe a thread writes to, a histogram, and a table of status codes.
//!
//! Each of the first threads to count has a stripe that nobody else writes, where counting is a load and a store. The last stripe is all
//! other threads', where it is an atomic addition: slower, still exact.

use std::array;
use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

static NEXT_THREAD: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static THREAD: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// This thread's number, from 0, in the order in which threads first counted something.
pub(in crate::telemetry) fn thread_number() -> usize {
    THREAD.with(|cell| {
        let number = cell.get();
        if number != usize::MAX {
            return number;
        }
        let number = NEXT_THREAD.fetch_add(1, Ordering::Relaxed);
        cell.set(number);
        number
    })
}

/// Who writes a stripe.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Writers {
    /// This thread alone.
    Me,
    /// Any thread.
    Any,
}

impl Writers {
    /// Which of `stripes` is this thread's, and who writes it. Numbers are given once: no two threads are alone on one.
    #[inline]
    pub(super) fn of(stripes: usize) -> (usize, Self) {
        let (number, last) = (thread_number(), stripes.saturating_sub(1));
        if number < last {
            (number, Self::Me)
        } else {
            (last, Self::Any)
        }
    }

    /// Adds to a counter of such a stripe.
    #[inline]
    pub(super) fn add(self, counter: &AtomicU64, count: u64) {
        match self {
            Self::Me => counter.store(counter.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed),
            Self::Any => {
                counter.fetch_add(count, Ordering::Relaxed);
            }
        }
    }
}

/// How many bounds a histogram has; one bucket more holds what lies above the last.
pub(super) const BOUNDS: usize = 17;

/// Upper bounds for latencies, in microseconds: from below a hit (20-45 us) to above every default timeout but the longest.
pub(super) const LATENCY_BOUNDS_US: [u64; BOUNDS] = [
    50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];

/// Upper bounds for ages, in milliseconds: the bounds people promise, from a tenth of a second to a day.
pub(super) const AGE_BOUNDS_MS: [u64; BOUNDS] = [
    100, 250, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 30_000, 60_000, 120_000, 300_000, 600_000, 1_800_000,
    3_600_000, 21_600_000, 86_400_000,
];

/// Counts of values by bucket, and their sum, in the unit of the bounds.
#[derive(Debug)]
pub(super) struct Histogram {
    buckets: [AtomicU64; BOUNDS + 1],
    sum: AtomicU64,
}

impl Histogram {
    pub(super) fn new() -> Self {
        Self {
            buckets: array::from_fn(|_| AtomicU64::new(0)),
            sum: AtomicU64::new(0),
        }
    }

    /// Forgets everything. What is counted meanwhile may be forgotten in part.
    pub(super) fn reset(&self) {
        for bucket in &self.buckets {
            bucket.store(0, Ordering::Relaxed);
        }
        self.sum.store(0, Ordering::Relaxed);
    }

    /// Counts `value`, whoever else does.
    pub(super) fn observe(&self, value: u64, bounds: &[u64; BOUNDS]) {
        self.observe_by(Writers::Any, value, bounds);
    }

    /// Counts `value`. Two additions; the search goes from the smallest bound up, since most values are small.
    #[inline]
    pub(super) fn observe_by(&self, writers: Writers, value: u64, bounds: &[u64; BOUNDS]) {
        let at = bounds.iter().position(|bound| value <= *bound).unwrap_or(BOUNDS);
        if let Some(bucket) = self.buckets.get(at) {
            writers.add(bucket, 1);
        }
        writers.add(&self.sum, value);
    }

    /// Adds what was counted here to `total`.
    pub(super) fn add_to(&self, total: &mut Summed) {
        for (sum, bucket) in total.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.load(Ordering::Relaxed);
        }
        total.sum = total.sum.wrapping_add(self.sum.load(Ordering::Relaxed));
    }
}

/// The sum of a histogram's stripes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Summed {
    /// Values by bucket, not yet cumulative.
    pub(super) buckets: [u64; BOUNDS + 1],
    /// Sum of the values.
    pub(super) sum: u64,
}

impl Summed {
    pub(super) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// Places in a [`CodeTable`]; a route rarely answers with more than a handful of pairs of result and status.
const SLOTS: usize = 32;

/// Counts by a small non-zero key, in a table with open addressing that only ever grows. What does not fit is the caller's to count elsewhere.
#[derive(Debug)]
pub(super) struct CodeTable {
    slots: [Slot; SLOTS],
}

#[derive(Debug)]
struct Slot {
    key: AtomicU32,
    count: AtomicU64,
}

impl CodeTable {
    pub(super) fn new() -> Self {
        Self {
            slots: array::from_fn(|_| Slot {
                key: AtomicU32::new(0),
                count: AtomicU64::new(0),
            }),
        }
    }

    /// Counts one of `key` (not zero). False when the table is full of other keys.
    #[must_use]
    #[inline]
    pub(super) fn add(&self, writers: Writers, key: u32) -> bool {
        let start = usize::try_from(key ^ (key >> 10)).unwrap_or(0) % SLOTS;
        for step in 0..SLOTS {
            let Some(slot) = self.slots.get((start + step) % SLOTS) else {
                return false;
            };
            let held = slot.key.load(Ordering::Relaxed);
            // A slot, once taken, keeps its key for ever: a lost race shows the winner's key, which may be ours.
            let ours = held == key
                || (held == 0
                    && match slot.key.compare_exchange(0, key, Ordering::Relaxed, Ordering::Relaxed) {
                        Ok(_) => true,
                        Err(winner) => winner == key,
                    });
            if ours {
                writers.add(&slot.count, 1);
                return true;
            }
        }
        false
    }

    /// Every key that was counted, with its count.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.slots.iter().filter_map(|slot| {
            let key = slot.key.load(Ordering::Relaxed);
            (key != 0).then(|| (key, slot.count.load(Ordering::Relaxed)))
        })
    }
}

//! Keys whose last answer was for its requester alone (hit-for-miss): for a while everybody fetches on his own, so that nobody queues
//! behind an answer that is not for him. An answer that may be shared ends it early only by coming after it: the time is short instead.
//!
//! Asked on every miss, so a look costs one load while nothing is remembered, and one shard's read lock else. All are remembered for
//! equally long, so what was remembered first is over first, and what is over is found without a search.

use crate::core::time::{MonoTime, Span};
use dashmap::DashMap;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How long a key is remembered.
const ALONE: Span = Span::from_secs(10);
/// How many are; beyond, those whose time is over make room, and then nothing more is remembered.
pub(super) const MAX_ALONE: usize = 10_000;

#[derive(Default)]
pub(super) struct Alone {
    /// Until when it counts, by key.
    until: DashMap<u128, MonoTime>,
    /// The same in order. A key that was remembered again is in it twice.
    order: Mutex<VecDeque<(MonoTime, u128)>>,
    /// The length of `order`.
    count: AtomicUsize,
}

impl Alone {
    pub(super) fn holds(&self, now: MonoTime, key: u128) -> bool {
        self.count.load(Ordering::Relaxed) > 0 && self.until.get(&key).is_some_and(|until| now < *until)
    }

    pub(super) fn remember(&self, now: MonoTime, key: u128) {
        let mut order = self.order.lock();
        while let Some((_, over)) = order.front().filter(|(until, _)| *until <= now) {
            self.until.remove_if(over, |_, until| *until <= now);
            order.pop_front();
        }
        if order.len() < MAX_ALONE {
            let until = now.after(ALONE);
            self.until.insert(key, until);
            order.push_back((until, key));
        }
        self.count.store(order.len(), Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> (usize, usize) {
        (self.until.len(), self.order.lock().len())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn at(ms: u64) -> MonoTime {
        MonoTime::from_micros(ms * 1000)
    }

    #[test]
    fn a_key_is_remembered_for_ten_seconds_from_the_last_time() {
        let alone = Alone::default();
        assert!(!alone.holds(at(0), 1));
        alone.remember(at(0), 1);
        alone.remember(at(5_000), 1);
        alone.remember(at(6_000), 2);
        // The first of its two places in the order is over, its time is not.
        alone.remember(at(12_000), 3);
        assert!(alone.holds(at(14_999), 1) && !alone.holds(at(15_000), 1));
        assert!(alone.holds(at(15_999), 2) && !alone.holds(at(16_000), 2));
        assert_eq!(alone.len(), (3, 3));
        alone.remember(at(30_000), 4);
        assert_eq!(alone.len(), (1, 1), "what is over is let go of");
    }

    #[test]
    fn when_it_is_full_of_live_ones_nothing_more_is_remembered_until_the_first_is_over() {
        let alone = Alone::default();
        for n in 0..2 * u64::try_from(MAX_ALONE).unwrap() {
            alone.remember(at(n / 1000), u128::from(n % 15_000));
        }
        assert_eq!(alone.len(), (MAX_ALONE, MAX_ALONE));
        assert!(!alone.holds(at(20), 14_999));
        assert!(alone.holds(at(20), 9_999));
        alone.remember(at(10_000), 14_999);
        assert!(alone.holds(at(10_000), 14_999), "the first thousand were over");
        assert_eq!(alone.len(), (MAX_ALONE - 999, MAX_ALONE - 999));
    }
}

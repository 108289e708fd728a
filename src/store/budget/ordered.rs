//! The judge of what stays where every run must be the same: least recently used goes first. moka keeps a clock and chance of its own
//! that nothing outside can replace, so in a simulation this map stands in for it. It is exact and slow: every use takes the lock.

use super::Held;
use parking_lot::Mutex;
use std::collections::BTreeMap;

#[derive(Default)]
pub(super) struct Ordered(Mutex<State>);

#[derive(Default)]
struct State {
    /// By variant: when it was last used, and what it is.
    held: BTreeMap<u128, (u64, Held)>,
    /// Variants by last use.
    order: BTreeMap<u64, u128>,
    uses: u64,
    weight: u64,
}

impl State {
    fn take(&mut self, variant: u128) -> Option<Held> {
        let (used, held) = self.held.remove(&variant)?;
        self.order.remove(&used);
        self.weight -= u64::from(held.weight);
        Some(held)
    }

    fn put(&mut self, variant: u128, held: Held) {
        self.uses += 1;
        self.order.insert(self.uses, variant);
        self.weight += u64::from(held.weight);
        self.held.insert(variant, (self.uses, held));
    }
}

impl Ordered {
    /// Takes the place of what the variant had. Returns what has to go for it, perhaps itself.
    pub(super) fn insert(&self, variant: u128, held: Held, capacity: u64) -> Vec<(u128, Held)> {
        let mut state = self.0.lock();
        state.take(variant);
        state.put(variant, held);
        let mut gone = Vec::new();
        while state.weight > capacity {
            let Some((_, oldest)) = state.order.first_key_value() else {
                break;
            };
            let oldest = *oldest;
            gone.extend(state.take(oldest).map(|held| (oldest, held)));
        }
        gone
    }

    /// The variant's entry goes, if it is that one.
    pub(super) fn remove(&self, variant: u128, place: u32) {
        let mut state = self.0.lock();
        if state.held.get(&variant).is_some_and(|(_, held)| held.place == place) {
            state.take(variant);
        }
    }

    /// The variant was used.
    pub(super) fn touched(&self, variant: u128) {
        let mut state = self.0.lock();
        if let Some(held) = state.take(variant) {
            state.put(variant, held);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(place: u32, weight: u32) -> Held {
        Held {
            resource: [0; 2],
            place,
            weight,
        }
    }

    fn ids(gone: &[(u128, Held)]) -> Vec<u32> {
        gone.iter().map(|(_, held)| held.place).collect()
    }

    #[test]
    fn the_least_recently_used_goes_first_and_a_late_removal_takes_nothing_newer() {
        let judge = Ordered::default();
        assert!(judge.insert(1, held(10, 4), 10).is_empty());
        assert!(judge.insert(2, held(20, 4), 10).is_empty());
        judge.touched(1);
        assert_eq!(ids(&judge.insert(3, held(30, 4), 10)), [20]);
        assert!(judge.insert(1, held(11, 4), 10).is_empty(), "it takes its own place");
        judge.remove(1, 10);
        assert_eq!(ids(&judge.insert(4, held(40, 6), 10)), [30]);
        judge.remove(1, 11);
        assert!(judge.insert(5, held(50, 4), 10).is_empty());
        assert_eq!(
            ids(&judge.insert(6, held(60, 99), 10)),
            [40, 50, 60],
            "too large for anything"
        );
    }
}

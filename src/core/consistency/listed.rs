//! The entries of one resource, by the digest of their cache key. Most resources have one entry; some have a hundred thousand
//! queries. A short list is scanned, a long one is a tree, and both iterate in a fixed order.

use smallvec::SmallVec;
use std::collections::BTreeMap;

/// Longer lists become trees. A scan of sixteen digests costs less than a tree's first node.
const FEW: usize = 16;

/// A stored entry as the gate sees it.
pub trait Entry {
    /// Its number, never used twice in a process.
    fn id(&self) -> u64;
    /// The digest of its cache key.
    fn digest(&self) -> u128;
    /// Takes it out of service for good (readers check the flag themselves).
    fn revoke(&self);
    /// Whether it was taken out of service.
    fn is_revoked(&self) -> bool;
    /// Whether both would answer the same requests: same key, same selecting fields (RFC 9111 s4.1).
    fn same_variant(&self, other: &Self) -> bool;
    /// Whether it is older than `other`, by when each is known to have been current, or else by when they were asked for: the older of
    /// two under one key goes.
    fn older_than(&self, other: &Self) -> bool;
}

/// The entries of one resource.
#[derive(Clone, Debug)]
pub enum Entries<E> {
    /// A few, in the order they came.
    Few(SmallVec<[E; 1]>),
    /// Many, by digest and number.
    Many(BTreeMap<(u128, u64), E>),
}

impl<E> Default for Entries<E> {
    fn default() -> Self {
        Self::Few(SmallVec::new())
    }
}

impl<E: Entry + Clone> Entries<E> {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Few(list) => list.len(),
            Self::Many(tree) => tree.len(),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those under one key digest.
    pub fn under(&self, digest: u128) -> impl Iterator<Item = &E> {
        let (few, many) = match self {
            Self::Few(list) => (Some(list.iter().filter(move |e| e.digest() == digest)), None),
            Self::Many(tree) => (None, Some(tree.range((digest, 0)..=(digest, u64::MAX)).map(|(_, e)| e))),
        };
        few.into_iter().flatten().chain(many.into_iter().flatten())
    }

    /// Those under key digests with the same higher half as this one.
    pub fn near(&self, digest: u128) -> impl Iterator<Item = &E> {
        let half = u128::from(u64::MAX);
        let (least, most) = (digest & !half, digest | half);
        let (few, many) = match self {
            Self::Few(list) => (
                Some(list.iter().filter(move |e| (least..=most).contains(&e.digest()))),
                None,
            ),
            Self::Many(tree) => (None, Some(tree.range((least, 0)..=(most, u64::MAX)).map(|(_, e)| e))),
        };
        few.into_iter().flatten().chain(many.into_iter().flatten())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &E> {
        let (few, many) = match self {
            Self::Few(list) => (Some(list.iter()), None),
            Self::Many(tree) => (None, Some(tree.values())),
        };
        few.into_iter().flatten().chain(many.into_iter().flatten())
    }

    /// Whether this very entry is listed.
    #[must_use]
    pub fn contains(&self, entry: &E) -> bool {
        match self {
            Self::Few(list) => list.iter().any(|e| e.id() == entry.id()),
            Self::Many(tree) => tree.contains_key(&(entry.digest(), entry.id())),
        }
    }

    /// Adds one.
    pub fn insert(&mut self, entry: E) {
        match self {
            Self::Few(list) if list.len() < FEW => list.push(entry),
            Self::Few(list) => {
                let mut tree: BTreeMap<_, _> = list.drain(..).map(|e| ((e.digest(), e.id()), e)).collect();
                tree.insert((entry.digest(), entry.id()), entry);
                *self = Self::Many(tree);
            }
            Self::Many(tree) => {
                tree.insert((entry.digest(), entry.id()), entry);
            }
        }
    }

    /// Takes one out by its number.
    pub fn remove(&mut self, digest: u128, id: u64) -> Option<E> {
        match self {
            Self::Few(list) => list.iter().position(|e| e.id() == id).map(|at| list.remove(at)),
            Self::Many(tree) => tree.remove(&(digest, id)),
        }
    }

    /// Takes out those the closure names, in order.
    pub fn remove_where(&mut self, mut leaves: impl FnMut(&E) -> bool) -> Vec<E> {
        let gone: Vec<E> = self.iter().filter(|e| leaves(e)).cloned().collect();
        for entry in &gone {
            self.remove(entry.digest(), entry.id());
        }
        gone
    }

    /// Takes out all of them, in order.
    pub fn take(&mut self) -> Vec<E> {
        match std::mem::take(self) {
            Self::Few(list) => list.into_vec(),
            Self::Many(tree) => tree.into_values().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Plain(u64, u128);

    impl Entry for Plain {
        fn id(&self) -> u64 {
            self.0
        }
        fn digest(&self) -> u128 {
            self.1
        }
        fn revoke(&self) {}
        fn is_revoked(&self) -> bool {
            false
        }
        fn same_variant(&self, other: &Self) -> bool {
            self.1 == other.1
        }
        fn older_than(&self, other: &Self) -> bool {
            self.0 < other.0
        }
    }

    #[test]
    fn a_list_that_grows_into_a_tree_keeps_every_entry() {
        let mut entries = Entries::default();
        for id in 0..100_u64 {
            entries.insert(Plain(id, u128::from(id % 10)));
            assert_eq!(entries.len(), usize::try_from(id).unwrap() + 1);
            assert!(entries.contains(&Plain(id, u128::from(id % 10))));
        }
        assert!(matches!(entries, Entries::Many(_)));
        assert_eq!(
            entries.under(3).map(|e| e.0).collect::<Vec<_>>(),
            (0..10).map(|n| n * 10 + 3).collect::<Vec<_>>()
        );
        let other = u128::from(u64::MAX) + 4;
        entries.insert(Plain(100, other));
        assert_eq!(entries.near(3).count(), 100);
        assert_eq!(entries.near(other + 1).map(|e| e.0).collect::<Vec<_>>(), [100]);
        assert!(entries.remove(other, 100).is_some());
        assert_eq!(entries.remove(3, 13), Some(Plain(13, 3)));
        assert_eq!(entries.remove(3, 13), None);
        assert_eq!(entries.remove_where(|e| e.1 == 4).len(), 10);
        assert_eq!(entries.len(), 89);
        assert_eq!(entries.take().len(), 89);
        assert!(entries.is_empty());
    }
}

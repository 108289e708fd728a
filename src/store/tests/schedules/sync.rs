//! `store::sync` over shuttle: every lock and every atomic is a place where another thread may go first.

use shuttle::sync::{MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

pub(super) use shuttle::sync::atomic::{AtomicBool, AtomicU64};

/// `parking_lot`'s, which no panic poisons.
#[derive(Debug, Default)]
pub(super) struct Mutex<T>(shuttle::sync::Mutex<T>);

impl<T> Mutex<T> {
    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap()
    }
}

/// More than there are records: each has a lock of its own.
const SHARDS: u128 = 16;

type Shard<V> = BTreeMap<u128, V>;

/// `DashMap` as far as the index uses it: a lock for each shard, held by whatever came out of it.
pub(super) struct DashMap<K, V, S> {
    shards: Vec<RwLock<Shard<V>>>,
    others: PhantomData<(K, S)>,
}

impl<V, S> Default for DashMap<u128, V, S> {
    fn default() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            others: PhantomData,
        }
    }
}

impl<V, S> DashMap<u128, V, S> {
    fn shard(&self, key: u128) -> &RwLock<Shard<V>> {
        &self.shards[usize::try_from(key % SHARDS).unwrap()]
    }

    pub(super) fn get(&self, key: &u128) -> Option<Shared<'_, V>> {
        let guard = self.shard(*key).read().unwrap();
        guard.contains_key(key).then_some(Shared { guard, key: *key })
    }

    pub(super) fn get_mut(&self, key: &u128) -> Option<Alone<'_, V>> {
        let guard = self.shard(*key).write().unwrap();
        guard.contains_key(key).then_some(Alone { guard, key: *key })
    }

    pub(super) fn entry(&self, key: u128) -> Slot<'_, V> {
        let guard = self.shard(key).write().unwrap();
        let occupied = guard.contains_key(&key);
        let slot = Alone { guard, key };
        if occupied {
            Slot::Occupied(slot)
        } else {
            Slot::Vacant(slot)
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Shared<'_, V>> {
        self.shards.iter().flat_map(|shard| {
            let keys: Vec<u128> = shard.read().unwrap().keys().copied().collect();
            keys.into_iter().filter_map(|key| self.get(&key))
        })
    }

    pub(super) fn retain(&self, mut stays: impl FnMut(&u128, &mut V) -> bool) {
        for shard in &self.shards {
            shard.write().unwrap().retain(&mut stays);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().unwrap().len()).sum()
    }
}

pub(super) struct Shared<'a, V> {
    guard: RwLockReadGuard<'a, Shard<V>>,
    key: u128,
}

impl<V> Deref for Shared<'_, V> {
    type Target = V;
    fn deref(&self) -> &V {
        &self.guard[&self.key]
    }
}

pub(super) struct Alone<'a, V> {
    guard: RwLockWriteGuard<'a, Shard<V>>,
    key: u128,
}

impl<V> Deref for Alone<'_, V> {
    type Target = V;
    fn deref(&self) -> &V {
        &self.guard[&self.key]
    }
}

impl<V> DerefMut for Alone<'_, V> {
    fn deref_mut(&mut self) -> &mut V {
        self.guard.get_mut(&self.key).unwrap()
    }
}

pub(super) enum Slot<'a, V> {
    Occupied(Alone<'a, V>),
    Vacant(Alone<'a, V>),
}

impl<'a, V: Default> Slot<'a, V> {
    pub(super) fn or_default(self) -> Alone<'a, V> {
        let (Self::Occupied(mut slot) | Self::Vacant(mut slot)) = self;
        slot.guard.entry(slot.key).or_default();
        slot
    }
}

impl<V> Alone<'_, V> {
    pub(super) fn get(&self) -> &V {
        self
    }

    pub(super) fn get_mut(&mut self) -> &mut V {
        self
    }

    pub(super) fn remove(mut self) {
        self.guard.remove(&self.key);
    }
}

impl<K, V, S> Debug for DashMap<K, V, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DashMap").finish_non_exhaustive()
    }
}

//! A write that leaves behind what it made of its target (R9): what was stored there when it began, the token under which it reads it
//! again, and the end that puts that in service. Nothing here reads or judges an answer.

use super::entry::SharedHead;
use super::write::WriteEnd;
use super::{EntryRef, Index, ResourceId, Store, Token, WriteGuard};
use crate::core::consistency::gate::Alone;
use std::sync::Arc;

/// How many variants a write reads again (R9).
const MAX_AGAIN: usize = 4;

/// What a write's target is called where it is read.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its resource.
    pub resource: ResourceId,
    /// The digest of its key.
    pub digest: u128,
    /// Its key.
    pub key: Arc<[u8]>,
}

/// What was in service under a write's target when the write began.
#[derive(Debug, Default)]
pub struct Before {
    /// The heads of its variants, the newest first; no more than a write reads again.
    pub heads: Vec<SharedHead>,
    /// How many there were.
    pub variants: usize,
}

/// A write's chance to leave something behind.
#[derive(Debug)]
pub(super) struct Chance {
    target: Target,
    /// By resource of the write: that it was the only one there.
    alone: Vec<Alone>,
    before: Before,
}

impl Store {
    /// As [`Store::begin_write`], of a write that may leave something behind of `target`, which is one of the resources.
    pub fn begin_write_through(self: &Arc<Self>, resources: Vec<(ResourceId, String)>, target: Target) -> WriteGuard {
        let mut alone = Vec::with_capacity(resources.len());
        let mut gone = Vec::new();
        let mut guard = self.begin_each(resources, |resource, revoked, write| {
            alone.extend(write);
            if resource == target.resource {
                gone = revoked;
            }
        });
        // R9: the only one on every resource, and all of them settled.
        if alone.len() == guard.resources().len() && !self.is_whole_unsettled(target.resource) {
            let before = Before::of(gone, &target);
            guard.chance = Some(Chance { target, alone, before });
        }
        guard
    }

    fn is_whole_unsettled(&self, resource: ResourceId) -> bool {
        self.unsettled.whole_upstream(self.now(), resource.upstream).is_some()
    }
}

impl Before {
    fn of(gone: Vec<EntryRef>, target: &Target) -> Self {
        let is_targets = |e: &EntryRef| e.key_digest() == target.digest && *e.key() == *target.key;
        let mut entries: Vec<EntryRef> = gone.into_iter().filter(is_targets).collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.facts().sent));
        Self {
            variants: entries.len(),
            heads: entries
                .iter()
                .take(MAX_AGAIN)
                .map(|entry| Arc::new(entry.head()))
                .collect(),
        }
    }
}

impl WriteGuard {
    /// What was stored of its target; none when the write was not the only one, or was never meant to leave anything behind.
    #[must_use]
    pub fn before(&self) -> Option<&Before> {
        self.chance.as_ref().map(|chance| &chance.before)
    }

    /// After the node's definite answer: the token of the write's own fill. None while another write is pending on any of its
    /// resources, has begun since, or has left one unsettled (R9).
    #[must_use]
    pub fn register_own(&self) -> Option<Token> {
        let chance = self.chance.as_ref()?;
        let (store, target) = (self.store(), chance.target.resource);
        let mut token = None;
        for ((resource, _), write) in self.resources().iter().zip(&chance.alone) {
            if *resource == target {
                token = Some(Index::register_own(&store.index, store.now(), target, *write)?);
            } else if !store.index.is_still_alone(store.now(), resource.digest, *write) {
                return None;
            }
        }
        token.filter(|_| !store.is_whole_unsettled(target))
    }

    /// Ends a write whose answer was definite, as [`WriteGuard::end`] does, and puts `entries` in service if no other write has come
    /// near since `token` was registered. Returns how many are.
    pub fn end_with(mut self, end: WriteEnd, token: Token, entries: Vec<EntryRef>) -> usize {
        let Some(chance) = self.chance.take() else {
            self.end(end);
            return 0;
        };
        let store = Arc::clone(self.store());
        let target = chance.target.resource;
        let others = self
            .resources()
            .iter()
            .zip(&chance.alone)
            .filter(|((r, _), _)| *r != target);
        let alone = others
            .clone()
            .all(|((resource, _), write)| store.index.is_still_alone(store.now(), resource.digest, *write));
        let others: Vec<_> = others.map(|(resource, _)| resource.clone()).collect();
        self.disarm();
        // R10: everything has happened before the answer goes out, the others first.
        store.end_write(&others, end, None);
        store.index.killing(target);
        let entries = if alone { entries } else { Vec::new() };
        let left = store.index.end_with(store.now(), &token, entries);
        drop(token);
        store.retire(&left.gone);
        for entry in left.listed.iter().filter(|entry| !entry.is_revoked()) {
            store.settle_fill_of(entry);
            store.budget.insert(entry);
        }
        left.listed.len()
    }
}

//! Write-through at the records (R9): the token of a write's own fill, and the end that lists what it brought.

use super::super::{EntryRef, ResourceId};
use super::{Index, Token};
use crate::core::consistency::gate::{Alone, Left, TokenId};
use crate::core::time::MonoTime;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Index {
    pub(in crate::store) fn is_still_alone(&self, now: MonoTime, resource: u128, write: Alone) -> bool {
        let record = self.records.get(&resource);
        record.is_some_and(|record| record.is_still_alone(now, write))
    }

    /// A token for what a pending write reads again; none when it is not the only one any more.
    pub(in crate::store) fn register_own(
        index: &Arc<Self>,
        now: MonoTime,
        resource: ResourceId,
        write: Alone,
    ) -> Option<Token> {
        let id = TokenId(index.tokens.fetch_add(1, Ordering::Relaxed));
        let mark = index.kills.mark(resource.upstream);
        let mut record = index.records.get_mut(&resource.digest)?;
        let registered = record.step(|gate| gate.register_own(now, id, write));
        drop(record);
        registered.then(|| Token {
            index: Arc::clone(index),
            resource,
            id,
            provable: true,
            registered: now,
            mark,
            sociable: false, // nobody joins it
            used: false,
        })
    }

    /// A write ends and lists `entries`, each under its tags first (R12a).
    pub(in crate::store) fn end_with(&self, now: MonoTime, token: &Token, entries: Vec<EntryRef>) -> Left<EntryRef> {
        let mut offered = Vec::with_capacity(entries.len());
        for entry in entries {
            let listed = entry.tags().iter().try_for_each(|tag| self.list(*tag, token, &entry));
            match listed {
                Ok(()) => offered.push(entry),
                Err(why) => drop(self.refuse(&entry, why)),
            }
        }
        let mut listed = Vec::new();
        let gone = self.step(now, token.resource.digest, |gate| {
            let left = gate.end_with(token.id, offered.clone());
            // Under the lock: whoever unlists an entry subtracts it, and must not come first.
            self.entries.fetch_add(left.listed.len() as u64, Ordering::Relaxed);
            let bytes: u64 = left.listed.iter().map(|e| u64::from(e.weight())).sum();
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            listed = left.listed;
            left.gone
        });
        offered.retain(|entry| !listed.iter().any(|other| other == entry));
        self.leave_tags(&offered); // refused, and revoked by that
        Left { gone, listed }
    }
}

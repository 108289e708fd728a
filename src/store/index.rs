//! The dashmap of gate records and their entries: what a hit reads. Hides the map: every method is one locked step on one
//! record and returns owned values, so that no guard can be held across an await.

use super::sync::{AtomicU64, DashMap, Slot};
use super::{EntryRef, ResourceId};
use crate::core::consistency::gate::{Alone, Gate, Published, TokenId, Unsettled};
use crate::core::consistency::listed::Entry as _;
use crate::core::consistency::write::Ended;
use crate::core::key::KeyDigest;
use crate::core::reason::NotStored;
use crate::core::rules::Rule;
use crate::core::time::MonoTime;
use smallvec::SmallVec;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;

#[path = "index/kills.rs"] // named, as tests take this file in from another place too
pub(super) mod kills;
#[path = "index/record.rs"]
mod record;
#[path = "index/tagged.rs"]
mod tagged;
#[path = "index/through.rs"]
mod through;

use kills::Kills;
use record::Record;

/// The keys are keyed digests already; hashing them again would only cost.
#[derive(Default)]
pub(super) struct DigestHasher(u64);

impl Hasher for DigestHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, digest: u128) {
        self.0 = u64::try_from(digest & u128::from(u64::MAX)).unwrap_or_default();
    }
}

/// What a lookup found.
#[derive(Debug)]
pub struct Found {
    /// The variants under the key, in service at this instant.
    pub variants: SmallVec<[EntryRef; 2]>,
    /// Whether a write to the resource is pending or unsettled.
    pub disturbed: bool,
}

/// The right of one fill to be stored; dropped, it is given up.
#[derive(Debug)]
#[must_use]
pub struct Token {
    index: Arc<Index>,
    resource: ResourceId,
    id: TokenId,
    provable: bool,
    registered: MonoTime,
    /// What tags had been killed by then (R12a).
    mark: u64,
    /// Whether all tags were settled then.
    sociable: bool,
    /// The gate has let it go, in the step that listed its entry.
    used: bool,
}

impl Token {
    /// Whether what this fill brings is proven (R2).
    #[must_use]
    pub fn is_provable(&self) -> bool {
        self.provable
    }

    /// Whether no write or purge has overtaken the fill.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.index.is_alive(self.resource.digest, self.id)
    }

    /// The resource it is for.
    #[must_use]
    pub fn resource(&self) -> ResourceId {
        self.resource
    }

    pub(super) fn id(&self) -> TokenId {
        self.id
    }

    /// Its upstream is unsettled as a whole.
    pub(super) fn unprove(&mut self) {
        self.provable = false;
    }

    /// Asks later whether the fill is still alive, without keeping it so.
    #[must_use]
    pub fn watch(&self) -> TokenWatch {
        TokenWatch {
            index: Arc::clone(&self.index),
            resource: self.resource,
            id: self.id,
            provable: self.provable && self.sociable,
            mark: self.mark,
        }
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if !self.used {
            self.index.release(self.resource.digest, self.id);
        }
    }
}

/// Tells whether a token is alive, for those who think of joining its flight.
#[derive(Clone, Debug)]
pub struct TokenWatch {
    index: Arc<Index>,
    resource: ResourceId,
    id: TokenId,
    provable: bool,
    mark: u64,
}

impl TokenWatch {
    /// Whether a sent flight under this token may be joined: what it brings is proven, and nothing has overtaken it. A tag that was
    /// killed since may be one of its own (R12a).
    #[must_use]
    pub fn is_provable_and_alive(&self) -> bool {
        let kept = self.index.kills.mark(self.resource.upstream) == self.mark || !Rule::R12a.holds();
        kept && self.provable && self.index.is_alive(self.resource.digest, self.id)
    }
}

#[derive(Default)]
pub(super) struct Index {
    /// Those of resources, and those of tags, whose entries are listed in a resource's too.
    records: DashMap<u128, Record, BuildHasherDefault<DigestHasher>>,
    kills: Kills,
    tokens: AtomicU64,
    ids: Ids,
    entries: AtomicU64,
    bytes: AtomicU64,
    evictions: AtomicU64,
}

/// Numbers of entries. No two stores of a process give the same: what threads keep of an entry is known by its number.
struct Ids(AtomicU64);

impl Default for Ids {
    fn default() -> Self {
        static STORES: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
        Self(AtomicU64::new(STORES.fetch_add(1, Ordering::Relaxed) << 44))
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index")
            .field("records", &self.records.len())
            .finish_non_exhaustive()
    }
}

impl Index {
    pub(super) fn next_entry_id(&self) -> u64 {
        self.ids.0.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn usage(&self) -> (u64, u64) {
        (self.entries.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    pub(super) fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    pub(super) fn lookup(&self, now: MonoTime, resource: u128, digest: u128, key: &[u8]) -> Found {
        match self.records.get(&resource) {
            Some(record) => {
                let mut variants = SmallVec::new();
                record.under(digest, |entry| {
                    if *entry.key() == *key {
                        variants.push(entry.clone());
                    }
                });
                Found {
                    variants,
                    disturbed: record.is_disturbed(now),
                }
            }
            None => Found {
                variants: SmallVec::new(),
                disturbed: false,
            },
        }
    }

    pub(super) fn register(index: &Arc<Self>, now: MonoTime, resource: ResourceId, can_prove: bool) -> Token {
        let id = TokenId(index.tokens.fetch_add(1, Ordering::Relaxed));
        let mark = index.kills.mark(resource.upstream);
        let sociable = !index.kills.are_disturbed(now, resource.upstream);
        let provable = index
            .records
            .entry(resource.digest)
            .or_default()
            .step(|gate| gate.register(now, id, can_prove));
        Token {
            index: Arc::clone(index),
            resource,
            id,
            provable,
            registered: now,
            mark,
            sociable,
            used: false,
        }
    }

    /// Lists a fill's entry under its tags one by one, and last under its resource, which puts it in service (R12a).
    pub(super) fn publish(&self, token: Token, entry: &EntryRef, validated: Option<&EntryRef>) -> Published<EntryRef> {
        for tag in entry.tags() {
            if let Err(why) = self.list(*tag, &token, entry) {
                return self.refuse(entry, why);
            }
        }
        match self.put_in_service(token, entry, validated) {
            Published::Refused(why) => self.refuse(entry, why),
            Published::Listed { replaced } => {
                self.leave_tags(&replaced);
                Published::Listed { replaced }
            }
        }
    }

    pub(super) fn put_in_service(
        &self,
        mut token: Token,
        entry: &EntryRef,
        validated: Option<&EntryRef>,
    ) -> Published<EntryRef> {
        if !(Rule::R1.holds() && Rule::R5.holds()) {
            self.records.entry(token.resource.digest).or_default();
        }
        let published = self.records.get_mut(&token.resource.digest).map_or(
            Published::Refused(NotStored::TokenDead),
            |mut record| {
                let published = record.step(|gate| match validated {
                    Some(old) => gate.publish_validated(token.id, old, entry.clone()),
                    None => gate.publish(token.id, entry.clone()),
                });
                if let Published::Listed { replaced } = &published {
                    // Under the lock: whoever unlists the entry subtracts it, and must not come first.
                    self.entries.fetch_add(1, Ordering::Relaxed);
                    self.bytes.fetch_add(u64::from(entry.weight()), Ordering::Relaxed);
                    self.uncount(replaced);
                }
                published
            },
        );
        token.used = matches!(published, Published::Listed { .. });
        drop(token); // after the guard is gone: it may take the same lock
        published
    }

    /// A write begins; where an exclusive route can read the resource, its entries go at once. Returns those, and whether it is the
    /// only write there (R9).
    pub(super) fn begin(&self, now: MonoTime, resource: u128, exclusive: bool) -> (Vec<EntryRef>, Option<Alone>) {
        let mut record = self.records.entry(resource).or_default();
        let (gone, alone) = record.step(|gate| {
            let gone = if exclusive {
                gate.begin_exclusive()
            } else {
                gate.begin();
                Vec::new()
            };
            (gone, gate.alone(now))
        });
        drop(record);
        (self.unlisted(resource, gone), alone)
    }

    /// Whether no write is pending and none unsettled, anywhere.
    pub(super) fn is_quiet(&self, now: MonoTime) -> bool {
        !self.records.iter().any(|record| record.is_disturbed(now))
    }

    /// The operator's word for one record. Returns whether it was unsettled.
    pub(super) fn settle(&self, now: MonoTime, resource: u128) -> bool {
        let mut was = false;
        self.step(now, resource, |gate| {
            was = matches!(gate.unsettled(now), Some(Unsettled::Until(_)));
            gate.settle();
            Vec::new()
        });
        was
    }

    /// A write ends; `mine` is the token of the fill that its own answer is.
    pub(super) fn end(&self, now: MonoTime, resource: u128, ended: Ended, mine: Option<TokenId>) -> Vec<EntryRef> {
        self.step(now, resource, |gate| match mine {
            None => gate.end(ended),
            Some(mine) => gate.end_keeping(ended, mine),
        })
    }

    pub(super) fn closed(&self, now: MonoTime, resource: u128, settled_at: MonoTime) {
        self.step(now, resource, |gate| {
            gate.closed(settled_at);
            Vec::new()
        });
    }

    pub(super) fn drop_all(&self, now: MonoTime, resource: u128) -> Vec<EntryRef> {
        self.step(now, resource, Gate::drop_all)
    }

    pub(super) fn drop_where(
        &self,
        now: MonoTime,
        resource: u128,
        leaves: impl Fn(&super::Entry) -> bool,
    ) -> Vec<EntryRef> {
        self.step(now, resource, |gate| gate.drop_where(|e| leaves(e)))
    }

    pub(super) fn differs(&self, now: MonoTime, resource: u128, keep: Option<TokenId>) -> Vec<EntryRef> {
        self.step(now, resource, |gate| gate.differs(keep))
    }

    /// Takes out the entry of this variant that has this place, whichever has it by now.
    pub(super) fn evict(&self, resource: u128, variant: u128, place: u32) {
        let gone = self.step(MonoTime::default(), resource, |gate| {
            let is_it = |entry: &&EntryRef| entry.variant() == variant && entry.short_place() == place;
            let there = gate.entries().near(variant).find(is_it);
            let found = there.map(|entry| (entry.key_digest(), entry.number()));
            let gone = found.and_then(|(digest, id)| gate.evict(digest, id));
            gone.into_iter().collect()
        });
        self.evictions.fetch_add(gone.len() as u64, Ordering::Relaxed);
    }

    /// The same on every record: tokens are killed in all of them, since a token does not know its URL (R12a). That costs others a miss.
    pub(super) fn drop_everywhere(&self, now: MonoTime, leaves: impl Fn(&super::Entry) -> bool) -> Vec<EntryRef> {
        let mut gone = Vec::new();
        self.records.retain(|digest, record| {
            if KeyDigest(*digest).is_tag() {
                return true;
            }
            gone.append(&mut record.step(|gate| gate.drop_where(|e| leaves(e))));
            record.is_pinned(now)
        });
        self.uncount(&gone);
        self.leave_tags(&gone);
        gone
    }

    /// A soft purge of one record. Returns how many entries were marked.
    pub(super) fn soften_where(&self, now: MonoTime, resource: u128, covers: impl Fn(&super::Entry) -> bool) -> u64 {
        let mut marked = 0;
        self.step(now, resource, |gate| {
            marked = gate.soften(|e| covers(e) && e.soften(now));
            Vec::new()
        });
        marked
    }

    /// The same on every record, as [`Index::drop_everywhere`].
    pub(super) fn soften_everywhere(&self, now: MonoTime, covers: impl Fn(&super::Entry) -> bool) -> u64 {
        let mut marked = 0;
        self.records.retain(|digest, record| {
            if KeyDigest(*digest).is_tag() {
                return true;
            }
            marked += record.step(|gate| gate.soften(|e| covers(e) && e.soften(now)));
            record.is_pinned(now)
        });
        marked
    }

    pub(super) fn unsettled(&self, now: MonoTime, resource: u128) -> Option<Unsettled> {
        self.records.get(&resource).and_then(|record| record.unsettled(now))
    }

    pub(super) fn is_disturbed(&self, now: MonoTime, resource: u128) -> bool {
        self.records
            .get(&resource)
            .is_some_and(|record| record.is_disturbed(now))
    }

    /// Lets go of a record that only its unsettled time pinned. When something else pins it, that one's last step, which does not
    /// know the time, must find the unsettled time gone.
    pub(super) fn tidy(&self, now: MonoTime, resource: u128) {
        self.step(now, resource, |gate| {
            gate.forget_settled(now);
            Vec::new()
        });
    }

    #[cfg(test)]
    pub(super) fn records(&self) -> usize {
        self.records.len()
    }

    fn is_alive(&self, resource: u128, token: TokenId) -> bool {
        self.records.get(&resource).is_some_and(|record| record.is_alive(token))
    }

    fn release(&self, resource: u128, token: TokenId) {
        self.step(MonoTime::default(), resource, |gate| {
            gate.release(token);
            Vec::new()
        });
    }

    /// One locked step on a record that exists; the record goes when nothing pins it any more (R4). A step that does not know the
    /// time passes the clock's origin, at which an unsettled record is still pinned.
    fn step(
        &self,
        now: MonoTime,
        resource: u128,
        step: impl FnOnce(&mut Gate<EntryRef>) -> Vec<EntryRef>,
    ) -> Vec<EntryRef> {
        let gone = match self.records.entry(resource) {
            Slot::Occupied(mut slot) => {
                let gone = slot.get_mut().step(step);
                if !slot.get().is_pinned(now) {
                    slot.remove();
                }
                gone
            }
            Slot::Vacant(_) => Vec::new(),
        };
        if gone.is_empty() {
            return gone;
        }
        self.unlisted(resource, gone)
    }

    /// The entries in service that `wanted` names, wherever they are.
    pub(super) fn where_entries(&self, wanted: impl Fn(&super::Entry) -> bool) -> Vec<EntryRef> {
        let mut found = Vec::new();
        for record in self.records.iter() {
            record.each(|entry| found.extend(wanted(entry).then(|| entry.clone())));
        }
        found
    }

    fn uncount(&self, gone: &[EntryRef]) {
        if !gone.is_empty() {
            self.entries.fetch_sub(gone.len() as u64, Ordering::Relaxed);
            let bytes: u64 = gone.iter().map(|e| u64::from(e.weight())).sum();
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

impl EntryRef {
    pub(super) fn number(&self) -> u64 {
        self.id()
    }
}

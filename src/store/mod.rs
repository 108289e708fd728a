//! What is stored and what is being fetched. `index` is the dashmap of gate records and their entries that a hit reads, `budget` is
//! moka judging what stays, `fill` carries a body to all its readers while it arrives, `flight` lets concurrent requests share a fetch.
//!
//! Nothing here knows HTTP semantics or talks to a node. No lock is held across an await, and none while the budget is called.

mod budget;
pub mod entry;
pub mod fill;
pub mod flight;
mod gears;
mod index;
mod packed;
mod reload;
mod room;
mod sync;
mod through;
mod unsettled;
mod write;

pub use budget::FillMemory;
pub use entry::{Entry, EntryRef, Identity};
pub use index::{Found, Token};
pub use packed::{Gained, Text};
pub use through::{Before, Target};
pub use write::{OpenWrite, WriteEnd, WriteGuard};

use crate::config::runtime::Config;
use crate::core::consistency::gate::{Alone, Published};
use crate::core::consistency::write::Ended;
use crate::core::http::stored::Meta;
use crate::core::policy::Policy;
use crate::core::reason::NotStored;
use crate::core::time::{MonoTime, Span};
use crate::world::World;
use budget::Budget;
use entry::SharedHead;
use flight::Flights;
use gears::Gears;
use index::Index;
use room::Room;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use unsettled::UnsettledList;

/// The share of `max_memory` that fills in flight may take; entries have the rest. A fill that finds no memory is passed on unstored.
const FILL_SHARE: u64 = 4;

/// More than this many and the whole upstream is unsettled instead (CONSISTENCY.md section 2): about 20 MB of paths.
const MAX_UNSETTLED: usize = 100_000;

/// The store of one process.
pub struct Store {
    index: Arc<Index>,
    budget: Budget,
    fill_memory: Arc<FillMemory>,
    flights: Arc<Flights>,
    unsettled: UnsettledList,
    gears: Gears,
    /// A write ended unknown where no settling time is kept: nobody can say when it will be over.
    untracked: AtomicBool,
    /// When a write last ended unknown, in microseconds; zero: none has.
    last_unknown: AtomicU64,
    /// Counts purges; told to who asked for one.
    epoch: AtomicU64,
    world: World,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("usage", &self.usage())
            .finish_non_exhaustive()
    }
}

/// A resource or a tag by the digest of its name, with the upstream it lives on: what the gate has records of.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceId {
    /// Keyed digest of upstream and path, or of upstream and tag (`core::key`).
    pub digest: u128,
    /// `config::runtime::Upstream::id`.
    pub upstream: usize,
}

/// What the store holds.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Entries in service.
    pub entries: u64,
    /// Their memory, with keys, heads and bookkeeping, and that of fills in flight, in bytes.
    pub bytes: u64,
    /// Entries evicted since the start.
    pub evictions: u64,
}

/// What a purge does to the entries it covers. Either kind refuses every fill in flight.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Purge {
    /// Takes them out of service.
    Hard,
    /// Ends their freshness, and their proof on strong routes: the next read asks the origin, and only a window for stale answers,
    /// counted from here, may still serve them.
    Soft,
}

/// What a purge did.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Purged {
    /// Entries taken out of service, or marked stale that no soft purge had marked before.
    pub entries: u64,
    /// The purge's number.
    pub epoch: u64,
}

/// A resource that a write left unsettled, as `/status` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsettledResource {
    /// The upstream's id.
    pub upstream: usize,
    /// Its path as sent to the node; none when so many are unsettled that the whole upstream is.
    pub path: Option<String>,
    /// How long it will be so; none while the abandoned write's connection is open.
    pub remaining: Option<Span>,
}

impl Store {
    /// An empty store of the configured size.
    #[must_use]
    pub fn new(config: &Config, world: &World) -> Arc<Self> {
        Self::with_bound(config, world, MAX_UNSETTLED)
    }

    fn with_bound(config: &Config, world: &World, max_unsettled: usize) -> Arc<Self> {
        let fills = config.cache.max_memory / FILL_SHARE;
        let index = Arc::new(Index::default());
        let settle_after = config
            .upstreams
            .iter()
            .map(|u| u.settle_after.map(Span::from))
            .collect();
        Arc::new(Self {
            budget: Budget::new(
                config.cache.max_memory - fills,
                Arc::clone(&index),
                world.entropy.repeats(),
            ),
            index,
            fill_memory: Arc::new(FillMemory::new(fills)),
            flights: Arc::new(Flights::default()),
            unsettled: UnsettledList::new(settle_after, max_unsettled),
            gears: Gears::new(config),
            untracked: AtomicBool::new(false),
            last_unknown: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            world: world.clone(),
        })
    }

    /// The variants stored under a key, and whether a write disturbs the resource. The hit path: one shard read lock, no write but its count.
    #[must_use]
    pub fn lookup(&self, now: MonoTime, resource: ResourceId, digest: u128, key: &[u8]) -> Found {
        let mut found = self.index.lookup(now, resource.digest, digest, key);
        found.disturbed |= self.unsettled.whole_upstream(now, resource.upstream).is_some();
        found
    }

    /// Tells the judge of what stays that an entry was used; one in some calls is passed on.
    pub fn touched(&self, entry: &EntryRef) {
        self.budget.touched(entry);
    }

    /// The memory fills in flight account to.
    #[must_use]
    pub fn fill_memory(&self) -> &Arc<FillMemory> {
        &self.fill_memory
    }

    /// Fetches under way.
    #[must_use]
    pub fn flights(&self) -> &Arc<Flights> {
        &self.flights
    }

    /// A fill begins: from here until it is published or dropped, a write or purge kills its token (R1). `can_prove`: the route's
    /// gear could prove what it brings (R2): weak, eventual, or strong in exclusive gear.
    pub fn register(&self, now: MonoTime, resource: ResourceId, can_prove: bool) -> Token {
        let mut token = Index::register(&self.index, now, resource, can_prove);
        // After the record: a write makes the upstream unsettled before it ends, so that one of the two looks sees it.
        if self.unsettled.whole_upstream(now, resource.upstream).is_some() {
            token.unprove();
        }
        token
    }

    /// A fill is complete: puts its entry in service if its token is alive (R1) and, for a 304, the entry it was sent for is still listed (R5).
    ///
    /// # Errors
    /// Why it was refused.
    pub fn publish(&self, token: Token, entry: &EntryRef, validated: Option<&EntryRef>) -> Result<(), NotStored> {
        match self.index.publish(token, entry, validated) {
            Published::Listed { replaced } => {
                let mut succeeds = false;
                for old in &replaced {
                    if old.place() == entry.place() {
                        succeeds = true;
                    } else {
                        self.budget.remove(old);
                    }
                }
                if succeeds {
                    self.budget.touched(entry);
                    return Ok(());
                }
                self.settle_fill_of(entry);
                self.budget.insert(entry);
                Ok(())
            }
            Published::Refused(why) => Err(why),
        }
    }

    /// What the entry of a fill shares with it is the entry's to account for from here on; of what it has a copy of, the fill is the owner.
    fn settle_fill_of(&self, entry: &EntryRef) {
        if let Some(body) = entry.body_apart() {
            self.fill_memory.settle(body);
        }
    }

    /// A number for a new entry.
    #[must_use]
    pub fn next_entry_id(&self) -> u64 {
        self.index.next_entry_id()
    }

    /// A write begins on these resources (R1, R3). The guard ends it as unknown when it is dropped: a panic or a cancelled
    /// task must not look like an answer.
    pub fn begin_write(self: &Arc<Self>, resources: Vec<(ResourceId, String)>) -> WriteGuard {
        self.begin_each(resources, |_, _, _| {})
    }

    /// `told` of each resource: what is no longer in service there, and whether the write is the only one.
    fn begin_each(
        self: &Arc<Self>,
        mut resources: Vec<(ResourceId, String)>,
        mut told: impl FnMut(ResourceId, Vec<EntryRef>, Option<Alone>),
    ) -> WriteGuard {
        let now = self.now();
        resources.sort();
        resources.dedup_by_key(|(resource, _)| *resource);
        for (resource, _) in &resources {
            // In key order, one at a time.
            let exclusive = self.gears.any_exclusive(resource.upstream);
            let (gone, alone) = self.index.write_begins(now, *resource, exclusive);
            self.retire(&gone);
            told(*resource, gone, alone);
        }
        WriteGuard::new(Arc::clone(self), resources)
    }

    /// Whether a strong route is in exclusive gear now. After a start without proof that nothing was abandoned it is not yet.
    #[must_use]
    pub fn is_exclusive(&self, now: MonoTime, upstream: usize, policy: &Policy) -> bool {
        policy.is_exclusive() && self.gears.may_prove(now, upstream)
    }

    /// The previous process may have abandoned writes: exclusive routes are in validate gear until their settling time is over.
    pub fn distrust_the_past(&self, now: MonoTime) {
        self.gears.wait(now);
    }

    /// Whether any write is pending or unsettled: what a clean stop must be free of.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        let now = self.now();
        !self.untracked.load(Ordering::Acquire)
            && self.index.is_quiet(now)
            && self.gears.is_quiet(now)
            && self.unsettled.is_quiet(now)
    }

    /// The operator's word that nothing abandoned will be applied to these resources any more (R19). Returns how many were unsettled.
    pub fn settle(&self, resources: &[ResourceId]) -> u64 {
        let now = self.now();
        let mut settled = 0;
        for resource in resources {
            self.index.killing(*resource);
            settled += u64::from(self.index.settle(now, resource.digest));
        }
        self.sweep();
        settled
    }

    /// Drops what an answer named (R12): tokens killed, entries out of service.
    pub fn drop_resource(&self, resource: ResourceId) -> u64 {
        self.index.killing(resource);
        self.retire(&self.index.drop_all(self.now(), resource.digest))
    }

    /// The same for a tag, or those of its entries that `covers` names.
    pub fn drop_tag(&self, tag: ResourceId, covers: impl Fn(&Entry) -> bool) -> u64 {
        self.retire(&self.index.purge(self.now(), tag, covers))
    }

    /// An answer of the origin differs from what is stored (R12b).
    pub fn differs(&self, resource: ResourceId, keep: Option<&Token>) {
        let gone = self.index.differs(self.now(), resource.digest, keep.map(Token::id));
        self.retire(&gone);
    }

    /// Purges the entries of these resources that `covers` names; every fill of them in flight is refused.
    pub fn purge(&self, how: Purge, resources: &[ResourceId], covers: impl Fn(&Entry) -> bool) -> Purged {
        let now = self.now();
        let entries = resources.iter().map(|resource| match how {
            Purge::Hard => self.retire(&self.index.purge(now, *resource, &covers)),
            Purge::Soft => {
                self.index.killing(*resource);
                self.index.soften_where(now, resource.digest, &covers)
            }
        });
        self.purged(entries.sum())
    }

    /// Purges the entries that `covers` names, wherever they are. Every fill in flight is refused, whatever it fetches; one that
    /// registers during the scan is a later fetch (R12a).
    pub fn purge_everywhere(&self, how: Purge, covers: impl Fn(&Entry) -> bool) -> Purged {
        let now = self.now();
        self.purged(match how {
            Purge::Hard => self.retire(&self.index.drop_everywhere(now, covers)),
            Purge::Soft => self.index.soften_everywhere(now, covers),
        })
    }

    fn purged(&self, entries: u64) -> Purged {
        Purged {
            entries,
            epoch: self.epoch.fetch_add(1, Ordering::Relaxed) + 1,
        }
    }

    /// What is held.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let (entries, bytes) = self.index.usage();
        Usage {
            entries,
            bytes: bytes + self.fill_memory.used(),
            evictions: self.index.evictions(),
        }
    }

    /// Resources that a write left unsettled.
    #[must_use]
    pub fn unsettled(&self) -> Vec<UnsettledResource> {
        let now = self.now();
        self.unsettled.list(now, |digest| self.index.unsettled(now, digest))
    }

    /// Forgets resources whose settling time is over. Called every few seconds by the owner of background work.
    pub fn sweep(&self) {
        let now = self.now();
        // A write that is noted but not yet ended still counts as a writer, so it is never forgotten in between.
        for resource in self.unsettled.sweep(|digest| self.index.is_disturbed(now, digest)) {
            self.index.killing(resource); // a fill that began while it was unsettled is still not to be listed under it
            self.index.tidy(now, resource.digest);
        }
    }

    /// The connection of a write that ended with it open has closed.
    fn write_closed(&self, resources: &[(ResourceId, String)], at: MonoTime) {
        self.note_unknown(at);
        for (resource, _) in resources {
            let settled_at = self.unsettled.settled_at(resource.upstream, at);
            let settled_at = self.unsettled.note_closed(*resource, settled_at);
            self.index.killing(*resource);
            self.index.closed(self.now(), resource.digest, settled_at);
            if self.unsettled.can_unsettle(resource.upstream) {
                self.index.has_closed(*resource, settled_at);
            }
        }
    }

    fn end_write(&self, resources: &[(ResourceId, String)], end: WriteEnd, mine: Option<&Token>) {
        let now = self.now();
        self.note_end(now, end);
        for (resource, path) in resources {
            let unsettles = self.unsettled.can_unsettle(resource.upstream);
            let ended = match end {
                WriteEnd::Applied => Ended::Applied,
                WriteEnd::Rejected => Ended::Rejected,
                WriteEnd::NotSent => Ended::NotSent,
                WriteEnd::UnknownOpen | WriteEnd::Failed if unsettles => Ended::UnknownOpen,
                WriteEnd::Failed => Ended::Failed,
                WriteEnd::UnknownOpen => Ended::Unknown {
                    settled_at: MonoTime::default(),
                },
                WriteEnd::UnknownClosed(at) => Ended::Unknown {
                    settled_at: self.unsettled.settled_at(resource.upstream, at),
                },
            };
            let ended = if unsettles {
                self.unsettled.note(now, *resource, path, ended)
            } else {
                ended
            };
            if !unsettles
                && matches!(
                    end,
                    WriteEnd::UnknownOpen | WriteEnd::UnknownClosed(_) | WriteEnd::Failed
                )
            {
                self.untracked.store(true, Ordering::Release);
            }
            let mine = mine.filter(|token| token.resource() == *resource).map(Token::id);
            let gone = self.index.write_ends(now, *resource, ended, mine);
            self.retire(&gone);
        }
    }

    fn retire(&self, gone: &[EntryRef]) -> u64 {
        gone.iter().for_each(|entry| self.budget.remove(entry));
        gone.len() as u64
    }

    fn now(&self) -> MonoTime {
        self.world.clock.mono()
    }
}

/// Builds the entry that a 304 makes of `old` when it changes no field.
#[must_use]
pub fn renewed_entry(id: u64, old: &EntryRef, meta: Meta) -> EntryRef {
    EntryRef::renewed(id, old, meta)
}

/// Builds the entry of a completed fill.
#[must_use]
pub fn new_entry(id: u64, identity: Identity, head: SharedHead, body: bytes::Bytes) -> EntryRef {
    EntryRef::new(id, identity, head, body)
}

#[cfg(test)]
mod tests;

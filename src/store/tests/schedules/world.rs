//! Two resources with one tag, their origin, and those who write, read, purge and evict; with one step taken wrongly if asked.
//!
//! The judge's own counts are the standard library's atomics, which are no place to go elsewhere: what follows another without a step of
//! shuttle's in between happens with it.

use super::entry::{EntryRef, Head, Identity};
use super::index::{Index, Token};
use crate::core::consistency::gate::Published;
use crate::core::consistency::write::Ended;
use crate::core::key::{KeySecret, tag_digest};
use crate::core::time::MonoTime;
use crate::store::ResourceId;
use crate::store::tests::head;
use bytes::Bytes;
use shuttle::rand::Rng as _;
use shuttle::sync::atomic::AtomicU64 as Scheduled;
use shuttle::thread;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

/// Ticks from the close of an abandoned write until it is settled. Whatever is registered is a tick.
const SETTLE: u64 = 4;

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Gear {
    /// Entries go when a write begins, only proven ones are hits, and all reads are linearizable.
    Exclusive,
    /// Entries go when a write ends, any is a hit, and none is older than an acknowledged write.
    Stored,
}

/// What is done wrongly.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Off {
    /// A fill is published under a token of that moment.
    Token,
    /// An entry is listed under its tags when it is in service already.
    TagsFirst,
    /// A tag's kill is noted after its record was locked.
    KillFirst,
    /// A hit does not look at the flag.
    Flag,
    /// The write is acknowledged before it ends.
    EndFirst,
    /// An unknown write is counted out in one step and its time raised in the next.
    EndInOneStep,
    /// Entries of exclusive gear stay until the write ends.
    BeginRevokes,
}

#[derive(Default)]
struct Truth {
    /// What the origin has: the number of writes applied.
    origin: Scheduled,
    /// What a read that begins now must not be older than.
    floor: AtomicU64,
    /// Purges that cover it, begun and ended.
    begun: AtomicU64,
    ended: AtomicU64,
}

pub(super) struct World {
    gear: Gear,
    off: Option<Off>,
    index: Arc<Index>,
    clock: AtomicU64,
    resources: [Truth; 2],
    hits: AtomicU64,
    listed: AtomicU64,
    refused: AtomicU64,
    revoked: AtomicU64,
    faults: Mutex<Vec<String>>,
}

fn resource(n: usize) -> ResourceId {
    ResourceId {
        digest: 2 * (n as u128 + 1),
        upstream: 0,
    }
}

fn tag() -> ResourceId {
    ResourceId {
        digest: tag_digest(KeySecret(1, 2), 0, "t").0,
        upstream: 0,
    }
}

fn key(n: usize) -> Arc<[u8]> {
    Arc::from([u8::try_from(n).unwrap()])
}

fn below(n: u64) -> u64 {
    shuttle::rand::thread_rng().gen_range(0..n)
}

fn which() -> usize {
    usize::try_from(below(2)).unwrap()
}

/// A body: the value, and how many purges had begun when its fill was registered.
fn told(value: u64, begun: u64) -> Bytes {
    Bytes::from([value.to_be_bytes(), begun.to_be_bytes()].concat())
}

fn read(entry: &EntryRef) -> (u64, u64) {
    let (value, begun) = entry.body_bytes().split_at(8);
    (
        u64::from_be_bytes(value.try_into().unwrap()),
        u64::from_be_bytes(begun.try_into().unwrap()),
    )
}

impl World {
    pub(super) fn new(gear: Gear, off: Option<Off>) -> Arc<Self> {
        Arc::new(Self {
            gear,
            off,
            index: Arc::new(Index::default()),
            clock: AtomicU64::new(1),
            resources: Default::default(),
            hits: AtomicU64::new(0),
            listed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            revoked: AtomicU64::new(0),
            faults: Mutex::default(),
        })
    }

    pub(super) fn hits(&self) -> u64 {
        self.hits.load(SeqCst)
    }

    pub(super) fn listed(&self) -> u64 {
        self.listed.load(SeqCst)
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused.load(SeqCst)
    }

    /// Entries that were found in service and revoked before they were looked at (R23).
    pub(super) fn revoked(&self) -> u64 {
        self.revoked.load(SeqCst)
    }

    /// The first fault that is told with these words.
    pub(super) fn fault(&self, words: &str) -> Option<String> {
        let faults = self.faults.lock().unwrap();
        faults.iter().find(|fault| fault.contains(words)).cloned()
    }

    fn is_off(&self, step: Off) -> bool {
        self.off == Some(step)
    }

    fn now(&self) -> MonoTime {
        MonoTime::from_micros(self.clock.load(SeqCst))
    }

    fn wrong(&self, what: String) {
        self.faults.lock().unwrap().push(what);
    }

    /// All of them, until they have ended.
    pub(super) fn live(self: &Arc<Self>) {
        let work: [fn(&Self); 6] = [
            |w| w.write(),
            |w| w.write(),
            |w| (0..3).for_each(|_| w.get(which())),
            |w| (0..3).for_each(|_| w.get(which())),
            |w| (0..2).for_each(|_| w.purge()),
            |w| w.evict(),
        ];
        let threads: Vec<_> = work
            .into_iter()
            .map(|work| {
                let world = Arc::clone(self);
                thread::spawn(move || work(&world))
            })
            .collect();
        threads.into_iter().for_each(|t| t.join().unwrap());
        self.drain();
    }

    /// When everything is gone, nothing is left (R4).
    fn drain(&self) {
        self.clock.fetch_add(10 * SETTLE, SeqCst);
        self.index.drop_everywhere(self.now(), |_| true);
        for record in [resource(0), resource(1), tag()] {
            self.index.tidy(self.now(), record.digest);
        }
        let (records, usage) = (self.index.records(), self.index.usage());
        if records > 0 || usage != (0, 0) {
            self.wrong(format!("{records} records are left, and {usage:?}"));
        }
    }

    // Writers.

    /// A write to one resource, which may declare the tag: it changes both resources then.
    fn write(&self) {
        let (first, declares) = (which(), below(2) == 0);
        let changed: Vec<usize> = if declares { vec![0, 1] } else { vec![first] };
        let mut records = vec![resource(first)];
        if declares {
            records.push(tag());
        }
        records.sort();
        let exclusive = self.gear == Gear::Exclusive && !self.is_off(Off::BeginRevokes);
        for record in &records {
            self.index.write_begins(self.now(), *record, exclusive);
        }
        match below(4) {
            0 => self.end(&records, Ended::Rejected),
            1 => self.lose(&records, &changed),
            _ => {
                let values: Vec<u64> = changed.iter().map(|n| self.apply(*n)).collect();
                (0..below(24)).for_each(|_| thread::yield_now()); // the answer is on its way
                let ack = || {
                    changed
                        .iter()
                        .zip(&values)
                        .for_each(|(n, value)| self.raise(*n, *value))
                };
                if self.is_off(Off::EndFirst) {
                    ack();
                }
                self.end(&records, Ended::Applied);
                ack();
            }
        }
    }

    /// Nobody learns what became of it: it may be applied before the settling time is over.
    fn lose(&self, records: &[ResourceId], changed: &[usize]) {
        let settled_at = MonoTime::from_micros(self.clock.load(SeqCst) + SETTLE);
        if self.is_off(Off::EndInOneStep) {
            for record in records {
                self.index.write_ends(self.now(), *record, Ended::Applied, None);
                self.index.closed(self.now(), record.digest, settled_at);
            }
        } else {
            self.end(records, Ended::Unknown { settled_at });
        }
        for n in changed {
            (0..below(12)).for_each(|_| thread::yield_now());
            if self.now() < settled_at {
                self.apply(*n);
            }
        }
    }

    fn end(&self, records: &[ResourceId], ended: Ended) {
        for record in records {
            self.index.write_ends(self.now(), *record, ended, None);
        }
    }

    fn apply(&self, n: usize) -> u64 {
        self.resources[n].origin.fetch_add(1, SeqCst) + 1
    }

    fn raise(&self, n: usize, value: u64) {
        self.resources[n].floor.fetch_max(value, SeqCst);
    }

    // Readers.

    fn get(&self, n: usize) {
        let truth = &self.resources[n];
        let (floor, purged) = (truth.floor.load(SeqCst), truth.ended.load(SeqCst));
        let found = self
            .index
            .lookup(self.now(), resource(n).digest, resource(n).digest, &key(n));
        let passes = below(4) == 0; // a request that wants an answer of the origin's
        let is_usable = |e: &&EntryRef| !passes && (self.gear == Gear::Stored || e.facts().proven);
        let mut usable = found.variants.iter().filter(is_usable);
        let value = match usable.next() {
            Some(entry) if self.is_off(Off::Flag) || entry.is_in_service() => {
                self.hits.fetch_add(1, SeqCst);
                let (value, begun) = read(entry);
                if begun < purged {
                    self.wrong(format!("/{n}: fetched after {begun} purges, read after {purged}"));
                }
                value
            }
            stale => {
                self.revoked.fetch_add(u64::from(stale.is_some()), SeqCst);
                self.fill(n)
            }
        };
        if value < floor {
            self.wrong(format!("/{n}: {value} was read, and {floor} was known"));
        }
        if self.gear == Gear::Exclusive {
            self.raise(n, value);
        }
    }

    fn register(&self, n: usize) -> (Token, MonoTime) {
        let now = MonoTime::from_micros(self.clock.fetch_add(1, SeqCst) + 1);
        (Index::register(&self.index, now, resource(n), true), now)
    }

    fn fill(&self, n: usize) -> u64 {
        let twin = self.is_off(Off::TagsFirst).then(|| self.register(n).0);
        let (token, sent) = self.register(n);
        let begun = self.resources[n].begun.load(SeqCst);
        let value = self.resources[n].origin.load(SeqCst);
        let crate::store::entry::Head { mut meta, headers } = head(sent);
        meta.proven = token.is_provable();
        let identity = Identity {
            resource: resource(n),
            digest: resource(n).digest,
            key: key(n),
            tags: [tag().digest].into(),
        };
        let entry = EntryRef::new(
            self.index.next_entry_id(),
            identity,
            Arc::new(Head { meta, headers }),
            told(value, begun),
        );
        match self.publish(n, token, twin, &entry) {
            Published::Listed { .. } => self.listed.fetch_add(1, SeqCst),
            Published::Refused(_) => self.refused.fetch_add(1, SeqCst),
        };
        value
    }

    fn publish(&self, n: usize, token: Token, twin: Option<Token>, entry: &EntryRef) -> Published<EntryRef> {
        if self.is_off(Off::Token) {
            drop(token);
            return self.index.publish(self.register(n).0, entry, None);
        }
        let Some(twin) = twin else {
            return self.index.publish(token, entry, None);
        };
        let published = self.index.put_in_service(token, entry, None);
        if matches!(published, Published::Listed { .. })
            && let Err(why) = self.index.list(tag().digest, &twin, entry)
        {
            self.index
                .evict(resource(n).digest, entry.key_digest(), entry.short_place());
            return self.index.refuse(entry, why);
        }
        published
    }

    // Purges.

    fn purge(&self) {
        let covered: Vec<usize> = match below(3) {
            0 => vec![which()],
            _ => vec![0, 1],
        };
        let count = |of: fn(&Truth) -> &AtomicU64| {
            for n in &covered {
                of(&self.resources[*n]).fetch_add(1, SeqCst);
            }
        };
        count(|truth| &truth.begun);
        match covered.as_slice() {
            [n] => drop(self.index.purge(self.now(), resource(*n), |_| true)),
            _ if self.is_off(Off::KillFirst) => {
                self.index.drop_where(self.now(), tag().digest, |_| true);
                self.index.killing(tag());
            }
            _ => drop(self.index.purge(self.now(), tag(), |_| true)),
        }
        count(|truth| &truth.ended);
    }

    fn evict(&self) {
        for n in 0..2 {
            thread::yield_now();
            let digest = resource(n).digest;
            for entry in self.index.lookup(self.now(), digest, digest, &key(n)).variants {
                self.index.evict(digest, digest, entry.short_place());
            }
        }
    }
}

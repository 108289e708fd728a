//! The store as its users see it: what a write, a purge and the budget do to what is stored, also while other threads are at it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use crate::config::runtime as conf;
use crate::core::http::stored::{Etag, Meta, Stored, Vary};
use crate::core::time::WallTime;
use crate::store::entry::Head;
use crate::world::Clock;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::sync::Barrier;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

mod budget;
mod kills;
mod pieces;
mod schedules;
mod tagged;
mod threads;

/// A clock that is moved by hand.
#[derive(Debug, Default)]
pub(super) struct HandClock(AtomicU64);

impl HandClock {
    fn forward(&self, ms: u64) {
        self.0.fetch_add(ms * 1000, Ordering::SeqCst);
    }
}

impl Clock for HandClock {
    fn mono(&self) -> MonoTime {
        MonoTime::from_micros(self.0.load(Ordering::SeqCst))
    }
    fn wall(&self) -> WallTime {
        WallTime::from_millis(0)
    }
}

const SETTLE_MS: u64 = 30_000;
/// The first upstream settles, the second has no strong route.
const STRONG: usize = 0;
const LOOSE: usize = 1;

fn upstream(id: usize, settle_after: Option<Duration>) -> Arc<conf::Upstream> {
    let plain = conf::Upstream::plain(id, &format!("u{id}"), Vec::new());
    Arc::new(conf::Upstream { settle_after, ..plain })
}

fn config(max_memory: u64) -> Config {
    let none = Duration::ZERO;
    Config {
        server: conf::Server {
            pair: false,
            threads: 1,
            drain_delay: none,
            state_dir: None,
            drain_timeout: none,
            ready_requires: Vec::new(),
        },
        listeners: Vec::new(),
        admin: conf::Admin {
            address: ([127, 0, 0, 1], 0).into(),
            token: None,
            metrics_token: false,
        },
        cache: conf::Cache {
            max_memory,
            max_object: max_memory,
        },
        session: Default::default(),
        telemetry: conf::Telemetry {
            log: String::new(),
            log_format: conf::LogFormat::Text,
            access_log: None,
            meter: None,
        },
        upstreams: vec![
            upstream(STRONG, Some(Duration::from_millis(SETTLE_MS))),
            upstream(LOOSE, None),
        ],
        routes: Vec::new(),
        numbers: Default::default(),
        hash: String::new(),
        effective: Arc::default(),
    }
}

pub(super) struct Bench {
    store: Arc<Store>,
    clock: Arc<HandClock>,
}

impl Bench {
    fn new(max_memory: u64) -> Self {
        Self::with_bound(max_memory, MAX_UNSETTLED)
    }

    fn with_bound(max_memory: u64, max_unsettled: usize) -> Self {
        let clock = Arc::new(HandClock::default());
        clock.forward(1000);
        let world = World {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            ..World::real()
        };
        Self {
            store: Store::with_bound(&config(max_memory), &world, max_unsettled),
            clock,
        }
    }

    fn now(&self) -> MonoTime {
        self.clock.mono()
    }

    fn provable(&self, resource: ResourceId) -> bool {
        self.store.register(self.now(), resource, true).is_provable()
    }

    fn disturbed(&self, n: u64) -> bool {
        self.store.lookup(self.now(), strong(n), digest(n), &key(n)).disturbed
    }

    fn found(&self, n: u64) -> Vec<u64> {
        let found = self.store.lookup(self.now(), strong(n), digest(n), &key(n));
        found.variants.iter().map(EntryRef::number).collect()
    }

    /// Nothing is held: no record, no entry, no byte, nothing in the budget.
    fn is_empty(&self) {
        self.store.sweep();
        let usage = self.store.usage();
        assert_eq!((usage.entries, usage.bytes), (0, 0));
        assert_eq!(self.store.index.records(), 0, "records are left");
        assert_eq!(
            self.store.budget.held(),
            (0, 0),
            "the budget holds what the index does not"
        );
        assert!(self.store.flights.is_empty());
    }
}

fn strong(n: u64) -> ResourceId {
    ResourceId {
        digest: (digest(n) ^ 1) & (u128::MAX >> 1), // a resource, not a tag
        upstream: STRONG,
    }
}

fn loose(n: u64) -> ResourceId {
    ResourceId {
        upstream: LOOSE,
        ..strong(n)
    }
}

/// Spreads over the map's shards as a keyed digest does.
fn digest(n: u64) -> u128 {
    u128::from(n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
}

fn key(n: u64) -> Arc<[u8]> {
    format!("http://x/{n}").into_bytes().into()
}

fn head(sent: MonoTime) -> Head {
    let meta = Meta {
        status: StatusCode::OK,
        part: None,
        sent,
        epoch: crate::core::failover::view::Epoch(0),
        received: sent,
        initial_age: Span::ZERO,
        lifetime: Span::from_secs(60),
        valid_as_of: sent,
        stale_while_revalidate: Span::ZERO,
        stale_if_error: None,
        must_revalidate: false,
        no_cache: false,
        etag: None,
        last_modified: None,
        date: WallTime::from_millis(0),
        vary: Vary::Any,
        shareable: true,
        proven: false,
    };
    Head {
        meta,
        headers: HeaderMap::new(),
    }
}

fn entry_with(
    store: &Store,
    resource: ResourceId,
    n: u64,
    key: Arc<[u8]>,
    mut head: Head,
    body: &[u8],
    proven: bool,
) -> EntryRef {
    head.meta.proven = proven;
    let identity = Identity {
        resource,
        digest: digest(n),
        key,
        tags: Box::default(),
    };
    new_entry(
        store.next_entry_id(),
        identity,
        Arc::new(head),
        Bytes::copy_from_slice(body),
    )
}

/// The same with tags.
fn entry_tagged(store: &Store, n: u64, tags: &[ResourceId], at: MonoTime, proven: bool) -> EntryRef {
    let mut head = head(at);
    head.meta.proven = proven;
    let mut tags: Vec<u128> = tags.iter().map(|tag| tag.digest).collect();
    tags.sort_unstable();
    let identity = Identity {
        resource: strong(n),
        digest: digest(n),
        key: key(n),
        tags: tags.into(),
    };
    new_entry(
        store.next_entry_id(),
        identity,
        Arc::new(head),
        Bytes::from_static(b"body"),
    )
}

/// Registers, builds and publishes; the entry, whether it is in service or not.
fn put(bench: &Bench, n: u64) -> Result<EntryRef, NotStored> {
    let token = bench.store.register(bench.now(), strong(n), true);
    let entry = entry_with(
        &bench.store,
        strong(n),
        n,
        key(n),
        head(bench.now()),
        b"body",
        token.is_provable(),
    );
    bench.store.publish(token, &entry, None).map(|()| entry)
}

fn named(n: u64) -> Vec<(ResourceId, String)> {
    vec![(strong(n), format!("/{n}"))]
}

const ROOM: u64 = 1 << 30;

#[test]
fn what_is_published_is_found_until_a_write_ends() {
    let bench = Bench::new(ROOM);
    let entry = put(&bench, 1).unwrap();
    assert_eq!(bench.found(1), [entry.number()]);
    assert!(entry.is_proven());
    let usage = bench.store.usage();
    assert_eq!((usage.entries, usage.bytes), (1, u64::from(entry.weight())));
    let other = bench
        .store
        .lookup(bench.now(), strong(1), digest(1), b"another key of the same digest");
    assert!(other.variants.is_empty(), "a digest alone never decides");

    let write = bench.store.begin_write(named(1));
    assert!(bench.disturbed(1));
    assert_eq!(bench.found(1), [entry.number()], "nothing is acked yet");
    write.end(WriteEnd::Applied);
    assert!(entry.is_revoked());
    assert!(bench.found(1).is_empty());
    assert!(!bench.disturbed(1));
    bench.is_empty();
}

#[test]
fn r1_a_fill_in_flight_is_not_stored_after_a_write_or_a_purge() {
    type Step = fn(&Bench);
    let steps: [(&str, Step); 8] = [
        ("a write", |b| {
            drop(b.store.begin_write(named(1)).end(WriteEnd::Rejected))
        }),
        ("a purge", |b| {
            assert_eq!(b.store.purge(Purge::Hard, &[strong(1)], |_| false).entries, 0)
        }),
        ("a purge of everything", |b| {
            assert_eq!(b.store.purge_everywhere(Purge::Hard, |_| true).entries, 0)
        }),
        ("a soft purge", |b| {
            assert_eq!(b.store.purge(Purge::Soft, &[strong(1)], |_| true).entries, 0)
        }),
        ("a purge of something else, which may be anywhere", |b| {
            assert_eq!(b.store.purge_everywhere(Purge::Hard, |_| false).entries, 0)
        }),
        ("a soft one", |b| {
            assert_eq!(b.store.purge_everywhere(Purge::Soft, |_| false).entries, 0)
        }),
        ("an effect named by an answer", |b| {
            assert_eq!(b.store.drop_resource(strong(1)), 0)
        }),
        ("an answer that differs", |b| b.store.differs(strong(1), None)),
    ];
    for (name, step) in steps {
        let bench = Bench::new(ROOM);
        let token = bench.store.register(bench.now(), strong(1), true);
        let entry = entry_with(&bench.store, strong(1), 1, key(1), head(bench.now()), b"", true);
        assert!(token.is_alive());
        step(&bench);
        assert!(!token.is_alive(), "{name}");
        assert_eq!(
            bench.store.publish(token, &entry, None),
            Err(NotStored::TokenDead),
            "{name}"
        );
        bench.is_empty();
    }
}

#[test]
fn r5_a_304_takes_the_place_of_the_entry_it_was_sent_for() {
    let bench = Bench::new(ROOM);
    let old = put(&bench, 1).unwrap();
    let fresh = || entry_with(&bench.store, strong(1), 1, key(1), head(bench.now()), b"body", true);
    let token = bench.store.register(bench.now(), strong(1), true);
    let new = fresh();
    assert_eq!(bench.store.publish(token, &new, Some(&old)), Ok(()));
    assert_eq!(bench.found(1), [new.number()]);
    let token = bench.store.register(bench.now(), strong(1), true);
    assert_eq!(
        bench.store.publish(token, &fresh(), Some(&old)),
        Err(NotStored::TokenDead),
        "the old one is gone"
    );
    assert_eq!(bench.store.purge_everywhere(Purge::Hard, |_| true).entries, 1);
    bench.is_empty();
}

#[test]
fn a_purge_of_one_query_spares_the_others_and_counts_up() {
    let bench = Bench::new(ROOM);
    let stored: Vec<EntryRef> = (0..3)
        .map(|n| {
            let token = bench.store.register(bench.now(), strong(0), true);
            let entry = entry_with(&bench.store, strong(0), n, key(n), head(bench.now()), b"", true);
            bench.store.publish(token, &entry, None).unwrap();
            entry
        })
        .collect();
    let purged = bench
        .store
        .purge(Purge::Hard, &[strong(0), strong(77)], |e| *e.key() == *key(1));
    assert_eq!(purged, Purged { entries: 1, epoch: 1 });
    assert_eq!(
        stored.iter().map(|e| e.is_revoked()).collect::<Vec<_>>(),
        [false, true, false]
    );
    assert_eq!(
        bench.store.purge_everywhere(Purge::Hard, |_| true),
        Purged { entries: 2, epoch: 2 }
    );
    bench.is_empty();
}

#[test]
fn a_soft_purge_marks_what_it_covers_once_and_for_as_long_as_it_is_stored() {
    for everywhere in [false, true] {
        let bench = Bench::new(ROOM);
        let (one, two) = (put(&bench, 1).unwrap(), put(&bench, 2).unwrap());
        let soften = || match everywhere {
            true => bench.store.purge_everywhere(Purge::Soft, |e| *e.key() == *key(1)),
            false => bench.store.purge(Purge::Soft, &[strong(1)], |_| true),
        };
        bench.clock.forward(20_000);
        let purged_at = bench.now();
        assert_eq!(soften(), Purged { entries: 1, epoch: 1 });
        assert_eq!(one.softened(), Some(purged_at));
        assert_eq!(
            Stored::lifetime(&one),
            Span::from_secs(20),
            "as old as it was then, not the 60 s it was stored with"
        );
        assert!(!one.is_proven() && !one.is_revoked());
        assert_eq!(
            (bench.found(1), bench.found(2)),
            (vec![one.number()], vec![two.number()])
        );
        assert!(two.softened().is_none() && two.is_proven());
        // The mark has no lifetime of its own, and a second purge does not open a new window.
        bench.clock.forward(10 * 365 * 86_400_000);
        assert_eq!(soften(), Purged { entries: 0, epoch: 2 });
        assert_eq!(one.softened(), Some(purged_at));
        // What takes its place was fetched later.
        let new = put(&bench, 1).unwrap();
        assert!(new.softened().is_none() && one.is_revoked());
        assert_eq!(bench.store.purge_everywhere(Purge::Hard, |_| true).entries, 2);
        bench.is_empty();
    }
}

#[test]
fn r11_a_write_that_is_dropped_has_an_unknown_outcome() {
    let bench = Bench::new(ROOM);
    let entry = put(&bench, 1).unwrap();
    drop(bench.store.begin_write(named(1)));
    assert!(entry.is_revoked());
    assert!(bench.disturbed(1));
    assert!(!bench.provable(strong(1)));
    let listed = UnsettledResource {
        upstream: STRONG,
        path: Some("/1".to_owned()),
        remaining: Some(Span::from_millis(SETTLE_MS)),
    };
    assert_eq!(bench.store.unsettled(), [listed]);
    bench.clock.forward(SETTLE_MS - 1);
    assert!(bench.disturbed(1));
    bench.clock.forward(1);
    assert!(!bench.disturbed(1) && bench.provable(strong(1)));
    assert_eq!(bench.store.unsettled(), []);
    bench.is_empty();
}

#[test]
fn r19_a_write_is_unsettled_while_its_connection_is_open_and_for_the_settling_time_after() {
    let bench = Bench::new(ROOM);
    let open = bench.store.begin_write(named(1)).end(WriteEnd::UnknownOpen);
    assert!(open.is_some());
    bench.clock.forward(100 * SETTLE_MS);
    bench.store.sweep();
    assert!(bench.disturbed(1));
    assert_eq!(bench.store.unsettled()[0].remaining, None);
    drop(open);
    bench.clock.forward(SETTLE_MS - 1);
    bench.store.sweep();
    assert!(bench.disturbed(1));
    bench.clock.forward(1);
    assert!(!bench.disturbed(1));
    bench.is_empty();
}

#[test]
fn an_upstream_without_strong_routes_never_unsettles() {
    let bench = Bench::new(ROOM);
    let name = || vec![(loose(1), "/1".to_owned())];
    drop(bench.store.begin_write(name()));
    assert!(bench.provable(loose(1)));
    let open = bench.store.begin_write(name()).end(WriteEnd::UnknownOpen);
    assert!(bench.provable(loose(1)));
    drop(open);
    assert_eq!(bench.store.unsettled(), []);
    bench.is_empty();
}

#[test]
fn r4_a_record_that_was_unsettled_once_goes_with_its_last_entry_or_fill() {
    let bench = Bench::new(ROOM);
    drop(bench.store.begin_write(named(1)));
    let entry = put(&bench, 1).unwrap();
    drop(bench.store.begin_write(named(2)));
    let token = bench.store.register(bench.now(), strong(2), true);
    bench.clock.forward(SETTLE_MS);
    bench.store.sweep();
    assert_eq!(bench.store.index.records(), 2, "an entry pins one, a fill the other");
    drop(token);
    bench
        .store
        .index
        .evict(strong(1).digest, digest(1), entry.short_place());
    assert_eq!(bench.store.index.records(), 0);
}

#[test]
fn when_too_many_resources_are_unsettled_their_whole_upstream_is_and_no_record_is_left_behind() {
    let bench = Bench::with_bound(ROOM, 10);
    for n in 0..10 {
        drop(bench.store.begin_write(named(n)));
    }
    assert!(bench.provable(strong(99)), "the list has just room enough");
    drop(bench.store.begin_write(named(3)));
    assert!(
        bench.provable(strong(99)),
        "a resource takes one place, however often it is written"
    );
    for n in 10..1000 {
        drop(bench.store.begin_write(named(n)));
    }
    assert!(!bench.provable(strong(99)) && bench.disturbed(99), "the whole upstream");
    assert!(bench.provable(loose(99)), "and no other");
    let listed = bench.store.unsettled();
    assert_eq!(listed[0].path, None, "it says so");
    assert_eq!(listed.len(), 11);
    assert_eq!(bench.store.index.records(), 10, "the bound holds for records too");
    bench.clock.forward(SETTLE_MS);
    assert!(bench.provable(strong(99)) && !bench.disturbed(99));
    bench.is_empty();
}

#[test]
fn r19_beyond_the_bound_an_open_connection_still_counts_until_it_closes_and_settles() {
    let bench = Bench::with_bound(ROOM, 1);
    drop(bench.store.begin_write(named(0)));
    let open = bench.store.begin_write(named(1)).end(WriteEnd::UnknownOpen);
    assert!(open.is_some());
    assert!(!bench.provable(strong(99)), "the whole upstream");
    bench.clock.forward(10 * SETTLE_MS);
    bench.store.sweep();
    assert!(bench.disturbed(1), "the connection is open, however late");
    drop(open);
    assert!(bench.disturbed(1), "its settling time runs from the close");
    bench.clock.forward(SETTLE_MS - 1);
    assert!(bench.disturbed(1));
    bench.clock.forward(1);
    assert!(!bench.disturbed(1));
    bench.is_empty();
}

#[test]
fn a_write_to_one_resource_named_twice_ends_as_often_as_it_began() {
    let bench = Bench::new(ROOM);
    let twice = vec![
        (strong(1), "/1".to_owned()),
        (strong(2), "/2".to_owned()),
        (strong(1), "/1".to_owned()),
    ];
    let write = bench.store.begin_write(twice);
    assert!(bench.disturbed(1) && bench.disturbed(2));
    assert_eq!(write.resources().len(), 2);
    assert!(write.end(WriteEnd::Applied).is_none(), "nothing is open");
    assert!(!bench.disturbed(1) && !bench.disturbed(2));
    bench.is_empty();
}

#[test]
fn an_entry_keeps_no_read_buffer_alive_and_reads_as_it_came_with_its_length() {
    let bench = Bench::new(ROOM);
    let buffer = Bytes::from(b"\"tag\"one two secret".repeat(1000));
    let slice = |from, to| HeaderValue::from_maybe_shared(buffer.slice(from..to)).unwrap();
    let mut head = head(bench.now());
    head.meta.etag = Some(Etag {
        value: slice(0, 5),
        weak: false,
    });
    head.headers.append("etag", slice(0, 5));
    head.headers.append("x-many", slice(5, 8));
    head.headers.append("x-many", slice(9, 12));
    let mut secret = slice(13, 19);
    secret.set_sensitive(true);
    head.headers.append("x-secret", secret);
    let mut expected = head.headers.clone();
    expected.insert("content-length", HeaderValue::from(0));
    let entry = entry_with(&bench.store, strong(1), 1, key(1), head, b"", true);
    assert_eq!(entry.headers(), expected);
    assert!(entry.headers()["x-secret"].is_sensitive());
    assert_eq!(entry.meta().etag.as_ref().unwrap().value, "\"tag\"");
    drop(expected);
    assert!(
        buffer.is_unique(),
        "something still holds the buffer the head was read into"
    );
}

fn entry_of(bench: &Bench, n: u64, body: &Bytes) -> EntryRef {
    let identity = Identity {
        resource: strong(n),
        digest: digest(n),
        key: key(n),
        tags: Box::default(),
    };
    let id = bench.store.next_entry_id();
    new_entry(id, identity, Arc::new(head(bench.now())), body.clone())
}

/// A complete body of this size as a fill brings it, with a reader that has taken none of it.
fn filled(bench: &Bench, len: usize) -> (Bytes, fill::FillReader) {
    let (writer, fill) = fill::channel(Arc::clone(bench.store.fill_memory()), u64::MAX, Duration::from_secs(1));
    let reader = fill.reader().unwrap();
    let mut push = Box::pin(writer.push(Bytes::from(vec![7; len])));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(push.as_mut().poll(&mut cx).is_ready());
    drop(push);
    (writer.finish().unwrap(), reader)
}

#[test]
fn readers_of_stored_bodies_take_nothing_from_later_fills_however_slow_they_are() {
    const LEN: usize = 1 << 20;
    let bench = Bench::new(64 << 20);
    let limit = (64 << 20) / FILL_SHARE;
    let mut slow = Vec::new();
    for n in 0..40 {
        let (body, reader) = filled(&bench, LEN);
        assert_eq!(bench.store.fill_memory().used(), LEN as u64, "complete, not yet listed");
        let token = bench.store.register(bench.now(), strong(n), true);
        let entry = entry_of(&bench, n, &body);
        assert_eq!(bench.store.publish(token, &entry, None), Ok(()));
        assert_eq!(bench.store.fill_memory().used(), 0, "the entry accounts for it");
        slow.push(reader);
    }
    assert!(slow.len() as u64 * LEN as u64 > limit);
    let before = bench.store.usage().bytes;
    let (body, reader) = filled(&bench, LEN);
    let token = bench.store.register(bench.now(), strong(99), true);
    bench.store.purge_everywhere(Purge::Hard, |_| true);
    let entry = entry_of(&bench, 99, &body);
    assert_eq!(bench.store.publish(token, &entry, None), Err(NotStored::TokenDead));
    assert!(
        before > 0 && bench.store.usage().bytes == LEN as u64,
        "what is refused stays accounted for"
    );
    drop(reader);
    bench.is_empty();
}

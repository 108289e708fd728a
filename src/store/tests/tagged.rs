//! Entries in the records of their tags: listed in all or none, and gone from all when they are gone from one.

use super::*;
use crate::core::key::{KeySecret, tag_digest};

fn tag(name: &str) -> ResourceId {
    ResourceId {
        digest: tag_digest(KeySecret(1, 2), STRONG, name).0,
        upstream: STRONG,
    }
}

fn put_tagged(bench: &Bench, n: u64, tags: &[ResourceId]) -> Result<EntryRef, NotStored> {
    let token = bench.store.register(bench.now(), strong(n), true);
    let entry = entry_tagged(&bench.store, n, tags, bench.now(), token.is_provable());
    bench.store.publish(token, &entry, None).map(|()| entry)
}

fn purge(bench: &Bench, name: &str) -> u64 {
    bench.store.purge(Purge::Hard, &[tag(name)], |_| true).entries
}

#[test]
fn r12a_a_purge_by_tag_takes_what_carries_it_and_nothing_else() {
    let bench = Bench::new(ROOM);
    let (a, b) = (tag("a"), tag("b"));
    put_tagged(&bench, 1, &[a]).unwrap();
    put_tagged(&bench, 2, &[a, b]).unwrap();
    put_tagged(&bench, 3, &[b]).unwrap();
    put_tagged(&bench, 4, &[]).unwrap();
    assert_eq!(bench.store.usage().entries, 4);
    let purged = bench.store.purge(Purge::Hard, &[a], |_| true);
    assert_eq!((purged.entries, purged.epoch), (2, 1));
    assert_eq!([1, 2, 3, 4].map(|n| bench.found(n).len()), [0, 0, 1, 1]);
    assert_eq!(purge(&bench, "a"), 0);
    assert_eq!(purge(&bench, "b"), 1);
    assert_eq!(bench.store.usage().entries, 1);
}

#[test]
fn r12a_what_is_unlisted_in_any_way_leaves_the_records_of_its_tags() {
    type Unlists<'a> = &'a dyn Fn(&Bench, &EntryRef);
    let cases: &[(&str, Unlists<'_>)] = &[
        ("a write", &|bench, _| {
            let guard = bench.store.begin_write(named(1));
            drop(guard.end(WriteEnd::Applied));
        }),
        ("what an answer names", &|bench, _| {
            bench.store.drop_resource(strong(1));
        }),
        ("an answer that differs", &|bench, _| {
            bench.store.differs(strong(1), None)
        }),
        ("a purge of its URL", &|bench, _| {
            bench.store.purge(Purge::Hard, &[strong(1)], |_| true);
        }),
        ("a purge of everything", &|bench, _| {
            bench.store.purge_everywhere(Purge::Hard, |_| true);
        }),
        ("a purge of one of its tags", &|bench, _| {
            assert_eq!(purge(bench, "a"), 1);
        }),
        ("a newer answer without tags", &|bench, _| {
            bench.clock.forward(1);
            put_tagged(bench, 1, &[]).unwrap();
            bench.store.drop_resource(strong(1));
        }),
        ("eviction", &|bench, entry| {
            bench
                .store
                .index
                .evict(strong(1).digest, digest(1), entry.short_place());
        }),
    ];
    for (name, unlists) in cases {
        let bench = Bench::new(ROOM);
        let entry = put_tagged(&bench, 1, &[tag("a"), tag("b")]).unwrap();
        assert_eq!(bench.store.index.records(), 3, "{name}");
        unlists(&bench, &entry);
        assert!(entry.is_revoked(), "{name}");
        let usage = bench.store.usage();
        assert_eq!((usage.entries, usage.bytes), (0, 0), "{name}");
        if bench.store.index.records() > 0 {
            // A write to a resource that settles leaves no record behind either.
            bench.store.sweep();
        }
        assert_eq!(bench.store.index.records(), 0, "{name}: a record is left");
    }
}

#[test]
fn r12a_a_fill_that_a_tag_of_its_answer_was_killed_under_is_refused_and_leaves_no_trace() {
    type Kills<'a> = &'a dyn Fn(&Bench);
    let applied = |bench: &Bench| {
        let guard = bench.store.begin_write(vec![(tag("b"), "tag:b".into())]);
        drop(guard.end(WriteEnd::Applied));
    };
    let cases: &[(&str, Kills<'_>)] = &[
        ("a purge", &|bench| {
            purge(bench, "b");
        }),
        ("a soft purge", &|bench| {
            bench.store.purge(Purge::Soft, &[tag("b")], |_| true);
        }),
        ("what a write's answer named", &|bench| {
            bench.store.drop_tag(tag("b"), |_| false);
        }),
        ("a write that declares it", &applied),
    ];
    for (name, kills) in cases {
        let bench = Bench::new(ROOM);
        let (of_it, of_another, of_none) = (
            bench.store.register(bench.now(), strong(1), true),
            bench.store.register(bench.now(), strong(2), true),
            bench.store.register(bench.now(), strong(3), true),
        );
        assert!(of_it.watch().is_provable_and_alive());
        kills(&bench);
        for token in [&of_it, &of_another, &of_none] {
            assert!(
                !token.watch().is_provable_and_alive(),
                "{name}: any may carry it, nobody joins"
            );
        }
        let publish = |token: Token, n, tags: &[ResourceId]| {
            let entry = entry_tagged(&bench.store, n, tags, bench.now(), true);
            bench.store.publish(token, &entry, None).map(|()| entry.is_revoked())
        };
        assert_eq!(
            publish(of_it, 1, &[tag("a"), tag("b"), tag("c")]),
            Err(NotStored::TokenDead),
            "{name}"
        );
        assert_eq!(bench.store.index.records(), 2, "{name}: only the tokens of the others");
        assert_eq!(publish(of_another, 2, &[tag("a"), tag("c")]), Ok(false), "{name}");
        assert_eq!(publish(of_none, 3, &[]), Ok(false), "{name}");
        put_tagged(&bench, 1, &[tag("b")]).expect("a later fill");
        assert_eq!(bench.found(1).len(), 1, "{name}");
    }
}

#[test]
fn r12a_what_carries_a_busy_tag_is_refused_until_it_has_settled() {
    let bench = Bench::new(ROOM);
    let declared = || vec![(tag("a"), "tag:a".to_owned())];
    let guard = bench.store.begin_write(declared());
    assert_eq!(
        put_tagged(&bench, 1, &[tag("a")]).err(),
        Some(NotStored::TokenDead),
        "pending"
    );
    let before = bench.store.register(bench.now(), strong(1), true);
    drop(guard.end(WriteEnd::UnknownClosed(bench.now())));
    let during = bench.store.register(bench.now(), strong(2), true);
    assert_eq!(
        put_tagged(&bench, 3, &[tag("a")]).err(),
        Some(NotStored::TokenDead),
        "unsettled"
    );
    assert!(put_tagged(&bench, 4, &[tag("b")]).is_ok(), "another tag");
    bench.clock.forward(SETTLE_MS);
    for (token, n) in [(before, 1), (during, 2)] {
        // Each may have read before the abandoned write was applied.
        let entry = entry_tagged(&bench.store, n, &[tag("a")], bench.now(), true);
        assert_eq!(bench.store.publish(token, &entry, None), Err(NotStored::TokenDead));
    }
    assert!(put_tagged(&bench, 1, &[tag("a")]).is_ok(), "settled");
}

#[test]
fn r4_r12a_a_swept_tag_is_not_forgotten_to_fills_of_before() {
    let bench = Bench::new(ROOM);
    let guard = bench.store.begin_write(vec![(tag("a"), "tag:a".to_owned())]);
    drop(guard.end(WriteEnd::UnknownClosed(bench.now())));
    assert_eq!(bench.store.unsettled()[0].path.as_deref(), Some("tag:a"));
    let during = bench.store.register(bench.now(), strong(1), true);
    bench.clock.forward(SETTLE_MS);
    bench.store.sweep();
    assert!(bench.store.unsettled().is_empty());
    let entry = entry_tagged(&bench.store, 1, &[tag("a")], bench.now(), true);
    assert_eq!(bench.store.publish(during, &entry, None), Err(NotStored::TokenDead));
}

#[test]
fn tags_count_in_the_memory_of_their_entry() {
    let bench = Bench::new(ROOM);
    let weight = |tags: &[ResourceId]| u64::from(entry_tagged(&bench.store, 1, tags, bench.now(), true).weight());
    let names: Vec<ResourceId> = (0..40).map(|n| tag(&n.to_string())).collect();
    weight(&[]); // the names of its fields are stored once from the second time on
    let each = weight(&names[..2]) - weight(&names[..1]);
    assert!(each > size_of::<crate::core::consistency::gate::Gate<EntryRef>>() as u64 + 64);
    assert_eq!(weight(&names) - weight(&names[..1]), 39 * each);
    assert!(weight(&names[..1]) - weight(&[]) > each, "and that there are some");
    let full = entry_tagged(&bench.store, 1, &names, bench.now(), true);
    let token = bench.store.register(bench.now(), strong(1), true);
    bench.store.publish(token, &full, None).unwrap();
    assert_eq!(bench.store.usage().bytes, u64::from(full.weight()));
}

#[test]
fn r12a_purges_writes_and_fills_on_many_threads_leave_no_stale_entry_and_no_record() {
    const ROUNDS: u64 = 2_000;
    let bench = Arc::new(Bench::new(ROOM));
    // The origin: what it serves is the number of purges that have begun.
    let truth = Arc::new(AtomicU64::new(0));
    let done = Arc::new(AtomicBool::new(false));
    let fillers: Vec<_> = (0..3_u64)
        .map(|n| {
            let (bench, truth, done) = (Arc::clone(&bench), Arc::clone(&truth), Arc::clone(&done));
            thread::spawn(move || {
                let mut stored = 0;
                // At last one that no purge has overtaken.
                while !done.load(Ordering::SeqCst) || stored == 0 {
                    let token = bench.store.register(bench.now(), strong(n), true);
                    let read = truth.load(Ordering::SeqCst);
                    let mut head = head(bench.now());
                    head.headers.insert("x-read", HeaderValue::from(read));
                    let mut tags = [tag("a").digest, tag("b").digest];
                    tags.sort_unstable();
                    let identity = Identity {
                        resource: strong(n),
                        digest: digest(n),
                        key: key(n),
                        tags: Box::new(tags),
                    };
                    let entry = new_entry(bench.store.next_entry_id(), identity, Arc::new(head), Bytes::new());
                    stored += u64::from(bench.store.publish(token, &entry, None).is_ok());
                }
                stored
            })
        })
        .collect();
    for round in 1..=ROUNDS {
        truth.store(round, Ordering::SeqCst);
        purge(&bench, if round % 2 == 0 { "a" } else { "b" });
        for n in 0..3 {
            let found = bench.store.lookup(bench.now(), strong(n), digest(n), &key(n));
            for entry in found.variants.iter().filter(|entry| !entry.is_revoked()) {
                let read: u64 = entry.headers()["x-read"].to_str().unwrap().parse().unwrap();
                assert!(read >= round, "an answer of before purge {round} is in service");
            }
        }
    }
    done.store(true, Ordering::SeqCst);
    let stored: u64 = fillers.into_iter().map(|filler| filler.join().unwrap()).sum();
    assert!(stored > 0, "nothing was ever stored");
    bench.store.purge_everywhere(Purge::Hard, |_| true);
    assert_eq!(bench.store.usage().entries, 0);
    assert_eq!(bench.store.index.records(), 0);
}

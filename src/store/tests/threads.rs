//! The store under many threads: nothing survives what should have killed it, and at the end nothing is left.

use super::*;

const THREADS: u64 = 4;

/// A stream of numbers (xorshift64*, Vigna 2016).
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % n
    }
}

fn together(bench: &Arc<Bench>, work: fn(&Bench, u64)) {
    let barrier = Arc::new(Barrier::new(usize::try_from(THREADS).unwrap()));
    let threads: Vec<_> = (0..THREADS)
        .map(|t| {
            let (bench, barrier) = (Arc::clone(bench), Arc::clone(&barrier));
            thread::spawn(move || {
                barrier.wait();
                work(&bench, t);
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().unwrap());
}

#[test]
fn after_any_churn_and_a_drain_nothing_is_held() {
    const ENTRIES: u64 = 300;
    // Room for about a third of the keys, so that the budget evicts all along.
    let bench = Arc::new(Bench::with_bound(ENTRIES * 700 / 2, 20));
    together(&bench, |bench, t| {
        let mut chance = Chance(t + 1);
        let mut open = Vec::new();
        for round in 0..6000 {
            let n = chance.below(ENTRIES);
            match chance.below(20) {
                0..=9 => {
                    let token = bench.store.register(bench.now(), strong(n), true);
                    let size = usize::try_from(chance.below(200)).unwrap();
                    let _ = bench
                        .store
                        .publish(token, &entry_of(bench, n, &Bytes::from(vec![0; size])), None);
                }
                10 => drop(bench.store.register(bench.now(), strong(n), true)),
                11 => drop(bench.store.begin_write(named(n)).end(WriteEnd::Applied)),
                12 => drop(bench.store.begin_write(named(n)).end(WriteEnd::Rejected)),
                13 => drop(bench.store.begin_write(named(n))),
                14 => open.push(bench.store.begin_write(named(n)).end(WriteEnd::UnknownOpen)),
                15 => drop(open.pop()),
                16 => drop(bench.store.purge(Purge::Hard, &[strong(n)], |_| true)),
                17 => bench.store.differs(strong(n), None),
                18 => {
                    let found = bench.store.lookup(bench.now(), strong(n), digest(n), &key(n));
                    if let Some(old) = found.variants.first() {
                        bench.store.touched(old);
                        let token = bench.store.register(bench.now(), strong(n), true);
                        let new = if round % 3 == 0 {
                            entry_with(&bench.store, strong(n), n, key(n), head(bench.now()), b"", true).after(old)
                        } else {
                            renewed_entry(bench.store.next_entry_id(), old, head(bench.now()).meta)
                        };
                        let _ = bench.store.publish(token, &new, Some(old));
                    }
                }
                _ => {
                    bench.clock.forward(SETTLE_MS / 10);
                    if round % 7 == 0 {
                        bench.store.sweep();
                    }
                    if round % 11 == 0 {
                        bench.store.purge_everywhere(Purge::Soft, |e| e.key_digest() % 2 == 0);
                    }
                    if round % 50 == 0 {
                        bench.store.purge_everywhere(Purge::Hard, |_| true);
                    }
                }
            }
            let usage = bench.store.usage();
            assert!(
                usage.entries <= ENTRIES + THREADS && usage.bytes < 1 << 30,
                "a counter went below zero: {usage:?}"
            );
        }
    });
    let usage = bench.store.usage();
    assert!(usage.evictions > 100, "{usage:?}");
    let held = bench.store.budget.places();
    let listed = (0..ENTRIES)
        .flat_map(|n| bench.store.lookup(bench.now(), strong(n), digest(n), &key(n)).variants)
        .map(|entry| entry.short_place())
        .collect();
    assert_eq!(held, listed, "index and budget hold the same entries");
    let usage = bench.store.usage();
    assert_eq!(
        bench.store.budget.held(),
        (usage.entries, usage.bytes),
        "the judge's sum is off"
    );
    bench.store.purge_everywhere(Purge::Hard, |_| true);
    bench.clock.forward(2 * SETTLE_MS);
    bench.is_empty();
}

#[test]
fn r12a_a_purge_of_everything_lets_no_earlier_fetch_be_stored_or_stay() {
    /// Purges begun and ended.
    static BEGUN: AtomicU64 = AtomicU64::new(0);
    static ENDED: AtomicU64 = AtomicU64::new(0);
    static REFUSED: AtomicU64 = AtomicU64::new(0);
    static REVOKED: AtomicU64 = AtomicU64::new(0);
    static STOP: AtomicBool = AtomicBool::new(false);
    let bench = Arc::new(Bench::new(ROOM));
    together(&bench, |bench, t| {
        if t == 0 {
            // Until enough was seen to be overtaken; bounded, should nothing ever be.
            let enough = || REFUSED.load(Ordering::SeqCst) > 50 && REVOKED.load(Ordering::SeqCst) > 50;
            for _ in 0..1_000_000 {
                if enough() {
                    break;
                }
                BEGUN.fetch_add(1, Ordering::SeqCst);
                bench.store.purge_everywhere(Purge::Hard, |_| true);
                ENDED.fetch_add(1, Ordering::SeqCst);
                thread::yield_now();
            }
            STOP.store(true, Ordering::SeqCst);
            return;
        }
        let mut chance = Chance(t);
        let mut listed: Option<(u64, EntryRef)> = None;
        while !STOP.load(Ordering::SeqCst) {
            let n = chance.below(50);
            let token = bench.store.register(bench.now(), strong(n), true);
            let begun = BEGUN.load(Ordering::SeqCst);
            if chance.below(4) == 0 {
                thread::yield_now();
            }
            // A purge that began after the token was registered has ended.
            let overtaken = ENDED.load(Ordering::SeqCst) > begun;
            let entry = entry_with(&bench.store, strong(n), n, key(n), head(bench.now()), b"", true);
            let published = bench.store.publish(token, &entry, None);
            if overtaken {
                assert_eq!(published, Err(NotStored::TokenDead));
                REFUSED.fetch_add(1, Ordering::SeqCst);
            }
            let purged = listed.take().filter(|(begun, _)| ENDED.load(Ordering::SeqCst) > *begun);
            if let Some((_, old)) = purged {
                assert!(
                    old.is_revoked(),
                    "an entry listed before a purge began is in service after it ended"
                );
                REVOKED.fetch_add(1, Ordering::SeqCst);
            }
            if published.is_ok() {
                listed = Some((BEGUN.load(Ordering::SeqCst), entry));
            }
        }
    });
    let (refused, revoked) = (REFUSED.load(Ordering::SeqCst), REVOKED.load(Ordering::SeqCst));
    assert!(
        refused > 0 && revoked > 0,
        "no fetch was overtaken ({refused}), no entry purged ({revoked}): nothing was tested"
    );
    bench.store.purge_everywhere(Purge::Hard, |_| true);
    bench.is_empty();
}

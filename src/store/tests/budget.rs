//! What stays when not everything can.

use super::*;

/// Three quarters of this are for entries.
const SMALL: u64 = 4 << 20;
const CAPACITY: u64 = SMALL - SMALL / FILL_SHARE;

fn publish(bench: &Bench, n: u64, key: Arc<[u8]>, head: Head, body: &[u8]) -> Result<EntryRef, NotStored> {
    let token = bench.store.register(bench.now(), strong(n), true);
    let entry = entry_with(&bench.store, strong(n), n, key, head, body, true);
    bench.store.publish(token, &entry, None).map(|()| entry)
}

type Make<'a> = &'a dyn Fn(&Bench, u64) -> EntryRef;

#[test]
fn usage_stays_within_the_capacity_whatever_the_memory_is_spent_on() {
    let long = |n: u64| Arc::<[u8]>::from(format!("http://x/{n}/{}", "k".repeat(8000)).into_bytes());
    let varied = |n: u64| {
        let mut head = head(MonoTime::default());
        let value = format!("{n}{}", "v".repeat(8000)).into_boxed_str();
        head.meta.vary = Vary::Fields([(HeaderName::from_static("x-selects"), Some(value))].into());
        head
    };
    let with_fields = || {
        let mut head = head(MonoTime::default());
        for _ in 0..50 {
            head.headers.append("x-field", HeaderValue::from_static("value"));
        }
        head
    };
    let plain = || head(MonoTime::default());
    let kinds: [(&str, u64, Make<'_>); 5] = [
        ("small entries", 0, &|b, n| publish(b, n, key(n), plain(), b"").unwrap()),
        ("long keys", 8000, &|b, n| publish(b, n, long(n), plain(), b"").unwrap()),
        ("selecting fields", 8000, &|b, n| {
            publish(b, n, key(n), varied(n), b"").unwrap()
        }),
        ("response fields", 50 * 12, &|b, n| {
            publish(b, n, key(n), with_fields(), b"").unwrap()
        }),
        ("bodies", 8000, &|b, n| {
            publish(b, n, key(n), plain(), &[7; 8000]).unwrap()
        }),
    ];
    for (name, at_least, make) in kinds {
        let bench = Bench::new(SMALL);
        for n in 0..6000 {
            let entry = make(&bench, n);
            assert!(
                u64::from(entry.weight()) > at_least,
                "{name}: an entry weighs {}",
                entry.weight()
            );
            let usage = bench.store.usage();
            assert!(usage.bytes <= CAPACITY, "{name}: {usage:?} after {n}");
        }
        let usage = bench.store.usage();
        assert!(usage.evictions > 0, "{name}: {usage:?}");
        assert!(usage.bytes > CAPACITY / 2, "{name}: {usage:?}");
        assert_eq!(bench.store.budget.held(), (usage.entries, usage.bytes), "{name}");
        assert_eq!(
            bench.store.purge_everywhere(Purge::Hard, |_| true).entries,
            usage.entries,
            "{name}"
        );
        bench.is_empty();
    }
}

#[test]
fn an_entry_larger_than_the_whole_budget_is_not_kept() {
    let bench = Bench::new(SMALL);
    let entry = publish(
        &bench,
        1,
        key(1),
        head(bench.now()),
        &vec![0; usize::try_from(CAPACITY).unwrap()],
    )
    .unwrap();
    assert!(entry.is_revoked());
    bench.is_empty();
}

#[test]
fn an_entry_that_is_replaced_or_revoked_leaves_the_budget() {
    let bench = Bench::new(SMALL);
    for round in 0..100 {
        let entry = publish(&bench, 1, key(1), head(bench.now()), &vec![0; round * 10]).unwrap();
        assert_eq!(bench.store.budget.held(), (1, u64::from(entry.weight())));
        assert_eq!(bench.store.usage().bytes, u64::from(entry.weight()));
    }
    bench.store.begin_write(named(1)).end(WriteEnd::Applied);
    bench.is_empty();
}

#[test]
fn what_a_304_makes_of_an_entry_has_its_place_and_leaves_with_it() {
    let bench = Bench::new(SMALL);
    let first = publish(&bench, 1, key(1), head(bench.now()), b"body").unwrap();
    let renew = |old: &EntryRef| {
        let token = bench.store.register(bench.now(), strong(1), true);
        let new = renewed_entry(bench.store.next_entry_id(), old, old.meta());
        assert_eq!(bench.store.publish(token, &new, Some(old)), Ok(()));
        new
    };
    let mut last = first.clone();
    for _ in 0..10 {
        let new = renew(&last);
        assert!(last.is_revoked() && !new.is_revoked());
        assert_eq!(bench.found(1), [new.number()]);
        assert_eq!(bench.store.budget.places(), [first.short_place()].into());
        let weight = u64::from(new.weight());
        assert_eq!(bench.store.budget.held(), (1, weight));
        assert_eq!((bench.store.usage().entries, bench.store.usage().bytes), (1, weight));
        last = new;
    }
    bench
        .store
        .index
        .evict(strong(1).digest, digest(1), first.short_place());
    assert!(last.is_revoked(), "what goes is who has the place now");
    bench.store.budget.remove(&last);
    bench.is_empty();

    let old = publish(&bench, 1, key(1), head(bench.now()), b"body").unwrap();
    let token = bench.store.register(bench.now(), strong(1), true);
    let larger = entry_of(&bench, 1, &Bytes::from(vec![0; 500])).after(&old);
    assert_eq!(bench.store.publish(token, &larger, Some(&old)), Ok(()));
    assert_eq!(
        bench.store.budget.places(),
        [larger.short_place()].into(),
        "of another weight"
    );
    assert_eq!(bench.store.budget.held(), (1, u64::from(larger.weight())));
    let new = renew(&larger);
    bench.store.begin_write(named(1)).end(WriteEnd::Applied);
    assert!(new.is_revoked());
    bench.is_empty();
}

#[test]
fn the_weight_of_what_is_overtaken_never_stays_in_the_judges_sum() {
    let bench = Bench::new(SMALL);
    let entry = |size: usize| entry_of(&bench, 1, &Bytes::from(vec![0; size]));
    for (first, second) in [(5000, 100), (100, 5000)] {
        for _ in 0..100 {
            // Two threads list one after the other; what the second one replaced is removed last.
            let (old, new) = (entry(first), entry(second));
            bench.store.budget.insert(&old);
            assert_eq!(bench.store.budget.held(), (1, u64::from(old.weight())));
            bench.store.budget.insert(&new);
            bench.store.budget.remove(&old);
            assert_eq!(bench.store.budget.places(), [new.short_place()].into());
            // This one goes before moka has come round to it.
            bench.store.budget.insert(&old);
            bench.store.budget.remove(&old);
            assert_eq!(bench.store.budget.held(), (0, 0));
        }
    }
}

/// A Zipf-like load: key `k` of `keys` is asked for in proportion to 1/(k+1).
struct Load {
    cumulated: Vec<f64>,
    state: u64,
}

impl Load {
    fn new(keys: u32, exponent: f64) -> Self {
        let mut sum = 0.0;
        let cumulated = (0..keys)
            .map(|k| {
                sum += f64::from(k + 1).powf(-exponent);
                sum
            })
            .collect();
        Self { cumulated, state: 7 }
    }

    /// The next key: splitmix64 (Steele et al. 2014) over the inverse distribution.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let unit = f64::from(u32::try_from((z ^ (z >> 31)) >> 32).unwrap()) / f64::from(u32::MAX);
        let at = unit * self.cumulated.last().unwrap();
        self.cumulated.partition_point(|c| *c < at) as u64
    }
}

/// The share of hits in the second half of a load over twenty thousand keys with room for two thousand.
fn hit_ratio(exponent: f64, touch: fn(&Bench, &EntryRef)) -> f64 {
    const REQUESTS: u32 = 60_000;
    let weight = u64::from(
        entry_with(
            &Bench::new(ROOM).store,
            strong(0),
            0,
            key(10_000),
            head(MonoTime::default()),
            b"",
            true,
        )
        .weight(),
    );
    let bench = Bench::new(2000 * weight * FILL_SHARE / (FILL_SHARE - 1));
    let mut load = Load::new(20_000, exponent);
    let mut hits = 0_u32;
    for n in 0..REQUESTS {
        let k = load.next();
        let found = bench.store.lookup(bench.now(), strong(k), digest(k), &key(k));
        if let Some(entry) = found.variants.first() {
            touch(&bench, entry);
            hits += u32::from(n >= REQUESTS / 2);
        } else {
            publish(&bench, k, key(k), head(bench.now()), b"").unwrap();
        }
    }
    f64::from(hits) / f64::from(REQUESTS / 2)
}

#[test]
fn telling_the_judge_of_some_hits_costs_little_against_telling_it_of_all() {
    for exponent in [0.8, 1.0] {
        let all = hit_ratio(exponent, |bench, entry| bench.store.budget.tell(entry));
        let some = hit_ratio(exponent, |bench, entry| bench.store.touched(entry));
        println!("exponent {exponent}: every hit told {all:.4}, some told {some:.4}");
        assert!(
            some > all - 0.01,
            "exponent {exponent}: {some:.4} of requests hit; telling of every hit: {all:.4}"
        );
    }
}

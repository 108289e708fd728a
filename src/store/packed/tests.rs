#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;
use std::sync::atomic::{AtomicU64, Ordering};

fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    map
}

/// A key and fields that are kept.
struct Kept(Packing, u64);

impl Kept {
    fn new(key: &[u8], map: &HeaderMap) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        Self(Packing::new(key, map), NUMBERS.fetch_add(1, Ordering::Relaxed))
    }

    fn packed(&self) -> Packed<'_> {
        let Self(Packing { bytes, ends, shape }, number) = self;
        Packed {
            bytes,
            ends: *ends,
            shape: shape.as_deref(),
            number: *number,
        }
    }
}

fn told(map: &HeaderMap) -> Vec<(String, Vec<u8>, bool)> {
    map.iter()
        .map(|(n, v)| (n.to_string(), v.as_bytes().to_vec(), v.is_sensitive()))
        .collect()
}

/// A map as told, behind places for what an answer gains.
fn behind(map: &HeaderMap) -> Vec<(String, Vec<u8>, bool)> {
    let places = GAINED.iter().map(|name| (name.to_string(), Vec::new(), false));
    places.chain(told(map)).collect()
}

const LONG: &str =
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789";

#[test]
fn what_is_unpacked_is_what_was_packed_with_a_shape_or_without_one_and_hot_or_not() {
    let mut secret = fields(&[("x-open", "a"), ("x-secret", "b")]);
    secret.get_mut("x-secret").unwrap().set_sensitive(true);
    let mut odd = fields(&[("content-type", "text/plain")]);
    odd.insert("x-odd", HeaderValue::from_bytes(b"caf\xe9 \xff").unwrap());
    let mut crowd = HeaderMap::new();
    for n in 0..40 {
        crowd.append(HeaderName::try_from(format!("x-{n}")).unwrap(), HeaderValue::from(n));
    }
    for (name, map) in [
        ("nothing", HeaderMap::new()),
        ("one", fields(&[("etag", "\"a\"")])),
        ("an empty value", fields(&[("x-empty", ""), ("etag", "\"a\"")])),
        (
            "several lines of one name",
            fields(&[
                ("set-cookie", "a"),
                ("etag", "\"a\""),
                ("set-cookie", "b"),
                ("set-cookie", "c"),
            ]),
        ),
        (
            "a long value, and a name of one letter",
            fields(&[("x", LONG), ("y", "1")]),
        ),
        ("a sensitive one", secret),
        ("bytes that are no text", odd),
        ("more than a shape has", crowd),
        (
            "dates, among others and alone",
            fields(&[
                ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
                ("x-a", "1"),
                ("last-modified", "Sun, 06 Nov 1994 08:49:36 GMT"),
                ("expires", "Thu, 01 Jan 1970 00:00:00 GMT"),
                ("x-b", "2"),
            ]),
        ),
        (
            "what looks like dates, and ones that cannot be told briefly",
            fields(&[
                ("date", "Sunday, 06-Nov-94 08:49:37 GMT"),
                ("x-a", "Mon, 06 Nov 1994 08:49:37 GMT"),
                ("x-b", "Sun, 06 nov 1994 08:49:37 GMT"),
                ("x-c", "Sun, 06 Nov 1994 08:49:37 UTC"),
                ("x-d", "Fri, 31 Dec 9999 23:59:59 GMT"),
                ("x-e", "29 bytes of anything else....."),
            ]),
        ),
    ] {
        for sight in 1..=3 {
            let kept = Kept::new(b"the key", &map);
            let packed = kept.packed();
            assert_eq!(packed.key(), b"the key", "{name}");
            for time in 1..=4 {
                assert_eq!(told(&packed.fields()), told(&map), "{name}: sight {sight}, time {time}");
                assert_eq!(packed.fields(), map, "{name}: sight {sight}, time {time}");
                match packed.ready(|_| {}, &Nothing) {
                    Some(ready) => assert_eq!(told(&ready), behind(&map), "{name}: sight {sight}, time {time}, ready"),
                    None => assert!(time == 1, "{name}: known by now"),
                }
            }
            let lines = map.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
            let came: Vec<_> = packed.lines().map(|(name, text)| (name, text.to_vec())).collect();
            assert!(
                came.iter().map(|(name, text)| (*name, &**text)).eq(lines),
                "{name}: sight {sight}"
            );
        }
    }
}

#[test]
fn names_and_values_that_come_again_are_stored_once() {
    let map = fields(&[("x-names-once-a", "a value"), ("x-names-once-b", "2")]);
    let kept: Vec<Kept> = (0..4).map(|_| Kept::new(b"", &map)).collect();
    let (first, rest) = kept.split_first().unwrap();
    assert!(first.0.shape.is_none(), "they may never come again");
    let shape = rest[0].0.shape.as_ref().unwrap();
    for Kept(packing, _) in rest {
        assert!(Arc::ptr_eq(packing.shape.as_ref().unwrap(), shape));
        assert_eq!(packing.bytes, [0, 0], "both as the shape has them");
    }
    let mut other = map.clone();
    other.insert("x-names-once-a", HeaderValue::from_static("another"));
    let kept = Kept::new(b"key", &other);
    assert!(Arc::ptr_eq(kept.0.shape.as_ref().unwrap(), shape));
    assert_eq!(kept.0.bytes, b"key\x10\x00another");
    assert_eq!(kept.packed().fields(), other);
    let other = fields(&[("x-names-once-b", "2"), ("x-names-once-a", "a value")]);
    assert!(
        Packing::new(b"", &other).shape.is_none(),
        "another order is another shape"
    );
    let mut typed = map.clone();
    typed.insert("content-type", HeaderValue::from_static("text/plain"));
    let shape_of = |map: &HeaderMap| {
        let [.., last] = [(); 3].map(|()| Packing::new(b"", map).shape);
        last.unwrap()
    };
    let plain = shape_of(&typed);
    typed.insert("content-type", HeaderValue::from_static("text/html"));
    assert!(!Arc::ptr_eq(&plain, &shape_of(&typed)), "and another type");
}

#[test]
fn a_secret_is_in_no_shape_and_neither_is_what_is_long() {
    let long = "x".repeat(5000);
    let mut map = fields(&[("x-secret-a", "known"), ("x-secret-b", "hidden")]);
    map.insert("x-secret-long", HeaderValue::from_str(&long).unwrap());
    map.get_mut("x-secret-b").unwrap().set_sensitive(true);
    for _ in 0..4 {
        let Kept(packing, number) = Kept::new(b"", &map);
        if let Some(shape) = &packing.shape {
            let values: Vec<&HeaderValue> = shape.lines().map(|(_, value)| value).collect();
            assert_eq!(values, ["known", "", ""]);
        }
        assert_eq!(told(&Kept(packing, number).packed().fields()), told(&map));
    }
    // The same text is no secret elsewhere, and stays one here.
    let open = fields(&[("x-open-a", "hidden")]);
    let [.., last] = [(); 3].map(|()| Packing::new(b"", &open));
    assert!(last.shape.is_some() && last.bytes == [0]);
    let mut hidden = open.clone();
    hidden.get_mut("x-open-a").unwrap().set_sensitive(true);
    assert_eq!(told(&Kept::new(b"", &hidden).packed().fields()), told(&hidden));
}

#[test]
fn a_shape_whose_values_nobody_has_any_more_is_made_anew() {
    let map = |value: &'static str| fields(&[("x-anew-a", value), ("x-anew-b", value), ("x-anew-c", "1")]);
    let (old, new) = (map("old"), map("new"));
    let sizes = |map: &HeaderMap, times: usize| -> Vec<usize> {
        (0..times).map(|_| Packing::new(b"", map).bytes.len()).collect()
    };
    assert_eq!(sizes(&old, 3)[1..], [3, 3]);
    let sizes = sizes(&new, 100);
    assert_eq!((sizes[0], sizes[99]), (9, 3));
    assert!(sizes.is_sorted_by(|a, b| a >= b), "once: {sizes:?}");
}

#[test]
fn two_that_share_a_slot_of_the_hot_ones_are_not_mixed_up() {
    // Ten times as many as there are slots, each asked for twice in a row and again later.
    let many: Vec<(HeaderMap, Kept)> = (0..10 * HOT_SLOTS)
        .map(|n| {
            let mut map = fields(&[("etag", "\"a\"")]);
            map.insert("x-number", HeaderValue::from(n));
            let kept = Kept::new(b"", &map);
            (map, kept)
        })
        .collect();
    for times in [2, 1, 3] {
        for (map, kept) in &many {
            for _ in 0..times {
                assert!(
                    kept.packed()
                        .ready(|_| {}, &Nothing)
                        .is_none_or(|ready| told(&ready) == behind(map))
                );
            }
        }
    }
}

#[test]
fn no_thread_keeps_a_long_head_beside_what_is_accounted_for() {
    let held = |long: usize| {
        let mut map = fields(&[("etag", "\"a\"")]);
        map.insert("x-long", HeaderValue::try_from("x".repeat(long)).unwrap());
        let kept = Kept::new(b"", &map);
        (0..4).for_each(|_| drop(kept.packed().ready(|_| {}, &Nothing)));
        assert_eq!(kept.packed().fields(), map);
        HOT.with_borrow(|slots| {
            let mut held = slots.iter().filter_map(|slot| slot.held.as_ref());
            held.any(|held| held.number == kept.1)
        })
    };
    assert!(held(10), "a short one is kept");
    assert!(!held(MAX_HOT_BYTES));
    assert!(!held(100_000));
}

#[test]
fn what_was_prepared_is_kept_for_a_hot_one_and_what_has_a_gained_field_is_never_ready() {
    let kept = Kept::new(b"", &fields(&[("x-prepared", "1")]));
    let mut times = 0;
    for _ in 0..5 {
        if let Some(ready) = kept.packed().ready(
            |map| {
                times += 1;
                map.remove(&GAINED[3]);
                map.insert(&GAINED[1], HeaderValue::from_static("via"));
            },
            &Nothing,
        ) {
            let names: Vec<&str> = ready.keys().map(HeaderName::as_str).collect();
            assert_eq!(names, ["age", "via", "cache-status", "x-prepared"]);
            assert_eq!(ready[&GAINED[1]], "via");
        }
    }
    assert_eq!(times, 1, "a hot one is prepared once");
    for name in &GAINED {
        let map = fields(&[("etag", "\"a\""), (name.as_str(), "of another")]);
        for _ in 0..3 {
            let kept = Kept::new(b"", &map);
            assert!(
                (0..4).all(|_| kept.packed().ready(|_| {}, &Nothing).is_none()),
                "{name}"
            );
        }
    }
}

/// What a hit tells: the numbers, and what was made of them.
struct Numbers([Option<u128>; 4], std::cell::Cell<usize>);

/// A hit that tells nothing.
struct Nothing;

impl Gained for Nothing {
    fn numbers(&self) -> [Option<u128>; 4] {
        [None; 4]
    }

    fn value(&self, _: usize) -> Option<HeaderValue> {
        None
    }
}

impl Gained for Numbers {
    fn numbers(&self) -> [Option<u128>; 4] {
        self.0
    }

    fn value(&self, at: usize) -> Option<HeaderValue> {
        self.1.set(self.1.get() + 1);
        let told = self.0[at].map(|number| number.to_string());
        told.map(|text| HeaderValue::from_str(&text).unwrap())
    }
}

#[test]
fn a_place_holds_what_was_made_for_its_own_number_and_that_is_made_anew_only_when_it_changes() {
    let kept = Kept::new(b"", &fields(&[("x-gained", "1")]));
    let hits: [([Option<u128>; 4], usize); 9] = [
        ([Some(1), Some(2), Some(3), Some(4)], 4),
        ([Some(1), Some(2), Some(3), Some(4)], 4),
        ([Some(1), Some(2), Some(3), Some(4)], 0),
        ([Some(1), Some(2), Some(3), Some(5)], 1),
        ([Some(1), Some(2), Some(3), Some(6)], 1),
        ([Some(1), Some(2), Some(3), Some(6)], 1),
        ([Some(1), Some(2), Some(3), Some(4)], 1),
        ([Some(1), Some(2), Some(3), Some(6)], 0),
        ([Some(7), Some(2), None, Some(6)], 2),
    ];
    // The first look only notes where it is.
    assert!(kept.packed().ready(|_| {}, &Nothing).is_none());
    for (at, (numbers, made)) in hits.into_iter().enumerate() {
        let gained = Numbers(numbers, std::cell::Cell::new(0));
        let ready = kept.packed().ready(|_| {}, &gained).expect("known by now");
        for (name, number) in GAINED.iter().zip(numbers) {
            if let Some(number) = number {
                assert_eq!(ready[name], number.to_string(), "{name} of hit {at}");
            }
        }
        assert_eq!(ready["x-gained"], "1");
        assert_eq!(gained.1.get(), made, "made for hit {at}");
    }
}

/// How many shapes these were packed with.
fn shapes(packed: &[Packing]) -> usize {
    let shapes = packed.iter().filter_map(|packing| packing.shape.as_ref());
    shapes.map(Arc::as_ptr).collect::<std::collections::BTreeSet<_>>().len()
}

#[test]
fn answers_that_have_little_in_common_have_few_shapes() {
    // As those of a server of files: each has its own tag, length and dates.
    let packed: Vec<Packing> = (0..10_000_u32)
        .map(|n| {
            let mut map = fields(&[
                ("x-files", "1"),
                ("content-type", "text/html"),
                ("accept-ranges", "bytes"),
            ]);
            map.insert("date", date::text(n / 100));
            map.insert("last-modified", date::text(n));
            map.insert("etag", HeaderValue::try_from(format!("\"{n:x}\"")).unwrap());
            map.insert("content-length", HeaderValue::from(n));
            Packing::new(b"", &map)
        })
        .collect();
    let shapes = shapes(&packed);
    assert!((1..=10).contains(&shapes), "{shapes} for 10,000");
}

#[test]
fn names_that_come_in_turn_with_others_have_one_shape() {
    let kinds: Vec<HeaderMap> = (0..40)
        .map(|n| {
            let mut map = fields(&[("etag", "\"a\"")]);
            map.insert(
                HeaderName::try_from(format!("x-turn-{n}")).unwrap(),
                HeaderValue::from(n),
            );
            map
        })
        .collect();
    // Each once in a row or twice, and in another order every time.
    let turns = (0..200_usize).flat_map(|turn| {
        let kinds = &kinds;
        (0..kinds.len()).flat_map(move |n| {
            let at = n * [1, 3, 7, 9, 11][turn % 5] % kinds.len();
            kinds.iter().skip(at).take(1).cycle().take(1 + (turn + n) % 2)
        })
    });
    let packed: Vec<Packing> = turns.map(|map| Packing::new(b"", map)).collect();
    let without = packed[packed.len() / 2..]
        .iter()
        .filter(|packing| packing.shape.is_none());
    let without = without.count();
    assert!(without < packed.len() / 20, "{without} of {}", packed.len() / 2);
    let shapes = shapes(&packed);
    assert!(shapes <= 40, "{shapes} for 40 kinds");
}

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use super::*;

fn fields(lines: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in lines {
        map.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    map
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
    for n in 0..MAX_SHAPE_FIELDS + 1 {
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
    ] {
        for sight in 1..=3 {
            let packed = Packed::new(b"the key", &map);
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
            assert!(packed.clone().lines().eq(lines), "{name}: sight {sight}");
        }
    }
}

#[test]
fn names_that_come_again_are_stored_once() {
    let map = fields(&[("x-names-once-a", "1"), ("x-names-once-b", "2")]);
    let first = Packed::new(b"", &map);
    let rest: Vec<Packed> = (0..3).map(|_| Packed::new(b"", &map)).collect();
    assert!(first.shape.is_none(), "they may never come again");
    let shape = rest[0].shape.as_ref().unwrap();
    assert!(
        rest.iter()
            .all(|packed| Arc::ptr_eq(packed.shape.as_ref().unwrap(), shape))
    );
    assert!(rest[0].size() < first.size());
    let other = fields(&[("x-names-once-b", "2"), ("x-names-once-a", "1")]);
    assert_ne!(fields(&[]), other);
    assert!(
        Packed::new(b"", &other).shape.is_none(),
        "another order is another shape"
    );
}

#[test]
fn two_that_share_a_slot_of_the_hot_ones_are_not_mixed_up() {
    // Ten times as many as there are slots, each asked for twice in a row and again later.
    let many: Vec<(HeaderMap, Packed)> = (0..10 * HOT_SLOTS)
        .map(|n| {
            let mut map = fields(&[("etag", "\"a\"")]);
            map.insert("x-number", HeaderValue::from(n));
            let packed = Packed::new(b"", &map);
            (map, packed)
        })
        .collect();
    for times in [2, 1, 3] {
        for (map, packed) in &many {
            for _ in 0..times {
                assert!(
                    packed
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
        let packed = Packed::new(b"", &map);
        (0..4).for_each(|_| drop(packed.ready(|_| {}, &Nothing)));
        assert_eq!(packed.fields(), map);
        Arc::strong_count(&packed.bytes) > 1
    };
    assert!(held(10), "a short one is kept");
    assert!(!held(MAX_HOT_BYTES));
    assert!(!held(100_000));
}

#[test]
fn what_was_prepared_is_kept_for_a_hot_one_and_what_has_a_gained_field_is_never_ready() {
    let packed = Packed::new(b"", &fields(&[("x-prepared", "1")]));
    let mut times = 0;
    for _ in 0..5 {
        if let Some(ready) = packed.ready(
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
            let packed = Packed::new(b"", &map);
            assert!((0..4).all(|_| packed.ready(|_| {}, &Nothing).is_none()), "{name}");
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
    let packed = Packed::new(b"", &fields(&[("x-gained", "1")]));
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
    assert!(packed.ready(|_| {}, &Nothing).is_none());
    for (at, (numbers, made)) in hits.into_iter().enumerate() {
        let gained = Numbers(numbers, std::cell::Cell::new(0));
        let ready = packed.ready(|_| {}, &gained).expect("known by now");
        for (name, number) in GAINED.iter().zip(numbers) {
            if let Some(number) = number {
                assert_eq!(ready[name], number.to_string(), "{name} of hit {at}");
            }
        }
        assert_eq!(ready["x-gained"], "1");
        assert_eq!(gained.1.get(), made, "made for hit {at}");
    }
}

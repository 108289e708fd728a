//! Whatever an answer says, what is stored of it says the same: any fields, facts, variants and sizes, packed by a shape that others made.

use super::*;
use crate::core::failover::view::Epoch;
use crate::core::http::etag;
use crate::core::time::Span;
use proptest::prelude::*;
use proptest::sample::select;

fn value() -> impl Strategy<Value = HeaderValue> {
    let text = prop_oneof![
        Just(Vec::new()),
        Just(b"a value".to_vec()),
        prop::collection::vec(prop_oneof![Just(9_u8), 32..127_u8, 128..=255_u8], 0..40),
        prop::collection::vec(33..127_u8, 60..300),
        (0..u64::from(u32::MAX) + 10).prop_map(|s| date(s * 1000).as_bytes().to_vec()),
        (0..3_u64).prop_map(|s| date(s * 1000).as_bytes().to_vec()),
        select(vec![
            "Thu, 01 Jan 1970 00:00:00 gmt",
            "Fri, 01 Jan 1970 00:00:00 GMT",
            "Fri, 31 Dec 9999 23:59:59 GMT",
            "Sun, 07 Feb 2106 06:28:15 GMT",
            "Sun, 07 Feb 2106 06:28:16 GMT",
            "Wed, 31 Dec 1969 23:59:59 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "0",
        ])
        .prop_map(|text| text.as_bytes().to_vec()),
    ];
    (text, prop::bool::weighted(0.1)).prop_map(|(text, secret)| {
        let mut value = HeaderValue::from_bytes(&text).unwrap();
        value.set_sensitive(secret);
        value
    })
}

fn date(ms: u64) -> HeaderValue {
    crate::core::http::dates::format(WallTime::from_millis(i64::try_from(ms).unwrap()))
}

fn tag() -> impl Strategy<Value = &'static [u8]> {
    select(vec![
        &b"\"a\""[..],
        b"W/\"a\"",
        b"\"\"",
        b"W/\"\"",
        b" \"a\"\t",
        b"\"b\xff\"",
        b"a",
        b"\"a\", \"b\"",
    ])
}

/// Of few names, so that many come in the same order with other values.
fn lines() -> impl Strategy<Value = HeaderMap> {
    const NAMES: [&str; 7] = [
        "date",
        "age",
        "x-any",
        "last-modified",
        "content-type",
        "via",
        "set-cookie",
    ];
    let lines = prop_oneof![
        prop::collection::vec((select(NAMES.to_vec()), value()), 0..6),
        prop::collection::vec(value(), 3)
            .prop_map(|values| ["x-one", "date", "x-two"].into_iter().zip(values).collect()),
        prop::collection::vec((select(NAMES.to_vec()), value()), 30..40),
    ];
    (lines, prop::collection::vec(tag(), 0..3)).prop_map(|(lines, tags)| {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(name, value);
        }
        for tag in tags {
            map.append("etag", HeaderValue::from_bytes(tag).unwrap());
        }
        map
    })
}

fn span() -> impl Strategy<Value = Span> {
    let edge = |n: u64| n.saturating_sub(2)..n.saturating_add(2);
    prop_oneof![
        select(vec![0, 1, 10_000, u64::MAX / 1000, u64::MAX]),
        prop_oneof![edge(1 << 30), edge((1 << 30) * 100), edge((1 << 30) * 1000)],
        (0..(1_u64 << 31)).prop_map(|s| s * 1000),
        any::<u64>(),
    ]
    .prop_map(Span::from_millis)
}

fn wall() -> impl Strategy<Value = WallTime> {
    let last = i64::from(u32::MAX);
    prop_oneof![
        select(vec![i64::MIN, -1000, -1, 0, 999, i64::MAX]),
        (last - 2..last + 3).prop_map(|s| s * 1000),
        0..2_000_000_000_000_i64,
    ]
    .prop_map(WallTime::from_millis)
}

/// An instant near another one, or anywhere.
fn near(sent: u64) -> impl Strategy<Value = MonoTime> {
    let off = prop_oneof![
        select(vec![
            0,
            1,
            (1 << 31) - 1,
            1 << 31,
            1 << 32,
            ((1 << 31) - 1) * 1000,
            (1 << 31) * 1000
        ]),
        0..5_000_000_u64,
        (0..1_u64 << 32).prop_map(|ms| ms * 1000),
    ];
    prop_oneof![
        off.prop_flat_map(move |off| select(vec![sent.saturating_sub(off), sent.saturating_add(off)])),
        any::<u64>(),
    ]
    .prop_map(MonoTime::from_micros)
}

fn vary() -> impl Strategy<Value = Vary> {
    let field = (select(vec!["accept-language", "x-any"]), prop::option::of("[a-z]{0,5}"));
    prop_oneof![
        Just(Vary::Any),
        prop::collection::vec(field, 0..3).prop_map(|fields| {
            let own = |(name, value): (&'static str, Option<String>)| {
                (HeaderName::from_static(name), value.map(String::into_boxed_str))
            };
            Vary::Fields(fields.into_iter().map(own).collect())
        }),
    ]
}

fn facts() -> impl Strategy<Value = Meta> {
    let sent = prop_oneof![select(vec![0, 1, u64::MAX]), 0..1_u64 << 50];
    let instants = sent.prop_flat_map(|sent| (Just(MonoTime::from_micros(sent)), near(sent), near(sent)));
    let spans = (span(), span(), span(), prop::option::of(span()));
    let rare = (
        vary(),
        prop::option::weighted(0.2, 0..1_u64 << 40),
        any::<u64>(),
        100..=999_u16,
    );
    let walls = (prop::option::of(wall()), wall());
    (instants, spans, walls, any::<[bool; 4]>(), rare).prop_map(
        |(
            (sent, received, valid_as_of),
            (age, lifetime, swr, sie),
            (modified, date),
            marks,
            (vary, part, epoch, status),
        )| {
            let cut = |length: u64| Part {
                cut: Cut {
                    start: length / 3,
                    end: length / 2,
                },
                length,
            };
            Meta {
                status: StatusCode::from_u16(status).unwrap(),
                part: part.map(cut),
                sent,
                epoch: Epoch(epoch),
                received,
                initial_age: age,
                lifetime,
                valid_as_of,
                stale_while_revalidate: swr,
                stale_if_error: sie,
                must_revalidate: marks[0],
                no_cache: marks[1],
                etag: None,
                last_modified: modified,
                date,
                vary,
                shareable: marks[2],
                proven: marks[3],
            }
        },
    )
}

fn told(map: &HeaderMap) -> Vec<(String, Vec<u8>, bool)> {
    map.iter()
        .map(|(n, v)| (n.to_string(), v.as_bytes().to_vec(), v.is_sensitive()))
        .collect()
}

fn check(entry: &EntryRef, head: &Head, key: &[u8], body: &Bytes) -> Result<(), TestCaseError> {
    let mut fields = head.headers.clone();
    if !crate::core::http::stored::has_no_body(head.meta.status) {
        fields.insert("content-length", HeaderValue::from(body.len()));
    }
    prop_assert_eq!(told(&entry.headers()), told(&fields));
    let lines: Vec<_> = entry
        .lines()
        .map(|(name, text)| (name.to_owned(), text.to_vec()))
        .collect();
    let wanted: Vec<_> = fields
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
        .collect();
    prop_assert_eq!(lines, wanted);
    prop_assert_eq!(&entry.meta(), &head.meta);
    prop_assert_eq!(entry.facts(), head.meta.facts());
    prop_assert_eq!(entry.status(), head.meta.status);
    prop_assert_eq!(entry.vary(), &head.meta.vary);
    prop_assert_eq!(entry.strong_tag(), head.meta.strong_tag());
    prop_assert_eq!(entry.key(), key);
    prop_assert_eq!(&entry.body(), body);
    prop_assert_eq!(entry.body_bytes(), &**body);
    prop_assert_eq!(entry.tags(), [3, 7]);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn an_entry_says_what_it_was_made_of_whatever_that_is(
        heads in prop::collection::vec((lines(), facts(), any::<bool>()), 1..5),
        (key, body) in (0..80_usize, prop_oneof![0..2000_usize, 3500..4200_usize]),
    ) {
        let bench = Bench::new(ROOM);
        let (key, body) = (long_key(key), Bytes::from(vec![b'b'; body]));
        let mut old: Option<(EntryRef, Head)> = None;
        for (headers, facts, own) in heads {
            let etag = etag::of(&headers);
            let meta = Meta { etag: if own { etag } else { None }, ..facts };
            let head = Head { meta, headers };
            // The second and third of its names may have a shape.
            for _ in 0..3 {
                let entry = make(&bench, &key, &head, &body);
                check(&entry, &head, &key, &body)?;
                if let Some((old, before)) = old.replace((entry, head.clone())) {
                    let meta = Meta { vary: before.meta.vary.clone(), ..head.meta.clone() };
                    let status = before.meta.status;
                    let renewed = renewed_entry(bench.store.next_entry_id(), &old, Meta { status, ..meta.clone() });
                    let head = Head { meta: Meta { status, ..meta }, headers: before.headers };
                    drop(old);
                    check(&renewed, &head, &key, &body)?;
                }
            }
        }
    }
}

#[test]
fn a_body_is_whole_at_every_length_about_which_it_no_longer_fits() {
    let bench = Bench::new(ROOM);
    let mut apart = 0;
    for length in 3600..4000 {
        let body: Bytes = (0..length).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let head = head(bench.now());
        let entry = make(&bench, &key(1), &head, &body);
        says(&length.to_string(), &entry, &key(1), &head, &body);
        apart += usize::from(entry.body_apart().is_some());
    }
    assert!((1..400).contains(&apart));
}

#[test]
fn what_a_304_makes_of_an_entry_keeps_no_other_one_alive() {
    let bench = Bench::new(ROOM);
    let body = Bytes::from(vec![b'b'; 1000]);
    let mut head = head(bench.now());
    let old = make(&bench, &key(1), &head, &body);
    head.headers
        .insert("x-longer", HeaderValue::try_from("x".repeat(3000)).unwrap());
    let new = make(&bench, &key(1), &head, &old.body());
    says("longer", &new, &key(1), &head, &body);
    let (theirs, its) = (old.body_bytes().as_ptr_range(), new.body_bytes().as_ptr());
    assert!(!theirs.contains(&its), "its weight is all that it holds");
}

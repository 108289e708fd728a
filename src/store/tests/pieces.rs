//! What an entry is made of: one piece of memory, or several where there is much of it; and what it says is what it was made of.

use super::*;
use crate::core::http::part::Part;
use crate::core::http::range::Cut;

mod any;

/// Names that are nobody else's here, as what is known of names decides how they are kept.
fn fields(name: &str, number: usize) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for n in 0..number {
        fields.append(
            HeaderName::try_from(format!("x-{name}-{n}")).unwrap(),
            HeaderValue::try_from(format!("value {n}")).unwrap(),
        );
    }
    fields
}

fn long_key(length: usize) -> Arc<[u8]> {
    b"k".repeat(length).into()
}

fn make(bench: &Bench, key: &Arc<[u8]>, head: &Head, body: &Bytes) -> EntryRef {
    let identity = Identity {
        resource: strong(1),
        digest: digest(1),
        key: Arc::clone(key),
        tags: [3, 7].into(),
    };
    let id = bench.store.next_entry_id();
    new_entry(id, identity, Arc::new(head.clone()), body.clone())
}

fn says(name: &str, entry: &EntryRef, key: &[u8], head: &Head, body: &Bytes) {
    assert_eq!(entry.key(), key, "{name}");
    assert_eq!(entry.meta(), head.meta, "{name}");
    assert_eq!(entry.facts(), head.meta.facts(), "{name}");
    assert_eq!(entry.status(), head.meta.status, "{name}");
    assert_eq!(*entry.vary(), head.meta.vary, "{name}");
    assert_eq!(entry.strong_tag(), head.meta.strong_tag(), "{name}");
    assert_eq!(entry.body(), body, "{name}");
    assert_eq!(entry.body_bytes(), body, "{name}");
    let mut fields = head.headers.clone();
    fields.insert("content-length", HeaderValue::from(body.len()));
    assert_eq!(entry.headers(), fields, "{name}");
    let lines = fields.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    let told: Vec<_> = entry.lines().map(|(name, text)| (name, text.to_vec())).collect();
    assert!(told.iter().map(|(name, text)| (*name, &**text)).eq(lines), "{name}");
    assert_eq!((entry.resource(), entry.key_digest()), (strong(1), digest(1)), "{name}");
    assert_eq!(entry.tags(), [3, 7], "{name}");
}

#[test]
fn an_entry_says_what_it_was_made_of_whatever_its_size_and_so_does_what_a_304_makes_of_it() {
    let bench = Bench::new(ROOM);
    let bodies = [0, 1, 700, 1024, 3000, 3700, 3800, 3900, 4000, 4096, 5000, 70_000];
    for keys in [1, 40, 3800, 4000, 9000] {
        for number in [0, 1, 8, 100] {
            for length in bodies {
                let name = format!("a key of {keys}, {number} fields, a body of {length}");
                let (key, body) = (long_key(keys), Bytes::from(vec![b'b'; length]));
                let mut head = head(bench.now());
                head.headers = fields("says", number);
                let entry = make(&bench, &key, &head, &body);
                says(&name, &entry, &key, &head, &body);
                let least = keys + length + std::mem::size_of_val(entry.tags());
                assert!(entry.weight() as usize >= least, "{name} weighs {}", entry.weight());
                head.meta.lifetime = crate::core::time::Span::from_millis(7);
                let renewed = renewed_entry(bench.store.next_entry_id(), &entry, head.meta.clone());
                assert_eq!(renewed.weight(), entry.weight(), "{name}");
                drop(entry);
                says(&name, &renewed, &key, &head, &body);
            }
        }
    }
}

#[test]
fn facts_that_are_rare_or_cannot_be_told_briefly_are_kept_all_the_same() {
    let bench = Bench::new(ROOM);
    let tag = |text: &'static str, weak| {
        let value = HeaderValue::from_static(text);
        Some(Etag { value, weak })
    };
    let (start, end) = (10, 14);
    let part = Part {
        cut: Cut { start, end },
        length: 100,
    };
    let far = MonoTime::from_micros(u64::MAX / 2);
    type Change = Box<dyn Fn(&mut Head)>;
    let changes: [(&str, Change); 9] = [
        ("as most", Box::new(|_| {})),
        (
            "a strong tag",
            Box::new(move |head| {
                head.meta.etag = tag("\"a\"", false);
                head.headers.append("etag", HeaderValue::from_static(" \"a\" "));
            }),
        ),
        (
            "a weak one",
            Box::new(move |head| {
                head.meta.etag = tag("W/\"a\"", true);
                head.headers.append("etag", HeaderValue::from_static("W/\"a\""));
            }),
        ),
        (
            "a tag that is none of its fields'",
            Box::new(move |head| head.meta.etag = tag("\"b\"", false)),
        ),
        (
            "a field that is no tag",
            Box::new(|head| {
                head.headers.append("etag", HeaderValue::from_static("a"));
            }),
        ),
        ("received long after", Box::new(move |head| head.meta.received = far)),
        ("a part", Box::new(move |head| head.meta.part = Some(part))),
        (
            "a variant",
            Box::new(|head| {
                let selected = (HeaderName::from_static("accept-language"), Some("de".into()));
                head.meta.vary = Vary::Fields([selected].into());
            }),
        ),
        (
            "dates",
            Box::new(|head| {
                head.meta.date = WallTime::from_millis(1_794_000_000_123);
                head.meta.last_modified = Some(WallTime::from_millis(1_700_000_000_000));
            }),
        ),
    ];
    let body = Bytes::from_static(b"body");
    for (name, change) in &changes {
        let mut one = head(bench.now());
        change(&mut one);
        let entry = make(&bench, &key(1), &one, &body);
        says(name, &entry, &key(1), &one, &body);
        for (then, change) in &changes {
            // Only its facts change.
            let mut other = head(bench.now());
            change(&mut other);
            other.headers = one.headers.clone();
            let renewed = renewed_entry(bench.store.next_entry_id(), &entry, other.meta.clone());
            says(&format!("{name}, then {then}"), &renewed, &key(1), &other, &body);
        }
    }
}

#[test]
fn who_reads_a_body_has_it_when_its_entry_has_long_gone() {
    let bench = Bench::new(ROOM);
    for length in [10, 100_000] {
        let body = Bytes::from(vec![b'b'; length]);
        let token = bench.store.register(bench.now(), strong(1), true);
        let entry = entry_of(&bench, 1, &body);
        bench.store.publish(token, &entry, None).unwrap();
        let read = entry.body();
        drop(entry);
        bench.store.begin_write(named(1)).end(WriteEnd::Applied);
        bench.is_empty();
        assert_eq!(read, body);
        assert_eq!(read.slice(3..5), "bb");
    }
}

#[test]
fn an_object_of_1_kib_with_eight_fields_is_one_piece_of_1280_bytes() {
    let bench = Bench::new(ROOM);
    let mut head = head(bench.now());
    for (name, value) in [
        ("content-type", "application/octet-stream"),
        ("content-length", "1024"),
        ("cache-control", "max-age=3600"),
        ("etag", "\"1024-bytes\""),
        ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT"),
        ("content-language", "en"),
        ("x-field-7", "a value of ordinary length"),
        ("date", "Thu, 01 Jan 2026 00:00:00 GMT"),
    ] {
        head.headers.append(name, HeaderValue::from_static(value));
    }
    head.meta.etag = crate::core::http::etag::of(&head.headers);
    let weigh = |key: Arc<[u8]>, date: &'static str, length: usize| {
        let mut head = head.clone();
        head.headers.insert("date", HeaderValue::from_static(date));
        let identity = Identity {
            resource: strong(1),
            digest: digest(1),
            key,
            tags: Box::default(),
        };
        let body = Bytes::from(vec![0; length]);
        new_entry(bench.store.next_entry_id(), identity, Arc::new(head), body).weight()
    };
    let date = "Thu, 01 Jan 2026 00:00:01 GMT";
    // Behind a host of twenty letters: a path of thirty.
    let [.., weight] = [date; 3].map(|date| weigh(long_key(70 - 8 - 5), date, 1024));
    let nothing = weigh(long_key(70 - 8 - 5), date, 0);
    assert_eq!(weight - nothing, 1280 - 256, "how much a body adds that fits");
}

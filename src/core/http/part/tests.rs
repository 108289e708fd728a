#![allow(clippy::unwrap_used, clippy::type_complexity)]

use super::*;
use crate::core::http::testing::{headers, meta};
use http::StatusCode;
use proptest::prelude::*;

fn part(start: u64, end: u64, length: u64) -> Part {
    Part {
        cut: Cut { start, end },
        length,
    }
}

#[test]
fn rfc9110_s14_4_what_a_206_brings() {
    let cases: &[(&str, &str, Option<Part>)] = &[
        ("a part", "Content-Range: bytes 2-4/10", Some(part(2, 5, 10))),
        ("all of it", "Content-Range: bytes 0-9/10", Some(part(0, 10, 10))),
        ("any case", "Content-Range: Bytes 2-4/10", Some(part(2, 5, 10))),
        (
            "its size",
            "Content-Range: bytes 2-4/10\nContent-Length: 3",
            Some(part(2, 5, 10)),
        ),
        (
            "s8.6 another size",
            "Content-Range: bytes 2-4/10\nContent-Length: 4",
            None,
        ),
        (
            "s8.6 a size that is none",
            "Content-Range: bytes 2-4/10\nContent-Length: x",
            None,
        ),
        ("an unknown length", "Content-Range: bytes 2-4/*", None),
        ("no range", "Content-Range: bytes */10", None),
        ("backwards", "Content-Range: bytes 4-2/10", None),
        ("past the end", "Content-Range: bytes 2-10/10", None),
        ("another unit", "Content-Range: lines 2-4/10", None),
        ("no unit", "Content-Range: 2-4/10", None),
        ("a sign", "Content-Range: bytes +2-4/10", None),
        ("white space inside", "Content-Range: bytes 2 - 4/10", None),
        (
            "beyond all numbers",
            "Content-Range: bytes 0-1/99999999999999999999999",
            None,
        ),
        (
            "two lines",
            "Content-Range: bytes 2-4/10\nContent-Range: bytes 2-4/10",
            None,
        ),
        (
            "s14.6 several parts",
            "Content-Range: bytes 2-4/10\nContent-Type: Multipart/Byteranges; boundary=x",
            None,
        ),
        ("nothing", "X: 1", None),
    ];
    for (name, fields, expected) in cases {
        assert_eq!(Part::of(&headers(fields)), *expected, "{name}");
    }
}

#[test]
fn rfc9111_s3_3_a_part_answers_what_lies_inside_it() {
    let stored = Meta {
        status: StatusCode::PARTIAL_CONTENT,
        part: Some(part(100, 200, 300)),
        ..meta()
    };
    let cases: &[(&str, &str, Option<(u64, u64)>)] = &[
        ("all of it", "Range: bytes=100-199", Some((100, 200))),
        ("inside", "Range: bytes=120-129", Some((120, 130))),
        ("one byte more in front", "Range: bytes=99-199", None),
        ("one byte more behind", "Range: bytes=100-200", None),
        ("open", "Range: bytes=150-", None),
        ("suffix", "Range: bytes=-10", None),
        ("several", "Range: bytes=100-101,190-191", None),
        ("unsatisfiable", "Range: bytes=300-", None),
        ("no Range", "X: 1", None),
        (
            "s13.1.5 on a condition that holds",
            "Range: bytes=120-129\nIf-Range: \"1\"",
            Some((120, 130)),
        ),
        (
            "s13.1.5 on one that does not",
            "Range: bytes=120-129\nIf-Range: \"2\"",
            None,
        ),
    ];
    for (name, fields, expected) in cases {
        let cut = stored.part.unwrap().answers(&Method::GET, &headers(fields), &stored);
        assert_eq!(cut.map(|cut| (cut.start, cut.end)), *expected, "{name}");
    }
    let range = headers("Range: bytes=120-129");
    assert_eq!(stored.part.unwrap().answers(&Method::HEAD, &range, &stored), None);
}

#[test]
fn rfc9111_s3_4_what_is_missing_and_what_goes_together() {
    let missing = |part: Part| part.missing().map(|missing| missing.range());
    assert_eq!(missing(part(0, 100, 300)).unwrap(), "bytes=100-");
    assert_eq!(missing(part(200, 300, 300)).unwrap(), "bytes=0-199");
    assert_eq!(missing(part(100, 200, 300)), None, "two pieces");
    assert_eq!(missing(part(0, 300, 300)), None);
    assert!(part(0, 300, 300).is_whole() && !part(0, 299, 300).is_whole());
    let with = |a: (u64, u64), b: (u64, u64)| {
        part(a.0, a.1, 300)
            .with(part(b.0, b.1, 300))
            .map(|p| (p.cut.start, p.cut.end))
    };
    assert_eq!(with((0, 100), (100, 200)), Some((0, 200)));
    assert_eq!(with((100, 200), (0, 101)), Some((0, 200)));
    assert_eq!(with((0, 100), (101, 200)), None, "a gap");
    assert_eq!(part(0, 100, 300).with(part(100, 200, 301)), None, "another length");
}

#[test]
fn rfc9111_s3_4_one_representation_is_one_strong_validator() {
    let stored = headers("ETag: \"1\"");
    let weak = Meta {
        etag: etag::parse(&HeaderValue::from_static("W/\"1\"")),
        ..meta()
    };
    assert!(is_of_one(&meta(), &stored, &headers("ETag: \"1\"")));
    assert!(!is_of_one(&meta(), &stored, &headers("ETag: \"2\"")));
    assert!(!is_of_one(&meta(), &stored, &headers("ETag: W/\"1\"")));
    assert!(!is_of_one(&weak, &stored, &headers("ETag: \"1\"")));
    assert!(!is_of_one(&weak, &stored, &headers("ETag: W/\"1\"")));
    assert!(!is_of_one(&meta(), &stored, &headers("")));
    assert!(!is_of_one(
        &meta(),
        &stored,
        &headers("ETag: \"1\"\nContent-Encoding: br")
    ));
}

proptest! {
    #[test]
    fn parts_that_grow_hold_the_bytes_of_the_body(
        body in proptest::collection::vec(any::<u8>(), 1..200),
        pieces in proptest::collection::vec((0_usize..200, 1_usize..80), 1..20),
        max in 1_u64..250,
    ) {
        let length = body.len() as u64;
        let mut stored: Option<(Part, Vec<u8>)> = None;
        for (start, size) in pieces {
            let (start, end) = (start.min(body.len() - 1), (start.min(body.len() - 1) + size).min(body.len()));
            let came = part(start as u64, end as u64, length);
            let bytes = body.get(start..end).unwrap();
            let grown = stored.as_ref().and_then(|(had, old)| joined((*had, old), (came, bytes), max));
            if let Some((part, _)) = &grown {
                prop_assert!(part.cut.holds(came.cut) && part.cut.size() <= max);
            }
            let (part, bytes) = grown.unwrap_or_else(|| (came, bytes.to_vec()));
            let (from, to) = (usize::try_from(part.cut.start).unwrap(), usize::try_from(part.cut.end).unwrap());
            prop_assert_eq!(Some(bytes.as_slice()), body.get(from..to));
            stored = Some((part, bytes));
        }
    }

    #[test]
    fn bytes_that_differ_are_never_joined(flip in 0_usize..20, start in 1_u64..19) {
        let body = [7_u8; 40];
        let mut other = body;
        let at = usize::try_from(start).unwrap() + flip;
        if let Some(byte) = other.get_mut(at) {
            *byte = 8;
        }
        let (had, came) = (part(0, 20, 40), part(start, 40, 40));
        let new = other.get(usize::try_from(start).unwrap()..).unwrap();
        let old = body.get(..20).unwrap();
        prop_assert_eq!(joined((had, old), (came, new), 40).is_none(), at < 20);
    }

    #[test]
    fn any_content_range_is_read_without_a_panic(text in "[ -~]{0,40}", size in "[ -~]{0,5}") {
        for value in [text.clone(), format!("bytes {text}")] {
            if let Some(part) = Part::of(&headers(&format!("Content-Range: {value}\nContent-Length: {size}"))) {
                prop_assert!(part.cut.start < part.cut.end && part.cut.end <= part.length);
            }
        }
    }
}

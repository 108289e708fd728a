#![allow(clippy::unwrap_used, clippy::type_complexity, clippy::cloned_ref_to_slice_refs)]

use super::Selection::{Part, Unsatisfiable, Whole};
use super::*;
use crate::core::http::testing::{START_WALL, headers, meta};
use proptest::prelude::*;

fn of_ten(fields: &str) -> Selection {
    select(&Method::GET, &headers(fields), &meta(), 10, false)
}

#[test]
fn rfc9110_s14_1_2_ranges_of_ten_bytes() {
    let cases: &[(&str, &str, Selection)] = &[
        ("closed", "Range: bytes=2-4", Part { start: 2, end: 5 }),
        ("one byte", "Range: bytes=0-0", Part { start: 0, end: 1 }),
        ("open", "Range: bytes=4-", Part { start: 4, end: 10 }),
        ("past the end", "Range: bytes=4-99", Part { start: 4, end: 10 }),
        (
            "far past the end",
            "Range: bytes=4-99999999999999999999999",
            Part { start: 4, end: 10 },
        ),
        ("suffix", "Range: bytes=-3", Part { start: 7, end: 10 }),
        (
            "a suffix longer than all",
            "Range: bytes=-30",
            Part { start: 0, end: 10 },
        ),
        ("all of it", "Range: bytes=0-", Part { start: 0, end: 10 }),
        ("any case of the unit", "Range: Bytes=2-4", Part { start: 2, end: 5 }),
        ("begins at the end", "Range: bytes=10-", Unsatisfiable),
        (
            "begins far behind the end",
            "Range: bytes=99999999999999999999999-",
            Unsatisfiable,
        ),
        ("an empty suffix", "Range: bytes=-0", Unsatisfiable),
        ("several", "Range: bytes=0-1,3-4", Whole),
        ("backwards", "Range: bytes=4-2", Whole),
        ("another unit", "Range: lines=2-4", Whole),
        ("no unit", "Range: 2-4", Whole),
        ("no dash", "Range: bytes=2", Whole),
        ("only a dash", "Range: bytes=-", Whole),
        ("no numbers", "Range: bytes=a-b", Whole),
        ("half a number", "Range: bytes=2-b", Whole),
        ("two dashes", "Range: bytes=2--4", Whole),
        ("two lines", "Range: bytes=2-4\nRange: bytes=5-6", Whole),
        ("none", "X: 1", Whole),
    ];
    for (name, fields, expected) in cases {
        assert_eq!(of_ten(fields), *expected, "{name}");
    }
}

#[test]
fn rfc9110_s14_2_only_for_get_on_200() {
    let range = headers("Range: bytes=2-4");
    assert_eq!(select(&Method::HEAD, &range, &meta(), 10, false), Whole);
    let not_found = Meta {
        status: StatusCode::NOT_FOUND,
        ..meta()
    };
    assert_eq!(select(&Method::GET, &range, &not_found, 10, false), Whole);
}

#[test]
fn rfc9110_s14_1_2_ranges_of_nothing() {
    let of_none = |fields: &str| select(&Method::GET, &headers(fields), &meta(), 0, false);
    assert_eq!(of_none("Range: bytes=0-"), Unsatisfiable);
    assert_eq!(of_none("Range: bytes=-5"), Whole);
}

#[test]
fn rfc9110_s13_1_5_if_range() {
    let part = Part { start: 2, end: 5 };
    let at = |ms: i64| WallTime::from_millis(START_WALL.as_millis() + ms);
    let old = Meta {
        last_modified: Some(at(-3_600_000)),
        ..meta()
    };
    let new = Meta {
        last_modified: Some(at(0)),
        ..meta()
    };
    let weak = Meta {
        etag: etag::parse(&HeaderValue::from_static("W/\"1\"")),
        ..meta()
    };
    // Meta, If-Range, on weak and eventual routes, on strong routes.
    let cases: &[(&str, &Meta, &str, Selection, Selection)] = &[
        ("the tag", &old, "\"1\"", part, part),
        ("another tag", &old, "\"2\"", Whole, Whole),
        ("weakly the tag", &old, "W/\"1\"", Whole, Whole),
        ("a weak tag is stored", &weak, "W/\"1\"", Whole, Whole),
        ("r5c the date", &old, "Sun, 06 Nov 1994 07:49:37 GMT", part, Whole),
        ("a later date", &old, "Sun, 06 Nov 1994 08:49:37 GMT", Whole, Whole),
        (
            "s8.8.2.2 a date too young to be strong",
            &new,
            "Sun, 06 Nov 1994 08:49:37 GMT",
            Whole,
            Whole,
        ),
        ("nothing that parses", &old, "x", Whole, Whole),
        ("two lines", &old, "\"1\"\nIf-Range: \"1\"", Whole, Whole),
    ];
    for (name, meta, if_range, expected, on_strong) in cases {
        let fields = headers(&format!("Range: bytes=2-4\nIf-Range: {if_range}"));
        assert_eq!(select(&Method::GET, &fields, meta, 10, false), *expected, "{name}");
        assert_eq!(
            select(&Method::GET, &fields, meta, 10, true),
            *on_strong,
            "{name}, strong"
        );
    }
}

#[test]
fn rfc9110_s14_4_content_range() {
    assert_eq!(content_range(2, 5, 10), "bytes 2-4/10");
    assert_eq!(content_range(0, 1, 1), "bytes 0-0/1");
    assert_eq!(unsatisfied_range(10), "bytes */10");
}

proptest! {
    #[test]
    fn a_part_lies_in_the_body(range in "bytes=[0-9]{0,4}-?[0-9]{0,4}", length in 0_u64..3000) {
        match select(&Method::GET, &headers(&format!("Range: {range}")), &meta(), length, false) {
            Part { start, end } => prop_assert!(start < end && end <= length),
            Whole | Unsatisfiable => {}
        }
    }

    #[test]
    fn a_closed_range_is_cut_exactly(first in 0_u64..100, more in 0_u64..100, length in 0_u64..200) {
        let last = first + more;
        let expected = if first < length { Part { start: first, end: (last + 1).min(length) } } else { Unsatisfiable };
        prop_assert_eq!(select(&Method::GET, &headers(&format!("Range: bytes={first}-{last}")), &meta(), length, false), expected);
    }

    #[test]
    fn any_range_is_read_without_a_panic(range in "[ -~]{0,30}", if_range in "[ -~]{0,30}", length in any::<u64>()) {
        let fields = headers(&format!("Range: {range}\nIf-Range: {if_range}"));
        let _ = select(&Method::GET, &fields, &meta(), length, false);
        let _ = select(&Method::GET, &headers(&format!("Range: bytes={range}")), &meta(), length, true);
    }
}

#![allow(clippy::unwrap_used, clippy::type_complexity, clippy::cloned_ref_to_slice_refs)]

use super::Selection::{Part, Several, Unsatisfiable, Whole};
use super::*;
use crate::core::http::testing::{START_WALL, headers, meta};
use proptest::prelude::*;

fn part(start: u64, end: u64) -> Selection {
    Part(Cut { start, end })
}

fn parts(cuts: &[(u64, u64)]) -> Selection {
    Several(
        cuts.iter()
            .map(|(start, end)| Cut {
                start: *start,
                end: *end,
            })
            .collect(),
    )
}

fn of_ten(fields: &str) -> Selection {
    select(&Method::GET, &headers(fields), &meta(), 10, false)
}

#[test]
fn rfc9110_s14_1_2_ranges_of_ten_bytes() {
    let cases: &[(&str, &str, Selection)] = &[
        ("closed", "Range: bytes=2-4", part(2, 5)),
        ("one byte", "Range: bytes=0-0", part(0, 1)),
        ("open", "Range: bytes=4-", part(4, 10)),
        ("past the end", "Range: bytes=4-99", part(4, 10)),
        (
            "far past the end",
            "Range: bytes=4-99999999999999999999999",
            part(4, 10),
        ),
        ("suffix", "Range: bytes=-3", part(7, 10)),
        ("a suffix longer than all", "Range: bytes=-30", part(0, 10)),
        ("all of it", "Range: bytes=0-", part(0, 10)),
        ("any case of the unit", "Range: Bytes=2-4", part(2, 5)),
        ("begins at the end", "Range: bytes=10-", Unsatisfiable),
        (
            "begins far behind the end",
            "Range: bytes=99999999999999999999999-",
            Unsatisfiable,
        ),
        ("an empty suffix", "Range: bytes=-0", Unsatisfiable),
        ("two lines that agree", "Range: bytes=2-4\nRange: bytes=2-4", part(2, 5)),
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
    let cut = part(2, 5);
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
        ("the tag", &old, "\"1\"", cut.clone(), cut.clone()),
        ("another tag", &old, "\"2\"", Whole, Whole),
        ("weakly the tag", &old, "W/\"1\"", Whole, Whole),
        ("a weak tag is stored", &weak, "W/\"1\"", Whole, Whole),
        (
            "r5c the date",
            &old,
            "Sun, 06 Nov 1994 07:49:37 GMT",
            cut.clone(),
            Whole,
        ),
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
fn rfc9110_s14_2_and_s15_3_7_several_ranges_of_a_thousand_bytes() {
    let of_thousand = |fields: &str| select(&Method::GET, &headers(fields), &meta(), 1000, false);
    let many = |count: u64, step: u64| {
        let all: Vec<String> = (0..count).map(|n| format!("{}-{}", n * step, n * step)).collect();
        format!("Range: bytes={}", all.join(","))
    };
    let cases: &[(&str, &str, Selection)] = &[
        ("two", "Range: bytes=0-9,500-509", parts(&[(0, 10), (500, 510)])),
        (
            "in the order asked for",
            "Range: bytes=500-509,0-9",
            parts(&[(500, 510), (0, 10)]),
        ),
        (
            "open and suffix",
            "Range: bytes=-10, 0-9",
            parts(&[(990, 1000), (0, 10)]),
        ),
        (
            "s5.6.1.2 empty members",
            "Range: bytes=,0-9, ,500-509,",
            parts(&[(0, 10), (500, 510)]),
        ),
        (
            "s15.3.7.2 one that is left is no multipart",
            "Range: bytes=0-9,2000-",
            part(0, 10),
        ),
        ("s15.3.7.2 near ones are one", "Range: bytes=0-9,89-99", part(0, 100)),
        (
            "s15.3.7.2 not so near",
            "Range: bytes=0-9,90-99",
            parts(&[(0, 10), (90, 100)]),
        ),
        (
            "s15.3.7.2 at the place of the first",
            "Range: bytes=500-509,0-9,520-529",
            parts(&[(500, 530), (0, 10)]),
        ),
        ("a bridge between two", "Range: bytes=0-9,150-159,60-99", part(0, 160)),
        ("a pair that overlaps", "Range: bytes=0-499,400-599", part(0, 600)),
        ("the same twice", "Range: bytes=0-9,0-9", part(0, 10)),
        (
            "s14.2 more than two that overlap",
            "Range: bytes=0-499,400-599,450-460",
            Whole,
        ),
        (
            "s14.2 two pairs that overlap",
            "Range: bytes=0-9,5-15,500-509,505-515",
            Whole,
        ),
        (
            "s14.2 as many as are sent",
            &many(10, 100),
            parts(&(0..10).map(|n| (n * 100, n * 100 + 1)).collect::<Vec<_>>()),
        ),
        (
            "s14.2 many small ones that are near each other",
            &many(50, 20),
            part(0, 981),
        ),
        ("more than are read", &many(65, 2), Whole),
        (
            "s15.5.17 none satisfiable",
            "Range: bytes=1000-,2000-2001,-0",
            Unsatisfiable,
        ),
        ("s14.1.1 one is backwards", "Range: bytes=0-9,5-4", Whole),
        ("s14.1.1 one is no range", "Range: bytes=0-9,x", Whole),
        ("only commas", "Range: bytes=,,", Whole),
    ];
    for (name, fields, expected) in cases {
        assert_eq!(of_thousand(fields), *expected, "{name}");
    }
    let far = |count: u64| {
        let all: Vec<String> = (0..count).map(|n| format!("{}-{}", n * 1000, n * 1000)).collect();
        select(
            &Method::GET,
            &headers(&format!("Range: bytes={}", all.join(","))),
            &meta(),
            100_000,
            false,
        )
    };
    assert!(matches!(far(16), Several(cuts) if cuts.len() == 16));
    assert_eq!(far(17), Whole, "s14.2 many small ones");
    let none = select(&Method::GET, &headers("Range: bytes=0-1,-5"), &meta(), 0, false);
    assert_eq!(none, Whole, "of nothing");
}

#[test]
fn one_range_without_a_condition_can_be_asked_of_the_origin() {
    let cases: &[(&str, &str, bool)] = &[
        ("one", "Range: bytes=0-9", true),
        ("open", "Range: bytes=5-", true),
        ("suffix", "Range: bytes=-5", true),
        ("several", "Range: bytes=0-1,5-6", false),
        ("malformed", "Range: bytes=5-2", false),
        ("another unit", "Range: lines=5-7", false),
        ("two lines", "Range: bytes=0-1\nRange: bytes=0-1", false),
        (
            "s13.1.5 If-Range is the origin's to judge",
            "Range: bytes=0-9\nIf-Range: \"1\"",
            false,
        ),
        ("none", "X: 1", false),
    ];
    for (name, fields, expected) in cases {
        assert_eq!(
            one_unconditional(&Method::GET, &headers(fields)).is_some(),
            *expected,
            "{name}"
        );
    }
    assert!(one_unconditional(&Method::HEAD, &headers("Range: bytes=0-9")).is_none());
}

#[test]
fn rfc9110_s14_4_content_range() {
    assert_eq!(content_range(Cut { start: 2, end: 5 }, 10), "bytes 2-4/10");
    assert_eq!(content_range(Cut { start: 0, end: 1 }, 1), "bytes 0-0/1");
    assert_eq!(unsatisfied_range(10), "bytes */10");
}

proptest! {
    #[test]
    fn a_part_lies_in_the_body(range in "bytes=[0-9]{0,4}-?[0-9]{0,4}", length in 0_u64..3000) {
        match select(&Method::GET, &headers(&format!("Range: {range}")), &meta(), length, false) {
            Part(cut) => prop_assert!(cut.start < cut.end && cut.end <= length),
            Whole | Unsatisfiable | Several(_) => {}
        }
    }

    #[test]
    fn a_closed_range_is_cut_exactly(first in 0_u64..100, more in 0_u64..100, length in 0_u64..200) {
        let last = first + more;
        let expected = if first < length { part(first, (last + 1).min(length)) } else { Unsatisfiable };
        prop_assert_eq!(select(&Method::GET, &headers(&format!("Range: bytes={first}-{last}")), &meta(), length, false), expected);
    }

    #[test]
    fn every_cut_of_several_ranges_is_what_slicing_the_body_gives(
        asked in proptest::collection::vec((0_u64..1200, 0_u64..300), 1..24), length in 1_u64..1000,
    ) {
        let text: Vec<String> = asked.iter().map(|(first, more)| format!("{first}-{}", first + more)).collect();
        let fields = headers(&format!("Range: bytes={}", text.join(",")));
        let wanted: Vec<Cut> = asked
            .iter()
            .filter(|(first, _)| *first < length)
            .map(|(first, more)| Cut { start: *first, end: (first + more + 1).min(length) })
            .collect();
        let sent: Vec<Cut> = match select(&Method::GET, &fields, &meta(), length, false) {
            Whole => return Ok(()),
            Unsatisfiable => Vec::new(),
            Part(cut) => vec![cut],
            Several(cuts) => {
                prop_assert!(cuts.len() > 1 && cuts.len() <= 16);
                cuts.into_vec()
            }
        };
        for cut in &wanted {
            prop_assert!(sent.iter().any(|part| part.holds(*cut)), "{cut:?} is in no part");
        }
        for (n, part) in sent.iter().enumerate() {
            prop_assert!(part.start < part.end && part.end <= length);
            prop_assert!(sent.iter().skip(n + 1).all(|other| !part.is_near(*other, 80)));
            // Nothing but what was asked for and the small gaps between.
            let mut inside: Vec<Cut> = wanted.iter().copied().filter(|cut| part.holds(*cut)).collect();
            inside.sort_by_key(|cut| cut.start);
            let mut reached = part.start;
            for cut in inside {
                prop_assert!(cut.start < reached + 80);
                reached = reached.max(cut.end);
            }
            prop_assert_eq!(reached, part.end);
        }
    }

    #[test]
    fn any_range_is_read_without_a_panic(range in "[ -~]{0,30}", if_range in "[ -~]{0,30}", length in any::<u64>()) {
        let fields = headers(&format!("Range: {range}\nIf-Range: {if_range}"));
        let _ = select(&Method::GET, &fields, &meta(), length, false);
        let _ = select(&Method::GET, &headers(&format!("Range: bytes={range}")), &meta(), length, true);
    }
}

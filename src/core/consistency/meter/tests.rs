#![allow(clippy::unwrap_used)]

use super::*;
use crate::core::http::testing::{at, headers, meta, secs};
use proptest::prelude::*;

fn ms(ms: u64) -> Span {
    Span::from_millis(ms)
}

#[test]
fn a_head_says_the_same_something_else_or_nothing() {
    let cases = [
        ("304 of the tag", true, 304, "ETag: \"1\"", Verdict::Same),
        ("304 without a tag", true, 304, "", Verdict::Same),
        ("R5b 304 of another tag", true, 304, "ETag: \"2\"", Verdict::Void),
        ("R5b 304 unasked for", false, 304, "ETag: \"1\"", Verdict::Void),
        ("the same strong tag", true, 200, "ETag: \"1\"", Verdict::Same),
        ("another strong tag", true, 200, "ETag: \"2\"", Verdict::Differs),
        ("a weak tag", true, 200, "ETag: W/\"1\"", Verdict::Bodies),
        ("no tag", false, 200, "", Verdict::Bodies),
        ("gone", true, 404, "", Verdict::Differs),
        ("gone for good", true, 410, "", Verdict::Differs),
        ("moved", true, 301, "Location: /b", Verdict::Differs),
        ("of the request", true, 403, "", Verdict::Void),
        ("too many", true, 429, "", Verdict::Void),
        ("broken", true, 503, "ETag: \"2\"", Verdict::Void),
        ("a part", true, 206, "ETag: \"2\"", Verdict::Void),
        ("from a cache below", true, 200, "ETag: \"2\"\nAge: 3", Verdict::Void),
        (
            "through a cache below",
            true,
            200,
            "ETag: \"2\"\nAge: 0",
            Verdict::Differs,
        ),
    ];
    for (name, conditional, status, fields, expected) in cases {
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(
            judge(&meta(), conditional, status, &headers(fields)),
            expected,
            "{name}"
        );
    }
}

#[test]
fn the_origins_own_clock_says_how_long_it_had_a_value_less_what_seconds_cut_off() {
    let date = "Date: Sun, 06 Nov 1994 08:49:37 GMT";
    let cases = [
        (
            "ten seconds",
            "Last-Modified: Sun, 06 Nov 1994 08:49:27 GMT",
            Some(secs(9)),
        ),
        (
            "one second",
            "Last-Modified: Sun, 06 Nov 1994 08:49:36 GMT",
            Some(secs(0)),
        ),
        (
            "this second",
            "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT",
            Some(secs(0)),
        ),
        ("the future", "Last-Modified: Sun, 06 Nov 1994 08:49:38 GMT", None),
        ("none", "", None),
        ("no date", "Last-Modified: yesterday", None),
    ];
    for (name, modified, expected) in cases {
        assert_eq!(
            existed_for(&headers(&format!("{date}\n{modified}"))),
            expected,
            "{name}"
        );
    }
    assert_eq!(
        existed_for(&headers("Last-Modified: Sun, 06 Nov 1994 08:49:27 GMT")),
        None
    );
}

#[test]
fn a_hit_was_stale_by_what_is_proven_and_not_by_more_than_is_possible() {
    // Fetched at 0, hit at 10 s, told at 12 s.
    let same = ReRead {
        hit: at(10_000),
        valid_as_of: at(0),
        told: at(12_000),
        newer: None,
        differed_before: None,
    };
    let newer = |existed: Option<Span>| ReRead {
        newer: Some(existed),
        ..same
    };
    let seen = |before: u64, existed: Option<Span>| ReRead {
        differed_before: Some(at(before)),
        ..newer(existed)
    };
    let cases = [
        ("still there", same, (0, 0)),
        (
            "still there, whatever was seen before",
            ReRead {
                differed_before: Some(at(1)),
                ..same
            },
            (0, 0),
        ),
        ("changed, nobody knows when", newer(None), (0, 10_000)),
        ("changed behind the hit, or not", newer(Some(ms(1_000))), (0, 10_000)),
        ("changed at the hit, or before", newer(Some(ms(2_000))), (0, 10_000)),
        (
            "changed a second before the hit",
            newer(Some(ms(3_000))),
            (1_000, 10_000),
        ),
        (
            "changed just behind the fetch",
            newer(Some(ms(12_000))),
            (10_000, 10_000),
        ),
        (
            "modified before it was fetched: no evidence",
            newer(Some(ms(12_001))),
            (0, 10_000),
        ),
        ("seen to differ before the hit", seen(4_000, None), (6_000, 10_000)),
        ("seen to differ behind the hit", seen(11_000, None), (0, 10_000)),
        (
            "the earlier evidence counts",
            seen(4_000, Some(ms(10_000))),
            (8_000, 10_000),
        ),
        ("and the other way round", seen(1_000, Some(ms(3_000))), (9_000, 10_000)),
    ];
    for (name, re_read, (least, most)) in cases {
        let expected = Staleness {
            least: ms(least),
            most: ms(most),
        };
        assert_eq!(re_read.staleness(), expected, "{name}");
    }
}

#[test]
fn a_sighting_lasts_until_the_value_is_back_and_there_are_not_too_many() {
    let mut sightings = Sightings::default();
    assert_eq!(sightings.note(1, true, at(5)), None);
    assert_eq!(sightings.note(1, true, at(9)), Some(at(5)));
    assert_eq!(
        sightings.note(1, true, at(3)),
        Some(at(5)),
        "one that was told before the first"
    );
    assert_eq!(sightings.note(1, true, at(9)), Some(at(3)));
    assert_eq!(sightings.note(1, false, at(10)), None);
    assert_eq!(sightings.note(1, true, at(11)), None, "A-B-A begins anew");
    for entry in 0..2 * MAX_SIGHTINGS as u64 {
        sightings.note(entry, true, at(20));
    }
    assert_eq!(sightings.0.len(), MAX_SIGHTINGS);
    assert_eq!(
        sightings.note(0, true, at(30)),
        None,
        "the one stored first is forgotten"
    );
}

#[test]
fn a_scale_inside_the_interval_counts_neither_way() {
    let mut tally = Tally::default();
    let mut add = |least: u64, most: u64| {
        tally.add(Staleness {
            least: ms(least),
            most: ms(most),
        });
    };
    add(0, 0);
    add(0, 900);
    add(0, 5_000);
    add(1_001, 5_000);
    add(1_000, 5_000);
    add(70_000, 90_000);
    let counted: Vec<_> = tally.scales.iter().map(|scale| (scale.within, scale.beyond)).collect();
    assert_eq!((tally.judged, counted.as_slice()), (6, &[(2, 2), (5, 1), (5, 1)][..]));
}

#[test]
fn nines_are_the_share_within_and_never_more_than_the_hits_can_show() {
    let nines = |within, beyond| Scale { within, beyond }.nines();
    assert_eq!(nines(0, 0), None);
    assert_eq!(nines(999, 1), Some(3.0));
    assert_eq!(nines(1000, 0), Some(3.0));
    assert_eq!(nines(9, 1), Some(1.0));
    assert_eq!(nines(0, 10), Some(0.0));
}

proptest! {
    /// One value at a time: V from 0, W from `changed` on, with the origin's clock off by any amount and cut to seconds.
    #[test]
    fn what_is_proven_is_never_more_and_what_is_possible_never_less_than_the_truth(
        fetched in 0_u64..20_000, hit_after in 0_u64..100_000, asked_after in 0_u64..5_000, took in 0_u64..5_000,
        changed in 0_u64..130_000, skew in 0_u64..10_000_000, dated in any::<bool>(),
        earlier in prop::option::of((0_u64..100_000, 0_u64..3_000)),
    ) {
        let changed = changed.max(fetched);
        let hit = fetched + hit_after;
        let answered = hit + asked_after;
        let told = answered + took;
        let newer = (changed <= answered).then(|| {
            let second = |at: u64| (at + skew) / 1000 * 1000;
            let span = Span::from_millis(second(answered) - second(changed)).minus(Span::from_secs(1));
            dated.then_some(span)
        });
        let differed_before = earlier.and_then(|(asked, took)| {
            let answered = fetched + asked;
            (answered >= changed).then(|| at(answered + took))
        });
        let re_read = ReRead { hit: at(hit), valid_as_of: at(fetched), told: at(told), newer, differed_before };
        let staleness = re_read.staleness();
        let truth = Span::from_millis(hit.saturating_sub(changed));
        prop_assert!(staleness.least <= truth, "{staleness:?} {truth:?}");
        prop_assert!(truth <= staleness.most || newer.is_none(), "{staleness:?} {truth:?}");
        prop_assert!(staleness.least <= staleness.most);
    }

    #[test]
    fn no_input_overflows(hit in any::<u64>(), valid in any::<u64>(), told in any::<u64>(), existed in any::<Option<u64>>(), before in any::<Option<u64>>()) {
        let at = MonoTime::from_micros;
        let re_read = ReRead {
            hit: at(hit),
            valid_as_of: at(valid),
            told: at(told),
            newer: Some(existed.map(Span::from_millis)),
            differed_before: before.map(at),
        };
        let staleness = re_read.staleness();
        prop_assert!(staleness.least <= staleness.most);
        let mut tally = Tally::default();
        tally.add(staleness);
        prop_assert_eq!(tally.judged, 1);
    }
}

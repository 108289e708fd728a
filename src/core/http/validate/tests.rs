#![allow(clippy::unwrap_used, clippy::type_complexity, clippy::cloned_ref_to_slice_refs)]

use super::*;
use crate::core::http::testing::{START_WALL, headers, lines, meta};
use crate::core::time::WallTime;
use http::StatusCode;
use http::header::ETAG;
use proptest::prelude::*;

const HOUR_BEFORE: &str = "Sun, 06 Nov 1994 07:49:37 GMT";
const SECOND_BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const NOW: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

fn hour_before() -> WallTime {
    WallTime::from_millis(START_WALL.as_millis() - 3_600_000)
}

fn tag(text: &'static str) -> Option<crate::core::http::stored::Etag> {
    etag::parse(&HeaderValue::from_static(text))
}

#[test]
fn rfc9111_s4_3_2_the_clients_conditions() {
    use Precondition::{NotModified, Proceed};
    let dated = || Meta {
        last_modified: Some(hour_before()),
        ..meta()
    };
    let undated = || Meta { etag: None, ..meta() };
    let cases = [
        ("none", meta(), "X: 1".to_owned(), Proceed),
        ("the tag", meta(), "If-None-Match: \"1\"".to_owned(), NotModified),
        (
            "weakly the tag",
            meta(),
            "If-None-Match: W/\"1\"".to_owned(),
            NotModified,
        ),
        ("another tag", meta(), "If-None-Match: \"2\"".to_owned(), Proceed),
        ("any tag", meta(), "If-None-Match: *".to_owned(), NotModified),
        (
            "a tag where none is stored",
            undated(),
            "If-None-Match: \"1\"".to_owned(),
            Proceed,
        ),
        (
            "unchanged since",
            dated(),
            format!("If-Modified-Since: {HOUR_BEFORE}"),
            NotModified,
        ),
        (
            "unchanged since later",
            dated(),
            format!("If-Modified-Since: {SECOND_BEFORE}"),
            NotModified,
        ),
        (
            "changed since",
            Meta {
                last_modified: Some(START_WALL),
                ..meta()
            },
            format!("If-Modified-Since: {SECOND_BEFORE}"),
            Proceed,
        ),
        (
            "Date without Last-Modified",
            undated(),
            format!("If-Modified-Since: {NOW}"),
            NotModified,
        ),
        (
            "before that Date",
            undated(),
            format!("If-Modified-Since: {SECOND_BEFORE}"),
            Proceed,
        ),
        ("no date", dated(), "If-Modified-Since: yesterday".to_owned(), Proceed),
        (
            "the tag goes before the date: other tag",
            dated(),
            format!("If-None-Match: \"2\"\nIf-Modified-Since: {NOW}"),
            Proceed,
        ),
        (
            "the tag goes before the date: malformed",
            dated(),
            format!("If-None-Match: x\nIf-Modified-Since: {NOW}"),
            Proceed,
        ),
        (
            "only for 2xx",
            Meta {
                status: StatusCode::NOT_FOUND,
                ..meta()
            },
            "If-None-Match: \"1\"".to_owned(),
            Proceed,
        ),
    ];
    for (name, meta, fields, expected) in cases {
        assert_eq!(
            evaluate(&Method::GET, &headers(&fields), &meta, false),
            expected,
            "{name}"
        );
        assert_eq!(
            evaluate(&Method::HEAD, &headers(&fields), &meta, false),
            expected,
            "{name}, HEAD"
        );
        assert_eq!(
            evaluate(&Method::POST, &headers(&fields), &meta, false),
            Proceed,
            "{name}, POST"
        );
    }
}

#[test]
fn r5c_dates_prove_nothing_on_strong_routes() {
    let meta = Meta {
        last_modified: Some(hour_before()),
        ..meta()
    };
    let fields = headers(&format!("If-Modified-Since: {NOW}"));
    assert_eq!(evaluate(&Method::GET, &fields, &meta, true), Precondition::Proceed);
    let fields = headers(&format!("If-None-Match: \"1\"\nIf-Modified-Since: {NOW}"));
    assert_eq!(evaluate(&Method::GET, &fields, &meta, true), Precondition::NotModified);
}

#[test]
fn rfc9111_s4_3_1_and_r5b_what_the_origin_is_asked() {
    let both = Meta {
        last_modified: Some(hour_before()),
        ..meta()
    };
    let weak = Meta {
        etag: tag("W/\"1\""),
        ..both.clone()
    };
    let sent = |meta: &Meta, strong: bool| {
        // R5c: the client's own conditions and Range never travel.
        let mut fields = headers(
            "If-None-Match: \"c\"\nIf-Modified-Since: c\nIf-Match: \"c\"\nIf-Unmodified-Since: c\nIf-Range: c\nRange: bytes=0-1\nCache-Control: max-age=0\nX: kept",
        );
        conditional_headers(meta, strong).apply(&mut fields);
        let mut lines: Vec<String> = fields
            .iter()
            .map(|(n, v)| format!("{n}: {}", v.to_str().unwrap()))
            .collect();
        lines.sort();
        lines
    };
    let date = format!("if-modified-since: {HOUR_BEFORE}");
    assert_eq!(
        sent(&both, false),
        ["cache-control: max-age=0", &date, "if-none-match: \"1\"", "x: kept"]
    );
    assert_eq!(
        sent(&weak, false),
        ["cache-control: max-age=0", &date, "if-none-match: W/\"1\"", "x: kept"]
    );
    assert_eq!(
        sent(&both, true),
        ["cache-control: no-cache", "if-none-match: \"1\"", "x: kept"],
        "r5b"
    );
    assert_eq!(
        sent(&weak, true),
        ["cache-control: no-cache", "x: kept"],
        "r5b: a weak tag is no validator"
    );
    assert!(!conditional_headers(&weak, true).is_conditional());
    assert!(conditional_headers(&both, true).is_conditional());
    assert!(!Conditions::none(true).is_conditional());
}

#[test]
fn rfc9111_s4_3_4_and_r5b_a_304_that_names_another_validator_confirms_nothing() {
    let dated = Meta {
        etag: None,
        last_modified: Some(hour_before()),
        ..meta()
    };
    let weak = Meta {
        etag: tag("W/\"1\""),
        ..meta()
    };
    let later = format!("Last-Modified: {NOW}");
    let same = format!("Last-Modified: {HOUR_BEFORE}");
    let cases: [(&str, Meta, &str, bool, bool); 9] = [
        ("names nothing", meta(), "X: 1", true, true),
        ("the same", meta(), "ETag: \"1\"", true, true),
        ("another", meta(), "ETag: \"2\"", false, false),
        ("weakly the same", meta(), "ETag: W/\"1\"", true, false),
        ("a weak one is stored", weak, "ETag: \"1\"", true, false),
        ("malformed", meta(), "ETag: 1", false, false),
        ("a tag where none is stored", dated.clone(), "ETag: \"1\"", false, false),
        ("the same date", dated.clone(), &same, true, true),
        ("another date", dated, &later, false, false),
    ];
    for (name, meta, fields, on_weak, on_strong) in cases {
        assert_eq!(confirms(&meta, &headers(fields), false), on_weak, "{name}");
        assert_eq!(confirms(&meta, &headers(fields), true), on_strong, "{name}, strong");
    }
}

#[test]
fn r12b_what_shows_that_the_stored_answer_is_out_of_date() {
    let weak = Meta {
        etag: tag("W/\"1\""),
        ..meta()
    };
    let gone = Meta {
        status: StatusCode::NOT_FOUND,
        ..meta()
    };
    let cases = [
        ("the same tag", meta(), 200, "ETag: \"1\"", false),
        ("another tag", meta(), 200, "ETag: \"2\"", true),
        ("no tag any more", meta(), 200, "X: 1", true),
        ("a weak one now", meta(), 200, "ETag: W/\"1\"", true),
        ("weak ones prove nothing", weak.clone(), 200, "ETag: W/\"2\"", false),
        ("a strong one now", weak, 200, "ETag: \"1\"", true),
        ("another status", meta(), 404, "ETag: \"1\"", true),
        ("found again", gone, 200, "ETag: \"1\"", true),
        ("not modified", meta(), 304, "ETag: \"1\"", false),
        ("not modified since another", meta(), 304, "ETag: \"2\"", true),
        ("a part", meta(), 206, "ETag: \"1\"", false),
        ("a part without a tag", meta(), 206, "X: 1", false),
        ("a part of another", meta(), 206, "ETag: \"2\"", true),
        ("a 5xx says nothing", meta(), 503, "X: 1", false),
        ("nor does a 429", meta(), 429, "X: 1", false),
    ];
    for (name, meta, status, fields, expected) in cases {
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(differs(&meta, status, &headers(fields)), expected, "{name}");
    }
}

#[test]
fn rfc9111_s3_2_a_304_updates_every_field_but_those_of_the_stored_bytes() {
    let mut stored = headers(
        "ETag: \"1\"\nX-Old: 1\nX-Both: 1\nX-Both: 2\nAge: 7\nDate: old\nContent-Type: text/plain
        Content-Length: 5\nContent-Encoding: gzip\nContent-Range: x\nCache-Control: max-age=1",
    );
    let answer = headers(
        "ETag: \"1\"\nX-New: 1\nX-New: 2\nX-Both: 3\nDate: new\nContent-Type: text/html\nCache-Control: max-age=9
        Content-Length: 0\nContent-Encoding: br\nContent-Range: y\nConnection: X-Hop\nX-Hop: 1\nKeep-Alive: 1\nTransfer-Encoding: chunked",
    );
    merge_304(&mut stored, &answer);
    let mut lines: Vec<String> = stored
        .iter()
        .map(|(n, v)| format!("{n}: {}", v.to_str().unwrap()))
        .collect();
    lines.sort();
    let expected = [
        "cache-control: max-age=9",
        "content-encoding: gzip",
        "content-length: 5",
        "content-range: x",
        "content-type: text/html",
        "date: new",
        "etag: \"1\"",
        "x-both: 3",
        "x-new: 1",
        "x-new: 2",
        "x-old: 1",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn rfc9111_s3_2_what_a_304_would_change() {
    let stored = "ETag: \"1\"\nDate: old\nX: 1\nX: 2\nContent-Length: 5\nContent-Type: text/plain";
    let aged = format!("{stored}\nAge: 7");
    let undated = "ETag: \"1\"\nX: 1";
    let twice = format!("{stored}\nDate: other");
    let cases = [
        ("nothing in it", stored, "", Change::Nothing),
        (
            "the same again",
            stored,
            "ETag: \"1\"\nX: 1\nX: 2\nDate: old",
            Change::Nothing,
        ),
        (
            "in the same order",
            stored,
            "ETag: \"1\"\nDate: old\nContent-Type: text/plain",
            Change::Nothing,
        ),
        (
            "in another order",
            stored,
            "Content-Type: text/plain\nDate: new\nETag: \"1\"",
            Change::Date,
        ),
        (
            "in order, another value",
            stored,
            "ETag: \"2\"\nDate: old",
            Change::More,
        ),
        (
            "of its connection",
            stored,
            "Connection: keep-alive, X\nKeep-Alive: 5\nX: 9\nTransfer-Encoding: chunked",
            Change::Nothing,
        ),
        (
            "of its own bytes",
            stored,
            "Content-Length: 0\nContent-Encoding: br\nContent-Digest: x",
            Change::Nothing,
        ),
        ("another date", stored, "ETag: \"1\"\nDate: new", Change::Date),
        ("another date and value", stored, "X: 3\nDate: new", Change::More),
        ("the other way round", stored, "Date: new\nX: 3", Change::More),
        ("a date where there was none", undated, "Date: new", Change::More),
        ("two dates", stored, "Date: new\nDate: newer", Change::More),
        ("two dates stored", &twice, "Date: new", Change::More),
        ("fewer lines", stored, "X: 1", Change::More),
        ("other lines", stored, "X: 2\nX: 1", Change::More),
        ("a new field", stored, "Y: 1", Change::More),
        ("a cookie", stored, "Set-Cookie: a=b", Change::More),
        ("an age where there was none", stored, "Age: 1", Change::More),
        ("the stored age goes", &aged, "X: 1\nX: 2", Change::More),
        ("the same age", &aged, "Age: 7", Change::Nothing),
    ];
    for (name, stored, answer, expected) in cases {
        let (stored, answer) = (headers(stored), headers(answer));
        assert_eq!(change(&lines(&stored), &answer), expected, "{name}");
        let mut merged = stored.clone();
        merge_304(&mut merged, &answer);
        let mut dated = stored.clone();
        if let Some(date) = answer.get(DATE) {
            dated.insert(DATE, date.clone());
        }
        let as_told = match expected {
            Change::Nothing => merged == stored,
            Change::Date => merged == dated && merged != stored,
            Change::More => merged != stored,
        };
        assert!(as_told, "{name}: {merged:?}");
    }
}

proptest! {
    #[test]
    fn what_we_ask_with_is_what_we_would_answer_304_to(tag in "(W/)?\"[!#-~]{0,8}\"", date in 0_i64..4_000_000_000, strong in any::<bool>()) {
        let meta = Meta {
            etag: etag::parse(&HeaderValue::from_str(&tag).unwrap()),
            last_modified: Some(WallTime::from_millis(date * 1000)),
            ..meta()
        };
        let mut fields = HeaderMap::new();
        let conditions = conditional_headers(&meta, strong);
        let conditional = conditions.is_conditional();
        conditions.apply(&mut fields);
        prop_assert_eq!(conditional, meta.can_be_validated(strong));
        prop_assert_eq!(evaluate(&Method::GET, &fields, &meta, strong) == Precondition::NotModified, conditional);
        let mut answer = HeaderMap::new();
        answer.insert(ETAG, HeaderValue::from_str(&tag).unwrap());
        prop_assert_eq!(confirms(&meta, &answer, strong), conditional);
    }

    #[test]
    fn any_conditions_are_read_without_a_panic(inm in "[ -~]{0,30}", ims in "[ -~]{0,40}", strong in any::<bool>()) {
        let _ = evaluate(&Method::GET, &headers(&format!("If-None-Match: {inm}\nIf-Modified-Since: {ims}")), &meta(), strong);
        let _ = evaluate(&Method::GET, &headers(&format!("If-Modified-Since: {ims}")), &meta(), strong);
    }

    #[test]
    fn a_304_brings_all_of_its_fields_but_those_of_the_stored_bytes_and_bringing_it_again_changes_nothing(
        stored in prop::collection::vec(("[xy]-[ab]|content-(length|encoding|range|type)|age|etag|date", "[a-z]{1,3}"), 0..8),
        answer in prop::collection::vec(("[xy]-[ab]|content-(length|encoding|range|type)|keep-alive|etag|date|te", "[a-z]{1,3}"), 0..8),
    ) {
        let map = |fields: &[(String, String)]| {
            headers(&fields.iter().map(|(name, value)| format!("{name}: {value}\n")).collect::<String>())
        };
        let (before, answer) = (map(&stored), map(&answer));
        let mut merged = before.clone();
        merge_304(&mut merged, &answer);
        let values = |map: &HeaderMap, name: &str| map.get_all(name).iter().cloned().collect::<Vec<_>>();
        for name in ["content-length", "content-encoding", "content-range", "keep-alive", "te"] {
            prop_assert_eq!(values(&merged, name), values(&before, name), "{} is kept", name);
        }
        for name in ["x-a", "x-b", "y-a", "y-b", "content-type", "etag", "date"] {
            let expected = if answer.contains_key(name) { &answer } else { &before };
            prop_assert_eq!(values(&merged, name), values(expected, name), "{}", name);
        }
        prop_assert!(!merged.contains_key("age"), "it counted from another reception");
        let mut again = merged.clone();
        merge_304(&mut again, &answer);
        prop_assert_eq!(again, merged);
    }
}

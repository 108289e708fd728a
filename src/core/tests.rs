//! The whole life of an answer, from its fields to what a reader gets later: tables from the RFCs, a section in every case's name.
//! What one function decides by itself is tried beside it; these cases need storing and looking up together, with nothing configured
//! on the route. `laws` says what holds for all of them.

mod laws;

use crate::core::admit::{Admission, Answer, admit};
use crate::core::http::testing::{START, START_WALL, caching, headers, weak};
use crate::core::lookup::{Decision, Read, decide};
use crate::core::policy::Policy;
use crate::core::time::{MonoTime, Span};
use http::{Method, StatusCode};

/// An answer and who asked for it. It was received at [`START`], at the second its usual `Date` names.
#[derive(Copy, Clone, Debug)]
pub(super) struct Given<'a> {
    /// How many milliseconds the origin took.
    pub(super) took: u64,
    /// The fields of the request.
    pub(super) asked: &'a str,
    /// The status of the answer.
    pub(super) status: u16,
    /// Its fields.
    pub(super) fields: &'a str,
}

/// A plain 200 with these fields, at once.
pub(super) const fn ok(fields: &str) -> Given<'_> {
    Given {
        took: 0,
        asked: "",
        status: 200,
        fields,
    }
}

/// What a GET with the fields `asks` gets `ms` milliseconds after the answer came: the reason why nothing is stored, or `hit`, `refresh`
/// (a hit, renewed behind it), `validate`, `fetch`, `refuse`.
pub(super) fn later(given: Given<'_>, ms: u64, asks: &str, policy: &Policy) -> String {
    let (asked, fields) = (headers(given.asked), headers(given.fields));
    let answer = Answer {
        status: StatusCode::from_u16(given.status).unwrap_or_default(),
        headers: &fields,
        sent: START.before(Span::from_millis(given.took)),
        lag: crate::core::consistency::bound::Lag::None,
        received: START,
        received_wall: START_WALL,
        epoch: crate::core::failover::view::Epoch(0),
        close_delimited: false,
    };
    let meta = match admit(&Read::of(&Method::GET, &asked, policy, false), &answer, policy) {
        Admission::Store(meta) => meta,
        Admission::PassOn(reason) => return format!("{reason:?}"),
    };
    let asks = headers(asks);
    let now: MonoTime = START.after(Span::from_millis(ms));
    let decision = decide(now, &Read::of(&Method::GET, &asks, policy, false), &[*meta], policy);
    match decision {
        Decision::Serve { .. } => "hit",
        Decision::ServeAndRefresh { .. } => "refresh",
        Decision::Revalidate { .. } => "validate",
        Decision::Fetch(_) => "fetch",
        Decision::Refuse(_) => "refuse",
    }
    .to_owned()
}

fn check(cases: &[(&str, Given<'_>, u64, &str)]) {
    for (name, given, ms, expected) in cases {
        assert_eq!(later(*given, *ms, "", &weak(caching())), *expected, "{name}");
    }
}

#[test]
fn rfc9213_targeted_fields() {
    check(&[
        ("s2.2 alone", ok("CDN-Cache-Control: max-age=60"), 59_999, "hit"),
        (
            "s2.2 and no longer",
            ok("CDN-Cache-Control: max-age=60"),
            60_000,
            "fetch",
        ),
        (
            "s2.2 short before long",
            ok("Cache-Control: max-age=3600\nCDN-Cache-Control: max-age=1"),
            1_000,
            "fetch",
        ),
        (
            "s2.2 long before short",
            ok("Cache-Control: max-age=1\nCDN-Cache-Control: max-age=3600"),
            3_599_999,
            "hit",
        ),
        (
            "s2.2 zero before a future Expires",
            ok("Expires: Sun, 06 Nov 1994 18:49:37 GMT\nCDN-Cache-Control: max-age=0"),
            0,
            "NoFreshness",
        ),
        (
            "s2.2 before a past Expires",
            ok("Expires: Sun, 06 Nov 1994 01:49:37 GMT\nCDN-Cache-Control: max-age=60"),
            1_000,
            "hit",
        ),
        (
            "s2.2 before an Expires that is none",
            ok("Expires: 0\nCDN-Cache-Control: max-age=60"),
            1_000,
            "hit",
        ),
        (
            "s2.2 Expires does not fill a gap",
            ok("Expires: Sun, 06 Nov 1994 18:49:37 GMT\nCDN-Cache-Control: public"),
            0,
            "NoFreshness",
        ),
        (
            "s2.2 nor does Cache-Control",
            ok("Cache-Control: max-age=60\nCDN-Cache-Control: public"),
            0,
            "NoFreshness",
        ),
        (
            "s2.2 fresh before no-store",
            ok("Cache-Control: no-store\nCDN-Cache-Control: max-age=60"),
            1_000,
            "hit",
        ),
        (
            "s2.2 fresh before private",
            ok("Cache-Control: private\nCDN-Cache-Control: max-age=60"),
            1_000,
            "hit",
        ),
        (
            "s2.2 no-store before fresh",
            ok("Cache-Control: max-age=60\nCDN-Cache-Control: no-store"),
            0,
            "NoStore",
        ),
        (
            "s2.2 private before fresh",
            ok("Cache-Control: max-age=60\nCDN-Cache-Control: private"),
            0,
            "Private",
        ),
        (
            "s2.2 no-cache before fresh",
            ok("Cache-Control: max-age=60\nETag: \"1\"\nCDN-Cache-Control: no-cache"),
            0,
            "validate",
        ),
        (
            "s2.2 must-revalidate counts",
            ok("ETag: \"1\"\nCDN-Cache-Control: max-age=1, stale-while-revalidate=9, must-revalidate"),
            1_000,
            "validate",
        ),
        (
            "s2.2 Age counts against it",
            ok("Age: 7200\nCDN-Cache-Control: max-age=3600"),
            0,
            "fetch",
        ),
        (
            "s2.2 ours before the CDN's",
            ok("CDN-Cache-Control: max-age=60\nTidegate-Cache-Control: max-age=1"),
            1_000,
            "fetch",
        ),
        (
            "s2.1 empty is as good as absent",
            ok("Cache-Control: max-age=60\nCDN-Cache-Control: "),
            1_000,
            "hit",
        ),
        (
            "s2.1 a mistake voids it, fresh beside it",
            ok("Cache-Control: no-store\nCDN-Cache-Control: max-age=60, &&&&&"),
            0,
            "NoStore",
        ),
        (
            "s2.1 a mistake voids it, no-store in it",
            ok("Cache-Control: max-age=60\nCDN-Cache-Control: no-store, max-age =60"),
            1_000,
            "hit",
        ),
        (
            "s2.1 a void one of ours leaves the CDN's",
            ok("Tidegate-Cache-Control: max-age=\nCDN-Cache-Control: max-age=60"),
            1_000,
            "hit",
        ),
        (
            "s2.1 the wrong type is no lifetime",
            ok("Cache-Control: max-age=60\nCDN-Cache-Control: max-age=\"60\""),
            0,
            "NoFreshness",
        ),
        (
            "s2.1 two lines are one dictionary",
            ok("CDN-Cache-Control: max-age=1\nCDN-Cache-Control: max-age=60"),
            1_000,
            "hit",
        ),
        (
            "s2.1 overflow saturates",
            ok("CDN-Cache-Control: max-age=99999999999"),
            2_147_483_647_999,
            "hit",
        ),
        (
            "s2.1 one that targets others is nothing",
            ok("Cache-Control: max-age=60\nOther-Cache-Control: no-store"),
            1_000,
            "hit",
        ),
    ]);
}

#[test]
fn rfc9110_s15_2_an_interim_answer_is_never_stored() {
    for status in [100, 101, 102, 103, 199] {
        let given = Given {
            status,
            ..ok("Cache-Control: public, max-age=60\nETag: \"1\"")
        };
        assert_eq!(later(given, 0, "", &weak(caching())), "Status", "{status}");
    }
}

#[test]
fn rfc9111_s5_1_age_syntax() {
    let cases: &[(&str, &str, u64, u64, &str)] = &[
        ("a word", "Age: abc", 3600, 0, "hit"),
        ("negative", "Age: -7200", 3600, 0, "hit"),
        ("a decimal", "Age: 7200.0", 3600, 0, "hit"),
        ("a sign", "Age: +7200", 3600, 0, "hit"),
        ("2^31 - 1", "Age: 2147483647", 3600, 0, "fetch"),
        ("2^31", "Age: 2147483648", 3600, 0, "fetch"),
        ("2^31 + 1", "Age: 2147483649", 3600, 0, "fetch"),
        ("2^64", "Age: 18446744073709551616", 3600, 0, "fetch"),
        ("the first of a list, old", "Age: 7200, 0", 3600, 0, "fetch"),
        ("the first of a list, new", "Age: 0, 7200", 3600, 0, "hit"),
        ("the first of two lines, old", "Age: 7200\nAge: 0", 3600, 0, "fetch"),
        ("the first of two lines, new", "Age: 0\nAge: 7200", 3600, 0, "hit"),
        (
            "twice the same counts once",
            "Age: 3600\nAge: 3600",
            10_000,
            6_399_999,
            "hit",
        ),
        ("and counts on", "Age: 3600\nAge: 3600", 10_000, 6_400_000, "fetch"),
        ("as old as its lifetime", "Age: 3600", 3600, 0, "fetch"),
        ("a second younger", "Age: 3599", 3600, 999, "hit"),
    ];
    for (name, age, lifetime, ms, expected) in cases {
        let fields = format!("Cache-Control: max-age={lifetime}\n{age}");
        assert_eq!(later(ok(&fields), *ms, "", &weak(caching())), *expected, "{name}");
    }
}

#[test]
fn rfc9111_s5_2_2_3_must_understand() {
    for (status, understood) in [
        (200, true),
        (203, true),
        (302, true),
        (404, true),
        (503, true),
        (299, false),
        (499, false),
        (599, false),
    ] {
        for (directives, if_understood, if_not) in [
            ("max-age=60, must-understand", "hit", "NotUnderstood"),
            ("max-age=60, no-store, must-understand", "hit", "NotUnderstood"),
            ("must-understand, no-store, max-age=60", "hit", "NotUnderstood"),
            ("max-age=60, no-store", "NoStore", "NoStore"),
            ("max-age=60, must-understand, private", "Private", "NotUnderstood"),
            ("max-age=60", "hit", "hit"),
        ] {
            let fields = format!("Cache-Control: {directives}");
            let given = Given { status, ..ok(&fields) };
            let expected = if understood { if_understood } else { if_not };
            assert_eq!(
                later(given, 1_000, "", &weak(caching())),
                expected,
                "{status}, {directives}"
            );
        }
    }
}

#[test]
fn rfc8246_s2_immutable_is_a_word_to_clients_and_lengthens_nothing() {
    let fields = "Cache-Control: max-age=60, immutable\nETag: \"1\"";
    for (name, ms, asks, expected) in [
        ("fresh", 59_999, "", "hit"),
        ("stale", 60_000, "", "validate"),
        (
            "a client that insists is heard",
            1_000,
            "Cache-Control: no-cache",
            "validate",
        ),
        (
            "a client that reloads is heard",
            1_000,
            "Cache-Control: max-age=0",
            "validate",
        ),
    ] {
        assert_eq!(later(ok(fields), ms, asks, &weak(caching())), expected, "{name}");
    }
    check(&[(
        "alone it is no lifetime",
        ok("Cache-Control: immutable"),
        0,
        "NoFreshness",
    )]);
}

#[test]
fn rfc5861_s3_the_window_opens_and_closes_to_the_millisecond() {
    let window = "ETag: \"1\"\nCache-Control: max-age=10, stale-while-revalidate=5";
    let aged = |age: &str| format!("{window}\nAge: {age}");
    check(&[
        ("s3 before it", ok(window), 9_999, "hit"),
        ("s3 its first moment", ok(window), 10_000, "refresh"),
        ("s3 its last", ok(window), 14_999, "refresh"),
        ("s3 behind it", ok(window), 15_000, "validate"),
        ("s3 an answer that came inside it", ok(&aged("14")), 999, "refresh"),
        ("s3 and left it", ok(&aged("14")), 1_000, "validate"),
        ("s3 an answer that came behind it", ok(&aged("15")), 0, "validate"),
        (
            "rfc9111 s5.2.2.2 must-revalidate shuts it",
            ok("ETag: \"1\"\nCache-Control: max-age=10, stale-while-revalidate=5, must-revalidate"),
            10_000,
            "validate",
        ),
        (
            "rfc9111 s5.2.2.8 proxy-revalidate shuts it",
            ok("ETag: \"1\"\nCache-Control: max-age=10, stale-while-revalidate=5, proxy-revalidate"),
            10_000,
            "validate",
        ),
        (
            "rfc9111 s5.2.2.10 s-maxage shuts it",
            ok("ETag: \"1\"\nCache-Control: s-maxage=10, stale-while-revalidate=5"),
            10_000,
            "validate",
        ),
        (
            "rfc9111 s5.2.2.4 no-cache shuts it",
            ok("ETag: \"1\"\nCache-Control: no-cache, max-age=10, stale-while-revalidate=5"),
            0,
            "validate",
        ),
        (
            "s3 the smaller of two",
            ok("ETag: \"1\"\nCache-Control: max-age=10, stale-while-revalidate=50, stale-while-revalidate=5"),
            15_000,
            "validate",
        ),
        (
            "s3 no number",
            ok("ETag: \"1\"\nCache-Control: max-age=10, stale-while-revalidate=5s"),
            10_000,
            "validate",
        ),
        (
            "s3 overflow",
            ok("ETag: \"1\"\nCache-Control: max-age=10, stale-while-revalidate=99999999999"),
            2_147_483_657_999,
            "refresh",
        ),
    ]);
}

#[test]
fn rfc9111_s4_2_2_heuristics() {
    // A tenth of the 1000 s since the last change.
    let fields = "Date: Sun, 06 Nov 1994 08:49:37 GMT\nLast-Modified: Sun, 06 Nov 1994 08:32:57 GMT";
    let public = format!("{fields}\nCache-Control: public");
    for status in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
        let given = Given { status, ..ok(fields) };
        check(&[("fresh", given, 99_999, "hit"), ("stale", given, 100_000, "validate")]);
    }
    for status in [201, 202, 205, 302, 303, 307, 400, 403, 500, 502, 503, 504, 299, 599] {
        let given = Given { status, ..ok(fields) };
        check(&[("no guess", given, 0, "Status")]);
        let given = Given { status, ..ok(&public) };
        check(&[
            ("public permits one", given, 99_999, "hit"),
            ("and no more", given, 100_000, "validate"),
        ]);
    }
    check(&[
        (
            "an explicit lifetime goes before it",
            ok(&format!("{fields}\nCache-Control: max-age=1")),
            1_000,
            "validate",
        ),
        (
            "an Expires that is none, too",
            ok(&format!("{fields}\nExpires: 0")),
            0,
            "validate",
        ),
        (
            "a change in the future is no time",
            ok("Date: Sun, 06 Nov 1994 08:49:37 GMT\nLast-Modified: Sun, 06 Nov 1994 08:59:37 GMT"),
            0,
            "validate",
        ),
        (
            "without Date from the reception on",
            ok("Last-Modified: Sun, 06 Nov 1994 08:32:57 GMT"),
            99_999,
            "hit",
        ),
        (
            "nothing to guess from",
            ok("Date: Sun, 06 Nov 1994 08:49:37 GMT"),
            0,
            "NoFreshness",
        ),
    ]);
}

#[test]
fn rfc9111_s4_2_3_age_arithmetic() {
    let slow = |fields| Given {
        took: 3_000,
        ..ok(fields)
    };
    check(&[
        (
            "age_value + response_delay",
            slow("Cache-Control: max-age=10\nAge: 4"),
            2_999,
            "hit",
        ),
        (
            "and the resident time",
            slow("Cache-Control: max-age=10\nAge: 4"),
            3_000,
            "fetch",
        ),
        ("response_delay alone", slow("Cache-Control: max-age=10"), 6_999, "hit"),
        (
            "and the resident time",
            slow("Cache-Control: max-age=10"),
            7_000,
            "fetch",
        ),
        (
            "apparent_age is larger",
            slow("Cache-Control: max-age=10\nDate: Sun, 06 Nov 1994 08:49:29 GMT"),
            1_999,
            "hit",
        ),
        (
            "and counts on",
            slow("Cache-Control: max-age=10\nDate: Sun, 06 Nov 1994 08:49:29 GMT"),
            2_000,
            "fetch",
        ),
        (
            "apparent_age is smaller",
            slow("Cache-Control: max-age=10\nAge: 4\nDate: Sun, 06 Nov 1994 08:49:35 GMT"),
            3_000,
            "fetch",
        ),
        (
            "a Date in the future is no age",
            ok("Cache-Control: max-age=10\nDate: Sun, 06 Nov 1994 09:49:37 GMT"),
            9_999,
            "hit",
        ),
        (
            "s4.2.1 Expires less Date, both ahead",
            ok("Date: Sun, 06 Nov 1994 09:49:37 GMT\nExpires: Sun, 06 Nov 1994 09:49:47 GMT"),
            9_999,
            "hit",
        ),
        (
            "s4.2.1 and no longer",
            ok("Date: Sun, 06 Nov 1994 09:49:37 GMT\nExpires: Sun, 06 Nov 1994 09:49:47 GMT"),
            10_000,
            "fetch",
        ),
        (
            "s4.2.1 Expires before Date, both ahead",
            ok("Date: Sun, 06 Nov 1994 09:49:37 GMT\nExpires: Sun, 06 Nov 1994 09:48:37 GMT"),
            0,
            "NoFreshness",
        ),
        (
            "s4.2.1 Expires under a Date that is none",
            ok("Date: foo\nExpires: Sun, 06 Nov 1994 08:49:47 GMT"),
            9_999,
            "hit",
        ),
    ]);
}

#[test]
fn rfc9111_s3_5_authorization_and_r14_cookie() {
    for credentials in ["Authorization: x", "Cookie: a=1"] {
        for (name, directives, stored_for_one, served_to_one) in [
            ("a lifetime alone", "max-age=60", "Credentials", "fetch"),
            ("s5.2.2.9 public", "max-age=60, public", "hit", "hit"),
            ("s5.2.2.2 must-revalidate", "max-age=60, must-revalidate", "hit", "hit"),
            ("s5.2.2.10 s-maxage", "s-maxage=60", "hit", "hit"),
            (
                "s5.2.2.8 proxy-revalidate says nothing",
                "max-age=60, proxy-revalidate",
                "Credentials",
                "fetch",
            ),
            ("s5.2.2.7 private forbids", "s-maxage=60, private", "Private", "Private"),
        ] {
            let fields = format!("Cache-Control: {directives}");
            let own = Given {
                asked: credentials,
                ..ok(&fields)
            };
            assert_eq!(
                later(own, 1_000, "", &weak(caching())),
                stored_for_one,
                "{name}, {credentials}"
            );
            let others = later(ok(&fields), 1_000, credentials, &weak(caching()));
            assert_eq!(others, served_to_one, "{name}, {credentials}");
        }
    }
}

#[test]
fn rfc9111_s5_2_1_what_the_client_asks_of_what_is_stored() {
    let stored = "ETag: \"1\"\nCache-Control: max-age=1500\nAge: 1000";
    for (name, ms, asks, expected) in [
        ("s5.2.1.3 min-fresh, just enough", 0, "min-fresh=500", "hit"),
        ("s5.2.1.3 min-fresh, a millisecond late", 1, "min-fresh=500", "validate"),
        ("s5.2.1.1 max-age, as old as that", 0, "max-age=1000", "hit"),
        ("s5.2.1.1 max-age, a millisecond older", 1, "max-age=1000", "validate"),
        ("s5.2.1.2 max-stale, as stale as that", 600_000, "max-stale=100", "hit"),
        (
            "s5.2.1.2 max-stale, a millisecond more",
            600_001,
            "max-stale=100",
            "validate",
        ),
        (
            "s5.2.1.2 max-stale that is no number",
            600_000,
            "max-stale=x",
            "validate",
        ),
        ("s5.2.1.7 only-if-cached, fresh", 499_999, "only-if-cached", "hit"),
        ("s5.2.1.7 only-if-cached, stale", 500_000, "only-if-cached", "refuse"),
        (
            "s5.2.1.7 only-if-cached with max-stale",
            500_000,
            "only-if-cached, max-stale",
            "hit",
        ),
        ("s5.2.1.4 no-cache", 0, "no-cache", "validate"),
        ("s5.2.1.5 no-store does not forbid a hit", 0, "no-store", "hit"),
        ("s5.2.1.6 no-transform asks nothing", 0, "no-transform", "hit"),
        ("s5.2.3 an extension asks nothing", 0, "nothing-to-see-here", "hit"),
    ] {
        let asks = format!("Cache-Control: {asks}");
        assert_eq!(later(ok(stored), ms, &asks, &weak(caching())), expected, "{name}");
    }
}

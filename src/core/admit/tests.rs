#![allow(clippy::unwrap_used, clippy::type_complexity, clippy::cloned_ref_to_slice_refs)]

use super::*;
use crate::core::http::testing::{START, START_WALL, at, caching, eventual, headers, meta, off, secs, strong, weak};
use crate::core::lookup::{Decision, decide};
use crate::core::policy::OnUnreachable;
use crate::core::time::Span;
use proptest::prelude::*;

const FRESH: &str = "Date: Sun, 06 Nov 1994 08:49:37 GMT\nCache-Control: max-age=60\nETag: \"1\"";

fn cp(caching: Caching) -> Policy {
    eventual(caching, OnUnreachable::Error)
}

fn answer(status: u16, headers: &HeaderMap) -> Answer<'_> {
    Answer {
        status: StatusCode::from_u16(status).unwrap(),
        headers,
        sent: START,
        lag: Lag::None,
        received: START,
        received_wall: START_WALL,
        epoch: crate::core::failover::view::Epoch(0),
        close_delimited: false,
    }
}

/// What becomes of an answer with `status` and `fields` to a GET with `asked`.
fn admitted(asked: &str, status: u16, fields: &str, policy: &Policy) -> Result<Meta, NotStored> {
    let (asked, fields) = (headers(asked), headers(fields));
    result(admit(
        &Read::of(&Method::GET, &asked, policy, false),
        &answer(status, &fields),
        policy,
    ))
}

fn result(admission: Admission) -> Result<Meta, NotStored> {
    match admission {
        Admission::Store(meta) => Ok(*meta),
        Admission::PassOn(reason) => Err(reason),
    }
}

fn lifetime(admitted: Result<Meta, NotStored>) -> Result<Ttl, NotStored> {
    admitted.map(|meta| meta.lifetime)
}

#[test]
fn rfc9111_s3_3_and_s3_4_parts_are_stored_where_they_could_be_completed_and_r7_never_on_strong_routes() {
    let range = "Content-Range: bytes 2-4/10\nCache-Control: max-age=60";
    let cases: &[(&str, String, bool)] = &[
        ("a strong tag", format!("{range}\nETag: \"1\""), true),
        ("a weak tag", format!("{range}\nETag: W/\"1\""), false),
        (
            "only a date",
            format!("{range}\nLast-Modified: Sun, 06 Nov 1994 07:32:57 GMT"),
            false,
        ),
        (
            "an unknown length",
            "Content-Range: bytes 2-4/*\nETag: \"1\"".to_owned(),
            false,
        ),
    ];
    for (name, fields, stored) in cases {
        for policy in [weak(caching()), cp(caching())] {
            let part =
                admitted("", 206, fields, &policy).map(|meta| meta.part.map(|p| (p.cut.start, p.cut.end, p.length)));
            let expected = if *stored {
                Ok(Some((2, 5, 10)))
            } else {
                Err(NotStored::Partial)
            };
            assert_eq!(part, expected, "{name}, {}", policy.level());
        }
        let part = admitted("", 206, fields, &strong(caching()));
        assert!(matches!(part, Err(NotStored::Partial)), "r7 {name}");
    }
    let whole = admitted("", 200, &format!("{range}\nETag: \"1\""), &weak(caching()));
    assert!(whole.unwrap().part.is_none(), "only a 206 is a part");
}

#[test]
fn rfc9111_s3_what_weak_and_eventual_routes_store() {
    use NotStored::{
        Credentials, NoFreshness, NoStore, NotUnderstood, Partial, Private, RequestNoStore, SetCookie, Status, VaryStar,
    };
    let zero = Ttl::ZERO;
    let cases: &[(&str, &str, u16, &str, Result<Ttl, NotStored>)] = &[
        ("fresh", "", 200, FRESH, Ok(secs(60))),
        ("an unknown status with a lifetime", "", 299, FRESH, Ok(secs(60))),
        ("a 503 with a lifetime", "", 503, FRESH, Ok(secs(60))),
        ("a 503 without", "", 503, "ETag: \"1\"", Err(Status)),
        ("a 404 without, to be validated", "", 404, "ETag: \"1\"", Ok(zero)),
        (
            "a heuristic",
            "",
            200,
            "Last-Modified: Sun, 06 Nov 1994 08:32:57 GMT",
            Ok(secs(100).min(secs(60))),
        ),
        ("nothing to go by", "", 200, "X: 1", Err(NoFreshness)),
        (
            "only a date to validate by",
            "",
            200,
            "Cache-Control: max-age=0\nLast-Modified: Sun, 06 Nov 1994 08:32:57 GMT",
            Ok(zero),
        ),
        (
            "s5.2.2.5 no-store",
            "",
            200,
            "Cache-Control: no-store, max-age=60",
            Err(NoStore),
        ),
        (
            "s5.2.2.7 private",
            "",
            200,
            "Cache-Control: private, max-age=60",
            Err(Private),
        ),
        (
            "s5.2.2.4 no-cache with a validator",
            "",
            200,
            "Cache-Control: no-cache\nETag: \"1\"",
            Ok(zero),
        ),
        (
            "s5.2.2.4 no-cache without",
            "",
            200,
            "Cache-Control: no-cache, max-age=60",
            Err(NoFreshness),
        ),
        (
            "s5.2.1.5 the request's no-store",
            "Cache-Control: no-store",
            200,
            FRESH,
            Err(RequestNoStore),
        ),
        (
            "s5.2.2.3 must-understand",
            "",
            299,
            "Cache-Control: must-understand, max-age=60",
            Err(NotUnderstood),
        ),
        ("s3.4 a part that does not say what it is", "", 206, FRESH, Err(Partial)),
        ("a 304 alone", "", 304, FRESH, Err(Status)),
        (
            "s4.1 Vary: *",
            "",
            200,
            &format!("{FRESH}\nVary: Foo, *"),
            Err(VaryStar),
        ),
        (
            "Set-Cookie",
            "",
            200,
            &format!("{FRESH}\nSet-Cookie: a=1"),
            Err(SetCookie),
        ),
        (
            "r14 s3.5 Authorization",
            "Authorization: x",
            200,
            FRESH,
            Err(Credentials),
        ),
        ("r14 Cookie", "Cookie: a=1", 200, FRESH, Err(Credentials)),
        (
            "r14 public",
            "Authorization: x",
            200,
            "Cache-Control: public, max-age=60",
            Ok(secs(60)),
        ),
        (
            "r14 s-maxage",
            "Cookie: a=1",
            200,
            "Cache-Control: s-maxage=60",
            Ok(secs(60)),
        ),
        (
            "r14 must-revalidate",
            "Cookie: a=1",
            200,
            "Cache-Control: must-revalidate, max-age=60",
            Ok(secs(60)),
        ),
        (
            "r14 proxy-revalidate permits nothing",
            "Cookie: a=1",
            200,
            "Cache-Control: proxy-revalidate, max-age=60",
            Err(Credentials),
        ),
    ];
    for (name, asked, status, fields, expected) in cases {
        let found = lifetime(admitted(asked, *status, fields, &cp(caching())));
        assert_eq!(found, *expected, "{name}, eventual");
        let found = lifetime(admitted(asked, *status, fields, &weak(caching()))).map(|ttl| ttl.min(secs(60)));
        assert_eq!(found, *expected, "{name}, weak");
        assert_eq!(
            lifetime(admitted(asked, *status, fields, &off())),
            Err(NotStored::RouteOff),
            "{name}, off"
        );
    }
}

#[test]
fn only_get_fills() {
    let (asked, fields) = (HeaderMap::new(), headers(FRESH));
    for method in [Method::HEAD, Method::POST, Method::PUT] {
        for (policy, expected) in [
            (off(), NotStored::RouteOff),
            (weak(caching()), NotStored::Method),
            (cp(caching()), NotStored::Method),
            (strong(caching()), NotStored::Method),
        ] {
            let read = Read::of(&method, &asked, &policy, false);
            assert_eq!(
                result(admit(&read, &answer(200, &fields), &policy)).err(),
                Some(expected),
                "{method}"
            );
        }
    }
}

#[test]
fn a_stale_answer_without_validator_is_kept_only_where_it_could_be_served() {
    let stale = "Cache-Control: max-age=0";
    let window = "Cache-Control: max-age=0, stale-while-revalidate=5";
    let bound = "Cache-Control: max-age=0, must-revalidate, stale-if-error=5";
    assert_eq!(
        lifetime(admitted("", 200, stale, &weak(caching()))),
        Err(NotStored::NoFreshness)
    );
    assert_eq!(lifetime(admitted("", 200, window, &weak(caching()))), Ok(Ttl::ZERO));
    assert_eq!(
        lifetime(admitted("", 200, stale, &cp(caching()))),
        Ok(Ttl::ZERO),
        "r42: for when the origin fails"
    );
    assert_eq!(
        lifetime(admitted("", 200, bound, &cp(caching()))),
        Err(NotStored::NoFreshness)
    );
}

#[test]
fn what_a_route_switches_on() {
    let sharing = Caching {
        shared_auth: true,
        ..caching()
    };
    let cookies = Caching {
        store_set_cookie: true,
        ..caching()
    };
    let ttl = Caching {
        ttl: Some(secs(30)),
        ..caching()
    };
    let ignoring = Caching {
        origin_ttl: OriginTtl::Ignore,
        ..ttl.clone()
    };
    let windows = Caching {
        stale_while_revalidate: Some(secs(7)),
        stale_if_error: Some(secs(8)),
        ..caching()
    };
    assert!(
        admitted("Cookie: a=1", 200, FRESH, &weak(sharing.clone())).is_ok(),
        "r14 shared_auth"
    );
    assert!(
        admitted("Authorization: x", 200, FRESH, &cp(sharing)).is_ok(),
        "r14 shared_auth"
    );
    assert!(
        admitted("", 200, &format!("{FRESH}\nSet-Cookie: a=1"), &weak(cookies)).is_ok(),
        "store_set_cookie"
    );
    assert_eq!(
        lifetime(admitted("", 200, "X: 1", &weak(ttl.clone()))),
        Ok(secs(30)),
        "ttl when the origin gives none"
    );
    assert_eq!(
        lifetime(admitted("", 200, FRESH, &weak(ttl.clone()))),
        Ok(secs(60)),
        "ttl never caps"
    );
    assert_eq!(
        lifetime(admitted("", 500, "X: 1", &weak(ttl))),
        Err(NotStored::Status),
        "ttl makes no error last"
    );
    assert_eq!(
        lifetime(admitted("", 200, FRESH, &weak(ignoring.clone()))),
        Ok(secs(30)),
        "origin_ttl = ignore"
    );
    let never = admitted("", 200, "Cache-Control: no-cache, max-age=0", &weak(ignoring.clone())).unwrap();
    assert_eq!(
        (never.lifetime, never.no_cache),
        (secs(30), false),
        "origin_ttl = ignore"
    );
    for (field, reason) in [("no-store", NotStored::NoStore), ("private", NotStored::Private)] {
        let fields = format!("Cache-Control: {field}");
        assert_eq!(
            lifetime(admitted("", 200, &fields, &weak(ignoring.clone()))),
            Err(reason),
            "ignore never overrides {field}"
        );
    }
    let meta = admitted("", 200, FRESH, &weak(windows.clone())).unwrap();
    assert_eq!(
        (meta.stale_while_revalidate, meta.stale_if_error),
        (secs(7), Some(secs(8)))
    );
    let said = "Cache-Control: max-age=60, stale-while-revalidate=1, stale-if-error=2";
    let meta = admitted("", 200, said, &weak(windows)).unwrap();
    assert_eq!(
        (meta.stale_while_revalidate, meta.stale_if_error),
        (secs(1), Some(secs(2))),
        "the origin's first"
    );
}

#[test]
fn r42_eventual_routes_clamp_to_the_bound() {
    let long = "Cache-Control: max-age=3600, stale-while-revalidate=3600";
    let some = "Cache-Control: max-age=40, stale-while-revalidate=3600";
    let times = |fields: &str, policy: &Policy| {
        admitted("", 200, fields, policy).map(|m| (m.lifetime, m.stale_while_revalidate))
    };
    assert_eq!(times(long, &cp(caching())), Ok((secs(60), Ttl::ZERO)));
    assert_eq!(times(some, &cp(caching())), Ok((secs(40), secs(20))));
    assert_eq!(times(long, &weak(caching())), Ok((secs(3600), secs(3600))));
}

#[test]
fn r42_valid_as_of_counts_from_the_send_and_age() {
    let (asked, policy) = (HeaderMap::new(), cp(caching()));
    let read = Read::of(&Method::GET, &asked, &policy, false);
    let valid = |fields: &str, sent: MonoTime| {
        let fields = headers(fields);
        let answer = Answer {
            sent,
            received: at(500),
            ..answer(200, &fields)
        };
        result(admit(&read, &answer, &policy)).map(|meta| (meta.valid_as_of, meta.initial_age))
    };
    assert_eq!(valid(FRESH, START), Ok((START, Span::from_millis(500))));
    assert_eq!(
        valid(&format!("{FRESH}\nAge: 5"), START),
        Ok((START.before(secs(6)), Span::from_millis(5_500)))
    );
    assert_eq!(
        valid(&format!("{FRESH}\nAge: 0"), START),
        Ok((START.before(secs(1)), Span::from_millis(500)))
    );
    let early = MonoTime::from_micros(1_000_000);
    assert_eq!(
        valid(&format!("{FRESH}\nAge: 5"), early),
        Err(NotStored::NoFreshness),
        "older than the clock can say"
    );
}

#[test]
fn r5b_r16b_r18_what_strong_routes_store() {
    use NotStored::{
        CloseDelimited, Credentials, NoStore, NoStrongEtag, Partial, Private, RequestNoStore, SetCookie, Status,
        VaryStar,
    };
    let tagged = "ETag: \"1\"";
    let cases: &[(&str, &str, u16, &str, Option<NotStored>)] = &[
        ("r5b a strong tag", "", 200, tagged, None),
        (
            "r5b a lifetime counts for nothing",
            "",
            200,
            "ETag: \"1\"\nCache-Control: no-cache, max-age=0",
            None,
        ),
        ("r5b no tag", "", 200, "Cache-Control: max-age=60", Some(NoStrongEtag)),
        (
            "r5b a weak tag",
            "",
            200,
            "ETag: W/\"1\"\nCache-Control: max-age=60",
            Some(NoStrongEtag),
        ),
        (
            "r5b a date",
            "",
            200,
            "Last-Modified: Sun, 06 Nov 1994 08:32:57 GMT",
            Some(NoStrongEtag),
        ),
        ("r18 404", "", 404, tagged, None),
        ("r18 410", "", 410, tagged, None),
        ("r18 404 without a tag", "", 404, "X: 1", Some(NoStrongEtag)),
        ("204", "", 204, tagged, None),
        ("301", "", 301, tagged, None),
        (
            "r18 400",
            "",
            400,
            "ETag: \"1\"\nCache-Control: max-age=60",
            Some(Status),
        ),
        (
            "r18 405",
            "",
            405,
            "ETag: \"1\"\nCache-Control: max-age=60",
            Some(Status),
        ),
        (
            "r18 500",
            "",
            500,
            "ETag: \"1\"\nCache-Control: max-age=60",
            Some(Status),
        ),
        ("r7 206", "", 206, tagged, Some(Partial)),
        (
            "no-store",
            "",
            200,
            "ETag: \"1\"\nCache-Control: no-store",
            Some(NoStore),
        ),
        ("private", "", 200, "ETag: \"1\"\nCache-Control: private", Some(Private)),
        (
            "no-store in the request",
            "Cache-Control: no-store",
            200,
            tagged,
            Some(RequestNoStore),
        ),
        ("Set-Cookie", "", 200, "ETag: \"1\"\nSet-Cookie: a", Some(SetCookie)),
        ("Vary: *", "", 200, "ETag: \"1\"\nVary: *", Some(VaryStar)),
        ("r14", "Cookie: a=1", 200, tagged, Some(Credentials)),
        (
            "r14 public",
            "Cookie: a=1",
            200,
            "ETag: \"1\"\nCache-Control: public",
            None,
        ),
    ];
    for (name, asked, status, fields, expected) in cases {
        assert_eq!(
            admitted(asked, *status, fields, &strong(caching())).err(),
            *expected,
            "{name}"
        );
    }
    let (asked, fields, policy) = (HeaderMap::new(), headers(FRESH), strong(caching()));
    let read = Read::of(&Method::GET, &asked, &policy, false);
    let closing = Answer {
        close_delimited: true,
        ..answer(200, &fields)
    };
    assert_eq!(
        result(admit(&read, &closing, &policy)).err(),
        Some(CloseDelimited),
        "r16b"
    );
    for policy in [weak(caching()), cp(caching())] {
        assert!(
            result(admit(&read, &closing, &policy)).is_ok(),
            "r16b binds strong routes only"
        );
    }
}

#[test]
fn rfc9111_s4_3_4_a_304_starts_a_new_life() {
    let (asked, policy) = (headers("Accept-Language: de"), weak(caching()));
    let read = Read::of(&Method::GET, &asked, &policy, false);
    let fields = headers(&format!("{FRESH}\nAge: 30\nVary: Accept-Language\nExpires: 0"));
    let stored = result(admit(&read, &answer(200, &fields), &policy)).unwrap();
    assert_eq!(stored.initial_age, secs(30));

    let confirmed =
        headers("ETag: \"1\"\nCache-Control: max-age=9, stale-if-error=3\nDate: Sun, 06 Nov 1994 08:51:07 GMT\nAge: 2");
    let mut merged = fields.clone();
    crate::core::http::validate::merge_304(&mut merged, &confirmed);
    let later = Answer {
        sent: at(90_000),
        received: at(90_100),
        received_wall: WallTime::from_millis(START_WALL.as_millis() + 90_100),
        ..answer(304, &confirmed)
    };
    let fresh = result(freshen(&stored, &merged, &later, &read, &policy)).unwrap();
    assert_eq!(fresh.status, StatusCode::OK);
    assert_eq!((fresh.sent, fresh.received), (at(90_000), at(90_100)));
    assert_eq!(fresh.valid_as_of, at(87_000), "r42");
    assert_eq!((fresh.lifetime, fresh.initial_age), (secs(9), Span::from_millis(2_100)));
    assert_eq!(fresh.stale_if_error, Some(secs(3)));
    assert_eq!((&fresh.vary, &fresh.etag), (&stored.vary, &stored.etag));
    assert_eq!(fresh.date.as_millis(), START_WALL.as_millis() + 90_000);

    // Without Age and Date of its own a 304 counts from its reception, not from what is stored.
    let bare = headers("ETag: \"1\"");
    let mut merged = fields.clone();
    crate::core::http::validate::merge_304(&mut merged, &bare);
    let later = Answer {
        headers: &bare,
        ..later
    };
    let fresh = result(freshen(&stored, &merged, &later, &read, &policy)).unwrap();
    assert_eq!((fresh.lifetime, fresh.initial_age), (secs(60), Span::from_millis(100)));
    assert_eq!(fresh.valid_as_of, at(90_000));
}

#[test]
fn a_304_that_forbids_storing_ends_what_is_stored() {
    let (asked, policy) = (HeaderMap::new(), strong(caching()));
    let read = Read::of(&Method::GET, &asked, &policy, false);
    for (field, reason) in [
        ("Cache-Control: no-store", NotStored::NoStore),
        ("Cache-Control: private", NotStored::Private),
        ("Vary: *", NotStored::VaryStar),
        ("Set-Cookie: a=1", NotStored::SetCookie),
    ] {
        let confirmed = headers(field);
        let mut merged = headers(FRESH);
        crate::core::http::validate::merge_304(&mut merged, &confirmed);
        let admission = freshen(&meta(), &merged, &answer(304, &confirmed), &read, &policy);
        assert_eq!(result(admission).err(), Some(reason), "{field}");
    }
}

proptest! {
    /// What is stored can be used: the very request it answered is served, or validates it, or may fall back on it.
    #[test]
    fn any_answer_is_judged_without_a_panic_and_fits_its_own_request(
        status in 100_u16..1000,
        cc in "(max-age=[0-9]{1,4}|s-maxage=[0-9]{1,4}|public|private|no-cache|no-store|must-revalidate|stale-while-revalidate=9|[ -~]{0,4}|, ){0,5}",
        vary in "([Aa]ccept(-Encoding|-Language)?|Cookie|\\*|, ){0,3}",
        asked in "[ -~]{0,20}",
        age in 0_u64..100,
        tag in "(W/)?\"[a-z]{0,2}\"|",
    ) {
        let fields = format!("Cache-Control: {cc}\nVary: {vary}\nETag: {tag}\nAge: {age}\nDate: Sun, 06 Nov 1994 08:49:37 GMT");
        let asked = format!("Accept: {asked}\nAccept-Encoding: {asked}\nAccept-Language: {asked}");
        for policy in [off(), weak(caching()), cp(caching()), strong(caching())] {
            if let Ok(meta) = admitted(&asked, status, &fields, &policy) {
                prop_assert!(meta.vary.matches(&headers(&asked)));
                prop_assert!(meta.valid_as_of <= meta.sent && meta.sent <= meta.received);
                prop_assert!(meta.initial_age >= secs(age));
                let decision = decide(START, &Read::of(&Method::GET, &headers(&asked), &policy, false), &[&meta], &policy);
                let missed = matches!(decision, Decision::Fetch(reason) if reason != crate::core::reason::FetchReason::Stale);
                prop_assert!(!missed, "{decision:?}");
                if policy.is_strong() {
                    let proven = matches!(decision, Decision::Revalidate { .. });
                    prop_assert!(proven && meta.etag.is_some_and(|tag| !tag.weak));
                }
            }
        }
    }
}

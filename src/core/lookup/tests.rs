#![allow(clippy::unwrap_used, clippy::type_complexity, clippy::cloned_ref_to_slice_refs)]

mod epoch;
mod session;

use super::Decision::{Fetch, Refuse, Revalidate, Serve, ServeAndRefresh};
use super::*;
use crate::core::failover::reign::Reign;
use crate::core::http::part::Part;
use crate::core::http::range::Cut;
use crate::core::http::stored::{Meta, Vary};
use crate::core::http::testing::{START, at, caching, eventual, headers, meta, off, secs, strong, weak};
use crate::core::policy::Writers;
use crate::core::time::Span;
use http::{HeaderMap, StatusCode};
use proptest::prelude::*;
use std::borrow::Cow;

fn read<'a>(headers: &'a HeaderMap, policy: &Policy) -> Read<'a> {
    Read::of(&Method::GET, headers, policy, false)
}

/// What is decided `ms` after the start for a request with `fields`.
fn decided(ms: u64, fields: &str, variants: &[Meta], policy: &Policy) -> Decision {
    let headers = headers(fields);
    decide(at(ms), &read(&headers, policy), variants, policy)
}

fn cp() -> Policy {
    eventual(caching(), OnUnreachable::Error)
}

fn ap() -> Policy {
    eventual(caching(), OnUnreachable::Stale)
}

const fn serve(ms: u64) -> Decision {
    Serve {
        index: 0,
        age: Span::from_millis(ms),
    }
}

const fn refresh(ms: u64) -> Decision {
    ServeAndRefresh {
        index: 0,
        age: Span::from_millis(ms),
    }
}

const fn revalidate(reason: FetchReason) -> Decision {
    Revalidate { index: 0, reason }
}

const STALE: Decision = revalidate(FetchReason::Stale);
const ASKED: Decision = revalidate(FetchReason::Request);

#[test]
fn rfc9111_s4_2_fresh_stale_and_windows() {
    let swr = || Meta {
        stale_while_revalidate: secs(5),
        ..meta()
    };
    let cases = [
        ("new", 0, meta(), serve(0)),
        ("just before the end", 9_999, meta(), serve(9_999)),
        ("s4.2 as old as its lifetime is stale", 10_000, meta(), STALE),
        (
            "it was old already",
            4_000,
            Meta {
                initial_age: secs(6),
                ..meta()
            },
            STALE,
        ),
        (
            "age includes what it had",
            3_999,
            Meta {
                initial_age: secs(6),
                ..meta()
            },
            serve(9_999),
        ),
        (
            "without a validator",
            10_000,
            Meta { etag: None, ..meta() },
            Fetch(FetchReason::Stale),
        ),
        ("rfc5861 s3 in the window", 14_999, swr(), refresh(14_999)),
        ("rfc5861 s3 behind it", 15_000, swr(), STALE),
        ("rfc5861 s3 fresh", 9_999, swr(), serve(9_999)),
        (
            "s4.2.4 must-revalidate and kin",
            10_000,
            Meta {
                must_revalidate: true,
                ..swr()
            },
            STALE,
        ),
        (
            "s4.2.4 which bind the stale only",
            9_999,
            Meta {
                must_revalidate: true,
                ..swr()
            },
            serve(9_999),
        ),
        (
            "s5.2.2.4 no-cache",
            0,
            Meta {
                no_cache: true,
                ..swr()
            },
            STALE,
        ),
    ];
    for (name, ms, meta, expected) in cases {
        let variants = [meta];
        for policy in [weak(caching()), cp(), ap()] {
            assert_eq!(
                decided(ms, "X: 1", &variants, &policy),
                expected,
                "{name}, {}",
                policy.level()
            );
            let head = Read::of(&Method::HEAD, &HeaderMap::new(), &policy, false)
                .method
                .clone();
            let headers = HeaderMap::new();
            let read = Read {
                method: &head,
                ..read(&headers, &policy)
            };
            assert_eq!(
                decide(at(ms), &read, &variants, &policy),
                expected,
                "{name}, {}, HEAD",
                policy.level()
            );
        }
    }
}

#[test]
fn rfc9111_s5_2_1_request_directives() {
    let swr = || Meta {
        stale_while_revalidate: secs(5),
        ..meta()
    };
    let bound = |meta: Meta| Meta {
        must_revalidate: true,
        ..meta
    };
    let cases = [
        ("s5.2.1.4 no-cache", 1_000, meta(), "no-cache", ASKED),
        ("s5.2.1.1 max-age, younger", 5_000, meta(), "max-age=5", serve(5_000)),
        ("s5.2.1.1 max-age, older", 5_001, meta(), "max-age=5", ASKED),
        (
            "s5.2.1.1 max-age takes nothing stale",
            12_000,
            swr(),
            "max-age=60",
            STALE,
        ),
        (
            "s5.2.1.1 unless with max-stale",
            12_000,
            swr(),
            "max-age=60, max-stale=5",
            serve(12_000),
        ),
        ("s5.2.1.3 min-fresh, enough", 5_000, meta(), "min-fresh=5", serve(5_000)),
        ("s5.2.1.3 min-fresh, too little", 5_001, meta(), "min-fresh=5", ASKED),
        (
            "s5.2.1.3 min-fresh takes nothing stale",
            12_000,
            swr(),
            "min-fresh=0",
            STALE,
        ),
        (
            "s5.2.1.2 max-stale, within",
            15_000,
            meta(),
            "max-stale=5",
            serve(15_000),
        ),
        ("s5.2.1.2 max-stale, beyond", 15_001, meta(), "max-stale=5", STALE),
        (
            "s5.2.1.2 max-stale without a limit",
            59_000,
            meta(),
            "max-stale",
            serve(59_000),
        ),
        (
            "s5.2.1.2 max-stale against must-revalidate",
            12_000,
            bound(meta()),
            "max-stale",
            STALE,
        ),
        (
            "s5.2.1.2 max-stale against no-cache",
            1_000,
            Meta {
                no_cache: true,
                ..meta()
            },
            "max-stale",
            STALE,
        ),
        (
            "s5.2.1.5 no-store may be answered from the store",
            1_000,
            meta(),
            "no-store",
            serve(1_000),
        ),
        (
            "s5.2.1.7 only-if-cached, fresh",
            1_000,
            meta(),
            "only-if-cached",
            serve(1_000),
        ),
        (
            "s5.2.1.7 only-if-cached, in the window",
            12_000,
            swr(),
            "only-if-cached",
            refresh(12_000),
        ),
        (
            "s5.2.1.7 only-if-cached, stale",
            12_000,
            meta(),
            "only-if-cached",
            Refuse(Refusal::OnlyIfCached),
        ),
        (
            "s5.2.1.7 only-if-cached, no-cache",
            0,
            meta(),
            "only-if-cached, no-cache",
            Refuse(Refusal::OnlyIfCached),
        ),
    ];
    for (name, ms, meta, directives, expected) in cases {
        let fields = format!("Cache-Control: {directives}");
        let variants = [meta];
        for policy in [weak(caching()), cp(), ap()] {
            assert_eq!(
                decided(ms, &fields, &variants, &policy),
                expected,
                "{name}, {}",
                policy.level()
            );
        }
    }
}

#[test]
fn r42_nothing_is_served_beyond_the_bound() {
    // Fresh for an hour by its own account, which a write into Meta by hand allows; the bound is 60 s from valid_as_of.
    let long = Meta {
        lifetime: secs(3600),
        ..meta()
    };
    let aged = Meta {
        valid_as_of: START.before(secs(31)),
        initial_age: secs(30),
        ..long.clone()
    };
    let windowed = Meta {
        stale_while_revalidate: secs(3600),
        ..meta()
    };
    let cases = [
        ("at the bound", 60_000, long.clone(), "X: 1", serve(60_000)),
        ("a millisecond beyond", 60_001, long.clone(), "X: 1", STALE),
        ("counted from valid_as_of", 29_000, aged.clone(), "X: 1", serve(59_000)),
        ("a millisecond beyond that", 29_001, aged, "X: 1", STALE),
        ("stale-while-revalidate", 60_001, windowed, "X: 1", STALE),
        ("max-stale", 60_001, meta(), "Cache-Control: max-stale", STALE),
        (
            "only-if-cached",
            60_001,
            long,
            "Cache-Control: only-if-cached",
            Refuse(Refusal::OnlyIfCached),
        ),
    ];
    for (name, ms, meta, fields, expected) in cases {
        for policy in [cp(), ap()] {
            assert_eq!(decided(ms, fields, &[meta.clone()], &policy), expected, "{name}");
        }
    }
    let microsecond = MonoTime::from_micros(at(60_000).as_micros() + 1);
    let long = Meta {
        lifetime: secs(3600),
        ..meta()
    };
    let headers = HeaderMap::new();
    assert_eq!(
        decide(microsecond, &read(&headers, &cp()), &[long], &cp()),
        STALE,
        "to the microsecond"
    );
}

#[test]
fn max_stale_on_a_weak_route_has_no_bound_but_its_own() {
    assert_eq!(
        decided(3_600_000, "Cache-Control: max-stale", &[meta()], &weak(caching())),
        serve(3_600_000)
    );
}

#[test]
fn nothing_stored_and_nothing_that_fits() {
    let english = Vary::of(&headers("Vary: Accept-Language"), &headers("Accept-Language: en")).unwrap();
    let english = || Meta {
        vary: english.clone(),
        ..meta()
    };
    let only = "Cache-Control: only-if-cached\nAccept-Language: de";
    for policy in [weak(caching()), cp(), ap(), strong(caching())] {
        let level = policy.level();
        assert_eq!(decided(0, "X: 1", &[], &policy), Fetch(FetchReason::UriMiss), "{level}");
        assert_eq!(
            decided(0, "Accept-Language: de", &[english()], &policy),
            Fetch(FetchReason::VaryMiss),
            "{level}"
        );
        assert_eq!(
            decided(0, only, &[english()], &policy),
            Refuse(Refusal::OnlyIfCached),
            "{level}"
        );
        assert_eq!(decided(0, only, &[], &policy), Refuse(Refusal::OnlyIfCached), "{level}");
        assert_ne!(
            decided(0, "Accept-Language: EN", &[english()], &policy),
            Fetch(FetchReason::VaryMiss),
            "{level}"
        );
    }
}

#[test]
fn rfc9111_s3_3_a_part_is_used_for_what_lies_inside_it_and_nothing_else() {
    let part = || Meta {
        status: StatusCode::PARTIAL_CONTENT,
        part: Some(Part {
            cut: Cut { start: 0, end: 100 },
            length: 300,
        }),
        ..meta()
    };
    let older = || Meta { sent: START, ..meta() };
    let newer = || Meta {
        sent: at(1000),
        ..part()
    };
    for policy in [weak(caching()), cp(), ap()] {
        let level = policy.level();
        let inside = decided(0, "Range: bytes=10-19", &[part()], &policy);
        assert!(matches!(inside, Serve { index: 0, .. }), "{level}");
        for more in [
            "X: 1",
            "Range: bytes=90-100",
            "Range: bytes=-5",
            "Range: bytes=0-1,99-99",
        ] {
            assert_eq!(
                decided(0, more, &[part()], &policy),
                Fetch(FetchReason::Partial),
                "{level} {more}"
            );
        }
        // A newer part does not hide an older whole.
        let whole = decided(0, "X: 1", &[newer(), older()], &policy);
        assert!(matches!(whole, Serve { index: 1, .. }), "{level}");
        let (fields, none) = (headers("X: 1"), headers(""));
        let whole = Read::of(&Method::GET, &fields, &policy, false);
        assert!(!may_use(&whole, &part(), &policy), "a follower leaves");
        let failed = fallback(at(20_000), &whole, Some(&part()), Failure::Unreachable, &policy);
        assert_eq!(failed, Fallback::PassOn, "{level}");
        assert_eq!(newest_part(&whole, &[older(), part(), newer()], &policy), Some(2));
        assert_eq!(
            newest_part(&Read::of(&Method::GET, &none, &policy, false), &[older()], &policy),
            None
        );
    }
}

#[test]
fn rfc9111_s4_1_the_newest_variant_that_fits_wins() {
    let sent = |ms: u64| Meta { sent: at(ms), ..meta() };
    let other = || Meta {
        vary: Vary::of(&headers("Vary: A"), &headers("A: 1")).unwrap(),
        ..sent(9)
    };
    let index = |variants: &[Meta]| match decided(10, "A: 2", variants, &weak(caching())) {
        Serve { index, .. } => Some(index),
        _ => None,
    };
    assert_eq!(index(&[sent(1), sent(3), sent(2)]), Some(1));
    assert_eq!(index(&[other(), sent(1)]), Some(1));
    assert_eq!(index(&[sent(3), other(), sent(1)]), Some(0));
    assert_eq!(index(&[other()]), None);
}

#[test]
fn what_may_be_used_and_the_newest_of_it() {
    let english = Meta {
        vary: Vary::of(&headers("Vary: A"), &headers("A: 1")).unwrap(),
        sent: at(5),
        ..meta()
    };
    let policy = cp();
    let (one, two, cookie) = (headers("A: 1"), headers("A: 2"), headers("A: 1\nCookie: a=1"));
    let variants = [meta(), english.clone()];
    assert_eq!(newest(&read(&one, &policy), &variants, &policy), Some(1));
    assert_eq!(newest(&read(&two, &policy), &variants, &policy), Some(0));
    assert_eq!(newest(&read(&cookie, &policy), &variants, &policy), None, "r14");
    assert_eq!(newest(&read(&one, &off()), &variants, &off()), None);
    assert!(may_use(&read(&one, &policy), &english, &policy));
    assert!(!may_use(&read(&two, &policy), &english, &policy));
    assert!(!may_use(&read(&cookie, &policy), &english, &policy), "r14");
    assert!(!may_use(&read(&one, &off()), &english, &off()));
}

#[test]
fn r14_credentials_use_only_what_may_be_shared() {
    let shareable = || Meta {
        shareable: true,
        proven: false,
        ..meta()
    };
    let shared = || Caching {
        shared_auth: true,
        ..caching()
    };
    for fields in ["Authorization: Basic x", "Cookie: a=1"] {
        for make in [weak as fn(Caching) -> Policy, |caching| {
            eventual(caching, OnUnreachable::Error)
        }] {
            let (policy, open) = (make(caching()), make(shared()));
            let level = policy.level();
            assert_eq!(
                decided(0, fields, &[meta()], &policy),
                Fetch(FetchReason::Request),
                "{fields}, {level}"
            );
            assert_eq!(
                decided(0, fields, &[shareable()], &policy),
                serve(0),
                "{fields}, {level}"
            );
            assert_eq!(decided(0, fields, &[meta()], &open), serve(0), "{fields}, {level}");
            assert_eq!(
                decided(0, fields, &[meta(), shareable()], &policy),
                Serve {
                    index: 1,
                    age: Span::ZERO
                }
            );
            let only = format!("{fields}\nCache-Control: only-if-cached");
            assert_eq!(
                decided(0, &only, &[meta()], &policy),
                Refuse(Refusal::OnlyIfCached),
                "{fields}, {level}"
            );
        }
        assert_eq!(
            decided(0, fields, &[meta()], &strong(caching())),
            Fetch(FetchReason::Request),
            "{fields}, strong"
        );
        assert_eq!(
            decided(0, fields, &[shareable()], &strong(caching())),
            STALE,
            "{fields}, strong"
        );
        let headers = headers(fields);
        let policy = eventual(
            Caching {
                stale_if_error: Some(secs(60)),
                ..caching()
            },
            OnUnreachable::Stale,
        );
        let fell = fallback(
            at(0),
            &read(&headers, &policy),
            Some(&meta()),
            Failure::Unreachable,
            &policy,
        );
        assert_eq!(fell, Fallback::PassOn, "{fields}: nor when the origin fails");
    }
}

#[test]
fn r15_and_r5b_a_strong_route_proves_every_read() {
    let policy = strong(caching());
    let weakly = Meta {
        etag: crate::core::http::etag::parse(&http::HeaderValue::from_static("W/\"1\"")),
        ..meta()
    };
    let dated = Meta {
        etag: None,
        last_modified: Some(meta().date),
        ..meta()
    };
    let fetch = Fetch(FetchReason::Stale);
    let cases = [
        ("fresh", meta(), "X: 1", STALE),
        ("r15 max-stale", meta(), "Cache-Control: max-stale", STALE),
        ("r15 no-cache", meta(), "Cache-Control: no-cache", STALE),
        ("r15 max-age", meta(), "Cache-Control: max-age=60", STALE),
        (
            "r15 only-if-cached",
            meta(),
            "Cache-Control: only-if-cached",
            Refuse(Refusal::OnlyIfCached),
        ),
        ("r5b a weak tag", weakly, "X: 1", fetch),
        ("r5b a date", dated, "X: 1", fetch),
        (
            "in a window",
            Meta {
                stale_while_revalidate: secs(3600),
                ..meta()
            },
            "X: 1",
            STALE,
        ),
    ];
    for (name, meta, fields, expected) in cases {
        for ms in [0, 1, 12_000] {
            assert_eq!(decided(ms, fields, &[meta.clone()], &policy), expected, "{name}");
        }
    }
}

#[test]
fn r2_and_r8_unsettled_is_the_reason_on_strong_routes() {
    let headers = HeaderMap::new();
    for (policy, hit, miss) in [
        (
            strong(caching()),
            revalidate(FetchReason::Unsettled),
            FetchReason::Unsettled,
        ),
        (cp(), serve(0), FetchReason::UriMiss),
        (weak(caching()), serve(0), FetchReason::UriMiss),
    ] {
        let read = Read {
            unsettled: true,
            ..read(&headers, &policy)
        };
        assert_eq!(decide(START, &read, &[meta()], &policy), hit, "{}", policy.level());
        assert_eq!(
            decide::<Meta>(START, &read, &[], &policy),
            Fetch(miss),
            "{}",
            policy.level()
        );
    }
}

#[test]
fn off_routes_and_other_methods_pass() {
    let fields = headers("Cache-Control: only-if-cached");
    assert_eq!(
        decide(START, &read(&fields, &off()), &[meta()], &off()),
        Fetch(FetchReason::Bypass)
    );
    for policy in [weak(caching()), cp(), strong(caching())] {
        let headers = HeaderMap::new();
        let read = Read::of(&Method::POST, &headers, &policy, false);
        assert_eq!(decide(START, &read, &[meta()], &policy), Fetch(FetchReason::Method));
    }
}

/// What remains `ms` after the start when the origin failed.
fn fell(ms: u64, fields: &str, meta: &Meta, failure: Failure, policy: &Policy) -> Fallback {
    let headers = headers(fields);
    fallback(at(ms), &read(&headers, policy), Some(meta), failure, policy)
}

#[test]
fn r42_and_rfc5861_s4_when_the_origin_fails() {
    use Failure::{ServerError, Unreachable};
    const PASS: Fallback = Fallback::PassOn;
    const REFUSE: Fallback = Fallback::Refuse(Refusal::StaleRefused);
    let kept = |ms| Fallback::Serve {
        age: Span::from_millis(ms),
        breached: false,
    };
    let broken = |ms| Fallback::Serve {
        age: Span::from_millis(ms),
        breached: true,
    };
    let sie = |s| Meta {
        stale_if_error: Some(secs(s)),
        ..meta()
    };
    let must = |meta: Meta| Meta {
        must_revalidate: true,
        ..meta
    };
    let never = Meta {
        no_cache: true,
        ..sie(3600)
    };
    let h = 3_600_000;
    // Lifetime 10 s, bound 60 s. Expected on weak, eventual CP, eventual AP.
    let cases = [
        (
            "in the bound",
            12_000,
            meta(),
            Unreachable,
            "",
            [PASS, kept(12_000), kept(12_000)],
        ),
        (
            "at the bound",
            60_000,
            meta(),
            Unreachable,
            "",
            [PASS, kept(60_000), kept(60_000)],
        ),
        (
            "beyond the bound",
            60_001,
            meta(),
            Unreachable,
            "",
            [PASS, REFUSE, broken(60_001)],
        ),
        (
            "an hour past its lifetime",
            10_000 + h - 1,
            meta(),
            Unreachable,
            "",
            [PASS, REFUSE, broken(10_000 + h - 1)],
        ),
        (
            "longer than an hour",
            10_000 + h,
            meta(),
            Unreachable,
            "",
            [PASS, REFUSE, REFUSE],
        ),
        (
            "stale-if-error, in it",
            14_999,
            sie(5),
            Unreachable,
            "",
            [kept(14_999), kept(14_999), kept(14_999)],
        ),
        (
            "stale-if-error, over, in the bound",
            15_000,
            sie(5),
            Unreachable,
            "",
            [PASS, kept(15_000), kept(15_000)],
        ),
        (
            "stale-if-error, over, beyond",
            60_001,
            sie(5),
            Unreachable,
            "",
            [PASS, REFUSE, REFUSE],
        ),
        (
            "stale-if-error, in it, beyond",
            99_000,
            sie(100),
            Unreachable,
            "",
            [kept(99_000), REFUSE, broken(99_000)],
        ),
        (
            "must-revalidate and kin",
            12_000,
            must(sie(100)),
            Unreachable,
            "",
            [REFUSE, REFUSE, REFUSE],
        ),
        (
            "must-revalidate, still fresh",
            9_000,
            must(sie(100)),
            Unreachable,
            "",
            [kept(9_000), kept(9_000), kept(9_000)],
        ),
        (
            "no-cache",
            1_000,
            never.clone(),
            Unreachable,
            "",
            [REFUSE, REFUSE, REFUSE],
        ),
        (
            "the client's no-cache",
            12_000,
            sie(100),
            Unreachable,
            "no-cache",
            [PASS, PASS, PASS],
        ),
        (
            "the client's stale-if-error",
            12_000,
            meta(),
            Unreachable,
            "stale-if-error=5",
            [kept(12_000), kept(12_000), kept(12_000)],
        ),
        (
            "a 5xx in the bound",
            12_000,
            meta(),
            ServerError,
            "",
            [PASS, PASS, kept(12_000)],
        ),
        (
            "a 5xx, stale-if-error",
            14_999,
            sie(5),
            ServerError,
            "",
            [kept(14_999), kept(14_999), kept(14_999)],
        ),
        (
            "a 5xx, stale-if-error over",
            15_000,
            sie(5),
            ServerError,
            "",
            [PASS, PASS, PASS],
        ),
        (
            "a 5xx, stale-if-error, beyond the bound",
            60_001,
            sie(100),
            ServerError,
            "",
            [kept(60_001), PASS, broken(60_001)],
        ),
        (
            "a 5xx, beyond the bound",
            60_001,
            meta(),
            ServerError,
            "",
            [PASS, PASS, broken(60_001)],
        ),
        (
            "a 5xx, must-revalidate and kin",
            12_000,
            must(sie(100)),
            ServerError,
            "",
            [PASS, PASS, PASS],
        ),
        ("a 5xx, no-cache", 1_000, never, ServerError, "", [PASS, PASS, PASS]),
    ];
    for (name, ms, meta, failure, directives, expected) in cases {
        let fields = format!("Cache-Control: {directives}");
        for (policy, expected) in [weak(caching()), cp(), ap()].iter().zip(expected) {
            assert_eq!(
                fell(ms, &fields, &meta, failure, policy),
                expected,
                "{name}, {}",
                policy.level()
            );
        }
        for policy in [strong(caching()), off()] {
            assert_eq!(
                fell(ms, &fields, &meta, failure, &policy),
                PASS,
                "{name}, {}",
                policy.level()
            );
        }
    }
}

#[test]
fn nothing_stored_leaves_the_failure() {
    let headers = HeaderMap::new();
    for policy in [off(), weak(caching()), cp(), ap(), strong(caching())] {
        for failure in [Failure::Unreachable, Failure::ServerError] {
            assert_eq!(
                fallback(START, &read(&headers, &policy), None::<&Meta>, failure, &policy),
                Fallback::PassOn
            );
        }
    }
}

fn any_meta() -> impl Strategy<Value = Meta> {
    let spans = (
        0_u64..200_000,
        0_u64..200_000,
        0_u64..200_000,
        prop::option::of(0_u64..200_000),
        0_u64..200_000,
    );
    (spans, any::<[bool; 4]>(), 200_u16..600).prop_map(
        |((age, lifetime, swr, sie, behind), [must, no_cache, tag, share], status)| Meta {
            status: StatusCode::from_u16(status).unwrap(),
            initial_age: Span::from_millis(age),
            lifetime: Span::from_millis(lifetime),
            stale_while_revalidate: Span::from_millis(swr),
            stale_if_error: sie.map(Span::from_millis),
            valid_as_of: START.before(Span::from_millis(behind)),
            must_revalidate: must,
            no_cache,
            shareable: share,
            proven: false,
            etag: meta().etag.filter(|_| tag),
            ..meta()
        },
    )
}

proptest! {
    #[test]
    fn r42_whatever_is_decided_the_bound_holds(
        metas in prop::collection::vec(any_meta(), 0..4),
        now in 0_u64..300_000,
        directives in "(max-stale|max-stale=[0-9]{1,3}|max-age=[0-9]{1,3}|min-fresh=[0-9]{1,2}|only-if-cached|, ){0,4}",
        cookie in any::<bool>(),
    ) {
        let mut fields = format!("Cache-Control: {directives}");
        if cookie {
            fields.push_str("\nCookie: a=1");
        }
        for policy in [cp(), ap()] {
            match decided(now, &fields, &metas, &policy) {
                Serve { index, age } | ServeAndRefresh { index, age } => {
                    let meta = &metas[index];
                    prop_assert!(meta.staleness(at(now)) <= secs(60));
                    prop_assert!(!meta.no_cache);
                    prop_assert!(!meta.must_revalidate || age < meta.lifetime);
                    prop_assert!(!cookie || meta.shareable);
                }
                Revalidate { .. } | Fetch(_) | Refuse(_) => {}
            }
            for meta in &metas {
                for failure in [Failure::Unreachable, Failure::ServerError] {
                    if let Fallback::Serve { breached, .. } = fell(now, &fields, meta, failure, &policy) {
                        prop_assert_eq!(breached, meta.staleness(at(now)) > secs(60));
                        prop_assert!(!breached || policy_stretches(&policy));
                    }
                }
            }
        }
        match decided(now, &fields, &metas, &strong(caching())) {
            Serve { .. } | ServeAndRefresh { .. } => prop_assert!(false, "a strong route serves nothing without proof"),
            Revalidate { .. } | Fetch(_) | Refuse(_) => {}
        }
    }
}

fn policy_stretches(policy: &Policy) -> bool {
    matches!(&policy.contract, Contract::Eventual(_, bounded) if bounded.on_unreachable == OnUnreachable::Stale)
}

/// An answer, and how many milliseconds after the start a soft purge came.
struct Softened(Meta, u64);

impl Stored for Softened {
    fn facts(&self) -> Facts {
        self.0.facts()
    }

    fn vary(&self) -> &Vary {
        &self.0.vary
    }

    fn strong_tag(&self) -> Option<&[u8]> {
        self.0.strong_tag()
    }

    fn full(&self) -> Cow<'_, Meta> {
        Cow::Borrowed(&self.0)
    }

    fn softened(&self) -> Option<MonoTime> {
        Some(at(self.1))
    }
}

#[test]
fn a_soft_purge_ends_freshness_and_opens_the_windows_for_stale_answers() {
    let swr = || Meta {
        stale_while_revalidate: secs(5),
        ..meta()
    };
    let must = || Meta {
        must_revalidate: true,
        ..swr()
    };
    let cases = [
        ("fresh until then", 3_999, "", meta(), serve(3_999)),
        ("validated from then on", 4_000, "", meta(), STALE),
        (
            "fetched without a validator",
            4_000,
            "",
            Meta { etag: None, ..meta() },
            Fetch(FetchReason::Stale),
        ),
        ("the mark never ends", 9_999, "", meta(), STALE),
        ("rfc5861 s3 in the window", 4_000, "", swr(), refresh(4_000)),
        (
            "rfc5861 s3 which counts from the purge",
            8_999,
            "",
            swr(),
            refresh(8_999),
        ),
        ("rfc5861 s3 behind it, young as it was", 9_000, "", swr(), STALE),
        ("must-revalidate", 4_000, "", must(), STALE),
        (
            "a client that takes anything",
            4_000,
            "Cache-Control: max-stale",
            meta(),
            serve(4_000),
        ),
        (
            "a client that takes little",
            6_000,
            "Cache-Control: max-stale=1",
            meta(),
            STALE,
        ),
        ("min-fresh", 4_000, "Cache-Control: min-fresh=1", swr(), STALE),
    ];
    for (name, ms, fields, meta, expected) in cases {
        for policy in [weak(caching()), cp(), ap()] {
            let headers = headers(fields);
            let variants = [Softened(meta.clone(), 4_000)];
            assert_eq!(
                decide(at(ms), &read(&headers, &policy), &variants, &policy),
                expected,
                "{name}"
            );
        }
    }
    let late = [Softened(swr(), 12_000)];
    let headers = HeaderMap::new();
    let decision = decide(at(14_999), &read(&headers, &cp()), &late, &cp());
    assert_eq!(
        decision,
        refresh(14_999),
        "one that was stale already has no new window"
    );
    assert_eq!(decide(at(15_000), &read(&headers, &cp()), &late, &cp()), STALE);
}

#[test]
fn a_soft_purge_takes_the_proof_away() {
    let mut policy = strong(caching());
    if let Contract::Strong(_, proof) = &mut policy.contract {
        proof.writers = Writers::Exclusive;
    }
    let proven = || Meta { proven: true, ..meta() };
    let headers = HeaderMap::new();
    let read = read(&headers, &policy);
    assert_eq!(decide(at(1), &read, &[proven()], &policy), serve(1));
    assert_eq!(decide(at(1), &read, &[Softened(proven(), 0)], &policy), STALE);
}

#[test]
fn a_soft_purge_leaves_what_stands_in_for_a_broken_origin() {
    let held = |meta: Meta, ms: u64, failure: Failure, policy: &Policy| {
        let headers = HeaderMap::new();
        fallback(
            at(ms),
            &read(&headers, policy),
            Some(&Softened(meta, 4_000)),
            failure,
            policy,
        )
    };
    let sie = || Meta {
        stale_if_error: Some(secs(2)),
        ..meta()
    };
    let must = Meta {
        must_revalidate: true,
        ..sie()
    };
    let stands_in = |ms| Fallback::Serve {
        age: Span::from_millis(ms),
        breached: false,
    };
    let loose = weak(caching());
    assert_eq!(held(sie(), 5_999, Failure::ServerError, &loose), stands_in(5_999));
    assert_eq!(
        held(sie(), 6_000, Failure::ServerError, &loose),
        Fallback::PassOn,
        "counted from the purge"
    );
    assert_eq!(held(meta(), 4_000, Failure::Unreachable, &loose), Fallback::PassOn);
    assert_eq!(
        held(meta(), 59_999, Failure::Unreachable, &cp()),
        stands_in(59_999),
        "r42: inside the bound"
    );
    assert_eq!(
        held(must, 4_000, Failure::Unreachable, &cp()),
        Fallback::Refuse(Refusal::StaleRefused)
    );
}

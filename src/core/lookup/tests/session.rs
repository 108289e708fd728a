//! What a session, or a read raised to a validated one, changes (R47, R49).

use super::*;
use crate::core::consistency::session::token::{Keyring, Opened};
use crate::core::consistency::session::{Here, Minter, Name, Session};
use crate::core::time::WallTime;

/// What a session asks that has written at `ms`.
fn written(ms: u64) -> Demand {
    let here = Here {
        minter: Minter::of(1),
        now: at(ms),
        wall: WallTime::from_millis(0),
        bound: secs(60),
    };
    let name = Name {
        upstream: "o",
        path: "/",
        query: None,
    };
    let ring = Keyring::new(b"key", &[]);
    let mut session = Session::of(here, ring.secret(), &[]);
    session.wrote(&name, None, at(ms));
    let opened: Opened = ring.open(ring.sign(&here, session.token()).as_bytes());
    Demand::of(&here, [&opened], &name)
}

#[test]
fn r47_r49_a_session_is_served_what_it_has_not_passed_by() {
    let swr = Meta {
        stale_while_revalidate: secs(30),
        ..meta()
    };
    let weak_tag = Meta {
        etag: crate::core::http::etag::parse(&http::HeaderValue::from_static("W/\"1\"")),
        ..meta()
    };
    let (before, after) = (written(0), written(1));
    let asked = revalidate(FetchReason::Request);
    let cases: Vec<(&str, u64, &Meta, Option<&Demand>, Decision)> = vec![
        ("no session", 5, &swr, None, serve(5)),
        ("nothing newer", 5, &swr, Some(&before), serve(5)),
        ("it wrote after", 5, &swr, Some(&after), asked),
        ("stale, nothing newer", 11_000, &swr, Some(&before), refresh(11_000)),
        ("R49 stale, and it wrote after", 11_000, &swr, Some(&after), asked),
        (
            "only a strong ETag validates for a session",
            5,
            &weak_tag,
            Some(&after),
            Fetch(FetchReason::Request),
        ),
    ];
    let headers = HeaderMap::new();
    for (case, ms, meta, demand, expected) in cases {
        let read = read(&headers, &cp()).of_session(demand);
        assert_eq!(decide(at(ms), &read, &[meta.clone()], &cp()), expected, "{case}");
    }
    let read = read(&headers, &cp()).of_session(Some(&after));
    assert_eq!(decide_why(at(5), &read, &[meta()], &cp()).1, Ground::Session);
    assert_eq!(read.rigor(&cp()), Rigor::Proven);
}

#[test]
fn r49_what_stands_in_for_an_unreachable_origin_is_behind_a_session_only_by_the_owners_choice() {
    let (before, after) = (written(0), written(1));
    let kept = Meta {
        stale_if_error: Some(secs(3600)),
        ..meta()
    };
    let serve = |breached| Fallback::Serve {
        age: Span::from_millis(20_000),
        breached,
    };
    let refuse = Fallback::Refuse(Refusal::StaleRefused);
    use Failure::{ServerError, Unreachable};
    let cases = [
        ("nothing newer", &before, cp(), Unreachable, serve(false)),
        ("nothing newer", &before, ap(), Unreachable, serve(false)),
        ("newer", &after, cp(), Unreachable, refuse),
        ("newer", &after, ap(), Unreachable, serve(true)),
        ("nothing newer", &before, cp(), ServerError, serve(false)),
        ("newer", &after, cp(), ServerError, Fallback::PassOn),
        ("newer", &after, ap(), ServerError, serve(true)),
    ];
    let headers = HeaderMap::new();
    for (case, demand, policy, failure, expected) in cases {
        let read = read(&headers, &policy).of_session(Some(demand));
        let found = fallback(at(20_000), &read, Some(&kept), failure, &policy);
        assert_eq!(found, expected, "{case} {failure:?}");
    }
}

#[test]
fn rfc7240_a_raised_read_is_validated_and_fails_as_a_strong_one() {
    let fields = headers("Prefer: consistency=strong");
    let weak_tag = Meta {
        etag: crate::core::http::etag::parse(&http::HeaderValue::from_static("W/\"1\"")),
        last_modified: Some(WallTime::from_millis(0)),
        ..meta()
    };
    for policy in [weak(caching()), cp(), ap()] {
        let read = read(&fields, &policy);
        let level = policy.level();
        assert_eq!(
            decide_why(at(5), &read, &[meta()], &policy),
            (revalidate(FetchReason::Request), Ground::RequestStrong),
            "{level}"
        );
        assert_eq!(
            decide(at(5), &read, &[weak_tag.clone()], &policy),
            Fetch(FetchReason::Request),
            "{level}"
        );
        assert_eq!(read.rigor(&policy), Rigor::Proven, "{level}");
        for failure in [Failure::Unreachable, Failure::ServerError] {
            assert_eq!(
                fallback(at(5), &read, Some(&meta()), failure, &policy),
                Fallback::PassOn,
                "{level}"
            );
        }
    }
    for policy in [off(), strong(caching())] {
        assert!(!read(&fields, &policy).raised, "{}", policy.level());
    }
}

#[test]
fn r47_no_cache_on_an_eventual_route_asks_the_primary() {
    let fields = headers("Cache-Control: no-cache");
    for (policy, rigor) in [
        (weak(caching()), Rigor::Usual),
        (cp(), Rigor::Asked),
        (strong(caching()), Rigor::Usual),
    ] {
        assert_eq!(read(&fields, &policy).rigor(&policy), rigor, "{}", policy.level());
    }
    assert!(Rigor::Asked.asks_primary() && Rigor::Proven.asks_primary() && !Rigor::Usual.asks_primary());
}

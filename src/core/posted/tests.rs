#![allow(clippy::unwrap_used, clippy::type_complexity)]

use super::*;
use crate::core::consistency::bound::Lag;
use crate::core::http::testing::{START, START_WALL, caching, eventual, headers, off, secs, strong, weak};
use crate::core::policy::{Caching, OnUnreachable};

const TARGET: RequestUrl<'_> = RequestUrl {
    https: false,
    host: "shop.example",
    path: "/a/b",
    query: Some("q=1"),
};

const HERE: &str = "Content-Location: /a/b?q=1\nDate: Sun, 06 Nov 1994 08:49:37 GMT\n";

fn admitted(asked: &str, status: u16, fields: &str, policy: &Policy) -> Result<Ttl, NotStored> {
    let (asked, fields) = (headers(asked), headers(fields));
    let answer = Answer {
        status: StatusCode::from_u16(status).unwrap(),
        headers: &fields,
        sent: START,
        lag: Lag::None,
        received: START,
        received_wall: START_WALL,
        epoch: crate::core::failover::view::Epoch(0),
        close_delimited: false,
    };
    let read = Read::of(&Method::GET, &asked, policy, false);
    admit(&read, &answer, TARGET, policy).map(|meta| meta.lifetime)
}

#[test]
fn rfc9110_s9_3_3_what_of_a_post_answers_later_gets() {
    use NotStored::{Credentials, Method, NoFreshness, NoStore, Private};
    let fresh = "Cache-Control: max-age=60";
    let cases: &[(&str, &str, u16, String, Result<Ttl, NotStored>)] = &[
        ("s9.3.3 fresh and here", "", 200, format!("{HERE}{fresh}"), Ok(secs(60))),
        (
            "s9.3.3 by Expires",
            "",
            200,
            format!("{HERE}Expires: Sun, 06 Nov 1994 08:49:47 GMT"),
            Ok(secs(10)),
        ),
        (
            "s15.3.4 transformed on its way",
            "",
            203,
            format!("{HERE}{fresh}"),
            Ok(secs(60)),
        ),
        ("s15.3.2 it created", "", 201, format!("{HERE}{fresh}"), Err(Method)),
        ("s15.3.5 nothing in it", "", 204, format!("{HERE}{fresh}"), Err(Method)),
        ("s15.3.7 a part", "", 206, format!("{HERE}{fresh}"), Err(Method)),
        ("s15.4.4 elsewhere", "", 303, format!("{HERE}{fresh}"), Err(Method)),
        ("s15.5 refused", "", 404, format!("{HERE}{fresh}"), Err(Method)),
        ("s8.7 it says nothing of where", "", 200, fresh.to_owned(), Err(Method)),
        (
            "s8.7 another query",
            "",
            200,
            format!("Content-Location: /a/b\n{fresh}"),
            Err(Method),
        ),
        (
            "s8.7 another path",
            "",
            200,
            format!("Content-Location: /a/c?q=1\n{fresh}"),
            Err(Method),
        ),
        (
            "s8.7 another host",
            "",
            200,
            format!("Content-Location: http://other.example/a/b?q=1\n{fresh}"),
            Err(Method),
        ),
        (
            "s8.7 relative to the target",
            "",
            200,
            format!("Content-Location: b?q=1\n{fresh}"),
            Ok(secs(60)),
        ),
        (
            "s8.7 absolute, escaped otherwise",
            "",
            200,
            format!("Content-Location: http://Shop.example:80/%61/./b?q=1\n{fresh}"),
            Ok(secs(60)),
        ),
        (
            "s8.7 two places",
            "",
            200,
            format!("{HERE}Content-Location: /a/b?q=1\n{fresh}"),
            Err(Method),
        ),
        (
            "rfc9111 s4.2.1 nothing explicit",
            "",
            200,
            HERE.to_owned(),
            Err(NoFreshness),
        ),
        (
            "rfc9111 s4.2.2 no heuristic",
            "",
            200,
            format!("{HERE}Last-Modified: Sun, 06 Nov 1993 08:49:37 GMT"),
            Err(NoFreshness),
        ),
        (
            "rfc9111 s4.2.1 stale at once",
            "",
            200,
            format!("{HERE}Cache-Control: max-age=0\nETag: \"1\""),
            Err(NoFreshness),
        ),
        (
            "rfc9111 s5.2.2.5",
            "",
            200,
            format!("{HERE}Cache-Control: no-store, max-age=60"),
            Err(NoStore),
        ),
        (
            "rfc9111 s5.2.2.7",
            "",
            200,
            format!("{HERE}Cache-Control: private, max-age=60"),
            Err(Private),
        ),
        (
            "rfc9111 s3.5",
            "Authorization: Basic eA==",
            200,
            format!("{HERE}{fresh}"),
            Err(Credentials),
        ),
        (
            "rfc9111 s3.5 permitted",
            "Authorization: Basic eA==",
            200,
            format!("{HERE}{fresh}, public"),
            Ok(secs(60)),
        ),
    ];
    let weak = weak(Caching {
        ttl: Some(secs(5)),
        ..caching()
    });
    for (name, asked, status, fields, expected) in cases {
        assert_eq!(admitted(asked, *status, fields, &weak), *expected, "weak: {name}");
        let eventual = eventual(caching(), OnUnreachable::Error);
        assert_eq!(
            admitted(asked, *status, fields, &eventual),
            *expected,
            "eventual: {name}"
        );
    }
}

#[test]
fn only_a_post_or_patch_that_is_what_it_says_on_a_route_that_stores_by_time_may_be_stored() {
    let (weak, eventual) = (weak(caching()), eventual(caching(), OnUnreachable::Error));
    for (policy, expected) in [
        (&weak, true),
        (&eventual, true),
        (&off(), false),
        (&strong(caching()), false),
    ] {
        for (method, cacheable) in [
            ("POST", true),
            ("PATCH", true), // RFC 5789 s2
            ("PUT", false),  // RFC 9110 s9.3.4
            ("DELETE", false),
            ("GET", false),
            ("FROB", false),
        ] {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let asked = may_be_stored(&method, &headers(""), policy);
            assert_eq!(asked, expected && cacheable, "{method} on {}", policy.level());
        }
    }
    let overridden = headers("X-HTTP-Method-Override: DELETE");
    assert!(!may_be_stored(&Method::POST, &overridden, &weak), "R13");
}

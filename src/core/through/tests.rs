#![allow(clippy::unwrap_used, clippy::type_complexity)]

use super::*;
use crate::core::http::testing::{caching, headers, meta, secs, strong, weak};
use crate::core::policy::{Caching, Contract, Writers};

const REFRESH: WriteThrough = WriteThrough::Refresh(secs(1));

fn exclusive(shared_auth: bool) -> Policy {
    let mut policy = strong(Caching {
        shared_auth,
        ..caching()
    });
    if let Contract::Strong(_, proof) = &mut policy.contract {
        proof.writers = Writers::Exclusive;
        proof.through = REFRESH;
    }
    policy.idempotency_header = Some(HeaderName::from_static("idempotency-key"));
    policy
}

#[test]
fn r9_what_a_request_and_its_route_let_a_write_leave_behind() {
    let cases = [
        ("plain", "X: 1", exclusive(false), REFRESH),
        (
            "Authorization",
            "Authorization: x",
            exclusive(false),
            WriteThrough::Invalidate,
        ),
        ("Cookie", "Cookie: a=b", exclusive(false), WriteThrough::Invalidate),
        ("Cookie, shared", "Cookie: a=b", exclusive(true), REFRESH),
        (
            "r13 overridden",
            "X-HTTP-Method-Override: PATCH",
            exclusive(true),
            WriteThrough::Invalidate,
        ),
        ("validate gear", "X: 1", strong(caching()), WriteThrough::Invalidate),
        (
            "a level that proves nothing",
            "X: 1",
            weak(caching()),
            WriteThrough::Invalidate,
        ),
    ];
    for (name, fields, policy, expected) in cases {
        assert_eq!(allowed(&headers(fields), &policy), expected, "{name}");
    }
}

#[test]
fn r9_a_target_is_read_again_as_a_client_would_ask_for_the_variant() {
    let write = headers(
        "X-Tenant: a\nAccept-Language: de\nContent-Type: text/x\nContent-Length: 3\nIf-Match: \"1\"\nRange: bytes=0-1\n\
         Cache-Control: no-store\nPrefer: return=minimal\nIdempotency-Key: 7\nContent-Digest: x\nExpect: 100-continue",
    );
    let fields = |vary: &Vary| {
        let fields = again(&write, &exclusive(false), vary);
        let mut lines: Vec<String> = fields
            .iter()
            .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
            .collect();
        lines.sort();
        lines.join("\n")
    };
    assert_eq!(fields(&Vary::Any), "accept-language: de\nx-tenant: a");
    let vary = headers("Vary: Accept-Language, X-Other, X-Tenant");
    let asked = headers("Accept-Language: EN-us;q=0.5 ,fr\nX-Other: \u{e9}");
    let english = Vary::of(&vary, &asked).unwrap();
    let again = again(&write, &exclusive(false), &english);
    assert!(english.matches(&again), "{again:?}");
    assert!(!again.contains_key("x-tenant"), "the variant is of requests without it");
    assert_eq!(
        Vary::of(&vary, &again).unwrap(),
        english,
        "it is stored as the same variant"
    );
}

#[test]
fn r9_when_what_was_written_is_what_is_stored() {
    const PUT: &str = "Content-Type: text/new";
    const HEAD: &str =
        "Content-Type: text/old\nETag: \"1\"\nLast-Modified: then\nDate: then\nContent-Length: 9\nX-Kept: 1\nAge: 3";
    const ANSWER: &str = "ETag: \"2\"\nDate: now";
    let varies = Vary::of(&headers("Vary: X"), &headers("")).unwrap();
    let cases: Vec<(&str, &str, &str, u16, &str, Meta, String, bool)> = vec![
        ("200", "PUT", PUT, 200, ANSWER, meta(), HEAD.into(), true),
        ("201", "PUT", PUT, 201, ANSWER, meta(), HEAD.into(), true),
        ("204", "PUT", PUT, 204, ANSWER, meta(), HEAD.into(), true),
        ("205", "PUT", PUT, 205, ANSWER, meta(), HEAD.into(), false),
        ("303", "PUT", PUT, 303, ANSWER, meta(), HEAD.into(), false),
        ("412", "PUT", PUT, 412, ANSWER, meta(), HEAD.into(), false),
        ("no PUT", "POST", PUT, 200, ANSWER, meta(), HEAD.into(), false),
        (
            "rfc9110 s14.5 a part",
            "PUT",
            "Content-Range: bytes 0-1/2",
            200,
            ANSWER,
            meta(),
            HEAD.into(),
            false,
        ),
        (
            "coded",
            "PUT",
            "Content-Encoding: gzip",
            200,
            ANSWER,
            meta(),
            HEAD.into(),
            false,
        ),
        (
            "in a language",
            "PUT",
            "Content-Language: de",
            200,
            ANSWER,
            meta(),
            HEAD.into(),
            false,
        ),
        (
            "rfc9110 s9.3.4 no validator",
            "PUT",
            PUT,
            204,
            "Date: now",
            meta(),
            HEAD.into(),
            false,
        ),
        (
            "a weak one",
            "PUT",
            PUT,
            204,
            "ETag: W/\"2\"",
            meta(),
            HEAD.into(),
            false,
        ),
        (
            "rfc9110 s8.7",
            "PUT",
            PUT,
            200,
            "ETag: \"2\"\nContent-Location: /x",
            meta(),
            HEAD.into(),
            false,
        ),
        (
            "a negative one before",
            "PUT",
            PUT,
            204,
            ANSWER,
            Meta {
                status: StatusCode::NOT_FOUND,
                ..meta()
            },
            HEAD.into(),
            false,
        ),
        (
            "a variant before",
            "PUT",
            PUT,
            204,
            ANSWER,
            Meta { vary: varies, ..meta() },
            HEAD.into(),
            false,
        ),
        (
            "coded before",
            "PUT",
            PUT,
            204,
            ANSWER,
            meta(),
            format!("{HEAD}\nContent-Encoding: gzip"),
            false,
        ),
        (
            "digested before",
            "PUT",
            PUT,
            204,
            ANSWER,
            meta(),
            format!("{HEAD}\nRepr-Digest: x"),
            false,
        ),
    ];
    for (name, method, fields, status, answer, before, head, expected) in cases {
        let (fields, answer) = (headers(fields), headers(answer));
        let write = Write {
            method: &Method::from_bytes(method.as_bytes()).unwrap(),
            fields: &fields,
            length: 3,
            status: StatusCode::from_u16(status).unwrap(),
            answer: &answer,
        };
        let found = written(write, &before, &headers(&head));
        assert_eq!(found.is_some(), expected, "{name}");
        if let Some(found) = found {
            let expected = "Content-Type: text/new\nETag: \"2\"\nDate: now\nContent-Length: 3\nX-Kept: 1";
            assert_eq!(found, headers(expected), "{name}");
        }
    }
}

#![allow(clippy::unwrap_used, clippy::type_complexity, clippy::cloned_ref_to_slice_refs)]

use super::*;
use crate::core::http::testing::headers;
use proptest::prelude::*;

const REQUEST: RequestUrl<'_> = RequestUrl {
    https: false,
    host: "shop.example",
    path: "/a/b",
    query: Some("q=1"),
};

fn url(path: &str, query: Option<&str>) -> Option<ClientUrl> {
    Some(ClientUrl {
        path: path.to_owned(),
        query: query.map(str::to_owned),
    })
}

#[test]
fn rfc9110_s9_2_1_safe_methods() {
    for safe in ["GET", "HEAD", "OPTIONS", "TRACE", "QUERY"] {
        assert!(is_safe(&Method::from_bytes(safe.as_bytes()).unwrap()), "{safe}");
    }
    for other in [
        "POST", "PUT", "PATCH", "DELETE", "CONNECT", "PURGE", "get", "M-SEARCH", "PROPFIND",
    ] {
        assert!(!is_safe(&Method::from_bytes(other.as_bytes()).unwrap()), "{other}");
    }
}

#[test]
fn r13_an_overridden_method_is_unsafe() {
    assert!(!is_unsafe_request(&Method::GET, &headers("X: 1")));
    assert!(is_unsafe_request(&Method::POST, &headers("X: 1")));
    for name in ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"] {
        assert!(
            is_unsafe_request(&Method::GET, &headers(&format!("{name}: GET"))),
            "{name}"
        );
    }
}

#[test]
fn rfc3986_s5_2_references() {
    let cases: &[(&str, &str, Option<ClientUrl>)] = &[
        ("a path", "/x", url("/x", None)),
        ("a path with a query", "/x?y=/z", url("/x", Some("y=/z"))),
        ("a fragment is no part of it", "/x#y?z", url("/x", None)),
        ("beside", "c", url("/a/c", None)),
        ("above", "../c", url("/c", None)),
        ("far above", "../../../c", url("/c", None)),
        ("here", ".", url("/a/", None)),
        ("a query alone", "?z", url("/a/b", Some("z"))),
        ("a fragment alone", "#z", url("/a/b", Some("q=1"))),
        ("nothing", "", url("/a/b", Some("q=1"))),
        ("not normal", "/%7ex/./y/%2f", url("/~x/y/%2F", None)),
        ("absolute", "http://shop.example/x?y", url("/x", Some("y"))),
        ("absolute, any case", "HTTP://SHOP.example/x", url("/x", None)),
        ("absolute, port said", "http://shop.example:80/x", url("/x", None)),
        ("absolute, with a user", "http://u:p@shop.example/x", url("/x", None)),
        ("absolute, no path", "http://shop.example", url("/", None)),
        ("absolute, only a query", "http://shop.example?y", url("/", Some("y"))),
        ("without scheme", "//shop.example/x", url("/x", None)),
        ("another host", "http://other.example/x", None),
        ("another host without scheme", "//other.example/x", None),
        ("the host as user", "http://shop.example@other.example/x", None),
        ("another port", "http://shop.example:8080/x", None),
        ("another scheme", "https://shop.example/x", None),
        ("no http", "mailto:shop.example", None),
        ("a scheme without a host", "http:x", None),
        ("a colon in the first segment below", "./x:y", url("/a/x:y", None)),
    ];
    for (name, reference, expected) in cases {
        assert_eq!(resolve(REQUEST, reference), *expected, "{name}");
    }
}

#[test]
fn ports_belong_to_the_origin() {
    let request = RequestUrl {
        https: true,
        host: "Shop.example:8443",
        ..REQUEST
    };
    assert_eq!(resolve(request, "https://shop.example:8443/x"), url("/x", None));
    assert_eq!(resolve(request, "https://shop.example/x"), None);
    let request = RequestUrl {
        host: "shop.example:443",
        ..request
    };
    assert_eq!(resolve(request, "https://shop.example/x"), url("/x", None));
}

#[test]
fn r12_what_an_answer_to_a_write_affects() {
    let both = "Location: /x\nContent-Location: http://shop.example/y?z";
    let found = |status: u16, fields: &str| {
        affected(StatusCode::from_u16(status).unwrap(), &headers(fields), REQUEST).into_vec()
    };
    let expected: Vec<ClientUrl> = [url("/x", None), url("/y", Some("z"))].into_iter().flatten().collect();
    for status in [200, 201, 204, 299, 301, 303, 304, 399] {
        assert_eq!(found(status, both), expected, "{status}");
    }
    for status in [100, 199, 400, 404, 500, 503, 600] {
        assert_eq!(found(status, both), [], "{status}");
    }
    assert_eq!(found(200, "X: 1"), []);
    assert_eq!(found(201, "Location: http://other.example/x"), []);
    assert_eq!(found(201, "Location: /x\nContent-Location: /x").len(), 1);
}

proptest! {
    #[test]
    fn any_reference_is_resolved_without_a_panic_to_a_normal_path(reference in ".{0,40}", path in "(/[a-z.%]{0,4}){0,4}") {
        let request = RequestUrl { path: &path, ..REQUEST };
        if let Some(found) = resolve(request, &reference) {
            let again = normalise_path(&found.path).into_owned();
            prop_assert_eq!(again, found.path);
        }
    }

    #[test]
    fn other_hosts_are_never_affected(host in "[a-z]{1,8}\\.example", path in "[a-z/]{0,8}") {
        prop_assume!(host != "shop.example");
        let reference = format!("http://{host}/{path}");
        prop_assert_eq!(resolve(REQUEST, &reference), None);
    }
}

#![allow(clippy::unwrap_used, clippy::type_complexity, clippy::cloned_ref_to_slice_refs)]

use super::*;
use crate::core::http::testing::headers;
use proptest::prelude::*;
use std::borrow::Cow;

const SECRET: KeySecret = KeySecret(1, 2);

fn rules() -> KeyRules {
    KeyRules::default()
}

/// The key of `https? host path query fields`.
fn key(https: bool, host: &str, url: &str, fields: &str, rules: &KeyRules) -> Vec<u8> {
    let (path, query) = url
        .split_once('?')
        .map_or((url, None), |(path, query)| (path, Some(query)));
    let headers = headers(fields);
    KeyBuffer::new()
        .write(
            KeyParts {
                forwarded_host: None,
                route: 3,
                https,
                host,
                path: &NormalPath::of(path),
                query,
                headers: &headers,
            },
            rules,
        )
        .to_vec()
}

#[test]
fn rfc3986_s6_2_2_paths() {
    let cases = [
        ("nothing to do", "/a/b", "/a/b"),
        ("the case of escapes", "/%c3%a9", "/%C3%A9"),
        ("unreserved is decoded", "/%7Ea%2D%5f%41", "/~a-_A"),
        ("reserved stays", "/a%2fb%3F%25", "/a%2Fb%3F%25"),
        ("empty segments stay", "//a//b", "//a//b"),
        ("a trailing slash stays", "/a/", "/a/"),
        ("one dot", "/a/./b", "/a/b"),
        ("two dots", "/a/b/../c", "/a/c"),
        ("two dots at the end", "/a/b/..", "/a/"),
        ("one dot at the end", "/a/.", "/a/"),
        ("above the root", "/../../a", "/a"),
        ("only dots", "/..", "/"),
        ("dots that are escaped", "/a/%2e%2E/b", "/b"),
        ("dots that are part of a name", "/a/..b/c.", "/a/..b/c."),
        ("an escaped slash ends no segment", "/a/..%2Fb", "/a/..%2Fb"),
        ("two dots over an empty segment", "/a//../b", "/a/b"),
        ("beyond ASCII", "/\u{e9}", "/%C3%A9"),
        ("a lone percent stays", "/100%", "/100%"),
        ("a lone percent is not completed", "/%%32E%%32E", "/%%32E%%32E"),
        ("nor is one before a new escape", "/%\u{e9}%32", "/%%C3%A92"),
        ("nor from further back", "/%4%31", "/%4%31"),
        (
            "what cannot stand in a path",
            "/a\"<>[\\]^`{|} b",
            "/a%22%3C%3E%5B%5C%5D%5E%60%7B%7C%7D%20b",
        ),
        ("what can", "/!$&'()*+,;=:@", "/!$&'()*+,;=:@"),
        ("the asterisk of OPTIONS", "*", "*"),
        ("nothing", "", ""),
    ];
    for (name, path, expected) in cases {
        assert_eq!(normalise_path(path), expected, "{name}");
        assert_eq!(
            matches!(normalise_path(path), Cow::Borrowed(_)),
            path == expected,
            "{name}: borrowed when nothing changes"
        );
    }
}

#[test]
fn what_shares_an_entry_and_what_does_not() {
    let chosen = KeyRules {
        query: Some(vec!["page".to_owned()]),
        ..rules()
    };
    let ignoring = KeyRules {
        query_ignore: vec!["utm_*".to_owned(), "x".to_owned()],
        ..rules()
    };
    let by_header = KeyRules {
        headers: vec![HeaderName::from_static("x-tenant")],
        ..rules()
    };
    let by_cookie = KeyRules {
        cookies: vec!["lang".to_owned()],
        ..rules()
    };
    let plain = |host: &'static str, url: &'static str| (false, host, url, "X: 1");
    let with = |url: &'static str, fields: &'static str| (false, "a", url, fields);
    type One = (bool, &'static str, &'static str, &'static str);
    let cases: &[(&str, &KeyRules, One, One, bool)] = &[
        ("the same", &rules(), plain("a", "/p?q"), plain("a", "/p?q"), true),
        ("two hosts", &rules(), plain("a", "/p"), plain("b", "/p"), false),
        (
            "host in any case",
            &rules(),
            plain("Shop.Example", "/p"),
            plain("shop.example", "/p"),
            true,
        ),
        (
            "the default port",
            &rules(),
            plain("a:80", "/p"),
            plain("a", "/p"),
            true,
        ),
        ("another port", &rules(), plain("a:8080", "/p"), plain("a", "/p"), false),
        (
            "two schemes",
            &rules(),
            plain("a", "/p"),
            (true, "a", "/p", "X: 1"),
            false,
        ),
        (
            "the default port of the other scheme",
            &rules(),
            plain("a:443", "/p"),
            plain("a", "/p"),
            false,
        ),
        (
            "paths that mean the same",
            &rules(),
            plain("a", "/%7Ep/../p"),
            plain("a", "/p"),
            true,
        ),
        ("two paths", &rules(), plain("a", "/p"), plain("a", "/P"), false),
        ("two queries", &rules(), plain("a", "/p?1"), plain("a", "/p?2"), false),
        ("an empty query", &rules(), plain("a", "/p?"), plain("a", "/p"), false),
        (
            "queries that mean the same",
            &rules(),
            plain("a", "/p?%7e"),
            plain("a", "/p?~"),
            true,
        ),
        (
            "order of parameters",
            &rules(),
            plain("a", "/p?x=1&y=2"),
            plain("a", "/p?y=2&x=1"),
            false,
        ),
        (
            "other fields",
            &rules(),
            with("/p", "X-Tenant: 1"),
            with("/p", "X-Tenant: 2"),
            true,
        ),
        (
            "query_ignore",
            &ignoring,
            plain("a", "/p?a=1&utm_source=2&x=3"),
            plain("a", "/p?a=1"),
            true,
        ),
        (
            "query_ignore of all",
            &ignoring,
            plain("a", "/p?utm_=2"),
            plain("a", "/p"),
            true,
        ),
        (
            "query_ignore, escaped name",
            &ignoring,
            plain("a", "/p?utm%5Fsource=2"),
            plain("a", "/p"),
            true,
        ),
        (
            "query_ignore keeps others",
            &ignoring,
            plain("a", "/p?xy=1"),
            plain("a", "/p"),
            false,
        ),
        (
            "query",
            &chosen,
            plain("a", "/p?page=1&z=1"),
            plain("a", "/p?z=2&page=1"),
            true,
        ),
        (
            "query keeps the chosen",
            &chosen,
            plain("a", "/p?page=1"),
            plain("a", "/p?page=2"),
            false,
        ),
        (
            "query, none there",
            &chosen,
            plain("a", "/p?z=1"),
            plain("a", "/p"),
            true,
        ),
        (
            "headers",
            &by_header,
            with("/p", "X-Tenant: 1"),
            with("/p", "X-Tenant: 2"),
            false,
        ),
        (
            "headers, the same",
            &by_header,
            with("/p", "X-Tenant: 1,2"),
            with("/p", "X-Tenant: 1\nX-Tenant: 2"),
            true,
        ),
        (
            "headers, absent is not empty",
            &by_header,
            with("/p", "X-Tenant: "),
            with("/p", "X: 1"),
            false,
        ),
        (
            "cookies",
            &by_cookie,
            with("/p", "Cookie: a=1; lang=de"),
            with("/p", "Cookie: a=1; lang=en"),
            false,
        ),
        (
            "cookies, others",
            &by_cookie,
            with("/p", "Cookie: a=1; lang=de"),
            with("/p", "Cookie: lang=de;b=2"),
            true,
        ),
        (
            "cookies, absent",
            &by_cookie,
            with("/p", "Cookie: lang="),
            with("/p", "X: 1"),
            false,
        ),
        (
            "cookies, twice",
            &by_cookie,
            with("/p", "Cookie: lang=de; lang=en"),
            with("/p", "Cookie: lang=de"),
            false,
        ),
    ];
    for (name, rules, one, other, same) in cases {
        let (one, other) = (
            key(one.0, one.1, one.2, one.3, rules),
            key(other.0, other.1, other.2, other.3, rules),
        );
        assert_eq!(one == other, *same, "{name}");
        assert_eq!(SECRET.digest(&one) == SECRET.digest(&other), *same, "{name}: digest");
    }
}

#[test]
fn two_routes_share_nothing_and_a_buffer_can_be_used_again() {
    let headers = HeaderMap::new();
    let path = NormalPath::of("/p");
    let parts = KeyParts {
        forwarded_host: None,
        route: 1,
        https: false,
        host: "a",
        path: &path,
        query: None,
        headers: &headers,
    };
    let mut buffer = KeyBuffer::new();
    let one = buffer.write(parts, &rules()).to_vec();
    let other = buffer
        .write(
            KeyParts {
                forwarded_host: None,
                route: 2,
                ..parts
            },
            &rules(),
        )
        .to_vec();
    assert_ne!(one, other);
    assert_eq!(buffer.write(parts, &rules()), one);
    assert_eq!(buffer.text(), one);
}

#[test]
fn r14_credentials_that_the_key_does_not_hold() {
    let by_cookie = KeyRules {
        cookies: vec!["lang".to_owned()],
        ..rules()
    };
    let by_fields = KeyRules {
        headers: vec![AUTHORIZATION, COOKIE],
        ..rules()
    };
    let some_ignored = KeyRules {
        cookies: vec!["lang".to_owned()],
        cookies_ignore: vec!["_ga*".to_owned(), "seen".to_owned()],
        ..rules()
    };
    let all_ignored = KeyRules {
        cookies_ignore: vec!["*".to_owned()],
        ..rules()
    };
    let cases: &[(&str, &KeyRules, &str, bool)] = &[
        (
            "cookies that do not count",
            &some_ignored,
            "Cookie: _ga=1; _ga_X=2; seen=1",
            false,
        ),
        (
            "and one that is in the key",
            &some_ignored,
            "Cookie: _ga=1; lang=de",
            false,
        ),
        ("and one that is neither", &some_ignored, "Cookie: _ga=1; sid=7", true),
        (
            "a longer name than the one ignored",
            &some_ignored,
            "Cookie: seen_by=me",
            true,
        ),
        ("names are exact in case", &some_ignored, "Cookie: SEEN=1", true),
        ("no cookie counts", &all_ignored, "Cookie: a=1; b", false),
        (
            "authorization counts all the same",
            &all_ignored,
            "Cookie: a=1\nAuthorization: x",
            true,
        ),
        ("none", &rules(), "X: 1", false),
        ("authorization", &rules(), "Authorization: x", true),
        ("a cookie", &rules(), "Cookie: a=1", true),
        ("authorization, keyed", &by_fields, "Authorization: x", false),
        ("cookies, keyed", &by_fields, "Cookie: a=1", false),
        ("the keyed cookie", &by_cookie, "Cookie: lang=de", false),
        ("and another", &by_cookie, "Cookie: lang=de; a=1", true),
        (
            "and another on a second line",
            &by_cookie,
            "Cookie: lang=de\nCookie: a=1",
            true,
        ),
        ("no cookie in the field", &by_cookie, "Cookie: ", false),
        (
            "authorization beside the keyed cookie",
            &by_cookie,
            "Cookie: lang=de\nAuthorization: x",
            true,
        ),
    ];
    for (name, rules, fields, expected) in cases {
        assert_eq!(has_unkeyed_credentials(&headers(fields), rules), *expected, "{name}");
    }
}

#[test]
fn r6_a_resource_is_all_queries_of_a_path_at_an_upstream() {
    let resource = |upstream, path, query| resource_digest(SECRET, upstream, path, query);
    assert_eq!(resource(0, "/a/../p%7e", None), resource(0, "/p~", None));
    assert_ne!(resource(0, "/p", None), resource(1, "/p", None));
    assert_ne!(resource(0, "/p", None), resource(0, "/p/", None));
    assert_ne!(resource(0, "/p", Some("1")), resource(0, "/p", Some("2")));
    assert_ne!(resource(0, "/p", Some("")), resource(0, "/p", None));
    assert_ne!(resource(0, "/p", Some("x")), resource(0, "/px", Some("")));
    assert_eq!(resource(0, "/p", Some("%7e")), resource(0, "/p", Some("~")));
    let other = resource_digest(KeySecret(1, 3), 0, "/p", None);
    assert_ne!(other, resource(0, "/p", None), "digests are keyed");
}

#[test]
fn a_tag_is_its_name_at_an_upstream_and_never_a_resource() {
    let tag = |upstream, name| tag_digest(KeySecret(1, 2), upstream, name);
    assert_eq!(tag(0, "a"), tag(0, "a"));
    assert_ne!(tag(0, "a"), tag(0, "A"));
    assert_ne!(tag(0, "a"), tag(1, "a"));
    assert_ne!(tag_digest(KeySecret(1, 3), 0, "a"), tag(0, "a"), "digests are keyed");
    for n in 0..100 {
        assert!(tag(n, "/p").is_tag());
        assert!(!resource_digest(KeySecret(1, 2), n, "/p", None).is_tag());
    }
}

#[test]
fn a_keys_text_reads_back_and_nothing_else_does() {
    let text = key(false, "Shop.Example:8080", "/a/../p?q=%7e", "X: 1", &rules());
    let expected = Named {
        route: 3,
        https: false,
        host: b"shop.example:8080",
        path: b"/p",
        query: b"?q=~",
    };
    assert_eq!(named(&text), Some(expected));
    assert_eq!(
        named(&text).unwrap().query,
        query_text(Some("q=~"), &rules()).as_slice()
    );
    for cut in 0..text.len() {
        assert_eq!(named(&text[..cut]), None, "cut at {cut}");
    }
}

proptest! {
    #[test]
    fn a_normal_path_is_normal(path in "/?([a.%/]|%2[eEfF5]|%32|%|\u{e9}|[ -~]){0,12}") {
        let once = normalise_path(&path).into_owned();
        prop_assert_eq!(normalise_path(&once), Cow::Borrowed(once.as_str()));
        prop_assert!(once.is_ascii());
    }

    #[test]
    fn any_text_is_normalised_without_a_panic(text in ".{0,30}") {
        let once = normalise_escapes(&text).into_owned();
        prop_assert_eq!(normalise_escapes(&once), Cow::Borrowed(once.as_str()));
        let _ = normalise_path(&text);
    }

    #[test]
    fn no_dot_segment_survives(path in "(/(\\.|%2e|%2E|a|){0,3}){0,6}") {
        let normal = normalise_path(&path).into_owned();
        prop_assert!(!normal.split('/').any(|s| s == "." || s == ".."), "{}", normal);
    }

    /// The same characters cut at other places into host, path and query, with absent fields between.
    #[test]
    fn no_two_requests_share_a_key_by_where_they_are_cut(length in 0_usize..8, one in any::<(u8, u8)>(), other in any::<(u8, u8)>()) {
        let text = "a".repeat(length);
        let cut = |(first, second): (u8, u8)| {
            let first = usize::from(first) % (length + 1);
            (first, first + usize::from(second) % (length - first + 1))
        };
        let write = |(first, second): (usize, usize)| {
            let headers = HeaderMap::new();
            let (host, path, query) = (&text[..first], &text[first..second], Some(&text[second..]));
            let parts = KeyParts { forwarded_host: None, route: 1, https: false, host, path: &NormalPath::of(path), query, headers: &headers };
            KeyBuffer::new().write(parts, &rules()).to_vec()
        };
        let (one, other) = (cut(one), cut(other));
        prop_assert_eq!(write(one) == write(other), one == other);
    }

    #[test]
    fn any_bytes_are_read_as_a_key_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = named(&bytes);
    }

    /// Parts drawn from few characters, the buffer's own separators among them, collide all the time unless lengths are kept.
    #[test]
    fn no_two_requests_share_a_key_by_accident(
        one in ("[a:]{0,3}", "[a/?&=]{0,3}", prop::option::of("[a?&=;]{0,3}"), prop::option::of("[a,=]{0,3}"), prop::option::of("[a=]{0,3}")),
        other in ("[a:]{0,3}", "[a/?&=]{0,3}", prop::option::of("[a?&=;]{0,3}"), prop::option::of("[a,=]{0,3}"), prop::option::of("[a=]{0,3}")),
    ) {
        let rules = KeyRules { headers: vec![HeaderName::from_static("x")], cookies: vec!["c".to_owned()], ..KeyRules::default() };
        let write = |(host, path, query, field, cookie): &(String, String, Option<String>, Option<String>, Option<String>)| {
            let mut lines = String::new();
            if let Some(field) = field {
                lines.push_str(&format!("X: {field}\n"));
            }
            if let Some(cookie) = cookie {
                lines.push_str(&format!("Cookie: c={cookie}\n"));
            }
            let headers = headers(&lines);
            let parts = KeyParts { forwarded_host: None, route: 1, https: false, host, path: &NormalPath::of(path), query: query.as_deref(), headers: &headers };
            let text = KeyBuffer::new().write(parts, &rules).to_vec();
            let normal = (
                without_default_port(host, false).to_owned(),
                normalise_path(path).into_owned(),
                query.clone(),
                crate::core::http::vary::normal(&headers, &rules.headers[0]).map(|v| v.to_vec()),
                cookie.clone(),
            );
            (text, normal)
        };
        let (one, other) = (write(&one), write(&other));
        prop_assert_eq!(one.0 == other.0, one.1 == other.1);
    }
}

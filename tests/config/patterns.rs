//! Matching, as INTERFACE.md section 1 says it.

use crate::support::good;
use tidegate::config::pattern::Captures;
use tidegate::config::runtime::{Action, HostPattern, Network, PathPattern, Rewrite};

fn path(text: &str) -> PathPattern {
    PathPattern::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
}

/// Pattern, path, and what the placeholders match.
type Case = (
    &'static str,
    &'static str,
    Option<&'static [(&'static str, &'static str)]>,
);

#[test]
fn paths_match_whole_segments_and_rests() {
    #[rustfmt::skip]
    let table: &[Case] = &[
        ("/", "/", Some(&[])),
        ("/", "/a", None),
        ("/orders", "/orders", Some(&[])),
        ("/orders", "/orders/", None),
        ("/orders/", "/orders", None),
        ("/orders", "/Orders", None),
        ("/orders/{id}", "/orders/7", Some(&[("id", "7")])),
        ("/orders/{id}", "/orders/", None),
        ("/orders/{id}", "/orders/7/", None),
        ("/orders/{id}", "/orders/7/items", None),
        ("/orders/{id}", "/orders/a%2Fb", Some(&[("id", "a%2Fb")])),
        ("/orders/{id}", "/orders//", None),
        ("/orders/{id}/items", "/orders/7/items", Some(&[("id", "7")])),
        ("/orders/{id}/items", "/orders//items", None),
        ("/{a}/{b}", "/x/y", Some(&[("a", "x"), ("b", "y")])),
        ("/{a}/{b}", "/x", None),
        ("/u{*rest}", "/u", Some(&[("rest", "")])),
        ("/u{*rest}", "/user", Some(&[("rest", "ser")])),
        ("/u{*rest}", "/u/a/b", Some(&[("rest", "/a/b")])),
        ("/u{*rest}", "/v", None),
        ("/u/{*rest}", "/u/", Some(&[("rest", "")])),
        ("/u/{*rest}", "/u/a/b", Some(&[("rest", "a/b")])),
        ("/u/{*rest}", "/u", None),
        ("/{*all}", "/", Some(&[("all", "")])),
        ("/{id}/{*rest}", "/7/", Some(&[("id", "7"), ("rest", "")])),
        ("/{id}/{*rest}", "//x", None),
        ("/a//b", "/a//b", Some(&[])),
        ("/a//b", "/a/b", None),
        // RFC 3986 s6.2.2: a pattern is normalised as a request's path is.
        ("/%7Euser", "/~user", Some(&[])),
        ("/caf%c3%a9", "/caf%C3%A9", Some(&[])),
        ("/café", "/caf%C3%A9", Some(&[])),
        ("/a%2fb", "/a%2Fb", Some(&[])),
        ("/a%2fb", "/a/b", None),
        ("/a(1);v=2,@:!$&'*+", "/a(1);v=2,@:!$&'*+", Some(&[])),
    ];
    for (pattern, text, expected) in table {
        let compiled = path(pattern);
        let found = compiled.matches(text);
        match (found, expected) {
            (None, None) => {}
            (Some(captures), Some(expected)) => {
                for (name, value) in *expected {
                    assert_eq!(captures.get(name), Some(*value), "{pattern} {text}");
                }
                assert_eq!(captures.get("other"), None);
            }
            (found, expected) => panic!("{pattern} {text}: {found:?}, expected {expected:?}"),
        }
    }
}

#[test]
fn wrong_patterns_say_what_is_wrong() {
    for (pattern, part) in [
        ("", "starts with"),
        ("orders", "starts with"),
        ("/a{id}", "one whole segment"),
        ("/{id}.json", "one whole segment"),
        ("/{*rest}/x", "must come last"),
        ("/{id}/{id}", "there twice"),
        ("/{}", "no placeholder"),
        ("/{a b}", "no placeholder"),
        ("/{id", "come in pairs"),
        ("/id}", "come in pairs"),
        ("/a?b=c", "no \"?\""),
        ("/a#b", "no \"#\""),
        ("/a/../b", "removed from a request's path"),
        ("/%2e%2e/b", "removed from a request's path"),
        ("/%zz", "hexadecimal"),
        ("/%4", "hexadecimal"),
    ] {
        let error = PathPattern::parse(pattern).unwrap_err();
        assert!(error.contains(part), "{pattern}: {error}");
    }
}

#[test]
fn rewrites_fill_in_what_the_pattern_matched() {
    for (pattern, rewrite, text, expected) in [
        ("/orders/{id}", "/v2/orders/{id}", "/orders/7", "/v2/orders/7"),
        ("/api/{*rest}", "/{*rest}", "/api/a/b", "/a/b"),
        ("/api/{*rest}", "/{*rest}", "/api/", "/"),
        ("/u{*rest}", "/v{*rest}", "/u/x", "/v/x"),
        ("/{a}/{b}", "/{b}/{a}", "/x/y", "/y/x"),
        ("/x", "/fixed", "/x", "/fixed"),
    ] {
        let pattern = path(pattern);
        let rewrite = Rewrite::parse(rewrite, Some(&pattern)).unwrap();
        assert_eq!(rewrite.apply(&pattern.matches(text).unwrap()), expected);
    }
    let pattern = path("/orders/{id}/{*rest}");
    for (rewrite, part) in [
        ("/v2/{other}", "not in match.path"),
        ("/v2/{idd}", "did you mean \"id\""),
        ("/v2/{rest}", "write {*rest}"),
        ("/v2/{*id}", "write {id}"),
        ("v2", "starts with"),
    ] {
        let error = Rewrite::parse(rewrite, Some(&pattern)).unwrap_err();
        assert!(error.contains(part), "{rewrite}: {error}");
    }
    assert!(Rewrite::parse("/{id}", None).is_err());
    assert_eq!(Rewrite::parse("/a", None).unwrap().apply(&Captures::default()), "/a");
}

#[test]
fn hosts_match_in_any_case_and_with_any_port() {
    for (pattern, host, expected) in [
        ("shop.example", "shop.example", true),
        ("shop.example", "SHOP.Example:8080", true),
        ("SHOP.example", "shop.example", true),
        ("shop.example", "a.shop.example", false),
        ("shop.example", "shop.example.com", false),
        ("*.example.com", "a.example.com", true),
        ("*.example.com", "a.b.example.com:443", true),
        ("*.example.com", "A.EXAMPLE.COM", true),
        ("*.example.com", "example.com", false),
        ("*.example.com", ".example.com", false),
        ("*.example.com", "aexample.com", false),
        ("127.0.0.1", "127.0.0.1:80", true),
        ("[::1]", "[::1]:80", true),
        ("[::1]", "[::1]", true),
        ("[::1]", "[::2]", false),
        ("shop.example", "", false),
        ("*.é", "é.é", false),
    ] {
        let Ok(compiled) = HostPattern::parse(pattern) else {
            assert_eq!((pattern, expected), ("*.é", false));
            continue;
        };
        assert_eq!(compiled.matches(host), expected, "{pattern} {host}");
    }
    for wrong in [
        "",
        "*",
        "*.",
        "a.*.b",
        "a b",
        "shop.example:80",
        "a/b",
        ".a",
        "http://a",
    ] {
        assert!(HostPattern::parse(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn networks_hold_their_addresses() {
    for (network, address, expected) in [
        ("10.0.0.0/8", "10.1.2.3", true),
        ("10.0.0.0/8", "11.0.0.0", false),
        ("10.0.0.0/8", "::ffff:10.1.2.3", true),
        ("10.0.0.0/8", "::1", false),
        ("0.0.0.0/0", "192.0.2.1", true),
        ("0.0.0.0/0", "2001:db8::1", false),
        ("::/0", "2001:db8::1", true),
        ("::/0", "10.0.0.1", false),
        ("192.0.2.1", "192.0.2.1", true),
        ("192.0.2.1", "192.0.2.2", false),
        ("2001:db8::/32", "2001:db8:1::1", true),
        ("2001:db8::/32", "2001:db9::1", false),
    ] {
        let parsed = Network::parse(network).unwrap();
        assert_eq!(
            parsed.contains(address.parse().unwrap()),
            expected,
            "{network} {address}"
        );
    }
    for (wrong, part) in [
        ("", "expected a network"),
        ("10.0.0.0/33", "expected a network"),
        ("10.0.0/8", "expected a network"),
        ("10.0.0.1/8", "did you mean \"10.0.0.0/8\""),
        ("example.com", "expected a network"),
    ] {
        let error = Network::parse(wrong).unwrap_err();
        assert!(error.contains(part), "{wrong}: {error}");
    }
}

#[test]
fn earlier_patterns_cover_later_ones_only_when_they_do() {
    for (earlier, later, expected) in [
        ("/a", "/a", true),
        ("/a", "/b", false),
        ("/{x}", "/a", true),
        ("/{x}", "/{y}", true),
        ("/a", "/{x}", false),
        ("/a", "/a{*r}", false),
        ("/{x}", "/", false),
        ("/{x}", "/a/b", false),
        ("/{x}/b", "/a/b", true),
        ("/{x}/b", "/a/{y}", false),
        ("/{*r}", "/", true),
        ("/{*r}", "/a/{b}/{*c}", true),
        ("/a{*r}", "/a/{b}", true),
        ("/a/{*r}", "/a", false),
        ("/a/{*r}", "/a{*s}", false),
        ("/{x}", "/{*r}", false),
        ("/{x}", "/a{*r}", false),
        ("/{x}/{*r}", "/{*r}", false),
        ("/{x}/{*r}", "/a/b{*r}", true),
        ("/{x}/{*r}", "/{y}/{*s}", true),
        ("/{x}/{*r}", "/a{*s}", false),
        ("/{x}{*r}", "/a", false),
    ] {
        let Ok(earlier_pattern) = PathPattern::parse(earlier) else {
            assert_eq!(earlier, "/{x}{*r}");
            continue;
        };
        assert_eq!(earlier_pattern.covers(&path(later)), expected, "{earlier} over {later}");
    }
}

#[test]
fn a_rewrite_is_compiled_against_its_route() {
    let config = good(
        "[upstreams.o]\nnodes = [{ url = \"http://a\" }]\n[[routes]]\nmatch = { path = \"/api/{*rest}\" }\nupstream = \"o\"\nrewrite = \"/{*rest}\"\n",
    );
    let route = &config.routes[0];
    let Action::Proxy {
        rewrite: Some(rewrite), ..
    } = &route.action
    else {
        panic!()
    };
    let pattern = route.matches.path.as_ref().unwrap();
    assert_eq!(rewrite.apply(&pattern.matches("/api/x").unwrap()), "/x");
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    /// Segments of the small world in which coverage is checked against matching.
    fn pattern() -> impl Strategy<Value = String> {
        let segment = prop_oneof![
            Just("a".to_owned()),
            Just("b".to_owned()),
            Just("ab".to_owned()),
            Just(String::new()),
            Just("{}".to_owned())
        ];
        (
            prop::collection::vec(segment, 0..4),
            prop_oneof![Just(""), Just("{*r}"), Just("a{*r}")],
        )
            .prop_map(|(segments, end)| {
                let mut text = String::from("/");
                for (i, segment) in segments.iter().enumerate() {
                    text.push_str(&segment.replace("{}", &format!("{{p{i}}}")));
                    text.push('/');
                }
                text + end
            })
    }

    fn request() -> impl Strategy<Value = String> {
        prop::collection::vec(prop_oneof![Just("a"), Just("b"), Just("/"), Just("ab")], 0..8)
            .prop_map(|parts| format!("/{}", parts.concat()))
    }

    proptest! {
        #[test]
        fn what_is_called_shadowed_is_shadowed(earlier in pattern(), later in pattern(), paths in prop::collection::vec(request(), 40)) {
            let (earlier, later) = (path(&earlier), path(&later));
            if earlier.covers(&later) {
                for text in &paths {
                    prop_assert!(later.matches(text).is_none() || earlier.matches(text).is_some(), "{} over {}: {text}", earlier.text, later.text);
                }
            }
        }

        #[test]
        fn no_pattern_and_no_path_panics(pattern in "[/{}*a%é.]{0,12}", text in "[/a%é.]{0,12}") {
            if let Ok(pattern) = PathPattern::parse(&format!("/{pattern}")) {
                let _ = pattern.matches(&text);
            }
            if let Ok(host) = HostPattern::parse(&text) { let _ = host.matches(&text); }
            let _ = Network::parse(&text);
        }
    }
}

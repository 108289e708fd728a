#![allow(clippy::unwrap_used, clippy::type_complexity, clippy::cloned_ref_to_slice_refs)]

use super::*;
use crate::core::http::testing::{headers, secs};
use proptest::prelude::*;

fn response(field: &str) -> ResponseDirectives {
    ResponseDirectives::parse(&headers(field))
}

fn request(field: &str) -> RequestDirectives {
    RequestDirectives::parse(&headers(field))
}

#[test]
fn rfc9111_s5_2_2_lifetimes() {
    let cases: &[(&str, &str, Option<Ttl>)] = &[
        ("plain", "Cache-Control: max-age=60", Some(secs(60))),
        ("any case", "Cache-Control: Max-AGE=60", Some(secs(60))),
        ("s5.2 quoted form", "Cache-Control: max-age=\"60\"", Some(secs(60))),
        ("leading zeros", "Cache-Control: max-age=0060", Some(secs(60))),
        ("behind another", "Cache-Control: public,max-age=60", Some(secs(60))),
        (
            "tabs and empty members",
            "Cache-Control: ,\t, public ,, max-age=60\t",
            Some(secs(60)),
        ),
        (
            "on a second line",
            "Cache-Control: public\nCache-Control: max-age=60",
            Some(secs(60)),
        ),
        ("absent", "Cache-Control: public", None),
        ("another name", "Cache-Control: xmax-age=60, max-agex=60", None),
        (
            "s4.2.1 duplicates: the shorter",
            "Cache-Control: max-age=60, max-age=1",
            Some(secs(1)),
        ),
        (
            "s4.2.1 duplicates over lines",
            "Cache-Control: max-age=1\nCache-Control: max-age=60",
            Some(secs(1)),
        ),
        (
            "s1.2.2 overflow",
            "Cache-Control: max-age=2147483649",
            Some(secs(1 << 31)),
        ),
        (
            "s1.2.2 far overflow",
            "Cache-Control: max-age=99999999999999999999999",
            Some(secs(1 << 31)),
        ),
        ("negative is stale", "Cache-Control: max-age=-1", Some(Ttl::ZERO)),
        ("a decimal is stale", "Cache-Control: max-age=60.5", Some(Ttl::ZERO)),
        ("letters are stale", "Cache-Control: max-age=60a", Some(Ttl::ZERO)),
        (
            "single quotes are stale",
            "Cache-Control: max-age='60'",
            Some(Ttl::ZERO),
        ),
        ("no argument is stale", "Cache-Control: max-age", Some(Ttl::ZERO)),
        ("an empty argument is stale", "Cache-Control: max-age=", Some(Ttl::ZERO)),
        (
            "a space behind = is stale",
            "Cache-Control: max-age= 60",
            Some(Ttl::ZERO),
        ),
        ("inside a quoted string", "Cache-Control: x=\"a, max-age=60, b\"", None),
        (
            "inside one with an escaped quote",
            "Cache-Control: x=\"\\\", max-age=60\"",
            None,
        ),
        (
            "behind a quoted string",
            "Cache-Control: x=\"a, b\", max-age=60",
            Some(secs(60)),
        ),
        (
            "a quote never closed hides nothing",
            "Cache-Control: x=\", max-age=60",
            Some(secs(60)),
        ),
    ];
    for (name, field, expected) in cases {
        assert_eq!(response(field).max_age, *expected, "{name}");
        assert_eq!(request(field).max_age, *expected, "{name}, in a request");
    }
}

#[test]
fn rfc9111_s5_2_2_every_response_directive_is_known() {
    let all =
        "Cache-Control: no-store, no-cache, private, public, must-revalidate, proxy-revalidate, max-age=1, s-maxage=2
        Cache-Control: stale-while-revalidate=3, stale-if-error=4, immutable, must-understand, no-transform, x-other=5";
    let expected = ResponseDirectives {
        no_store: true,
        no_cache: true,
        private: true,
        public: true,
        must_revalidate: true,
        proxy_revalidate: true,
        max_age: Some(secs(1)),
        s_maxage: Some(secs(2)),
        stale_while_revalidate: Some(secs(3)),
        stale_if_error: Some(secs(4)),
        immutable: true,
        must_understand: true,
        no_transform: true,
        targeted: false,
    };
    assert_eq!(response(all), expected);
    assert_eq!(response(&all.to_uppercase()), expected);
    assert_eq!(response("X-Other: no-store"), ResponseDirectives::default());
    assert_eq!(
        response("Pragma: no-cache"),
        ResponseDirectives::default(),
        "s5.4: means nothing in an answer"
    );
}

#[test]
fn rfc9111_s5_2_2_4_and_7_field_lists_count_as_the_whole() {
    assert!(response("Cache-Control: no-cache=\"Set-Cookie, X\"").no_cache);
    assert!(response("Cache-Control: private=\"Set-Cookie\", max-age=5").private);
    assert!(response("Cache-Control: NO-CACHE=x").no_cache);
}

#[test]
fn rfc9111_s4_2_4_and_s3_5_kin() {
    let cases = [
        ("must-revalidate", true, true),
        ("proxy-revalidate", true, false),
        ("s-maxage=5", true, true),
        ("public", false, true),
        ("max-age=5", false, false),
    ];
    for (directive, forbids_stale, permits_sharing) in cases {
        let parsed = response(&format!("Cache-Control: {directive}"));
        assert_eq!(parsed.forbids_stale(), forbids_stale, "{directive}");
        assert_eq!(parsed.permits_sharing(), permits_sharing, "{directive}");
    }
}

#[test]
fn rfc9111_s5_2_1_every_request_directive_is_known() {
    let expected = RequestDirectives {
        no_cache: true,
        no_store: true,
        only_if_cached: true,
        max_age: Some(secs(1)),
        max_stale: Some(secs(2)),
        min_fresh: Some(secs(3)),
        stale_if_error: Some(secs(4)),
    };
    let all =
        "Cache-Control: no-cache, No-Store, only-if-cached, max-age=1, max-stale=2, min-fresh=3, stale-if-error=4";
    assert_eq!(request(all), expected);
    assert_eq!(request("Accept: */*"), RequestDirectives::default());
}

#[test]
fn rfc9111_s5_2_1_doubtful_request_directives() {
    assert_eq!(request("Cache-Control: max-stale").max_stale, Some(Ttl::MAX));
    assert_eq!(
        request("Cache-Control: max-stale, max-stale=5").max_stale,
        Some(secs(5)),
        "the stricter"
    );
    assert_eq!(
        request("Cache-Control: max-stale=x").max_stale,
        Some(Ttl::ZERO),
        "loosens nothing"
    );
    assert_eq!(
        request("Cache-Control: min-fresh=5, min-fresh=9").min_fresh,
        Some(secs(9)),
        "the stricter"
    );
    assert_eq!(request("Cache-Control: min-fresh=x").min_fresh, None);
}

#[test]
fn rfc9111_s5_4_pragma_counts_only_without_cache_control() {
    assert!(request("Pragma: no-cache").no_cache);
    assert!(request("Pragma: x, No-Cache").no_cache);
    assert!(!request("Pragma: other").no_cache);
    assert!(!request("Pragma: no-cache\nCache-Control: max-age=5").no_cache);
}

/// What of an answer's directives a targeted field can change.
fn told(d: &ResponseDirectives) -> String {
    let mut said = Vec::new();
    let ages = [
        ("max-age", d.max_age),
        ("s-maxage", d.s_maxage),
        ("stale-while-revalidate", d.stale_while_revalidate),
        ("stale-if-error", d.stale_if_error),
    ];
    for (name, value) in ages {
        said.extend(value.map(|value| format!("{name}={}", value.as_secs())));
    }
    let flags = [
        ("no-store", d.no_store),
        ("no-cache", d.no_cache),
        ("private", d.private),
        ("public", d.public),
        ("must-revalidate", d.must_revalidate),
        ("proxy-revalidate", d.proxy_revalidate),
        ("must-understand", d.must_understand),
        ("no-transform", d.no_transform),
        ("immutable", d.immutable),
        ("targeted", d.targeted),
    ];
    said.extend(flags.iter().filter(|(_, on)| *on).map(|(name, _)| (*name).to_owned()));
    said.join(" ")
}

#[test]
fn rfc9213_s2_2_a_targeted_field_stands_in_for_cache_control() {
    let cases: &[(&str, &str, &str)] = &[
        (
            "without one",
            "Cache-Control: max-age=9, no-store",
            "max-age=9 no-store",
        ),
        (
            "a lifetime beats no-store beside it",
            "Cache-Control: no-store\nCDN-Cache-Control: max-age=60",
            "max-age=60 targeted",
        ),
        (
            "no-store beats a lifetime beside it",
            "Cache-Control: max-age=60, public\nCDN-Cache-Control: no-store",
            "no-store targeted",
        ),
        (
            "ours before the cdn's",
            "CDN-Cache-Control: max-age=60\nTidegate-Cache-Control: private",
            "private targeted",
        ),
        (
            "s2.1 a mistake: ignored whole",
            "Cache-Control: max-age=9\nCDN-Cache-Control: no-store, max-age =60",
            "max-age=9",
        ),
        (
            "rfc9651 a name in capitals is a mistake",
            "Cache-Control: max-age=9\nCDN-Cache-Control: Max-Age=60",
            "max-age=9",
        ),
        (
            "every directive",
            "CDN-Cache-Control: max-age=1, s-maxage=2, stale-while-revalidate=3, stale-if-error=4, no-store, no-cache, private, public, \
             must-revalidate, proxy-revalidate, must-understand, no-transform, immutable",
            "max-age=1 s-maxage=2 stale-while-revalidate=3 stale-if-error=4 no-store no-cache private public must-revalidate \
             proxy-revalidate must-understand no-transform immutable targeted",
        ),
        (
            "parameters change nothing",
            "CDN-Cache-Control: max-age=60;x=1, no-cache;y",
            "max-age=60 no-cache targeted",
        ),
        (
            "unknown ones change nothing",
            "CDN-Cache-Control: foo=(1 2), max-age=60",
            "max-age=60 targeted",
        ),
        (
            "rfc9651 s4.2.2 the later of two counts",
            "CDN-Cache-Control: max-age=1, no-store, max-age=60, no-store=?0",
            "max-age=60 targeted",
        ),
        (
            "rfc9111 s1.2.2 overflow",
            "CDN-Cache-Control: max-age=99999999999",
            "max-age=2147483648 targeted",
        ),
        (
            "a string is no lifetime",
            "CDN-Cache-Control: max-age=\"60\"",
            "max-age=0 targeted",
        ),
        (
            "a decimal is none",
            "CDN-Cache-Control: max-age=60.5",
            "max-age=0 targeted",
        ),
        (
            "a bare name is none",
            "CDN-Cache-Control: max-age",
            "max-age=0 targeted",
        ),
        (
            "a negative one is none",
            "CDN-Cache-Control: max-age=-60",
            "max-age=0 targeted",
        ),
        (
            "the wrong type restricts all the same",
            "CDN-Cache-Control: no-store=1, no-cache=\"x\", private=(a), must-revalidate=a",
            "no-store no-cache private must-revalidate targeted",
        ),
        (
            "and permits nothing",
            "CDN-Cache-Control: public=1, must-understand=\"x\", immutable=a",
            "targeted",
        ),
        (
            "?0 takes it back",
            "CDN-Cache-Control: no-store=?0, public=?0",
            "targeted",
        ),
    ];
    for (name, fields, expected) in cases {
        assert_eq!(told(&response(fields)), *expected, "{name}");
    }
}

proptest! {
    #[test]
    fn any_value_is_read_without_a_panic(values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..4)) {
        let mut headers = HeaderMap::new();
        for value in values {
            if let Ok(value) = http::HeaderValue::from_bytes(&value) {
                headers.append(CACHE_CONTROL, value.clone());
                headers.append(PRAGMA, value);
            }
        }
        let _ = ResponseDirectives::parse(&headers);
        let _ = RequestDirectives::parse(&headers);
    }

    #[test]
    fn a_forbidding_directive_is_seen_whatever_stands_around_it(
        before in "([a-z=]{0,6}(=\"[a-z, ]{0,6}\")? ?, ?){0,3}",
        after in "[a-z=\", ]{0,20}",
    ) {
        let field = format!("Cache-Control: {before} no-store ,{after}");
        prop_assert!(response(&field).no_store, "{}", field);
    }

    #[test]
    fn numbers_round_trip_up_to_2_31(n in any::<u64>(), quoted in any::<bool>()) {
        let quote = if quoted { "\"" } else { "" };
        let parsed = response(&format!("Cache-Control: max-age={quote}{n}{quote}")).max_age;
        prop_assert_eq!(parsed, Some(secs(n.min(1 << 31))));
    }
}

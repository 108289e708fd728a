//! What holds for every answer, whatever its fields: time only takes away, a directive that restricts never permits, and how a field is
//! written changes nothing.

use super::{Given, later, ok};
use crate::core::http::testing::{caching, eventual, weak};
use crate::core::policy::{OnUnreachable, Policy};
use proptest::prelude::*;

/// How much of the origin a read needs, from none at all.
fn need(outcome: &str) -> u8 {
    match outcome {
        "hit" => 0,
        "refresh" => 1,
        "validate" => 2,
        "fetch" => 3,
        _ => 4,
    }
}

fn directive() -> impl Strategy<Value = String> {
    let seconds = prop_oneof![0_u64..100, Just(3600), Just(u64::MAX)];
    let timed = prop_oneof![
        Just("max-age"),
        Just("s-maxage"),
        Just("stale-while-revalidate"),
        Just("stale-if-error")
    ];
    prop_oneof![
        4 => (timed, seconds).prop_map(|(name, seconds)| format!("{name}={seconds}")),
        3 => prop_oneof![
            Just("no-cache"), Just("public"), Just("must-revalidate"), Just("proxy-revalidate"), Just("immutable"),
            Just("must-understand"), Just("no-store"), Just("private"), Just("no-transform"), Just("x"),
            Just("max-age"), Just("max-age=x"), Just("x=\"max-age=5, y\"")
        ].prop_map(str::to_owned),
    ]
}

fn directives() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(directive(), 0..6)
}

/// Fields beside Cache-Control that decide how long an answer lives.
fn beside() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "ETag: \"1\"",
        "ETag: \"1\"\nAge: 7",
        "Last-Modified: Sun, 06 Nov 1994 08:32:57 GMT",
        "Expires: Sun, 06 Nov 1994 08:50:07 GMT\nDate: Sun, 06 Nov 1994 08:49:37 GMT",
        "Expires: 0\nETag: W/\"1\"",
        "Age: x",
        "Date: Sun, 06 Nov 1994 08:49:00 GMT",
    ])
    .prop_map(str::to_owned)
}

fn status() -> impl Strategy<Value = u16> {
    prop_oneof![4 => Just(200_u16), 1 => prop::sample::select(vec![204, 299, 302, 404, 503, 599])]
}

fn policies() -> [Policy; 2] {
    [weak(caching()), eventual(caching(), OnUnreachable::Error)]
}

fn fields(directives: &[String], beside: &str) -> String {
    format!("Cache-Control: {}\n{beside}", directives.join(", "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn time_only_takes_away(
        directives in directives(), beside in beside(), status in status(), first in 0_u64..200_000, more in 0_u64..200_000,
    ) {
        let fields = fields(&directives, &beside);
        let given = Given { status, ..ok(&fields) };
        for policy in policies() {
            let (early, late) = (later(given, first, "", &policy), later(given, first + more, "", &policy));
            prop_assert!(need(&early) <= need(&late), "{early} and then {late}: {fields}");
        }
    }

    #[test]
    fn an_older_answer_lives_no_longer(
        directives in directives(), status in status(), age in 0_u64..200, more in 0_u64..5_000_000_000, took in 0_u64..5_000, ms in 0_u64..200_000,
    ) {
        let aged = |age: u64| fields(&directives, &format!("ETag: \"1\"\nAge: {age}"));
        let (young, old) = (aged(age), aged(age + more));
        for policy in policies() {
            let young = later(Given { status, ..ok(&young) }, ms, "", &policy);
            for took in [0, took] {
                let old = later(Given { status, took, ..ok(&old) }, ms, "", &policy);
                prop_assert!(need(&young) <= need(&old), "{young}, and older {old}");
            }
        }
    }

    #[test]
    fn the_strictest_wins(
        directives in directives(), beside in beside(), status in status(), at in any::<prop::sample::Index>(), ms in 0_u64..200_000,
        restriction in prop::sample::select(vec!["no-store", "private", "no-cache", "max-age=0", "max-age=1", "s-maxage=0", "s-maxage=x", "must-revalidate", "stale-while-revalidate=0"]),
    ) {
        // One lifetime stands in for the other (RFC 9111 s5.2.2.10), and a first one permits: only the same is shortened.
        let lifetime = |name: &str| directives.iter().any(|d| d.split('=').next() == Some(name));
        prop_assume!(!restriction.starts_with("max-age") || lifetime("max-age") && !lifetime("s-maxage"));
        prop_assume!(!restriction.starts_with("s-maxage") || lifetime("s-maxage"));
        let mut stricter = directives.clone();
        stricter.insert(at.index(directives.len() + 1), restriction.to_owned());
        let (before, after) = (fields(&directives, &beside), fields(&stricter, &beside));
        for policy in policies() {
            let before = later(Given { status, ..ok(&before) }, ms, "", &policy);
            let stricter = later(Given { status, ..ok(&after) }, ms, "", &policy);
            prop_assert!(need(&before) <= need(&stricter), "{before}, and under {restriction} {stricter}: {after}");
        }
    }

    #[test]
    fn how_a_field_is_written_changes_nothing(
        directives in directives(), beside in beside(), ms in 0_u64..200_000, cut in any::<prop::sample::Index>(),
        turn in any::<prop::sample::Index>(), upper in any::<bool>(), space in "[ \t]{0,2}",
    ) {
        let policy = weak(caching());
        let plain = later(ok(&fields(&directives, &beside)), ms, "", &policy);
        let mut turned = directives.clone();
        turned.rotate_left(turn.index(directives.len() + 1));
        let (one, other) = turned.split_at(cut.index(directives.len() + 1));
        let text = format!("Cache-Control:{space}{}{space}\n{beside}\nCache-Control: {}", one.join(&format!("{space},,{space}")), other.join(","));
        let text = if upper { text.replace("max-age=", "MAX-Age=").replace("no-", "No-") } else { text };
        prop_assert_eq!(later(ok(&text), ms, "", &policy), plain, "{}", text);
    }

    #[test]
    fn a_targeted_field_with_a_mistake_is_as_good_as_absent(
        directives in directives(), beside in beside(), ms in 0_u64..200_000,
        mistake in prop::sample::select(vec!["&", "max-age=", "Max-Age=5", "a=\"", "a b", "max-age =5", "a,", "=1", "\"x\"", "a=1.2345", "a=1000000000000000"]),
        before in prop::sample::select(vec!["", "max-age=60, ", "no-store, ", "private, max-age=5, "]),
    ) {
        let policy = weak(caching());
        let plain = fields(&directives, &beside);
        let with = format!("{plain}\nCDN-Cache-Control: {before}{mistake}");
        prop_assert_eq!(later(ok(&with), ms, "", &policy), later(ok(&plain), ms, "", &policy), "{}", with);
    }

    #[test]
    fn fresh_is_what_is_younger_than_its_lifetime(lifetime in 0_u64..5_000, age in 0_u64..5_000, took in 0_u64..5_000, ms in 0_u64..10_000_000) {
        let fields = format!("Cache-Control: max-age={lifetime}\nAge: {age}\nETag: \"1\"");
        let given = Given { took, ..ok(&fields) };
        let fresh = age * 1000 + took + ms < lifetime * 1000;
        prop_assert_eq!(later(given, ms, "", &weak(caching())) == "hit", fresh);
    }

    #[test]
    fn any_fields_lead_somewhere(
        asked in "[ -~]{0,20}", cc in "[ -~]{0,40}", targeted in "[ -~]{0,40}", age in "[ -~]{0,12}", vary in "[ -~]{0,12}", expires in "[ -~]{0,30}",
        status in 100_u16..1000, took in any::<u64>(), ms in any::<u64>(),
    ) {
        let fields = format!("Cache-Control: {cc}\nTidegate-Cache-Control: {targeted}\nAge: {age}\nVary: {vary}\nExpires: {expires}\nDate: {expires}");
        let asked = format!("Cache-Control: {asked}\nAccept-Encoding: {asked}");
        for policy in policies() {
            later(Given { took, asked: &asked, status, fields: &fields }, ms, &asked, &policy);
        }
    }

    #[test]
    fn a_request_for_a_variant_finds_it_however_it_is_written(
        languages in prop::collection::vec(("[a-z]{2}(-[A-Z]{2})?", prop::sample::select(vec!["", ";q=0.5", ";q=0.5", ";q=0", "; q=0.125"])), 1..5),
        turn in any::<prop::sample::Index>(), upper in any::<bool>(), space in "[ \t]{0,2}", cut in any::<prop::sample::Index>(), ms in 0_u64..60_000,
    ) {
        let mut list: Vec<String> = languages.iter().map(|(name, weight)| format!("{name}{weight}")).collect();
        let asked = format!("Accept-Language: {}\nX-Other: 1", list.join(", "));
        let turn = turn.index(list.len());
        list.rotate_left(turn);
        let (one, other) = list.split_at(cut.index(list.len() + 1));
        let glue = format!("{space},{space}");
        let asks = format!("X-Other: 2\nAccept-Language: {}{space}\nAccept-Language: {}", one.join(&glue), other.join(&glue));
        let asks = if upper { asks.to_uppercase() } else { asks };
        let given = Given { asked: &asked, ..ok("Cache-Control: max-age=60\nVary: Accept-Language") };
        prop_assert_eq!(later(given, ms, &asks, &weak(caching())), "hit", "{} and {}", asked, asks);
    }
}

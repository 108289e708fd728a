#![allow(clippy::unwrap_used, clippy::type_complexity, clippy::cloned_ref_to_slice_refs)]

use super::*;
use crate::core::http::testing::{START, START_WALL, caching, headers, secs};
use crate::core::policy::OriginTtl;
use proptest::prelude::*;

fn origin(status: u16, fields: &str) -> OriginLifetime {
    let headers = headers(fields);
    let status = StatusCode::from_u16(status).unwrap();
    origin_lifetime(status, &headers, &ResponseDirectives::parse(&headers), START_WALL)
}

#[test]
fn rfc9111_s4_2_1_order_of_lifetimes() {
    use OriginLifetime::{Explicit, Heuristic, None};
    // Date is Sun, 06 Nov 1994 08:49:37 GMT.
    let cases: &[(&str, u16, &str, OriginLifetime)] = &[
        (
            "s-maxage first",
            200,
            "Cache-Control: max-age=60, s-maxage=5\nExpires: Sun, 06 Nov 1994 09:49:37 GMT",
            Explicit(secs(5)),
        ),
        (
            "s-maxage even when it is longer",
            200,
            "Cache-Control: max-age=5, s-maxage=60",
            Explicit(secs(60)),
        ),
        (
            "then max-age",
            200,
            "Cache-Control: max-age=60\nExpires: Sun, 06 Nov 1994 09:49:37 GMT",
            Explicit(secs(60)),
        ),
        (
            "rfc9213 s2.2 a targeted lifetime before all",
            200,
            "Cache-Control: s-maxage=60\nCDN-Cache-Control: max-age=5\nExpires: Sun, 06 Nov 1994 09:49:37 GMT",
            Explicit(secs(5)),
        ),
        (
            "rfc9213 s2.2 a targeted field without one leaves no Expires",
            200,
            "CDN-Cache-Control: public\nExpires: Sun, 06 Nov 1994 09:49:37 GMT",
            Heuristic(Option::None),
        ),
        (
            "rfc9213 s2.1 one that does not parse leaves it",
            200,
            "CDN-Cache-Control: public,\nExpires: Sun, 06 Nov 1994 08:50:37 GMT",
            Explicit(secs(60)),
        ),
        (
            "then Expires minus Date",
            200,
            "Expires: Sun, 06 Nov 1994 08:50:37 GMT",
            Explicit(secs(60)),
        ),
        (
            "Expires in the past",
            200,
            "Expires: Sun, 06 Nov 1994 08:40:37 GMT",
            Explicit(Ttl::ZERO),
        ),
        ("s5.3 Expires: 0", 200, "Expires: 0", Explicit(Ttl::ZERO)),
        (
            "s5.3 two Expires",
            200,
            "Expires: Sun, 06 Nov 1994 08:50:37 GMT\nExpires: Sun, 06 Nov 1994 08:51:37 GMT",
            Explicit(Ttl::ZERO),
        ),
        (
            "a bad max-age is stale, Expires or not",
            200,
            "Cache-Control: max-age=x\nExpires: Sun, 06 Nov 1994 09:49:37 GMT",
            Explicit(Ttl::ZERO),
        ),
        (
            "s4.2.2 a tenth",
            200,
            "Last-Modified: Sun, 06 Nov 1994 08:32:57 GMT",
            Heuristic(Some(secs(100))),
        ),
        (
            "s4.2.2 modified in the future",
            200,
            "Last-Modified: Sun, 06 Nov 1994 09:49:37 GMT",
            Heuristic(Some(Ttl::ZERO)),
        ),
        ("s4.2.2 nothing to go by", 200, "ETag: \"1\"", Heuristic(Option::None)),
        (
            "s4.2.2 not for every status",
            500,
            "Last-Modified: Sun, 06 Nov 1994 08:32:57 GMT",
            None,
        ),
        (
            "s4.2.2 for 404",
            404,
            "Last-Modified: Sun, 06 Nov 1994 08:32:57 GMT",
            Heuristic(Some(secs(100))),
        ),
        (
            "s4.2.2 for every status with public",
            500,
            "Cache-Control: public\nLast-Modified: Sun, 06 Nov 1994 08:32:57 GMT",
            Heuristic(Some(secs(100))),
        ),
        (
            "explicit on any status",
            599,
            "Cache-Control: max-age=60",
            Explicit(secs(60)),
        ),
    ];
    for (name, status, fields, expected) in cases {
        assert_eq!(origin(*status, fields), *expected, "{name}");
    }
}

#[test]
fn the_routes_ttl_stands_in_for_an_origin_that_names_none() {
    use OriginLifetime::{Explicit, Heuristic, None};
    let ttl = Some(secs(30));
    let cases = [
        ("none given", Heuristic(Option::None), ttl, OriginTtl::Honor, ttl),
        ("before a guess", Heuristic(Some(secs(9))), ttl, OriginTtl::Honor, ttl),
        (
            "a guess without a ttl",
            Heuristic(Some(secs(9))),
            Option::None,
            OriginTtl::Honor,
            Some(secs(9)),
        ),
        (
            "never caps the origin's",
            Explicit(secs(90)),
            ttl,
            OriginTtl::Honor,
            Some(secs(90)),
        ),
        (
            "never stretches the origin's",
            Explicit(secs(9)),
            ttl,
            OriginTtl::Honor,
            Some(secs(9)),
        ),
        ("rules when told to", Explicit(secs(90)), ttl, OriginTtl::Ignore, ttl),
        (
            "nothing at all",
            Heuristic(Option::None),
            Option::None,
            OriginTtl::Honor,
            Option::None,
        ),
        (
            "not for a status that may not be guessed",
            None,
            ttl,
            OriginTtl::Honor,
            Option::None,
        ),
    ];
    for (name, origin, ttl, origin_ttl, expected) in cases {
        let caching = Caching {
            ttl,
            origin_ttl,
            ..caching()
        };
        assert_eq!(lifetime(origin, &caching), expected, "{name}");
    }
}

#[test]
fn rfc9111_s5_1_age() {
    let cases: &[(&str, &str, Option<Age>)] = &[
        ("plain", "Age: 7200", Some(secs(7200))),
        ("zero", "Age: 0", Some(Age::ZERO)),
        ("the first of a list", "Age: 5, 7200", Some(secs(5))),
        ("the first of two lines", "Age: 5\nAge: 7200", Some(secs(5))),
        ("overflow", "Age: 99999999999999999999", Some(secs(1 << 31))),
        ("a decimal", "Age: 7200.0", None),
        ("negative", "Age: -1", None),
        ("with a parameter", "Age: 7200;a=b", None),
        ("quoted", "Age: \"7200\"", None),
        ("empty", "Age: ", None),
        ("absent", "X: 1", None),
    ];
    for (name, field, expected) in cases {
        assert_eq!(age_field(&headers(field)), *expected, "{name}");
    }
}

fn received(delay_ms: u64, wall_ms: i64) -> Received {
    Received {
        sent: START,
        received: START.after(Span::from_millis(delay_ms)),
        received_wall: WallTime::from_millis(START_WALL.as_millis() + wall_ms),
    }
}

#[test]
fn rfc9111_s4_2_3_initial_age() {
    let ms = Span::from_millis;
    let cases = [
        ("new", None, Some(START_WALL), received(0, 0), ms(0)),
        (
            "counts from the request's send",
            None,
            Some(START_WALL),
            received(250, 250),
            ms(250),
        ),
        (
            "Age adds to the delay",
            Some(secs(5)),
            Some(START_WALL),
            received(250, 250),
            ms(5250),
        ),
        (
            "Date is older than Age says",
            Some(secs(5)),
            Some(START_WALL),
            received(250, 9000),
            ms(9000),
        ),
        ("Date is whole seconds", None, Some(START_WALL), received(0, 999), ms(0)),
        (
            "the next second counts",
            None,
            Some(START_WALL),
            received(0, 1000),
            ms(1000),
        ),
        (
            "Date in the future",
            None,
            Some(START_WALL),
            received(30, -5000),
            ms(30),
        ),
        ("no Date", Some(secs(5)), None, received(0, 90_000), ms(5000)),
    ];
    for (name, age, date, at, expected) in cases {
        assert_eq!(initial_age(age, date, at), expected, "{name}");
    }
}

#[test]
fn r42_valid_as_of_is_the_send_less_a_second_more_than_age() {
    assert_eq!(valid_as_of(None, START), Some(START));
    assert_eq!(valid_as_of(Some(Age::ZERO), START), Some(START.before(secs(1))));
    assert_eq!(valid_as_of(Some(secs(30)), START), Some(START.before(secs(31))));
}

#[test]
fn r42_an_answer_older_than_the_clock_has_no_instant() {
    let sent = MonoTime::from_micros(31_000_000);
    assert_eq!(valid_as_of(Some(secs(30)), sent), Some(MonoTime::from_micros(0)));
    assert_eq!(valid_as_of(Some(secs(31)), sent), None);
    assert_eq!(valid_as_of(Some(secs(1 << 31)), sent), None);
}

#[test]
fn r42_lifetime_and_window_stay_within_the_bound() {
    assert_eq!(clamp(secs(10), secs(20), secs(60)), (secs(10), secs(20)));
    assert_eq!(clamp(secs(10), secs(90), secs(60)), (secs(10), secs(50)));
    assert_eq!(clamp(secs(90), secs(20), secs(60)), (secs(60), Ttl::ZERO));
}

proptest! {
    #[test]
    fn an_age_never_shrinks_below_what_is_known(age in 0_u64..=1 << 31, delay in 0_u64..100_000, skew in -100_000_i64..100_000) {
        let initial = initial_age(Some(secs(age)), Some(START_WALL), received(delay, skew));
        prop_assert!(initial >= secs(age).plus(Span::from_millis(delay)));
        let cut = u64::try_from(skew.div_euclid(1000) * 1000).unwrap_or(0);
        prop_assert!(initial >= Span::from_millis(cut));
    }

    #[test]
    fn arithmetic_saturates(age in any::<u64>(), sent in any::<u64>(), took in any::<u64>(), wall in any::<i64>(), date in any::<i64>()) {
        let sent = MonoTime::from_micros(sent);
        let at = Received { sent, received: sent.after(Span::from_millis(took)), received_wall: WallTime::from_millis(wall) };
        let age = Span::from_millis(age);
        let initial = initial_age(Some(age), Some(WallTime::from_millis(date)), at);
        prop_assert!(initial >= age || initial == Span::MAX);
        if let Some(valid) = valid_as_of(Some(age), sent) {
            prop_assert!(valid <= sent);
        }
        let (lifetime, window) = clamp(age, Span::from_millis(took), Span::from_millis(1000));
        prop_assert!(lifetime.plus(window) <= Span::from_millis(1000));
    }

    #[test]
    fn any_fields_give_a_lifetime_without_a_panic(status in 100_u16..1000, cc in "[ -~]{0,40}", expires in "[ -~]{0,40}", modified in "[ -~]{0,40}", age in "[ -~]{0,20}") {
        let fields = format!("Cache-Control: {cc}\nExpires: {expires}\nLast-Modified: {modified}\nAge: {age}");
        let _ = origin(status, &fields);
        let _ = age_field(&headers(&fields));
    }
}

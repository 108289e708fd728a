#![allow(clippy::unwrap_used, clippy::type_complexity, clippy::cloned_ref_to_slice_refs)]

use super::*;
use crate::core::http::testing::headers;
use http::HeaderValue;
use http::header::{ACCEPT, USER_AGENT};
use proptest::prelude::*;

fn matches(vary: &str, stored_for: &str, request: &str) -> bool {
    Vary::of(&headers(vary), &headers(stored_for)).is_some_and(|vary| vary.matches(&headers(request)))
}

#[test]
fn rfc9111_s4_1_which_requests_match() {
    let cases: &[(&str, &str, &str, &str, bool)] = &[
        ("no Vary", "X: 1", "Foo: 1", "Foo: 2", true),
        ("an empty Vary", "Vary: ", "Foo: 1", "Foo: 2", true),
        ("the same", "Vary: Foo", "Foo: 1", "Foo: 1", true),
        ("another value", "Vary: Foo", "Foo: 1", "Foo: 2", false),
        ("absent in both", "Vary: Foo", "Bar: 1", "Bar: 2", true),
        ("absent then", "Vary: Foo", "Bar: 1", "Foo: 1", false),
        ("absent now", "Vary: Foo", "Foo: 1", "Bar: 1", false),
        ("empty is not absent", "Vary: Foo", "Foo: ", "Bar: 1", false),
        ("any case of the name", "Vary: fOO", "Foo: 1", "Foo: 1", true),
        ("the case of a value counts", "Vary: Foo", "Foo: a", "Foo: A", false),
        ("the second of a list", "Vary: Bar, Foo", "Foo: 1", "Foo: 2", false),
        (
            "one list over all lines",
            "Vary: Bar\nVary: Foo",
            "Foo: 1",
            "Foo: 2",
            false,
        ),
        (
            "lines against one line",
            "Vary: Foo",
            "Foo: 1\nFoo: 2",
            "Foo: 1, 2",
            true,
        ),
        ("order counts", "Vary: Foo", "Foo: 1, 2", "Foo: 2, 1", false),
        ("white space does not", "Vary: Foo", "Foo: 1,2", "Foo: 1 ,\t2 ", true),
        (
            "a quoted comma separates nothing",
            "Vary: Foo",
            "Foo: \"1,2\"",
            "Foo: \"1, 2\"",
            false,
        ),
        ("*", "Vary: *", "Foo: 1", "Foo: 1", false),
        ("* in a list", "Vary: Foo, *", "Foo: 1", "Foo: 1", false),
        ("* on a second line", "Vary: Foo\nVary: *", "Foo: 1", "Foo: 1", false),
        ("not a field name", "Vary: Foo, b@r", "Foo: 1", "Foo: 1", false),
        (
            "language: case",
            "Vary: Accept-Language",
            "Accept-Language: en-GB, DE",
            "Accept-Language: EN-gb, de",
            true,
        ),
        (
            "language: order",
            "Vary: Accept-Language",
            "Accept-Language: en, de",
            "Accept-Language: de, en",
            true,
        ),
        (
            "language: space",
            "Vary: Accept-Language",
            "Accept-Language: en;q=0.5",
            "Accept-Language: en ; q=0.50",
            true,
        ),
        (
            "language: weights count",
            "Vary: Accept-Language",
            "Accept-Language: en, de;q=0.5",
            "Accept-Language: en;q=0.5, de",
            false,
        ),
        (
            "language: x-gzip is no coding",
            "Vary: Accept-Language",
            "Accept-Language: x-gzip",
            "Accept-Language: gzip",
            false,
        ),
        (
            "encoding: order and case",
            "Vary: Accept-Encoding",
            "Accept-Encoding: gzip, br",
            "Accept-Encoding: BR, GZip",
            true,
        ),
        (
            "encoding: another name",
            "Vary: Accept-Encoding",
            "Accept-Encoding: x-gzip",
            "Accept-Encoding: gzip;q=1.0",
            true,
        ),
        (
            "encoding: a refusal says nothing",
            "Vary: Accept-Encoding",
            "Accept-Encoding: gzip, br;q=0",
            "Accept-Encoding: gzip",
            true,
        ),
        (
            "encoding: but with *",
            "Vary: Accept-Encoding",
            "Accept-Encoding: *, br;q=0",
            "Accept-Encoding: *",
            false,
        ),
        (
            "encoding: but for identity",
            "Vary: Accept-Encoding",
            "Accept-Encoding: gzip, identity;q=0",
            "Accept-Encoding: gzip",
            false,
        ),
        (
            "encoding: another set",
            "Vary: Accept-Encoding",
            "Accept-Encoding: gzip",
            "Accept-Encoding: br",
            false,
        ),
        (
            "encoding: two lines",
            "Vary: Accept-Encoding",
            "Accept-Encoding: br\nAccept-Encoding: gzip",
            "Accept-Encoding: gzip,br",
            true,
        ),
        (
            "encoding: one weight, three ways",
            "Vary: Accept-Encoding",
            "Accept-Encoding: gzip;q=1.000",
            "Accept-Encoding: GZIP;Q=1",
            true,
        ),
        (
            "encoding: no weight above one",
            "Vary: Accept-Encoding",
            "Accept-Encoding: gzip;q=1.5",
            "Accept-Encoding: gzip",
            false,
        ),
        (
            "encoding: twice with two weights, in any order",
            "Vary: Accept-Encoding",
            "Accept-Encoding: gzip;q=0.5, gzip",
            "Accept-Encoding: gzip, gzip;q=0.500",
            true,
        ),
        (
            "s12.5.3 encoding: none at all is not just identity",
            "Vary: Accept-Encoding",
            "X: 1",
            "Accept-Encoding: ",
            false,
        ),
        (
            "s12.5.3 encoding: all refused is just identity",
            "Vary: Accept-Encoding",
            "Accept-Encoding: gzip;q=0, br;q=0",
            "Accept-Encoding: ",
            true,
        ),
        (
            "s12.5.3 encoding: * refuses what others do not say",
            "Vary: Accept-Encoding",
            "Accept-Encoding: gzip, *;q=0",
            "Accept-Encoding: gzip",
            false,
        ),
        (
            "s12.5.3 encoding: identity with a weight is a wish",
            "Vary: Accept-Encoding",
            "Accept-Encoding: gzip, identity;q=0.5",
            "Accept-Encoding: gzip",
            false,
        ),
        (
            "language: two lines",
            "Vary: Accept-Language",
            "Accept-Language: de\nAccept-Language: en;q=0.5",
            "Accept-Language: EN;q=0.5,de",
            true,
        ),
        (
            "language: a refusal counts",
            "Vary: Accept-Language",
            "Accept-Language: en, de;q=0",
            "Accept-Language: en",
            false,
        ),
        (
            "language: a wider one is another",
            "Vary: Accept-Language",
            "Accept-Language: en-GB",
            "Accept-Language: en",
            false,
        ),
        (
            "encoding: what does not parse is compared as it is",
            "Vary: Accept-Encoding",
            "Accept-Encoding: gzip;x=1",
            "Accept-Encoding: gzip",
            false,
        ),
    ];
    for (name, vary, stored_for, request, expected) in cases {
        assert_eq!(matches(vary, stored_for, request), *expected, "{name}");
    }
}

#[test]
fn values_that_differ_in_bytes_above_ascii_differ() {
    let request = |bytes: &[u8]| {
        let mut headers = HeaderMap::new();
        headers.insert(USER_AGENT, HeaderValue::from_bytes(bytes).unwrap());
        headers
    };
    let (latin, utf8) = (request(b"\xe9"), request(b"\xc3\xa9"));
    for (one, other, expected) in [
        (&latin, &latin, true),
        (&latin, &utf8, false),
        (&utf8, &latin, false),
        (&utf8, &utf8, true),
    ] {
        let vary = Vary::of(&headers("Vary: User-Agent"), one).unwrap();
        assert_eq!(vary.matches(other), expected);
    }
}

#[test]
fn names_are_listed_once() {
    let Names::Fields(fields) = names(&headers("Vary: accept, User-Agent\nVary: Accept")) else {
        panic!("no star");
    };
    assert_eq!(fields.as_slice(), [ACCEPT, USER_AGENT]);
    assert_eq!(names(&headers("Vary: a, *")), Names::Star);
    let vary = Vary::of(&headers("Vary: accept, User-Agent"), &HeaderMap::new()).unwrap();
    assert!(vary.names().unwrap().eq([&ACCEPT, &USER_AGENT]));
    assert!(Vary::Any.names().is_none());
}

proptest! {
    #[test]
    fn any_values_are_normalised_without_a_panic_and_only_once(
        name in prop::sample::select(vec!["accept-language", "accept-encoding", "foo"]),
        lines in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..4),
    ) {
        let name = HeaderName::from_static(name);
        let mut request = HeaderMap::new();
        for line in lines {
            if let Ok(value) = HeaderValue::from_bytes(&line) {
                request.append(&name, value);
            }
        }
        if let Some(once) = normal(&request, &name) {
            let mut again = HeaderMap::new();
            again.insert(&name, HeaderValue::from_bytes(&once).unwrap());
            prop_assert_eq!(normal(&again, &name), Some(once));
        }
    }

    #[test]
    fn lists_of_weights_are_normalised_only_once(
        name in prop::sample::select(vec!["accept-language", "accept-encoding"]),
        list in prop::collection::vec("(gzip|GZIP|x-gzip|br|identity|en|\\*)( ?; ?[qQ]=(0|1|0\\.[0-9]{0,3}|1\\.0{0,3}|x))?", 0..5),
    ) {
        let name = HeaderName::from_static(name);
        let request = headers(&format!("{name}: {}", list.join(" ,")));
        let once = normal(&request, &name).unwrap();
        let again = headers(&format!("{name}: {}", std::str::from_utf8(&once).unwrap()));
        prop_assert_eq!(normal(&again, &name), Some(once));
    }

    #[test]
    fn an_answer_fits_the_request_it_was_for(vary in "[A-Za-z,* -]{0,20}", foo in "[ -~]{0,20}") {
        let request = headers(&format!("Foo: {foo}\nAccept-Encoding: {foo}"));
        let answer = headers(&format!("Vary: {vary}, foo, accept-encoding"));
        match Vary::of(&answer, &request) {
            Some(stored) => prop_assert!(stored.matches(&request)),
            None => prop_assert!(names(&answer) == Names::Star),
        }
    }
}

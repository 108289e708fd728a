#![allow(clippy::unwrap_used, clippy::type_complexity, clippy::cloned_ref_to_slice_refs)]

use super::*;
use crate::core::http::testing::headers;
use http::header::IF_NONE_MATCH;
use proptest::prelude::*;

fn tag(text: &str) -> Option<Etag> {
    parse(&HeaderValue::from_str(text).unwrap())
}

#[test]
fn rfc9110_s8_8_3_entity_tags() {
    let cases: &[(&str, &str, Option<(&str, bool)>)] = &[
        ("strong", "\"a\"", Some(("\"a\"", false))),
        ("weak", "W/\"a\"", Some(("W/\"a\"", true))),
        ("empty", "\"\"", Some(("\"\"", false))),
        ("white space around it", " \"a\"\t", Some(("\"a\"", false))),
        ("a comma inside", "\"a,b\"", Some(("\"a,b\"", false))),
        ("a backslash is itself", "\"a\\\"", Some(("\"a\\\"", false))),
        ("unquoted", "a", None),
        ("single quotes", "'a'", None),
        ("small w", "w/\"a\"", None),
        ("a space inside", "\"a b\"", None),
        ("not closed", "\"a", None),
        ("two", "\"a\", \"b\"", None),
        ("more behind it", "\"a\"b", None),
        ("nothing", "", None),
    ];
    for (name, text, expected) in cases {
        let parsed = tag(text);
        let parsed = parsed.as_ref().map(|tag| (tag.value.to_str().unwrap(), tag.weak));
        assert_eq!(parsed, *expected, "{name}");
    }
}

#[test]
fn rfc9110_s8_8_3_2_comparison() {
    let cases = [
        ("W/\"1\"", "W/\"1\"", false, true),
        ("W/\"1\"", "W/\"2\"", false, false),
        ("W/\"1\"", "\"1\"", false, true),
        ("\"1\"", "\"1\"", true, true),
        ("\"1\"", "\"2\"", false, false),
    ];
    for (one, other, strong, weak) in cases {
        let (one, other) = (tag(one).unwrap(), tag(other).unwrap());
        for (a, b) in [(&one, &other), (&other, &one)] {
            assert_eq!(a.strongly_equals(b), strong, "{a:?} {b:?}");
            assert_eq!(a.weakly_equals(b), weak, "{a:?} {b:?}");
        }
    }
}

#[test]
fn rfc9110_s13_1_2_lists() {
    let cases: &[(&str, &str, bool)] = &[
        ("the same", "If-None-Match: \"1\"", true),
        ("weak", "If-None-Match: W/\"1\"", true),
        ("another", "If-None-Match: \"2\"", false),
        ("any", "If-None-Match: *", true),
        ("second in the list", "If-None-Match: \"2\" , \"1\"", true),
        ("without spaces", "If-None-Match: \"2\",W/\"1\",\"3\"", true),
        ("on a second line", "If-None-Match: \"2\"\nIf-None-Match: \"1\"", true),
        ("behind empty members", "If-None-Match: ,, \"1\"", true),
        ("behind what is no tag", "If-None-Match: x, \"1\"", true),
        ("unquoted", "If-None-Match: 1", false),
        ("inside another tag", "If-None-Match: \"x,\"1\"\"", false),
        ("a star inside a list", "If-None-Match: \"2\", *", false),
        ("empty", "If-None-Match: ", false),
    ];
    let stored = tag("\"1\"");
    for (name, field, expected) in cases {
        assert_eq!(
            list_names(&headers(field), &IF_NONE_MATCH, stored.as_ref()),
            *expected,
            "{name}"
        );
    }
    assert!(list_names(&headers("If-None-Match: *"), &IF_NONE_MATCH, None));
    assert!(!list_names(&headers("If-None-Match: \"1\""), &IF_NONE_MATCH, None));
}

#[test]
fn two_etags_are_none() {
    assert!(of(&headers("ETag: \"1\"\nETag: \"2\"")).is_none());
    assert!(of(&headers("ETag: \"1\"\nETag: \"1\"")).is_some());
    assert!(of(&headers("X: \"1\"")).is_none());
}

proptest! {
    #[test]
    fn any_value_is_read_without_a_panic(value in prop::collection::vec(any::<u8>(), 0..40)) {
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            let stored = parse(&value);
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, value);
            let _ = list_names(&headers, &IF_NONE_MATCH, stored.as_ref());
        }
    }

    #[test]
    fn a_tag_is_found_in_any_list_that_holds_it(tags in prop::collection::vec("(W/)?\"[!#-~]{0,5}\"", 1..6), pick in any::<prop::sample::Index>()) {
        let wanted = tag(&tags[pick.index(tags.len())]);
        prop_assert!(wanted.is_some());
        let field = headers(&format!("If-None-Match: {}", tags.join(", ")));
        prop_assert!(list_names(&field, &IF_NONE_MATCH, wanted.as_ref()));
    }

    #[test]
    fn a_tag_is_not_found_in_a_list_without_it(tags in prop::collection::vec("(W/)?\"[!#-~]{0,3}\"", 0..6), other in "\"[!#-~]{4}\"") {
        let field = headers(&format!("If-None-Match: {}", tags.join(",")));
        prop_assert!(!list_names(&field, &IF_NONE_MATCH, tag(&other).as_ref()));
    }
}

#![allow(clippy::unwrap_used)]

use super::*;
use crate::core::http::testing::headers;
use proptest::prelude::*;

fn both() -> Vec<HeaderName> {
    vec![CACHE_GROUPS.clone(), SURROGATE_KEY.clone()]
}

#[test]
fn the_tags_of_an_answer() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("none", "Cache-Control: max-age=1", &[]),
        (
            "rfc9875 s2 a list of strings",
            "Cache-Groups: \"scripts\"",
            &["scripts"],
        ),
        ("rfc9875 s2 several", "Cache-Groups: \"b\", \"a\"", &["a", "b"]),
        (
            "rfc9875 s2 over several lines",
            "Cache-Groups: \"b\"\nCache-Groups: \"a\"",
            &["a", "b"],
        ),
        (
            "rfc9875 s2 parameters are ignored",
            "Cache-Groups: \"a\";x=1;y, \"b\"",
            &["a", "b"],
        ),
        ("rfc9875 s2 twice the same", "Cache-Groups: \"a\", \"a\"", &["a"]),
        ("rfc9875 s2.1 case counts", "Cache-Groups: \"a\", \"A\"", &["A", "a"]),
        (
            "rfc9875 s2.1 spaces count",
            "Cache-Groups: \"a b\", \" a\"",
            &[" a", "a b"],
        ),
        ("rfc9651 s4.2.5 escapes", "Cache-Groups: \"a\\\"b\\\\c\"", &["a\"b\\c"]),
        ("rfc9651 s4.2.5 an empty string is one", "Cache-Groups: \"\"", &[""]),
        (
            "rfc9651 s1.1 a token among them voids all",
            "Cache-Groups: \"a\", b",
            &[],
        ),
        ("an inner list too", "Cache-Groups: (\"a\" \"b\")", &[]),
        ("and a number", "Cache-Groups: \"a\", 1", &[]),
        (
            "rfc9651 s4.2 a mistake on one line voids all",
            "Cache-Groups: \"a\"\nCache-Groups: \"b",
            &[],
        ),
        ("a comma at the end too", "Cache-Groups: \"a\",", &[]),
        ("beyond ascii too", "Cache-Groups: \"\u{fc}\"", &[]),
        (
            "surrogate keys have spaces between them",
            "Surrogate-Key: b  a\tc",
            &["a", "b", "c"],
        ),
        ("a comma is part of one", "Surrogate-Key: a,b", &["a,b"]),
        ("so are quotes", "Surrogate-Key: \"a\"", &["\"a\""]),
        ("over several lines", "Surrogate-Key: a\nSurrogate-Key: b", &["a", "b"]),
        ("nothing but spaces", "Surrogate-Key:  ", &[]),
        (
            "both fields",
            "Surrogate-Key: a b\nCache-Groups: \"b\", \"c\"",
            &["a", "b", "c"],
        ),
        (
            "one that does not parse leaves the other",
            "Surrogate-Key: a\nCache-Groups: b",
            &["a"],
        ),
        ("a field nobody named", "Cache-Tag: a", &[]),
    ];
    for (name, fields, expected) in cases {
        assert_eq!(of(&headers(fields), &both()).unwrap(), *expected, "{name}");
    }
    let tag = [HeaderName::from_static("cache-tag")];
    assert_eq!(
        of(&headers("Cache-Tag: a, b,,c d"), &tag).unwrap(),
        ["a", "b", "c", "d"]
    );
    assert_eq!(of(&headers("Cache-Groups: \"a\""), &tag).unwrap(), Vec::<String>::new());
}

#[test]
fn rfc9875_s2_thirty_two_of_thirty_two_letters_fit_and_beyond_our_bounds_none_do() {
    let list = |count: usize, length: usize| {
        let names = (0..count).map(|n| format!("\"{n:0length$}\"")).collect::<Vec<_>>();
        of(&headers(&format!("Cache-Groups: {}", names.join(", "))), &both())
    };
    assert_eq!(list(32, 32).unwrap().len(), 32);
    assert_eq!(list(MAX_TAGS, 4).unwrap().len(), MAX_TAGS);
    assert_eq!(list(MAX_TAGS + 1, 4), Err(TooMany));
    assert_eq!(list(16, MAX_TAG_BYTES / 16).unwrap().len(), 16);
    assert_eq!(list(16, MAX_TAG_BYTES / 16 + 1), Err(TooMany));
    let words = (0..=MAX_TAGS).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
    assert_eq!(of(&headers(&format!("Surrogate-Key: {words}")), &both()), Err(TooMany));
    let same = ["a"; MAX_TAGS + 1].join(" ");
    assert_eq!(of(&headers(&format!("Surrogate-Key: {same}")), &both()).unwrap(), ["a"]);
}

#[test]
fn rfc9875_s3_the_groups_an_answer_takes_out_of_service() {
    let named = "Cache-Group-Invalidation: \"b\", \"a\";x, \"a\"";
    let cases: &[(&str, &str, u16, &str, &[&str])] = &[
        ("a POST", "POST", 200, named, &["a", "b"]),
        ("any unsafe method", "MKCOL", 201, named, &["a", "b"]),
        ("a redirect", "POST", 303, named, &["a", "b"]),
        ("a failed one", "POST", 404, named, &[]),
        ("a broken origin", "POST", 500, named, &[]),
        ("safe methods: GET", "GET", 200, named, &[]),
        ("safe methods: HEAD", "HEAD", 200, named, &[]),
        ("safe methods: OPTIONS", "OPTIONS", 200, named, &[]),
        ("safe methods: QUERY", "QUERY", 200, named, &[]),
        (
            "R13 a GET that asks to be taken for another",
            "overridden GET",
            200,
            named,
            &["a", "b"],
        ),
        ("no list of strings", "POST", 200, "Cache-Group-Invalidation: a", &[]),
        (
            "the groups of the answer itself",
            "POST",
            200,
            "Cache-Groups: \"a\"",
            &[],
        ),
        (
            "over several lines",
            "PUT",
            204,
            "Cache-Group-Invalidation: \"a\"\nCache-Group-Invalidation: \"b\"",
            &["a", "b"],
        ),
    ];
    for (name, method, status, fields, expected) in cases {
        let (request, method) = match method.strip_prefix("overridden ") {
            Some(method) => (headers("X-HTTP-Method-Override: DELETE"), method),
            None => (HeaderMap::new(), *method),
        };
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let status = StatusCode::from_u16(*status).unwrap();
        let found = invalidated(&method, &request, status, &headers(fields));
        assert_eq!(found, *expected, "{name}");
    }
}

proptest! {
    #[test]
    fn strings_come_back_as_they_were_written(names in proptest::collection::btree_set("[ -~]{0,20}", 0..8)) {
        let text = names.iter().map(|name| format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\"")));
        let text = text.collect::<Vec<_>>().join(",\t ");
        prop_assume!(!text.is_empty());
        let tags = of(&headers(&format!("Cache-Groups: {text}")), &both()).unwrap();
        prop_assert_eq!(tags, names.into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn near_lists_are_parsed_or_refused(text in "[a\"\\\\ ,;=()?1\t]{0,40}") {
        if let Some(found) = structured::strings(text.as_bytes()) {
            let quotes = text.bytes().filter(|b| *b == b'"').count();
            prop_assert!(found.len() * 2 <= quotes);
        }
    }

    #[test]
    fn any_bytes_are_parsed_or_refused(text: Vec<u8>) {
        let _ = structured::strings(&text);
    }

    #[test]
    fn words_come_back_without_what_is_between_them(names in proptest::collection::btree_set("[!-~]{1,12}", 1..8)) {
        let text = names.iter().cloned().collect::<Vec<_>>().join("  ");
        let tags = of(&headers(&format!("Surrogate-Key: {text}")), &both()).unwrap();
        prop_assert_eq!(tags, names.into_iter().collect::<Vec<_>>());
    }
}

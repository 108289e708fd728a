#![allow(clippy::unwrap_used, clippy::type_complexity)]

use super::*;
use proptest::prelude::*;

fn parsed(text: &str) -> Option<Vec<(String, Value)>> {
    let mut found = Vec::new();
    dictionary(text.as_bytes(), |name, value| found.push((name.to_owned(), value))).map(|()| found)
}

#[test]
fn rfc9651_s4_2_2_dictionaries() {
    let cases: &[(&str, &str, Option<&[(&str, Value)]>)] = &[
        ("empty", "", Some(&[])),
        ("spaces only", "   ", Some(&[])),
        ("an integer", "a=60", Some(&[("a", Value::Integer(60))])),
        ("a negative one", "a=-60", Some(&[("a", Value::Integer(-60))])),
        ("leading zeros", "a=0060", Some(&[("a", Value::Integer(60))])),
        (
            "s3.3.1 fifteen digits",
            "a=999999999999999",
            Some(&[("a", Value::Integer(999_999_999_999_999))]),
        ),
        ("s3.3.1 sixteen", "a=1000000000000000", None),
        ("no digits", "a=-", None),
        ("s4.2.4 a decimal", "a=60.5", Some(&[("a", Value::Other)])),
        ("a decimal without a fraction", "a=60.", None),
        ("a fraction of four digits", "a=1.2345", None),
        ("a whole part of thirteen digits", "a=1234567890123.1", None),
        ("trailing letters", "a=60a", None),
        ("a bare name is true", "a", Some(&[("a", Value::True)])),
        (
            "s4.2.8 booleans",
            "a=?1, b=?0",
            Some(&[("a", Value::True), ("b", Value::False)]),
        ),
        ("another boolean", "a=?2", None),
        ("s4.2.5 a string", "a=\"x \\\" \\\\ ,\"", Some(&[("a", Value::Other)])),
        ("an unknown escape", "a=\"\\x\"", None),
        ("a string that does not end", "a=\"x", None),
        ("s4.2.6 a token", "a=Foo/bar:b*z", Some(&[("a", Value::Other)])),
        ("s4.2.7 bytes", "a=:aGk=:", Some(&[("a", Value::Other)])),
        ("bytes without padding", "a=:aGk:", Some(&[("a", Value::Other)])),
        ("no base64", "a=:a?:", None),
        ("impossible base64", "a=:aGkaG:", None),
        ("s4.2.9 a date", "a=@1659578233", Some(&[("a", Value::Other)])),
        ("a date with a fraction", "a=@1.5", None),
        (
            "s4.2.10 a display string",
            "a=%\"f%c3%bc\"",
            Some(&[("a", Value::Other)]),
        ),
        ("no utf-8", "a=%\"%c3\"", None),
        ("capital digits", "a=%\"%C3%BC\"", None),
        (
            "s4.2.1.2 an inner list",
            "a=(1 \"x\";y  ?0 );z=1",
            Some(&[("a", Value::Other)]),
        ),
        ("an empty one", "a=()", Some(&[("a", Value::Other)])),
        ("a list that does not end", "a=(1", None),
        ("list members without a space", "a=(1\"x\")", None),
        (
            "s4.2.3.2 parameters",
            "a=60;b;c=\"x\"; d=1",
            Some(&[("a", Value::Integer(60))]),
        ),
        ("parameters of a bare name", "a;b=1", Some(&[("a", Value::True)])),
        ("a space before a semicolon", "a ;b", None),
        ("a parameter without a name", "a;", None),
        (
            "several",
            "a=1,b ,\t*c.-_9=2",
            Some(&[
                ("a", Value::Integer(1)),
                ("b", Value::True),
                ("*c.-_9", Value::Integer(2)),
            ]),
        ),
        (
            "both of a pair are given",
            "a=1, a=2",
            Some(&[("a", Value::Integer(1)), ("a", Value::Integer(2))]),
        ),
        ("a capital in a name", "A=1", None),
        ("a capital inside a name", "max-Age=1", None),
        ("a digit first", "1a=1", None),
        ("a space before the equals sign", "a =1", None),
        ("a space behind it", "a= 1", None),
        ("no value behind it", "a=", None),
        ("a comma at the end", "a=1,", None),
        ("a comma at the start", ",a=1", None),
        ("two commas", "a=1,,b", None),
        ("no comma", "a=1 b=2", None),
        ("a tab at the start", "\ta=1", None),
        ("white space at the end", "a=1 \t", Some(&[("a", Value::Integer(1))])),
        ("beyond ascii", "a=\"ü\"", None),
    ];
    for (name, text, expected) in cases {
        let expected = expected.map(|members| members.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect::<Vec<_>>());
        assert_eq!(parsed(text), expected, "{name}: {text}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_or_refused(text: Vec<u8>) {
        let _ = dictionary(&text, |_, _| {});
    }

    #[test]
    fn near_dictionaries_are_parsed_or_refused(text in "[a*A0-9_.= ,;:@%?\"()\\\\\\-\t]{0,40}") {
        let _ = dictionary(text.as_bytes(), |_, _| {});
    }

    #[test]
    fn what_is_well_formed_comes_back(members in proptest::collection::vec(("[a-z*][a-z0-9_.*-]{0,8}", 0..=999_999_999_999_999_i64), 1..6)) {
        let text = members.iter().map(|(name, n)| format!("{name}={n}")).collect::<Vec<_>>().join(" ,\t");
        let expected = members.into_iter().map(|(name, n)| (name, Value::Integer(n))).collect::<Vec<_>>();
        prop_assert_eq!(parsed(&text), Some(expected));
    }

    #[test]
    fn a_mistake_anywhere_voids_the_whole(before in 0..4_usize, after in 0..4_usize) {
        let good = |n: usize| vec!["a=1"; n];
        let text = [good(before), vec!["max-age=6O"], good(after)].concat().join(", ");
        prop_assert_eq!(parsed(&text), None);
    }
}

#![allow(clippy::unwrap_used)]

use super::*;
use http::HeaderValue;
use http::header::VIA;
use proptest::prelude::*;

fn list(line: &str) -> Vec<String> {
    members(line.as_bytes())
        .map(|member| String::from_utf8(member.to_vec()).unwrap())
        .collect()
}

#[test]
fn rfc9110_s5_6_1_lists() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("nothing", "", &[]),
        ("one", "a", &["a"]),
        ("two", "a,b", &["a", "b"]),
        ("s5.6.1.2 empty members", ", a ,,\tb,", &["a", "b"]),
        ("s5.6.3 white space around members", " \ta b\t ,c ", &["a b", "c"]),
        ("s5.6.4 a comma in quotes", "a=\"x, y\", b", &["a=\"x, y\"", "b"]),
        ("s5.6.4 an escaped quote", r#"a="x\", y", b"#, &[r#"a="x\", y""#, "b"]),
        (
            "a quote that is never closed hides nothing",
            "a=\"x, no-store",
            &["a=\"x", "no-store"],
        ),
        (
            "an escape at the end hides nothing",
            "a=\"x\\, no-store",
            &["a=\"x\\", "no-store"],
        ),
    ];
    for (name, line, expected) in cases {
        assert_eq!(list(line), *expected, "{name}");
    }
}

#[test]
fn rfc9111_s1_2_2_delta_seconds() {
    let cases: &[(&str, &str, Option<u64>)] = &[
        ("zero", "0", Some(0)),
        ("leading zeros", "003600", Some(3600)),
        ("2^31 - 1", "2147483647", Some((1 << 31) - 1)),
        ("2^31", "2147483648", Some(1 << 31)),
        ("beyond", "2147483649", Some(1 << 31)),
        ("beyond 64 bits", "99999999999999999999999", Some(1 << 31)),
        ("a sign", "+1", None),
        ("negative", "-1", None),
        ("a fraction", "1.0", None),
        ("an exponent", "1e3", None),
        ("hexadecimal", "0x1", None),
        ("white space", " 1", None),
        ("nothing", "", None),
    ];
    for (name, text, expected) in cases {
        assert_eq!(delta_seconds(text.as_bytes()), expected.map(Span::from_secs), "{name}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_cut_into_trimmed_members_that_lie_in_the_line_in_order(line in prop::collection::vec(any::<u8>(), 0..60)) {
        let mut rest = line.as_slice();
        for member in members(&line) {
            prop_assert!(!member.is_empty());
            prop_assert_eq!(trim_ows(member), member);
            let at = rest.windows(member.len()).position(|window| window == member);
            prop_assert!(at.is_some());
            rest = &rest[at.unwrap() + member.len()..];
        }
        let named = elements(&line).filter(|element| !element.is_empty());
        prop_assert!(named.eq(members(&line)));
    }

    #[test]
    fn a_member_is_a_list_of_itself(line in "[a-c=\"\\\\, \t]{0,30}") {
        for member in list(&line) {
            // One that holds an unclosed quote is cut at the commas behind it, as it was in the line.
            prop_assert_eq!(list(&member), vec![member.clone()]);
        }
    }

    #[test]
    fn lines_and_members_of_one_line_are_the_same(names in prop::collection::vec("[a-z]{1,5}(=\"[a-z, ]{0,5}\")?", 0..6), cut in any::<prop::sample::Index>()) {
        let (one, other) = names.split_at(cut.index(names.len() + 1));
        let mut headers = HeaderMap::new();
        for half in [one, other] {
            headers.append(VIA, HeaderValue::from_str(&half.join(" ,\t")).unwrap());
        }
        let all: Vec<&[u8]> = all_members(&headers, &VIA).collect();
        prop_assert_eq!(all, names.iter().map(String::as_bytes).collect::<Vec<_>>());
    }

    #[test]
    fn a_number_reads_back_up_to_2_31(n in any::<u64>(), zeros in 0_usize..4) {
        let text = format!("{}{n}", "0".repeat(zeros));
        prop_assert_eq!(digits(text.as_bytes()), Some(n));
        prop_assert_eq!(delta_seconds(text.as_bytes()), Some(Span::from_secs(n.min(1 << 31))));
    }

    #[test]
    fn what_is_no_number_is_none(text in "[0-9]{0,3}[^0-9][0-9]{0,3}") {
        prop_assert_eq!(delta_seconds(text.as_bytes()), None);
    }

    #[test]
    fn an_argument_is_what_stands_behind_the_first_equals_sign(name in "[a-z]{0,5}", value in "[a-z=, ]{0,8}") {
        let quoted = format!("{name}=\"{value}\"");
        prop_assert_eq!(argument(quoted.as_bytes()), (name.as_bytes(), Some(value.as_bytes())));
        let bare = format!("{name}={value}");
        prop_assert_eq!(argument(bare.as_bytes()), (name.as_bytes(), Some(value.as_bytes())));
        prop_assert_eq!(argument(name.as_bytes()), (name.as_bytes(), None));
    }

    #[test]
    fn a_field_given_twice_is_one_only_when_its_lines_agree(one in "[a-z ]{0,4}", other in "[a-z ]{0,4}") {
        let mut headers = HeaderMap::new();
        prop_assert_eq!(single(&headers, &VIA), Single::Absent);
        headers.append(VIA, HeaderValue::from_str(&one).unwrap());
        headers.append(VIA, HeaderValue::from_str(&other).unwrap());
        let agree = one.trim_matches(' ') == other.trim_matches(' ');
        let expected = if agree { Single::Value(one.trim_matches(' ').as_bytes()) } else { Single::Conflict };
        prop_assert_eq!(single(&headers, &VIA), expected);
    }
}

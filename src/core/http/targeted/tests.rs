use super::*;
use crate::core::http::testing::headers;

#[test]
fn rfc9213_s2_2_the_first_valid_field_of_the_target_list_governs() {
    let cases: &[(&str, &str, Option<&str>)] = &[
        ("none", "Cache-Control: max-age=1", None),
        ("the only one", "CDN-Cache-Control: cdn", Some("cdn")),
        (
            "the narrower first, whatever their order",
            "CDN-Cache-Control: cdn\nTidegate-Cache-Control: ours",
            Some("ours"),
        ),
        (
            "s2.1 one that does not parse is ignored whole",
            "Tidegate-Cache-Control: ours, max-age=60a\nCDN-Cache-Control: cdn",
            Some("cdn"),
        ),
        (
            "s2.1 an empty one too",
            "Tidegate-Cache-Control: \nCDN-Cache-Control: cdn",
            Some("cdn"),
        ),
        (
            "neither parses",
            "Tidegate-Cache-Control: ,\nCDN-Cache-Control: A",
            None,
        ),
        (
            "rfc9651 s4.2 lines are one dictionary",
            "CDN-Cache-Control: cdn\nCDN-Cache-Control: more",
            Some("cdn more"),
        ),
        (
            "a mistake on one line voids all",
            "CDN-Cache-Control: cdn\nCDN-Cache-Control: B",
            None,
        ),
        (
            "an empty line among others is a mistake",
            "CDN-Cache-Control: cdn\nCDN-Cache-Control: ",
            None,
        ),
        ("another cache's", "Other-Cache-Control: other", None),
    ];
    for (name, fields, expected) in cases {
        let mut found = Vec::new();
        let governs = read(&headers(fields), |member, _| found.push(member.to_owned()));
        assert_eq!(governs.then(|| found.join(" ")).as_deref(), *expected, "{name}");
        assert!(
            governs || found.is_empty(),
            "{name}: nothing of a field that is ignored is taken"
        );
    }
}

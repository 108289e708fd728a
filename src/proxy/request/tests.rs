use super::*;

#[test]
fn a_host_is_one_name_or_address_with_an_optional_port() {
    for good in [
        "a",
        "a.example",
        "a.example:80",
        "127.0.0.1:8080",
        "[::1]",
        "[::1]:80",
        "a:",
    ] {
        assert!(is_authority(good), "{good}");
    }
    for bad in [
        "", "a,b", "a b", "user@a", "a/b", "[::1", "[zz]", "a:port", "a:123456", ":80", "a?b", "a#b",
    ] {
        assert!(!is_authority(bad), "{bad}");
    }
}

#[test]
fn a_host_is_taken_where_it_is_the_only_one_wherever_it_stands() {
    type Lines = &'static [(&'static str, &'static str)];
    let cases: [(&str, Lines, Option<&str>); 6] = [
        ("none", &[("accept", "x")], None),
        ("in front", &[("host", "a"), ("accept", "x")], Some("a")),
        ("behind", &[("accept", "x"), ("host", "a")], Some("a")),
        (
            "beside a name that comes twice",
            &[("host", "a"), ("accept", "x"), ("accept", "y")],
            Some("a"),
        ),
        ("twice in front", &[("host", "a"), ("host", "b"), ("accept", "x")], None),
        (
            "twice, the same",
            &[("host", "a"), ("accept", "x"), ("host", "a")],
            None,
        ),
    ];
    for (name, lines, sole) in cases {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        assert_eq!(
            sole_host(&headers).map(HeaderValue::as_bytes),
            sole.map(str::as_bytes),
            "{name}"
        );
    }
}

#[test]
fn the_host_name_is_lower_case_and_has_no_port() {
    assert_eq!(host_name("Shop.Example:8080"), "shop.example");
    assert_eq!(host_name("shop.example:8080"), "shop.example");
    assert_eq!(host_name("my-shop_1.Example"), "my-shop_1.example");
    assert_eq!(host_name("a:"), "a");
    assert_eq!(host_name("10.0.0.1:80"), "10.0.0.1");
    assert_eq!(host_name("[::1]"), "[::1]");
    assert_eq!(host_name("[::1]:80"), "[::1]");
    assert_eq!(host_name("a"), "a");
}

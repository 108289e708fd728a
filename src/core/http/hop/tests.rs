#![allow(clippy::unwrap_used, clippy::type_complexity, clippy::cloned_ref_to_slice_refs)]

use super::*;
use crate::core::http::testing::headers;
use proptest::prelude::*;

fn names(headers: &HeaderMap) -> Vec<&str> {
    let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    names
}

#[test]
fn rfc9110_s7_6_1_connection_fields_are_dropped() {
    let mut fields = headers(
        "Connection: close, X-One\nConnection: x-two, keep-alive\nX-One: 1\nX-Two: 2\nX-Two: 3\nKeep-Alive: 5\nProxy-Connection: x\nTE: trailers
        Trailer: x\nTransfer-Encoding: chunked\nUpgrade: h2c\nProxy-Authenticate: x\nProxy-Authorization: x\nX-Three: 3\nContent-Length: 5",
    );
    strip(&mut fields);
    assert_eq!(names(&fields), ["content-length", "x-three"]);
}

#[test]
fn rfc9111_s3_1_what_a_proxy_is_told_of_itself_is_neither_stored_nor_passed_on() {
    let mut fields = headers(
        "Proxy-Authenticate: Basic\nProxy-Authentication-Info: nextnonce=\"x\"\nProxy-Authorization: Basic eA==
        Authentication-Info: nextnonce=\"y\"",
    );
    for name in fields.keys() {
        assert_eq!(
            is_hop_by_hop(name),
            *name != "authentication-info",
            "a 304 changes none of them: {name}"
        );
    }
    strip(&mut fields);
    assert_eq!(names(&fields), ["authentication-info"]);
}

#[test]
fn rfc9110_s7_6_1_fields_that_decide_cannot_be_declared_of_the_connection() {
    let mut fields = headers(
        "Connection: Cache-Control, Vary, Set-Cookie, Content-Length, Host, Cookie, Authorization, CDN-Cache-Control, \
         Tidegate-Cache-Control, X-One
        Cache-Control: private\nCDN-Cache-Control: private\nTidegate-Cache-Control: private\nVary: x\nSet-Cookie: x\nContent-Length: 1\nHost: h\nCookie: c\nAuthorization: a\nX-One: 1",
    );
    strip(&mut fields);
    let kept = [
        "authorization",
        "cache-control",
        "cdn-cache-control",
        "content-length",
        "cookie",
        "host",
        "set-cookie",
        "tidegate-cache-control",
        "vary",
    ];
    assert_eq!(names(&fields), kept);
}

#[test]
fn rfc9110_s7_6_3_via_is_added_behind() {
    let mut fields = headers("Via: 1.0 other");
    append_via(&mut fields, Version::HTTP_11);
    let values: Vec<_> = fields.get_all(VIA).iter().collect();
    assert_eq!(values, ["1.0 other", "1.1 tidegate"]);
    assert_eq!(via(Version::HTTP_2), "2.0 tidegate");
    assert_eq!(via(Version::HTTP_10), "1.0 tidegate");
}

#[test]
fn rfc9112_s6_3_framing() {
    use BadFraming::{BadLength, Both, UnknownCoding};
    use Framing::{Chunked, Length, Unsaid};
    let cases: &[(&str, &str, Result<Framing, BadFraming>)] = &[
        ("nothing", "X: 1", Ok(Unsaid)),
        ("a length", "Content-Length: 5", Ok(Length(5))),
        ("the same twice", "Content-Length: 5\nContent-Length: 5", Ok(Length(5))),
        ("the same in a list", "Content-Length: 5, 5", Ok(Length(5))),
        ("two lengths", "Content-Length: 5\nContent-Length: 6", Err(BadLength)),
        ("two in a list", "Content-Length: 5, 6", Err(BadLength)),
        ("a sign", "Content-Length: +5", Err(BadLength)),
        ("hexadecimal", "Content-Length: 0x5", Err(BadLength)),
        ("empty", "Content-Length: ", Err(BadLength)),
        ("overflow", "Content-Length: 9223372036854775808", Err(BadLength)),
        ("chunked", "Transfer-Encoding: chunked", Ok(Chunked)),
        ("any case", "Transfer-Encoding: Chunked", Ok(Chunked)),
        ("another coding", "Transfer-Encoding: gzip", Err(UnknownCoding)),
        ("and chunked", "Transfer-Encoding: gzip, chunked", Err(UnknownCoding)),
        (
            "chunked twice",
            "Transfer-Encoding: chunked\nTransfer-Encoding: chunked",
            Err(UnknownCoding),
        ),
        ("something like it", "Transfer-Encoding: xchunked", Err(UnknownCoding)),
        ("an empty coding", "Transfer-Encoding: ", Err(UnknownCoding)),
        ("both", "Transfer-Encoding: chunked\nContent-Length: 5", Err(Both)),
    ];
    for (name, fields, expected) in cases {
        assert_eq!(framing(&headers(fields)), *expected, "{name}");
    }
}

proptest! {
    #[test]
    fn any_fields_are_judged_without_a_panic(te in "[ -~]{0,20}", cl in "[ -~]{0,20}", connection in "[ -~]{0,30}") {
        let mut fields = headers(&format!("Transfer-Encoding: {te}\nContent-Length: {cl}\nConnection: {connection}"));
        let _ = framing(&fields);
        let _ = framing(&headers(&format!("Content-Length: {cl}")));
        strip(&mut fields);
        prop_assert_eq!(framing(&fields).is_ok(), framing(&headers(&format!("Content-Length: {cl}"))).is_ok());
    }
}

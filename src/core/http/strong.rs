//! R16: the fields with which an answer leaves a strong route. Nothing below us may use it again without asking.

use crate::core::http::directives::ResponseDirectives;
use http::header::{CACHE_CONTROL, EXPIRES, PRAGMA};
use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

static SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");

/// R16: `Cache-Control: no-cache`, with the origin's `no-store`, `private` and `no-transform`; without `Expires`, `Pragma`,
/// `Surrogate-Control` and every targeted field (RFC 9213 names them `*-cache-control`). The ETag stays.
pub fn strong_response_headers(headers: &mut HeaderMap) {
    let goes = |name: &&HeaderName| {
        matches!(**name, EXPIRES | PRAGMA) || **name == SURROGATE_CONTROL || name.as_str().ends_with("-cache-control")
    };
    let gone: SmallVec<[HeaderName; 2]> = headers.keys().filter(goes).cloned().collect();
    // What either field forbids stays forbidden below, where only this one is left.
    let plain = ResponseDirectives::of_cache_control(headers);
    let governing = if gone.is_empty() {
        plain
    } else {
        ResponseDirectives::parse(headers)
    };
    let value = cache_control(&ResponseDirectives {
        no_store: governing.no_store || plain.no_store,
        private: governing.private || plain.private,
        no_transform: governing.no_transform || plain.no_transform,
        ..ResponseDirectives::default()
    });
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(value));
    for name in gone {
        headers.remove(name);
    }
}

fn cache_control(directives: &ResponseDirectives) -> &'static str {
    match (directives.no_store, directives.private, directives.no_transform) {
        (false, false, false) => "no-cache",
        (true, false, false) => "no-cache, no-store",
        (false, true, false) => "no-cache, private",
        (false, false, true) => "no-cache, no-transform",
        (true, true, false) => "no-cache, no-store, private",
        (true, false, true) => "no-cache, no-store, no-transform",
        (false, true, true) => "no-cache, private, no-transform",
        (true, true, true) => "no-cache, no-store, private, no-transform",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn r16_strong_answers_are_to_be_validated_below() {
        let cases: &[(&str, &str, &str)] = &[
            (
                "a lifetime goes",
                "max-age=60, public, s-maxage=9, immutable",
                "no-cache",
            ),
            ("nothing said", "", "no-cache"),
            ("no-store stays", "no-store, max-age=60", "no-cache, no-store"),
            ("private stays", "private", "no-cache, private"),
            (
                "private with fields becomes private",
                "private=\"x\"",
                "no-cache, private",
            ),
            ("no-transform stays", "No-Transform", "no-cache, no-transform"),
            (
                "all three",
                "private, no-store, no-transform",
                "no-cache, no-store, private, no-transform",
            ),
            ("stale windows go", "max-age=1, stale-while-revalidate=60", "no-cache"),
        ];
        for (name, given, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, HeaderValue::from_static(given));
            headers.append(CACHE_CONTROL, HeaderValue::from_static("x-other"));
            for dropped in [
                "expires",
                "pragma",
                "surrogate-control",
                "cdn-cache-control",
                "tidegate-cache-control",
                "x-cdn-cache-control",
            ] {
                headers.insert(HeaderName::from_static(dropped), HeaderValue::from_static("max-age=60"));
            }
            headers.insert("etag", HeaderValue::from_static("\"1\""));
            headers.insert("x-other", HeaderValue::from_static("kept"));
            strong_response_headers(&mut headers);
            let values: Vec<_> = headers.get_all(CACHE_CONTROL).iter().collect();
            assert_eq!(values, [expected], "{name}");
            let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
            left.sort_unstable();
            assert_eq!(left, ["cache-control", "etag", "x-other"], "{name}");
        }
    }
    #[test]
    fn r16_what_either_field_forbids_stays_forbidden() {
        let cases: &[(&str, &str, &str, &str)] = &[
            (
                "the targeted field",
                "max-age=60",
                "private, max-age=60",
                "no-cache, private",
            ),
            ("cache-control", "no-store", "max-age=60", "no-cache, no-store"),
            (
                "one each",
                "no-transform",
                "no-store",
                "no-cache, no-store, no-transform",
            ),
            ("neither", "max-age=60", "max-age=60", "no-cache"),
        ];
        for (name, plain, targeted, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, HeaderValue::from_static(plain));
            headers.insert("cdn-cache-control", HeaderValue::from_static(targeted));
            strong_response_headers(&mut headers);
            assert_eq!(headers.get(CACHE_CONTROL).unwrap(), expected, "{name}");
            assert_eq!(headers.len(), 1, "{name}");
        }
    }
}

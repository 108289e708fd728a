//! R17: an answer that carries a session's token is its client's alone, whatever the stored one says. What it lets that client do
//! stays; what it lets shared caches do goes.

use crate::core::http::syntax::{all_members, argument, trim_ows};
use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

static SURROGATE_CONTROL: HeaderName = HeaderName::from_static("surrogate-control");

/// Makes an answer `private`: its other directives stay, but for those that speak to shared caches alone (`public`, `s-maxage`,
/// `proxy-revalidate`, `private` for single fields); targeted fields, which would overrule it (RFC 9213), and `Surrogate-Control` go.
pub fn make_private(headers: &mut HeaderMap) {
    let mut line = b"private".to_vec();
    for member in all_members(headers, &CACHE_CONTROL) {
        let name = trim_ows(argument(member).0);
        let of_shared = ["private", "public", "s-maxage", "proxy-revalidate"];
        if !of_shared.iter().any(|word| name.eq_ignore_ascii_case(word.as_bytes())) {
            line.extend_from_slice(b", ");
            line.extend_from_slice(member);
        }
    }
    // Made of field values and visible text, it is one.
    let value = HeaderValue::from_maybe_shared(bytes::Bytes::from(line));
    headers.insert(CACHE_CONTROL, value.unwrap_or(HeaderValue::from_static("private")));
    headers.remove(&SURROGATE_CONTROL);
    let targeted = |name: &&HeaderName| name.as_str().ends_with("-cache-control");
    let targeted: SmallVec<[HeaderName; 2]> = headers.keys().filter(targeted).cloned().collect();
    for name in targeted {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r17_an_answer_with_a_token_is_private() {
        let cases: &[(&str, &[&str], &str)] = &[
            ("nothing said", &[], "private"),
            ("a lifetime stays", &["max-age=60"], "private, max-age=60"),
            ("public goes", &["Public, max-age=60"], "private, max-age=60"),
            (
                "a shared lifetime goes",
                &["s-maxage=9, max-age=60, proxy-revalidate"],
                "private, max-age=60",
            ),
            ("private already", &["private, max-age=1"], "private, max-age=1"),
            (
                "private for one field becomes private",
                &["private=\"a, b\", no-cache"],
                "private, no-cache",
            ),
            ("no-store stays", &["no-store"], "private, no-store"),
            (
                "several lines",
                &["max-age=1", "must-revalidate, public"],
                "private, max-age=1, must-revalidate",
            ),
            (
                "what is not known stays",
                &["x=\"a, public\""],
                "private, x=\"a, public\"",
            ),
        ];
        for (case, lines, expected) in cases {
            let mut headers = HeaderMap::new();
            for line in *lines {
                headers.append(CACHE_CONTROL, HeaderValue::from_static(line));
            }
            for gone in ["surrogate-control", "cdn-cache-control", "tidegate-cache-control"] {
                headers.insert(gone, HeaderValue::from_static("max-age=60"));
            }
            headers.insert("expires", HeaderValue::from_static("0"));
            make_private(&mut headers);
            let values: Vec<_> = headers.get_all(CACHE_CONTROL).iter().collect();
            assert_eq!(values, [expected], "{case}");
            assert_eq!(headers.len(), 2, "{case}");
        }
    }
}

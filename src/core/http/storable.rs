//! Which answers may be stored at all (RFC 9111 s3), whatever the route: statuses, `no-store`, `private`, `must-understand`.
//! What a route adds (credentials, Set-Cookie, strong routes) is in [`crate::core::admit`].

use crate::core::http::directives::ResponseDirectives;
use crate::core::reason::NotStored;
use http::StatusCode;

/// RFC 9110 s15.1: statuses for which a cache may choose a lifetime itself. 206 is among them; which routes store parts is [`crate::core::admit`]'s business (R7).
#[must_use]
pub fn is_heuristically_cacheable(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    )
}

/// R18: statuses a strong route stores. Other 4xx and 5xx never are; nor are statuses whose meaning we do not know.
#[must_use]
pub fn is_stored_on_strong(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 206 | 300 | 301 | 302 | 303 | 307 | 308 | 404 | 410
    )
}

/// RFC 9111 s3: what the status and the directives forbid.
#[must_use]
pub fn forbidden(status: StatusCode, directives: &ResponseDirectives) -> Option<NotStored> {
    match status.as_u16() {
        200..=303 | 305..=599 => {}
        _ => return Some(NotStored::Status), // 1xx is not final, a 304 is no answer of its own
    }
    // RFC 9111 s5.2.2.3: it overrides no-store for the statuses we know.
    let understood = status.canonical_reason().is_some();
    if directives.must_understand && !understood {
        return Some(NotStored::NotUnderstood);
    }
    if directives.no_store && !directives.must_understand {
        return Some(NotStored::NoStore);
    }
    directives.private.then_some(NotStored::Private)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use http::{HeaderMap, HeaderValue};

    #[test]
    fn rfc9111_s3_what_forbids_storing() {
        let cases: &[(&str, u16, &str, Option<NotStored>)] = &[
            ("a plain 200", 200, "max-age=5", None),
            ("an unknown final status", 299, "max-age=5", None),
            ("another unknown one", 599, "max-age=5", None),
            ("an interim status", 103, "max-age=5", Some(NotStored::Status)),
            ("beyond 599", 600, "max-age=5", Some(NotStored::Status)),
            (
                "a 304 is no answer of its own",
                304,
                "max-age=5",
                Some(NotStored::Status),
            ),
            ("a part, if the route stores parts", 206, "max-age=5", None),
            (
                "s5.2.2.5 no-store",
                200,
                "max-age=5, no-store",
                Some(NotStored::NoStore),
            ),
            ("s5.2.2.7 private", 200, "private, max-age=5", Some(NotStored::Private)),
            (
                "s5.2.2.7 private with fields",
                200,
                "private=\"x\", max-age=5",
                Some(NotStored::Private),
            ),
            ("s5.2.2.3 understood", 200, "must-understand, no-store, max-age=5", None),
            (
                "s5.2.2.3 not understood",
                299,
                "must-understand, max-age=5",
                Some(NotStored::NotUnderstood),
            ),
            (
                "s5.2.2.3 leaves private",
                200,
                "must-understand, private",
                Some(NotStored::Private),
            ),
        ];
        for (name, status, field, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static(field));
            let status = StatusCode::from_u16(*status).unwrap();
            assert_eq!(
                forbidden(status, &ResponseDirectives::parse(&headers)),
                *expected,
                "{name}"
            );
        }
    }
}

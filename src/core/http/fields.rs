//! Which fields of a request change how it is read. Most requests carry none of them: one walk over the names tells, and nobody looks
//! for one of them again that is not there.
//!
//! Invariant: a field that is told as absent is absent; what a field that is there says, its own module reads.

use http::HeaderMap;
use std::ops::BitOr;

/// A set of such fields.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(u16);

impl Fields {
    /// None of them.
    pub const NONE: Self = Self(0);
    /// `Authorization`.
    pub const AUTHORIZATION: Self = Self(1);
    /// `Cache-Control`.
    pub const CACHE_CONTROL: Self = Self(1 << 1);
    /// `Connection`.
    pub const CONNECTION: Self = Self(1 << 2);
    /// `Content-Length`.
    pub const CONTENT_LENGTH: Self = Self(1 << 3);
    /// `Cookie`.
    pub const COOKIE: Self = Self(1 << 4);
    /// `If-Modified-Since` or `If-None-Match`: what a cache evaluates.
    pub const CONDITION: Self = Self(1 << 5);
    /// `If-Match` or `If-Unmodified-Since`: what the origin evaluates (RFC 9111 s4.3.2).
    pub const ORIGIN_CONDITION: Self = Self(1 << 6);
    /// R13: one that names another method.
    pub const OVERRIDE: Self = Self(1 << 7);
    /// `Pragma`.
    pub const PRAGMA: Self = Self(1 << 8);
    /// `Prefer`.
    pub const PREFER: Self = Self(1 << 9);
    /// `Range`.
    pub const RANGE: Self = Self(1 << 10);
    /// `Transfer-Encoding`.
    pub const TRANSFER_ENCODING: Self = Self(1 << 11);
    /// `Host`: every request of HTTP/1.1 has it, and hardly any of HTTP/2.
    pub const HOST: Self = Self(1 << 12);

    /// Those of a request.
    #[must_use]
    #[inline]
    pub fn of(headers: &HeaderMap) -> Self {
        headers
            .keys()
            .fold(Self::NONE, |found, name| found | named(name.as_str()))
    }

    /// Whether one of these is there.
    #[must_use]
    #[inline]
    pub const fn any(self, of: Self) -> bool {
        self.0 & of.0 != 0
    }
}

impl BitOr for Fields {
    type Output = Self;

    #[inline]
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

#[inline]
fn named(name: &str) -> Fields {
    match name {
        "authorization" => Fields::AUTHORIZATION,
        "cache-control" => Fields::CACHE_CONTROL,
        "connection" => Fields::CONNECTION,
        "content-length" => Fields::CONTENT_LENGTH,
        "cookie" => Fields::COOKIE,
        "host" => Fields::HOST,
        "if-match" | "if-unmodified-since" => Fields::ORIGIN_CONDITION,
        "if-modified-since" | "if-none-match" => Fields::CONDITION,
        "pragma" => Fields::PRAGMA,
        "prefer" => Fields::PREFER,
        "range" => Fields::RANGE,
        "transfer-encoding" => Fields::TRANSFER_ENCODING,
        "x-http-method" | "x-http-method-override" | "x-method-override" => Fields::OVERRIDE,
        _ => Fields::NONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::http::invalidate;
    use http::header::{self, HeaderName, HeaderValue};

    #[test]
    fn a_field_is_told_when_and_only_when_it_is_there() {
        let cases = [
            (header::AUTHORIZATION, Fields::AUTHORIZATION),
            (header::CACHE_CONTROL, Fields::CACHE_CONTROL),
            (header::CONNECTION, Fields::CONNECTION),
            (header::CONTENT_LENGTH, Fields::CONTENT_LENGTH),
            (header::COOKIE, Fields::COOKIE),
            (header::IF_MATCH, Fields::ORIGIN_CONDITION),
            (header::IF_UNMODIFIED_SINCE, Fields::ORIGIN_CONDITION),
            (header::IF_MODIFIED_SINCE, Fields::CONDITION),
            (header::IF_NONE_MATCH, Fields::CONDITION),
            (header::PRAGMA, Fields::PRAGMA),
            (HeaderName::from_static("prefer"), Fields::PREFER),
            (header::RANGE, Fields::RANGE),
            (header::TRANSFER_ENCODING, Fields::TRANSFER_ENCODING),
            (HeaderName::from_static("x-http-method"), Fields::OVERRIDE),
            (HeaderName::from_static("x-http-method-override"), Fields::OVERRIDE),
            (HeaderName::from_static("x-method-override"), Fields::OVERRIDE),
            (header::HOST, Fields::HOST),
            (header::IF_RANGE, Fields::NONE),
            (HeaderName::from_static("cookies"), Fields::NONE),
        ];
        let mut all = HeaderMap::new();
        for (name, expected) in cases {
            let mut one = HeaderMap::new();
            one.append(&name, HeaderValue::from_static("x"));
            one.append(&name, HeaderValue::from_static("y"));
            assert_eq!(Fields::of(&one), expected, "{name}");
            assert_eq!(
                invalidate::is_overridden(&one),
                expected == Fields::OVERRIDE,
                "{name} by R13"
            );
            all.append(name, HeaderValue::from_static("x"));
        }
        let found = Fields::of(&all);
        assert!((0..13).all(|bit| found.any(Fields(1 << bit))));
        assert_eq!(Fields::of(&HeaderMap::new()), Fields::NONE);
    }
}

//! The value of `Cache-Status` (RFC 9211) under the name `tidegate`: what became of the request, in the order hit, fwd, fwd-status,
//! ttl, stored, collapsed, key, detail. Built in a buffer on the stack.

use crate::core::http::line::Line;
use crate::core::key;
use crate::core::reason::FetchReason;
use http::{HeaderValue, StatusCode};
use smallvec::SmallVec;
use std::fmt::{self, Write};

/// What became of a request.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Handling {
    /// Served from what is stored, without asking.
    Hit,
    /// Made here, without asking: a refusal, a redirect.
    Generated,
    /// Sent on.
    Forwarded {
        /// Why.
        reason: FetchReason,
        /// The origin's status, where it differs from what the client gets (a 304 that confirmed what is stored).
        status: Option<StatusCode>,
        /// Whether the answer was stored, as far as is known when the head leaves.
        stored: bool,
        /// Whether another request's flight was shared.
        collapsed: bool,
    },
}

/// Everything the value says.
#[derive(Copy, Clone, Debug)]
pub struct CacheStatus<'a> {
    /// What became of the request.
    pub handling: Handling,
    /// Seconds of freshness left, negative when stale.
    pub ttl: Option<i64>,
    /// The key's text, for those who may see it: its URL is shown; fields and cookies in it are not.
    pub key: Option<&'a [u8]>,
    /// A word of ours, for those who may see it. `unsettled` is always said.
    pub detail: Option<&'a str>,
}

/// A small buffer that text is written into.
#[derive(Default)]
struct Buffer(SmallVec<[u8; 128]>);

impl Write for Buffer {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.0.extend_from_slice(s.as_bytes());
        Ok(())
    }
}

/// `tidegate; hit; ttl=N`.
#[must_use]
pub fn hit(ttl: i64) -> HeaderValue {
    CacheStatus {
        handling: Handling::Hit,
        ttl: Some(ttl),
        key: None,
        detail: None,
    }
    .value()
}

impl CacheStatus<'static> {
    /// Sent on for `reason`, for this request alone, and not stored.
    #[must_use]
    pub const fn forwarded(reason: FetchReason) -> Self {
        Self {
            handling: Handling::Forwarded {
                reason,
                status: None,
                stored: false,
                collapsed: false,
            },
            ttl: None,
            key: None,
            detail: None,
        }
    }

    /// Made here.
    #[must_use]
    pub const fn generated(detail: &'static str) -> Self {
        Self {
            handling: Handling::Generated,
            ttl: None,
            key: None,
            detail: Some(detail),
        }
    }
}

impl CacheStatus<'_> {
    /// The field value.
    #[must_use]
    pub fn value(&self) -> HeaderValue {
        if let (Handling::Hit, Some(ttl), None, None) = (self.handling, self.ttl, self.key, self.detail)
            && let Some(value) = Line::new().text("tidegate; hit; ttl=").number(ttl).value()
        {
            return value;
        }
        if let Some(usual) = self.usual() {
            return usual.clone();
        }
        let mut out = Buffer::default();
        // Writing into the buffer cannot fail, and it holds visible ASCII only.
        let _ = self.write(&mut out);
        HeaderValue::from_bytes(&out.0).unwrap_or_else(|_| HeaderValue::from_static("tidegate"))
    }

    /// What every answer of a route that does not cache says, and every answer that a node has just confirmed.
    fn usual(&self) -> Option<&'static HeaderValue> {
        static BYPASS: HeaderValue = HeaderValue::from_static("tidegate; fwd=bypass");
        static CONFIRMED: HeaderValue = HeaderValue::from_static("tidegate; fwd=stale; fwd-status=304");
        let Handling::Forwarded {
            reason,
            status,
            stored: false,
            collapsed: false,
        } = self.handling
        else {
            return None;
        };
        let is_all = self.ttl.is_none() && self.key.is_none() && self.detail.is_none();
        match (reason, status) {
            (FetchReason::Bypass, None) if is_all => Some(&BYPASS),
            (FetchReason::Stale, Some(StatusCode::NOT_MODIFIED)) if is_all => Some(&CONFIRMED),
            _ => None,
        }
    }

    fn write(&self, out: &mut Buffer) -> fmt::Result {
        out.write_str("tidegate")?;
        let mut detail = self.detail;
        match self.handling {
            Handling::Hit => out.write_str("; hit")?,
            Handling::Generated => {}
            Handling::Forwarded {
                reason,
                status,
                stored,
                collapsed,
            } => {
                out.write_str("; fwd=")?;
                out.write_str(reason.fwd())?;
                if let Some(status) = status {
                    out.write_str("; fwd-status=")?;
                    out.write_str(status.as_str())?;
                }
                if stored {
                    out.write_str("; stored")?;
                }
                if collapsed {
                    out.write_str("; collapsed")?;
                }
                detail = detail.or(reason.detail());
            }
        }
        if let Some(ttl) = self.ttl {
            out.write_str("; ttl=")?;
            out.write_str(itoa::Buffer::new().format(ttl))?;
        }
        if let Some(named) = self.key.and_then(key::named) {
            out.write_str("; key=\"")?;
            out.write_str(if named.https { "https://" } else { "http://" })?;
            quoted(named.host, out)?;
            quoted(named.path, out)?;
            // Where parameters are chosen, each is written behind a `&`.
            match named.query.strip_prefix(b"&") {
                Some(chosen) => {
                    out.write_char('?')?;
                    quoted(chosen, out)?;
                }
                None => quoted(named.query, out)?,
            }
            out.write_char('"')?;
        }
        if let Some(detail) = detail {
            out.write_str("; detail=")?;
            if is_token(detail) {
                out.write_str(detail)?
            } else {
                out.write_char('"')?;
                quoted(detail.as_bytes(), out)?;
                out.write_char('"')?;
            }
        }
        Ok(())
    }
}

/// RFC 9651 s3.3.4, of which our own words use a part.
fn is_token(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':' | b'/'))
}

/// RFC 9651 s3.3.3: the inside of a string, of visible ASCII and spaces; any other byte becomes `?`.
fn quoted(text: &[u8], out: &mut Buffer) -> fmt::Result {
    let plain = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
    if text.iter().all(plain) {
        out.0.extend_from_slice(text);
        return Ok(());
    }
    for byte in text {
        match byte {
            b'"' | b'\\' => out.0.extend_from_slice(&[b'\\', *byte]),
            b' '..=b'~' => out.0.push(*byte),
            _ => out.0.push(b'?'),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::key::{KeyBuffer, KeyParts, NormalPath};
    use crate::core::policy::KeyRules;
    use proptest::prelude::*;

    fn forwarded(reason: FetchReason, status: Option<u16>, stored: bool, collapsed: bool) -> CacheStatus<'static> {
        let status = status.and_then(|s| StatusCode::from_u16(s).ok());
        CacheStatus {
            handling: Handling::Forwarded {
                reason,
                status,
                stored,
                collapsed,
            },
            ttl: None,
            key: None,
            detail: None,
        }
    }

    fn key_of(https: bool, path: &str, query: Option<&str>) -> Vec<u8> {
        let parts = KeyParts {
            route: 0,
            https,
            host: "a.example",
            forwarded_host: None,
            path: &NormalPath::of(path),
            query,
            headers: &http::HeaderMap::new(),
        };
        KeyBuffer::new().write(parts, &KeyRules::default()).to_vec()
    }

    #[test]
    fn rfc9211_s2_values() {
        let key = key_of(false, "/a", Some("q"));
        let debug = CacheStatus {
            key: Some(&key),
            detail: Some("not a \"token\" \u{e9}"),
            ..forwarded(FetchReason::UriMiss, None, false, false)
        };
        let cases = [
            (hit(12), "tidegate; hit; ttl=12"),
            (hit(-3), "tidegate; hit; ttl=-3"),
            (
                forwarded(FetchReason::UriMiss, None, true, false).value(),
                "tidegate; fwd=uri-miss; stored",
            ),
            (
                forwarded(FetchReason::VaryMiss, None, false, false).value(),
                "tidegate; fwd=vary-miss",
            ),
            (
                forwarded(FetchReason::Stale, Some(304), false, false).value(),
                "tidegate; fwd=stale; fwd-status=304",
            ),
            (
                forwarded(FetchReason::UriMiss, None, false, true).value(),
                "tidegate; fwd=uri-miss; collapsed",
            ),
            (
                forwarded(FetchReason::Method, None, false, false).value(),
                "tidegate; fwd=method",
            ),
            (
                forwarded(FetchReason::Bypass, None, false, false).value(),
                "tidegate; fwd=bypass",
            ),
            (
                forwarded(FetchReason::Unsettled, None, false, false).value(),
                "tidegate; fwd=bypass; detail=unsettled",
            ),
            (
                debug.value(),
                "tidegate; fwd=uri-miss; key=\"http://a.example/a?q\"; detail=\"not a \\\"token\\\" ??\"",
            ),
        ];
        for (value, expected) in cases {
            assert_eq!(value, expected);
        }
    }

    proptest! {
        #[test]
        fn any_key_and_detail_make_a_value(key in prop::collection::vec(any::<u8>(), 0..99), detail in ".*", ttl in any::<i64>()) {
            let value = CacheStatus { handling: Handling::Hit, ttl: Some(ttl), key: Some(&key), detail: Some(&detail) }.value();
            prop_assert!(value.as_bytes().starts_with(b"tidegate; hit; ttl="));
        }

        #[test]
        fn any_url_makes_a_key(path in ".*", query in ".*", detail in ".*", ttl in any::<i64>()) {
            let key = key_of(true, &path, Some(&query));
            let value = CacheStatus { handling: Handling::Hit, ttl: Some(ttl), key: Some(&key), detail: Some(&detail) }.value();
            prop_assert!(value.as_bytes().starts_with(b"tidegate; hit; ttl="));
        }
    }
}

//! What stays on one connection (RFC 9110 s7.6.1): hop-by-hop fields are dropped in both directions before anything is stored or
//! forwarded, `Via` is added, and a message's framing is read once and judged (RFC 9112 s6).

use crate::core::http::syntax::{Single, all_members, digits, members};
use crate::core::http::targeted;
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, SET_COOKIE, TE, TRAILER, TRANSFER_ENCODING,
    VARY, VIA,
};
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use smallvec::SmallVec;

/// Whether a field is always of one connection only.
#[must_use]
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    is_hop_by_hop_name(name.as_str())
}

/// As text: told apart by their first letters and lengths, most names are compared with none of these. Every field of every message comes
/// by here.
fn is_hop_by_hop_name(name: &str) -> bool {
    if !matches!(name.as_bytes().first(), Some(b'c' | b'k' | b'p' | b't' | b'u')) {
        return false;
    }
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-authenticate"
            | "proxy-authentication-info" // RFC 9111 s3.1: for the proxy that logged in, and never stored
            | "proxy-authorization"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
    )
}

/// The fields that `Connection` declares to be of this connection only. Fields on which framing, routing, identity or storing depend
/// cannot be declared so (RFC 9110 s7.6.1): dropping a `Cache-Control: private` that way would publish the answer.
#[must_use]
pub fn connection_listed(headers: &HeaderMap) -> SmallVec<[HeaderName; 4]> {
    if !headers.contains_key(CONNECTION) {
        return SmallVec::new();
    }
    all_members(headers, &CONNECTION)
        .filter_map(|member| HeaderName::from_bytes(member).ok())
        .filter(|name| !is_end_to_end(name))
        .collect()
}

fn is_end_to_end(name: &HeaderName) -> bool {
    matches!(
        *name,
        AUTHORIZATION | CACHE_CONTROL | CONTENT_LENGTH | COOKIE | HOST | SET_COOKIE | VARY
    ) || targeted::is_target(name)
}

/// Drops every field of this connection, in either direction. Cheap when there is none.
pub fn strip(headers: &mut HeaderMap) {
    strip_also(headers, |_| false);
}

/// The same, and every field that is one of `others`, which is shown each name once.
pub fn strip_also(headers: &mut HeaderMap, mut others: impl FnMut(&HeaderName) -> bool) {
    drop_those(headers, |name| others(name) || is_hop_by_hop(name));
}

/// [`strip_also`] of what is passed on as it comes, trailers and all: which these will be stays said (RFC 9110 s6.6.2).
pub fn strip_streamed(headers: &mut HeaderMap, mut others: impl FnMut(&HeaderName) -> bool) {
    drop_those(headers, |name| others(name) || is_hop_by_hop(name) && *name != TRAILER);
}

/// Copies a request's fields but those of its connection ([`strip_streamed`]) into an empty map. Who takes trailers gets them through us,
/// so we say that we take them (RFC 9110 s10.1.4).
pub fn copy_request(from: &HeaderMap, into: &mut HeaderMap, mut others: impl FnMut(&HeaderName) -> bool) {
    let (mut says, mut gone) = (false, false);
    for (name, value) in from {
        says |= *name == TE;
        if others(name) || is_hop_by_hop(name) && *name != TRAILER {
            gone = true;
            continue;
        }
        into.append(name, value.clone());
    }
    if gone {
        for name in connection_listed(from) {
            into.remove(name); // `Connection` would be among those that are gone
        }
    }
    if says && all_members(from, &TE).any(|member| member.eq_ignore_ascii_case(b"trailers")) {
        into.insert(TE, HeaderValue::from_static("trailers"));
        into.insert(CONNECTION, HeaderValue::from_static("te"));
    }
}

fn drop_those(headers: &mut HeaderMap, are_meant: impl FnMut(&HeaderName) -> bool) {
    let gone = those(headers, are_meant);
    drop_all(headers, gone);
}

type Names = SmallVec<[HeaderName; 4]>;

/// One walk over the names is cheaper than a dozen look-ups of names that are hardly ever there.
fn those(headers: &HeaderMap, mut are_meant: impl FnMut(&HeaderName) -> bool) -> Names {
    headers.keys().filter(|name| are_meant(name)).cloned().collect()
}

fn drop_all(headers: &mut HeaderMap, gone: Names) {
    if gone.is_empty() {
        return; // `Connection` would be among them
    }
    for name in connection_listed(headers).into_iter().chain(gone) {
        headers.remove(name);
    }
}

/// Our member of `Via` for a message received in `version` (RFC 9110 s7.6.3).
#[must_use]
pub fn via(version: Version) -> HeaderValue {
    static VIA_1_1: HeaderValue = HeaderValue::from_static("1.1 tidegate");
    match version {
        Version::HTTP_09 => HeaderValue::from_static("0.9 tidegate"),
        Version::HTTP_10 => HeaderValue::from_static("1.0 tidegate"),
        Version::HTTP_2 => HeaderValue::from_static("2.0 tidegate"),
        Version::HTTP_3 => HeaderValue::from_static("3.0 tidegate"),
        _ => VIA_1_1.clone(),
    }
}

/// Adds our `Via` behind those of others.
pub fn append_via(headers: &mut HeaderMap, version: Version) {
    headers.append(VIA, via(version));
}

/// How a message says where its body ends.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Framing {
    /// It does not say: no body in a request, up to the connection's end in an answer.
    Unsaid,
    /// After so many bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`, and nothing else.
    Chunked,
}

/// Framing that is refused.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFraming {
    /// 501 in a request, 502 in an answer.
    #[error("a transfer coding other than chunked")]
    UnknownCoding,
    /// Smuggling, most likely (RFC 9112 s6.1).
    #[error("both Transfer-Encoding and Content-Length")]
    Both,
    /// Lines that differ, or no number.
    #[error("a Content-Length that is not one number")]
    BadLength,
}

/// A number of so many digits is below what a signed counter holds.
const MAX_DIGITS: usize = 18;

/// RFC 9112 s6.3.
///
/// # Errors
/// When the framing is ambiguous or unknown; such a message is never forwarded as received.
pub fn framing(headers: &HeaderMap) -> Result<Framing, BadFraming> {
    if headers.contains_key(TRANSFER_ENCODING) {
        let mut codings = all_members(headers, &TRANSFER_ENCODING);
        let chunked = codings
            .next()
            .is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"))
            && codings.next().is_none();
        return match (chunked, headers.contains_key(CONTENT_LENGTH)) {
            (false, _) => Err(BadFraming::UnknownCoding),
            (true, true) => Err(BadFraming::Both),
            (true, false) => Ok(Framing::Chunked),
        };
    }
    let mut lines = headers.get_all(CONTENT_LENGTH).iter();
    match (lines.next(), lines.next()) {
        (None, _) => return Ok(Framing::Unsaid),
        (Some(line), None) if (1..=MAX_DIGITS).contains(&line.len()) => {
            if let Some(length) = digits(line.as_bytes()) {
                return Ok(Framing::Length(length));
            }
        }
        (Some(_), _) => {}
    }
    match crate::core::http::syntax::single(headers, &CONTENT_LENGTH) {
        Single::Absent => Ok(Framing::Unsaid),
        Single::Conflict => Err(BadFraming::BadLength),
        Single::Value(value) => one_length(value).map(Framing::Length).ok_or(BadFraming::BadLength),
    }
}

/// A number, or the same number several times (RFC 9110 s8.6), below what a signed counter holds.
fn one_length(value: &[u8]) -> Option<u64> {
    let mut numbers = members(value);
    let first = digits(numbers.next()?)?;
    numbers
        .all(|other| digits(other) == Some(first))
        .then_some(first)
        .filter(|n| i64::try_from(*n).is_ok())
}

#[cfg(test)]
mod tests;

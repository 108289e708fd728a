//! Entity tags (RFC 9110 s8.8.3): parsing, both comparisons, and lists of them.

use crate::core::http::stored::Etag;
use crate::core::http::syntax::trim_ows;
use http::header::ETAG;
use http::{HeaderMap, HeaderName, HeaderValue};

/// The answer's `ETag`; none when it is absent, malformed, or given twice with different values.
#[must_use]
pub fn of(headers: &HeaderMap) -> Option<Etag> {
    let mut lines = headers.get_all(ETAG).iter();
    let first = lines.next()?;
    if lines.any(|line| line != first) {
        return None;
    }
    parse(first)
}

/// The tag in a field value, when that is one entity tag.
#[must_use]
pub fn text(value: &[u8]) -> Option<&[u8]> {
    let (tag, rest) = next(trim_ows(value))?;
    rest.is_empty().then_some(tag.text)
}

/// One entity tag.
#[must_use]
pub fn parse(value: &HeaderValue) -> Option<Etag> {
    let (tag, rest) = next(trim_ows(value.as_bytes()))?;
    if !rest.is_empty() {
        return None;
    }
    // Verbatim where it can be: the value that was received shares its bytes.
    let value = if tag.text.len() == value.len() {
        value.clone()
    } else {
        HeaderValue::from_bytes(tag.text).ok()?
    };
    Some(Etag { weak: tag.weak, value })
}

impl Etag {
    /// The weak comparison (RFC 9110 s8.8.3.2): equal but for `W/`.
    #[must_use]
    pub fn weakly_equals(&self, other: &Self) -> bool {
        opaque(self.value.as_bytes()) == opaque(other.value.as_bytes())
    }

    /// The strong comparison (RFC 9110 s8.8.3.2): equal, and neither is weak.
    #[must_use]
    pub fn strongly_equals(&self, other: &Self) -> bool {
        !self.weak && !other.weak && self.value == other.value
    }
}

/// Whether a list of entity tags (`If-None-Match`), over all lines, names `tag` by weak comparison. `*` names every tag.
/// What is not a tag is skipped up to the next comma.
#[must_use]
pub fn list_names(headers: &HeaderMap, list: &HeaderName, tag: Option<&Etag>) -> bool {
    let wanted = tag.map(|tag| opaque(tag.value.as_bytes()));
    for line in headers.get_all(list) {
        let mut rest = trim_ows(line.as_bytes());
        if rest == b"*" {
            return true;
        }
        while !rest.is_empty() {
            if let Some((found, after)) = next(rest) {
                if Some(opaque(found.text)) == wanted {
                    return true;
                }
                rest = after;
            }
            let comma = rest.iter().position(|b| *b == b',');
            rest = trim_ows(comma.and_then(|at| rest.get(at + 1..)).unwrap_or_default());
        }
    }
    false
}

/// A tag as it stands in a field.
struct Found<'a> {
    text: &'a [u8],
    weak: bool,
}

/// The tag at the beginning of `bytes`, and what follows it, trimmed. What follows is nothing or begins with a comma.
fn next(bytes: &[u8]) -> Option<(Found<'_>, &[u8])> {
    let open = match bytes {
        [b'"', ..] => 0,
        [b'W', b'/', b'"', ..] => 2,
        _ => return None,
    };
    // A backslash escapes nothing in an entity tag, so the string ends at the first quote.
    let close = open + 1 + bytes.get(open + 1..)?.iter().position(|b| *b == b'"')?;
    let (text, rest) = bytes.split_at_checked(close + 1)?;
    let inner = text.get(open + 1..close)?;
    if !inner.iter().all(|b| matches!(b, 0x21 | 0x23..=0x7e | 0x80..)) {
        return None;
    }
    let rest = trim_ows(rest);
    matches!(rest, [] | [b',', ..]).then_some((Found { text, weak: open == 2 }, rest))
}

/// Without `W/`.
fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

#[cfg(test)]
mod tests;

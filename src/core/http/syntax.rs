//! The small grammar that many fields share (RFC 9110 s5.6): optional white space, tokens, quoted strings, comma lists over
//! several lines, delta-seconds. Parsers here take any bytes, never fail loudly and never allocate.

use crate::core::time::Span;
use http::{HeaderMap, HeaderName};

/// RFC 9111 s1.2.2: a number of seconds too large to represent is 2^31.
pub(crate) const MAX_SECONDS: u64 = 1 << 31;

/// Without the optional white space around it (RFC 9110 s5.6.3).
pub(crate) fn trim_ows(bytes: &[u8]) -> &[u8] {
    let mut bytes = bytes;
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// RFC 9110 s5.6.2.
pub(crate) const fn is_token_byte(b: u8) -> bool {
    matches!(
        b,
        b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
    ) || b.is_ascii_alphanumeric()
}

/// Digits only, saturating at 2^31 (RFC 9111 s1.2.2); anything else is no number.
pub(crate) fn delta_seconds(bytes: &[u8]) -> Option<Span> {
    digits(bytes).map(|n| Span::from_secs(n.min(MAX_SECONDS)))
}

/// One or more digits as a number, saturating.
pub(crate) fn digits(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    let mut n = 0_u64;
    for b in bytes {
        if !b.is_ascii_digit() {
            return None;
        }
        n = n.saturating_mul(10).saturating_add(u64::from(b - b'0'));
    }
    Some(n)
}

/// The members of a comma list in one line, trimmed, empty ones left out. A comma inside a quoted string separates nothing;
/// a quote that is never closed is an ordinary character, so that it cannot hide the members behind it.
pub(crate) fn members(line: &[u8]) -> Members<'_> {
    Members {
        rest: line,
        keep_empty: false,
    }
}

/// As [`members`], with the empty ones.
pub(crate) fn elements(line: &[u8]) -> Members<'_> {
    Members {
        rest: line,
        keep_empty: true,
    }
}

/// See [`members`].
pub(crate) struct Members<'a> {
    rest: &'a [u8],
    keep_empty: bool,
}

impl<'a> Iterator for Members<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let end = member_end(self.rest);
            let (member, after) = self.rest.split_at_checked(end)?;
            self.rest = after.get(1..).unwrap_or_default();
            let member = trim_ows(member);
            if self.keep_empty || !member.is_empty() {
                return Some(member);
            }
        }
        None
    }
}

/// Where the first member of a comma list ends.
fn member_end(line: &[u8]) -> usize {
    let mut at = 0;
    while let Some(b) = line.get(at) {
        match b {
            b',' => return at,
            b'"' => at = quoted_end(line, at).unwrap_or(at),
            _ => {}
        }
        at += 1;
    }
    at
}

/// The index of the quote that closes the one at `open`.
fn quoted_end(line: &[u8], open: usize) -> Option<usize> {
    let mut at = open + 1;
    while let Some(b) = line.get(at) {
        match b {
            b'"' => return Some(at),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    None
}

/// A list member cut at its first `=`: name and argument. The argument loses its quotes when it is one quoted string without escapes.
pub(crate) fn argument(member: &[u8]) -> (&[u8], Option<&[u8]>) {
    let Some(at) = member.iter().position(|b| *b == b'=') else {
        return (member, None);
    };
    let name = member.get(..at).unwrap_or_default();
    let value = member.get(at + 1..).unwrap_or_default();
    match value {
        [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => (name, Some(inner)),
        _ => (name, Some(value)),
    }
}

/// All members of a field's comma list, over all its lines.
pub(crate) fn all_members<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a [u8]> {
    headers.get_all(name).iter().flat_map(|line| members(line.as_bytes()))
}

/// The value of a field that may be given once; none when it is absent or its lines differ.
pub(crate) fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Single<'a> {
    let mut lines = headers.get_all(name).iter();
    let Some(first) = lines.next() else {
        return Single::Absent;
    };
    if lines.all(|line| trim_ows(line.as_bytes()) == trim_ows(first.as_bytes())) {
        Single::Value(trim_ows(first.as_bytes()))
    } else {
        Single::Conflict
    }
}

/// See [`single`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Single<'a> {
    /// No such field.
    Absent,
    /// One value, perhaps repeated.
    Value(&'a [u8]),
    /// Lines that contradict each other.
    Conflict,
}

#[cfg(test)]
mod tests;

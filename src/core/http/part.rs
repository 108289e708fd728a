//! A stored part of a representation: what a 206 brought (RFC 9111 s3.3, s3.4). It answers requests for what lies inside it, grows
//! by what touches it under the same strong validator, and asks for the one piece that is missing. Which routes store parts is
//! [`crate::core::admit`]'s business: strong ones never do (R7).

use crate::core::http::etag;
use crate::core::http::range::{self, Cut, Selection};
use crate::core::http::stored::Meta;
use crate::core::http::syntax::digits;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};

/// Which bytes of a representation are stored.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// These.
    pub cut: Cut,
    /// The length of the whole representation; at least `cut.end`.
    pub length: u64,
}

/// What of a representation is not stored, when it is one piece at one of its ends.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The bytes before this one.
    Before(u64),
    /// This byte, and those that follow it.
    From(u64),
}

impl Part {
    /// What a 206 says it brings; none when it does not say it in full, or brings several parts.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let mut lines = headers.get_all(CONTENT_RANGE).iter();
        let (line, second) = (lines.next()?, lines.next());
        let part = second.is_none().then(|| Self::parse(line.as_bytes()))??;
        let several = headers.get(CONTENT_TYPE).is_some_and(is_multipart);
        // RFC 9110 s8.6: it tells the size of what comes, and must agree.
        let mut sizes = headers.get_all(CONTENT_LENGTH).iter();
        let agrees = sizes.all(|size| digits(size.as_bytes()) == Some(part.cut.size()));
        (agrees && !several).then_some(part)
    }

    /// RFC 9110 s14.4: `bytes first-last/length`, all three known.
    fn parse(value: &[u8]) -> Option<Self> {
        let (unit, rest) = value.split_at_checked(6)?;
        let dash = rest.iter().position(|b| *b == b'-')?;
        let slash = rest.iter().position(|b| *b == b'/')?;
        let first = digits(rest.get(..dash)?)?;
        let last = digits(rest.get(dash + 1..slash)?)?;
        let length = digits(rest.get(slash + 1..)?)?;
        let is_one = unit.eq_ignore_ascii_case(b"bytes ") && first <= last && last < length && length < u64::MAX;
        is_one.then_some(Self {
            cut: Cut {
                start: first,
                end: last + 1,
            },
            length,
        })
    }

    /// RFC 9111 s3.3: the bytes a request asks for, when they lie inside what is stored; `meta` is of the part. Several ranges, and an
    /// `If-Range` that does not hold, want more than it has.
    #[must_use]
    pub fn answers(&self, method: &Method, request: &HeaderMap, meta: &Meta) -> Option<Cut> {
        match range::select(method, request, meta, self.length, false) {
            Selection::Part(cut) if self.cut.holds(cut) => Some(cut),
            Selection::Part(_) | Selection::Several(_) | Selection::Whole | Selection::Unsatisfiable => None,
        }
    }

    /// The one piece that would make it whole; none when two are missing.
    #[must_use]
    pub const fn missing(&self) -> Option<Missing> {
        match (self.cut.start, self.cut.end) {
            (0, end) if end < self.length => Some(Missing::From(end)),
            (start, end) if start > 0 && end >= self.length => Some(Missing::Before(start)),
            _ => None,
        }
    }

    /// RFC 9111 s3.4: both together, when they leave no gap.
    #[must_use]
    pub fn with(&self, other: Self) -> Option<Self> {
        (self.length == other.length && self.cut.is_near(other.cut, 1)).then(|| Self {
            cut: self.cut.hull(other.cut),
            length: self.length,
        })
    }

    /// Whether nothing is missing.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.cut.start == 0 && self.cut.end == self.length
    }
}

impl Missing {
    /// The `Range` that asks for it.
    #[must_use]
    pub fn range(self) -> HeaderValue {
        let text = match self {
            Self::Before(end) => format!("bytes=0-{}", end.saturating_sub(1)),
            Self::From(start) => format!("bytes={start}-"),
        };
        HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("bytes=0-"))
    }
}

/// RFC 9111 s3.4: whether an answer may be combined with a stored part: the same strong validator, and nothing that says the bytes
/// were coded otherwise.
#[must_use]
pub fn is_of_one(meta: &Meta, stored: &HeaderMap, answer: &HeaderMap) -> bool {
    let same = |name| stored.get_all(name).iter().eq(answer.get_all(name));
    let (Some(old), Some(new)) = (&meta.etag, etag::of(answer)) else {
        return false;
    };
    old.strongly_equals(&new) && same(&CONTENT_ENCODING)
}

/// RFC 9111 s3.4: two parts of one representation as one of at most `max` bytes, with their bytes. None when they leave a gap, when
/// the first adds nothing to the second, or when they differ where they overlap, whatever their validators say.
#[must_use]
pub fn joined(had: (Part, &[u8]), came: (Part, &[u8]), max: u64) -> Option<(Part, Vec<u8>)> {
    let part = had
        .0
        .with(came.0)
        .filter(|part| part.cut.size() <= max && *part != came.0)?;
    let old = |from: u64, to: u64| -> Option<&[u8]> {
        let cut = had.0.cut;
        let (from, to) = (from.clamp(cut.start, cut.end), to.clamp(cut.start, cut.end));
        had.1.get(offset(cut, from)?..offset(cut, to)?)
    };
    let cut = came.0.cut;
    let shared = had.0.cut;
    let (from, to) = (cut.start.max(shared.start), cut.end.min(shared.end));
    if from < to && came.1.get(offset(cut, from)?..offset(cut, to)?) != old(from, to) {
        return None;
    }
    let mut bytes = Vec::with_capacity(usize::try_from(part.cut.size()).ok()?);
    bytes.extend_from_slice(old(0, cut.start)?);
    bytes.extend_from_slice(came.1);
    bytes.extend_from_slice(old(cut.end, u64::MAX)?);
    (bytes.len() as u64 == part.cut.size()).then_some((part, bytes))
}

/// Where in a part's bytes one of the representation stands.
fn offset(cut: Cut, at: u64) -> Option<usize> {
    usize::try_from(at.checked_sub(cut.start)?).ok()
}

fn is_multipart(value: &HeaderValue) -> bool {
    let prefix = b"multipart/byteranges";
    value
        .as_bytes()
        .get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

#[cfg(test)]
mod tests;

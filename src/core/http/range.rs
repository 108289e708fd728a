//! What a client's `Range` and `If-Range` select of a representation (RFC 9110 s14): a range, several, nothing, or all of it. Which
//! bytes of the representation are stored is not asked here. Invariant: what is selected lies inside the representation.

use crate::core::http::dates;
use crate::core::http::etag;
use crate::core::http::stored::Meta;
use crate::core::http::syntax::{Single, single, trim_ows};
use crate::core::rules::Rule;
use crate::core::time::WallTime;
use http::header::{IF_RANGE, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

/// RFC 9110 s8.8.2.2: a modification date is a strong validator only when it lies this far before `Date`.
pub const STRONG_DATE_MS: i64 = 1000;

mod set;

/// Bytes of a representation, at least one.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The first byte.
    pub start: u64,
    /// One past the last byte; above `start`.
    pub end: u64,
}

impl Cut {
    /// How many bytes.
    #[must_use]
    pub const fn size(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether all of `other` lies in it.
    #[must_use]
    pub const fn holds(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// Whether less than `gap` bytes lie between the two. With a gap of 1: they overlap or follow each other.
    #[must_use]
    pub const fn is_near(self, other: Self, gap: u64) -> bool {
        self.start < other.end.saturating_add(gap) && other.start < self.end.saturating_add(gap)
    }

    /// From the first byte of both to the last.
    #[must_use]
    pub fn hull(self, other: Self) -> Self {
        Self {
            start: self.start.min(other.start),
            end: self.end.max(other.end),
        }
    }
}

/// What of a representation to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All of it, with its own status.
    Whole,
    /// These bytes, as a 206.
    Part(Cut),
    /// These, as a 206 of several parts, in this order: two or more, none near another.
    Several(Box<[Cut]>),
    /// Nothing: 416.
    Unsatisfiable,
}

/// What `Range` and `If-Range` select of a representation of `length` bytes, of all or a part of which `meta` tells. On strong routes
/// an `If-Range` with a date never holds (R5c).
#[must_use]
pub fn select(method: &Method, headers: &HeaderMap, meta: &Meta, length: u64, strong: bool) -> Selection {
    if !headers.contains_key(RANGE) || *method != Method::GET {
        return Selection::Whole; // RFC 9110 s14.2: only for GET
    }
    if meta.status != StatusCode::OK && meta.part.is_none() {
        return Selection::Whole;
    }
    if !if_range_holds(headers, meta, strong) {
        return Selection::Whole;
    }
    match single(headers, &RANGE) {
        Single::Value(value) => set::select(value, length),
        Single::Absent | Single::Conflict => Selection::Whole,
    }
}

/// The one range a request asks for, as it stands in the field, when it asks for one and on no condition.
#[must_use]
pub fn one_unconditional(method: &Method, headers: &HeaderMap) -> Option<HeaderValue> {
    if *method != Method::GET || headers.contains_key(IF_RANGE) {
        return None;
    }
    let mut lines = headers.get_all(RANGE).iter();
    let (line, second) = (lines.next()?, lines.next());
    (second.is_none() && set::is_one(trim_ows(line.as_bytes()))).then(|| line.clone())
}

/// Digests of a message's content as it was sent (RFC 9530 s2, RFC 1864): they say nothing of other content.
static OF_THE_CONTENT: [HeaderName; 2] = [
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("content-md5"),
];

/// Drops what was said of the content as it came, from the fields of an answer that has other content: a part of it, or more.
/// `Repr-Digest` (RFC 9530 s3) stays: it is of the whole representation either way.
pub fn drop_content_digests(headers: &mut HeaderMap) {
    for name in &OF_THE_CONTENT {
        headers.remove(name);
    }
}

/// `Content-Range` of a 206.
#[must_use]
pub fn content_range(cut: Cut, length: u64) -> HeaderValue {
    value(&content_range_text(cut, length))
}

/// The same, as a text.
#[must_use]
pub fn content_range_text(cut: Cut, length: u64) -> String {
    format!("bytes {}-{}/{length}", cut.start, cut.end.saturating_sub(1))
}

/// `Content-Range` of a 416.
#[must_use]
pub fn unsatisfied_range(length: u64) -> HeaderValue {
    value(&format!("bytes */{length}"))
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("bytes */*"))
}

/// RFC 9110 s13.1.5: a strong ETag that equals, or exactly the modification date, where that is a strong validator.
fn if_range_holds(headers: &HeaderMap, meta: &Meta, strong: bool) -> bool {
    let strong = strong && Rule::R5c.holds();
    let mut lines = headers.get_all(IF_RANGE).iter();
    let Some(line) = lines.next() else {
        return true;
    };
    if lines.next().is_some() {
        return false;
    }
    if let Some(named) = etag::parse(line) {
        return meta.etag.as_ref().is_some_and(|stored| named.strongly_equals(stored));
    }
    let is_strong_date = |at: WallTime| meta.date.as_millis().saturating_sub(at.as_millis()) >= STRONG_DATE_MS;
    !strong && dates::parse(line.as_bytes()).is_some_and(|at| meta.last_modified == Some(at) && is_strong_date(at))
}

#[cfg(test)]
mod tests;

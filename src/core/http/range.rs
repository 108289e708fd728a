//! Ranges cut from a complete stored answer (RFC 9110 s14): single, open and suffix. Several ranges are answered whole, which a
//! server may always do.

use crate::core::http::dates;
use crate::core::http::etag;
use crate::core::http::stored::Meta;
use crate::core::http::syntax::{Single, digits, single, trim_ows};
use crate::core::time::WallTime;
use http::header::{IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

/// RFC 9110 s8.8.2.2: a modification date is a strong validator only when it lies this far before `Date`.
const STRONG_DATE_MS: i64 = 1000;

/// What of a stored body to send.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// All of it, with its own status.
    Whole,
    /// The bytes from `start` up to, not including, `end`, as a 206.
    Part {
        /// The first byte.
        start: u64,
        /// One past the last byte; above `start`.
        end: u64,
    },
    /// Nothing: 416.
    Unsatisfiable,
}

/// What `Range` and `If-Range` select of a stored body of `length` bytes. On strong routes an `If-Range` with a date never holds (R5c).
#[must_use]
pub fn select(method: &Method, headers: &HeaderMap, meta: &Meta, length: u64, strong: bool) -> Selection {
    if !headers.contains_key(RANGE) || *method != Method::GET || meta.status != StatusCode::OK {
        return Selection::Whole;
    }
    if !if_range_holds(headers, meta, strong) {
        return Selection::Whole;
    }
    match single(headers, &RANGE) {
        Single::Value(value) => parse(value, length),
        Single::Absent | Single::Conflict => Selection::Whole,
    }
}

/// `Content-Range` of a 206.
#[must_use]
pub fn content_range(start: u64, end: u64, length: u64) -> HeaderValue {
    value(&format!("bytes {start}-{}/{length}", end.saturating_sub(1)))
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

/// RFC 9110 s14.1.2 and s14.2. What is malformed, and several ranges, count as no Range at all.
fn parse(value: &[u8], length: u64) -> Selection {
    let Some(at) = value.iter().position(|b| *b == b'=') else {
        return Selection::Whole;
    };
    let (Some(unit), Some(set)) = (value.get(..at), value.get(at + 1..)) else {
        return Selection::Whole;
    };
    if !unit.eq_ignore_ascii_case(b"bytes") {
        return Selection::Whole;
    }
    let set = trim_ows(set);
    let Some(dash) = set.iter().position(|b| *b == b'-') else {
        return Selection::Whole;
    };
    let (first, last) = (
        set.get(..dash).unwrap_or_default(),
        set.get(dash + 1..).unwrap_or_default(),
    );
    match (first, digits(first), last, digits(last)) {
        ([], _, _, Some(suffix)) => cut_suffix(suffix, length),
        (_, Some(first), [], _) => cut(first, u64::MAX, length),
        (_, Some(first), _, Some(last)) if first <= last => cut(first, last, length),
        _ => Selection::Whole,
    }
}

fn cut(first: u64, last: u64, length: u64) -> Selection {
    if first >= length {
        return Selection::Unsatisfiable;
    }
    Selection::Part {
        start: first,
        end: last.saturating_add(1).min(length),
    }
}

fn cut_suffix(suffix: u64, length: u64) -> Selection {
    if suffix == 0 {
        Selection::Unsatisfiable
    } else if length == 0 {
        Selection::Whole // satisfiable, but a Content-Range cannot say it
    } else {
        Selection::Part {
            start: length.saturating_sub(suffix),
            end: length,
        }
    }
}

#[cfg(test)]
mod tests;

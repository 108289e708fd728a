//! The `Range` field itself (RFC 9110 s14.1.2, s14.2): its specs, and what they come to when they are many. A request must not make an
//! answer that costs more than the whole (s17.15), so many or overlapping ranges are no Range at all.

use super::{Cut, Selection};
use crate::core::http::syntax::{digits, trim_ows};
use smallvec::SmallVec;

/// More specs than this are not read.
const MAX_SPECS: usize = 64;

/// More parts than this, once near ones are one, are not sent.
const MAX_PARTS: usize = 16;

/// RFC 9110 s14.2: more than two ranges that overlap are somebody's attack.
const MAX_OVERLAPPING: usize = 2;

/// RFC 9110 s15.3.7.2: ranges with less than this between them are sent as one; a part of its own costs about as much.
const PART_OVERHEAD: u64 = 80;

/// What one spec comes to.
enum Spec {
    Cut(Cut),
    Unsatisfiable,
    /// Satisfiable, but of nothing: a Content-Range cannot say it.
    Nothing,
    Malformed,
}

/// What the field selects of `length` bytes. What is malformed, and what costs more than it is worth, counts as no Range at all.
pub(super) fn select(value: &[u8], length: u64) -> Selection {
    let Some(set) = of_bytes(value) else {
        return Selection::Whole;
    };
    if set.contains(&b',') {
        return several(set, length);
    }
    match spec(set, length) {
        Spec::Cut(cut) => Selection::Part(cut),
        Spec::Unsatisfiable => Selection::Unsatisfiable,
        Spec::Nothing | Spec::Malformed => Selection::Whole,
    }
}

/// Whether the field names one range of bytes, satisfiable or not.
pub(super) fn is_one(value: &[u8]) -> bool {
    of_bytes(value).is_some_and(|set| !set.contains(&b',') && !matches!(spec(set, u64::MAX), Spec::Malformed))
}

/// What follows `bytes=`.
fn of_bytes(value: &[u8]) -> Option<&[u8]> {
    let at = value.iter().position(|b| *b == b'=')?;
    let (unit, set) = (value.get(..at)?, value.get(at + 1..)?);
    unit.eq_ignore_ascii_case(b"bytes").then(|| trim_ows(set))
}

fn several(set: &[u8], length: u64) -> Selection {
    let mut asked: SmallVec<[Cut; MAX_PARTS]> = SmallVec::new();
    let mut parts: SmallVec<[Cut; MAX_PARTS]> = SmallVec::new();
    let (mut specs, mut overlapping) = (0, 0);
    // RFC 9110 s5.6.1.2: empty members count for nothing.
    let members = set.split(|b| *b == b',').map(trim_ows).filter(|m| !m.is_empty());
    for member in members {
        specs += 1;
        if specs > MAX_SPECS {
            return Selection::Whole;
        }
        match spec(member, length) {
            Spec::Cut(cut) => {
                overlapping += asked.iter().filter(|other| cut.is_near(**other, 0)).count();
                asked.push(cut);
                add(&mut parts, cut);
            }
            Spec::Unsatisfiable => {}
            Spec::Nothing | Spec::Malformed => return Selection::Whole,
        }
    }
    // One pair overlaps: two ranges do.
    if overlapping >= MAX_OVERLAPPING || parts.len() > MAX_PARTS || specs == 0 {
        return Selection::Whole;
    }
    match *parts {
        [] => Selection::Unsatisfiable,
        [one] => Selection::Part(one),
        _ => Selection::Several(parts.into_boxed_slice()),
    }
}

/// Adds a range at its place, or at that of the first range that is near it, with all that are.
fn add(parts: &mut SmallVec<[Cut; MAX_PARTS]>, cut: Cut) {
    let (mut cut, mut place) = (cut, parts.len());
    while let Some(near) = parts.iter().position(|other| cut.is_near(*other, PART_OVERHEAD)) {
        cut = cut.hull(parts.remove(near));
        place = place.min(near);
    }
    parts.insert(place.min(parts.len()), cut);
}

fn spec(spec: &[u8], length: u64) -> Spec {
    let Some(dash) = spec.iter().position(|b| *b == b'-') else {
        return Spec::Malformed;
    };
    let (first, last) = (
        spec.get(..dash).unwrap_or_default(),
        spec.get(dash + 1..).unwrap_or_default(),
    );
    match (first, digits(first), last, digits(last)) {
        ([], _, _, Some(suffix)) => from_suffix(suffix, length),
        (_, Some(first), [], _) => from_first(first, u64::MAX, length),
        (_, Some(first), _, Some(last)) if first <= last => from_first(first, last, length),
        _ => Spec::Malformed,
    }
}

fn from_first(first: u64, last: u64, length: u64) -> Spec {
    if first >= length {
        return Spec::Unsatisfiable;
    }
    Spec::Cut(Cut {
        start: first,
        end: last.saturating_add(1).min(length),
    })
}

fn from_suffix(suffix: u64, length: u64) -> Spec {
    if suffix == 0 {
        Spec::Unsatisfiable
    } else if length == 0 {
        Spec::Nothing
    } else {
        Spec::Cut(Cut {
            start: length.saturating_sub(suffix),
            end: length,
        })
    }
}

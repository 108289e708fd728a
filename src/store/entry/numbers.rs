//! The numbers among a stored answer's facts, in a quarter of the memory that [`Meta`] takes: instants close to one another are told by
//! their distance, spans in the coarsest unit that tells them exactly.
//!
//! Invariant: what is told is what was given, to the microsecond. What cannot be told so has none ([`Numbers::of`]).

use crate::core::failover::view::Epoch;
use crate::core::http::part::Part;
use crate::core::http::stored::{Etag, Facts, Meta, Validator, Vary};
use crate::core::time::{MonoTime, Span, WallTime};
use http::StatusCode;
use std::ops::Range;

/// Nothing, where a number may be absent.
const NONE: u32 = u32::MAX;

/// [`Span::MAX`].
const LONGEST: u32 = u32::MAX - 1;

/// The two highest bits of a span tell its unit: milliseconds, tenths of a second, seconds.
const UNITS: [u64; 3] = [1, 100, 1000];
const UNIT_BITS: u32 = 30;

/// The highest bit of a distance tells milliseconds from microseconds.
const COARSE: u32 = 1 << 31;

const MUST_REVALIDATE: u8 = 1;
const NO_CACHE: u8 = 1 << 1;
const SHAREABLE: u8 = 1 << 2;
const PROVEN: u8 = 1 << 3;
const TAG: u8 = 1 << 4;
const WEAK: u8 = 1 << 5;

#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Numbers {
    /// In microseconds; so are the distances from it, as long as they are short.
    sent: u64,
    epoch: u64,
    received_after: u32,
    valid_before: u32,
    initial_age: u32,
    lifetime: u32,
    stale_while_revalidate: u32,
    stale_if_error: u32,
    /// In seconds since 1970, and the rest of the date's in milliseconds.
    last_modified: u32,
    date: u32,
    date_ms: u16,
    status: StatusCode,
    marks: u8,
    /// [`TagAt`]: where in the head, and how long; of no length: nowhere, or in the shape.
    tag_length: u8,
    tag_at: u16,
}

/// Where in the packed head the text of its tag is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TagAt {
    /// In one of its fields.
    Fields,
    /// Among its bytes.
    Bytes(Range<usize>),
    /// Among what its shape says.
    Shape,
}

/// In place of where it is.
const IN_SHAPE: u16 = u16::MAX;

impl Numbers {
    /// Those of these facts; none where one cannot be told exactly. What requests it fits, which part it is and the text of its tag are
    /// kept elsewhere.
    pub(super) fn of(meta: &Meta) -> Option<Self> {
        let Meta {
            status,
            part: _,
            sent,
            epoch,
            received,
            initial_age,
            lifetime,
            valid_as_of,
            stale_while_revalidate,
            stale_if_error,
            must_revalidate,
            no_cache,
            ref etag,
            last_modified,
            date,
            vary: _,
            shareable,
            proven,
        } = *meta;
        let mark = |is: bool, mark: u8| if is { mark } else { 0 };
        let (seconds, ms) = (date.as_millis().div_euclid(1000), date.as_millis().rem_euclid(1000));
        Some(Self {
            sent: sent.as_micros(),
            received_after: distance(sent, received)?,
            valid_before: if valid_as_of == MonoTime::default() {
                NONE
            } else {
                distance(valid_as_of, sent)?
            },
            epoch: epoch.0,
            initial_age: span(initial_age)?,
            lifetime: span(lifetime)?,
            stale_while_revalidate: span(stale_while_revalidate)?,
            stale_if_error: stale_if_error.map_or(Some(NONE), span)?,
            last_modified: last_modified.map_or(Some(NONE), whole_seconds)?,
            date: u32::try_from(seconds).ok()?,
            date_ms: u16::try_from(ms).ok()?,
            status,
            marks: mark(must_revalidate, MUST_REVALIDATE)
                | mark(no_cache, NO_CACHE)
                | mark(shareable, SHAREABLE)
                | mark(proven, PROVEN)
                | mark(etag.is_some(), TAG)
                | mark(etag.as_ref().is_some_and(|etag| etag.weak), WEAK),
            tag_length: 0,
            tag_at: 0,
        })
    }

    #[inline]
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// Whether it has a tag, and whether that is weak.
    #[inline]
    pub(super) fn tag(&self) -> Option<bool> {
        (self.marks & TAG != 0).then_some(self.marks & WEAK != 0)
    }

    #[inline]
    pub(super) fn tag_at(&self) -> TagAt {
        match (self.tag_at, self.tag_length) {
            (IN_SHAPE, 0) => TagAt::Shape,
            (_, 0) => TagAt::Fields,
            (at, length) => TagAt::Bytes(usize::from(at)..usize::from(at) + usize::from(length)),
        }
    }

    /// The same facts of a head in which the text of its tag is there.
    pub(super) fn with_tag_at(mut self, place: TagAt) -> Self {
        let told = match place {
            TagAt::Fields => None,
            TagAt::Bytes(at) => u16::try_from(at.start).ok().zip(u8::try_from(at.len()).ok()),
            TagAt::Shape => Some((IN_SHAPE, 0)),
        };
        (self.tag_at, self.tag_length) = told.unwrap_or_default();
        self
    }

    /// Always inlined: each caller wants a few of them, and pays for no other.
    #[inline(always)]
    pub(super) fn facts(&self, part: Option<Part>) -> Facts {
        let sent = MonoTime::from_micros(self.sent);
        let is = |mark: u8| self.marks & mark != 0;
        Facts {
            status: self.status,
            part,
            sent,
            epoch: Epoch(self.epoch),
            received: MonoTime::from_micros(self.sent + micros(self.received_after)),
            initial_age: of_span(self.initial_age),
            lifetime: of_span(self.lifetime),
            valid_as_of: if self.valid_before == NONE {
                MonoTime::default()
            } else {
                MonoTime::from_micros(self.sent - micros(self.valid_before))
            },
            stale_while_revalidate: of_span(self.stale_while_revalidate),
            stale_if_error: (self.stale_if_error != NONE).then(|| of_span(self.stale_if_error)),
            must_revalidate: is(MUST_REVALIDATE),
            no_cache: is(NO_CACHE),
            validator: match (is(TAG), is(WEAK)) {
                (true, false) => Validator::Strong,
                (true, true) => Validator::Weak,
                (false, _) if self.last_modified != NONE => Validator::Date,
                (false, _) => Validator::None,
            },
            shareable: is(SHAREABLE),
            proven: is(PROVEN),
        }
    }

    /// All the facts, with those that are kept elsewhere.
    pub(super) fn meta(&self, part: Option<Part>, vary: Vary, etag: Option<Etag>) -> Meta {
        let facts = self.facts(part);
        let seconds = |s: u32| i64::from(s) * 1000;
        Meta {
            status: facts.status,
            part,
            sent: facts.sent,
            epoch: facts.epoch,
            received: facts.received,
            initial_age: facts.initial_age,
            lifetime: facts.lifetime,
            valid_as_of: facts.valid_as_of,
            stale_while_revalidate: facts.stale_while_revalidate,
            stale_if_error: facts.stale_if_error,
            must_revalidate: facts.must_revalidate,
            no_cache: facts.no_cache,
            etag,
            last_modified: (self.last_modified != NONE).then(|| WallTime::from_millis(seconds(self.last_modified))),
            date: WallTime::from_millis(seconds(self.date) + i64::from(self.date_ms)),
            vary,
            shareable: facts.shareable,
            proven: facts.proven,
        }
    }
}

fn span(span: Span) -> Option<u32> {
    if span == Span::MAX {
        return Some(LONGEST);
    }
    let ms = span.as_millis();
    UNITS.iter().zip(0..).find_map(|(unit, at)| {
        let fits = ms.is_multiple_of(*unit) && ms / unit < 1 << UNIT_BITS;
        fits.then(|| u32::try_from(ms / unit).ok().map(|n| at << UNIT_BITS | n))?
    })
}

#[inline]
fn of_span(code: u32) -> Span {
    let n = u64::from(code & ((1 << UNIT_BITS) - 1));
    match code >> UNIT_BITS {
        0 => Span::from_millis(n),
        1 => Span::from_millis(n * 100),
        2 => Span::from_millis(n * 1000),
        _ => Span::MAX,
    }
}

fn distance(earlier: MonoTime, later: MonoTime) -> Option<u32> {
    let us = later.as_micros().checked_sub(earlier.as_micros())?;
    let code = |n: u64| u32::try_from(n).ok().filter(|n| *n < COARSE);
    code(us).or_else(|| {
        let ms = code(us / 1000).filter(|_| us.is_multiple_of(1000))?;
        Some(COARSE | ms).filter(|code| *code != NONE)
    })
}

#[inline]
fn micros(distance: u32) -> u64 {
    if distance & COARSE == 0 {
        u64::from(distance)
    } else {
        u64::from(distance & !COARSE) * 1000
    }
}

fn whole_seconds(at: WallTime) -> Option<u32> {
    let seconds = u32::try_from(at.as_millis().div_euclid(1000)).ok()?;
    (at.as_millis().rem_euclid(1000) == 0 && seconds != NONE).then_some(seconds)
}

#[cfg(test)]
#[path = "numbers/tests.rs"] // named, as the file above is
mod tests;

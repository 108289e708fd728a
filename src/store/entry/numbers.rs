//! The numbers among a stored answer's facts, in a quarter of the memory that [`Meta`] takes: instants close to one another are told by
//! their distance, spans in the coarsest unit that tells them exactly.
//!
//! Invariant: what is told is what was given, to the microsecond. What cannot be told so has none ([`Numbers::of`]).

use crate::core::failover::view::Epoch;
use crate::core::http::part::Part;
use crate::core::http::stored::{Etag, Facts, Meta, Validator, Vary};
use crate::core::time::{MonoTime, Span, WallTime};
use http::StatusCode;

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
}

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
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::core::http::testing::meta;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000;

    /// The facts that came back, where they could be told.
    fn back(meta: &Meta) -> Option<Meta> {
        let numbers = Numbers::of(meta)?;
        assert_eq!(numbers.facts(meta.part), meta.facts());
        assert_eq!(numbers.tag(), meta.etag.as_ref().map(|etag| etag.weak));
        Some(numbers.meta(meta.part, meta.vary.clone(), meta.etag.clone()))
    }

    fn spans() -> impl Strategy<Value = Span> {
        prop_oneof![
            any::<u64>().prop_map(Span::from_millis),
            (0..5_000_000_u64).prop_map(Span::from_secs),
            (0..40_000_000_u64).prop_map(|n| Span::from_millis(n * 100)),
            (0..5_000_000_000_u64).prop_map(Span::from_millis),
            Just(Span::MAX),
        ]
    }

    fn walls() -> impl Strategy<Value = WallTime> {
        prop_oneof![
            any::<i64>().prop_map(WallTime::from_millis),
            (-10..4_294_967_400_i64).prop_map(|s| WallTime::from_millis(s * 1000)),
        ]
    }

    proptest! {
        #[test]
        fn numbers_come_back_as_they_were_given_or_are_not_taken(
            (sent, after, before) in (0..1_u64 << 50, 0..1_u64 << 43, prop_oneof![0..1_u64 << 33, (0..1_u64 << 33).prop_map(|ms| ms * 1000)]),
            (epoch, status, marks) in (prop_oneof![0..9_u64, any::<u64>()], 100..600_u16, any::<[bool; 4]>()),
            (initial_age, lifetime, swr, sie) in (spans(), spans(), spans(), prop::option::of(spans())),
            (last_modified, date, weak) in (prop::option::of(walls()), walls(), prop::option::of(any::<bool>())),
        ) {
            let at = MonoTime::from_micros;
            let given = Meta {
                status: StatusCode::from_u16(status).unwrap(),
                sent: at(sent),
                received: at(sent + after),
                valid_as_of: at(sent.saturating_sub(before)),
                epoch: Epoch(epoch),
                initial_age,
                lifetime,
                stale_while_revalidate: swr,
                stale_if_error: sie,
                must_revalidate: marks[0],
                no_cache: marks[1],
                shareable: marks[2],
                proven: marks[3],
                etag: weak.map(|weak| Etag { value: http::HeaderValue::from_static("\"a\""), weak }),
                last_modified,
                date,
                ..meta()
            };
            if let Some(came) = back(&given) {
                prop_assert_eq!(came, given);
            }
        }
    }

    #[test]
    fn what_answers_have_can_be_told() {
        let at = MonoTime::from_micros;
        let sent = at(7_000_000 * SECOND + 3);
        let plain = || Meta {
            sent,
            received: at(sent.as_micros() + 1234),
            valid_as_of: sent,
            ..meta()
        };
        let long_ago = WallTime::from_millis(300 * 86_400_000);
        for (name, meta) in [
            ("as it comes", plain()),
            (
                "an age of a week, as a cache below tells it",
                Meta {
                    valid_as_of: sent.before(Span::from_secs(604_800)),
                    initial_age: Span::from_millis(604_800_017),
                    ..plain()
                },
            ),
            (
                "a replica that is behind",
                Meta {
                    valid_as_of: sent.before(Span::from_millis(7_200_001)),
                    ..plain()
                },
            ),
            (
                "never known to be current",
                Meta {
                    valid_as_of: MonoTime::default(),
                    ..plain()
                },
            ),
            (
                "a year of lifetime",
                Meta {
                    lifetime: Span::from_secs(31_536_000),
                    ..plain()
                },
            ),
            (
                "a tenth of the time since Last-Modified",
                Meta {
                    lifetime: Span::from_millis(2_592_000_700),
                    last_modified: Some(long_ago),
                    ..plain()
                },
            ),
            (
                "a late epoch",
                Meta {
                    epoch: Epoch(u64::MAX),
                    ..plain()
                },
            ),
            (
                "what the gate proves",
                Meta {
                    lifetime: Span::MAX,
                    stale_if_error: Some(Span::ZERO),
                    ..plain()
                },
            ),
            (
                "without Date: when it was received",
                Meta {
                    date: WallTime::from_millis(1_794_000_000_123),
                    ..plain()
                },
            ),
        ] {
            assert_eq!(back(&meta).as_ref(), Some(&meta), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_told_exactly_is_not_taken() {
        let sent = MonoTime::from_micros(9_000 * SECOND);
        let plain = || Meta {
            sent,
            received: sent,
            valid_as_of: sent,
            ..meta()
        };
        for (name, meta) in [
            (
                "received before it was sent",
                Meta {
                    received: MonoTime::from_micros(1),
                    ..plain()
                },
            ),
            (
                "received an hour later, to the microsecond",
                Meta {
                    received: MonoTime::from_micros(sent.as_micros() + 3_600 * SECOND + 1),
                    ..plain()
                },
            ),
            (
                "current when it was not yet sent",
                Meta {
                    valid_as_of: MonoTime::from_micros(sent.as_micros() + 1),
                    ..plain()
                },
            ),
            (
                "fifty years",
                Meta {
                    lifetime: Span::from_secs(1_576_800_000),
                    ..plain()
                },
            ),
            (
                "before 1970",
                Meta {
                    last_modified: Some(WallTime::from_millis(-1000)),
                    ..plain()
                },
            ),
        ] {
            assert!(back(&meta).is_none(), "{name}");
        }
    }
}

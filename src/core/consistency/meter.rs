//! What a re-read at the primary proves about a hit that came before it: the arithmetic of the consistency meter.
//!
//! A hit served value V at an instant h. Later the primary is asked, and its answer is in at an instant r. If it still says V, the hit was
//! current: V was the value before h and after it. If it says W, the value changed at some instant c before r, and c alone decides whether the hit was stale,
//! by h - c. A re-read does not tell c; it bounds it:
//! - V is known to have been current at `valid_as_of` (R42), so c lies behind that: the hit was stale by at most h - `valid_as_of`.
//! - W existed at the latest when the origin says it was modified. Only the origin's own clock counts: `Date` - `Last-Modified`, less one
//!   second because both are cut to seconds, is how long before its answer W existed at least. So c <= r - that. An instant before
//!   `valid_as_of` is a contradiction: that origin's `Last-Modified` does not tell when it changed, and proves nothing.
//! - An earlier re-read of the same stored answer that came back different, at r0, says that c <= r0.
//!
//! So every re-read gives an interval of staleness, and *stale* is a matter of its lower end: without evidence that the newer value existed before the hit
//! nobody is blamed. The errors that remain: a value that changed and changed back in between (A-B-A) counts as current; an origin whose body differs
//! from answer to answer, without an ETag, differs from everything; the primary is believed to be linearizable by itself. A write
//! through this proxy in between makes a re-read void; that is the caller's to see, at the gate.

use crate::core::http::dates;
use crate::core::http::etag;
use crate::core::http::freshness;
use crate::core::http::stored::Meta;
use crate::core::http::validate;
use crate::core::time::{MonoTime, Span};
use http::header::{DATE, LAST_MODIFIED};
use http::{HeaderMap, StatusCode};
use std::collections::BTreeMap;

/// The time scales on which nines are told.
pub const SCALES: [Span; 3] = [Span::from_secs(1), Span::from_secs(10), Span::from_secs(60)];

/// How many stored answers are remembered to have differed. Beyond, the one stored first is forgotten, which costs evidence only.
pub const MAX_SIGHTINGS: usize = 4096;

/// What the head of a re-read says of what is stored.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The primary still has it.
    Same,
    /// It has something else.
    Differs,
    /// Only the bodies can tell.
    Bodies,
    /// Nothing can be concluded.
    Void,
}

/// Judges the head of a re-read: by strong ETags where both have one, else the bodies decide. `conditional`: it was asked about exactly the stored
/// strong ETag.
#[must_use]
pub fn judge(meta: &Meta, conditional: bool, status: StatusCode, answer: &HeaderMap) -> Verdict {
    if freshness::age_field(answer).is_some_and(|age| age > Span::ZERO) {
        return Verdict::Void; // a cache below answered
    }
    if status == StatusCode::NOT_MODIFIED {
        let same = conditional && validate::confirms(meta, answer, true);
        return if same { Verdict::Same } else { Verdict::Void };
    }
    // As R12b: any other 4xx is about the request, a 5xx says nothing, a 206 was not asked for.
    if !matches!(status.as_u16(), 200..=205 | 207..=303 | 305..=399 | 404 | 410) {
        return Verdict::Void;
    }
    if status != meta.status {
        return Verdict::Differs;
    }
    match (meta.etag.as_ref(), etag::of(answer)) {
        (Some(stored), Some(named)) if !stored.weak && !named.weak => {
            if stored.strongly_equals(&named) {
                Verdict::Same
            } else {
                Verdict::Differs
            }
        }
        _ => Verdict::Bodies,
    }
}

/// How long before it answered the origin had this value at least, by its own clock.
#[must_use]
pub fn existed_for(answer: &HeaderMap) -> Option<Span> {
    let at = |name| dates::field(answer, name).valid();
    let (told, modified) = (at(&DATE)?, at(&LAST_MODIFIED)?);
    (told >= modified).then(|| told.since(modified).minus(Span::from_secs(1)))
}

/// A hit, and what came of asking the primary about it.
#[derive(Copy, Clone, Debug)]
pub struct ReRead {
    /// When the hit was served.
    pub hit: MonoTime,
    /// R42: when what it served is known to have been current.
    pub valid_as_of: MonoTime,
    /// When the primary's answer was in.
    pub told: MonoTime,
    /// Whether it was something else, and how long the primary had had that at least.
    pub newer: Option<Option<Span>>,
    /// When an earlier re-read of the same stored answer was in and had differed.
    pub differed_before: Option<MonoTime>,
}

/// By how much a hit was stale: at least and at most.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Staleness {
    /// Proven.
    pub least: Span,
    /// Not excluded.
    pub most: Span,
}

impl ReRead {
    /// The interval that follows.
    #[must_use]
    pub fn staleness(&self) -> Staleness {
        let Some(existed) = self.newer else {
            return Staleness {
                least: Span::ZERO,
                most: Span::ZERO,
            };
        };
        let dated = existed.map(|existed| self.told.before(existed));
        let dated = dated.filter(|changed| *changed >= self.valid_as_of);
        let changed = dated.into_iter().chain(self.differed_before).min();
        let most = self.hit.as_micros().saturating_sub(self.valid_as_of.as_micros());
        let most = Span::from_millis(most.div_ceil(1000));
        Staleness {
            least: changed.map_or(Span::ZERO, |changed| self.hit.since(changed)).min(most),
            most,
        }
    }
}

/// Which stored answers have been seen to differ, and since when.
#[derive(Debug, Default)]
pub struct Sightings(BTreeMap<u64, MonoTime>);

impl Sightings {
    /// Notes what a re-read of a stored answer said, and returns when one first differed before. What is the same again (A-B-A) starts anew.
    pub fn note(&mut self, entry: u64, differs: bool, told: MonoTime) -> Option<MonoTime> {
        if !differs {
            self.0.remove(&entry);
            return None;
        }
        let before = self.0.get(&entry).copied();
        self.0.insert(entry, before.map_or(told, |before| before.min(told)));
        if self.0.len() > MAX_SIGHTINGS {
            self.0.pop_first();
        }
        before
    }
}

/// How a route's re-reads came out.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Re-reads that proved something, or could have.
    pub judged: u64,
    /// Re-reads that proved nothing: a write in between, no usable answer.
    pub void: u64,
    /// By scale.
    pub scales: [Scale; SCALES.len()],
}

/// On one time scale.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Scale {
    /// Hits that were no staler than this.
    pub within: u64,
    /// Hits that were staler, provably.
    pub beyond: u64,
}

impl Tally {
    /// Counts a judged re-read. On a scale that lies inside its interval it counts neither way.
    pub fn add(&mut self, staleness: Staleness) {
        self.judged += 1;
        for (scale, span) in self.scales.iter_mut().zip(SCALES) {
            if staleness.least > span {
                scale.beyond += 1;
            } else if staleness.most <= span {
                scale.within += 1;
            }
        }
    }
}

impl Scale {
    /// The nines of the share that is within: 0.999 is three. With none beyond, what that many hits can show at the most. None without any.
    #[must_use]
    pub fn nines(&self) -> Option<f64> {
        let all = self.within + self.beyond;
        (all > 0).then(|| (all as f64 / self.beyond.max(1) as f64).log10())
    }
}

#[cfg(test)]
mod tests;

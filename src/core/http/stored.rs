//! What is known of a stored answer: everything a later lookup asks, computed once when it is admitted.

use crate::core::failover::view::Epoch;
use crate::core::http::part::Part;
use crate::core::rules::Rule;
use crate::core::time::{Age, MonoTime, Span, Ttl, WallTime};
use http::{HeaderName, StatusCode};
use std::borrow::Cow;

/// The facts of a stored answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Its status.
    pub status: StatusCode,
    /// Which part of the representation it is, when its status is 206.
    pub part: Option<Part>,
    /// When the request of the attempt that brought it was sent.
    pub sent: MonoTime,
    /// In which epoch of its upstream that was (R53).
    pub epoch: Epoch,
    /// When its head was received.
    pub received: MonoTime,
    /// Its age when it was received (RFC 9111 s4.2.3 corrected_initial_age, on a millisecond clock).
    pub initial_age: Age,
    /// Its freshness lifetime by the route's policy (RFC 9111 s4.2.1).
    pub lifetime: Ttl,
    /// R42: an instant at which it is known to have been current.
    pub valid_as_of: MonoTime,
    /// RFC 5861 s3, by the answer or the route.
    pub stale_while_revalidate: Ttl,
    /// RFC 5861 s4, by the answer or the route; none when neither says.
    pub stale_if_error: Option<Ttl>,
    /// Never to be served stale: `must-revalidate`, `proxy-revalidate`, `s-maxage`.
    pub must_revalidate: bool,
    /// Stored, but validated on every use: `no-cache`.
    pub no_cache: bool,
    /// Its `ETag`, verbatim, when it is well formed.
    pub etag: Option<Etag>,
    /// Its `Last-Modified`, when it parses.
    pub last_modified: Option<WallTime>,
    /// Its `Date`, or when it was received.
    pub date: WallTime,
    /// Which requests it fits.
    pub vary: Vary,
    /// It may answer requests with credentials (RFC 9111 s3.5: `public`, `must-revalidate`, `s-maxage`).
    pub shareable: bool,
    /// Whether no write was pending or unsettled when its fill began, in a gear that proves by the gate (R2): until it is revoked,
    /// nothing has changed since.
    pub proven: bool,
}

impl Meta {
    /// What of it decides about most reads.
    #[must_use]
    #[inline(always)]
    pub fn facts(&self) -> Facts {
        Facts {
            status: self.status,
            part: self.part,
            sent: self.sent,
            epoch: self.epoch,
            received: self.received,
            initial_age: self.initial_age,
            lifetime: self.lifetime,
            valid_as_of: self.valid_as_of,
            stale_while_revalidate: self.stale_while_revalidate,
            stale_if_error: self.stale_if_error,
            must_revalidate: self.must_revalidate,
            no_cache: self.no_cache,
            validator: match &self.etag {
                Some(etag) if etag.weak => Validator::Weak,
                Some(_) => Validator::Strong,
                None if self.last_modified.is_some() => Validator::Date,
                None => Validator::None,
            },
            shareable: self.shareable,
            proven: self.proven,
        }
    }

    /// RFC 9111 s4.2.3 current_age.
    #[must_use]
    #[inline]
    pub fn current_age(&self, now: MonoTime) -> Age {
        self.facts().current_age(now)
    }

    /// R42: how long ago it is known to have been current.
    #[must_use]
    pub fn staleness(&self, now: MonoTime) -> Span {
        self.facts().staleness(now)
    }

    /// Whether the origin can be asked about it: on strong routes only by a strong ETag (R5b).
    #[must_use]
    pub fn can_be_validated(&self, strong: bool) -> bool {
        self.facts().can_be_validated(strong)
    }
}

/// What of a stored answer's facts decides about most reads: numbers and marks, copied out of wherever they are kept.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// [`Meta::status`].
    pub status: StatusCode,
    /// [`Meta::part`].
    pub part: Option<Part>,
    /// [`Meta::sent`].
    pub sent: MonoTime,
    /// [`Meta::epoch`].
    pub epoch: Epoch,
    /// [`Meta::received`].
    pub received: MonoTime,
    /// [`Meta::initial_age`].
    pub initial_age: Age,
    /// [`Meta::lifetime`].
    pub lifetime: Ttl,
    /// [`Meta::valid_as_of`].
    pub valid_as_of: MonoTime,
    /// [`Meta::stale_while_revalidate`].
    pub stale_while_revalidate: Ttl,
    /// [`Meta::stale_if_error`].
    pub stale_if_error: Option<Ttl>,
    /// [`Meta::must_revalidate`].
    pub must_revalidate: bool,
    /// [`Meta::no_cache`].
    pub no_cache: bool,
    /// What the origin can be asked about it with.
    pub validator: Validator,
    /// [`Meta::shareable`].
    pub shareable: bool,
    /// [`Meta::proven`].
    pub proven: bool,
}

/// The best of an answer's validators.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Validator {
    /// It has none.
    None,
    /// `Last-Modified`.
    Date,
    /// A weak `ETag`, with a date or without.
    Weak,
    /// A strong one.
    Strong,
}

impl Facts {
    /// RFC 9111 s4.2.3 current_age.
    #[must_use]
    #[inline]
    pub const fn current_age(&self, now: MonoTime) -> Age {
        self.initial_age.plus(now.since(self.received))
    }

    /// R42: whether it was current at some instant in [now - bound, now], to the microsecond.
    #[must_use]
    #[inline]
    pub fn is_within(&self, now: MonoTime, bound: Ttl) -> bool {
        !Rule::R42.holds() || self.valid_as_of.after(bound).as_micros() >= now.as_micros()
    }

    /// R42: how long ago it is known to have been current, rounded up to the millisecond, so that it exceeds a bound whenever the
    /// exact span does.
    #[must_use]
    #[inline]
    pub const fn staleness(&self, now: MonoTime) -> Span {
        let us = now.as_micros().saturating_sub(self.valid_as_of.as_micros());
        Span::from_millis(us.div_ceil(1000))
    }

    /// Whether the origin can be asked about it: on strong routes only by a strong ETag (R5b).
    #[must_use]
    pub fn can_be_validated(&self, strong: bool) -> bool {
        let strong = strong && Rule::R5b.holds();
        match self.validator {
            Validator::Strong => true,
            Validator::Weak | Validator::Date => !strong,
            Validator::None => false,
        }
    }
}

/// A stored answer as a lookup sees it: its facts, which never change, and what a soft purge has made of them since. A lookup asks
/// once, so that it judges one state of the answer.
pub trait Stored {
    /// What decides about most reads.
    fn facts(&self) -> Facts;

    /// Which requests it fits.
    fn vary(&self) -> &Vary;

    /// Its `ETag` where that is strong, verbatim.
    fn strong_tag(&self) -> Option<&[u8]>;

    /// All its facts, which may have to be put together.
    fn full(&self) -> Cow<'_, Meta>;

    /// When a soft purge ended its freshness; none when none has.
    fn softened(&self) -> Option<MonoTime>;

    /// How long it is fresh: until the lifetime it was stored with is over, and no longer than to its soft purge.
    #[inline]
    fn lifetime(&self) -> Ttl {
        self.lifetime_by(&self.facts())
    }

    /// The same by its own facts, which the caller has read.
    #[inline]
    fn lifetime_by(&self, facts: &Facts) -> Ttl {
        match self.softened() {
            None => facts.lifetime,
            Some(at) => facts.lifetime.min(facts.current_age(at)),
        }
    }

    /// Whole seconds until it is stale; negative since when it is (RFC 9211 s2.4 `ttl`). None where no lifetime ends it: what the gate
    /// proves does not go stale.
    fn ttl_seconds(&self, now: MonoTime) -> Option<i64> {
        let facts = self.facts();
        seconds_left(facts.current_age(now), self.lifetime_by(&facts))
    }
}

/// Whole seconds of a lifetime that are left at some age, as [`Stored::ttl_seconds`] tells them.
#[must_use]
#[inline]
pub fn seconds_left(age: Age, lifetime: Ttl) -> Option<i64> {
    if lifetime == Ttl::MAX {
        return None;
    }
    let seconds = |span: Span| i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    Some(if lifetime >= age {
        seconds(lifetime.minus(age))
    } else {
        -seconds(age.minus(lifetime))
    })
}

/// Facts alone: nothing has been purged.
impl Stored for Meta {
    #[inline]
    fn facts(&self) -> Facts {
        self.facts()
    }

    #[inline]
    fn vary(&self) -> &Vary {
        &self.vary
    }

    fn strong_tag(&self) -> Option<&[u8]> {
        self.etag.as_ref()?.strong()
    }

    fn full(&self) -> Cow<'_, Meta> {
        Cow::Borrowed(self)
    }

    fn softened(&self) -> Option<MonoTime> {
        None
    }
}

impl<T: Stored> Stored for &T {
    #[inline]
    fn facts(&self) -> Facts {
        (**self).facts()
    }

    #[inline]
    fn vary(&self) -> &Vary {
        (**self).vary()
    }

    fn strong_tag(&self) -> Option<&[u8]> {
        (**self).strong_tag()
    }

    fn full(&self) -> Cow<'_, Meta> {
        (**self).full()
    }

    fn softened(&self) -> Option<MonoTime> {
        (**self).softened()
    }
}

/// An entity tag (RFC 9110 s8.8.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Etag {
    /// The whole field value, with quotes and `W/`.
    pub value: http::HeaderValue,
    /// Whether it is weak.
    pub weak: bool,
}

impl Etag {
    /// The whole field value of a strong one.
    #[must_use]
    pub fn strong(&self) -> Option<&[u8]> {
        (!self.weak).then(|| self.value.as_bytes())
    }
}

/// Which requests an answer fits (RFC 9111 s4.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Vary {
    /// Every request for its key.
    #[default]
    Any,
    /// Requests whose normalised values of these fields equal the stored ones; none: the field was absent.
    Fields(Box<[(HeaderName, Option<Box<str>>)]>),
}

/// RFC 9110 s6.4.1.
#[must_use]
pub fn has_no_body(status: StatusCode) -> bool {
    status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

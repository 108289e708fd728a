//! How long an answer may be used and how old it is (RFC 9111 s4.2), on a millisecond clock; and by which instant it is known to
//! have been current (R42). Reads no clock: the instants come with the answer.

use crate::core::http::dates::{self, DateField};
use crate::core::http::directives::ResponseDirectives;
use crate::core::http::storable::is_heuristically_cacheable;
use crate::core::http::syntax::{delta_seconds, members};
use crate::core::policy::{Caching, OriginTtl};
use crate::core::time::{Age, MonoTime, Span, Ttl, WallTime};
use http::header::{AGE, EXPIRES, LAST_MODIFIED};
use http::{HeaderMap, StatusCode};

/// R42: `Age` is whole seconds, so an answer may be up to this much older than it says.
const AGE_RESOLUTION: Span = Span::from_secs(1);

/// What the origin says about an answer's lifetime (RFC 9111 s4.2.1).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum OriginLifetime {
    /// `s-maxage`, `max-age` or `Expires`; zero when what it says is no time.
    Explicit(Ttl),
    /// Nothing, and a cache may choose (RFC 9111 s4.2.2): a tenth of the time since `Last-Modified`, when there is one.
    Heuristic(Option<Ttl>),
    /// Nothing, and a cache may not choose.
    None,
}

/// What an origin's lifetime is read from.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `s-maxage`.
    SMaxage(Ttl),
    /// `max-age`.
    MaxAge(Ttl),
    /// `Expires`.
    Expires(WallTime),
    /// An `Expires` that is no date: stale at once.
    InvalidExpires,
    /// Nothing, and a cache may choose, by `Last-Modified` when there is one (RFC 9111 s4.2.2).
    Heuristic(Option<WallTime>),
    /// Nothing, and a cache may not choose.
    Nothing,
}

/// RFC 9111 s4.2.1: the first of `s-maxage`, `max-age`, `Expires` and a heuristic that there is.
#[must_use]
pub fn source(status: StatusCode, headers: &HeaderMap, directives: &ResponseDirectives) -> Source {
    if let Some(seconds) = directives.s_maxage {
        return Source::SMaxage(seconds);
    }
    if let Some(seconds) = directives.max_age {
        return Source::MaxAge(seconds);
    }
    let expires = if directives.targeted {
        DateField::Absent // RFC 9213 s2.2
    } else {
        dates::field(headers, &EXPIRES)
    };
    match expires {
        DateField::At(expires) => return Source::Expires(expires),
        DateField::Invalid => return Source::InvalidExpires,
        DateField::Absent => {}
    }
    if !directives.public && !is_heuristically_cacheable(status) {
        return Source::Nothing;
    }
    Source::Heuristic(dates::field(headers, &LAST_MODIFIED).valid())
}

/// RFC 9111 s4.2.1: `s-maxage`, `max-age`, `Expires - Date`, else a heuristic. `date` is the answer's, or when it was received.
#[must_use]
pub fn origin_lifetime(
    status: StatusCode,
    headers: &HeaderMap,
    directives: &ResponseDirectives,
    date: WallTime,
) -> OriginLifetime {
    match source(status, headers, directives) {
        Source::SMaxage(seconds) | Source::MaxAge(seconds) => OriginLifetime::Explicit(seconds),
        Source::Expires(expires) => OriginLifetime::Explicit(expires.since(date)),
        Source::InvalidExpires => OriginLifetime::Explicit(Ttl::ZERO),
        Source::Heuristic(modified) => {
            let tenth = |modified| Span::from_millis(date.since(modified).as_millis() / 10);
            OriginLifetime::Heuristic(modified.map(tenth))
        }
        Source::Nothing => OriginLifetime::None,
    }
}

/// The lifetime under a route's policy; none when there is none. The route's `ttl` goes before a guess, never before what the origin
/// says, unless `origin_ttl = "ignore"`.
#[must_use]
pub fn lifetime(origin: OriginLifetime, caching: &Caching) -> Option<Ttl> {
    match (origin, caching.origin_ttl) {
        (OriginLifetime::None, _) => None,
        (OriginLifetime::Explicit(said), OriginTtl::Honor) => Some(said),
        (OriginLifetime::Explicit(said), OriginTtl::Ignore) => Some(caching.ttl.unwrap_or(said)),
        (OriginLifetime::Heuristic(guess), OriginTtl::Honor | OriginTtl::Ignore) => caching.ttl.or(guess),
    }
}

/// The `Age` field: the first member of the first line, digits only (RFC 9111 s5.1); anything else is as good as absent.
#[must_use]
pub fn age_field(headers: &HeaderMap) -> Option<Age> {
    members(headers.get(AGE)?.as_bytes()).next().and_then(delta_seconds)
}

/// When an answer's request went out and its head came in.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// When the request of the successful attempt was sent.
    pub sent: MonoTime,
    /// When the head was received.
    pub received: MonoTime,
    /// The same on the wall clock.
    pub received_wall: WallTime,
}

/// RFC 9111 s4.2.3 corrected_initial_age. `date` has whole seconds, so what is compared with it is cut to whole seconds too.
#[must_use]
pub fn initial_age(age: Option<Age>, date: Option<WallTime>, at: Received) -> Age {
    let second = WallTime::from_millis(at.received_wall.as_millis().div_euclid(1000).saturating_mul(1000));
    let apparent = date.map_or(Span::ZERO, |date| second.since(date));
    let corrected = age.unwrap_or(Span::ZERO).plus(at.received.since(at.sent));
    apparent.max(corrected)
}

/// R42: an instant at which the answer is known to have been current. None when it lies before the monotonic clock's origin, where it
/// cannot be written down: such an answer is within no bound.
#[must_use]
pub fn valid_as_of(age: Option<Age>, sent: MonoTime) -> Option<MonoTime> {
    let Some(age) = age else {
        return Some(sent);
    };
    let back = age.plus(AGE_RESOLUTION).as_millis().checked_mul(1000)?;
    sent.as_micros().checked_sub(back).map(MonoTime::from_micros)
}

/// R42: lifetime and stale-while-revalidate together stay within the bound.
#[must_use]
pub fn clamp(lifetime: Ttl, stale_while_revalidate: Ttl, bound: Ttl) -> (Ttl, Ttl) {
    let lifetime = lifetime.min(bound);
    (lifetime, stale_while_revalidate.min(bound.minus(lifetime)))
}

#[cfg(test)]
mod tests;

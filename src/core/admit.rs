//! What to do with an answer: store it, or pass it on and say why. RFC 9111 s3 under a route's contract.
//! Whether the fill's token is alive is the gate's business, and whether the body came whole the fill's.

mod renew;

pub use renew::renew;

use crate::core::consistency::bound::{self, Lag};
use crate::core::failover::view::Epoch;
use crate::core::http::dates;
use crate::core::http::directives::ResponseDirectives;
use crate::core::http::etag;
use crate::core::http::freshness::{self, OriginLifetime, Received};
use crate::core::http::part::Part;
use crate::core::http::storable;
use crate::core::http::stored::{Etag, Meta, Vary};
use crate::core::http::tags;
use crate::core::lookup::Read;
use crate::core::policy::{Caching, Contract, OriginTtl, Policy};
use crate::core::reason::NotStored;
use crate::core::rules::Rule;
use crate::core::time::{MonoTime, Ttl, WallTime};
use http::header::{DATE, LAST_MODIFIED, SET_COOKIE};
use http::{HeaderMap, Method, StatusCode};

/// An answer of the origin as the core sees it.
#[derive(Copy, Clone, Debug)]
pub struct Answer<'a> {
    /// Its status.
    pub status: StatusCode,
    /// Its fields as received, hop-by-hop fields already removed.
    pub headers: &'a HeaderMap,
    /// When the request of the successful attempt was sent.
    pub sent: MonoTime,
    /// In which epoch of its upstream that was (R53).
    pub epoch: Epoch,
    /// How far behind the primary the node that gave it may have been (R43).
    pub lag: Lag,
    /// When its head was received.
    pub received: MonoTime,
    /// The same on the wall clock.
    pub received_wall: WallTime,
    /// Whether its body ends with the connection (R16b).
    pub close_delimited: bool,
}

/// Whether an answer is stored.
#[derive(Clone, Debug)]
pub enum Admission {
    /// Store it with these facts, if its token is alive at the end.
    Store(Box<Meta>),
    /// Pass it on only.
    PassOn(NotStored),
}

/// Whether an answer to `read` is stored, and with which facts.
#[must_use]
pub fn admit(read: &Read<'_>, answer: &Answer<'_>, policy: &Policy) -> Admission {
    let stored = if *read.method == Method::GET {
        examine(read, answer.status, answer.headers, answer, policy)
    } else {
        Err(match policy.contract {
            Contract::Off => NotStored::RouteOff,
            Contract::Weak(_) | Contract::Eventual(..) | Contract::Strong(..) => NotStored::Method,
        })
    };
    match stored {
        Ok(meta) => Admission::Store(Box::new(meta)),
        Err(reason) => Admission::PassOn(reason),
    }
}

/// The facts of a stored answer that a 304 has confirmed, as if its merged fields had just been received (RFC 9111 s4.3.4);
/// `answer` is the 304. Passed on only when the merged fields forbid storing: what was stored must then go.
#[must_use]
pub fn freshen(stored: &Meta, merged: &HeaderMap, answer: &Answer<'_>, read: &Read<'_>, policy: &Policy) -> Admission {
    match examine(read, stored.status, merged, answer, policy) {
        Ok(meta) => Admission::Store(Box::new(meta)),
        Err(reason) => Admission::PassOn(reason),
    }
}

/// `headers` are the answer's own, or those of a stored answer merged with it. Its `Age` and `Date` always count from itself: they
/// belong to its reception.
fn examine(
    read: &Read<'_>,
    status: StatusCode,
    headers: &HeaderMap,
    answer: &Answer<'_>,
    policy: &Policy,
) -> Result<Meta, NotStored> {
    let Some(caching) = policy.caching() else {
        return Err(NotStored::RouteOff);
    };
    if read.directives.no_store {
        return Err(NotStored::RequestNoStore);
    }
    let directives = ResponseDirectives::parse(headers);
    if let Some(reason) = storable::forbidden(status, &directives) {
        return Err(reason);
    }
    let shareable = directives.permits_sharing();
    if read.credentials && !caching.shared_auth && !shareable {
        return Err(NotStored::Credentials); // R14
    }
    if headers.contains_key(SET_COOKIE) && !caching.store_set_cookie {
        return Err(NotStored::SetCookie);
    }
    if tags::of(headers, &caching.tags_from).is_err() {
        return Err(NotStored::TooManyTags);
    }
    let vary = Vary::of(headers, read.headers).ok_or(NotStored::VaryStar)?;
    let etag = etag::of(headers);
    let part = part(status, headers, etag.as_ref(), policy)?;
    let date = dates::field(answer.headers, &DATE).valid();
    let age = freshness::age_field(answer.headers);
    let valid_as_of = bound::valid_as_of(answer.sent, age, answer.lag);
    let at = Received {
        sent: answer.sent,
        received: answer.received,
        received_wall: answer.received_wall,
    };
    let mut meta = Meta {
        status,
        part,
        sent: answer.sent,
        epoch: answer.epoch,
        received: answer.received,
        initial_age: freshness::initial_age(age, date, at),
        lifetime: Ttl::ZERO,
        valid_as_of: valid_as_of.unwrap_or_default(),
        stale_while_revalidate: directives
            .stale_while_revalidate
            .or(caching.stale_while_revalidate)
            .unwrap_or(Ttl::ZERO),
        stale_if_error: directives.stale_if_error.or(caching.stale_if_error),
        must_revalidate: directives.forbids_stale(),
        // A route that ignores the origin's lifetime ignores that it names none to use without asking.
        no_cache: directives.no_cache && caching.origin_ttl == OriginTtl::Honor,
        etag,
        last_modified: dates::field(headers, &LAST_MODIFIED).valid(),
        date: date.unwrap_or(answer.received_wall),
        vary,
        shareable,
        proven: false, // the fill's token knows
    };
    let origin = freshness::origin_lifetime(status, headers, &directives, meta.date);
    match &policy.contract {
        Contract::Off => return Err(NotStored::RouteOff),
        Contract::Strong(..) => strong(&mut meta, caching, answer)?,
        Contract::Weak(_) => timed(&mut meta, origin, caching)?,
        Contract::Eventual(_, bounded) => {
            if valid_as_of.is_none() {
                return Err(NotStored::NoFreshness); // R42: older than can be written down
            }
            timed(&mut meta, origin, caching)?;
            let bound = bounded.max_staleness;
            (meta.lifetime, meta.stale_while_revalidate) =
                freshness::clamp(meta.lifetime, meta.stale_while_revalidate, bound);
        }
    }
    worth_keeping(meta, policy)
}

/// A part is stored where it could be completed under the same strong validator (RFC 9111 s3.4), and never on strong routes (R7).
fn part(
    status: StatusCode,
    headers: &HeaderMap,
    etag: Option<&Etag>,
    policy: &Policy,
) -> Result<Option<Part>, NotStored> {
    if status != StatusCode::PARTIAL_CONTENT || !Rule::R7.holds() {
        return Ok(None);
    }
    let can_be_completed = !policy.is_strong() && etag.is_some_and(|etag| !etag.weak);
    match Part::of(headers) {
        Some(part) if can_be_completed => Ok(Some(part)),
        Some(_) | None => Err(NotStored::Partial),
    }
}

/// What a strong route stores: answers it can prove later. Lifetimes mean nothing to it.
fn strong(meta: &mut Meta, caching: &Caching, answer: &Answer<'_>) -> Result<(), NotStored> {
    if !storable::is_stored_on_strong(meta.status) && Rule::R18.holds() {
        return Err(NotStored::Status); // R18
    }
    if answer.close_delimited && Rule::R16b.holds() {
        return Err(NotStored::CloseDelimited); // R16b
    }
    if !meta.can_be_validated(true) {
        return Err(NotStored::NoStrongEtag); // R5b
    }
    meta.lifetime = caching.ttl.unwrap_or(Ttl::MAX);
    Ok(())
}

/// The lifetime of a weak or eventual route. Without one an answer can still be kept for validation, where a cache may choose.
fn timed(meta: &mut Meta, origin: OriginLifetime, caching: &Caching) -> Result<(), NotStored> {
    match freshness::lifetime(origin, caching) {
        Some(lifetime) => meta.lifetime = lifetime,
        None if origin == OriginLifetime::None => return Err(NotStored::Status),
        None if !meta.can_be_validated(false) => return Err(NotStored::NoFreshness),
        None => {}
    }
    Ok(())
}

/// Whether a later request could get anything out of it.
fn worth_keeping(meta: Meta, policy: &Policy) -> Result<Meta, NotStored> {
    let is_usable = !meta.no_cache && (meta.lifetime > Ttl::ZERO || serves_stale(&meta, policy));
    if is_usable || meta.can_be_validated(policy.is_strong()) {
        Ok(meta)
    } else {
        Err(NotStored::NoFreshness)
    }
}

/// Whether it may be served past its lifetime at all.
fn serves_stale(meta: &Meta, policy: &Policy) -> bool {
    let has_window =
        meta.stale_while_revalidate > Ttl::ZERO || meta.stale_if_error.is_some_and(|window| window > Ttl::ZERO);
    !meta.must_revalidate && (has_window || matches!(policy.contract, Contract::Eventual(..)))
}

#[cfg(test)]
mod tests;

//! What to do with a read: serve what is stored, validate it, fetch, or refuse. RFC 9111 s4 under a route's contract.
//! A read of one fresh variant costs a few comparisons and no allocation.

mod read;
mod rigor;

pub use read::Read;
pub use rigor::Rigor;

use crate::core::consistency::session::Demand;
use crate::core::failover::reign::Standing;
use crate::core::ground::Ground;
use crate::core::http::directives::RequestDirectives;
use crate::core::http::stored::{Facts, Stored};
use crate::core::policy::{Bounded, Caching, Contract, OnUnreachable, Policy};
use crate::core::reason::{FetchReason, Refusal};
use crate::core::rules::Rule;
use crate::core::time::{Age, MonoTime, Ttl};
use http::Method;

/// R42: how long past its lifetime a stale answer stands in for an unreachable origin where `on_unreachable = "stale"` and nobody says.
const DEFAULT_STALE_IF_ERROR: Ttl = Ttl::from_secs(3600);

/// What to do with a read. `index` points into the variants that were given.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Serve it. Past its lifetime only when the client's `max-stale` asks for it.
    Serve {
        /// Which variant.
        index: usize,
        /// Its current age.
        age: Age,
    },
    /// Serve it, past its lifetime, and refresh it in the background (RFC 5861 s3).
    ServeAndRefresh {
        /// Which variant.
        index: usize,
        /// Its current age.
        age: Age,
    },
    /// Ask the origin whether it is still good.
    Revalidate {
        /// Which variant.
        index: usize,
        /// Why it is not simply served.
        reason: FetchReason,
    },
    /// Fetch.
    Fetch(FetchReason),
    /// Refuse.
    Refuse(Refusal),
}

/// What to do when the origin did not give a usable answer to a read for which a variant is stored.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Fallback {
    /// Serve the stored variant, stale.
    Serve {
        /// Its current age.
        age: Age,
        /// Beyond the bound of the route's contract, by `on_unreachable = "stale"`.
        breached: bool,
    },
    /// Refuse with 504 `stale-refused`: something is stored, but may not be served any more.
    Refuse(Refusal),
    /// Pass on the failure itself (the origin's 5xx, or our own 503/504/502).
    PassOn,
}

/// How the origin failed to give a usable answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Connect failure, timeout, reset, garbage.
    Unreachable,
    /// A 500, 502, 503 or 504 of its own.
    ServerError,
}

/// What to do with a read, given every variant stored under its key.
#[must_use]
#[inline]
pub fn decide<V: Stored>(now: MonoTime, read: &Read<'_>, variants: &[V], policy: &Policy) -> Decision {
    decide_why(now, read, variants, policy).0
}

/// The same with the rule that decided, for `explain`.
#[must_use]
#[inline]
pub fn decide_why<V: Stored>(now: MonoTime, read: &Read<'_>, variants: &[V], policy: &Policy) -> (Decision, Ground) {
    let (caching, contract) = match &policy.contract {
        Contract::Off => return (Decision::Fetch(FetchReason::Bypass), Ground::RouteOff),
        Contract::Weak(caching) => (caching, Level::Weak),
        Contract::Eventual(caching, bounded) => (caching, Level::Eventual(bounded)),
        Contract::Strong(caching, _) => (caching, Level::Strong),
    };
    if !matches!(*read.method, Method::GET | Method::HEAD) {
        return (Decision::Fetch(FetchReason::Method), Ground::Method);
    }
    let choice = match (choose(read, variants, caching), contract) {
        (Err(_), Level::Strong) if read.unsettled => (Decision::Fetch(FetchReason::Unsettled), Ground::Unsettled),
        (Err((reason, ground)), _) => (Decision::Fetch(reason), ground),
        (Ok(found), Level::Strong) => prove(now, read, &found, caching, policy.is_exclusive()),
        (Ok(found), Level::Weak) => judge(now, read, &found, None),
        (Ok(found), Level::Eventual(bounded)) => judge(now, read, &found, Some(bounded)),
    };
    match choice.0 {
        // RFC 9111 s5.2.1.7, R15: whatever would ask the origin is refused.
        Decision::Revalidate { .. } | Decision::Fetch(_) if read.directives.only_if_cached => {
            (Decision::Refuse(Refusal::OnlyIfCached), Ground::OnlyIfCached)
        }
        _ => choice,
    }
}

/// R42: what to do when the origin gave no usable answer to a read. `stored` is the variant that fits it, if any.
#[must_use]
pub fn fallback<V: Stored>(
    now: MonoTime,
    read: &Read<'_>,
    stored: Option<&V>,
    failure: Failure,
    policy: &Policy,
) -> Fallback {
    let (caching, bounded) = match &policy.contract {
        Contract::Off | Contract::Strong(..) => return Fallback::PassOn,
        Contract::Weak(caching) => (caching, None),
        Contract::Eventual(caching, bounded) => (caching, Some(bounded)),
    };
    let Some(stored) = stored.filter(|stored| fits(read, *stored, caching)) else {
        return Fallback::PassOn;
    };
    if read.directives.no_cache || read.raised {
        return Fallback::PassOn; // raised, it fails as a strong read does
    }
    let facts = stored.facts();
    let lifetime = stored.lifetime_by(&facts);
    let age = facts.current_age(now);
    let is_stale = age >= lifetime;
    if facts.no_cache || (facts.must_revalidate && is_stale) {
        // RFC 9111 s5.2.2.2: a cache that cannot reach the origin answers 504.
        return match failure {
            Failure::Unreachable => Fallback::Refuse(Refusal::StaleRefused),
            Failure::ServerError => Fallback::PassOn,
        };
    }
    let within = |window: Ttl| !is_stale || age < lifetime.plus(window);
    let said = read.directives.stale_if_error.or(facts.stale_if_error);
    let Some(bounded) = bounded else {
        let serve = said.is_some_and(within);
        return if serve {
            Fallback::Serve { age, breached: false }
        } else {
            Fallback::PassOn
        };
    };
    let in_bound = facts.is_within(now, bounded.max_staleness);
    let stretches = bounded.on_unreachable == OnUnreachable::Stale;
    let window = said.or(stretches.then_some(DEFAULT_STALE_IF_ERROR));
    // R49: what a session has passed by is served by the owner's choice only, and says so.
    let ahead = read.is_ahead_of(stored) && Rule::R49.holds();
    match failure {
        Failure::Unreachable if ahead && !stretches => Fallback::Refuse(Refusal::StaleRefused),
        Failure::ServerError if ahead && !stretches => Fallback::PassOn,
        Failure::Unreachable if in_bound => Fallback::Serve { age, breached: ahead },
        Failure::Unreachable if stretches && window.is_some_and(within) => Fallback::Serve { age, breached: true },
        Failure::Unreachable => Fallback::Refuse(Refusal::StaleRefused),
        Failure::ServerError if (in_bound || stretches) && window.is_some_and(within) => Fallback::Serve {
            age,
            breached: !in_bound || ahead,
        },
        Failure::ServerError => Fallback::PassOn,
    }
}

/// The newest variant that fits a request, fresh or not.
#[must_use]
pub fn newest<V: Stored>(read: &Read<'_>, variants: &[V], policy: &Policy) -> Option<usize> {
    choose(read, variants, policy.caching()?).ok().map(|found| found.index)
}

/// Whether an answer that came for somebody else may be used for this request: R14, RFC 9111 s4.1.
#[must_use]
pub fn may_use(read: &Read<'_>, answer: &impl Stored, policy: &Policy) -> bool {
    policy.caching().is_some_and(|caching| fits(read, answer, caching))
}

/// The levels that store.
#[derive(Copy, Clone)]
enum Level<'a> {
    Weak,
    Eventual(&'a Bounded),
    Strong,
}

/// Whether a stored answer may be used for a request at all: it varies right (RFC 9111 s4.1), credentials permit it (R14), and
/// there is enough of it.
#[inline]
fn fits(read: &Read<'_>, stored: &impl Stored, caching: &Caching) -> bool {
    let facts = stored.facts();
    read.reign.keeps(facts.epoch)
        && may_share(read, &facts, caching)
        && stored.vary().matches(read.headers)
        && has_enough(read, stored, &facts)
}

/// RFC 9111 s3.3: a part answers only requests for what lies inside it.
#[inline]
fn has_enough(read: &Read<'_>, stored: &impl Stored, facts: &Facts) -> bool {
    match &facts.part {
        None => true,
        Some(part) => part.answers(read.method, read.headers, &stored.full()).is_some(),
    }
}

/// The newest stored part that an answer could complete for a request, whatever the request wants of it.
#[must_use]
pub fn newest_part<V: Stored>(read: &Read<'_>, variants: &[V], policy: &Policy) -> Option<usize> {
    let caching = policy.caching()?;
    let of_this = |stored: &V, facts: &Facts| {
        read.reign.keeps(facts.epoch) && may_share(read, facts, caching) && stored.vary().matches(read.headers)
    };
    let variants = variants.iter().enumerate();
    variants
        .map(|(index, variant)| (index, variant, variant.facts()))
        .filter(|(_, variant, facts)| facts.part.is_some() && of_this(variant, facts))
        .max_by_key(|(_, _, facts)| facts.sent)
        .map(|(index, ..)| index)
}

/// R14.
#[inline]
fn may_share(read: &Read<'_>, facts: &Facts, caching: &Caching) -> bool {
    !read.credentials || caching.shared_auth || facts.shareable
}

/// A variant that fits. Its facts are read once: they are not kept as they are told here.
struct Fit<'v, V> {
    index: usize,
    stored: &'v V,
    facts: Facts,
}

/// The newest variant that fits, by when its request was sent.
#[inline]
fn choose<'v, V: Stored>(
    read: &Read<'_>,
    variants: &'v [V],
    caching: &Caching,
) -> Result<Fit<'v, V>, (FetchReason, Ground)> {
    let mut newest: Option<Fit<'v, V>> = None;
    let (mut refused, mut too_little, mut gone) = (false, false, false);
    for (index, variant) in variants.iter().enumerate() {
        let facts = variant.facts();
        if newest.as_ref().is_some_and(|other| other.facts.sent > facts.sent) || !variant.vary().matches(read.headers) {
            continue;
        }
        if !read.reign.keeps(facts.epoch) {
            gone = true; // R53
        } else if !may_share(read, &facts, caching) {
            refused = true;
        } else if has_enough(read, variant, &facts) {
            let stored = variant;
            newest = Some(Fit { index, stored, facts });
        } else {
            too_little = true;
        }
    }
    match newest {
        Some(found) => Ok(found),
        None if refused => Err((FetchReason::Request, Ground::Credentials)), // R14
        None if too_little => Err((FetchReason::Partial, Ground::OnlyAPart)),
        None if gone => Err((FetchReason::Epoch, Ground::OlderEpoch)),
        None if variants.is_empty() => Err((FetchReason::UriMiss, Ground::NothingStored)),
        None => Err((FetchReason::VaryMiss, Ground::NoVariantFits)),
    }
}

/// Exclusive gear serves what the gate has proven: every write since has come through here and would have revoked it, so the origin's
/// lifetime does not matter; `ttl` is an upper limit. Everything else is validate gear: nothing is served before the primary has been
/// asked, and a strong ETag saves the body (R5b). `max-stale` changes nothing, `no-cache` forces a validation (R15). A request with
/// credentials uses validate gear (R14), and HEAD is always forwarded (R5). A soft purge takes the proof away.
fn prove<V: Stored>(
    now: MonoTime,
    read: &Read<'_>,
    found: &Fit<'_, V>,
    caching: &Caching,
    exclusive: bool,
) -> (Decision, Ground) {
    let asks = &read.directives;
    let Fit { index, stored, facts } = *found;
    let age = facts.current_age(now);
    if !Rule::R15.holds() && asks.max_stale.is_some() {
        return (Decision::Serve { index, age }, Ground::Proven);
    }
    let current = read.reign.standing(facts.epoch) == Standing::Current; // R53: what another node was asked proves nothing
    let proven = facts.proven && current && stored.softened().is_none();
    let by_gate = exclusive && proven && !facts.no_cache && *read.method == Method::GET;
    if by_gate && (!read.identified || caching.shared_auth) && caching.ttl.is_none_or(|limit| age < limit) {
        let insists = asks.no_cache || asks.max_age.is_some_and(|limit| age > limit);
        if !insists {
            return (Decision::Serve { index, age }, Ground::Proven);
        }
        let reason = FetchReason::Request;
        return (Decision::Revalidate { index, reason }, asked_for(asks));
    }
    let ground = match read {
        _ if !exclusive => Ground::ValidateGear,
        _ if *read.method != Method::GET => Ground::Head,
        _ if read.identified && !caching.shared_auth => Ground::Identified,
        _ if !current => Ground::OlderEpoch,
        _ if stored.softened().is_some() => Ground::Purged,
        _ if !facts.proven => Ground::Unproven,
        _ if facts.no_cache => Ground::AnswerNoCache,
        _ => Ground::TtlLimit,
    };
    let reason = if ground == Ground::OlderEpoch {
        FetchReason::Epoch
    } else {
        FetchReason::Stale
    };
    let (reason, ground) = settled(read, reason, ground);
    if facts.can_be_validated(true) {
        (Decision::Revalidate { index, reason }, ground)
    } else {
        (Decision::Fetch(reason), ground)
    }
}

/// R2, R8: while a write is pending or unsettled, that is the reason.
const fn settled(read: &Read<'_>, otherwise: FetchReason, ground: Ground) -> (FetchReason, Ground) {
    if read.unsettled {
        (FetchReason::Unsettled, Ground::Unsettled)
    } else {
        (otherwise, ground)
    }
}

/// Which of the client's directives insists on the origin.
const fn asked_for(asks: &RequestDirectives) -> Ground {
    if asks.no_cache {
        Ground::RequestNoCache
    } else {
        Ground::RequestMaxAge
    }
}

/// RFC 9111 s4.2 and s5.2.1 within the contract of a weak or eventual route.
#[inline]
fn judge<V: Stored>(
    now: MonoTime,
    read: &Read<'_>,
    found: &Fit<'_, V>,
    bounded: Option<&Bounded>,
) -> (Decision, Ground) {
    let Fit { index, stored, facts } = found;
    let (index, lifetime) = (*index, stored.lifetime_by(facts));
    let age = facts.current_age(now);
    // R42: beyond the bound nothing is served, whatever its lifetime or the client says.
    let in_bound = bounded.is_none_or(|bounded| facts.is_within(now, bounded.max_staleness));
    let is_fresh = age < lifetime;
    let asks = &read.directives;
    let ask_origin = |index, facts, reason, ground| {
        let strong = read.raised || read.session.is_some_and(Demand::binds);
        ask_origin(index, facts, reason, ground, strong)
    };
    if read.raised {
        return ask_origin(index, facts, FetchReason::Request, Ground::RequestStrong);
    }
    if asks.no_cache || asks.max_age.is_some_and(|limit| age > limit) {
        return ask_origin(index, facts, FetchReason::Request, asked_for(asks));
    }
    if read.is_ahead_of(*stored) {
        return ask_origin(index, facts, FetchReason::Request, Ground::Session); // R47, also before stale-while-revalidate (R49)
    }
    if read.reign.standing(facts.epoch) != Standing::Current {
        return ask_origin(index, facts, FetchReason::Epoch, Ground::OlderEpoch); // R53
    }
    if facts.no_cache {
        return ask_origin(index, facts, FetchReason::Stale, Ground::AnswerNoCache);
    }
    if !in_bound {
        return ask_origin(index, facts, FetchReason::Stale, Ground::BeyondBound);
    }
    if is_fresh {
        let stays_fresh = asks.min_fresh.is_none_or(|least| lifetime.minus(age) >= least);
        return if stays_fresh {
            (Decision::Serve { index, age }, Ground::Fresh)
        } else {
            ask_origin(index, facts, FetchReason::Request, Ground::RequestMinFresh)
        };
    }
    if facts.must_revalidate {
        return ask_origin(index, facts, FetchReason::Stale, Ground::MustRevalidate);
    }
    if asks.min_fresh.is_some() {
        return ask_origin(index, facts, FetchReason::Stale, Ground::RequestMinFresh);
    }
    if asks.max_stale.is_some_and(|limit| age.minus(lifetime) <= limit) {
        return (Decision::Serve { index, age }, Ground::RequestMaxStale);
    }
    // RFC 9111 s5.2.1.1: a client that names max-age and no max-stale takes nothing stale.
    if asks.max_age.is_none() && age < lifetime.plus(facts.stale_while_revalidate) {
        return (Decision::ServeAndRefresh { index, age }, Ground::StaleWindow);
    }
    ask_origin(index, facts, FetchReason::Stale, Ground::Stale)
}

fn ask_origin(index: usize, facts: &Facts, reason: FetchReason, ground: Ground, strong: bool) -> (Decision, Ground) {
    if facts.can_be_validated(strong) {
        (Decision::Revalidate { index, reason }, ground)
    } else {
        (Decision::Fetch(reason), ground)
    }
}

#[cfg(test)]
mod tests;

//! Stored answers and supposed ones: how old, how long fresh, and which rule says so.

use super::told::{AnswerTold, Freshness, StoredTold, Then, VariantTold};
use crate::core::admit::Answer;
use crate::core::failover::view::Epoch;
use crate::core::ground::Ground;
use crate::core::http::directives::ResponseDirectives;
use crate::core::http::freshness::{self, Source};
use crate::core::http::invalidate::{self, RequestUrl};
use crate::core::http::stored::{Meta, Stored};
use crate::core::lookup::{self, Decision, Read};
use crate::core::policy::{Caching, Contract, OriginTtl, Policy};
use crate::core::time::{MonoTime, Span, Ttl, WallTime};
use crate::proxy::{Shared, headers, lead, posted};
use crate::store::{EntryRef, Found, ResourceId};
use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};

pub(super) fn stored(
    shared: &Shared,
    now: MonoTime,
    (found, chosen): (&Found, Option<usize>),
    (resource, path): (ResourceId, &str),
    policy: &Policy,
    live: bool,
) -> StoredTold {
    let mut waits = shared.store.unsettled().into_iter();
    let left = waits.find(|one| one.upstream == resource.upstream && one.path.as_deref().is_none_or(|p| p == path));
    let variants = found.variants.iter().enumerate();
    StoredTold {
        live,
        unsettled: found.disturbed,
        unsettled_ms: left.and_then(|one| one.remaining).map(Span::as_millis),
        variants: variants
            .map(|(index, entry)| variant(now, entry, chosen == Some(index), policy))
            .collect(),
    }
}

fn variant(now: MonoTime, entry: &EntryRef, chosen: bool, policy: &Policy) -> VariantTold {
    let meta = &entry.meta();
    let age = meta.current_age(now);
    let lifetime = entry.lifetime();
    let signed = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    VariantTold {
        chosen,
        status: meta.status.as_u16(),
        body_bytes: entry.body_bytes().len() as u64,
        age_ms: age.as_millis(),
        staleness_ms: meta.staleness(now).as_millis(),
        freshness: fresh(meta, &entry.headers(), lifetime, entry.softened().is_some(), policy),
        left_ms: (lifetime != Ttl::MAX).then(|| signed(lifetime.as_millis()).saturating_sub(signed(age.as_millis()))),
        etag: meta.etag.as_ref().map(|etag| if etag.weak { "weak" } else { "strong" }),
        last_modified: meta.last_modified.is_some(),
        varies_on: meta
            .vary
            .names()
            .map(|names| names.map(|name| name.as_str().to_owned()).collect())
            .unwrap_or_default(),
        shareable: meta.shareable,
        proven: entry.is_proven(),
        revoked: entry.is_revoked(),
        softly_purged: entry.softened().is_some(),
    }
}

fn fresh(meta: &Meta, headers: &HeaderMap, lifetime: Ttl, purged: bool, policy: &Policy) -> Freshness {
    let (from, rule) = if purged {
        ("ended by a soft purge".to_owned(), "CONSISTENCY 2")
    } else {
        origin_of(meta, headers, policy)
    };
    Freshness {
        lifetime_ms: (lifetime != Ttl::MAX).then_some(lifetime.as_millis()),
        from,
        rule,
        stale_while_revalidate_ms: meta.stale_while_revalidate.as_millis(),
        stale_if_error_ms: meta.stale_if_error.map(Span::as_millis),
        must_revalidate: meta.must_revalidate,
        no_cache: meta.no_cache,
    }
}

/// Where a lifetime comes from, with the functions that made it.
fn origin_of(meta: &Meta, headers: &HeaderMap, policy: &Policy) -> (String, &'static str) {
    let Some(caching) = policy.caching() else {
        return ("nothing: the route stores nothing".to_owned(), "consistency = \"off\"");
    };
    if policy.is_strong() {
        return match caching.ttl {
            Some(_) => (
                "the route's ttl, the limit of exclusive gear".to_owned(),
                "CONSISTENCY 1",
            ),
            None => (
                "nothing ends it: it is served as long as it is proven".to_owned(),
                "CONSISTENCY 1",
            ),
        };
    }
    let directives = ResponseDirectives::parse(headers);
    let source = freshness::source(meta.status, headers, &directives);
    let said = freshness::origin_lifetime(meta.status, headers, &directives, meta.date);
    let (mut from, rule) = named(source, directives.targeted, caching);
    let whole = freshness::lifetime(said, caching);
    if let Contract::Eventual(_, bounded) = &policy.contract
        && whole.is_some_and(|whole| whole > bounded.max_staleness)
    {
        from += ", cut to the route's max_staleness";
        return (from, "R42");
    }
    (from, rule)
}

fn named(source: Source, targeted: bool, caching: &Caching) -> (String, &'static str) {
    let field = if targeted {
        "the targeted field"
    } else {
        "Cache-Control"
    };
    let rule = if targeted { "RFC 9213 s2.2" } else { "RFC 9111 s4.2.1" };
    let by_route = || ("the route's ttl".to_owned(), "ttl");
    match source {
        Source::Nothing => (
            "nothing, and a cache may not choose for this status".to_owned(),
            "RFC 9111 s4.2.2",
        ),
        Source::Heuristic(_) if caching.ttl.is_some() => by_route(),
        Source::Heuristic(Some(_)) => ("a tenth of the time since Last-Modified".to_owned(), "RFC 9111 s4.2.2"),
        Source::Heuristic(None) => ("nothing says how long: stale at once".to_owned(), "RFC 9111 s4.2.2"),
        _ if caching.origin_ttl == OriginTtl::Ignore && caching.ttl.is_some() => by_route(),
        Source::SMaxage(_) => (format!("s-maxage in {field}"), rule),
        Source::MaxAge(_) => (format!("max-age in {field}"), rule),
        Source::Expires(_) => ("Expires".to_owned(), "RFC 9111 s5.3"),
        Source::InvalidExpires => ("an Expires that is no date: stale at once".to_owned(), "RFC 9111 s5.3"),
    }
}

/// By which rules an answer to the request would be stored.
#[derive(Copy, Clone, Debug)]
pub(super) enum Judge<'a> {
    /// A read's.
    Fetch,
    /// Those of a write whose answer may be what a later GET of this URL gets.
    Posted(RequestUrl<'a>),
    /// Of no answer to it.
    Nobody(Ground),
}

/// What would become of an answer to the request, given now: what the fetch or the write behind it asks, asked here.
pub(super) fn answer(
    (now, wall): (MonoTime, WallTime),
    parts: &Parts,
    policy: &Policy,
    (judge, exclusive): (Judge<'_>, bool),
    (status, mut fields): (StatusCode, HeaderMap),
) -> AnswerTold {
    let names = names(&fields);
    headers::from_node(&mut fields);
    let supposed = Answer {
        status,
        headers: &fields,
        sent: now,
        epoch: Epoch::default(),
        lag: crate::core::consistency::bound::Lag::None,
        received: now,
        received_wall: wall,
        close_delimited: false,
    };
    let told = |stored, ground, because: &str, rule| AnswerTold {
        status: status.as_u16(),
        fields: names,
        stored,
        ground,
        because: because.to_owned(),
        rule,
        freshness: None,
        then: None,
    };
    let (method, admitted) = match judge {
        Judge::Fetch => {
            let method = invalidate::read_as(&parts.method);
            let read = Read::of(method, &parts.headers, policy, false);
            (method, lead::admitted(&parts.method, &read, &supposed, policy))
        }
        Judge::Posted(target) => (
            &Method::GET,
            posted::admitted(&parts.headers, &supposed, target, policy),
        ),
        Judge::Nobody(ground) => return told(false, Some(ground.word()), ground.sentence(), Some(ground.rule())),
    };
    match admitted {
        Err(why) => told(false, Some(why.word()), why.sentence(), Some(why.rule())),
        Ok(mut meta) => {
            meta.proven = exclusive; // as its fill's token would say, with no write about (R2)
            let read = Read::of(method, &parts.headers, policy, false);
            let (decision, ground) = lookup::decide_why(now, &read, &[&meta], policy);
            AnswerTold {
                freshness: Some(fresh(&meta, &fields, meta.lifetime, false, policy)),
                then: Some(Then {
                    does: does(decision),
                    ground: ground.word(),
                    because: ground.sentence(),
                    rule: ground.rule(),
                }),
                ..told(
                    true,
                    None,
                    "nothing forbids it, and it can be used again",
                    Some("RFC 9111 s3"),
                )
            }
        }
    }
}

/// The names of fields, each once.
pub(super) fn names(fields: &HeaderMap) -> Vec<String> {
    let fields = fields.keys().filter(|name| **name != HOST);
    fields.map(|name| name.as_str().to_owned()).collect()
}

/// The word for a decision of the core.
pub(super) fn does(decision: Decision) -> &'static str {
    match decision {
        Decision::Serve { .. } => "serve",
        Decision::ServeAndRefresh { .. } => "serve-and-refresh",
        Decision::Revalidate { .. } => "validate",
        Decision::Fetch(_) => "fetch",
        Decision::Refuse(_) => "refuse",
    }
}

/// The variant that a decision is about, or would be.
pub(super) fn chosen(decision: Decision, read: &Read<'_>, found: &Found, policy: &Policy) -> Option<usize> {
    match decision {
        Decision::Serve { index, .. }
        | Decision::ServeAndRefresh { index, .. }
        | Decision::Revalidate { index, .. } => Some(index),
        Decision::Fetch(_) | Decision::Refuse(_) => lookup::newest(read, &found.variants, policy),
    }
}

/// The ground of a request that passes or writes.
pub(super) fn ground_of(reason: crate::core::reason::FetchReason) -> Ground {
    use crate::core::reason::FetchReason;
    match reason {
        FetchReason::Bypass => Ground::RouteOff,
        FetchReason::Method => Ground::Method,
        FetchReason::Request => Ground::ForTheOrigin,
        FetchReason::Unsettled => Ground::Unsettled,
        FetchReason::UriMiss => Ground::NothingStored,
        FetchReason::VaryMiss => Ground::NoVariantFits,
        FetchReason::Partial => Ground::OnlyAPart,
        FetchReason::Stale => Ground::Stale,
        FetchReason::Epoch => Ground::OlderEpoch,
    }
}
